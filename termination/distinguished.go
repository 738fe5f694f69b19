package termination

import (
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// tagTeletex is the tag of TeletexString (X.680), for which encoding/asn1 has no name.
const tagTeletex = 20

// shortName gives the name that OpenSSL, and so nginx, prints for an attribute of a distinguished name.
func shortName(id asn1.ObjectIdentifier) (string, bool) {
	switch id.String() {
	case "2.5.4.3":
		return "CN", true
	case "2.5.4.4":
		return "SN", true
	case "2.5.4.5":
		return "serialNumber", true
	case "2.5.4.6":
		return "C", true
	case "2.5.4.7":
		return "L", true
	case "2.5.4.8":
		return "ST", true
	case "2.5.4.9":
		return "street", true
	case "2.5.4.10":
		return "O", true
	case "2.5.4.11":
		return "OU", true
	case "2.5.4.12":
		return "title", true
	case "2.5.4.13":
		return "description", true
	case "2.5.4.15":
		return "businessCategory", true
	case "2.5.4.17":
		return "postalCode", true
	case "2.5.4.41":
		return "name", true
	case "2.5.4.42":
		return "GN", true
	case "2.5.4.43":
		return "initials", true
	case "2.5.4.44":
		return "generationQualifier", true
	case "2.5.4.46":
		return "dnQualifier", true
	case "2.5.4.65":
		return "pseudonym", true
	case "2.5.4.97":
		return "organizationIdentifier", true
	case "1.2.840.113549.1.9.1":
		return "emailAddress", true
	case "0.9.2342.19200300.100.1.1":
		return "UID", true
	case "0.9.2342.19200300.100.1.25":
		return "DC", true
	}
	return "", false
}

// rdnSET is RelativeDistinguishedName; encoding/asn1 knows by the end of the name that it is a SET.
type rdnSET []attribute

// DistinguishedName is a Name (RFC 5280, section 4.1.2.4), such as the subject of a certificate. Unlike pkix.Name it keeps
// the order of its attributes, and which of them stand together.
type DistinguishedName []rdnSET

// ParseDistinguishedName reads a name from its DER; what cannot be read is an empty name.
func ParseDistinguishedName(der []byte) DistinguishedName {
	var n DistinguishedName
	if rest, err := asn1.Unmarshal(der, &n); err != nil || len(rest) > 0 {
		return nil
	}
	return n
}

// String prints the name as nginx does in $ssl_client_s_dn: RFC 2253, the last attribute first, in printable ASCII only.
func (n DistinguishedName) String() string { return n.print(escapeValue) }

// Text prints the name as String does, but leaves printable characters beyond ASCII as they are, as people write them
// (RFC 4514, section 2.4).
func (n DistinguishedName) Text() string { return n.print(escapeText) }

func (n DistinguishedName) print(escape func(string) string) string {
	var out strings.Builder
	for i := len(n) - 1; i >= 0; i-- {
		for j := len(n[i]) - 1; j >= 0; j-- {
			if out.Len() > 0 {
				out.WriteByte(separator(j == len(n[i])-1))
			}
			out.WriteString(n[i][j].name())
			out.WriteByte('=')
			out.WriteString(n[i][j].value(escape))
		}
	}
	return out.String()
}

func separator(newSet bool) byte {
	if newSet {
		return ','
	}
	return '+'
}

// CommonName returns the most specific common name, as it stands in String.
func (n DistinguishedName) CommonName() string {
	for i := len(n) - 1; i >= 0; i-- {
		for j := len(n[i]) - 1; j >= 0; j-- {
			if n[i][j].name() == "CN" {
				return n[i][j].value(escapeValue)
			}
		}
	}
	return ""
}

// Values returns the values of an attribute that are texts, in the order of the certificate. One that no text could hold,
// such as an invalid UTF-8 string, is left out.
func (n DistinguishedName) Values(id asn1.ObjectIdentifier) []string {
	var out []string
	for _, set := range n {
		for _, a := range set {
			if text, ok := a.text(); ok && a.Type.Equal(id) {
				out = append(out, text)
			}
		}
	}
	return out
}

// attribute is AttributeTypeAndValue (RFC 5280, section 4.1.2.4).
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

func (a attribute) name() string {
	if n, ok := shortName(a.Type); ok {
		return n
	}
	return a.Type.String()
}

// value prints the value as text, or as "#" and its DER in hex where the attribute or the string type is not known
// (RFC 2253, section 2.4).
func (a attribute) value(escape func(string) string) string {
	text, ok := a.text()
	if _, known := shortName(a.Type); !ok || !known {
		return "#" + strings.ToUpper(hex.EncodeToString(a.Value.FullBytes))
	}
	return escape(text)
}

// text decodes the string types that crypto/x509 takes to UTF-8.
func (a attribute) text() (string, bool) {
	if a.Value.Class != asn1.ClassUniversal || a.Value.IsCompound {
		return "", false
	}
	b := a.Value.Bytes
	switch a.Value.Tag {
	case asn1.TagUTF8String:
		return string(b), utf8.Valid(b)
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, tagTeletex:
		latin := make([]rune, len(b)) // OpenSSL takes them as Latin-1
		for i, c := range b {
			latin[i] = rune(c)
		}
		return string(latin), true
	case asn1.TagBMPString:
		if len(b)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// escapeValue escapes a value after RFC 2253, section 2.4, and beyond it every byte that is no printable ASCII, as nginx
// does. So no value, however hostile, ends a header or looks like another attribute.
func escapeValue(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c < 0x20 || c >= 0x7f:
			out.WriteByte('\\')
			out.WriteByte(hexDigits[c>>4])
			out.WriteByte(hexDigits[c&15])
		case strings.IndexByte(`,+"\<>;`, c) >= 0,
			c == '#' && i == 0,
			c == ' ' && (i == 0 || i == len(s)-1):
			out.WriteByte('\\')
			out.WriteByte(c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// escapeText escapes a value after RFC 2253, section 2.4, and beyond it what no screen shows.
func escapeText(s string) string {
	var out strings.Builder
	for i, r := range s {
		if r < utf8.RuneSelf || !unicode.IsPrint(r) {
			part := escapeValue(s[i : i+utf8.RuneLen(r)])
			// Only the ends of the whole value are special, which escapeValue cannot know of a part.
			if inner := i > 0 && i+1 < len(s); r == ' ' && inner || r == '#' && i > 0 {
				part = string(r)
			}
			out.WriteString(part)
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}
