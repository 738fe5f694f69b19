package termination

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
)

// Mode says whether an endpoint asks for a client certificate and what it does without a good one.
type Mode string

// The five modes. See [ClientAuth].
const (
	ModeOff        Mode = "off"         // does not ask
	ModeRequest    Mode = "request"     // asks; lets everyone in; the service decides
	ModeRequireAny Mode = "require_any" // demands a certificate, lets in whichever it is
	ModeOptional   Mode = "optional"    // asks; refuses one that fails; lets in those without
	ModeRequire    Mode = "require"     // demands a certificate that passes
)

// Valid reports whether m is one of the five modes.
func (m Mode) Valid() bool {
	switch m {
	case ModeOff, ModeRequest, ModeRequireAny, ModeOptional, ModeRequire:
		return true
	}
	return false
}

// Asks reports whether the client is asked for a certificate.
func (m Mode) Asks() bool { return m != ModeOff }

// Verifies reports whether a certificate that fails is refused.
func (m Mode) Verifies() bool { return m == ModeOptional || m == ModeRequire }

// DemandsCertificate reports whether a client without a certificate is refused.
func (m Mode) DemandsCertificate() bool { return m == ModeRequire || m == ModeRequireAny }

// OnLoss says what happens to a live connection that a change would no longer admit.
type OnLoss string

// The three ways to treat live connections that lost their right to be here.
const (
	OnLossClose OnLoss = "close" // close now
	OnLossDrain OnLoss = "drain" // finish the request in flight, accept no further one; raw connections close
	OnLossLeave OnLoss = "leave" // leave the connection, refuse further requests on it
)

// DefaultMaxDepth is the number of CA certificates allowed above the leaf, the anchor counted.
const DefaultMaxDepth = 4

// ClientAuth is the client policy of an endpoint or a route.
type ClientAuth struct {
	Mode        Mode
	Authorities []string // names of authorities
	Pins        []Pin
	Inherit     bool // add the authorities and pins of Config.Defaults
	MaxDepth    int  // CA certificates above the leaf, the anchor counted; 0 means DefaultMaxDepth
	Announce    bool // name the authorities in the CertificateRequest (RFC 8446, section 4.2.4)
	OnLoss      OnLoss
	Rules       []Rule // after those of Config.Defaults; none: whoever passes is let in
	When        string // expression in CEL that must be true besides; empty: none
	Hygiene     Hygiene
	ReportOnly  bool // decide and record, but let everyone in and assert no identity
	Soft        bool // https: refuse in HTTP, with 403, instead of in TLS
}

// Depth returns MaxDepth or its default.
func (c ClientAuth) Depth() int {
	if c.MaxDepth == 0 {
		return DefaultMaxDepth
	}
	return c.MaxDepth
}

// Fingerprint is the SHA-256 of a certificate's DER, or of a public key's SubjectPublicKeyInfo.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// KeyFingerprintOf returns the fingerprint of a certificate's public key.
func KeyFingerprintOf(c *x509.Certificate) Fingerprint {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}

// String returns 64 lower-case hex digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// Short returns the first six bytes, an ellipsis and the last one, as lists show it.
func (f Fingerprint) Short() string {
	s := f.String()
	return s[:12] + "…" + s[62:]
}

// MarshalText implements encoding.TextMarshaler.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Fingerprint) UnmarshalText(b []byte) error {
	v, err := ParseFingerprint(string(b))
	if err == nil {
		*f = v
	}
	return err
}

// ParseFingerprint reads 64 hex digits in either case, with or without the colons that openssl prints.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	h := strings.ReplaceAll(strings.TrimSpace(s), ":", "")
	if len(h) != 2*len(f) {
		return f, fmt.Errorf("a SHA-256 fingerprint has 64 hex digits, this has %d", len(h))
	}
	if _, err := hex.Decode(f[:], []byte(h)); err != nil {
		return f, fmt.Errorf("read fingerprint: %w", err)
	}
	return f, nil
}

// Pin is trust in one exact certificate, or in one exact key. A pinned certificate never acts as an issuer.
type Pin struct {
	Fingerprint Fingerprint
	Key         bool // of the SubjectPublicKeyInfo, not of the certificate
}

// ParsePin reads a fingerprint, with the prefix "spki:" for one of a key.
func ParsePin(s string) (Pin, error) {
	var p Pin
	rest, key := strings.CutPrefix(strings.TrimSpace(s), "spki:")
	f, err := ParseFingerprint(rest)
	if err != nil {
		return p, err
	}
	return Pin{Fingerprint: f, Key: key}, nil
}

// String is the form that [ParsePin] reads.
func (p Pin) String() string {
	if p.Key {
		return "spki:" + p.Fingerprint.String()
	}
	return p.Fingerprint.String()
}

// Matches reports whether leaf is the pinned certificate or has the pinned key. Only a leaf whose key was proven in the
// handshake may be asked about: the rest of a presented list may be anybody's.
func (p Pin) Matches(leaf *x509.Certificate) bool {
	if p.Key {
		return KeyFingerprintOf(leaf) == p.Fingerprint
	}
	return FingerprintOf(leaf) == p.Fingerprint
}
