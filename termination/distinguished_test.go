package termination

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
	"unicode/utf8"
)

// nameOf is the DER of a name with attributes in that order, each in a set of its own.
func nameOf(t *testing.T, attributes ...pkix.AttributeTypeAndValue) []byte {
	t.Helper()
	var n pkix.RDNSequence
	for _, a := range attributes {
		n = append(n, pkix.RelativeDistinguishedNameSET{a})
	}
	der, err := asn1.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func cn(value any) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: value}
}

func TestDistinguishedNameAsPeopleWriteIt(t *testing.T) {
	org := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Müller, Söhne"}
	n := ParseDistinguishedName(nameOf(t, org, cn("#1 gateway "), cn("in\x00ner#2")))
	if got, want := n.Text(), `CN=in\00ner#2,CN=\#1 gateway\ ,O=Müller\, Söhne`; got != want {
		t.Errorf("Text: %s, want %s", got, want)
	}
	if got, want := n.String(), `CN=in\00ner#2,CN=\#1 gateway\ ,O=M\C3\BCller\, S\C3\B6hne`; got != want {
		t.Errorf("String: %s, want %s", got, want)
	}
	if got := n.Values(asn1.ObjectIdentifier{2, 5, 4, 3}); !slices.Equal(got, []string{"#1 gateway ", "in\x00ner#2"}) {
		t.Errorf("common names: %q", got)
	}
}

// What no text can hold must neither panic nor be taken for something else.
func TestDistinguishedNameWithBrokenText(t *testing.T) {
	broken := asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagUTF8String, Bytes: []byte("al\xffice")}
	n := ParseDistinguishedName(nameOf(t, cn(broken)))
	if got := n.Values(asn1.ObjectIdentifier{2, 5, 4, 3}); len(got) != 0 {
		t.Errorf("invalid UTF-8 became the names %q", got)
	}
	if got := n.Text(); !utf8.ValidString(got) || got != "CN=#0C06616CFF696365" {
		t.Errorf("Text: %q", got)
	}
}
