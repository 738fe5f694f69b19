package tlstest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// Cert is a certificate with its private key. Whatever it says about itself, it
// can issue: whether that is believed is for the code under test to decide.
type Cert struct {
	X509   *x509.Certificate
	DER    []byte
	Key    crypto.Signer
	Issuer *Cert // nil when self-signed
}

// serial numbers certificates and default names in this process.
var serial atomic.Int64

// NewCA returns a self-signed authority: P-256, valid for ten years, CA:TRUE
// without a path length, a subject that no other NewCA of this process has.
func NewCA(opts ...Option) *Cert {
	return create(nil, caSpec("Test CA"), opts)
}

// SelfSigned returns a certificate that is its own issuer and not a CA, unless
// an option (see CATrue) says so.
func SelfSigned(opts ...Option) *Cert {
	return create(nil, leafSpec("self-signed"), opts)
}

// Intermediate returns a CA certificate issued by c.
func (c *Cert) Intermediate(opts ...Option) *Cert {
	return create(c, caSpec("Test Intermediate"), opts)
}

// Intermediates returns the last of a line of n intermediates below c; with
// n = 0 that is c itself.
func (c *Cert) Intermediates(n int) *Cert {
	for range n {
		c = c.Intermediate()
	}
	return c
}

// Leaf returns an end-entity certificate issued by c: P-256, valid from an hour
// ago for a day, digitalSignature, both clientAuth and serverAuth.
func (c *Cert) Leaf(opts ...Option) *Cert {
	return create(c, leafSpec("leaf"), opts)
}

// Client returns a leaf with this common name that is good for clients only.
func (c *Cert) Client(commonName string, opts ...Option) *Cert {
	return c.Leaf(append([]Option{CN(commonName), EKU(x509.ExtKeyUsageClientAuth)}, opts...)...)
}

// Server returns a leaf that is good for servers only, for this DNS name or IP
// address, which is its common name too. Option DNS adds more names.
func (c *Cert) Server(name string, opts ...Option) *Cert {
	first := []Option{CN(name), EKU(x509.ExtKeyUsageServerAuth)}
	if net.ParseIP(name) != nil {
		first = append(first, IP(name))
	} else {
		first = append(first, DNS(name))
	}
	return c.Leaf(append(first, opts...)...)
}

// Reissue returns a certificate for the same subject and the same key as other,
// issued by c: a renewal, or a cross-signed authority.
func (c *Cert) Reissue(other *Cert, opts ...Option) *Cert {
	s := leafSpec("reissued")
	if other.X509.IsCA {
		s = caSpec("Reissued CA")
	}
	first := []Option{RawSubject(other.X509.RawSubject), SubjectKeyID(other.X509.SubjectKeyId), WithKey(other.Key)}
	return create(c, s, append(first, opts...))
}

// Impostor returns a self-signed authority with the subject and the key
// identifier of c, but another key: everything about it is familiar but the
// proof.
func (c *Cert) Impostor(opts ...Option) *Cert {
	first := []Option{RawSubject(c.X509.RawSubject), SubjectKeyID(c.X509.SubjectKeyId), FreshKey()}
	return create(nil, caSpec("Impostor"), append(first, opts...))
}

// TLS returns the certificate with its intermediates, without the root.
func (c *Cert) TLS() tls.Certificate {
	return tls.Certificate{Certificate: c.chain(), PrivateKey: c.Key, Leaf: c.X509}
}

// TLSAlone returns the certificate without its intermediates, as clients send it
// that forget them.
func (c *Cert) TLSAlone() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.DER}, PrivateKey: c.Key, Leaf: c.X509}
}

// TLSWith returns the certificate with its intermediates, followed by others
// that it has nothing to do with.
func (c *Cert) TLSWith(others ...*Cert) tls.Certificate {
	pair := c.TLS()
	for _, o := range others {
		pair.Certificate = append(pair.Certificate, o.DER)
	}
	return pair
}

// Chain returns the certificate and its intermediates, without the root; of a
// self-signed certificate, the certificate itself.
func (c *Cert) Chain() []*x509.Certificate {
	chain := []*x509.Certificate{c.X509}
	for at := c.Issuer; at != nil && at.Issuer != nil; at = at.Issuer {
		chain = append(chain, at.X509)
	}
	return chain
}

func (c *Cert) chain() [][]byte {
	var der [][]byte
	for _, cert := range c.Chain() {
		der = append(der, cert.Raw)
	}
	return der
}

// Root returns the self-signed certificate at the end of the chain.
func (c *Cert) Root() *Cert {
	for c.Issuer != nil {
		c = c.Issuer
	}
	return c
}

// Pool returns a pool that holds this certificate alone.
func (c *Cert) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.X509)
	return pool
}

// Fingerprint is the SHA-256 of the certificate in lower-case hex.
func (c *Cert) Fingerprint() string {
	sum := sha256.Sum256(c.DER)
	return hex.EncodeToString(sum[:])
}

// SPKI is the SHA-256 of the public key (SubjectPublicKeyInfo) in lower-case hex.
func (c *Cert) SPKI() string {
	sum := sha256.Sum256(c.X509.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func caSpec(name string) *spec {
	now := time.Now()
	return &spec{template: x509.Certificate{
		Subject:               defaultSubject(name),
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
}

func leafSpec(name string) *spec {
	now := time.Now()
	return &spec{template: x509.Certificate{
		Subject:               defaultSubject(name),
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}}
}

func create(issuer *Cert, s *spec, opts []Option) *Cert {
	for _, opt := range opts {
		opt(s)
	}
	if s.template.SerialNumber == nil {
		s.template.SerialNumber = big.NewInt(serial.Add(1) + 1<<32)
	}
	key := s.makeKey()

	parent, signer := &s.template, key
	if issuer != nil {
		parent, signer = issuer.X509, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, &s.template, parent, key.Public(), signer)
	if err != nil {
		panic(fmt.Sprintf("tlstest: create certificate %q: %v", s.template.Subject, err))
	}
	for _, craft := range s.crafts {
		if der, err = recraft(der, signer, craft); err != nil {
			panic(fmt.Sprintf("tlstest: craft certificate %q: %v", s.template.Subject, err))
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(fmt.Sprintf("tlstest: parse certificate %q: %v", s.template.Subject, err))
	}
	return &Cert{X509: cert, DER: der, Key: key, Issuer: issuer}
}
