package verify

import (
	"context"
	"time"

	"countersign/termination"
	"countersign/termination/expression"
)

// Tried is how a policy comes to its judgement of a client, for people. Nothing is decided by it.
type Tried struct {
	Judgement Judgement // complete, with the request where one was given
	Chain     Judgement // of chain or pin alone, before blocks, identities, rules and the expression
	Rules     []TriedRule
	When      *TriedWhen // nil: the policy has no expression
}

// TriedRule is one rule of a policy, and what it has to do with a client.
type TriedRule struct {
	Text    string // as it stands in a file
	Effect  termination.Effect
	Shared  bool // of the defaults
	Matches bool
	Decides bool // the first that matches
}

// TriedWhen is the expression of a policy, and its value for a client.
type TriedWhen struct {
	Text      string
	Asked     bool // the client got so far
	Holds     bool
	Undecided bool   // it asks for the request, and none was given
	Error     string // why it has no value; empty: it has one
	Values    []expression.Value
}

// Try judges as [Policy.Judge] does, and tells what every rule and the expression say. request may be nil. The rules of a
// client whose chain does not hold say nothing: their Matches are false.
func (p *Policy) Try(c Client, request *expression.Request, now time.Time) Tried {
	t := Tried{Judgement: p.Judge(c, now)}
	if p == nil {
		return t
	}
	if request != nil {
		t.Judgement = p.JudgeRequest(t.Judgement, c, *request, now)
	}
	if len(c.Presented) > 0 && c.Presented[0] != nil && p.mode.Asks() {
		t.Chain = p.verify(c.Presented, now)
		p.identify(&t.Chain, c)
	}
	t.Rules = p.tryRules(&t.Chain, c)
	t.When = p.tryWhen(&t, c, request, now)
	return t
}

func (p *Policy) tryRules(j *Judgement, c Client) []TriedRule {
	var claims *claims
	if j.Verified {
		claims = p.claims(j, c)
	}
	var out []TriedRule
	decided := false
	for _, list := range [...]struct {
		rules  []rule
		shared bool
	}{{p.rules.shared, true}, {p.rules.own, false}} {
		for i := range list.rules {
			r := &list.rules[i]
			t := TriedRule{Text: r.text, Effect: r.Effect, Shared: list.shared}
			t.Matches = claims != nil && r.subject.matches(claims)
			t.Decides = t.Matches && !decided
			decided = decided || t.Matches
			out = append(out, t)
		}
	}
	return out
}

func (p *Policy) tryWhen(t *Tried, c Client, request *expression.Request, now time.Time) *TriedWhen {
	if p.when == nil {
		return nil
	}
	out := &TriedWhen{Text: p.when.String()}
	if !t.Chain.Verified {
		return out
	}
	in := p.input(&t.Chain, c, request, now)
	out.Asked, out.Values = true, p.when.Values(in)
	if request == nil && p.when.NeedsRequest() {
		out.Undecided = true
		return out
	}
	holds, err := p.when.Test(context.Background(), in)
	out.Holds = holds
	if err != nil {
		out.Error = err.Error()
	}
	return out
}
