package servercert_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"countersign/termination/servercert"
	"countersign/termination/tlstest"
)

func TestChooser(t *testing.T) {
	ca := tlstest.NewCA()
	rsa, ecdsa, other := ca.Server("a.test", tlstest.RSA(2048)), ca.Server("a.test"), ca.Server("b.test")
	chain := func(c *tlstest.Cert) servercert.Chain {
		return servercert.Chain{Certificates: []*x509.Certificate{c.X509}, Key: c.Key}
	}
	hello := func(name string, schemes ...tls.SignatureScheme) *tls.ClientHelloInfo {
		return &tls.ClientHelloInfo{
			ServerName: name, SignatureSchemes: schemes, SupportedVersions: []uint16{tls.VersionTLS13},
			SupportedCurves: []tls.CurveID{tls.X25519}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
		}
	}
	c := servercert.NewChooser([]servercert.Chain{chain(rsa), chain(ecdsa), chain(other)})
	for _, test := range []struct {
		what  string
		hello *tls.ClientHelloInfo
		want  *tlstest.Cert
	}{
		{"ECDSA first", hello("a.test", tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256), ecdsa},
		{"what the client can use", hello("a.test", tls.PSSWithSHA256), rsa},
		{"the name", hello("b.test", tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256), other},
		{"a name that none covers", hello("c.test", tls.PSSWithSHA256), rsa},
		{"nothing that the client can use", hello("a.test", tls.Ed25519), ecdsa},
	} {
		got, err := c.GetCertificate(test.hello)
		if err != nil || got == nil || !got.Leaf.Equal(test.want.X509) {
			t.Errorf("%s: %v, %v", test.what, got, err)
		}
	}
	c.Replace(nil)
	if got, err := c.GetCertificate(hello("a.test")); got != nil || err != nil || len(c.Leaves()) != 0 {
		t.Errorf("without certificates: %v, %v", got, err)
	}
}
