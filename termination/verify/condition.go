package verify

import (
	"context"
	"fmt"
	"time"

	"countersign/termination"
	"countersign/termination/expression"
)

// ask lets the expression of the policy decide about a client that the rules let pass. Without a request, one that needs it
// leaves the client undecided.
func (p *Policy) ask(j *Judgement, c Client, request *expression.Request, now time.Time) {
	if p.when == nil {
		return
	}
	if request == nil && p.when.NeedsRequest() {
		j.Undecided = true
		return
	}
	holds, err := p.when.Test(context.Background(), p.input(j, c, request, now))
	switch {
	case err != nil:
		j.Rule = whenRule(p.when.String())
		j.refuse(c, termination.ReasonExpressionError, c.Presented[0], "The expression of the policy failed: %s.", visible(err.Error(), maxDetailText))
	case !holds:
		j.Rule = whenRule(p.when.String())
		j.refuse(c, termination.ReasonPolicyDenied, c.Presented[0], "The expression of the policy is false for it.")
	}
}

// whenRule names the expression where a rule would stand.
func whenRule(text string) string { return fmt.Sprintf("{when: %q}", text) }

// input is what the expression may know.
func (p *Policy) input(j *Judgement, c Client, request *expression.Request, now time.Time) expression.Input {
	in := expression.Input{
		Leaf: c.Presented[0], Authority: j.Authority, ServerName: lower(c.ServerName), Version: c.Version,
		Peer: c.Peer.Addr(), Now: now, Request: request,
	}
	if j.Identity != nil {
		in.Identity = j.Identity.Name
	}
	return in
}

// JudgeRequest completes the judgement j that this policy made of the connection, where its expression asks for the
// request. Any other judgement stands.
func (p *Policy) JudgeRequest(j Judgement, c Client, request expression.Request, now time.Time) Judgement {
	if !j.Undecided || p == nil {
		return j
	}
	j.Undecided = false
	j.Checks = append([]termination.Check(nil), j.Checks...) // those of the connection are shared
	p.ask(&j, c, &request, now)
	if j.Verified {
		return j
	}
	j.In = !p.mode.Verifies()
	p.onlyReport(&j)
	return j
}

// Timed reports whether a judgement of the policy changes with time alone, beyond the dates of certificates, so that it
// must not be kept.
func (p *Policy) Timed() bool { return p != nil && p.when != nil && p.when.NeedsTime() }

// NeedsPeer reports whether the policy cannot judge without knowing the client's address.
func (p *Policy) NeedsPeer() bool { return p != nil && p.when != nil && p.when.NeedsPeer() }

// NeedsRequest reports whether clients stay undecided until there is an HTTP request.
func (p *Policy) NeedsRequest() bool { return p != nil && p.when != nil && p.when.NeedsRequest() }
