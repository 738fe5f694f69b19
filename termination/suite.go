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
		if s.Name != wanted {
			continue
		}
		if !slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			return 0, fmt.Errorf("the suite %s belongs to TLS 1.3, which has no choice of suites", s.Name)
		}
		return s.ID, nil
	}
	for _, s := range tls.InsecureCipherSuites() {
		if s.Name == wanted {
			return 0, fmt.Errorf("the suite %s is not offered: it is insecure", s.Name)
		}
	}
	return 0, fmt.Errorf("the suite %q is not known here", name)
}

// SuiteName is the name of a suite in the registry of IANA.
func SuiteName(id uint16) string { return tls.CipherSuiteName(id) }
