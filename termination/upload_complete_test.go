package termination_test

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestCompleteAChain(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root"))
	inter := root.Intermediate(tlstest.CN("Acme Issuing"))
	deep := inter.Intermediate(tlstest.CN("Acme Issuing 2"))
	leaf := deep.Server("a.test")
	old := root.Reissue(inter, tlstest.Expired())
	impostor := inter.Impostor()
	now := time.Now()
	has := func(s *termination.ServerCertificate, code termination.WarningCode) int {
		n := 0
		for _, w := range s.Notes {
			if w.Code == code {
				n++
			}
		}
		return n
	}
	for _, test := range []struct {
		what    string
		file    []byte
		known   []*x509.Certificate
		chain   []*x509.Certificate
		added   int
		missing int
	}{
		{"all is known", leaf.PEM(), []*x509.Certificate{root.X509, inter.X509, deep.X509}, []*x509.Certificate{leaf.X509, deep.X509, inter.X509}, 2, 0},
		{"one in the middle is not", leaf.PEM(), []*x509.Certificate{root.X509, inter.X509}, []*x509.Certificate{leaf.X509}, 0, 1},
		{"half of it is in the file", append(leaf.PEM(), deep.PEM()...), []*x509.Certificate{inter.X509}, []*x509.Certificate{leaf.X509, deep.X509, inter.X509}, 1, 0},
		{"an expired issue of it too", leaf.PEM(), []*x509.Certificate{old.X509, deep.X509, inter.X509}, []*x509.Certificate{leaf.X509, deep.X509, inter.X509}, 2, 0},
		{"an impostor of it too", leaf.PEM(), []*x509.Certificate{impostor.X509, deep.X509}, []*x509.Certificate{leaf.X509, deep.X509}, 1, 0},
		{"the leaf is known", leaf.PEM(), []*x509.Certificate{leaf.X509}, []*x509.Certificate{leaf.X509}, 0, 1},
		{"nothing is", leaf.PEM(), nil, []*x509.Certificate{leaf.X509}, 0, 1},
		{"nothing is missing", root.Server("a.test").PEM(), []*x509.Certificate{root.X509}, nil, 0, 0},
	} {
		key := leaf.KeyPEM()
		if test.chain == nil {
			direct := root.Server("a.test")
			test.file, key, test.chain = direct.PEM(), direct.KeyPEM(), []*x509.Certificate{direct.X509}
		}
		s, err := termination.ReadServerCertificate(test.file, key, now)
		if err != nil {
			t.Fatalf("%s: %v", test.what, err)
		}
		s.Complete(test.known, now)
		if !slices.EqualFunc(s.Chain, test.chain, (*x509.Certificate).Equal) {
			t.Errorf("%s: %d certificates", test.what, len(s.Chain))
		}
		if has(s, termination.WarnCompleted) != test.added || has(s, termination.WarnIssuerMissing) != test.missing {
			t.Errorf("%s: %+v", test.what, s.Notes)
		}
	}
}

func TestUncoveredNames(t *testing.T) {
	ca := tlstest.NewCA()
	wild, one, two := ca.Server("*.a.test", tlstest.DNS("*.a.test")), ca.Server("a.test"), ca.Server("b.test")
	config := &termination.Config{Certificates: []termination.Certificate{
		{Name: "wild", Chain: []*x509.Certificate{wild.X509}}, {Name: "one", Chain: []*x509.Certificate{one.X509}}, {Name: "two", Chain: []*x509.Certificate{two.X509}},
	}}
	for _, test := range []struct {
		host    string
		aliases []string
		certs   []string
		want    []string
	}{
		{"a.test", []string{"*.a.test"}, []string{"one", "wild"}, nil},
		{"a.test", []string{"*.a.test"}, []string{"one"}, []string{"*.a.test"}},
		{"x.a.test", []string{"y.x.a.test"}, []string{"wild"}, []string{"y.x.a.test"}},
		{"a.test", []string{"b.test", "c.test"}, []string{"one", "two"}, []string{"c.test"}},
		{"a.test", nil, []string{"two", "local"}, nil},
		{"a.test", nil, []string{"acme"}, nil},
		{"a.test", nil, nil, nil},
		{"", nil, []string{"one"}, nil},
	} {
		e := &termination.Endpoint{TerminateAt: termination.AtEdge, Host: test.host, Aliases: test.aliases, Certificates: test.certs}
		if got := config.UncoveredNames(e); !slices.Equal(got, test.want) {
			t.Errorf("%s %v with %v: %v", test.host, test.aliases, test.certs, got)
		}
	}
}
