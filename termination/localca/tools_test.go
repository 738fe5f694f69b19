package localca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/termination"
)

// tool returns the path of a program, or fails with how to get it.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed for this test: apt-get install -y %s", name, name)
	}
	return path
}

// run returns what the command printed, on both streams, and whether it succeeded.
func run(t *testing.T, name string, args ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool(t, name), args...).CombinedOutput()
	return string(out), err == nil
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client issues a client certificate at the present time, for tools that have no clock of ours.
func client(t *testing.T, ca *termination.LocalCA, r ClientRequest) *Issued {
	t.Helper()
	r.Now = time.Now()
	if r.Days == 0 {
		r.Days = 30
	}
	issued, err := IssueClient(ca, r)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func TestOpenSSLVerifies(t *testing.T) {
	dir := t.TempDir()
	constrained := create(t, Options{Name: "Constrained", Constrained: true, Now: time.Now()})
	free := create(t, Options{Name: "Free", Now: time.Now()})
	server := func(ca *termination.LocalCA, names ...string) *Issued {
		issued, err := IssueServer(ca, names, time.Now(), 90)
		if err != nil {
			t.Fatal(err)
		}
		return issued
	}
	stranger, err := Stranger(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		name   string
		ca     *termination.LocalCA
		issued *Issued
		args   []string
		ok     bool
	}{
		{"server, constrained", constrained, server(constrained, "demo.localhost", "127.0.0.1", "::1"), []string{"-purpose", "sslserver", "-verify_hostname", "demo.localhost"}, true},
		{"server, by address", constrained, server(constrained, "demo.localhost", "127.0.0.1", "::1"), []string{"-purpose", "sslserver", "-verify_ip", "127.0.0.1"}, true},
		{"server, by IPv6 address", constrained, server(constrained, "::1"), []string{"-purpose", "sslserver", "-verify_ip", "::1"}, true},
		{"server, wildcard", free, server(free, "*.example.com"), []string{"-purpose", "sslserver", "-verify_hostname", "a.example.com"}, true},
		{"server, another name", constrained, server(constrained, "demo.localhost"), []string{"-verify_hostname", "other.localhost"}, false},
		{"client, constrained", constrained, client(t, constrained, ClientRequest{Name: "rhea"}), []string{"-purpose", "sslclient"}, true},
		{"client, constrained, all names", constrained, client(t, constrained, ClientRequest{Name: "Rhea Müller", URI: "spiffe://prod/billing", Email: "rhea@example.org"}), []string{"-purpose", "sslclient"}, true},
		{"client, constrained, an e-mail address as its name", constrained, client(t, constrained, ClientRequest{Name: "rhea@example.org", Email: "rhea@example.org"}), []string{"-purpose", "sslclient"}, true},
		{"client, constrained, the name of a login with a dot", constrained, client(t, constrained, ClientRequest{Name: ClientName("rhea.m")}), []string{"-purpose", "sslclient"}, true},
		{"client, a dotted name", free, client(t, free, ClientRequest{Name: "billing.batch"}), []string{"-purpose", "sslclient"}, true},
		{"client as a server", free, client(t, free, ClientRequest{Name: "rhea"}), []string{"-purpose", "sslserver"}, false},
		{"stranger", free, stranger, []string{"-purpose", "sslclient"}, false},
	} {
		ca := write(t, dir, fmt.Sprintf("ca%d.pem", i), EncodePEM(c.ca.Certificate))
		leaf := write(t, dir, fmt.Sprintf("leaf%d.pem", i), c.issued.CertificatePEM())
		args := append([]string{"verify", "-x509_strict", "-check_ss_sig", "-CAfile", ca}, c.args...)
		if out, ok := run(t, "openssl", append(args, leaf)...); ok != c.ok {
			t.Errorf("%s: openssl verify passes %v, want %v\n%s", c.name, ok, c.ok, out)
		}
	}
}

// The constraint must be the CA's own, enforced by others, not only our refusal to sign.
func TestOpenSSLEnforcesTheConstraint(t *testing.T) {
	dir := t.TempDir()
	ca := create(t, Options{Constrained: true, Now: time.Now()})
	unlimited := *ca.Certificate // what we check against, without its limits: signs what the real one may not
	unlimited.PermittedDNSDomains, unlimited.PermittedIPRanges = nil, nil
	for _, name := range []string{"example.com", "10.0.0.1", "localhost.example.com"} {
		template := &x509.Certificate{SerialNumber: newSerial(), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = []net.IP{ip}
		} else {
			template.DNSNames = []string{name}
		}
		leaf, err := sign(template, &unlimited, ca.Key.Public(), ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		path := write(t, dir, "leaf.pem", EncodePEM(leaf))
		root := write(t, dir, "ca.pem", EncodePEM(ca.Certificate))
		out, ok := run(t, "openssl", "verify", "-CAfile", root, path)
		if ok || !strings.Contains(out, "permitted subtree violation") {
			t.Errorf("%s: openssl says\n%s", name, out)
		}
	}
}

func TestOpenSSLReadsP12(t *testing.T) {
	dir := t.TempDir()
	ca := create(t, Options{Constrained: true, Now: time.Now()})
	issued := client(t, ca, ClientRequest{Name: "rhea"})
	password := NewPassword()
	for _, c := range []struct {
		flavour Flavour
		extra   []string
		want    []string
	}{
		{FlavourModern, nil, []string{"MAC: sha256", "PBES2, PBKDF2, AES-256-CBC", "BEGIN CERTIFICATE", "BEGIN PRIVATE KEY"}},
		{FlavourApple, []string{"-legacy"}, []string{"MAC: sha1", "pbeWithSHA1And3-KeyTripleDES-CBC", "BEGIN CERTIFICATE", "BEGIN PRIVATE KEY"}},
	} {
		data, err := issued.P12(c.flavour, password)
		if err != nil {
			t.Fatal(err)
		}
		path := write(t, dir, string(c.flavour)+".p12", data)
		args := append([]string{"pkcs12", "-info", "-noenc", "-in", path, "-passin", "pass:" + password}, c.extra...)
		out, ok := run(t, "openssl", args...)
		if !ok {
			t.Errorf("%s: openssl refuses it:\n%s", c.flavour, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: openssl does not say %q:\n%s", c.flavour, want, out)
			}
		}
		if !strings.Contains(out, strings.TrimSpace(string(EncodePEM(issued.Leaf())))) {
			t.Errorf("%s: openssl reads another certificate", c.flavour)
		}
		args[len(args)-1-len(c.extra)] = "pass:wrong"
		if out, ok := run(t, "openssl", args...); ok {
			t.Errorf("%s: opens with a wrong password:\n%s", c.flavour, out)
		}
	}
}

func TestOpenSSLReadsPEM(t *testing.T) {
	dir := t.TempDir()
	ca := create(t, Options{Now: time.Now()})
	issued := client(t, ca, ClientRequest{Name: "rhea"})
	bundle, err := issued.BundlePEM()
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, dir, "rhea.pem", bundle)
	public := func(args ...string) string {
		out, ok := run(t, "openssl", args...)
		if !ok {
			t.Fatalf("openssl %v:\n%s", args, out)
		}
		return out
	}
	if a, b := public("x509", "-in", path, "-noout", "-pubkey"), public("pkey", "-in", path, "-pubout"); a != b {
		t.Errorf("certificate and key do not belong together:\n%s%s", a, b)
	}
}

// curlServer serves TLS at 127.0.0.1 with a certificate of ca, demands a client certificate of it, and answers with the
// client's common name. It returns the URL.
func curlServer(t *testing.T, ca *termination.LocalCA) string {
	t.Helper()
	issued, err := IssueServer(ca, []string{"demo.localhost", "127.0.0.1"}, time.Now(), 30)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello %s", r.TLS.PeerCertificates[0].Subject.CommonName)
		}),
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{{Certificate: [][]byte{issued.Leaf().Raw}, PrivateKey: issued.Key}},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    roots(ca),
		},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "https://demo.localhost:" + port + "/"
}

