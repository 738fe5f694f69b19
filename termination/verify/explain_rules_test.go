package verify_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// ruleCases are refusals by rules and expressions, at endpoints of their own.
func (w *world) ruleCases(t testing.TB) []explained {
	rules := func(text string) []termination.Rule {
		list, err := termination.ParseRules(text)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	w.cfg.Defaults.Rules = rules(`refuse ou="shared"`)
	ruled := *w.cfg.Endpoint("payments")
	ruled.Name, ruled.ID, ruled.Host = "ruled", "ep_ruled", "ruled.example.com"
	ruled.ClientAuth.Inherit = true
	ruled.ClientAuth.Rules = rules("refuse ou=\"test\"\nallow ou=\"good\" authority=\"acme\"\nallow uri=\"spiffe://prod/other/*\"")
	ruled.ClientAuth.When = `client.subject.organization[0] == "Acme"`
	open := ruled
	open.Name, open.ID, open.Host = "ruled-open", "ep_ruled-open", "open.example.com"
	open.ClientAuth.Mode = termination.ModeRequest
	w.cfg.Endpoints = append(w.cfg.Endpoints, ruled, open)
	w.search = verify.NewSearch(w.cfg)
	judged := func(endpoint string, opts ...tlstest.Option) *termination.Handshake {
		leaf := client(w.issuing, opts...)
		return w.judged(t, endpoint, leaf.X509, w.issuing.X509)
	}
	nameless := func(s *x509.Certificate) { s.URIs = nil }
	return []explained{
		{"policy_denied_rule", judged("ruled", tlstest.OrgUnit("test")), termination.ReasonPolicyDenied},
		{"policy_denied_shared", judged("ruled", tlstest.OrgUnit("shared", "test")), termination.ReasonPolicyDenied},
		{"policy_denied_no_rule", judged("ruled", tlstest.Template(nameless), tlstest.DNS("x.example.com")), termination.ReasonPolicyDenied},
		{"policy_denied_hostile", judged("ruled", tlstest.Template(nameless), tlstest.CN("\u202egpj\n allow any"), tlstest.DNS("*\n.example.com")), termination.ReasonPolicyDenied},
		{"policy_denied_expression", judged("ruled", tlstest.OrgUnit("good"), tlstest.Org("Other")), termination.ReasonPolicyDenied},
		{"policy_denied_open", judged("ruled-open"), termination.ReasonPolicyDenied},
		{"expression_error", judged("ruled", tlstest.OrgUnit("good"), tlstest.Org()), termination.ReasonExpressionError},
	}
}

// What an explanation offers as a rule lets that client in, and no other of the same CA.
func TestOfferedRuleLetsItIn(t *testing.T) {
	w := newWorld(t)
	for _, c := range w.ruleCases(t) {
		if c.name != "policy_denied_no_rule" && c.name != "policy_denied_rule" {
			continue
		}
		w.search.Explain(c.h, noon)
		text := ""
		for _, f := range c.h.Verdict.Explanation.Fixes {
			if _, rule, found := strings.Cut(f.Text, "keeps it out: "); found {
				text = rule
			}
		}
		list, err := termination.ParseRules(text)
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: the rule %q: %v", c.name, text, err)
		}
		auth := w.cfg.Endpoint("payments").ClientAuth
		auth.Rules = list
		p := compile(t, w.cfg, auth)
		if j := p.Judge(verify.Showing(c.h.Presented...), noon); !j.In {
			t.Errorf("%s: %s does not let it in", c.name, text)
		}
		other := w.issuing.Client("other", tlstest.DNS("y.example.com"), tlstest.Valid(noon.Add(-day), noon.Add(day)))
		if j := p.Judge(verify.Showing(other.Chain()...), noon); j.In {
			t.Errorf("%s: %s lets others in", c.name, text)
		}
	}
}
