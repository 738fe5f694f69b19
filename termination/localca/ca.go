package localca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"countersign/termination"
)

const (
	// DefaultCADays is the life of a CA when Options.Days is 0.
	DefaultCADays = 365
	// MaxCADays is the longest life of a CA.
	MaxCADays = 3650

	// skew is how far a certificate begins before the moment it was made, for clients whose clock is behind.
	skew = time.Hour
	day  = 24 * time.Hour
)

// ErrEnded is wrapped by the errors of a CA that has ended and can issue nothing any more.
var ErrEnded = errors.New("the local CA has ended")

// Options describe a CA to be made.
type Options struct {
	Name        string // common name, 1 to 64 printable characters; it is the name of the authority too
	Constrained bool   // may sign for localhost and loopback addresses only
	Days        int    // life; 0 means DefaultCADays
	Now         time.Time
}

// Create makes a CA with a fresh key. It may sign leaves and revocation lists, no further CA (path length 0).
func Create(o Options) (*termination.LocalCA, error) {
	if err := checkCommonName(o.Name); err != nil {
		return nil, fmt.Errorf("create a local CA: %w", err)
	}
	if o.Days == 0 {
		o.Days = DefaultCADays
	}
	if o.Days < 1 || o.Days > MaxCADays {
		return nil, fmt.Errorf("create a local CA: %d days is out of range: use 1 to %d", o.Days, MaxCADays)
	}
	if o.Now.IsZero() {
		return nil, errors.New("create a local CA: the time is missing")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create a local CA: make a key: %w", err)
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, fmt.Errorf("create a local CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: o.Name, Organization: []string{"Countersign local CA"}},
		NotBefore:             o.Now.Add(-skew),
		NotAfter:              o.Now.Add(time.Duration(o.Days) * day),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id,
	}
	if o.Constrained {
		template.PermittedDNSDomainsCritical = true
		template.PermittedDNSDomains = []string{"localhost"}
		template.PermittedIPRanges = []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		}
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create a local CA: %w", err)
	}
	return &termination.LocalCA{Name: o.Name, Certificate: cert, Key: key}, nil
}

// FromKey makes a local CA of a certificate and its key. It refuses what could not issue: a key that does not belong to
// the certificate, a certificate that is no CA or whose key usage does not allow signing certificates.
func FromKey(name string, cert *x509.Certificate, key crypto.Signer) (*termination.LocalCA, error) {
	if cert == nil || key == nil {
		return nil, errors.New("use a local CA: certificate or key is missing")
	}
	if err := termination.CheckName(name); err != nil {
		return nil, fmt.Errorf("use a local CA: %w", err)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return nil, fmt.Errorf("use a local CA: %q is no CA certificate (basic constraints do not say CA:TRUE); give the certificate of a CA", cert.Subject)
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("use a local CA: the key usage of %q does not allow signing certificates (keyCertSign); give the certificate of a CA", cert.Subject)
	}
	if len(cert.SubjectKeyId) == 0 {
		return nil, fmt.Errorf("use a local CA: %q has no subject key identifier, so its certificates could not name their issuer; create a new local CA", cert.Subject)
	}
	public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("use a local CA: the key does not belong to %q; give the key that the certificate was made for", cert.Subject)
	}
	return &termination.LocalCA{Name: name, Certificate: cert, Key: key}, nil
}

// sign makes the certificate and reads it back, so that callers hold exactly what was signed.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back the signed certificate: %w", err)
	}
	return cert, nil
}

// newSerial returns a random positive serial number of 159 bits: it fits the 20 bytes that RFC 5280, section 4.1.2.2
// allows, and cannot be guessed or repeat.
func newSerial() *big.Int {
	var b [20]byte
	for {
		rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
		b[0] &= 0x7f
		if n := new(big.Int).SetBytes(b[:]); n.Sign() > 0 {
			return n
		}
	}
}

// keyID is the first 160 bits of the SHA-256 of the key (RFC 7093, section 2, method 1).
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("marshal the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}
