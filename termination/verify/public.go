package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"countersign/termination"
)

// publicRenewal is what becomes of client certificates from public CAs. Chrome's root programme lets them issue for
// servers alone; the dates are those that the CAs themselves have published.
const publicRenewal = "Public CAs stop issuing for clients (Let's Encrypt did on 8 July 2026, DigiCert does on 1 March 2027)"

// FromPublicCA reports whether a certificate says that it was issued under the rules of the CA/Browser Forum, as those of
// all CAs that browsers trust do (Baseline Requirements, section 7.1.6.1; EV Guidelines, section 9.7).
func FromPublicCA(c *x509.Certificate) bool {
	forum := []asn1.ObjectIdentifier{
		{2, 23, 140, 1, 1},    // extended validation
		{2, 23, 140, 1, 2, 1}, // domain validated
		{2, 23, 140, 1, 2, 2}, // organization validated
		{2, 23, 140, 1, 2, 3}, // individual validated
	}
	return c != nil && slices.ContainsFunc(c.PolicyIdentifiers, func(id asn1.ObjectIdentifier) bool {
		return slices.ContainsFunc(forum, id.Equal)
	})
}

// renewal notes a certificate that passes today and whose successor will not.
func (in *inspection) renewal(leaf *x509.Certificate) {
	if in.hygiene.Usage == termination.LevelRefuse && slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && FromPublicCA(leaf) {
		in.note(termination.ReasonCertUse, leaf, "It comes from a public CA. %s: after its next renewal it would be refused here.", publicRenewal)
	}
}
