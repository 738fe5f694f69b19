package server

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"countersign/termination"
	"countersign/termination/verify"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

func asBadTry(err error, into *badTry) bool { return errors.As(err, into) }

// whyNot is the title of the reason of a judgement.
func whyNot(j verify.Judgement) string {
	if info, ok := j.Reason.Info(); ok {
		return info.Title
	}
	return ""
}

// judgedOf puts into words how a policy came to its judgement: step by step, in the order in which it decides.
func judgedOf(config *termination.Config, e *termination.Endpoint, c verify.Client, t verify.Tried) *views.Judged {
	j := t.Judgement
	out := &views.Judged{In: j.In, Undecided: j.Undecided, Reason: whyNot(j), Who: "A client without a certificate"}
	if len(c.Presented) > 0 {
		if out.Who = verify.BestName(c.Presented[0]).Name; out.Who == "" {
			out.Who = "A client without a name"
		}
	}
	switch {
	case j.Verified && j.Authority != "":
		out.By = "signed for by " + j.Authority
	case j.Verified && j.Pin != "":
		out.By = "its pin is listed"
	case j.WouldRefuse:
		out.By = "although the policy says no: it only reports"
	case j.In:
		out.By = "although nothing about it was verified: this endpoint lets in " + lowerFirst(modeWords(config.Effective(e.ClientAuth)))
	}
	out.Steps = append(out.Steps, chainStep(t))
	out.Steps = append(out.Steps, blockSteps(t)...)
	out.Steps = append(out.Steps, ruleSteps(t)...)
	for _, check := range j.Checks {
		if check.Note {
			out.Notes = append(out.Notes, check.Detail)
		}
	}
	return out
}

func chainStep(t verify.Tried) views.JudgedStep {
	step := views.JudgedStep{What: "Chain or pin", State: "bad"}
	switch v := t.Chain; {
	case v.Verified && v.Pin != "":
		step.State, step.Text = "ok", "Its pin "+shortPin(v.Pin)+" is listed; its own dates and use hold."
	case v.Verified:
		above := max(len(v.Path)-1, 0)
		step.State, step.Text = "ok", fmt.Sprintf("%s leads to an anchor of %s.", format.Count(above, "CA above it", "CAs above it"), v.Authority)
		if above > 1 {
			step.Text = fmt.Sprintf("A chain of %s leads to an anchor of %s.", format.Count(above, "CA", "CAs"), v.Authority)
		} else if above == 1 {
			step.Text = "It is signed by an anchor of " + v.Authority + " itself."
		}
	default:
		for _, check := range v.Checks {
			if !check.Note {
				step.More = append(step.More, check.Detail)
			}
		}
		if step.Text = whyNot(v); step.Text == "" {
			step.State, step.Text = "skip", "Nothing was presented, or nobody is asked."
		}
	}
	return step
}

func shortPin(s string) string {
	if p, err := termination.ParsePin(s); err == nil {
		return p.Fingerprint.Short()
	}
	return s
}

// blockSteps tell of blocks, revocation and identities.
func blockSteps(t verify.Tried) []views.JudgedStep {
	j := t.Judgement
	failed := func(r termination.Reason) string {
		for _, check := range j.Checks {
			if check.Reason == r && !check.Note {
				return check.Detail
			}
		}
		return whyNot(j)
	}
	blocked := views.JudgedStep{What: "Blocked", State: "ok", Text: "No."}
	revoked := views.JudgedStep{What: "Revoked", State: "ok", Text: "Nothing is known against it."}
	identity := views.JudgedStep{What: "Identity", State: "ok", Text: "None."}
	if known := t.Chain.Known; known != nil {
		identity.Text = "Known as " + known.Name + "."
	}
	switch j.Reason {
	case termination.ReasonBlocked:
		blocked.State, blocked.Text = "bad", failed(j.Reason)
	case termination.ReasonRevoked, termination.ReasonRevocationUnknown:
		revoked.State, revoked.Text = "bad", failed(j.Reason)
	case termination.ReasonIdentityElsewhere:
		identity.State, identity.Text = "bad", failed(j.Reason)
	default:
	}
	return []views.JudgedStep{blocked, revoked, identity}
}

