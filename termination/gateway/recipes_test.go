package gateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// kitchen is a directory in which commands of guides are run as they stand there.
type kitchen struct {
	t   *testing.T
	dir string
}

func newKitchen(t *testing.T) *kitchen {
	t.Helper()
	tlstest.Program(t, "openssl")
	return &kitchen{t: t, dir: t.TempDir()}
}

// cook runs commands, one a line. To every question they get an empty line, which takes what is proposed.
func (k *kitchen) cook(recipe string) {
	k.t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(recipe), "\n") {
		command := exec.CommandContext(k.t.Context(), "sh", "-c", strings.TrimSpace(line))
		command.Dir = k.dir
		command.Stdin = strings.NewReader(strings.Repeat("\n", 20))
		if out, err := command.CombinedOutput(); err != nil {
			k.t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

func (k *kitchen) certificate(file string) *x509.Certificate {
	k.t.Helper()
	upload, err := termination.ReadUpload(k.read(file))
	if err != nil || len(upload.Certificates()) != 1 {
		k.t.Fatalf("%s: %v", file, err)
	}
	return upload.Certificates()[0]
}

func (k *kitchen) read(file string) []byte {
	k.t.Helper()
	b, err := os.ReadFile(filepath.Join(k.dir, file))
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

func (k *kitchen) pair(cert, key string) *tls.Certificate {
	k.t.Helper()
	pair, err := tls.X509KeyPair(k.read(cert), k.read(key))
	if err != nil {
		k.t.Fatal(err)
	}
	return &pair
}

// authority trusts a file as a CA, as an upload does.
func (k *kitchen) authority(r *rig, name, file string) {
	r.config.Authorities = append(r.config.Authorities, termination.Authority{
		ID: "ca_" + name, Name: name,
		Certificates: []termination.CACertificate{{Certificate: k.certificate(file), Role: termination.RoleAnchor}},
	})
}

// visit connects with both versions of TLS and returns the record of each.
func (k *kitchen) visit(r *rig, port uint16, host string, pair *tls.Certificate, wantIn bool) (records []*termination.Handshake) {
	k.t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := r.clientConfig(host, version, nil)
		if pair != nil {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
		}
		status, _, err := get(config, port, host)
		rec := r.next()
		if in := err == nil && status == 200; in != wantIn || rec.Verdict.Outcome.In() != wantIn {
			k.t.Errorf("%s, %s: status %d, %v; recorded %s %s: %+v", host, tls.VersionName(version), status, err, rec.Verdict.Outcome, rec.Verdict.Reason, rec.Verdict.Checks)
		}
		records = append(records, rec)
	}
	return records
}

const (
	// ofNgrok is how ngrok's guide makes a CA and a client. Without an extension file OpenSSL 3.0 makes an X.509 version 1
	// certificate, which can say nothing about its use.
	ofNgrok = `
		openssl genrsa -out ca.key 2048
		openssl req -x509 -new -nodes -key ca.key -sha256 -days 365 -out ca.crt -subj "/CN=My CA"
		openssl genrsa -out client.key 2048
		openssl req -new -key client.key -out client.csr -subj "/CN=client"
		openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out client.crt -days 365 -sha256`
	// ofDefaults is the same by somebody who takes every proposed answer: client and CA have one name.
	ofDefaults = `
		openssl genrsa -out ca.key 2048
		openssl req -x509 -new -nodes -key ca.key -sha256 -days 365 -out ca.crt
		openssl genrsa -out client.key 2048
		openssl req -new -key client.key -out client.csr
		openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out client.crt -days 365 -sha256
		printf 'basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nextendedKeyUsage=clientAuth\n' > ext
		openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out client3.crt -days 365 -sha256 -extfile ext`
	// ofTyk is how Tyk's guide makes a client: it signs itself, and says CA:TRUE.
	ofTyk = `
		openssl req -x509 -newkey rsa:2048 -keyout key.pem -out cert.pem -days 365 -nodes -subj "/CN=tyk client"
		openssl genrsa -out child.key 2048
		openssl req -new -key child.key -out child.csr -subj "/CN=child"
		openssl x509 -req -in child.csr -CA cert.pem -CAkey key.pem -CAcreateserial -out child.crt -days 365 -sha256`
)

// TestRecipes: what the guides of others have people type works here as it stands, and is noted where it is odd.
func TestRecipes(t *testing.T) {
	t.Run("ngrok", func(t *testing.T) {
		k, r := newKitchen(t), newRig(t)
		k.cook(ofNgrok)
		k.authority(r, "devices", "ca.crt")
		port := freePort(t)
		r.endpoint("api", port, tlstest.HTTP(t).URL, require("devices"))
		r.apply()
		for _, rec := range k.visit(r, port, "api.localhost", k.pair("client.crt", "client.key"), true) {
			noted := slices.ContainsFunc(rec.Verdict.Checks, func(c termination.Check) bool {
				return c.Note && c.Reason == termination.ReasonCertUse
			})
			if rec.Verdict.Outcome != termination.OutcomeVerified || !noted {
				t.Errorf("%s, %+v; a certificate that says nothing about its use is noted", rec.Verdict.Outcome, rec.Verdict.Checks)
			}
		}
	})
	t.Run("default answers", func(t *testing.T) {
		k, r := newKitchen(t), newRig(t)
		k.cook(ofDefaults)
		k.authority(r, "devices", "ca.crt")
		port := freePort(t)
		r.endpoint("api", port, tlstest.HTTP(t).URL, require("devices"))
		r.apply()
		leaf := k.certificate("client.crt")
		if !bytes.Equal(leaf.RawSubject, leaf.RawIssuer) {
			t.Fatal("the answers made two names, and this tests one")
		}
		k.visit(r, port, "api.localhost", k.pair("client.crt", "client.key"), true)
		k.visit(r, port, "api.localhost", k.pair("client3.crt", "client.key"), true)
	})
	t.Run("Tyk", testRecipeOfTyk)
}

// testRecipeOfTyk: the client that signs itself as a pin, and the same uploaded as a CA.
func testRecipeOfTyk(t *testing.T) {
	k, r := newKitchen(t), newRig(t)
	k.cook(ofTyk)
	k.authority(r, "root", "cert.pem") // its root CA in the list of who is allowed
	port, service := freePort(t), tlstest.HTTP(t).URL
	pin := termination.Pin{Fingerprint: termination.FingerprintOf(k.certificate("cert.pem"))}
	r.endpoint("pinned", port, service, func(e *termination.Endpoint) {
		e.ClientAuth = termination.ClientAuth{Mode: termination.ModeRequire, Pins: []termination.Pin{pin}, OnLoss: termination.OnLossClose}
	})
	r.endpoint("issued", port, service, require("root"))
	r.apply()
	self, child := k.pair("cert.pem", "key.pem"), k.pair("child.crt", "child.key")
	for _, rec := range k.visit(r, port, "pinned.localhost", self, true) {
		if rec.Client.Pin != pin.String() {
			t.Errorf("let in by %+v", rec.Client)
		}
	}
	child.Certificate = append(child.Certificate, self.Certificate...)
	k.visit(r, port, "pinned.localhost", child, false)
	k.visit(r, port, "issued.localhost", child, true)
	// As an authority it would let in whatever it signs: who uploads it is told.
	upload, err := termination.ReadUpload(k.read("cert.pem"))
	if err != nil || upload.Items[0].Kind != termination.UploadRoot {
		t.Errorf("uploaded as a CA: %+v, %v", upload.Items, err)
	}
}

// TestRecipesOfProxies: the words of nginx and Envoy, and ours.
func TestRecipesOfProxies(t *testing.T) {
	k, r := &kitchen{t: t}, newRig(t)
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	r.trust("devices", devices)
	port, service := freePort(t), tlstest.HTTP(t).URL
	good, stranger := devices.Client("alice").TLS(), tlstest.NewCA().Client("eve").TLS()
	for _, tt := range []struct {
		theirs                 string
		name                   string
		ours                   termination.Mode
		nobody, alice, whoElse bool
	}{
		{"ssl_verify_client on", "on", termination.ModeRequire, false, true, false},
		{"ssl_verify_client optional", "optional", termination.ModeOptional, true, true, false},
		{"ssl_verify_client optional_no_ca", "optional-no-ca", termination.ModeRequest, true, true, true},
		{"require_client_certificate: true", "envoy", termination.ModeRequire, false, true, false},
		{"trusted_ca alone", "envoy-trusted", termination.ModeOptional, true, true, false},
	} {
		r.endpoint(tt.name, port, service, mode(tt.ours, "devices"))
		r.apply()
		host := tt.name + ".localhost"
		k.visit(r, port, host, nil, tt.nobody)
		k.visit(r, port, host, &good, tt.alice)
		k.visit(r, port, host, &stranger, tt.whoElse)
	}
}

// TestRecipeOfDepth: nginx's ssl_verify_depth is OpenSSL's, which does not count the anchor; max_depth is one more.
func TestRecipeOfDepth(t *testing.T) {
	k, r := newKitchen(t), newRig(t)
	root := tlstest.NewCA(tlstest.CN("Root"))
	r.trust("root", root)
	port, service := freePort(t), tlstest.HTTP(t).URL
	issuer, clients := root, []*tlstest.Cert{}
	for n := range 3 {
		clients = append(clients, issuer.Client(fmt.Sprintf("below-%d", n)))
		issuer = issuer.Intermediate()
	}
	if err := os.WriteFile(filepath.Join(k.dir, "root.pem"), root.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for depth := range 3 {
		host := fmt.Sprintf("depth%d", depth)
		r.endpoint(host, port, service, func(e *termination.Endpoint) {
			require("root")(e)
			e.ClientAuth.MaxDepth = depth + 1
		})
		r.apply()
		for n, c := range clients {
			chain := filepath.Join(k.dir, "chain.pem")
			if err := os.WriteFile(chain, c.ChainPEM(), 0o600); err != nil {
				t.Fatal(err)
			}
			theirs := tlstest.OpenSSL(t, "verify", "-purpose", "sslclient", "-verify_depth", fmt.Sprint(depth), "-CAfile", filepath.Join(k.dir, "root.pem"), "-untrusted", chain, chain).Has(": OK")
			if theirs != (n <= depth) {
				t.Fatalf("openssl, depth %d, %d between: %t", depth, n, theirs)
			}
			pair := c.TLS()
			k.visit(r, port, host+".localhost", &pair, theirs)
		}
	}
}

// TestIssuerSpelledDifferently: an issuer's name in other capitals is refused by crypto/tls, which compares bytes, and the
// explanation says so; where our own check alone decides, its clients come in (RFC 5280, section 7.1).
func TestIssuerSpelledDifferently(t *testing.T) {
	k, r := &kitchen{t: t}, newRig(t)
	root := tlstest.NewCA(tlstest.CN("Devices CA"))
	shouting := tlstest.NewCA(tlstest.CN("DEVICES CA"), tlstest.WithKey(root.Key))
	r.trust("devices", root)
	port, service := freePort(t), tlstest.HTTP(t).URL
	r.endpoint("exact", port, service, require("devices"))
	r.endpoint("own", port, service, func(e *termination.Endpoint) {
		require("devices")(e)
		e.ClientAuth.Announce = false
	})
	r.apply()
	pair := shouting.Client("alice").TLS()
	for _, rec := range k.visit(r, port, "exact.localhost", &pair, false) {
		if ex := rec.Verdict.Explanation; !strings.Contains(ex.Right, "spelled differently") || !strings.Contains(ex.Fixes[0].Text, "announce: false") {
			t.Errorf("explained by %q, %+v", ex.Right, ex.Fixes)
		}
	}
	k.visit(r, port, "own.localhost", &pair, true)
}

// TestHygieneOverTLS: what a policy lowers or asks for holds in real handshakes, where crypto/tls must not speak first.
func TestHygieneOverTLS(t *testing.T) {
	t.Run("edge", func(t *testing.T) { testHygiene(t, newRig(t)) })
	t.Run("agent", func(t *testing.T) { testHygiene(t, newAgentRig(t)) })
}

func testHygiene(t *testing.T, r *rig) {
	k := &kitchen{t: t}
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	r.trust("devices", devices)
	port, service := freePort(t), tlstest.HTTP(t).URL
	for _, tt := range []struct {
		name    string
		hygiene termination.Hygiene
		leaf    *tlstest.Cert
		usual   bool // let in without it
		in      bool
		reason  termination.Reason // noted, or why not
	}{
		{"usage", termination.Hygiene{Usage: termination.LevelWarn}, devices.Server("a.example"), false, true, termination.ReasonCertUse},
		{"weak-key", termination.Hygiene{WeakKey: termination.LevelWarn}, devices.Client("weak", tlstest.RSA(1024)), false, true, termination.ReasonCertWeak},
		{"missing-san", termination.Hygiene{MissingSAN: termination.LevelRefuse}, devices.Client("plain"), true, false, termination.ReasonCertNameLimits},
	} {
		r.endpoint(tt.name, port, service, func(e *termination.Endpoint) {
			require("devices")(e)
			e.ClientAuth.Hygiene = tt.hygiene
		})
		r.endpoint(tt.name+"-usual", port, service, require("devices"))
		r.apply()
		pair := tt.leaf.TLS()
		k.visit(r, port, tt.name+"-usual.localhost", &pair, tt.usual)
		for _, rec := range k.visit(r, port, tt.name+".localhost", &pair, tt.in) {
			said := slices.ContainsFunc(rec.Verdict.Checks, func(c termination.Check) bool { return c.Reason == tt.reason && c.Note == tt.in })
			if !said || !tt.in && rec.Verdict.Reason != tt.reason {
				t.Errorf("%s: %s, %+v", tt.name, rec.Verdict.Reason, rec.Verdict.Checks)
			}
		}
	}
}
