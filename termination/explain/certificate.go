package explain

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/termination"
)

// readCertificate explains a certificate: in words first, then every fault, then its fields.
func readCertificate(i *termination.UploadItem, now time.Time) Finding {
	c := i.Certificate
	f := Finding{
		Kind: KindCertificate, Title: inWords(i, now), Text: i.Message, Fingerprint: i.Fingerprint, Certificate: c,
		Command: "openssl x509 -in FILE -noout -text -fingerprint -sha256", Filter: "fp:" + i.Fingerprint.String(),
	}
	for _, w := range i.Warnings {
		if w.Strong {
			f.Faults = append(f.Faults, w.Text)
		} else {
			f.Notes = append(f.Notes, w.Text)
		}
	}
	switch {
	case now.After(c.NotAfter):
		f.Faults = append(f.Faults, "It ended on "+moment(c.NotAfter)+".")
	case now.Before(c.NotBefore):
		f.Faults = append(f.Faults, "It is not valid before "+moment(c.NotBefore)+".")
	}
	if i.Kind == termination.UploadLeaf {
		if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
			f.Notes = append(f.Notes, "It may not act as a client: its extendedKeyUsage lacks clientAuth.")
		}
		if len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) == 0 {
			f.Notes = append(f.Notes, "It has no subject alternative names: as a server's certificate no current client accepts it.")
		}
	}
	for _, id := range c.UnhandledCriticalExtensions {
		f.Faults = append(f.Faults, "Its extension "+id.String()+" is critical and not understood here, so it is refused.")
	}
	f.Groups = groups(c)
	return f
}

// inWords is the sentence that stands above everything else.
func inWords(i *termination.UploadItem, now time.Time) string {
	c := i.Certificate
	what := map[termination.UploadKind]string{termination.UploadRoot: "A root CA", termination.UploadIntermediate: "An intermediate CA", termination.UploadUnproven: "A certificate that does not say whether it is a CA"}[i.Kind]
	if what == "" {
		what, _, _ = strings.Cut(i.Message, ",")
	}
	title := strings.TrimSpace(i.Title)
	span := "good for " + days(c.NotAfter.Sub(c.NotBefore))
	state := "ends in " + days(c.NotAfter.Sub(now))
	switch {
	case now.After(c.NotAfter):
		state = "ended " + days(now.Sub(c.NotAfter)) + " ago"
	case now.Before(c.NotBefore):
		state = "begins in " + days(c.NotBefore.Sub(now))
	}
	by := "signed by " + issuer(c)
	if i.Kind == termination.UploadRoot || bytes.Equal(c.RawIssuer, c.RawSubject) {
		by = "signed by itself"
	}
	return fmt.Sprintf("%s for %s, %s, %s, %s with %s.", what, title, span, state, by, c.SignatureAlgorithm)
}

