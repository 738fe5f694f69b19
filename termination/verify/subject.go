package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"net"
	"net/netip"
	"slices"
	"strings"

	"countersign/termination"
)

// claims are what rules and identities look at: a verified leaf, and what follows from it. What has to be read out of it is
// read when the first rule asks; a claims must not be shared.
type claims struct {
	leaf        *x509.Certificate
	authorities []string // in each of which the anchor stands that ended its chain; none: a pin vouches for it
	identity    string

	names           bool // the two below were read
	subject, issuer termination.DistinguishedName
	pins            *[2]termination.Pin
	uris            []string // nil until read
}

func (c *claims) readNames() {
	if !c.names {
		c.names = true
		c.subject = termination.ParseDistinguishedName(c.leaf.RawSubject)
		c.issuer = termination.ParseDistinguishedName(c.leaf.RawIssuer)
	}
}

func (c *claims) readURIs() []string {
	if c.uris == nil && len(c.leaf.URIs) > 0 {
		c.uris = termination.URIsOf(c.leaf)
	}
	return c.uris
}

func (c *claims) hasPin(pin termination.Pin) bool {
	if c.pins == nil {
		pins := pinsOf(c.leaf)
		c.pins = &pins
	}
	return slices.Contains(c.pins[:], pin)
}

// subject is a termination.Subject made ready to compare.
type subject struct {
	termination.Subject
	// everyCN: of several common names all must match. Which of them names the client is anybody's guess: so a client is
	// let in only if it makes no difference, and refused if one of them is meant.
	everyCN bool
	network netip.Prefix // of IP; invalid: IP is no address, and matches nothing
	dns     string       // folded
	email   string       // folded
	uri     string       // folded
}

// newSubject makes a subject ready. refusing says that whom it matches is refused.
func newSubject(s termination.Subject, refusing bool) subject {
	out := subject{Subject: s, everyCN: !refusing, dns: foldDNS(s.DNS), email: foldEmail(s.Email), uri: foldURI(s.URI)}
	if s.IP != "" {
		out.network, _ = termination.ParsePrefix(s.IP)
	}
	if s.Serial != "" {
		if serial, err := termination.ParseSerial(s.Serial); err == nil {
			out.Serial = serial
		} else {
			out.Serial = "?" // equals none
		}
	}
	return out
}

// matches reports whether a proven and verified leaf is meant.
func (s *subject) matches(c *claims) bool {
	switch {
	case s.Identity != "" && s.Identity != c.identity,
		s.Authority != "" && !slices.Contains(c.authorities, s.Authority),
		s.Pin != nil && !c.hasPin(*s.Pin),
		s.Serial != "" && s.Serial != termination.SerialOf(c.leaf),
		s.DNS != "" && !slices.ContainsFunc(c.leaf.DNSNames, func(n string) bool { return like(s.dns, foldDNS(n)) }),
		s.Email != "" && !slices.ContainsFunc(c.leaf.EmailAddresses, func(n string) bool { return like(s.Email, n) || like(s.email, foldEmail(n)) }),
		s.IP != "" && !slices.ContainsFunc(c.leaf.IPAddresses, func(ip net.IP) bool {
			a, ok := netip.AddrFromSlice(ip)
			return ok && s.network.Contains(a.Unmap())
		}),
		s.URI != "" && !s.uriOf(c),
		s.Issuer != "" && !s.issuerOf(c),
		s.CN != "" && !s.cn(c),
		s.O != "" && !attribute(c, 10, s.O),
		s.OU != "" && !attribute(c, 11, s.OU):
		return false
	}
	return true
}

// attribute reports whether a value of an attribute below 2.5.4 (X.520) of the subject is like pattern.
func attribute(c *claims, id int, pattern string) bool {
	c.readNames()
	return slices.ContainsFunc(c.subject.Values(asn1.ObjectIdentifier{2, 5, 4, id}), func(v string) bool { return like(pattern, v) })
}

func (s *subject) cn(c *claims) bool {
	c.readNames()
	all := c.subject.Values(commonNameID())
	hits := 0
	for _, v := range all {
		if like(s.CN, v) {
			hits++
		}
	}
	return hits > 0 && (!s.everyCN || hits == len(all))
}

func commonNameID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, 3} }

// issuerOf compares with the issuer's common names, and with its whole name as in RFC 2253, whether characters beyond ASCII
// stand there as they are or as openssl prints them.
func (s *subject) issuerOf(c *claims) bool {
	c.readNames()
	return slices.ContainsFunc(c.issuer.Values(commonNameID()), func(v string) bool { return like(s.Issuer, v) }) ||
		like(s.Issuer, c.issuer.Text()) || like(s.Issuer, c.issuer.String())
}

func (s *subject) uriOf(c *claims) bool {
	return slices.ContainsFunc(c.readURIs(), func(u string) bool { return like(s.URI, u) || like(s.uri, foldURI(u)) })
}

// foldDNS brings a DNS name to the form in which two are compared (RFC 5280, section 7.2, and RFC 4343). A dot at the end
// says the same name.
func foldDNS(s string) string { return strings.TrimSuffix(lower(s), ".") }

// foldEmail lowers the part of an e-mail address after the @: what stands before it is the receiver's business (RFC 5280,
// section 7.5).
func foldEmail(s string) string {
	i := strings.LastIndexByte(s, '@')
	return s[:i+1] + lower(s[i+1:])
}

// foldURI lowers scheme and host; the rest is compared exactly (RFC 5280, section 7.4).
func foldURI(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host := strings.LastIndexByte(rest[:end], '@') + 1
	return lower(scheme) + "://" + rest[:host] + lower(rest[host:end]) + rest[end:]
}

// lower lowers ASCII alone: there is nothing else in the names that it is for, and no other letter may become one of them,
// such as the Kelvin sign.
func lower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// like reports whether all of s is as pattern says, in which "*" stands for any characters. Its time is bounded by the
// product of the two lengths.
func like(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], next
	}
}
