// Package servercert decides which of an endpoint's server certificates answers a client: by what the client can use,
// ECDSA before RSA, since it is quicker for both sides, and by the name it asked for.
package servercert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"
)

// Chain is a server certificate chain, leaf first, with its key.
type Chain struct {
	Certificates []*x509.Certificate
	Key          crypto.Signer
	Staple       []byte // answer of the responder, in DER, sent to clients that ask for it; nil: none
}

// Chooser holds the certificates of one endpoint. They can be replaced while handshakes go on, without touching the
// endpoint's tls.Config and so without losing its session tickets.
type Chooser struct {
	current atomic.Pointer[[]tls.Certificate]
	now     func() time.Time
}

// NewChooser returns a Chooser with the given chains. now is nil for time.Now.
func NewChooser(chains []Chain, now func() time.Time) *Chooser {
	c := &Chooser{now: now}
	if now == nil {
		c.now = time.Now
	}
	c.Replace(chains)
	return c
}

// Replace puts chains in the place of those before, for all handshakes from now on.
func (c *Chooser) Replace(chains []Chain) {
	certs := make([]tls.Certificate, 0, len(chains))
	for _, chain := range chains {
		certs = append(certs, asTLS(chain))
	}
	slices.SortStableFunc(certs, func(a, b tls.Certificate) int { return preference(a) - preference(b) })
	c.current.Store(&certs)
}

func asTLS(chain Chain) tls.Certificate {
	cert := tls.Certificate{PrivateKey: chain.Key, Leaf: chain.Certificates[0], OCSPStaple: chain.Staple}
	for _, c := range chain.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

func preference(c tls.Certificate) int {
	switch c.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return 0
	case ed25519.PublicKey: // not every client can use it, but then SupportsCertificate says so
		return 1
	default:
		return 2
	}
}

// GetCertificate implements the callback of tls.Config. Among the certificates that the client can use, by the signature
// schemes and, in TLS 1.2, the suites that it offers, one that covers the name wins; among those, one that is valid now;
// among those, ECDSA. So an expired one answers only where nothing else would do, and where none covers the name, one is
// shown all the same: the client, and through its alert the operator, learns what is wrong. Without any certificate it
// returns nil, which crypto/tls turns into the alert unrecognized_name (RFC 6066, section 3).
func (c *Chooser) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := *c.current.Load()
	anyName := *hello
	anyName.ServerName = ""
	now := c.now()
	var best *tls.Certificate
	most := -1
	for i := range certs {
		cert := &certs[i]
		merit := 0
		if len(certs) > 1 { // else there is no choice
			merit = c.merit(&anyName, hello.ServerName, cert, now)
		}
		if merit > most {
			best, most = cert, merit
		}
	}
	return best, nil // nil is the documented way to have unrecognized_name sent
}

// merit weighs a certificate: what the client can use before the name, the name before the dates.
func (c *Chooser) merit(anyName *tls.ClientHelloInfo, name string, cert *tls.Certificate, now time.Time) int {
	merit := 0
	if anyName.SupportsCertificate(cert) == nil {
		merit += 4
	}
	if name == "" || cert.Leaf.VerifyHostname(name) == nil {
		merit += 2
	}
	if !now.Before(cert.Leaf.NotBefore) && !now.After(cert.Leaf.NotAfter) {
		merit++
	}
	return merit
}

// Leaves returns the leaf certificates in order of preference.
func (c *Chooser) Leaves() []*x509.Certificate {
	certs := *c.current.Load()
	out := make([]*x509.Certificate, len(certs))
	for i := range certs {
		out[i] = certs[i].Leaf
	}
	return out
}
