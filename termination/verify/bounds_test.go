package verify_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// mesh makes n certificates of one name and one key that all sign each other, and a leaf below. The number of chains
// through them grows with n factorial.
func mesh(n int, opts ...tlstest.Option) []*x509.Certificate {
	name := tlstest.Subject(pkix.Name{CommonName: "mesh"})
	first := tlstest.NewCA(append([]tlstest.Option{name}, opts...)...)
	presented := []*x509.Certificate{first.Client("a").X509}
	for i := range n {
		c := first.Intermediate(name, tlstest.WithKey(first.Key), tlstest.DNS(fmt.Sprintf("n%d.example.com", i)))
		presented = append(presented, c.X509)
	}
	return presented
}

func unbounded() *termination.Config {
	cfg := config()
	cfg.Limits.Certificates = 1000
	cfg.Limits.CertificateChain = 64 << 20
	return cfg
}

// These chains make a naive search run for hours. That the test ends is its result.
func TestWorkIsBounded(t *testing.T) {
	ca := tlstest.NewCA()
	deep := ca.Intermediates(100).Client("deep")
	limited := ca.Intermediate(tlstest.PermitDNS("example.com"), tlstest.ExcludeDNS("example.org"))
	many := ca.Client("many", tlstest.ManyNames(100_000))
	manyLimited := limited.Client("many", tlstest.ManyNames(100_000), tlstest.DNS("a.example.org"))
	var constraints []string
	for i := range 20_000 {
		constraints = append(constraints, fmt.Sprintf("c%d.example.net", i))
	}
	blowUp := ca.Intermediate(tlstest.ExcludeDNS(constraints...)).Client("many", tlstest.ManyNames(100_000))
	for _, tt := range []struct {
		name      string
		presented []*x509.Certificate
		strict    termination.Reason // with the default limits
		lax       termination.Reason // with limits that let everything through to the checks
	}{
		{"a chain of 100 intermediates", deep.Chain(), termination.ReasonCertMalformed, termination.ReasonChainTooDeep},
		{"100,000 names", many.Chain(), termination.ReasonCertMalformed, ""},
		{"100,000 names under name constraints", manyLimited.Chain(), termination.ReasonCertMalformed, termination.ReasonCertNameLimits},
		{"100,000 names under 20,000 name constraints", blowUp.Chain(), termination.ReasonCertMalformed, ""},
		{"certificates that all sign each other", mesh(9), termination.ReasonCAUnknown, termination.ReasonCAUnknown},
		{"many certificates that all sign each other", mesh(60), termination.ReasonCertMalformed, termination.ReasonChainTooDeep},
	} {
		t.Run(tt.name, func(t *testing.T) {
			auth := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}
			for _, l := range []struct {
				cfg  *termination.Config
				want termination.Reason
			}{{config(), tt.strict}, {unbounded(), tt.lax}} {
				l.cfg.Authorities = []termination.Authority{authority("devices", ca)}
				j := compile(t, l.cfg, auth).Judge(verify.Client{Presented: tt.presented}, time.Now())
				if j.Reason != l.want || j.In != (l.want == "") {
					t.Errorf("in %v, reason %q, want %q%s", j.In, j.Reason, l.want, details(j.Checks))
				}
				if len(j.Checks) > 64 {
					t.Errorf("%d checks", len(j.Checks))
				}
			}
		})
	}
}
