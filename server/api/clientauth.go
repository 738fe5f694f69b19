package api

import (
	"countersign/termination"
)

// ClientAuth is the client policy.
type ClientAuth struct {
	Mode        string            `json:"mode,omitempty" enum:"off,request,require_any,optional,require" doc:"Absent: require with an authority or pin, else off."`
	Authorities []string          `json:"authorities,omitempty"`
	Pins        []string          `json:"pins,omitempty" doc:"SHA-256 of certificates, or spki: and SHA-256 of keys, in hex."`
	Inherit     *bool             `json:"inherit,omitempty" doc:"Trust the defaults too; absent: true."`
	MaxDepth    int               `json:"max_depth,omitempty" minimum:"0" maximum:"10" doc:"CA certificates above the leaf, the anchor counted; 0: 4."`
	Announce    *bool             `json:"announce,omitempty" doc:"Name the authorities in the CertificateRequest; absent: true."`
	OnLoss      string            `json:"on_loss,omitempty" enum:"close,drain,leave" default:"close"`
	Rules       []Rule            `json:"rules,omitempty" doc:"The first that matches decides; a client that none matches is refused."`
	When        string            `json:"when,omitempty" doc:"An expression in CEL that must be true besides."`
	Hygiene     map[string]string `json:"hygiene,omitempty" doc:"How strict single checks are: refuse, warn or off."`
	ReportOnly  bool              `json:"report_only,omitempty" doc:"Decide and record, but let everyone in."`
	Soft        bool              `json:"soft,omitempty" doc:"Refuse in HTTP instead of in TLS; https only."`
}

// Rule lets clients in or refuses them.
type Rule struct {
	Effect  string            `json:"effect" enum:"allow,refuse"`
	Subject map[string]string `json:"subject" doc:"Every field must match, and nothing matches every client: identity, pin, issuer, cn, o, ou, dns, uri, email, ip, serial, authority."`
}

// Also is what is demanded besides the client policy.
type Also struct {
	AllOf []string `json:"all_of,omitempty" enum:"certificate,bearer,basic"`
	AnyOf []string `json:"any_of,omitempty" enum:"certificate,bearer,basic"`
	Strip bool     `json:"strip,omitempty" doc:"Take the Authorization header away before the request goes upstream."`
}

func (r *bodyReader) clientAuth(field string, b *ClientAuth) termination.ClientAuth {
	out := termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}
	if b == nil {
		return out
	}
	out.Authorities, out.MaxDepth = b.Authorities, b.MaxDepth
	out.Inherit, out.Announce = orTrue(b.Inherit), orTrue(b.Announce)
	for _, s := range b.Pins {
		pin, err := termination.ParsePin(s)
		if err != nil {
			r.fail(field+".pins", err)
			continue
		}
		out.Pins = append(out.Pins, pin)
	}
	switch {
	case b.Mode != "":
		out.Mode = termination.Mode(b.Mode)
	case len(out.Authorities) > 0 || len(out.Pins) > 0:
		out.Mode = termination.ModeRequire // whoever chooses a CA means that it counts
	}
	if b.OnLoss != "" {
		out.OnLoss = termination.OnLoss(b.OnLoss)
	}
	r.clientChecks(field, b, &out)
	return out
}

// clientChecks reads what a client policy checks besides whom it trusts.
func (r *bodyReader) clientChecks(field string, b *ClientAuth, into *termination.ClientAuth) {
	into.When, into.ReportOnly, into.Soft = b.When, b.ReportOnly, b.Soft
	var err error
	if into.Hygiene, err = termination.HygieneOf(b.Hygiene); err != nil {
		r.fail(field+".hygiene", err)
	}
	for _, rule := range b.Rules {
		subject, err := termination.SubjectOf(rule.Subject)
		if err != nil {
			r.fail(field+".rules", err)
			continue
		}
		into.Rules = append(into.Rules, termination.Rule{Effect: termination.Effect(rule.Effect), Subject: subject})
	}
}

func rulesOf(rules []termination.Rule) []Rule {
	var out []Rule
	for _, r := range rules {
		out = append(out, Rule{Effect: string(r.Effect), Subject: r.Subject.Words()})
	}
	return out
}

func alsoFrom(b *Also) termination.Also {
	if b == nil {
		return termination.Also{}
	}
	return termination.Also{AllOf: proofKinds(b.AllOf), AnyOf: proofKinds(b.AnyOf), Strip: b.Strip}
}

func proofKinds(words []string) []termination.ProofKind {
	var out []termination.ProofKind
	for _, w := range words {
		out = append(out, termination.ProofKind(w))
	}
	return out
}

func alsoOf(a termination.Also) *Also {
	out := &Also{Strip: a.Strip}
	for _, k := range a.AllOf {
		out.AllOf = append(out.AllOf, string(k))
	}
	for _, k := range a.AnyOf {
		out.AnyOf = append(out.AnyOf, string(k))
	}
	return out
}

func clientAuthOf(a termination.ClientAuth) ClientAuth {
	inherit, announce := a.Inherit, a.Announce
	out := ClientAuth{Mode: string(a.Mode), Authorities: a.Authorities, Inherit: &inherit, MaxDepth: a.MaxDepth, Announce: &announce, OnLoss: string(a.OnLoss)}
	for _, p := range a.Pins {
		out.Pins = append(out.Pins, p.String())
	}
	out.Rules, out.When, out.Hygiene = rulesOf(a.Rules), a.When, a.Hygiene.Words()
	out.ReportOnly, out.Soft = a.ReportOnly, a.Soft
	return out
}
