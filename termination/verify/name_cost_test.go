package verify_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// A client that proves nothing chooses how its issuer is called. That a name has thousands of attributes must cost nobody
// anything: at first it took seconds to print.
func TestLongIssuerCostsNothing(t *testing.T) {
	name := pkix.Name{}
	for range 8_000 {
		name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "a"})
	}
	leaf := tlstest.NewCA(tlstest.Subject(name)).Client("mallory")
	if got := verify.BestName(leaf.X509); len(got.Issuer) == 0 || len(got.Issuer) > 16<<10 {
		t.Errorf("the issuer's name has %d bytes", len(got.Issuer))
	}
}
