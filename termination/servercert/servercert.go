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
)

// Chain is a server certificate chain, leaf first, with its key.
type Chain struct {
	Certificates []*x509.Certificate
	Key          crypto.Signer
}

// Chooser holds the certificates of one endpoint. They can be replaced while handshakes go on, without touching the
// endpoint's tls.Config and so without losing its session tickets.
type Chooser struct {
	current atomic.Pointer[[]tls.Certificate]
}

// NewChooser returns a Chooser with the given chains.
func NewChooser(chains []Chain) *Chooser {
	c := &Chooser{}
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
	cert := tls.Certificate{PrivateKey: chain.Key, Leaf: chain.Certificates[0]}
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

// GetCertificate implements the callback of tls.Config. Among the certificates that the client can use, one that
// covers the name wins. Where none covers it, the first usable one is shown, so that the client, and through its
// alert the operator, learns what is wrong. Without any certificate it returns nil, which crypto/tls turns into the
// alert unrecognized_name (RFC 6066, section 3).
func (c *Chooser) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := *c.current.Load()
	if len(certs) == 1 {
		return &certs[0], nil
	}
	for i := range certs {
		if hello.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	anyName := *hello
	anyName.ServerName = ""
	for i := range certs {
		if anyName.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	if len(certs) > 0 {
		return &certs[0], nil
	}
	return nil, nil //nolint:nilnil // the documented way to have unrecognized_name sent
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