func days(d time.Duration) string {
	switch n := int(d.Hours() / 24); {
	case n >= 730:
		return fmt.Sprintf("%d years", n/365)
	case n == 1:
		return "1 day"
	case n > 1:
		return fmt.Sprintf("%d days", n)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
}

func moment(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04 UTC") }

func issuer(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	if s := termination.NameText(c.Issuer); s != "" {
		return s
	}
	return "a CA without a name"
}

// maxShown bounds the names and extensions that are listed.
const maxShown = 100

func groups(c *x509.Certificate) []Group {
	who := Group{Title: "Who", Note: "Clients and servers go by the alternative names; the common name is for people."}
	add := func(g *Group, name, value, note string) {
		if value != "" && len(g.Facts) < maxShown {
			g.Facts = append(g.Facts, Fact{name, value, note})
		}
	}
	add(&who, "Subject", termination.NameText(c.Subject), "")
	for _, u := range c.URIs {
		add(&who, "URI", u.String(), "")
	}
	for _, n := range c.DNSNames {
		add(&who, "DNS", n, "")
	}
	for _, n := range c.EmailAddresses {
		add(&who, "E-mail", n, "")
	}
	for _, n := range c.IPAddresses {
		add(&who, "IP", n.String(), "")
	}
	by := Group{Title: "By whom", Note: "Names prove nothing: the signature does, and only with the issuer's certificate."}
	add(&by, "Issuer", termination.NameText(c.Issuer), "")
	add(&by, "Serial", c.SerialNumber.Text(16), "unique for this issuer")
	add(&by, "Signed with", c.SignatureAlgorithm.String(), "")
	add(&by, "Issuer's key", hex.EncodeToString(c.AuthorityKeyId), "as the issuer's own certificate names it")
	when := Group{Title: "When", Note: "Judged by the clock of whoever checks it."}
	add(&when, "From", moment(c.NotBefore), "")
	add(&when, "Until", moment(c.NotAfter), "")
	what := Group{Title: "For what", Note: "Without extendedKeyUsage a certificate may be used for everything that keyUsage allows."}
	add(&what, "Key usage", strings.Join(keyUsages(c.KeyUsage), ", "), "")
	add(&what, "Extended key usage", strings.Join(extUsages(c), ", "), "")
	if c.BasicConstraintsValid {
		add(&what, "CA", map[bool]string{true: "yes", false: "no"}[c.IsCA], "basicConstraints")
	}
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		add(&what, "CAs below it", fmt.Sprint(c.MaxPathLen), "path length")
	}
	key := Group{Title: "Key", Note: "Two certificates with one key belong to one owner."}
	add(&key, "Key", keyWords(c.PublicKey, c.PublicKeyAlgorithm), "")
	add(&key, "SHA-256 of the key", termination.KeyFingerprintOf(c).String(), "for pins")
	add(&key, "SHA-256", termination.FingerprintOf(c).String(), "of the whole certificate")
	where := Group{Title: "Where to check", Note: "Nothing of it is fetched for this page."}
	for _, u := range c.CRLDistributionPoints {
		add(&where, "CRL", u, "")
	}
	for _, u := range c.OCSPServer {
		add(&where, "OCSP", u, "")
	}
	for _, u := range c.IssuingCertificateURL {
		add(&where, "Issuer's certificate", u, "")
	}
	extensions := Group{Title: "Other extensions", Note: "What has no place above, in hex as it stands in the certificate."}
	for _, x := range c.Extensions {
		if !known(x.Id) {
			note := ""
			if x.Critical {
				note = "critical"
			}
			value := hex.EncodeToString(x.Value[:min(len(x.Value), 256)])
			if len(x.Value) > 256 {
				value += "…"
			}
			add(&extensions, x.Id.String(), value, note)
		}
	}
	return slices.DeleteFunc([]Group{who, by, when, what, key, where, extensions}, func(g Group) bool { return len(g.Facts) == 0 })
}

// known reports whether an extension is shown above by what it says (RFC 5280, sections 4.2.1 and 4.2.2).
func known(id asn1.ObjectIdentifier) bool {
	s := id.String()
	return slices.Contains([]string{"2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.31", "2.5.29.35", "2.5.29.37", "1.3.6.1.5.5.7.1.1"}, s)
}

func keyWords(key any, algorithm x509.PublicKeyAlgorithm) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA, " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return algorithm.String()
}

