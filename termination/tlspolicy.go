package termination

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// Names of application protocols (RFC 7301) that mean something here.
const (
	ALPNHTTP2    = "h2"
	ALPNHTTP1    = "http/1.1"
	ALPNPostgres = "postgresql"
	alpnACME     = "acme-tls/1" // RFC 8737; the gateway answers it by itself
)

// TLSPolicy is what TLS is spoken with at an endpoint, once its preset and what stands beside it are put together.
type TLSPolicy struct {
	MinVersion uint16
	MaxVersion uint16
	Suites     []uint16 // of TLS 1.2, in ascending order; none where it is not spoken. Those of TLS 1.3 are never chosen
	ALPN       []string // in order of preference; none: whatever the client offers is left alone
}

// TLSPolicy returns the endpoint's policy. It is the one place where presets and defaults are turned into values; for an
// endpoint whose TLS ends in the service it means nothing.
func (e *Endpoint) TLSPolicy() TLSPolicy {
	p := TLSPolicy{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13, ALPN: e.ALPN}
	if e.Preset == PresetModern {
		p.MinVersion = tls.VersionTLS13
	}
	if e.MinVersion != 0 {
		p.MinVersion = e.MinVersion
	}
	if e.MaxVersion != 0 {
		p.MaxVersion = e.MaxVersion
	}
	if p.MinVersion <= tls.VersionTLS12 {
		p.Suites = slices.Sorted(slices.Values(e.Suites))
		if len(p.Suites) == 0 {
			p.Suites = intermediateSuites()
		}
	}
	switch {
	case len(p.ALPN) > 0:
	case e.Scheme == SchemeHTTPS:
		p.ALPN = []string{ALPNHTTP2, ALPNHTTP1}
	case e.StartTLS == StartTLSPostgres:
		p.ALPN = []string{ALPNPostgres} // libpq insists on it where it begins with TLS at once
	}
	return p
}

// intermediateSuites are the suites of TLS 1.2 with forward secrecy and authenticated encryption.
func intermediateSuites() []uint16 {
	return slices.DeleteFunc(SecureSuites(), cbc)
}

// cbc reports whether a suite encrypts by blocks and authenticates apart, which HTTP/2 forbids (RFC 9113, section
// 9.2.2).
func cbc(suite uint16) bool { return strings.Contains(SuiteName(suite), "_CBC_") }

// Objection says why a connection that agreed on n could not agree on it under this policy; empty: it could.
func (p TLSPolicy) Objection(n *Negotiated) Reason {
	switch {
	case n == nil || n.Version < p.MinVersion || n.Version > p.MaxVersion:
		return ReasonVersionLow
	case n.Version <= tls.VersionTLS12 && !slices.Contains(p.Suites, n.CipherSuite):
		return ReasonNoCommonSuite
	case n.ALPN != "" && !slices.Contains(p.ALPN, n.ALPN):
		return ReasonALPN
	}
	return ""
}

// Versions names the versions that are spoken, as in "TLS 1.2 to TLS 1.3".
func (p TLSPolicy) Versions() string {
	if p.MinVersion == p.MaxVersion {
		return tls.VersionName(p.MinVersion)
	}
	return tls.VersionName(p.MinVersion) + " to " + tls.VersionName(p.MaxVersion)
}

// AllSuites are the suites that are spoken, those of TLS 1.3 too.
func (p TLSPolicy) AllSuites() []uint16 {
	out := slices.Clone(p.Suites)
	if p.MaxVersion >= tls.VersionTLS13 {
		for _, s := range tls.CipherSuites() {
			if slices.Contains(s.SupportedVersions, tls.VersionTLS13) {
				out = append(out, s.ID)
			}
		}
	}
	return out
}

// Key is the same for policies that are the same, and for no others.
func (p TLSPolicy) Key() string {
	return fmt.Sprintf("%x-%x %x %q", p.MinVersion, p.MaxVersion, p.Suites, p.ALPN)
}
