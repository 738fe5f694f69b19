package verify

import (
	"encoding/binary"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// dn is a distinguished name made ready to compare as RFC 5280, section 7.1, asks: one text for each relative name, in
// which the kind of string, the case of letters and the number of spaces make no difference. crypto/x509 compares bytes,
// so that a CA which was written anew with another kind of string does not stand above its own clients there.
type dn []string

// parseDN reads a Name (RFC 5280, section 4.1.2.4). It fails on what is none; then only its bytes can be compared.
func parseDN(raw []byte) (dn, bool) {
	input := cryptobyte.String(raw)
	var names cryptobyte.String
	if !input.ReadASN1(&names, asn1.SEQUENCE) || !input.Empty() {
		return nil, false
	}
	return parseRDNs(names)
}

func parseRDNs(names cryptobyte.String) (dn, bool) {
	out := dn{}
	for !names.Empty() {
		var set cryptobyte.String
		if !names.ReadASN1(&set, asn1.SET) || set.Empty() {
			return nil, false
		}
		var attributes []string
		for !set.Empty() {
			var attribute, kind, value cryptobyte.String
			var tag asn1.Tag
			if !set.ReadASN1(&attribute, asn1.SEQUENCE) || !attribute.ReadASN1(&kind, asn1.OBJECT_IDENTIFIER) ||
				!attribute.ReadAnyASN1(&value, &tag) || !attribute.Empty() {
				return nil, false
			}
			attributes = append(attributes, sized(string(kind))+sized(attributeValue(tag, value)))
		}
		slices.Sort(attributes) // a set: the order says nothing
		out = append(out, strings.Join(attributes, ""))
	}
	return out, true
}

// sized puts a text behind its length, so that no two lists of texts join to the same.
func sized(s string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s //nolint:gosec // part of a certificate
}

// attributeValue is the value of an attribute to compare: of a string, its text alone; else kind and bytes.
func attributeValue(tag asn1.Tag, value []byte) string {
	if s, ok := decoded(tag, value); ok {
		return "s" + folded(s)
	}
	return "b" + string([]byte{byte(tag)}) + string(value)
}

// decoded reads the string kinds that a DirectoryString may have, and IA5String, in which domain components and e-mail
// addresses stand.
func decoded(tag asn1.Tag, value []byte) (string, bool) {
	switch tag {
	case asn1.UTF8String, asn1.PrintableString, asn1.IA5String, asn1.Tag(26): // and VisibleString
		return string(value), utf8.Valid(value)
	case asn1.T61String: // read as Latin-1, as everybody does
		runes := make([]rune, len(value))
		for i, b := range value {
			runes[i] = rune(b)
		}
		return string(runes), true
	case asn1.Tag(30): // BMPString
		if len(value)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(value)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(value[2*i:])
		}
		return string(utf16.Decode(units)), true
	case asn1.Tag(28): // UniversalString
		if len(value)%4 != 0 {
			return "", false
		}
		runes := make([]rune, len(value)/4)
		for i := range runes {
			runes[i] = rune(binary.BigEndian.Uint32(value[4*i:])) //nolint:gosec // what is no character becomes U+FFFD
			if !utf8.ValidRune(runes[i]) {
				return "", false
			}
		}
		return string(runes), true
	default:
		return "", false
	}
}

// folded ignores case, spaces at both ends, and how many there are between two words.
func folded(s string) string {
	return strings.Join(strings.FieldsFunc(strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s), func(r rune) bool {
		return r == ' ' || r >= '\t' && r <= '\r'
	}), " ")
}

// nameKey is a distinguished name as the key of a map.
func nameKey(raw []byte) string {
	name, ok := parseDN(raw)
	if !ok {
		return "raw:" + string(raw)
	}
	var b strings.Builder
	b.WriteString("dn:")
	for _, part := range name {
		b.WriteString(sized(part))
	}
	return b.String()
}

// within reports whether a name stands in the subtree of base: base is how it begins (RFC 5280, section 4.2.1.10).
func (n dn) within(base dn) bool {
	return len(base) <= len(n) && slices.Equal(n[:len(base)], base)
}
