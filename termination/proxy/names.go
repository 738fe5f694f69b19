package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"countersign/termination"
)

// Match says how a server name was found.
type Match int

// The ways a name is found. An exact name wins over a wildcard, a wildcard over the fallback.
const (
	MatchNone     Match = iota
	MatchExact          // the name itself
	MatchWildcard       // "*." and all labels but the first
	MatchFallback       // the explicit fallback
)

// String returns the word for m.
func (m Match) String() string {
	switch m {
	case MatchExact:
		return "exact"
	case MatchWildcard:
		return "wildcard"
	case MatchFallback:
		return "fallback"
	case MatchNone:
	}
	return "none"
}

// ErrNameTaken is wrapped by the errors of [Names.Add] and [Names.SetFallback] for a name that is there already: two entries under one name
// would let chance, or the laxer policy, decide.
var ErrNameTaken = errors.New("name is taken")

// Names leads from server names to values of one listener. It is the only lookup there is, for the name in a
// ClientHello and for the Host of a request alike: two lookups that differ in one corner are how clients reach a site
// past its policy (CVE-2026-53622). Once filled it is safe for concurrent readers.
type Names[T any] struct {
	exact    map[string]T
	wildcard map[string]T // by what follows "*."
	fallback *T
}

// NewNames returns an empty Names.
func NewNames[T any]() *Names[T] {
	return &Names[T]{exact: map[string]T{}, wildcard: map[string]T{}}
}

// Add enters v under a normalised host name, which may begin with "*.".
func (n *Names[T]) Add(name string, v T) error {
	normal, err := termination.NormalizeName(name)
	if err != nil {
		return err
	}
	if normal != name {
		return fmt.Errorf("%q is not in normal form, which is %q", name, normal)
	}
	m, key := n.exact, name
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		m, key = n.wildcard, rest
	}
	if _, taken := m[key]; taken {
		return fmt.Errorf("%q: %w", name, ErrNameTaken)
	}
	m[key] = v
	return nil
}

// SetFallback makes v answer unknown and missing names.
func (n *Names[T]) SetFallback(v T) error {
	if n.fallback != nil {
		return fmt.Errorf("fallback: %w", ErrNameTaken)
	}
	n.fallback = &v
	return nil
}

// Fallback returns what answers unknown and missing names, if there is one.
func (n *Names[T]) Fallback() (T, bool) {
	if n.fallback == nil {
		var none T
		return none, false
	}
	return *n.fallback, true
}

// Lookup finds the value for a name as a peer wrote it: the server name of a ClientHello, the Host or :authority of a
// request. An empty name and an IP literal are no server names (RFC 6066, section 3), so only the fallback answers
// them. What is no host name at all has no value, not even the fallback's.
func (n *Names[T]) Lookup(raw string) (T, Match) {
	name, err := NormalizePeerName(raw)
	if err != nil {
		var none T
		return none, MatchNone
	}
	return n.find(name)
}

// find is Lookup for a name in normal form; "" stands for no name.
func (n *Names[T]) find(name string) (T, Match) {
	if v, ok := n.exact[name]; ok {
		return v, MatchExact
	}
	// A wildcard stands for exactly one label (RFC 6125, section 6.4.3).
	if _, rest, ok := strings.Cut(name, "."); ok {
		if v, ok := n.wildcard[rest]; ok {
			return v, MatchWildcard
		}
	}
	v, ok := n.Fallback()
	if !ok {
		return v, MatchNone
	}
	return v, MatchFallback
}

// NormalizePeerName is [termination.NormalizeName] for names as peers write them: an empty one and an IP literal become
// "", and a wildcard, which only configuration may hold, is refused. The error wraps [termination.ErrName].
func NormalizePeerName(raw string) (string, error) {
	if raw == "" || isAddress(raw) {
		return "", nil
	}
	name, err := termination.NormalizeName(raw)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(name, "*.") {
		return "", fmt.Errorf("%w: %q is a wildcard", termination.ErrName, raw)
	}
	return name, nil
}

// isAddress reports whether a Host holds an IP literal, with or without port. IPv6 has brackets there (RFC 3986,
// section 3.2.2); in a ClientHello neither form may stand, but some clients send one.
func isAddress(raw string) bool {
	if a, err := netip.ParseAddr(strings.TrimSuffix(raw, ".")); err == nil {
		return a.Zone() == "" // a zone may hold any text
	}
	host, port := raw, ""
	if i := strings.LastIndexByte(raw, ':'); i >= 0 && !strings.HasSuffix(raw, "]") {
		host, port = raw[:i], raw[i+1:]
	}
	if strings.Trim(port, "0123456789") != "" {
		return false
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if bare, bracketed = strings.CutSuffix(bare, "]"); !bracketed {
			return false
		}
		a, err := netip.ParseAddr(bare)
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(host, "."))
	return err == nil && a.Is4()
}
