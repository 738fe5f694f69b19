package gateway_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// calls is curl with the client's own certificate, by options of its own where there are some.
func (s *scene) calls(options ...string) seen {
	s.t.Helper()
	return s.curl(append([]string{"--cert client.crt --key client.key"}, options...)...)
}

// reissued carries out a fix whose command makes a request: it is typed, the owner of a CA signs, and the client comes in
// with what comes back.
func (s *scene) reissued(request string) {
	s.t.Helper()
	s.types()
	key := strings.TrimSuffix(request, ".csr") + ".key"
	if request == "client.csr" {
		key = "client.key"
	}
	s.issued(s.devices, request, "issued.crt")
	s.passes(s.curl("--cert issued.crt --key " + key))
}

// presents is a Go program that shows these certificates, whatever they are, with the key of the first or another.
func (s *scene) presents(key *tlstest.Cert, certs ...[]byte) seen {
	s.t.Helper()
	return s.visits(&tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: certs, PrivateKey: key.Key}, nil
	}}, nil)
}

// decides carries out a fix that lowers security, which is never the first: somebody decided it.
func (s *scene) decides(page string, change func(*termination.Config)) {
	s.t.Helper()
	at := slices.IndexFunc(s.ex.Fixes, func(f termination.Fix) bool { return strings.Contains(f.Text, s.situation.Fix) })
	if at < 1 || !s.ex.Fixes[at].Lowers {
		s.t.Fatalf("no fix but the first says %q and that it lowers security: %+v", s.situation.Fix, s.ex.Fixes)
	}
	s.ex.Fixes[at].Lowers = false // it was seen
	s.changes(page, change)
}

// clocked gives the gateway a clock that is wrong by this much, until it is set right.
func (s *scene) clocked(wrong time.Duration) (setRight func()) {
	s.t.Helper()
	s.ahead.Store(int64(wrong))
	return func() { s.ahead.Store(0) }
}

// anchor makes a change that adds a CA certificate to an authority.
func holding(authority string, role termination.Role, certs ...*tlstest.Cert) func(*termination.Config) {
	return func(c *termination.Config) {
		for i := range c.Authorities {
			if c.Authorities[i].Name != authority {
				continue
			}
			list := slices.Clone(c.Authorities[i].Certificates)
			for _, cert := range certs {
				list = append(list, termination.CACertificate{Certificate: cert.X509, Role: role})
			}
			c.Authorities[i].Certificates = list
			return
		}
		a := termination.Authority{ID: "ca_" + authority, Name: authority}
		for _, cert := range certs {
			a.Certificates = append(a.Certificates, termination.CACertificate{Certificate: cert.X509, Role: role})
		}
		c.Authorities = append(c.Authorities, a)
	}
}

// trusting makes a change by which the endpoint api trusts these authorities.
func trusting(authorities ...string) func(*termination.Config) {
	return func(c *termination.Config) { c.Endpoint("api").ClientAuth.Authorities = authorities }
}

// pinning makes a change by which the endpoint api has this certificate on its list.
func pinning(cert *tlstest.Cert) func(*termination.Config) {
	return func(c *termination.Config) {
		e := c.Endpoint("api")
		e.ClientAuth.Pins = append(slices.Clone(e.ClientAuth.Pins), pinOf(cert))
	}
}

func pinOf(cert *tlstest.Cert) termination.Pin {
	return termination.Pin{Fingerprint: termination.FingerprintOf(cert.X509)}
}

// pins is the policy of an endpoint that lets in these certificates alone.
func pins(certs ...*tlstest.Cert) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		require()(e)
		for _, c := range certs {
			e.ClientAuth.Pins = append(e.ClientAuth.Pins, pinOf(c))
		}
	}
}
