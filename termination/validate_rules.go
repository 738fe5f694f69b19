package termination

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxRules   = 1000 // in one list
	maxPattern = 512  // bytes of one text of a subject
	maxStars   = 8    // in it
)

// sharedRules checks the rules of the defaults.
func (v *validation) sharedRules() {
	list := v.config.Defaults.Rules
	const field = "client_auth.rules"
	v.ruleList("defaults", "", field, list, nil)
	for i := range list {
		if list[i].Subject.Any() && list[i].Effect == EffectAllow {
			v.add("defaults", "", ruleField(field, i), "it lets every verified client in, so that no endpoint's own rules would be looked at", "put allow any into the rules of the endpoints that are meant")
		}
	}
}

// rules checks the rules of a client policy.
func (v *validation) rules(e *Endpoint, field string, a ClientAuth) {
	field += ".rules"
	eff := v.config.Effective(a)
	if len(a.Rules) > 0 && a.Mode == ModeOff {
		v.add("endpoint", e.Name, field, "mode off asks nobody for a certificate, so the rules would never be looked at", "choose another mode, or remove them")
		return
	}
	v.ruleList("endpoint", e.Name, field, a.Rules, eff.Authorities)
	v.bindNames(e, field, a, eff)
	if len(a.Rules) > 0 && !v.someAllowed(e, a) {
		v.add("endpoint", e.Name, field, "no rule allows anybody, and whom no rule allows is refused: nobody could enter", "add {allow: any} at the end, or say who may come in")
	}
}

// someAllowed reports whether somebody could pass the rules: by one that allows, or as an identity of the endpoint.
func (v *validation) someAllowed(e *Endpoint, a ClientAuth) bool {
	allows := func(r Rule) bool { return r.Effect == EffectAllow }
	return slices.ContainsFunc(a.Rules, allows) || a.Inherit && slices.ContainsFunc(v.config.Defaults.Rules, allows) ||
		slices.ContainsFunc(v.config.Identities, func(i Identity) bool { return i.Knows(e.Name) })
}

// bindNames refuses rules that go by names where several authorities are trusted and the rule does not say whose names are
// meant: any of them could issue a certificate with our names.
func (v *validation) bindNames(e *Endpoint, field string, a, eff ClientAuth) {
	if len(eff.Authorities) < 2 || !a.Mode.Asks() {
		return
	}
	advice := fmt.Sprintf("add authority: to it, one of %s", strings.Join(eff.Authorities, ", "))
	for i, r := range a.Rules {
		if r.Subject.ByName() && r.Subject.Authority == "" {
			v.add("endpoint", e.Name, ruleField(field, i), fmt.Sprintf("%s goes by a name, and %d authorities are trusted here: each of them could issue that name", r, len(eff.Authorities)), advice)
		}
	}
	if !a.Inherit {
		return
	}
	for i, r := range v.config.Defaults.Rules {
		if r.Subject.ByName() && r.Subject.Authority == "" {
			v.add("defaults", "", ruleField("client_auth.rules", i), fmt.Sprintf("%s goes by a name, and the endpoint %s trusts %d authorities: each of them could issue that name", r, e.Name, len(eff.Authorities)), advice)
		}
	}
}