func TestCurl(t *testing.T) {
	dir := t.TempDir()
	ca := create(t, Options{Constrained: true, Now: time.Now()})
	url := curlServer(t, ca)
	root := write(t, dir, "local-ca.pem", EncodePEM(ca.Certificate))
	issued := client(t, ca, ClientRequest{Name: "rhea", URI: "spiffe://local/rhea", Email: "rhea@example.org"})
	password := NewPassword()

	bundle, err := issued.BundlePEM()
	if err != nil {
		t.Fatal(err)
	}
	p12, err := issued.P12(FlavourModern, password)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := Stranger(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	strangerPEM, err := stranger.BundlePEM()
	if err != nil {
		t.Fatal(err)
	}
	rhea := write(t, dir, "rhea.pem", bundle)
	for _, c := range []struct {
		name string
		args []string
		want string
		ok   bool
	}{
		{"PEM in one file", []string{"--cacert", root, "--cert", rhea}, "hello rhea", true},
		{"TLS 1.2", []string{"--tls-max", "1.2", "--cacert", root, "--cert", rhea}, "hello rhea", true},
		{"p12", []string{"--cacert", root, "--cert", write(t, dir, "rhea.p12", p12) + ":" + password, "--cert-type", "P12"}, "hello rhea", true},
		// In TLS 1.3 curl may be sending its request when net/http closes, and lose the alert.
		{"no certificate", []string{"--tls-max", "1.2", "--cacert", root}, "alert", false},
		{"a stranger", []string{"--tls-max", "1.2", "--cacert", root, "--cert", write(t, dir, "stranger.pem", strangerPEM)}, "unknown ca", false},
		{"without --cacert", []string{"--cert", rhea}, "certificate", false},
	} {
		args := append([]string{"--silent", "--show-error", "--max-time", "20", "--noproxy", "*"}, c.args...)
		out, ok := run(t, "curl", append(args, url)...)
		if ok != c.ok || !strings.Contains(out, c.want) {
			t.Errorf("%s: curl succeeds %v, want %v, and prints %q, want %q in it", c.name, ok, c.ok, out, c.want)
		}
	}
	if bytes.Contains(p12, []byte("PRIVATE")) {
		t.Error("the p12 file holds a key in the clear")
	}
}
