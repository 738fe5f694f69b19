package revocation

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"countersign/termination/tlstest"
)

// largeKey pretends to sign with an RSA key that nobody has.
type largeKey struct{ public rsa.PublicKey }

func newLargeKey(bits uint) *largeKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &largeKey{rsa.PublicKey{N: n.Sub(n, big.NewInt(1)), E: 1<<31 - 1}}
}

func (k *largeKey) Public() crypto.PublicKey { return &k.public }

func (k *largeKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return k.public.N.FillBytes(make([]byte, k.public.Size())), nil
}

// Whoever connects chooses the answer that is stapled, and in it the certificate under whose key it is checked first. A check
// under an RSA key of a quarter of a million bits keeps a processor busy for seconds.
func TestLargeKeyOfAResponder(t *testing.T) {
	ca := tlstest.NewCA()
	alice := ca.Client("alice")
	key := newLargeKey(240_000)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "responder"}, NotAfter: time.Now().Add(time.Hour)}, ca.X509, key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	delegate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	answer, err := ocsp.CreateResponse(ca.X509, delegate, ocsp.Response{Status: ocsp.Good, SerialNumber: alice.X509.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), Certificate: delegate}, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer) > 64<<10 {
		t.Fatalf("%d bytes are refused for their size", len(answer))
	}
	if err := checkResponder(answer); err == nil {
		t.Error("its signature would be checked")
	}
	honest := ca.Client("responder")
	answer, err = ocsp.CreateResponse(ca.X509, honest.X509, ocsp.Response{Status: ocsp.Good, SerialNumber: alice.X509.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), Certificate: honest.X509}, honest.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkResponder(answer); err != nil {
		t.Errorf("an answer of an honest responder: %v", err)
	}
}
