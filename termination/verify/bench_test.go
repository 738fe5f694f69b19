package verify

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// BenchmarkJudge measures the hot path: of a client seen for the first time, of one that comes again or resumes its
// session, of one with a pin, and of those that are refused.
func BenchmarkJudge(b *testing.B) {
	ca := tlstest.NewCA()
	alice := ca.Intermediate().Client("alice").Chain()
	stranger := tlstest.NewCA().Intermediate().Client("bob").Chain()
	expired := ca.Intermediate().Client("carol", tlstest.Expired()).Chain()
	pin := termination.Pin{Fingerprint: termination.FingerprintOf(alice[0])}
	cfg := &termination.Config{Authorities: []termination.Authority{{
		Name: "devices", Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}},
	}}}
	chains := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}
	pins := termination.ClientAuth{Mode: termination.ModeRequire, Pins: []termination.Pin{pin}}
	for _, bb := range []struct {
		name      string
		auth      termination.ClientAuth
		presented []*x509.Certificate
		forget    bool
	}{
		{"first", chains, alice, true},
		{"again", chains, alice, false},
		{"pinned", pins, alice, false},
		{"stranger", chains, stranger, false},
		{"expired", chains, expired, false},
		{"attack/P-256", chains, tangle(9), false},
		{"attack/P-521", chains, tangle(9, tlstest.P521()), false},
		{"attack/RSA-4096", chains, tangle(9, tlstest.RSA(4096)), false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p, err := Compile(cfg, bb.auth, Scope{})
			if err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			for b.Loop() {
				if bb.forget {
					p.cache = newChainCache()
				}
				p.Judge(Client{Presented: bb.presented}, now)
			}
		})
	}
}

// tangle makes a leaf and n certificates of one name and one key that all sign each other: n factorial chains.
func tangle(n int, opts ...tlstest.Option) []*x509.Certificate {
	name := tlstest.Subject(pkix.Name{CommonName: "tangle"})
	first := tlstest.NewCA(append([]tlstest.Option{name}, opts...)...)
	presented := []*x509.Certificate{first.Client("a").X509}
	for i := range n {
		c := first.Intermediate(name, tlstest.WithKey(first.Key), tlstest.DNS(fmt.Sprintf("n%d.example.com", i)))
		presented = append(presented, c.X509)
	}
	return presented
}
