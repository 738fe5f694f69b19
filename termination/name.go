package termination

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// ErrName is wrapped by every error of [NormalizeName].
var ErrName = errors.New("not a server name")

// NormalizeName brings a server name from SNI, from an HTTP Host or :authority, or from configuration to the one form
// in which names are compared: lower case, A-labels (RFC 5890), no port, no trailing dot. It refuses what is not a DNS
// host name (RFC 1123) so that two spellings can never lead to two policies. A leading "*." is kept; whether a wildcard
// is allowed is the caller's decision. IP literals are refused: SNI cannot carry them (RFC 6066, section 3).
func NormalizeName(s string) (string, error) {
	host := stripPort(s)
	host = strings.TrimSuffix(host, ".")
	if host == "" {
		return "", fmt.Errorf("%w: empty", ErrName)
	}
	if len(host) > 1024 {
		return "", fmt.Errorf("%w: %d bytes long", ErrName, len(host))
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return "", fmt.Errorf("%w: %q is an IP address", ErrName, host)
	}
	label, rest := "", host
	if strings.HasPrefix(host, "*.") {
		label, rest = "*.", host[2:]
	}
	if !isASCII(rest) {
		a, err := idna.Lookup.ToASCII(rest)
		if err != nil {
			return "", fmt.Errorf("%w: %q: %w", ErrName, host, err)
		}
		rest = a
	}
	rest = lowerASCII(rest)
	if err := checkHostName(rest); err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrName, host, err)
	}
	return label + rest, nil
}

// stripPort removes a final ":digits". It does not use net.SplitHostPort, which accepts names and rejects
// forms that a Host header may legally hold.
func stripPort(s string) string {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return s
	}
	if strings.IndexByte(s[:i], ':') >= 0 && !strings.HasSuffix(s[:i], "]") {
		return s // a bare IPv6 address
	}
	for _, c := range s[i+1:] {
		if c < '0' || c > '9' {
			return s
		}
	}
	return s[:i]
}

func checkHostName(s string) error {
	if len(s) > 253 {
		return errors.New("longer than 253 bytes")
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return errors.New("a label must have 1 to 63 bytes")
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("a label must not begin or end with a hyphen")
		}
		for i := range len(label) {
			c := label[i]
			// The underscore is no host name character, but names with it are in use and unambiguous.
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return fmt.Errorf("character %q is not allowed", c)
			}
		}
	}
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}