func ruleSteps(t verify.Tried) []views.JudgedStep {
	var out []views.JudgedStep
	decided := false
	for i, r := range t.Rules {
		step := views.JudgedStep{What: fmt.Sprintf("Rule %d", i+1), Code: r.Text, State: "skip", Text: "does not match"}
		if r.Shared {
			step.What += ", shared"
		}
		switch {
		case !t.Chain.Verified:
			step.Text = "not asked: chain or pin does not hold"
		case r.Decides && r.Effect == termination.EffectAllow:
			step.State, step.Text = "ok", "matches, and decides: in"
		case r.Decides:
			step.State, step.Text = "bad", "matches, and decides: out"
		case r.Matches:
			step.Text = "matches, but a rule before it decided"
		case decided:
			step.Text = "not reached"
		}
		decided = decided || r.Decides
		out = append(out, step)
	}
	if len(t.Rules) > 0 && t.Chain.Verified && !decided && slices.ContainsFunc(t.Rules, func(r verify.TriedRule) bool { return !r.Shared }) {
		step := views.JudgedStep{What: "No rule", State: "bad", Text: "Whom no rule allows is refused."}
		if t.Judgement.Verified || t.Judgement.Reason != termination.ReasonPolicyDenied {
			step.State, step.Text = "ok", "An identity of this endpoint needs none."
		}
		out = append(out, step)
	}
	if w := t.When; w != nil {
		out = append(out, whenStep(w))
	}
	return out
}

func whenStep(w *verify.TriedWhen) views.JudgedStep {
	step := views.JudgedStep{What: "Expression", Code: w.Text, State: "skip"}
	switch {
	case !w.Asked:
		step.Text = "not asked: chain or pin does not hold"
	case w.Undecided:
		step.Text = "decided for each request; name a path to see how"
	case w.Error != "":
		step.State, step.Text = "bad", "failed: "+w.Error
	case w.Holds:
		step.State, step.Text = "ok", "true"
	default:
		step.State, step.Text = "bad", "false"
	}
	for _, v := range w.Values {
		value := v.Text
		if value == "" {
			value = "not known"
		}
		step.More = append(step.More, v.Name+" ("+v.Type+"): "+value)
	}
	return step
}

// tryForm is the form of the page, as it was filled in.
func (s *Server) tryForm(recent []parts.Option, in *tryInput) views.TryForm {
	f := views.TryForm{
		PEM:     parts.Input{Name: "pem", Label: "Certificate, and what the client sends with it", Hint: "PEM, leaf first. Never a private key.", Value: in.pem, Rows: 3, Placeholder: "-----BEGIN CERTIFICATE-----"},
		Address: parts.Input{Name: "try_address", Label: "from the address", Value: in.address, Placeholder: "203.0.113.9"},
		Method:  parts.Input{Name: "try_method", Label: "Method", Value: in.method, Placeholder: "GET"},
		Path:    parts.Input{Name: "try_path", Label: "Path", Value: in.path, Placeholder: "/"},
	}
	if len(recent) > 0 {
		f.Recent = append([]parts.Option{{Value: "", Label: "none"}}, recent...)
	}
	names := s.current().Identities
	if n := len(names); n > 0 {
		f.Identity = &parts.Input{Name: "try_identity", Label: "or an identity", Value: in.identity}
		for i := range names[:min(n, 500)] {
			f.Identities = append(f.Identities, names[i].Name)
		}
	}
	if in.draft != nil {
		f.Draft = draftFields(in.draft)
	}
	f.Again = []views.Hidden{{Name: "pem", Value: in.pem}, {Name: "try_handshake", Value: in.handshake}, {Name: "try_identity", Value: in.identity}, {Name: "try_address", Value: in.address}, {Name: "try_method", Value: in.method}, {Name: "try_path", Value: in.path}}
	return f
}

// draftFields carry a policy that is not saved from one form to the other.
func draftFields(in *policyInput) []views.Hidden {
	values := url.Values{"mode": {in.mode}, "authorities": in.authorities, "pins": {in.pins}, "max_depth": {in.depth}, "on_loss": {in.onLoss}, "rules": {in.checks.rules}, "when": {in.checks.when}}
	for name, on := range map[string]bool{"inherit": in.inherit, "announce": in.announce, "report_only": in.checks.reportOnly, "soft": in.checks.soft} {
		if on {
			values.Set(name, "on")
		}
	}
	for key, level := range in.checks.hygiene {
		values.Set(hygieneField+key, level)
	}
	var out []views.Hidden
	for name, list := range values {
		for _, v := range list {
			out = append(out, views.Hidden{Name: name, Value: v})
		}
	}
	slices.SortFunc(out, func(a, b views.Hidden) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return strings.Compare(a.Value, b.Value)
	})
	return out
}