func keyUsages(u x509.KeyUsage) []string {
	var out []string
	for i, name := range []string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"} {
		if u&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

func extUsages(c *x509.Certificate) []string {
	names := map[x509.ExtKeyUsage]string{x509.ExtKeyUsageAny: "any", x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth", x509.ExtKeyUsageCodeSigning: "codeSigning", x509.ExtKeyUsageEmailProtection: "emailProtection", x509.ExtKeyUsageTimeStamping: "timeStamping", x509.ExtKeyUsageOCSPSigning: "OCSPSigning"}
	var out []string
	for _, u := range c.ExtKeyUsage {
		if n := names[u]; n != "" {
			out = append(out, n)
		} else {
			out = append(out, "another")
		}
	}
	for _, id := range c.UnknownExtKeyUsage {
		out = append(out, id.String())
	}
	return out
}

// compare sets two certificates side by side, unless one is the issuer of the other.
func (e *Explained) compare() {
	var found []*x509.Certificate
	for i := range e.Findings {
		if c := e.Findings[i].Certificate; c != nil {
			found = append(found, c)
		}
	}
	if len(found) != 2 || bytes.Equal(found[0].RawIssuer, found[1].RawSubject) || bytes.Equal(found[1].RawIssuer, found[0].RawSubject) {
		if len(found) != 2 || !bytes.Equal(found[0].RawSubject, found[1].RawSubject) {
			return
		}
	}
	a, b := found[0], found[1]
	line := func(name string, of func(*x509.Certificate) string) {
		one, other := of(a), of(b)
		e.Compared = append(e.Compared, Difference{Name: name, One: one, Other: other, Same: one == other})
	}
	line("Key", func(c *x509.Certificate) string { return termination.KeyFingerprintOf(c).Short() })
	line("Certificate", func(c *x509.Certificate) string { return termination.FingerprintOf(c).Short() })
	line("Subject", func(c *x509.Certificate) string { return termination.NameText(c.Subject) })
	line("Issuer", func(c *x509.Certificate) string { return termination.NameText(c.Issuer) })
	line("Serial", func(c *x509.Certificate) string { return c.SerialNumber.Text(16) })
	line("From", func(c *x509.Certificate) string { return moment(c.NotBefore) })
	line("Until", func(c *x509.Certificate) string { return moment(c.NotAfter) })
	line("Names", func(c *x509.Certificate) string {
		names := slices.Concat(c.DNSNames, c.EmailAddresses)
		for _, u := range c.URIs {
			names = append(names, u.String())
		}
		for _, ip := range c.IPAddresses {
			names = append(names, ip.String())
		}
		return strings.Join(names[:min(len(names), maxShown)], ", ")
	})
	line("Key usage", func(c *x509.Certificate) string { return strings.Join(keyUsages(c.KeyUsage), ", ") })
	line("Extended key usage", func(c *x509.Certificate) string { return strings.Join(extUsages(c), ", ") })
}

func readRequest(i *termination.UploadItem) Finding {
	f := Finding{Kind: KindRequest, Title: "A request for a certificate (CSR), which no CA has signed yet", Text: i.Message, Command: "openssl req -in FILE -noout -text -verify"}
	r, err := x509.ParseCertificateRequest(i.DER)
	if err != nil {
		return f
	}
	if k, ok := r.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > termination.MaxRSABits {
		f.Faults = append(f.Faults, fmt.Sprintf("Its RSA key has %d bits. At most %d are checked, and nobody needs more.", k.N.BitLen(), termination.MaxRSABits))
	} else if r.CheckSignature() != nil {
		f.Faults = append(f.Faults, "Its signature does not hold: whoever made it did not have the key, or it was changed since.")
	}
	g := Group{Title: "What it asks for", Note: "The CA decides what of it goes into the certificate."}
	g.Facts = append(g.Facts, Fact{Name: "Subject", Value: termination.NameText(r.Subject)}, Fact{Name: "Key", Value: keyWords(r.PublicKey, r.PublicKeyAlgorithm)})
	for _, n := range slices.Concat(r.DNSNames, r.EmailAddresses) {
		if len(g.Facts) < maxShown {
			g.Facts = append(g.Facts, Fact{Name: "Name", Value: n})
		}
	}
	for _, u := range r.URIs {
		if len(g.Facts) < maxShown {
			g.Facts = append(g.Facts, Fact{Name: "URI", Value: u.String()})
		}
	}
	f.Groups = []Group{g}
	f.Do = []string{"Sign it with the local CA, or send it to the CA whose certificates the endpoint trusts."}
	return f
}

func readCRLs(i *termination.UploadItem, now time.Time) []Finding {
	if i.DER == nil { // in a bundle, whose reader leaves it out
		return []Finding{{Kind: KindCRL, Title: i.Title, Text: i.Message}}
	}
	lists, err := termination.ReadCRLs(i.DER)
	if err != nil {
		return []Finding{{Kind: KindCRL, Title: "A revocation list that is of no use here", Text: upper(err.Error()) + "."}}
	}
	var out []Finding
	for _, l := range lists {
		f := Finding{Kind: KindCRL, Title: fmt.Sprintf("A revocation list of %s with %d entries", termination.NameText(l.Issuer), len(l.RevokedCertificateEntries)), Text: i.Message, Command: "openssl crl -in FILE -noout -text"}
		facts := []Fact{{Name: "Issuer", Value: termination.NameText(l.Issuer)}, {Name: "From", Value: moment(l.ThisUpdate)}, {Name: "Next", Value: moment(l.NextUpdate)}}
		if n := l.NumberText(); n != "" {
			facts = append(facts, Fact{Name: "Number", Value: n})
		}
		for _, r := range l.RevokedCertificateEntries[:min(len(l.RevokedCertificateEntries), 20)] {
			facts = append(facts, Fact{Name: "Revoked", Value: r.SerialNumber.Text(16), Note: moment(r.RevocationTime)})
		}
		if !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
			f.Faults = append(f.Faults, "It is out of date since "+moment(l.NextUpdate)+": nothing can be told by it.")
		}
		f.Groups = []Group{{Title: "What it says", Note: "Serial numbers, the first 20; its signature is checked where its CA is trusted.", Facts: facts}}
		out = append(out, f)
	}
	return out
}