func ruleField(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// ruleList checks a list by itself. trusted are the authorities of the policy; nil: those are not known.
func (v *validation) ruleList(kind, name, field string, list []Rule, trusted []string) {
	if len(list) > maxRules {
		v.add(kind, name, field, fmt.Sprintf("%d rules are more than %d", len(list), maxRules), "use identities for single clients, or patterns with a *")
		return
	}
	seen := map[string]int{}
	for i, r := range list {
		at := ruleField(field, i)
		if r.Effect != EffectAllow && r.Effect != EffectRefuse {
			v.add(kind, name, at, fmt.Sprintf("%q is no effect", r.Effect), "use allow or refuse")
		}
		for _, p := range v.subject(r.Subject, trusted) {
			v.add(kind, name, at, p.problem, p.advice)
		}
		if before, twice := seen[r.Subject.String()]; twice {
			v.add(kind, name, at, fmt.Sprintf("it is never reached: rule %d has the same subject, and the first that matches decides", before+1), "remove one of the two")
		} else if before, any := seen[SubjectAny]; any {
			v.add(kind, name, at, fmt.Sprintf("it is never reached: rule %d matches everybody", before+1), "put it before that one, or remove it")
		}
		if _, twice := seen[r.Subject.String()]; !twice {
			seen[r.Subject.String()] = i
		}
	}
}

// fault is what is wrong with a subject, and what to do.
type fault struct{ problem, advice string }

// subject checks whom a rule or an identity means. trusted are the authorities that could vouch for a client; nil: any.
func (v *validation) subject(s Subject, trusted []string) []fault {
	var out []fault
	fail := func(advice, format string, args ...any) {
		out = append(out, fault{fmt.Sprintf(format, args...), advice})
	}
	for _, f := range s.Fields() {
		for _, p := range checkPattern(f.Key, *f.Value) {
			fail(p.advice, "%s", p.problem)
		}
	}
	if s.Identity != "" && v.config.Identity(s.Identity) == nil {
		fail("register it under Clients, or correct the name", "there is no identity %q", s.Identity)
	}
	switch {
	case s.Authority == "":
	case v.config.Authority(s.Authority) == nil:
		fail("upload it under Trust, or correct the name", "there is no authority %q", s.Authority)
	case trusted != nil && !slices.Contains(trusted, s.Authority):
		fail("trust it here too, or correct the name", "the authority %q is not trusted here, so nobody could match", s.Authority)
	}
	if s.Serial != "" {
		if _, err := ParseSerial(s.Serial); err != nil {
			fail("leave out everything else", "serial: %s", err)
		}
	}
	if s.IP != "" {
		if _, err := ParsePrefix(s.IP); err != nil {
			fail("write an address, or a network as in 10.0.0.0/8", "ip: %q is neither an address nor a network", s.IP)
		}
	}
	return out
}

// checkPattern refuses texts that could match nothing, or something else than is meant.
func checkPattern(key, value string) []fault {
	var out []fault
	fail := func(advice, format string, args ...any) {
		out = append(out, fault{fmt.Sprintf(format, args...), advice})
	}
	switch {
	case value == "":
		return nil
	case len(value) > maxPattern:
		fail("shorten it; a * stands for any characters", "%s has %d bytes, and %d are allowed", key, len(value), maxPattern)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		fail("remove them", "%s holds characters that no name has", key)
	case strings.TrimSpace(value) != value:
		fail("remove them", "%s begins or ends with a space", key)
	case strings.Count(value, "*") > maxStars:
		fail("use fewer", "%s has more than %d stars", key, maxStars)
	}
	switch key {
	case "serial", "ip", "identity", "authority":
		if strings.Contains(value, "*") {
			fail("write the whole of it", "%s takes no *", key)
		}
	case "dns":
		if strings.IndexFunc(value, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			fail("write it as it stands in certificates, with xn--", "dns: %q is not ASCII", value)
		} else if strings.ContainsAny(value, "/: @") {
			fail("write the name alone, as in *.example.com", "dns: %q is no DNS name", value)
		}
	case "email":
		if value != "*" && !strings.Contains(value, "@") {
			fail("write it as in *@example.com", "email: %q has no @", value)
		}
	case "uri":
		if value != "*" && !strings.Contains(value, ":") {
			fail(`write it as in "spiffe://prod/*"`, "uri: %q has no scheme", value)
		}
	case "issuer":
		if strings.Contains(value, " = ") || strings.Contains(value, "=") && looseComma(value) {
			fail("write it as openssl x509 -noout -issuer -nameopt RFC2253 prints it: CN=Devices CA,O=Example", "issuer: %q has spaces around its parts, and could match no certificate", value)
		}
	}
	return out
}

// looseComma reports whether an unescaped comma is followed by a space.
func looseComma(s string) bool {
	for i := 0; i+1 < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == ',' && s[i+1] == ' ':
			return true
		}
	}
	return false
}
