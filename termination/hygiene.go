package termination

import (
	"fmt"
	"slices"
	"strings"
)

// Level says what follows when a client's certificate fails one of the checks of [Hygiene].
type Level string

// The levels. An empty one is the default of its check.
const (
	LevelRefuse Level = "refuse" // the certificate does not pass
	LevelWarn   Level = "warn"   // it passes, and the record notes what is wrong
	LevelOff    Level = "off"    // it passes, and nothing is said
)

// Hygiene says how strict a policy is about what crypto/x509 and other verifiers let pass, or what clients cannot help.
// Chain, dates, depth, rights of a CA and unknown critical extensions are no hygiene: they always count.
type Hygiene struct {
	WeakKey         Level // RSA below 2048 bits, in the leaf or a CA above it
	WeakSignature   Level // a signature by SHA-1, on the leaf or a CA below the anchor
	Usage           Level // an extended key usage without clientAuth, on the leaf or a CA (RFC 5280, section 4.2.1.12)
	KeyUsage        Level // a key usage without digitalSignature on the leaf (section 4.2.1.3)
	CALeaf          Level // a CA certificate that comes as a client
	NameConstraints Level // names of the leaf that a CA above it may not sign (section 4.2.1.10)
	MissingUsage    Level // a leaf without extended key usage, or of X.509 version 1; default: warn
	MissingSAN      Level // a leaf without subject alternative name; default: warn
}

// HygieneCheck is one check of Hygiene by its name in the configuration.
type HygieneCheck struct {
	Key     string
	Level   *Level
	Default Level
}

// Checks returns all checks in the order in which pages and files show them. Their levels point into h.
func (h *Hygiene) Checks() []HygieneCheck {
	return []HygieneCheck{
		{"weak_key", &h.WeakKey, LevelRefuse},
		{"weak_signature", &h.WeakSignature, LevelRefuse},
		{"usage", &h.Usage, LevelRefuse},
		{"key_usage", &h.KeyUsage, LevelRefuse},
		{"ca_leaf", &h.CALeaf, LevelRefuse},
		{"name_constraints", &h.NameConstraints, LevelRefuse},
		{"missing_usage", &h.MissingUsage, LevelWarn},
		{"missing_san", &h.MissingSAN, LevelWarn},
	}
}

// Complete returns h with the default where a level is empty, or is none that is known: who writes nonsense gets what
// is safe.
func (h Hygiene) Complete() Hygiene {
	for _, c := range h.Checks() {
		switch *c.Level {
		case LevelRefuse, LevelWarn, LevelOff:
		default:
			*c.Level = c.Default
		}
	}
	return h
}

// Words returns the levels that are set, by their names in the configuration; nil: all are the defaults.
func (h Hygiene) Words() map[string]string {
	var out map[string]string
	for _, c := range h.Checks() {
		if *c.Level != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[c.Key] = string(*c.Level)
		}
	}
	return out
}

// HygieneOf reads what [Hygiene.Words] returns. An unknown check or level is an error.
func HygieneOf(words map[string]string) (Hygiene, error) {
	var h Hygiene
	checks := h.Checks()
	for key, value := range words {
		i := slices.IndexFunc(checks, func(c HygieneCheck) bool { return c.Key == key })
		if i < 0 {
			return h, fmt.Errorf("%q is no check of hygiene; use %s", key, strings.Join(HygieneKeys(), ", "))
		}
		switch level := Level(value); level {
		case LevelRefuse, LevelWarn, LevelOff:
			*checks[i].Level = level
		default:
			return h, fmt.Errorf("%s: %q is unknown; use refuse, warn or off", key, value)
		}
	}
	return h, nil
}

// HygieneKeys are the names of all checks.
func HygieneKeys() []string {
	var keys []string
	for _, c := range new(Hygiene).Checks() {
		keys = append(keys, c.Key)
	}
	return keys
}
