package gateway_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// pki is what a person makes with openssl: a root, an intermediate, and client certificates, all as files.
type pki struct {
	t   *testing.T
	dir string
}

func (p pki) path(name string) string { return filepath.Join(p.dir, name) }

func (p pki) openssl(args ...string) {
	p.t.Helper()
	if r := tlstest.OpenSSL(p.t, args...); r.Exit != 0 {
		p.t.Fatalf("openssl %s: %s", strings.Join(args, " "), r.Output())
	}
}

// key makes a private key: "rsa" or "ec".
func (p pki) key(name, kind string) {
	p.t.Helper()
	if kind == "rsa" {
		p.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", p.path(name+".key"))
		return
	}
	p.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", p.path(name+".key"))
}

// root makes a self-signed CA.
func (p pki) root(name, kind string) {
	p.t.Helper()
	p.key(name, kind)
	p.openssl("req", "-x509", "-new", "-key", p.path(name+".key"), "-subj", "/CN="+name, "-days", "30", "-out", p.path(name+".crt"),
		"-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
}

// issue makes a certificate that the CA signs; days may be negative, for one that has ended.
func (p pki) issue(ca, name, kind, extensions string, days string) {
	p.t.Helper()
	p.key(name, kind)
	p.openssl("req", "-new", "-key", p.path(name+".key"), "-subj", "/CN="+name, "-out", p.path(name+".csr"))
	if err := os.WriteFile(p.path(name+".ext"), []byte(extensions), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.openssl("x509", "-req", "-in", p.path(name+".csr"), "-CA", p.path(ca+".crt"), "-CAkey", p.path(ca+".key"), "-CAcreateserial",
		"-days", days, "-extfile", p.path(name+".ext"), "-out", p.path(name+".crt"))
}

const (
	clientExtensions = "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n"
	caExtensions     = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"
)

func (p pki) certificate(name string) *x509.Certificate {
	p.t.Helper()
	data, err := os.ReadFile(p.path(name + ".crt"))
	if err != nil {
		p.t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		p.t.Fatal(err)
	}
	return cert
}

// join writes files one after the other, as cat does.
func (p pki) join(to string, names ...string) {
	p.t.Helper()
	var all []byte
	for _, n := range names {
		data, err := os.ReadFile(p.path(n))
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, data...)
	}
	if err := os.WriteFile(p.path(to), all, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// What people make with openssl and bring with curl: each client gets in, or reads the exact alert, and the upstream
// sees who came.
func TestOpenSSLCertificatesAndCurl(t *testing.T) {
	for _, kind := range []string{"rsa", "ec"} {
		t.Run(kind, func(t *testing.T) {
			p := pki{t: t, dir: t.TempDir()}
			p.root("Root", kind)
			p.issue("Root", "Issuing", kind, caExtensions, "20")
			p.issue("Root", "direct", kind, clientExtensions, "10")
			p.issue("Issuing", "deep", kind, clientExtensions, "10")
			p.issue("Root", "ended", kind, clientExtensions, "-1")
			p.root("Strangers", kind)
			p.issue("Strangers", "stranger", kind, clientExtensions, "10")
			p.join("deep-full.crt", "deep.crt", "Issuing.crt")

			upstream := tlstest.HTTP(t)
			r := newRig(t)
			files := r.serverCA.WriteFiles(t, t.TempDir())
			authority := func(name string, helpers ...string) {
				a := termination.Authority{ID: "ca_" + name, Name: name, Certificates: []termination.CACertificate{{Certificate: p.certificate("Root"), Role: termination.RoleAnchor}}}
				for _, h := range helpers {
					a.Certificates = append(a.Certificates, termination.CACertificate{Certificate: p.certificate(h), Role: termination.RoleHelper})
				}
				r.config.Authorities = append(r.config.Authorities, a)
			}
			authority("plain")
			authority("helped", "Issuing")
			port := freePort(t)
			forward := func(a string) func(*termination.Endpoint) {
				return func(e *termination.Endpoint) {
					require(a)(e)
					e.ForwardIdentity = []termination.IdentityFormat{termination.IdentityNginx}
				}
			}
			r.endpoint("plain", port, upstream.URL, forward("plain"))
			r.endpoint("helped", port, upstream.URL, forward("helped"))
			r.apply()

			tests := []struct {
				client, endpoint, version string
				cn                        string // who the upstream sees; empty: refused
				says                      string // what curl prints
				reason                    termination.Reason
			}{
				{client: "direct", endpoint: "plain", version: "1.3", cn: "direct"},
				{client: "direct", endpoint: "plain", version: "1.2", cn: "direct"},
				{client: "deep-full", endpoint: "plain", version: "1.3", cn: "deep"},
				{client: "deep-full", endpoint: "plain", version: "1.2", cn: "deep"},
				{client: "deep", endpoint: "plain", version: "1.3", says: "unknown ca", reason: termination.ReasonChainGap},
				{client: "deep", endpoint: "helped", version: "1.3", cn: "deep"},
				{client: "deep", endpoint: "helped", version: "1.2", cn: "deep"},
				{client: "", endpoint: "plain", version: "1.3", says: "certificate required", reason: termination.ReasonCertMissing},
				{client: "", endpoint: "plain", version: "1.2", says: "handshake failure", reason: termination.ReasonCertMissing},
				{client: "stranger", endpoint: "plain", version: "1.3", says: "unknown ca", reason: termination.ReasonCAUnknown},
				{client: "stranger", endpoint: "plain", version: "1.2", says: "unknown ca", reason: termination.ReasonCAUnknown},
				{client: "ended", endpoint: "plain", version: "1.3", says: "certificate expired", reason: termination.ReasonCertExpired},
				{client: "direct", endpoint: "nobody", version: "1.3", says: "unrecognized name", reason: termination.ReasonNameUnknown},
				{client: "direct", endpoint: "nobody", version: "1.2", says: "unrecognized name", reason: termination.ReasonNameUnknown},
			}
			for _, test := range tests {
				t.Run(strings.Join([]string{test.client, test.endpoint, test.version}, " "), func(t *testing.T) {
					host := test.endpoint + ".localhost"
					args := []string{"--silent", "--show-error", "--cacert", files.Cert, "--connect-to", host + ":443:" + address(port), "--tlsv" + test.version, "--tls-max", test.version}
					if test.client != "" {
						key := strings.TrimSuffix(test.client, "-full")
						args = append(args, "--cert", p.path(test.client+".crt"), "--key", p.path(key+".key"))
					}
					got := tlstest.Curl(t, append(args, "https://"+host+"/")...)
					rec := r.next()
					if test.cn == "" {
						if got.Exit == 0 || !strings.Contains(strings.ToLower(got.Stderr), test.says) {
							t.Errorf("curl ended with %d: %s; want %q", got.Exit, got.Stderr, test.says)
						}
						if !sameFamily(rec.Verdict.Reason, test.reason) {
							t.Errorf("recorded %q, want %q: %s", rec.Verdict.Reason, test.reason, rec.Verdict.Explanation.Sentence)
						}
						return
					}
					var echo tlstest.Echo
					if err := json.Unmarshal([]byte(got.Stdout), &echo); err != nil {
						t.Fatalf("curl ended with %d: %s %s", got.Exit, got.Stdout, got.Stderr)
					}
					if cn := echo.Header.Get("X-Client-CN"); cn != test.cn || echo.Header.Get("X-Client-Verify") != "SUCCESS" {
						t.Errorf("the upstream saw %q, %q", cn, echo.Header.Get("X-Client-Verify"))
					}
					if rec.Verdict.Outcome != termination.OutcomeVerified || rec.Client.Name != test.cn {
						t.Errorf("recorded %s as %q", rec.Verdict.Outcome, rec.Client.Name)
					}
				})
			}
		})
	}
}

// sameFamily lets a missing intermediate be told as what it looks like: without it nobody can know where a chain leads.
func sameFamily(got, want termination.Reason) bool {
	return got == want || want == termination.ReasonChainGap && got == termination.ReasonCAUnknown
}
