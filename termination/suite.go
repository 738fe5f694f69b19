package termination

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// opensslSuites are the names under which OpenSSL and nginx know the suites of TLS 1.2 that crypto/tls deems secure.
func opensslSuites() map[string]uint16 {
	return map[string]uint16{
		"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	}
}

// SecureSuites returns the suites of TLS 1.2 that may be chosen, as crypto/tls deems them secure.
func SecureSuites() []uint16 {
	var out []uint16
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			out = append(out, s.ID)
		}
	}
	return out
}

// ParseSuite reads the name of a suite of TLS 1.2, as the registry of IANA or as OpenSSL spells it.
func ParseSuite(name string) (uint16, error) {
	wanted := strings.ToUpper(strings.TrimSpace(name))
	if id, ok := opensslSuites()[wanted]; ok {
		return id, nil
	}
	for _, s := range tls.CipherSuites() {
		if s.Name == wanted && slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			return s.ID, nil
		}
	}
	if flaw := flawOf(wanted); flaw != "" {
		return 0, fmt.Errorf("the suite %s is not offered: %s", wanted, flaw)
	}
	return 0, fmt.Errorf("the suite %.100q is not known here", name)
}

// flawOf says what is wrong with a suite that is never offered, by its name in either spelling. It is empty for what is
// no name of a suite.
func flawOf(name string) string {
	for _, s := range tls.CipherSuites() {
		if s.Name == name && !slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			return "it belongs to TLS 1.3, where there is no choice of suites"
		}
	}
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' })
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(parts, w) })
	}
	suite := len(parts) >= 3 && (parts[0] == "TLS" || has("SHA", "SHA256", "SHA384", "MD5", "POLY1305", "CCM", "CCM8"))
	switch {
	case !suite:
		return ""
	case has("NULL", "EXPORT", "EXP", "ANON", "ADH", "AECDH"):
		return "it does not encrypt, or leaves the server unproven"
	case has("RC4", "3DES", "DES", "CBC3", "RC2", "IDEA", "MD5"):
		return "its cipher is broken"
	case has("PSK", "SRP", "KRB5"):
		return "it works without certificates"
	case has("DHE", "EDH"):
		return "its key exchange, finite-field Diffie-Hellman, is not spoken here; use ECDHE"
	case !has("ECDHE"):
		return "it has no forward secrecy: whoever gets the server's key later reads what was recorded before"
	default:
		return "it is not spoken here, or not kept safe against timing (Lucky Thirteen)"
	}
}

// SuiteName is the name of a suite in the registry of IANA.
func SuiteName(id uint16) string { return tls.CipherSuiteName(id) }

// OpenSSLSuiteName is the name of a suite as OpenSSL spells it; those of TLS 1.3 have the same name everywhere.
func OpenSSLSuiteName(id uint16) string {
	for name, suite := range opensslSuites() {
		if suite == id {
			return name
		}
	}
	return SuiteName(id)
}
