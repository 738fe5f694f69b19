package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding "encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"countersign/termination"
)

// maxNameComparisons bounds what directory names and their limits cost in one chain.
const maxNameComparisons = 1 << 16

// certificateExtension is the last arc of the extensions below 2.5.29.
func certificateExtension(e pkix.Extension) int {
	if len(e.Id) == 4 && e.Id[0] == 2 && e.Id[1] == 5 && e.Id[2] == 29 {
		return e.Id[3]
	}
	return -1
}

const (
	extensionSAN             = 17
	extensionNameConstraints = 30
)

func extensionOf(c *x509.Certificate, id int) (pkix.Extension, bool) {
	for _, e := range c.Extensions {
		if certificateExtension(e) == id {
			return e, true
		}
	}
	return pkix.Extension{}, false
}

// directoryLimits are the subtrees of directory names that a CA may sign, which crypto/x509 does not look at.
type directoryLimits struct {
	permitted, excluded []dn
	other               bool // limits of a kind that nobody here understands
	unread              bool // what stands there cannot be read
}

// directoryLimitsOf reads the directory names among the name constraints of c (RFC 5280, section 4.2.1.10). What cannot
// be read, and a minimum or maximum, which the RFC does not allow, counts as not understood.
func directoryLimitsOf(c *x509.Certificate) directoryLimits {
	e, ok := extensionOf(c, extensionNameConstraints)
	if !ok {
		return directoryLimits{}
	}
	return parseDirectoryLimits(e.Value)
}

func parseDirectoryLimits(value []byte) (out directoryLimits) {
	unread := directoryLimits{other: true, unread: true}
	input := cryptobyte.String(value)
	var all cryptobyte.String
	if !input.ReadASN1(&all, asn1.SEQUENCE) || !input.Empty() {
		return unread
	}
	for i, list := range []*[]dn{&out.permitted, &out.excluded} {
		var subtrees cryptobyte.String
		if !all.ReadOptionalASN1(&subtrees, nil, asn1.Tag(i).ContextSpecific().Constructed()) {
			return unread
		}
		for !subtrees.Empty() {
			var subtree, base cryptobyte.String
			var tag asn1.Tag
			if !subtrees.ReadASN1(&subtree, asn1.SEQUENCE) || !subtree.ReadAnyASN1(&base, &tag) || !subtree.Empty() {
				return unread
			}
			switch tag {
			case asn1.Tag(4).ContextSpecific().Constructed():
				name, ok := parseDN(base)
				if !ok {
					return unread
				}
				*list = append(*list, name)
			case asn1.Tag(1).ContextSpecific(), asn1.Tag(2).ContextSpecific(), asn1.Tag(6).ContextSpecific(), asn1.Tag(7).ContextSpecific():
				// an e-mail address, a DNS name, a URI, an IP address: crypto/x509 knows them
			default:
				out.other = true
			}
		}
	}
	if !all.Empty() {
		return unread
	}
	return out
}

// understood reports whether an extension that crypto/x509 could not handle is one that is handled here.
func understood(c *x509.Certificate, id encoding.ObjectIdentifier) bool {
	return id.Equal(encoding.ObjectIdentifier{2, 5, 29, extensionNameConstraints}) && !directoryLimitsOf(c).other
}

// beyond reports whether c has a critical extension for which crypto/x509 alone would refuse it.
func beyond(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.UnhandledCriticalExtensions, func(id encoding.ObjectIdentifier) bool { return understood(c, id) })
}

// directoryNames are those that limits apply to: the subject, unless it is empty, and the directory names among the
// alternative names. It fails on what cannot be read.
func directoryNames(c *x509.Certificate) ([]dn, bool) {
	subject, ok := parseDN(c.RawSubject)
	if !ok {
		return nil, false
	}
	var names []dn
	if len(subject) > 0 {
		names = append(names, subject)
	}
	e, ok := extensionOf(c, extensionSAN)
	if !ok {
		return names, true
	}
	more, ok := alternativeDirectoryNames(e.Value)
	return append(names, more...), ok
}

