package revocation

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Whatever is given, fetched or sent: nothing panics, nothing of it counts that this CA has not signed, and what is
// listed can be found.
func FuzzIntake(f *testing.F) {
	ca := tlstest.NewCA()
	alice := ca.Client("alice")
	good := ca.CRL(tlstest.Revoking(alice))
	for _, seed := range [][]byte{
		good, tlstest.CRLPEM(good, ca.CRL(tlstest.Number(2))), ca.CRL(tlstest.DeltaCRL()), ca.CRL(tlstest.IssuingDistributionPoint(0x81, 1, 0xff)),
		ca.CRL(tlstest.IssuingDistributionPoint(0xa0, 7, 0xa0, 5, 0x86, 3, 'a', ':', 'b')), ca.DER, ca.PEM(), nil, []byte("-----BEGIN X509 CRL-----\n"),
		tlstest.OCSPAnswer(alice, ca, ca, nil), tlstest.OCSPAnswer(alice, ca, ca.Leaf(tlstest.EKU(x509.ExtKeyUsageOCSPSigning)), nil),
	} {
		f.Add(seed)
	}
	stranger := tlstest.NewCA()
	authority := &termination.Authority{Name: "devices", Certificates: []termination.CACertificate{{Certificate: stranger.X509, Role: termination.RoleAnchor}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		now := time.Now()
		if a, err := checkAnswer(data, alice.X509, stranger.X509, now); err == nil {
			t.Errorf("an answer that the CA has not signed counts: %+v", a)
		}
		read, err := termination.ReadCRLs(data)
		if err != nil {
			return
		}
		for _, l := range read {
			e := newEntries(l.RevokedCertificateEntries)
			for _, entry := range l.RevokedCertificateEntries {
				if _, found := e.find(entry.SerialNumber); !found && entry.SerialNumber.BitLen() <= 8*maxSerial {
					t.Errorf("the serial number %s is listed and not found", entry.SerialNumber)
				}
			}
			if _, found := e.find(new(big.Int).Lsh(big.NewInt(1), 300)); found && len(data) < 30 {
				t.Error("a serial number is found that is not listed")
			}
		}
		lists, err := readLists(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lists {
			if _, err := l.issuer(authority); err == nil {
				t.Error("a list that the CA has not signed counts")
			}
			l.status(nil, now)
		}
	})
}
