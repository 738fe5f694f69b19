package verify_test

import (
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

func TestBestName(t *testing.T) {
	ca := tlstest.NewCA(tlstest.CN("Devices"))
	for _, tt := range []struct {
		name       string
		opts       []tlstest.Option
		want, full string
	}{
		{"SPIFFE", []tlstest.Option{tlstest.URI("spiffe://prod/batch/billing"), tlstest.DNS("a.example.com")}, "batch/billing", "spiffe://prod/batch/billing"},
		{"SPIFFE of Kubernetes", []tlstest.Option{tlstest.URI("spiffe://cluster.local/ns/payments/sa/checkout")}, "payments/checkout", "spiffe://cluster.local/ns/payments/sa/checkout"},
		{"SPIFFE before another URI", []tlstest.Option{tlstest.URI("https://example.com/x", "spiffe://prod/billing")}, "billing", "spiffe://prod/billing"},
		{"long path", []tlstest.Option{tlstest.URI("https://example.com/a/b/c/d")}, "c/d", "https://example.com/a/b/c/d"},
		{"URN", []tlstest.Option{tlstest.URI("urn:uuid:f81d4fae-7dec-11d0")}, "f81d4fae-7dec-11d0", "urn:uuid:f81d4fae-7dec-11d0"},
		{"URI without path", []tlstest.Option{tlstest.URI("spiffe://prod")}, "prod", "spiffe://prod"},
		{"DNS", []tlstest.Option{tlstest.DNS("a.example.com", "b.example.com"), tlstest.Email("x@example.com")}, "a.example.com", "a.example.com"},
		{"e-mail", []tlstest.Option{tlstest.Email("x@example.com")}, "x@example.com", "x@example.com"},
		{"common name", nil, "cn", "cn"},
		{"nothing", []tlstest.Option{tlstest.CN("")}, "", ""},
		{"hostile", []tlstest.Option{tlstest.CN("\u202e<b>\x00")}, `\u{202e}<b>\u{0}`, `\u{202e}<b>\u{0}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaf := ca.Client("cn", tt.opts...)
			got := verify.BestName(leaf.X509)
			want := termination.ClientName{Name: tt.want, Full: tt.full, Fingerprint: termination.FingerprintOf(leaf.X509), Issuer: "Devices"}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	if got := verify.BestName(nil); got != (termination.ClientName{}) {
		t.Errorf("of nothing: %+v", got)
	}
	long := verify.BestName(ca.Client(strings.Repeat("x", 10_000)).X509)
	if len(long.Name) > 100 || len(long.Full) > 600 {
		t.Errorf("a name of %d bytes, %d in full", len(long.Name), len(long.Full))
	}
}
