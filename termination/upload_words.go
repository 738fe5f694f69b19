package termination

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// describeCertificate says what a certificate is, as far as that does not depend on the time or on what is known.
func describeCertificate(c *x509.Certificate, line int) UploadItem {
	i := UploadItem{Line: line, Title: certificateTitle(c), Certificate: c, Fingerprint: FingerprintOf(c), Kind: certificateKind(c)}
	dates := fmt.Sprintf("Good from %s to %s.", inDays(c.NotBefore), inDays(c.NotAfter))
	switch i.Kind {
	case UploadRoot:
		i.Message = "A root: it signs itself. " + dates
	case UploadIntermediate:
		i.Message = fmt.Sprintf("An intermediate CA, signed by %s. %s", issuerTitle(c), dates)
	case UploadUnproven:
		if c.Version < 3 {
			i.Message = "Its format is X.509 version 1, which cannot say whether it is a CA. " + dates
		} else {
			i.Message = "It has no basicConstraints, so it cannot prove that it is a CA. " + dates
		}
	default:
		i.Message = fmt.Sprintf("%s, not a CA: it has no right to sign others. %s", leafInWords(c), dates)
	}
	i.warnStrength()
	if i.Kind.IsCA() && limited(c) {
		i.warn(WarnConstrained, false, "It may sign some names only (name constraints). Clients with other names fail.")
	}
	return i
}

// certificateKind tells CAs, leaves and what cannot prove what it is apart (RFC 5280, section 4.2.1.9).
func certificateKind(c *x509.Certificate) UploadKind {
	switch {
	case c.BasicConstraintsValid && c.IsCA && signsItself(c):
		return UploadRoot
	case c.BasicConstraintsValid && c.IsCA:
		return UploadIntermediate
	case c.BasicConstraintsValid:
		return UploadLeaf
	case c.Version < 3 || c.KeyUsage&x509.KeyUsageCertSign != 0:
		return UploadUnproven
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 || hasNames(c):
		return UploadLeaf
	case signsItself(c):
		return UploadUnproven
	default:
		return UploadLeaf
	}
}

func hasNames(c *x509.Certificate) bool {
	return len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) > 0
}

// signsItself reports whether the certificate's issuer is itself, by name and by signature. Where the signature's
// algorithm is too old to be checked, the key identifiers decide: a root's signature over itself proves nothing anyhow.
func signsItself(c *x509.Certificate) bool {
	if !bytes.Equal(c.RawSubject, c.RawIssuer) {
		return false
	}
	if weakSignature(c.SignatureAlgorithm) || c.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		return len(c.AuthorityKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId)
	}
	return c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return true
	default:
		return false
	}
}

func limited(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// minRSABits is the shortest RSA key that verification accepts.
const minRSABits = 2048

func (i *UploadItem) warnStrength() {
	c := i.Certificate
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
		i.warn(WarnWeakKey, true, "Its RSA key has %d bits, fewer than the %d that are needed: certificates that depend on it are refused. Issue it again with a longer key.", key.N.BitLen(), minRSABits)
	}
	// A root is trusted for being uploaded: its own signature is never checked.
	if i.Kind != UploadRoot && weakSignature(c.SignatureAlgorithm) {
		i.warn(WarnWeakSignature, true, "It is signed with %s, which can be forged: certificates that depend on it are refused. Have it signed again.", c.SignatureAlgorithm)
	}
}

// leafInWords says for whom a leaf was made, by its extended key usage.
func leafInWords(c *x509.Certificate) string {
	var server, client, mail, code bool
	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			server = true
		case x509.ExtKeyUsageClientAuth:
			client = true
		case x509.ExtKeyUsageEmailProtection:
			mail = true
		case x509.ExtKeyUsageCodeSigning:
			code = true
		}
	}
	switch {
	case server && client:
		return "A certificate for servers and clients"
	case server:
		return "A server certificate"
	case client:
		return "A client certificate"
	case mail:
		return "A certificate for e-mail"
	case code:
		return "A certificate for signing code"
	case signsItself(c):
		return "A certificate that signed itself"
	default:
		return "A server or client certificate"
	}
}

