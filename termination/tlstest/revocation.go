package tlstest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// CRLOption changes a revocation list before it is signed.
type CRLOption func(*x509.RevocationList)

// Number sets the CRL number; without it, it is 1.
func Number(n int64) CRLOption { return func(l *x509.RevocationList) { l.Number = big.NewInt(n) } }

// Revoking lists certificates, revoked an hour ago for a compromised key.
func Revoking(certs ...*Cert) CRLOption {
	return func(l *x509.RevocationList) {
		for _, c := range certs {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: c.X509.SerialNumber, RevocationTime: time.Now().Add(-time.Hour), ReasonCode: 1,
			})
		}
	}
}

// Updates sets when the list was issued and when the next one comes; without it, a minute ago and in a day.
func Updates(this, next time.Time) CRLOption {
	return func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = this, next }
}

// CRLExtension adds an extension.
func CRLExtension(id asn1.ObjectIdentifier, critical bool, value []byte) CRLOption {
	return func(l *x509.RevocationList) {
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

// EntryExtension adds an extension to each entry that is listed so far.
func EntryExtension(id asn1.ObjectIdentifier, critical bool, value []byte) CRLOption {
	return func(l *x509.RevocationList) {
		for i := range l.RevokedCertificateEntries {
			e := &l.RevokedCertificateEntries[i]
			e.ExtraExtensions = append(e.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
		}
	}
}

// DeltaCRL makes a list say that it only tells what has changed (RFC 5280, section 5.2.4).
func DeltaCRL() CRLOption {
	return CRLExtension(asn1.ObjectIdentifier{2, 5, 29, 27}, true, []byte{asn1.TagInteger, 1, 1})
}

// IssuingDistributionPoint gives a list that extension (section 5.2.5), with these bytes in its sequence.
func IssuingDistributionPoint(inside ...byte) CRLOption {
	return CRLExtension(asn1.ObjectIdentifier{2, 5, 29, 28}, true, append([]byte{0x30, byte(len(inside))}, inside...))
}

// CRL returns a revocation list of c as DER, whether or not c may sign one.
func (c *Cert) CRL(opts ...CRLOption) []byte {
	now := time.Now()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour)}
	for _, o := range opts {
		o(l)
	}
	signer := *c.X509
	signer.KeyUsage |= x509.KeyUsageCRLSign // so that the library signs for anybody
	if len(signer.SubjectKeyId) == 0 {
		signer.SubjectKeyId = []byte{1}
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, &signer, c.Key)
	if err != nil {
		panic(fmt.Sprintf("tlstest: create a revocation list of %q: %v", c.X509.Subject, err))
	}
	return der
}

// CRLPEM returns lists as PEM, one after another.
func CRLPEM(lists ...[]byte) []byte {
	var out []byte
	for _, der := range lists {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out
}

// OCSPAnswer returns an answer about cert, signed by signer, which is its issuer or speaks for it. With a signer that
// is not the issuer its certificate is sent along.
func OCSPAnswer(cert, issuer, signer *Cert, change func(*ocsp.Response)) []byte {
	now := time.Now().Truncate(time.Second)
	r := ocsp.Response{
		Status: ocsp.Good, SerialNumber: cert.X509.SerialNumber, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour),
	}
	if signer != issuer {
		r.Certificate = signer.X509
	}
	if change != nil {
		change(&r)
	}
	der, err := ocsp.CreateResponse(issuer.X509, signer.X509, r, signer.Key)
	if err != nil {
		panic(fmt.Sprintf("tlstest: create an OCSP answer: %v", err))
	}
	return der
}

// Responder is an OCSP responder of an authority.
type Responder struct {
	URL   string
	Asked atomic.Int64 // questions

	mu     sync.Mutex
	answer func(serial *big.Int) []byte
	delay  time.Duration
}

// NewResponder starts a responder that answers with what answer returns for a serial number; nil: an error.
func NewResponder(t testing.TB, answer func(serial *big.Int) []byte) *Responder {
	t.Helper()
	r := &Responder{answer: answer}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// Answer changes what is answered, and Delay after how long.
func (r *Responder) Answer(answer func(serial *big.Int) []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// Delay makes the responder slow.
func (r *Responder) Delay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

// ServeHTTP implements http.Handler.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.Asked.Add(1)
	r.mu.Lock()
	answer, delay := r.answer, r.delay
	r.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<16))
	if err == nil && delay > 0 {
		select {
		case <-req.Context().Done():
			return
		case <-time.After(delay):
		}
	}
	question, err := ocsp.ParseRequest(body)
	if err != nil {
		http.Error(w, "no question", http.StatusBadRequest)
		return
	}
	der := answer(question.SerialNumber)
	if der == nil {
		der = ocsp.InternalErrorErrorResponse
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(der) // who asked may be gone
}

// NaiveRevocation does what scripts around revocation lists do: it takes whatever list comes last and looks for serial
// numbers, without a look at who signed it, when, and what it is for. A test that it passes tests nothing.
type NaiveRevocation struct{ serials map[string]bool }

// Load takes a list. It is never refused.
func (n *NaiveRevocation) Load(der []byte) error {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	n.serials = map[string]bool{}
	for _, e := range l.RevokedCertificateEntries {
		n.serials[e.SerialNumber.String()] = true
	}
	return nil
}

// Admits reports whether a certificate comes in.
func (n *NaiveRevocation) Admits(c *Cert) bool { return !n.serials[c.X509.SerialNumber.String()] }
