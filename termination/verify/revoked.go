package verify

import (
	"context"
	"crypto/x509"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
)

// revoked refuses a chain of which a certificate was taken back, or, where an authority is hard about it, of which this
// is not known. A pin has no issuer who could take it back: it is blocked by hand. What is known changes while a chain
// stays what it is, so this is never remembered with it.
func (p *Policy) revoked(j *Judgement, c Client, known *revocation.Snapshot, now time.Time) {
	if len(j.Path) < 2 {
		return
	}
	vouching := p.vouching[termination.FingerprintOf(j.Path[len(j.Path)-1])]
	found := known.Check(vouching, j.Path, c.Staple, now)
	if !j.Verified { // it is refused for something else; this is worth knowing too
		if found.Revoked != nil {
			in := &inspection{presented: c.Presented, checks: j.Checks}
			in.fail(termination.ReasonRevoked, found.Revoked, "%s", found.Detail)
			j.Checks = in.checks
		}
		return
	}
	j.Ask = found.Ask
	switch {
	case found.Revoked != nil:
		j.refuse(c, termination.ReasonRevoked, found.Revoked, "%s", found.Detail)
	case found.Unknown != nil:
		j.refuse(c, termination.ReasonRevocationUnknown, found.Unknown, "It is not known whether %s was revoked. %s", certName(found.Unknown), found.Detail)
	case found.Silent != "":
		j.note(c, termination.ReasonRevocationUnknown, c.Presented[0], "Whether it was revoked is not known. %s", found.Silent)
	}
}

// note adds what is worth knowing about a client that may come in.
func (j *Judgement) note(c Client, r termination.Reason, cert *x509.Certificate, format string, args ...any) {
	in := &inspection{presented: c.Presented, checks: j.Checks}
	in.note(r, cert, format, args...)
	j.Checks = in.checks
}

// Ask asks the responders what a judgement would still have to know, and waits for them until ctx ends. It reports
// whether to judge again. No lock may be held.
func (p *Policy) Ask(ctx context.Context, questions []revocation.Question) bool {
	return len(questions) > 0 && p != nil && p.revocation.Ask(ctx, questions)
}

// AskLater has the responders asked without waiting, for who is connected already.
func (p *Policy) AskLater(questions []revocation.Question) {
	if len(questions) > 0 && p != nil {
		p.revocation.AskLater(questions)
	}
}