// certificateTitle returns the name by which a person knows the certificate, safe to show: the common name, else an
// organisation, else a subject alternative name, else the serial number.
func certificateTitle(c *x509.Certificate) string {
	candidates := []string{c.Subject.CommonName}
	candidates = append(candidates, c.Subject.OrganizationalUnit...)
	candidates = append(candidates, c.Subject.Organization...)
	candidates = append(candidates, c.DNSNames...)
	candidates = append(candidates, c.EmailAddresses...)
	for _, u := range c.URIs {
		candidates = append(candidates, u.String())
	}
	for _, ip := range c.IPAddresses {
		candidates = append(candidates, ip.String())
	}
	for _, s := range candidates {
		if s = printable(s, 64); s != "" {
			return s
		}
	}
	return "serial " + printable(c.SerialNumber.Text(16), 40)
}

func issuerTitle(c *x509.Certificate) string {
	candidates := []string{c.Issuer.CommonName}
	candidates = append(candidates, c.Issuer.OrganizationalUnit...)
	candidates = append(candidates, c.Issuer.Organization...)
	for _, s := range candidates {
		if s = printable(s, 64); s != "" {
			return s
		}
	}
	return "a CA without a name"
}

// printable makes hostile text safe to show in one line: control and format characters, which turn text around or hide
// it, become U+FFFD, and what is longer than limit runes is cut.
func printable(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range strings.TrimSpace(s) {
		if n == limit {
			b.WriteRune('…')
			break
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// inDays writes a date as the pages do.
func inDays(t time.Time) string { return t.UTC().Format("2 Jan 2006") }

// KeyName says what kind of key this is: "ECDSA P-256", "RSA 2048", "Ed25519".
func KeyName(public any) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	default:
		return "unknown"
	}
}

// UsageNames lists what a certificate may be used for, by the names that openssl and RFC 5280 use: key usages first,
// then extended ones. A usage without a name is given as its object identifier.
func UsageNames(c *x509.Certificate) []string {
	var out []string
	for _, u := range []struct {
		bit  x509.KeyUsage
		name string
	}{
		{x509.KeyUsageDigitalSignature, "digitalSignature"},
		{x509.KeyUsageContentCommitment, "nonRepudiation"},
		{x509.KeyUsageKeyEncipherment, "keyEncipherment"},
		{x509.KeyUsageDataEncipherment, "dataEncipherment"},
		{x509.KeyUsageKeyAgreement, "keyAgreement"},
		{x509.KeyUsageCertSign, "keyCertSign"},
		{x509.KeyUsageCRLSign, "cRLSign"},
		{x509.KeyUsageEncipherOnly, "encipherOnly"},
		{x509.KeyUsageDecipherOnly, "decipherOnly"},
	} {
		if c.KeyUsage&u.bit != 0 {
			out = append(out, u.name)
		}
	}
	names := map[x509.ExtKeyUsage]string{
		x509.ExtKeyUsageAny:             "any",
		x509.ExtKeyUsageServerAuth:      "serverAuth",
		x509.ExtKeyUsageClientAuth:      "clientAuth",
		x509.ExtKeyUsageCodeSigning:     "codeSigning",
		x509.ExtKeyUsageEmailProtection: "emailProtection",
		x509.ExtKeyUsageTimeStamping:    "timeStamping",
		x509.ExtKeyUsageOCSPSigning:     "OCSPSigning",
	}
	for _, u := range c.ExtKeyUsage {
		if name := names[u]; name != "" {
			out = append(out, name)
		} else {
			out = append(out, u.String())
		}
	}
	for _, id := range c.UnknownExtKeyUsage {
		out = append(out, id.String())
	}
	return out
}
