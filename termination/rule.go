package termination

import (
	"crypto/x509"
	"fmt"
	"strings"
)

// Effect is what a rule does with the clients that it matches.
type Effect string

// The two effects.
const (
	EffectAllow  Effect = "allow"
	EffectRefuse Effect = "refuse"
)

// Rule lets clients in or refuses them by what their proven leaf says. In a list the first rule that matches decides;
// a client that none matches is refused.
type Rule struct {
	Effect  Effect
	Subject Subject
}

// Subject is what a rule or an identity matches: every field that is set must match. One without any matches every
// client whose certificate was verified. Texts are compared in full; a "*" stands for any characters, none included.
// Names of hosts and the part of an e-mail address after the @ are compared without regard to case (RFC 5280, section
// 7), everything else exactly.
type Subject struct {
	Identity  string // name of an identity
	Pin       *Pin
	Authority string // the authority that must have vouched for it; needed beside names where several are trusted
	Issuer    string // of the leaf's issuer: its common name, or its whole name as in RFC 2253
	CN        string
	O         string
	OU        string
	DNS       string
	URI       string
	Email     string
	IP        string // an address or a network
	Serial    string // hex; leading zeros and colons do not matter
}

// SubjectField is one field of a Subject by its name in the configuration.
type SubjectField struct {
	Key   string
	Value *string
	Name  bool // what a CA writes into a certificate: another CA could write the same
}

// Fields returns the fields that are texts, in the order in which files and pages show them. They point into s.
func (s *Subject) Fields() []SubjectField {
	return []SubjectField{
		{"identity", &s.Identity, false},
		{"issuer", &s.Issuer, true},
		{"cn", &s.CN, true},
		{"o", &s.O, true},
		{"ou", &s.OU, true},
		{"dns", &s.DNS, true},
		{"uri", &s.URI, true},
		{"email", &s.Email, true},
		{"ip", &s.IP, true},
		{"serial", &s.Serial, true},
		{"authority", &s.Authority, false},
	}
}

// Any reports whether the subject matches every verified client.
func (s Subject) Any() bool { return s == Subject{} }

// ByName reports whether the subject goes by what a CA writes into certificates.
func (s Subject) ByName() bool {
	for _, f := range s.Fields() {
		if f.Name && *f.Value != "" {
			return true
		}
	}
	return false
}

// String writes the subject as it stands in a file, such as {uri: "spiffe://prod/*", authority: devices}.
func (s Subject) String() string {
	if s.Any() {
		return "any"
	}
	var parts []string
	if s.Pin != nil {
		parts = append(parts, fmt.Sprintf("pin: %q", s.Pin))
	}
	for _, f := range s.Fields() {
		if *f.Value != "" {
			parts = append(parts, fmt.Sprintf("%s: %q", f.Key, *f.Value))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// String writes the rule as it stands in a file.
func (r Rule) String() string { return "{" + string(r.Effect) + ": " + r.Subject.String() + "}" }

// ParseSerial brings a serial number as people write it, in hex with or without colons and leading zeros, to the form in
// which it is compared: lower case, no leading zero. The number zero is "0".
func ParseSerial(s string) (string, error) {
	h := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	h = strings.TrimPrefix(h, "0x")
	if h == "" || len(h) > maxSerial || strings.Trim(h, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is no serial number; write it in hex, as openssl x509 -serial prints it", s)
	}
	if h = strings.TrimLeft(h, "0"); h == "" {
		h = "0"
	}
	return h, nil
}

// maxSerial is generous: RFC 5280, section 4.1.2.2, allows 20 octets.
const maxSerial = 128

// SerialOf returns the serial number of a certificate in the form of [ParseSerial]. A negative one, which RFC 5280
// forbids, keeps its sign and so equals none that can be written.
func SerialOf(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return ""
	}
	return c.SerialNumber.Text(16)
}
