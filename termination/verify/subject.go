package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"strings"

	"countersign/termination"
)

// subject is a termination.Subject made ready to compare.
type subject struct {
	termination.Subject
	network netip.Prefix // of IP; invalid: IP is no address, and matches nothing
}

func newSubject(s termination.Subject) subject {
	out := subject{Subject: s}
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

// matches reports whether a proven and verified leaf is meant. authority is the one that vouches for it, empty for a pin;
// identity is the name of the identity that it is known by.
func (s *subject) matches(leaf *x509.Certificate, authority, identity string) bool {
	switch {
	case s.Identity != "" && s.Identity != identity,
		s.Authority != "" && s.Authority != authority,
		s.Pin != nil && !s.Pin.Matches(leaf),
		s.Serial != "" && s.Serial != termination.SerialOf(leaf),
		s.Issuer != "" && !s.issuer(leaf),
		s.CN != "" && !attribute(leaf, oidCommonName, s.CN),
		s.O != "" && !attribute(leaf, oidOrganization, s.O),
		s.OU != "" && !attribute(leaf, oidOrganizationalUnit, s.OU),
		s.DNS != "" && !anyOf(leaf.DNSNames, func(n string) bool { return like(strings.ToLower(s.DNS), strings.ToLower(n)) }),
		s.URI != "" && !s.uri(leaf),
		s.Email != "" && !anyOf(leaf.EmailAddresses, func(n string) bool { return like(foldHost(s.Email), foldHost(n)) }),
		s.IP != "" && !s.ip(leaf):
		return false
	}
	return true
}

var (
	oidCommonName         = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization       = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOrganizationalUnit = asn1.ObjectIdentifier{2, 5, 4, 11}
)

// attribute reports whether a value of that type in the subject is like pattern.
func attribute(leaf *x509.Certificate, oid asn1.ObjectIdentifier, pattern string) bool {
	for _, a := range leaf.Subject.Names {
		if v, ok := a.Value.(string); ok && a.Type.Equal(oid) && like(pattern, v) {
			return true
		}
	}
	return false
}

func (s *subject) issuer(leaf *x509.Certificate) bool {
	return like(s.Issuer, leaf.Issuer.CommonName) || like(s.Issuer, leaf.Issuer.String())
}

func (s *subject) uri(leaf *x509.Certificate) bool {
	for _, u := range leaf.URIs {
		if like(s.URI, u.String()) {
			return true
		}
	}
	return false
}

func (s *subject) ip(leaf *x509.Certificate) bool {
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok && s.network.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

func anyOf(values []string, match func(string) bool) bool {
	for _, v := range values {
		if match(v) {
			return true
		}
	}
	return false
}

// foldHost lowers the part of an e-mail address after the @: what stands before it is the receiver's business (RFC 5280,
// section 7.5).
func foldHost(s string) string {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s
	}
	return s[:i] + strings.ToLower(s[i:])
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
