package verify_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"countersign/termination/tlstest"
)

// spelled is a name of one organization and one common name, as strings of this kind.
func spelled(kind int, organization, common string) []byte {
	part := func(last int, value string) []byte {
		oid := mustMarshal(asn1.ObjectIdentifier{2, 5, 4, last})
		text := mustMarshal(asn1.RawValue{Tag: kind, Bytes: []byte(value)})
		one := mustMarshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: append(oid, text...)})
		return mustMarshal(asn1.RawValue{Tag: 17, IsCompound: true, Bytes: one})
	}
	body := part(10, organization)
	if common != "" {
		body = append(body, part(3, common)...)
	}
	return mustMarshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: body})
}

func mustMarshal(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// directorySubtree limits directory names: 0 permits the organization, 1 excludes it.
func directorySubtree(list int, critical bool, organization string) tlstest.Option {
	base := mustMarshal(asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: spelled(19, organization, "")})
	tree := mustMarshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: base})
	part := mustMarshal(asn1.RawValue{Class: 2, Tag: list, IsCompound: true, Bytes: tree})
	return tlstest.Extension(asn1.ObjectIdentifier{2, 5, 29, 30}, critical, mustMarshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: part}))
}

// directoryChanges are those that concern names: how they are spelled, and what limits them.
func directoryChanges(ca func(*draft) int) []change {
	limit := func(list int, critical bool, organization string) func(*draft) {
		return func(d *draft) { d.set(ca(d), directorySubtree(list, critical, organization)) }
	}
	respell := func(kind int, organization, name string) func(*draft) {
		return func(d *draft) {
			d.after = append(d.after, func(c *compared, certs []*tlstest.Cert) {
				subject := spelled(kind, organization, fmt.Sprintf(name, 0))
				c.anchors = []*tlstest.Cert{tlstest.NewCA(tlstest.RawSubject(subject), years, tlstest.WithKey(certs[0].Key), tlstest.SubjectKeyID(certs[0].X509.SubjectKeyId))}
			})
		}
	}
	return []change{
		{"directory name permitted", limit(0, true, "ACME")},
		{"directory name not permitted", limit(0, true, "Other")},
		{"directory name excluded", limit(1, true, "acme ")},
		{"directory name not excluded", limit(1, true, "Acme Corp")},
		{"directory name not permitted, not critical", limit(0, false, "Other")},
		{"directory name excluded, not critical", limit(1, false, "Acme")},
		{"anchor in other letters", respell(12, "ACME", "level %d")},
		{"anchor with more spaces", respell(19, " Acme", "Level  %d ")},
		{"anchor in another kind of string", respell(12, "Acme", "Level %d")},
		{"anchor of another name", respell(12, "Acme", "Level%d")},
		{"no subject", func(d *draft) { d.set(d.leaf(), tlstest.Subject(pkix.Name{})) }},
	}
}
