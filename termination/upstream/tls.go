package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"net"

	"countersign/termination"
)

// tlsConfig is how a connection to an https or tls target is secured. It always verifies. A nil pool means the system's
// roots here, which is what an upstream without roots of its own is documented to get.
func tlsConfig(u termination.Upstream, address string) *tls.Config {
	c := &tls.Config{ServerName: u.TLS.ServerName, MinVersion: tls.VersionTLS12}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(address) // an address that cannot be split verifies as no name at all
	}
	if len(u.TLS.Roots) > 0 {
		c.RootCAs = x509.NewCertPool()
		for _, r := range u.TLS.Roots {
			c.RootCAs.AddCert(r)
		}
	}
	if u.Scheme == termination.UpstreamHTTPS {
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	if own := u.TLS.Client; own != nil {
		certificate := tls.Certificate{PrivateKey: own.Key, Leaf: own.Chain[0]}
		for _, cert := range own.Chain {
			certificate.Certificate = append(certificate.Certificate, cert.Raw)
		}
		// Shown whatever authorities the service names: with a list of certificates, crypto/tls would keep silent, and the
		// service would complain about none instead of a wrong one.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
	return c
}
