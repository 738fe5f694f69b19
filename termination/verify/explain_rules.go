package verify

import (
	"fmt"
	"net/url"
	"strings"

	"countersign/termination"
)

// ruleWords explains that the rules or the expression of a policy keep a client out, or let it in unverified.
func (a *account) ruleWords() termination.Explanation {
	t, ok := a.tried()
	if !ok || t.Judgement.Verified { // it is what it asked for that was refused
		return a.deniedWords()
	}
	ex := termination.Explanation{
		Right:    a.leafRight(),
		ClientTo: a.toClient("the policy does not allow it", "Its certificate is fine; who may come in is for us to change."),
	}
	change := termination.Fix{Text: fmt.Sprintf("Or change the policy of %s: then others may come in as well.", a.at()), Action: a.endpointPage(), Lowers: true}
	if rule := a.ruleFor(t); rule != "" {
		change.Text = fmt.Sprintf("Or, if this client is meant to come in, put this rule before the one that keeps it out: %s", rule)
		change.Action = a.endpointPage() + "?rule=" + url.QueryEscape(rule) + "#rules"
	}
	var decides *TriedRule
	for i := range t.Rules {
		if t.Rules[i].Decides {
			decides = &t.Rules[i]
		}
	}
	switch {
	case decides != nil && decides.Effect != termination.EffectAllow:
		where := "of " + a.at()
		if decides.Shared {
			where = "that all endpoints share"
			change = termination.Fix{Text: "Or change the rules of the defaults: then others may come in as well, at other endpoints too.", Lowers: true}
		}
		ex.Sentence = fmt.Sprintf("%s %s to %s. The rule %s %s refuses it.", a.who(), a.verbOfComing(), a.at(), visible(decides.Text, maxDetailText), where)
		ex.Fixes = []termination.Fix{{Text: "Leave it, if the rule is meant for this client."}, change}
	case t.When != nil && t.Judgement.Rule == whenRule(t.When.Text):
		ex.Sentence = fmt.Sprintf("%s %s to %s. The expression of the policy is false for it: %s.", a.who(), a.verbOfComing(), a.at(), visible(t.When.Text, maxDetailText))
		ex.Fixes = []termination.Fix{
			{Text: "Compare the expression with what the certificate says" + values(t) + "."},
			{Text: fmt.Sprintf("Or change the expression of %s: then others may come in as well.", a.at()), Action: a.endpointPage(), Lowers: true},
		}
	default:
		ex.Sentence = fmt.Sprintf("%s %s to %s. No rule there allows it.", a.who(), a.verbOfComing(), a.at())
		ex.Fixes = []termination.Fix{{Text: "Use a client that the rules allow: " + allowed(t) + "."}, change}
	}
	return ex
}

// expressionErrorWords explains that an expression had no value for a client.
func (a *account) expressionErrorWords() termination.Explanation {
	t, ok := a.tried()
	if !ok || t.When == nil {
		return a.generalWords(termination.ReasonExpressionError)
	}
	why := ""
	if t.When.Error != "" {
		why = ": " + visible(strings.TrimSuffix(t.When.Error, "."), maxDetailText)
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s %s to %s. The expression of the policy failed%s. An expression that fails lets nobody in.", a.who(), a.verbOfComing(), a.at(), why),
		Right:    a.leafRight(),
		Fixes: []termination.Fix{
			{Text: "Correct the expression, so that it has a value whatever stands in a certificate: " + visible(t.When.Text, maxDetailText) + ". It looks at these" + values(t) + ". Lists may be empty: ask size() first, or use exists.", Action: a.endpointPage()},
		},
		ClientTo: a.toRefuser("The policy of the endpoint has a fault on our side; your client is not the cause."),
	}
}

// tried judges the client of the record again, under the policy that refused it.
func (a *account) tried() (Tried, bool) {
	if a.policy == nil || a.leaf == nil {
		return Tried{}, false
	}
	h := a.handshake
	c := Client{Presented: h.Presented, Peer: h.Peer}
	if h.Hello != nil {
		c.ServerName = h.Hello.ServerName
	}
	if h.Chosen != nil {
		c.Version = h.Chosen.Version
	}
	t := a.policy.Try(c, nil, a.now)
	return t, t.Chain.Verified
}

// values lists what an expression looks at, with types and values.
func values(t Tried) string {
	if t.When == nil || len(t.When.Values) == 0 {
		return ""
	}
	var parts []string
	for _, v := range t.When.Values {
		value := v.Text
		if value == "" {
			value = "not known yet"
		}
		parts = append(parts, fmt.Sprintf("%s (%s) is %s", v.Name, v.Type, visible(value, maxDetailText)))
	}
	return ": " + strings.Join(parts, "; ")
}

// allowed lists the rules that let somebody in, the first of them.
func allowed(t Tried) string {
	const most = 4
	var parts []string
	n := 0
	for _, r := range t.Rules {
		if r.Effect != termination.EffectAllow {
			continue
		}
		if n++; n <= most {
			parts = append(parts, visible(r.Text, maxDetailText))
		}
	}
	switch {
	case n == 0:
		return "there is none, so that only identities of this endpoint come in"
	case n > most:
		parts = append(parts, fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(parts, ", ")
}

// ruleFor is a rule, as people type it, that lets this client in and nobody else: by the name that names it best, under the
// authority that vouches for it, or by its pin.
func (a *account) ruleFor(t Tried) string {
	s := termination.Subject{Authority: t.Chain.Authority}
	uris := termination.URIsOf(a.leaf)
	switch {
	case t.Chain.Authority == "":
		s.Pin = &termination.Pin{Fingerprint: termination.FingerprintOf(a.leaf)}
	case len(uris) > 0:
		s.URI = uris[0]
	case len(a.leaf.DNSNames) > 0:
		s.DNS = a.leaf.DNSNames[0]
	case len(a.leaf.EmailAddresses) > 0:
		s.Email = a.leaf.EmailAddresses[0]
	default:
		s.Pin, s.Authority = &termination.Pin{Fingerprint: termination.FingerprintOf(a.leaf)}, ""
	}
	for _, f := range s.Fields() {
		if v := *f.Value; v != visible(v, maxDetailText) || strings.ContainsAny(v, "*\n") {
			return "" // no rule can say that
		}
	}
	return termination.Rule{Effect: termination.EffectAllow, Subject: s}.Text()
}
