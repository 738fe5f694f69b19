package termination_test

import (
	"reflect"
	"strings"
	"testing"

	"countersign/termination"
)

func TestRulesAreReadAsTheyAreWritten(t *testing.T) {
	pin, err := termination.ParsePin("spki:" + strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	rules := []termination.Rule{
		{Effect: termination.EffectRefuse, Subject: termination.Subject{URI: "spiffe://test/*", Authority: "devices of us"}},
		{Effect: termination.EffectAllow, Subject: termination.Subject{Pin: &pin}},
		{Effect: termination.EffectAllow, Subject: termination.Subject{CN: `a "quoted" \ name`, O: "x=y"}},
		{Effect: termination.EffectAllow},
	}
	got, err := termination.ParseRules("\n" + termination.RulesText(rules) + "\r\n")
	if err != nil || !reflect.DeepEqual(got, rules) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := termination.ParseRules(" allow dns=*.example.com  authority=a "); err != nil || got[0].Subject.DNS != "*.example.com" || got[0].Subject.Authority != "a" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRulesThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"permit any":                         "begin with allow or refuse",
		"allow":                              "not whom",
		"allow everybody":                    "no key=value",
		"allow dns=":                         "no value",
		"allow cn=a cn=b":                    "twice",
		"allow pin=00":                       "64 hex digits",
		"allow shoe=42":                      "no subject",
		"allow any\nallow cn=\"":             "line 2: cn: the quote is not closed",
		"allow any cn=x":                     "no subject",
		strings.Repeat("allow any\n", 40000): "are not read",
	} {
		if got, err := termination.ParseRules(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add("allow uri=\"spiffe://a/*\" authority=devices\nrefuse any")
	f.Add(`allow cn="\"`)
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := termination.ParseRules(text)
		if err != nil {
			return
		}
		again, err := termination.ParseRules(termination.RulesText(rules))
		if err != nil || !reflect.DeepEqual(again, rules) {
			t.Fatalf("%q: written as %q, read again as %v, %v", text, termination.RulesText(rules), again, err)
		}
	})
}

func TestHygieneWords(t *testing.T) {
	h := termination.Hygiene{Usage: termination.LevelOff, MissingSAN: termination.LevelRefuse}
	if got, err := termination.HygieneOf(h.Words()); err != nil || got != h {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []map[string]string{{"usage": "maybe"}, {"usage": ""}, {"shoes": "off"}} {
		if _, err := termination.HygieneOf(bad); err == nil {
			t.Errorf("%v is read", bad)
		}
	}
	if c := (termination.Hygiene{WeakKey: "nonsense"}).Complete(); c.WeakKey != termination.LevelRefuse || c.MissingUsage != termination.LevelWarn {
		t.Errorf("complete: %+v", c)
	}
}
