package verify

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign/termination"
)

const (
	minRSABits = 2048
	maxRSABits = 8192 // as crypto/tls has it: a signature check under a larger key costs too much

	nameLimitDetail = "A CA above it may not sign it: "
)

// inspection collects what is wrong, and what is only worth knowing, about a presented chain.
type inspection struct {
	presented []*x509.Certificate
	now       time.Time
	hygiene   termination.Hygiene
	checks    []termination.Check
}

func (in *inspection) fail(r termination.Reason, c *x509.Certificate, format string, args ...any) {
	in.add(r, c, false, format, args...)
}

func (in *inspection) note(r termination.Reason, c *x509.Certificate, format string, args ...any) {
	in.add(r, c, true, format, args...)
}

// level adds what is a matter of hygiene, as the policy says: a failure, a note, or nothing.
func (in *inspection) level(l termination.Level, r termination.Reason, c *x509.Certificate, format string, args ...any) {
	switch l {
	case termination.LevelOff:
	case termination.LevelWarn:
		in.note(r, c, format, args...)
	default:
		in.fail(r, c, format, args...)
	}
}

func (in *inspection) add(r termination.Reason, c *x509.Certificate, note bool, format string, args ...any) {
	check := termination.Check{Reason: r, Certificate: -1, Detail: fmt.Sprintf(format, args...), Note: note}
	if c != nil {
		check.Fingerprint = termination.FingerprintOf(c)
		check.Certificate = slices.IndexFunc(in.presented, c.Equal)
	}
	in.checks = append(in.checks, check)
}

// it names a certificate as the subject of a sentence; the leaf is what all sentences are about.
func (in *inspection) it(c *x509.Certificate) string {
	if c == in.presented[0] {
		return "It"
	}
	return "The CA certificate " + certName(c)
}

func (in *inspection) whose(c *x509.Certificate, part string) string {
	if c == in.presented[0] {
		return "Its " + part
	}
	return "The " + part + " of " + certName(c)
}

func (in *inspection) failed() bool { return failures(in.checks) > 0 }

func failures(checks []termination.Check) int {
	n := 0
	for _, c := range checks {
		if !c.Note {
			n++
		}
	}
	return n
}

// leaf checks what the leaf says about itself. It holds for a pinned leaf as well: a pin stands in for the issuer and
// for whatever the issuer says, not for the certificate's own dates and purpose. So a pinned certificate that has
// ended is refused, as any other is.
func (in *inspection) leaf(leaf *x509.Certificate) {
	in.dates(leaf, true)
	in.usage(leaf, true)
	in.renewal(leaf)
	in.key(leaf)
	in.extensions(leaf)
	if leaf.Version < 3 {
		in.level(in.hygiene.MissingUsage, termination.ReasonCertUse, leaf, "It is an X.509 version %d certificate, which can say nothing about its use%s.", leaf.Version, accepted(in.hygiene.MissingUsage))
	} else if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		in.level(in.hygiene.MissingUsage, termination.ReasonCertUse, leaf, "It has no extended key usage, so it may be used for anything%s.", accepted(in.hygiene.MissingUsage))
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		in.level(in.hygiene.KeyUsage, termination.ReasonCertUse, leaf, "Its key usage is %s, without digitalSignature, which a TLS client needs (RFC 5280, section 4.2.1.3).", keyUsages(leaf.KeyUsage))
	}
	if len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.IPAddresses)+len(leaf.URIs) == 0 {
		in.level(in.hygiene.MissingSAN, termination.ReasonCertNameLimits, leaf, "It has no subject alternative name, only a common name%s.", accepted(in.hygiene.MissingSAN))
	}
}

func accepted(l termination.Level) string {
	if l == termination.LevelWarn {
		return "; accepted"
	}
	return "; this policy asks for one"
}

// chain checks what the issuers add, from the leaf to the anchor. Some of it crypto/x509 has checked as well when the
// chain comes from there: asking twice costs nothing and names the certificate.
func (in *inspection) chain(path []*x509.Certificate, depth int) {
	leaf := path[0]
	if leaf.BasicConstraintsValid && leaf.IsCA {
		in.level(in.hygiene.CALeaf, termination.ReasonCertUse, leaf, "It is a CA certificate (CA:TRUE): it could issue further clients. A client needs a certificate of its own.")
	}
	for i, c := range path {
		anchor := i > 0 && i == len(path)-1
		if i > 0 {
			in.dates(c, false)
			in.usage(c, false)
			in.key(c)
			in.extensions(c)
			in.issuer(c, i-1)
		}
		if !anchor { // nobody relies on the signature of what is trusted by itself
			in.signature(c)
		}
	}
	if above := len(path) - 1; above > depth {
		in.fail(termination.ReasonChainTooDeep, leaf, "%s stand above it, and this policy allows %d.", count(above, "CA certificate"), depth)
	}
	in.limits(path)
	in.directories(path)
	in.hosts(path)
}

func (in *inspection) dates(c *x509.Certificate, leaf bool) {
	// Both ends are included (RFC 5280, section 4.1.2.5), and compared as crypto/x509 does.
	switch {
	case in.now.Before(c.NotBefore) && leaf:
		in.fail(termination.ReasonCertEarly, c, "It becomes valid in %s, on %s.", span(c.NotBefore.Sub(in.now)), stamp(c.NotBefore))
	case in.now.Before(c.NotBefore):
		in.fail(termination.ReasonCertEarly, c, "The CA certificate %s becomes valid in %s, on %s.", certName(c), span(c.NotBefore.Sub(in.now)), stamp(c.NotBefore))
	case in.now.After(c.NotAfter) && leaf:
		in.fail(termination.ReasonCertExpired, c, "It ended %s ago, on %s.", span(in.now.Sub(c.NotAfter)), stamp(c.NotAfter))
	case in.now.After(c.NotAfter):
		in.fail(termination.ReasonCAExpired, c, "The CA certificate %s ended %s ago, on %s.", certName(c), span(in.now.Sub(c.NotAfter)), stamp(c.NotAfter))
	}
}

