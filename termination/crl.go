package termination

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds of revocation lists.
const (
	// MaxCRL is the size of one list in bytes. A list with a million entries has between 27 and 45 MB.
	MaxCRL = 64 << 20
	// MaxGivenCRLs bounds all lists that are given in files and by upload together, in bytes: they are a part of the
	// configuration, and travel to agents with it. Longer ones come by URL.
	MaxGivenCRLs = 24 << 20
	// MaxCRLSources bounds the lists, files and addresses of one authority.
	MaxCRLSources = 64
	maxCRLNumber  = 20 * 8 // bits (RFC 5280, section 5.2.3)
)

// RevocationList is a CRL that was read (RFC 5280, section 5). Nothing says yet who signed it.
type RevocationList struct {
	*x509.RevocationList

	// Users and CAs say that it speaks of certificates of this kind alone; neither: of all. Points are the distribution
	// points of whose certificates it speaks; none: of all (section 5.2.5).
	Users, CAs bool
	Points     []string
}

// Scope tells lists apart of which one cannot take the place of the other, although one CA has issued both.
func (l *RevocationList) Scope() string {
	return fmt.Sprint(l.Users, l.CAs, " ", strings.Join(l.Points, " "))
}

// Covers reports whether the list would name a certificate of its issuer, were it revoked.
func (l *RevocationList) Covers(c *x509.Certificate) bool {
	isCA := c.BasicConstraintsValid && c.IsCA
	if l.Users && isCA || l.CAs && !isCA {
		return false
	}
	if len(l.Points) == 0 {
		return true
	}
	for _, p := range l.Points {
		for _, own := range c.CRLDistributionPoints { // compared, never fetched
			if p == own {
				return true
			}
		}
	}
	return false
}

// OlderThan reports whether the list was issued before another of the same issuer and scope: by its number, else by its
// date (RFC 5280, section 5.2.3).
func (l *RevocationList) OlderThan(other *RevocationList) bool {
	if l.Number != nil && other.Number != nil {
		return l.Number.Cmp(other.Number) < 0
	}
	return l.ThisUpdate.Before(other.ThisUpdate)
}

// TakesPlaceOf reports whether only the newer one of two lists counts: they are of one key of one CA, and of one scope.
func (l *RevocationList) TakesPlaceOf(other *RevocationList) bool {
	return bytes.Equal(l.RawIssuer, other.RawIssuer) && bytes.Equal(l.AuthorityKeyId, other.AuthorityKeyId) && l.Scope() == other.Scope()
}

// NumberText is the number of the list for people, or nothing.
func (l *RevocationList) NumberText() string {
	if l.Number == nil {
		return ""
	}
	return l.Number.String()
}

// ReadCRLs reads revocation lists, from DER or PEM with several of them. What cannot decide whether a certificate is
// revoked is refused: delta and indirect lists, those for some reasons only, and critical extensions that are not known.
// The errors tell people what to do.
func ReadCRLs(data []byte) ([]*RevocationList, error) {
	switch {
	case len(data) > MaxCRL:
		return nil, fmt.Errorf("it has more than %d MiB; larger revocation lists are not read", MaxCRL>>20)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("it is empty; a revocation list without entries still has a header and a signature")
	case data[0] == 0x30 && !bytes.HasPrefix(data, []byte("0-")):
		l, err := readCRL(data)
		if err != nil {
			return nil, err
		}
		return []*RevocationList{l}, nil
	}
	var out []*RevocationList
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "X509 CRL" || block.Type == "CRL":
		case block.Type == "CERTIFICATE":
			return nil, errNotCRL
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, errors.New("it holds a private key, which has no business here and was not kept; take the revocation list alone, and replace the key if others could see it")
		default:
			return nil, fmt.Errorf("it holds a block of another kind, %q; give the revocation list alone, which begins with -----BEGIN X509 CRL-----", printable(block.Type, 40))
		}
		if len(out) == MaxCRLSources {
			return nil, fmt.Errorf("it holds more than %d revocation lists", MaxCRLSources)
		}
		l, err := readCRL(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, errors.New("it is no revocation list; give a CRL as PEM or DER, as openssl ca -gencrl writes it")
	}
	return out, nil
}

var errNotCRL = errors.New("it is a certificate, not a revocation list; get the list (CRL) from the CA that issued the certificate")

func readCRL(der []byte) (*RevocationList, error) {
	parsed, err := parseCRL(der)
	if err != nil {
		if _, wrong := x509.ParseCertificate(der); wrong == nil {
			return nil, errNotCRL
		}
		return nil, fmt.Errorf("it cannot be read as a revocation list: %s", printable(strings.TrimPrefix(err.Error(), "x509: "), 200))
	}
	l := &RevocationList{RevocationList: parsed}
	parsed.RevokedCertificates = nil //nolint:staticcheck // the same again in an older form, which would only take room
	if n := parsed.Number; n != nil && (n.Sign() < 0 || n.BitLen() > maxCRLNumber) {
		return nil, errors.New("its number is negative or longer than 20 bytes, which RFC 5280, section 5.2.3, forbids")
	}
	if !parsed.NextUpdate.IsZero() && !parsed.NextUpdate.After(parsed.ThisUpdate) {
		return nil, errors.New("its next update is not after this one")
	}
	for _, e := range parsed.Extensions {
		if err := l.extension(e); err != nil {
			return nil, err
		}
	}
	for i := range parsed.RevokedCertificateEntries {
		for _, e := range parsed.RevokedCertificateEntries[i].Extensions {
			if err := entryExtension(e); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// parseCRL reads version 2, and version 1 as openssl ca -gencrl writes it where no extensions are configured: that has
// neither version nor extensions, and crypto/x509 does not read it.
func parseCRL(der []byte) (*x509.RevocationList, error) {
	var outer struct{ TBS, Algorithm, Signature asn1.RawValue }
	rest, err := asn1.Unmarshal(der, &outer)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes stand after its end", len(rest))
	}
	if !outer.TBS.IsCompound || outer.TBS.Tag != asn1.TagSequence || len(outer.TBS.Bytes) == 0 || outer.TBS.Bytes[0] == asn1.TagInteger {
		return x509.ParseRevocationList(der)
	}
	v2 := asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append([]byte{asn1.TagInteger, 1, 1}, outer.TBS.Bytes...)}
	tbs, err := asn1.Marshal(v2)
	if err != nil {
		return nil, err
	}
	whole := asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(append(tbs, outer.Algorithm.FullBytes...), outer.Signature.FullBytes...)}
	read, err := asn1.Marshal(whole)
	if err != nil {
		return nil, err
	}
	l, err := x509.ParseRevocationList(read)
	if err != nil {
		return nil, err
	}
	if len(l.Extensions) > 0 {
		return nil, errors.New("it has extensions but is of version 1")
	}
	l.Raw, l.RawTBSRevocationList = der, outer.TBS.FullBytes // which is what was signed
	return l, nil
}

