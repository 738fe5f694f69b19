package termination

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// maxCompleted bounds how many certificates are added to a chain.
const maxCompleted = 6

// KnownIssuers lists the CA certificates that a configuration holds anywhere: those of its authorities, and those that stand in
// the chains of its server certificates.
func (c *Config) KnownIssuers() []*x509.Certificate {
	var out []*x509.Certificate
	for _, k := range c.KnownCertificates() {
		out = append(out, k.Certificate)
	}
	for i := range c.Certificates {
		out = append(out, c.Certificates[i].Chain[min(1, len(c.Certificates[i].Chain)):]...)
	}
	return out
}

// Complete adds the intermediates that the chain lacks and that are known, and notes each. Clients need them: only the root may be
// left out. Of several that fit, one that is valid now and ends last is taken.
func (s *ServerCertificate) Complete(known []*x509.Certificate, now time.Time) {
	p := &planner{checks: maxIssuerChecks}
	added := false
	for range maxCompleted {
		if s.rooted {
			break
		}
		last := s.Chain[len(s.Chain)-1]
		var next *x509.Certificate
		for _, c := range known {
			if c.IsCA && !slices.ContainsFunc(s.Chain, c.Equal) && p.signed(c, last) && (next == nil || better(c, next, now)) {
				next = c
			}
		}
		if next == nil {
			break
		}
		if certificateKind(next) == UploadRoot {
			s.rooted = true
			break
		}
		s.Chain = append(s.Chain, next)
		added = true
		s.note(WarnCompleted, false, "%s was missing between this certificate and its root, and is added: it is known here.", certificateTitle(next))
	}
	if added || s.rooted {
		s.Notes = slices.DeleteFunc(s.Notes, func(w UploadWarning) bool { return w.Code == WarnIssuerMissing })
	}
}

// UncoveredNames returns the names of an endpoint that none of its certificates is for. Where the local CA issues them, or they are
// obtained, there are none.
func (c *Config) UncoveredNames(e *Endpoint) []string {
	if e.TerminateAt != AtEdge || len(e.Certificates) == 0 {
		return nil
	}
	out := e.ServerNames()
	for _, name := range e.Certificates {
		cert := c.Certificate(name)
		if cert == nil || len(cert.Chain) == 0 {
			return nil
		}
		uncovered := e.Uncovered(cert.Leaf())
		out = slices.DeleteFunc(out, func(n string) bool { return !slices.Contains(uncovered, n) })
	}
	return out
}

// Uncovered returns the names of an endpoint that a certificate is not for: clients that ask for them refuse it.
func (e *Endpoint) Uncovered(leaf *x509.Certificate) []string {
	var out []string
	for _, name := range e.ServerNames() {
		asked := name
		if rest, wildcard := strings.CutPrefix(name, "*."); wildcard {
			asked = "any-label-of-it." + rest // only a wildcard covers it
		}
		if leaf.VerifyHostname(asked) != nil {
			out = append(out, name)
		}
	}
	return out
}
