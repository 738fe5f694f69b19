package termination

import (
	"crypto/x509/pkix"
	"strings"
)

// The bounds of a name as text: more than any honest one has, and less than it costs anything to print.
const (
	maxNameAttributes = 64
	maxAttributeText  = 1 << 10 // bytes
)

// NameText is the String of a name from a certificate or a list, which is a stranger's. pkix copies what it has so far for
// each attribute, so that a client could keep a processor busy for many seconds with a name of some thousand: of such a one
// the first attributes stand there, and an ellipsis.
func NameText(n pkix.Name) string {
	long := len(n.Names) > maxNameAttributes
	for i := 0; i < len(n.Names) && !long; i++ {
		text, ok := n.Names[i].Value.(string)
		long = ok && len(text) > maxAttributeText
	}
	if !long {
		return n.String()
	}
	var first pkix.RDNSequence
	for _, a := range n.Names[:min(len(n.Names), maxNameAttributes)] {
		if text, ok := a.Value.(string); ok && len(text) > maxAttributeText {
			a.Value = strings.ToValidUTF8(text[:maxAttributeText], "") + "…"
		}
		first = append(first, pkix.RelativeDistinguishedNameSET{a})
	}
	var cut pkix.Name
	cut.FillFromRDNSequence(&first)
	if len(n.Names) <= maxNameAttributes {
		return cut.String()
	}
	return cut.String() + ",…"
}