func extensionID(last ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{2, 5, 29}, last...)
}

// extension looks at an extension of a list (RFC 5280, section 5.2).
func (l *RevocationList) extension(e pkix.Extension) error {
	switch {
	case e.Id.Equal(extensionID(27)): // deltaCRLIndicator
		return errors.New("it is a delta CRL, which only says what has changed since another; give the complete list")
	case e.Id.Equal(extensionID(28)):
		return l.distributionPoint(e.Value)
	case e.Id.Equal(extensionID(20)), e.Id.Equal(extensionID(35)): // cRLNumber, authorityKeyIdentifier
		return nil
	case e.Critical:
		return fmt.Errorf("it has the critical extension %s, which is not known here, so that nobody can tell what it means (RFC 5280, section 5.2); issue it without", e.Id)
	}
	return nil
}

// entryExtension looks at an extension of an entry (section 5.3).
func entryExtension(e pkix.Extension) error {
	switch {
	case e.Id.Equal(extensionID(29)): // certificateIssuer
		return errors.New("it is an indirect CRL: an entry names another CA as the issuer; give the list that this CA has signed itself")
	case e.Id.Equal(extensionID(21)), e.Id.Equal(extensionID(24)): // reasonCode, invalidityDate
		return nil
	case e.Critical:
		return fmt.Errorf("one of its entries has the critical extension %s, which is not known here, so that nobody can tell what it means (RFC 5280, section 5.3); issue it without", e.Id)
	}
	return nil
}

// distributionPoint reads what the list is for (section 5.2.5).
func (l *RevocationList) distributionPoint(der []byte) error {
	var idp struct {
		Point           asn1.RawValue  `asn1:"optional,tag:0"`
		Users           bool           `asn1:"optional,tag:1"`
		CAs             bool           `asn1:"optional,tag:2"`
		OnlySomeReasons asn1.BitString `asn1:"optional,tag:3"`
		Indirect        bool           `asn1:"optional,tag:4"`
		Attributes      bool           `asn1:"optional,tag:5"`
	}
	rest, err := asn1.Unmarshal(der, &idp)
	if err != nil || len(rest) > 0 {
		return errors.New("its issuing distribution point cannot be read")
	}
	switch {
	case idp.Indirect:
		return errors.New("it is an indirect CRL, in which one CA speaks of certificates of others; give the list that the CA has signed itself")
	case idp.Attributes:
		return errors.New("it is for attribute certificates, which no client presents; give the list for certificates")
	case idp.OnlySomeReasons.BitLength > 0:
		return errors.New("it names what was revoked for some reasons only; give the complete list")
	case idp.Users && idp.CAs:
		return errors.New("it says that it is for users alone and for CAs alone")
	}
	l.Users, l.CAs = idp.Users, idp.CAs
	if len(idp.Point.FullBytes) == 0 {
		return nil
	}
	var name struct {
		Full []asn1.RawValue `asn1:"optional,tag:0"`
	}
	if _, err := asn1.UnmarshalWithParams(idp.Point.FullBytes, &name, "tag:0"); err != nil {
		return errors.New("its issuing distribution point cannot be read")
	}
	for _, n := range name.Full {
		if n.Class == asn1.ClassContextSpecific && n.Tag == 6 && len(n.Bytes) <= 2048 { // uniformResourceIdentifier
			l.Points = append(l.Points, string(n.Bytes))
		}
	}
	if len(l.Points) == 0 {
		return errors.New("it is for a part of the CA's certificates that is not named by a URL, so that nobody can tell which; give the complete list")
	}
	return nil
}

// crlLife is after how long a list that does not say when the next one comes is taken for old.
const crlLife = 7 * 24 * time.Hour

// FreshUntil is when the next list should be there (RFC 5280, section 5.1.2.5, demands that it is said).
func (l *RevocationList) FreshUntil() time.Time {
	if l.NextUpdate.IsZero() {
		return l.ThisUpdate.Add(crlLife)
	}
	return l.NextUpdate
}

// RevocationReason is the reason of a revoked certificate in words (RFC 5280, section 5.3.1); empty: none was given.
func RevocationReason(code int) string {
	words := [...]string{
		1: "its key was compromised", 2: "its CA was compromised", 3: "its holder's affiliation changed", 4: "it was superseded",
		5: "it is no longer used", 6: "it is on hold", 8: "removed from the list", 9: "its privileges were withdrawn", 10: "an attribute authority was compromised",
	}
	if code < 0 || code >= len(words) {
		return ""
	}
	return words[code]
}
