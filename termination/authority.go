package termination

import (
	"crypto/x509"
	"time"
)

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
	Revocation   Revocation
}

// RevocationMode says what follows when it is not known whether a certificate was revoked.
type RevocationMode string

// The modes of revocation. An empty one is soft where there is a source, else off.
const (
	RevocationOff  RevocationMode = "off"  // nobody looks
	RevocationSoft RevocationMode = "soft" // only a certificate that is known to be revoked is refused
	RevocationHard RevocationMode = "hard" // without a fresh answer for the leaf and each CA below the anchor nobody comes in
)

// Revocation says where an authority tells which of its certificates are revoked.
type Revocation struct {
	Mode    RevocationMode
	CRLs    []CRL    // uploaded, or read from files
	CRLURLs []string // fetched on schedule; http or https
	OCSPURL string   // of the responder for its clients (RFC 6960); empty: none. Never taken from a certificate
	// Revoked are the certificates that the local CA has taken back.
	Revoked []RevokedCertificate
}

// CRL is a certificate revocation list that an authority was given (RFC 5280, section 5).
type CRL struct {
	DER    []byte
	Source string // the name of the file, for people
}

// RevokedCertificate is one certificate that the local CA has taken back.
type RevokedCertificate struct {
	Serial string // as ParseSerial returns it
	Time   time.Time
	Reason string // for the operator
}

// Sources reports whether there is anything that could tell of a revoked certificate.
func (r Revocation) Sources() bool {
	return len(r.CRLs) > 0 || len(r.CRLURLs) > 0 || r.OCSPURL != "" || len(r.Revoked) > 0
}

// Effective returns the mode, or its default.
func (r Revocation) Effective() RevocationMode {
	switch {
	case r.Mode != "":
		return r.Mode
	case r.Sources():
		return RevocationSoft
	}
	return RevocationOff
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
