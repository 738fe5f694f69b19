package termination_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"

	"countersign/termination"
)

func nameOf(attributes ...pkix.AttributeTypeAndValue) pkix.Name {
	var sequence pkix.RDNSequence
	for _, a := range attributes {
		sequence = append(sequence, pkix.RelativeDistinguishedNameSET{a})
	}
	var n pkix.Name
	n.FillFromRDNSequence(&sequence)
	return n
}

func TestNameText(t *testing.T) {
	honest := nameOf(
		pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Value: "DE"},
		pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Example, Inc."},
		pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "x"},
		pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "alice"},
	)
	if got := termination.NameText(honest); got != honest.String() {
		t.Errorf("an honest name is %q", got)
	}
	many := make([]pkix.AttributeTypeAndValue, 20_000)
	for i := range many {
		many[i] = pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "a"}
		if i%2 == 0 {
			many[i].Type = asn1.ObjectIdentifier{1, 2, 3}
		}
	}
	long := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: strings.Repeat("ü", 100_000)}
	for what, n := range map[string]pkix.Name{"of many attributes": nameOf(many...), "with a long attribute": nameOf(long), "with many long ones": nameOf(slices.Concat(many, []pkix.AttributeTypeAndValue{long, long})...)} {
		got := termination.NameText(n)
		if got == "" || len(got) > 64<<10 || !strings.HasSuffix(got, "…") {
			t.Errorf("a name %s has %d bytes", what, len(got))
		}
	}
}