func alternativeDirectoryNames(value []byte) ([]dn, bool) {
	input := cryptobyte.String(value)
	var all cryptobyte.String
	if !input.ReadASN1(&all, asn1.SEQUENCE) || !input.Empty() {
		return nil, false
	}
	var names []dn
	for !all.Empty() {
		var one cryptobyte.String
		var tag asn1.Tag
		if !all.ReadAnyASN1(&one, &tag) {
			return nil, false
		}
		if tag != asn1.Tag(4).ContextSpecific().Constructed() {
			continue
		}
		name, ok := parseDN(one)
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// directories checks the directory names of a chain against the limits of every CA above them. A CA certificate that
// was issued by itself, as in a change of keys, is exempt; the leaf never is.
func (in *inspection) directories(path []*x509.Certificate) {
	left := maxNameComparisons
	for i := 1; i < len(path); i++ {
		limits := directoryLimitsOf(path[i])
		if limits.unread {
			in.overstep(path[i], fmt.Sprintf("the limits that %s sets cannot be read", certName(path[i])))
		}
		if len(limits.permitted)+len(limits.excluded) == 0 {
			continue
		}
		for j, c := range path[:i] {
			if j > 0 && nameKey(c.RawSubject) == nameKey(c.RawIssuer) {
				continue
			}
			names, ok := directoryNames(c)
			if left -= len(names) * (len(limits.permitted) + len(limits.excluded)); !ok || left < 0 {
				in.overstep(c, fmt.Sprintf("its names cannot be compared with the limits of %s", certName(path[i])))
				return
			}
			if what := limits.violated(names); what != "" {
				in.overstep(c, fmt.Sprintf("%s of %s is %s by %s", what, certName(c), map[bool]string{true: "excluded", false: "not permitted"}[limits.excludes(names)], certName(path[i])))
				break
			}
		}
	}
}

// hosts checks the e-mail addresses and URIs of a chain against the subtrees that CAs permit. crypto/x509 takes a domain
// there for all hosts below it; RFC 5280, section 4.2.1.10, for that one host, unless it begins with a dot.
func (in *inspection) hosts(path []*x509.Certificate) {
	left := maxNameComparisons
	for i := 1; i < len(path); i++ {
		limit := path[i]
		if len(limit.PermittedEmailAddresses)+len(limit.PermittedURIDomains) == 0 {
			continue
		}
		for j, c := range path[:i] {
			if j > 0 && nameKey(c.RawSubject) == nameKey(c.RawIssuer) {
				continue
			}
			named := *c
			addresses(&named)
			left -= len(named.EmailAddresses)*len(limit.PermittedEmailAddresses) + len(c.URIs)*len(limit.PermittedURIDomains)
			if left < 0 {
				in.overstep(c, fmt.Sprintf("its names cannot be compared with the limits of %s", certName(limit)))
				return
			}
			for _, a := range named.EmailAddresses {
				if len(limit.PermittedEmailAddresses) > 0 && !slices.ContainsFunc(limit.PermittedEmailAddresses, func(base string) bool { return permitsAddress(base, a) }) {
					in.overstep(c, fmt.Sprintf("%s permits no e-mail address at the host of %q", certName(limit), a))
					return
				}
			}
			for _, u := range c.URIs {
				if len(limit.PermittedURIDomains) > 0 && !slices.ContainsFunc(limit.PermittedURIDomains, func(base string) bool { return permitsHost(base, u.Hostname()) }) {
					in.overstep(c, fmt.Sprintf("%s permits no URI with the host %q", certName(limit), u.Hostname()))
					return
				}
			}
		}
	}
}

func permitsAddress(base, address string) bool {
	// What stands before the @ is the receiver's business (RFC 5280, section 7.5).
	at, local := strings.LastIndexByte(address, '@'), strings.LastIndexByte(base, '@')
	if local >= 0 {
		return at >= 0 && base[:local] == address[:at] && strings.EqualFold(base[local:], address[at:])
	}
	return permitsHost(base, address[at+1:])
}

func permitsHost(base, host string) bool {
	base, host = strings.ToLower(base), strings.ToLower(host)
	if base == "" || strings.HasPrefix(base, ".") {
		return strings.HasSuffix(host, base)
	}
	return host == base
}

// violated says what of these names oversteps the limits; empty: nothing.
func (l directoryLimits) violated(names []dn) string {
	if l.excludes(names) || len(l.permitted) > 0 && slices.ContainsFunc(names, func(n dn) bool { return !anyAbove(n, l.permitted) }) {
		return "a directory name"
	}
	return ""
}

func (l directoryLimits) excludes(names []dn) bool {
	return slices.ContainsFunc(names, func(n dn) bool { return anyAbove(n, l.excluded) })
}

func anyAbove(name dn, bases []dn) bool { return slices.ContainsFunc(bases, name.within) }

func (in *inspection) overstep(c *x509.Certificate, what string) {
	in.level(in.hygiene.NameConstraints, termination.ReasonCertNameLimits, c, nameLimitDetail+"%s.", visible(what, maxDetailText))
}

// limits lets crypto/x509 check name constraints and certificate policies alone, on copies whose every other trait is
// harmless: they have signatures of this moment, made by a key that everybody knows, so that neither SHA-1 nor the
// spelling of a name stands in the way. Nothing is trusted for that: the true signatures are proven elsewhere. A chain
// with limits that cannot be tried is refused.
func (in *inspection) limits(path []*x509.Certificate) {
	if !slices.ContainsFunc(path[1:], limiting) {
		return
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	body := []byte("countersign")
	signature := ed25519.Sign(key, body)
	copies := make([]*x509.Certificate, len(path))
	for i, c := range path {
		harmless := *c
		harmless.NotBefore = in.now.Add(-time.Hour)
		harmless.NotAfter = in.now.Add(time.Hour)
		harmless.UnhandledCriticalExtensions = nil
		harmless.MaxPathLen = -1
		harmless.RawSubject, harmless.RawIssuer = fmt.Appendf(nil, "%d", i), fmt.Appendf(nil, "%d", i+1)
		harmless.SubjectKeyId, harmless.AuthorityKeyId = nil, nil
		harmless.PublicKey, harmless.PublicKeyAlgorithm = key.Public(), x509.Ed25519
		harmless.RawTBSCertificate, harmless.SignatureAlgorithm, harmless.Signature = body, x509.PureEd25519, signature
		harmless.SerialNumber = big.NewInt(int64(i))
		addresses(&harmless)
		if i > 0 {
			harmless.KeyUsage = 0
			harmless.BasicConstraintsValid, harmless.IsCA = true, true
		}
		copies[i] = &harmless
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(copies[len(copies)-1])
	for _, c := range copies[1 : len(copies)-1] {
		between.AddCert(c)
	}
	_, err := copies[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: in.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
	case errors.As(err, &invalid) && in.limit(path[0], invalid):
	default:
		in.overstep(path[0], "the limits of its CAs cannot be compared: "+err.Error())
	}
}

// addresses makes the e-mail addresses of the subject count as alternative names where there is none: RFC 5280, section
// 4.2.1.10, wants limits to hold for them too.
func addresses(c *x509.Certificate) {
	if len(c.EmailAddresses) > 0 {
		return
	}
	for _, a := range c.Subject.Names {
		if s, ok := a.Value.(string); ok && a.Type.Equal(encoding.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}) {
			c.EmailAddresses = append(c.EmailAddresses, s)
		}
	}
	if _, has := extensionOf(c, extensionSAN); !has && len(c.EmailAddresses) > 0 {
		c.Extensions = append(slices.Clone(c.Extensions), pkix.Extension{Id: encoding.ObjectIdentifier{2, 5, 29, extensionSAN}})
	}
}

// limiting reports whether a CA certificate limits what stands below it: name constraints, policy mappings, policy
// constraints, inhibitAnyPolicy (RFC 5280, sections 4.2.1.10, 4.2.1.5, 4.2.1.11 and 4.2.1.14).
func limiting(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool {
		switch certificateExtension(e) {
		case extensionNameConstraints, 33, 36, 54:
			return true
		}
		return false
	})
}

// limit names what crypto/x509 says about limits, and reports whether it was about them.
func (in *inspection) limit(leaf *x509.Certificate, err x509.CertificateInvalidError) bool {
	switch err.Reason {
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName, x509.TooManyConstraints:
		in.overstep(leaf, err.Detail)
	case x509.NoValidChains:
		in.fail(termination.ReasonCertNameLimits, leaf, "It does not satisfy the certificate policies that a CA in its chain demands.")
	default:
		return false
	}
	return true
}

// renamed reports whether a certificate gives its issuer's name in other bytes than the issuer itself.
func renamed(path []*x509.Certificate) bool {
	for i := range len(path) - 1 {
		if !bytes.Equal(path[i].RawIssuer, path[i+1].RawSubject) {
			return true
		}
	}
	return false
}
