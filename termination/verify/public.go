package verify

import (
	"crypto/x509"
	"slices"

	"countersign/termination"
)

// publicRenewal is what becomes of client certificates from public CAs. Chrome's root programme lets them issue for
// servers alone; the dates are those that the CAs themselves have published.
const publicRenewal = "Public CAs stop issuing for clients (Let's Encrypt did on 8 July 2026, DigiCert does on 1 March 2027)"

// renewal notes a certificate that passes today and whose successor will not.
func (in *inspection) renewal(leaf *x509.Certificate) {
	if in.hygiene.Usage == termination.LevelRefuse && slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && termination.SaysPublicCA(leaf) {
		in.note(termination.ReasonCertUse, leaf, "It comes from a public CA. %s: after its next renewal it would be refused here.", publicRenewal)
	}
}
