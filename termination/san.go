package termination

import (
	"crypto/x509"
	"encoding/asn1"
)

// URIsOf returns the URIs of a certificate's subject alternative name as they stand there. Those of crypto/x509 have been
// parsed, and printed again not all of them are what they were: an empty fragment is lost, for one.
func URIsOf(c *x509.Certificate) []string {
	if len(c.URIs) == 0 {
		return nil
	}
	var out []string
	for _, e := range c.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return nil
		}
		for _, n := range names {
			if n.Class == asn1.ClassContextSpecific && n.Tag == 6 { // uniformResourceIdentifier (RFC 5280, section 4.2.1.6)
				out = append(out, string(n.Bytes))
			}
		}
	}
	return out
}
