package termination

import "crypto/x509"

// Role says what a CA certificate within an authority may do.
type Role string

// The roles of a CA certificate.
const (
	RoleAnchor Role = "anchor" // where a chain may end
	RoleHelper Role = "helper" // completes the chains of clients that forget to send it; decides nothing
)

// CACertificate is one certificate of an authority.
type CACertificate struct {
	Certificate *x509.Certificate
	Role        Role
}

// Authority is trust by issuer: CA certificates under one name. The same certificate may stand in several.
type Authority struct {
	ID           string
	Name         string
	Origin       Origin
	Certificates []CACertificate
}

// Anchors returns the certificates where a chain may end.
func (a *Authority) Anchors() []*x509.Certificate { return a.withRole(RoleAnchor) }

// Helpers returns the certificates that only complete chains.
func (a *Authority) Helpers() []*x509.Certificate { return a.withRole(RoleHelper) }

func (a *Authority) withRole(r Role) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range a.Certificates {
		if c.Role == r {
			out = append(out, c.Certificate)
		}
	}
	return out
}
