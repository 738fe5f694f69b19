package localca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"countersign/termination"
)

const (
	maxCommonName = 64   // ub-common-name, RFC 5280, appendix A.1
	maxNames      = 100  // names in one certificate
	maxURI        = 2048 // bytes, as SPIFFE IDs are bounded
	maxEmail      = 254  // bytes, RFC 5321
)

// ConstraintError says that a CA is limited by its own name constraints and may not sign a name. A second,
// unconstrained CA may.
type ConstraintError struct {
	CA   string // its name
	Name string // that it may not sign
}

// Error says what is wrong and what to do.
func (e *ConstraintError) Error() string {
	return fmt.Sprintf("%s may not sign %q: it is limited to localhost, names below it and loopback addresses; use such a name, or create a local CA without that limit", e.CA, e.Name)
}

// MayIssue reports whether the CA may sign all these server names: DNS names, wildcards of one label, IP addresses. The
// error is a [ConstraintError] where the CA's own limits forbid it; other errors are about names that nobody could sign.
func MayIssue(ca *termination.LocalCA, names []string) error {
	_, err := readNames(ca, names)
	return err
}

// serverNames are names of a server, sorted by their kind of subject alternative name.
type serverNames struct {
	dns []string
	ips []netip.Addr
}

func readNames(ca *termination.LocalCA, names []string) (serverNames, error) {
	var out serverNames
	if len(names) == 0 {
		return out, errors.New("a server certificate needs at least one name")
	}
	if len(names) > maxNames {
		return out, fmt.Errorf("%d names are too many for one certificate: use at most %d", len(names), maxNames)
	}
	seen := map[string]bool{}
	for _, name := range names {
		if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
			ip = ip.Unmap()
			if ip.Zone() != "" {
				return out, fmt.Errorf("%q has a zone: certificates know none", name)
			}
			if !mayIP(ca.Certificate, ip) {
				return out, &ConstraintError{CA: ca.Name, Name: name}
			}
			if !seen[ip.String()] {
				out.ips = append(out.ips, ip)
			}
			seen[ip.String()] = true
			continue
		}
		norm, err := termination.NormalizeName(name)
		if err != nil {
			return out, err
		}
		if !mayDNS(ca.Certificate, norm) {
			return out, &ConstraintError{CA: ca.Name, Name: name}
		}
		if !seen[norm] {
			out.dns = append(out.dns, norm)
		}
		seen[norm] = true
	}
	return out, nil
}

func mayDNS(ca *x509.Certificate, name string) bool {
	name = strings.TrimPrefix(name, "*.")
	for _, d := range ca.ExcludedDNSDomains {
		if below(name, d) {
			return false
		}
	}
	if len(ca.PermittedDNSDomains) == 0 {
		return true
	}
	for _, d := range ca.PermittedDNSDomains {
		if below(name, d) {
			return true
		}
	}
	return false
}

// below reports whether name is the constraint's domain or lies under it (RFC 5280, section 4.2.1.10). A leading dot,
// which some CAs write, means only names under it.
func below(name, domain string) bool {
	domain = strings.ToLower(domain)
	if domain == "" {
		return true
	}
	if strings.HasPrefix(domain, ".") {
		return strings.HasSuffix(name, domain)
	}
	return name == domain || strings.HasSuffix(name, "."+domain)
}

func mayIP(ca *x509.Certificate, ip netip.Addr) bool {
	for _, n := range ca.ExcludedIPRanges {
		if n.Contains(ip.AsSlice()) {
			return false
		}
	}
	if len(ca.PermittedIPRanges) == 0 {
		return true
	}
	for _, n := range ca.PermittedIPRanges {
		if n.Contains(ip.AsSlice()) {
			return true
		}
	}
	return false
}

// checkCommonName refuses names that could not be shown or compared safely.
func checkCommonName(s string) error {
	switch {
	case s == "":
		return errors.New("the name is empty: give the client or CA a name")
	case !utf8.ValidString(s):
		return errors.New("the name is not valid UTF-8")
	case utf8.RuneCountInString(s) > maxCommonName:
		return fmt.Errorf("the name has %d characters: use at most %d", utf8.RuneCountInString(s), maxCommonName)
	case strings.TrimSpace(s) != s:
		return errors.New("the name begins or ends with a space")
	}
	for _, r := range s {
		// Format characters turn text around (U+202E) or hide it (U+200B).
		if !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) {
			return fmt.Errorf("the name holds the character %U, which cannot be shown: use printable characters", r)
		}
	}
	return nil
}

// looksLikeDNS reports whether OpenSSL would take a common name for a DNS name: it then applies the CA's DNS
// constraints to it, unless the certificate has a DNS name of its own.
func looksLikeDNS(s string) bool {
	if !strings.Contains(s, ".") {
		return false
	}
	_, err := termination.NormalizeName(s)
	return err == nil
}

func checkURI(s string) (*url.URL, error) {
	if len(s) > maxURI {
		return nil, fmt.Errorf("the URI has %d bytes: use at most %d", len(s), maxURI)
	}
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return nil, fmt.Errorf("the URI %q must hold printable ASCII only", s)
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("read the URI: %w", err)
	}
	if u.Scheme == "" || (u.Host == "" && u.Opaque == "" && u.Path == "") {
		return nil, fmt.Errorf("the URI %q is not absolute: write it as in spiffe://example.org/billing", s)
	}
	return u, nil
}

func checkEmail(s string) error {
	if len(s) > maxEmail {
		return fmt.Errorf("the e-mail address has %d bytes: use at most %d", len(s), maxEmail)
	}
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return fmt.Errorf("the e-mail address %q must hold printable ASCII only", s)
		}
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s {
		return fmt.Errorf("%q is not an e-mail address: write it as in name@example.org", s)
	}
	return nil
}

// ClientName makes a name for a client certificate of any text, such as the name of the local user: characters that a
// name must not hold become dashes, and so do dots, since OpenSSL takes a name with dots for a DNS name, which a
// constrained CA may not sign. What leaves nothing becomes "client".
func ClientName(s string) string {
	var b bytes.Buffer
	n := 0
	for _, r := range s {
		if n == maxCommonName {
			break
		}
		if r == '.' || r == utf8.RuneError || !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) {
			r = '-'
		}
		b.WriteRune(r)
		n++
	}
	name := strings.Trim(b.String(), "-")
	if checkCommonName(name) != nil {
		return "client"
	}
	return name
}

// FileName makes the base of a file name of a certificate's name: letters, digits, dashes, underscores and single dots
// inside, never empty, never a path.
func FileName(s string) string {
	var b bytes.Buffer
	for _, r := range s {
		if b.Len() == maxCommonName {
			break
		}
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
		if !ok {
			r = '-'
		}
		b.WriteRune(r)
	}
	name := strings.Trim(strings.ReplaceAll(b.String(), "..", "-"), "-.")
	if name == "" {
		return "client"
	}
	return name
}