// usage refuses an extended key usage that leaves clients out. On a CA it limits everything below, by common practice
// (RFC 5280, section 4.2.1.12, speaks of the certified key alone).
func (in *inspection) usage(c *x509.Certificate, leaf bool) {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return
	}
	if slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return
	}
	if leaf {
		in.level(in.hygiene.Usage, termination.ReasonCertUse, c, "Its extended key usage is %s, without clientAuth.", extKeyUsages(c))
		return
	}
	in.level(in.hygiene.Usage, termination.ReasonCertUse, c, "The CA certificate %s limits what is below it to %s, without clientAuth.", certName(c), extKeyUsages(c))
}

// key refuses keys that are too short to prove anything, or of a kind that TLS here does not know.
func (in *inspection) key(c *x509.Certificate) {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits {
			in.level(in.hygiene.WeakKey, termination.ReasonCertWeak, c, "%s is RSA with %d bits; at least %d are needed.", in.whose(c, "key"), bits, minRSABits)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		in.fail(termination.ReasonCertWeak, c, "%s is of a kind that cannot be used here (%s).", in.whose(c, "key"), c.PublicKeyAlgorithm)
	}
}

func (in *inspection) signature(c *x509.Certificate) {
	switch c.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		in.level(in.hygiene.WeakSignature, termination.ReasonCertWeak, c, "%s is by %s, which can be forged.", in.whose(c, "signature"), c.SignatureAlgorithm)
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.DSAWithSHA1:
		in.fail(termination.ReasonCertWeak, c, "%s is by %s, which can be forged.", in.whose(c, "signature"), c.SignatureAlgorithm)
	case x509.UnknownSignatureAlgorithm, x509.DSAWithSHA256:
		in.fail(termination.ReasonCertWeak, c, "%s is by an algorithm that cannot be checked here.", in.whose(c, "signature"))
	}
}

func (in *inspection) extensions(c *x509.Certificate) {
	for i, id := range c.UnhandledCriticalExtensions {
		if i == 4 {
			in.fail(termination.ReasonCertExtension, c, "%s has %d more such extensions.", in.it(c), len(c.UnhandledCriticalExtensions)-i)
			return
		}
		if understood(c, id) {
			continue
		}
		in.fail(termination.ReasonCertExtension, c, "%s has the extension %s, which says that it must be understood, and nobody here does.", in.it(c), visible(id.String(), maxNameText))
	}
}

// issuer checks the rights of a CA certificate with below CA certificates between it and the leaf.
func (in *inspection) issuer(c *x509.Certificate, below int) {
	switch {
	case !c.BasicConstraintsValid:
		in.fail(termination.ReasonIssuerNotCA, c, "%s signed, but does not say that it is a CA (no basic constraints).", certName(c))
	case !c.IsCA:
		in.fail(termination.ReasonIssuerNotCA, c, "%s signed, but its basic constraints say CA:FALSE.", certName(c))
	case c.MaxPathLen >= 0 && below > c.MaxPathLen:
		in.fail(termination.ReasonChainTooDeep, c, "%s allows %s below it, and there are %d.", certName(c), count(c.MaxPathLen, "further CA"), below)
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		in.fail(termination.ReasonIssuerNotCA, c, "%s signed, but its key usage is %s, without keyCertSign.", certName(c), keyUsages(c.KeyUsage))
	}
}

// unexplained records why crypto/x509 refused where the inspection saw nothing wrong: what is not understood is refused.
func (in *inspection) unexplained(leaf *x509.Certificate, err error) {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid):
		in.limit(leaf, invalid)
	case errors.As(err, &unknown) && selfSigned(leaf):
		in.fail(termination.ReasonCertSelf, leaf, "It has the name and the key of its issuer: it signed itself.")
	case errors.As(err, &unknown):
		in.fail(termination.ReasonCAUnknown, leaf, "No chain leads from it to an authority of this policy.")
	}
	if !in.failed() {
		in.fail(termination.ReasonCertMalformed, leaf, "It does not verify: %s.", visible(err.Error(), maxDetailText))
	}
}

func keyUsages(u x509.KeyUsage) string {
	var names []string
	for i, name := range []string{
		"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign",
		"cRLSign", "encipherOnly", "decipherOnly",
	} {
		if u&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return list(names, len(names))
}

func extKeyUsages(c *x509.Certificate) string {
	known := map[x509.ExtKeyUsage]string{
		x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageCodeSigning: "codeSigning",
		x509.ExtKeyUsageEmailProtection: "emailProtection", x509.ExtKeyUsageTimeStamping: "timeStamping",
		x509.ExtKeyUsageOCSPSigning: "OCSPSigning", x509.ExtKeyUsageIPSECEndSystem: "ipsecEndSystem",
		x509.ExtKeyUsageIPSECTunnel: "ipsecTunnel", x509.ExtKeyUsageIPSECUser: "ipsecUser",
	}
	var names []string
	for _, u := range c.ExtKeyUsage {
		if name := known[u]; name != "" {
			names = append(names, name)
		} else {
			names = append(names, "an uncommon usage")
		}
	}
	for _, id := range c.UnknownExtKeyUsage {
		names = append(names, visible(id.String(), maxNameText))
	}
	return list(names, 6)
}
