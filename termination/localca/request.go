package localca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

const (
	// maxRequest is the size of a certificate request, in bytes: an RSA key of 16384 bits fits.
	maxRequest = 8 << 10
	// shortestRSA is the shortest RSA key that is signed, in bits.
	shortestRSA = 2048
)

// SignServer issues a server certificate for the key of a certificate request (RFC 2986). Only the key is taken from
// it, once the request has proven that its maker has it; the names are those given here, whatever the request asks for.
func SignServer(ca *termination.LocalCA, request []byte, names []string, now time.Time, days int) ([]*x509.Certificate, error) {
	if days < 1 || days > MaxServerDays {
		return nil, fmt.Errorf("sign a server certificate: %d days is out of range: use 1 to %d", days, MaxServerDays)
	}
	csr, err := ReadRequest(request)
	if err != nil {
		return nil, fmt.Errorf("sign a server certificate: %w", err)
	}
	template, err := serverTemplate(ca, names)
	if err != nil {
		return nil, fmt.Errorf("sign a server certificate: %w", err)
	}
	cert, err := signLeaf(ca, template, csr.PublicKey, now, time.Duration(days)*day)
	if err != nil {
		return nil, fmt.Errorf("sign a server certificate: %w", err)
	}
	return []*x509.Certificate{cert}, nil
}

// ReadRequest reads the DER of a certificate request and checks that it is signed by its own key, and that the key is
// one that every client can use and nobody can break.
func ReadRequest(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxRequest {
		return nil, errors.New("the certificate request is too large")
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate request: %w", err)
	}
	switch key := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return nil, errors.New("the certificate request's curve is not one of P-256, P-384 and P-521")
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if key.N.BitLen() < shortestRSA {
			return nil, fmt.Errorf("the certificate request's RSA key has %d bits; use at least %d", key.N.BitLen(), shortestRSA)
		}
	default:
		return nil, errors.New("the certificate request's kind of key is not known here; use ECDSA, Ed25519 or RSA")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	return csr, nil
}

// SignClient issues a client certificate for the key of a certificate request. Only the key is taken from it; the name is
// the one given here. A constrained CA may sign no name that looks like a DNS name outside of its limits; the error is
// then a [ConstraintError].
func SignClient(ca *termination.LocalCA, request []byte, name string, now time.Time, days int) (*x509.Certificate, error) {
	if days < 1 || days > MaxClientDays {
		return nil, fmt.Errorf("sign a client certificate: %d days is out of range: use 1 to %d", days, MaxClientDays)
	}
	csr, err := ReadRequest(request)
	if err != nil {
		return nil, fmt.Errorf("sign a client certificate: %w", err)
	}
	template, err := ClientRequest{Name: name}.template(ca)
	if err != nil {
		return nil, fmt.Errorf("sign a client certificate: %w", err)
	}
	cert, err := signLeaf(ca, template, csr.PublicKey, now, time.Duration(days)*day)
	if err != nil {
		return nil, fmt.Errorf("sign a client certificate: %w", err)
	}
	return cert, nil
}
