package verify

import (
	"crypto/x509"
	"testing"

	"countersign/termination/tlstest"
)

func TestFindSpendsNoMoreThanItsBudget(t *testing.T) {
	ca := tlstest.NewCA()
	is := newIssuers([]*x509.Certificate{ca.X509}, nil)
	presented := ca.Intermediates(2).Client("a").Chain()
	for budget, chains := range []int{0, 0, 0, 1, 1} {
		f := is.find(presented, budget)
		if len(f.chains) != chains || len(f.longest) != min(budget+1, 4) {
			t.Errorf("with %d signature checks: %d chains, %d certificates far", budget, len(f.chains), len(f.longest))
		}
	}
	tangled := newIssuers([]*x509.Certificate{ca.X509}, nil).find(tangle(9), hotSignatures)
	if len(tangled.chains) != 0 || len(tangled.longest) > 10 {
		t.Errorf("%d chains, %d certificates far", len(tangled.chains), len(tangled.longest))
	}
}

// CAs that share their name are told apart by key identifier before any signature is checked.
func TestFindTriesTheFittingKeyFirst(t *testing.T) {
	var anchors []*x509.Certificate
	var last *tlstest.Cert
	for range 50 {
		last = tlstest.NewCA(tlstest.CN("Devices"))
		anchors = append(anchors, last.X509)
	}
	if f := newIssuers(anchors, nil).find(last.Client("a").Chain(), 1); len(f.chains) != 1 || !f.chains[0].proven {
		t.Errorf("%d chains", len(f.chains))
	}
}
