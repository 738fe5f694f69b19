package termination

import (
	"crypto"
	"crypto/x509"
)

// Certificate is a server certificate chain with its private key.
type Certificate struct {
	ID     string
	Name   string
	Origin Origin
	Chain  []*x509.Certificate // leaf first
	Key    crypto.Signer
}

// Leaf returns the first certificate of the chain.
func (c *Certificate) Leaf() *x509.Certificate { return c.Chain[0] }

// LocalCA is a certificate authority whose key lives in this gateway.
type LocalCA struct {
	Name        string // of the authority that holds its certificate
	Certificate *x509.Certificate
	Key         crypto.Signer
}
