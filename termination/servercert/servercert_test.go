package servercert_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"countersign/termination/servercert"
	"countersign/termination/tlstest"
)

func chainOf(c *tlstest.Cert) servercert.Chain {
	return servercert.Chain{Certificates: []*x509.Certificate{c.X509}, Key: c.Key}
}

func TestChooser(t *testing.T) {
	ca := tlstest.NewCA()
	rsa, ecdsa, ed, other := ca.Server("a.test", tlstest.RSA(2048)), ca.Server("a.test"), ca.Server("a.test", tlstest.Ed25519()), ca.Server("b.test")
	ended, ended2 := ca.Server("a.test", tlstest.Expired()), ca.Server("a.test", tlstest.Expired(), tlstest.RSA(2048))
	early := ca.Server("a.test", tlstest.NotYetValid())
	hello := func(name string, schemes ...tls.SignatureScheme) *tls.ClientHelloInfo {
		return &tls.ClientHelloInfo{
			ServerName: name, SignatureSchemes: schemes, SupportedVersions: []uint16{tls.VersionTLS13},
			SupportedCurves: []tls.CurveID{tls.X25519}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
		}
	}
	old := func(name string, suites ...uint16) *tls.ClientHelloInfo {
		return &tls.ClientHelloInfo{
			ServerName: name, SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256, tls.PKCS1WithSHA256},
			SupportedVersions: []uint16{tls.VersionTLS12}, SupportedCurves: []tls.CurveID{tls.CurveP256}, SupportedPoints: []uint8{0}, CipherSuites: suites,
		}
	}
	both := []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256}
	for _, test := range []struct {
		what  string
		has   []*tlstest.Cert
		hello *tls.ClientHelloInfo
		want  *tlstest.Cert
	}{
		{"ECDSA first", []*tlstest.Cert{rsa, ecdsa, other}, hello("a.test", both...), ecdsa},
		{"what the client can use", []*tlstest.Cert{rsa, ecdsa, other}, hello("a.test", tls.PSSWithSHA256), rsa},
		{"the name", []*tlstest.Cert{rsa, ecdsa, other}, hello("b.test", both...), other},
		{"a name in capitals", []*tlstest.Cert{rsa, ecdsa, other}, hello("B.Test", both...), other},
		{"a name that none covers", []*tlstest.Cert{rsa, ecdsa, other}, hello("c.test", tls.PSSWithSHA256), rsa},
		{"no name", []*tlstest.Cert{rsa, other}, hello("", both...), other},
		{"nothing that the client can use", []*tlstest.Cert{rsa, ecdsa, other}, hello("a.test", tls.Ed25519), ecdsa},
		{"what it can use before the name", []*tlstest.Cert{ecdsa, rsa}, hello("c.test", tls.PSSWithSHA256), rsa},
		{"Ed25519 for who offers it alone", []*tlstest.Cert{rsa, ed}, hello("a.test", tls.PSSWithSHA256, tls.Ed25519), ed},
		{"Ed25519 for nobody else", []*tlstest.Cert{ed, rsa}, hello("a.test", both...), rsa},
		{"RSA suites of TLS 1.2", []*tlstest.Cert{ecdsa, rsa}, old("a.test", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), rsa},
		{"ECDSA suites of TLS 1.2", []*tlstest.Cert{rsa, ecdsa}, old("a.test", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), ecdsa},
		{"an expired one not, where another does", []*tlstest.Cert{ended, rsa}, hello("a.test", both...), rsa},
		{"an early one not, where another does", []*tlstest.Cert{early, rsa}, hello("a.test", both...), rsa},
		{"an expired one, where the other cannot be used", []*tlstest.Cert{ended2, ecdsa}, hello("a.test", tls.PSSWithSHA256), ended2},
		{"an expired one of that name, where the other is for another", []*tlstest.Cert{ended, other}, hello("a.test", both...), ended},
		{"an expired one alone", []*tlstest.Cert{ended}, hello("a.test", both...), ended},
	} {
		var chains []servercert.Chain
		for _, c := range test.has {
			chains = append(chains, chainOf(c))
		}
		got, err := servercert.NewChooser(chains, nil).GetCertificate(test.hello)
		if err != nil || got == nil || !got.Leaf.Equal(test.want.X509) {
			t.Errorf("%s: %v, %v", test.what, got, err)
		}
	}
	c := servercert.NewChooser([]servercert.Chain{chainOf(rsa)}, nil)
	c.Replace(nil)
	if got, err := c.GetCertificate(hello("a.test")); got != nil || err != nil || len(c.Leaves()) != 0 {
		t.Errorf("without certificates: %v, %v", got, err)
	}
}

// TestChooserWithOpenSSL has a real client of another make, with what it can be told to offer.
func TestChooserWithOpenSSL(t *testing.T) {
	ca := tlstest.NewCA()
	certs := map[string]*tlstest.Cert{"RSA": ca.Server("a.test", tlstest.RSA(2048)), "ECDSA": ca.Server("a.test"), "Ed25519": ca.Server("a.test", tlstest.Ed25519())}
	var chains []servercert.Chain
	for _, c := range certs {
		chains = append(chains, chainOf(c))
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: servercert.NewChooser(chains, nil).GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go serveHandshakes(l, done)
	defer func() { _ = l.Close(); <-done }()
	for _, test := range []struct{ args, want string }{
		{"-tls1_3", "ECDSA"},
		{"-tls1_3 -sigalgs rsa_pss_rsae_sha256", "RSA"},
		{"-tls1_3 -sigalgs ed25519", "Ed25519"},
		{"-tls1_3 -sigalgs ed25519:ecdsa_secp256r1_sha256", "ECDSA"},
		{"-tls1_2", "ECDSA"},
		{"-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "RSA"},
		{"-tls1_2 -sigalgs RSA+SHA256", "RSA"},
		{"-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256 -sigalgs ed25519", "Ed25519"},
	} {
		args := append([]string{"s_client", "-connect", l.Addr().String(), "-servername", "a.test", "-showcerts"}, strings.Fields(test.args)...)
		out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
		got := ""
		for kind, c := range certs {
			if strings.Contains(string(out), strings.TrimSpace(string(c.PEM()))) {
				got = kind
			}
		}
		if got != test.want {
			t.Errorf("openssl %s gets %q instead of %s: %v\n%s", test.args, got, test.want, err, out)
		}
	}
}

func serveHandshakes(l net.Listener, done chan struct{}) {
	defer close(done)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_ = conn.(*tls.Conn).Handshake() // the client reports
		_ = conn.Close()
	}
}
