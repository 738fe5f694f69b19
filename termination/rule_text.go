package termination

import (
	"fmt"
	"slices"
	"strings"
)

// SubjectAny is the word for a subject that matches every verified client.
const SubjectAny = "any"

// Words returns the fields that are set, by their names in the configuration.
func (s Subject) Words() map[string]string {
	out := map[string]string{}
	if s.Pin != nil {
		out["pin"] = s.Pin.String()
	}
	for _, f := range s.Fields() {
		if *f.Value != "" {
			out[f.Key] = *f.Value
		}
	}
	return out
}

// SubjectOf reads what [Subject.Words] returns. An unknown field is an error: it may have meant something narrower.
func SubjectOf(words map[string]string) (Subject, error) {
	var s Subject
	fields := s.Fields()
	for key, value := range words {
		i := slices.IndexFunc(fields, func(f SubjectField) bool { return f.Key == key })
		switch {
		case value == "":
			return s, fmt.Errorf("%s: there is no value", key)
		case key == "pin":
			pin, err := ParsePin(value)
			if err != nil {
				return s, fmt.Errorf("pin: %w", err)
			}
			s.Pin = &pin
		case i < 0:
			return s, fmt.Errorf("%q is no subject of a rule; use %s", key, strings.Join(SubjectKeys(), ", "))
		default:
			*fields[i].Value = value
		}
	}
	return s, nil
}

// SubjectKeys are the names of the fields of a subject.
func SubjectKeys() []string {
	keys := []string{"pin"}
	for _, f := range new(Subject).Fields() {
		keys = append(keys, f.Key)
	}
	return keys
}

// Text writes the rule in one line, as [ParseRules] reads it: allow uri="spiffe://prod/*" authority="devices".
func (r Rule) Text() string {
	if r.Subject.Any() {
		return string(r.Effect) + " " + SubjectAny
	}
	out := string(r.Effect)
	words := r.Subject.Words()
	for _, key := range SubjectKeys() {
		if v, ok := words[key]; ok {
			out += " " + key + `="` + strings.ReplaceAll(strings.ReplaceAll(v, `\`, `\\`), `"`, `\"`) + `"`
		}
	}
	return out
}

// RulesText writes rules, one a line.
func RulesText(rules []Rule) string {
	lines := make([]string, len(rules))
	for i, r := range rules {
		lines[i] = r.Text()
	}
	return strings.Join(lines, "\n")
}

// maxRulesText bounds what is read.
const maxRulesText = 256 << 10

// ParseRules reads rules as people type them, one a line: allow or refuse, and then any, or key=value. A value with
// spaces stands in double quotes, with a backslash before a quote or a backslash in it. The error names the line.
func ParseRules(text string) ([]Rule, error) {
	if len(text) > maxRulesText {
		return nil, fmt.Errorf("the rules take %d bytes; more than %d are not read", len(text), maxRulesText)
	}
	var rules []Rule
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		rule, err := parseRule(line)
		if err != nil {
			return nil, fmt.Errorf("rule in line %d: %w", i+1, err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseRule(line string) (Rule, error) {
	effect, rest, _ := strings.Cut(line, " ")
	r := Rule{Effect: Effect(effect)}
	if r.Effect != EffectAllow && r.Effect != EffectRefuse {
		return r, fmt.Errorf("it begins with %q; begin with allow or refuse", effect)
	}
	rest = strings.TrimSpace(rest)
	if rest == SubjectAny {
		return r, nil
	}
	words := map[string]string{}
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		key = strings.TrimSpace(key)
		if !found {
			return r, fmt.Errorf(`%q is no key=value, such as uri="spiffe://prod/*"`, rest)
		}
		value, next, err := cutValue(after)
		if err != nil {
			return r, fmt.Errorf("%s: %w", key, err)
		}
		if _, twice := words[key]; twice {
			return r, fmt.Errorf("%s stands there twice; write two rules", key)
		}
		words[key], rest = value, strings.TrimSpace(next)
	}
	if len(words) == 0 {
		return r, fmt.Errorf("it says %s and not whom; name a subject, or %s", effect, SubjectAny)
	}
	var err error
	r.Subject, err = SubjectOf(words)
	return r, err
}

// cutValue takes a value, quoted or up to the next space, from the beginning of s.
func cutValue(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, " ")
		return value, rest, nil
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return out.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s):
			i++
			out.WriteByte(s[i])
		default:
			out.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("the quote is not closed")
}
