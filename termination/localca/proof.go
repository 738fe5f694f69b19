package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"countersign/termination"
)

// Flaw is the one thing that is wrong with a client certificate that is made to show that it is refused.
type Flaw string

// The flaws.
const (
	FlawNone    Flaw = ""          // nothing is wrong: made to show that it is let in
	FlawExpired Flaw = "expired"   // ended a minute ago
	FlawUse     Flaw = "wrong_use" // for servers alone
)

const (
	// ProofName is the common name of certificates that are made to prove a policy.
	ProofName = "countersign proof"

	proofLife = 10 * time.Minute // a proof takes seconds
)

// IssueForProof issues a client certificate to prove a policy with. It lives for minutes; neither it nor its key is
// meant to be kept anywhere.
func IssueForProof(ca *termination.LocalCA, flaw Flaw, now time.Time) (*Issued, error) {
	parent := ca.Certificate
	if now.Before(parent.NotBefore) || !now.Before(parent.NotAfter) {
		return nil, fmt.Errorf("issue a certificate for a proof: %w: %s", ErrEnded, ca.Name)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for a proof: make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: ProofName}, BasicConstraintsValid: true,
		NotBefore: later(now.Add(-skew), parent.NotBefore), NotAfter: earlier(now.Add(proofLife), parent.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	switch flaw {
	case FlawNone:
	case FlawExpired:
		template.NotBefore, template.NotAfter = now.Add(-2*skew), now.Add(-time.Minute)
	case FlawUse:
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	default:
		return nil, fmt.Errorf("issue a certificate for a proof: the flaw %q is unknown", flaw)
	}
	if template.SubjectKeyId, err = keyID(key.Public()); err != nil {
		return nil, fmt.Errorf("issue a certificate for a proof: %w", err)
	}
	cert, err := sign(template, parent, key.Public(), ca.Key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for a proof: %w", err)
	}
	if flaw == FlawNone {
		if err := checkUsable(cert, parent, now); err != nil {
			return nil, fmt.Errorf("issue a certificate for a proof: %w", err)
		}
	}
	return &Issued{Chain: []*x509.Certificate{cert}, Key: key, CA: parent}, nil
}
