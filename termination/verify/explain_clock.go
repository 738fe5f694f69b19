package verify

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"countersign/termination"
)

// maxShifts bounds at how many moments a refused chain is judged again.
const maxShifts = 8

// clock shows the time here, for comparison, and says so where it cannot be right.
func (a *account) clock(text string) termination.Fix {
	fix := termination.Fix{Text: fmt.Sprintf("%s. Clock here: %s.", text, stamp(a.moment())), Command: "date -u"}
	if what, ahead := a.search.behind(a.moment()); ahead > 0 {
		fix.Text += fmt.Sprintf(" It is probably this one that is wrong: %s begins only in %s.", what, span(ahead))
	}
	return fix
}

// behind finds what was made with this gateway and yet begins only after now: whatever it is, the clock was right when it
// was made. Some minutes are nothing, since clocks differ.
func (s *Search) behind(now time.Time) (what string, ahead time.Duration) {
	const tolerated = 5 * time.Minute
	look := func(c *x509.Certificate, name string) {
		if c == nil {
			return
		}
		if d := c.NotBefore.Sub(now); d > tolerated && d > ahead {
			what, ahead = name, d
		}
	}
	for i := range s.cfg.LocalCAs {
		look(s.cfg.LocalCAs[i].Certificate, "the certificate of the local CA "+visible(s.cfg.LocalCAs[i].Name, maxNameText))
	}
	for i := range s.cfg.Certificates {
		if k := &s.cfg.Certificates[i]; len(k.Chain) > 0 {
			look(k.Chain[0], "the server certificate "+visible(k.Name, maxNameText))
		}
	}
	return what, ahead
}

// shifted judges again with another clock where several dates are wrong: it says how far the clock here would have to be
// turned for everything to hold, or that no clock helps. Of a single date the sentence says enough.
func (a *account) shifted() string {
	dates := 0
	for _, c := range a.handshake.Verdict.Checks {
		switch {
		case c.Note:
		case c.Reason == termination.ReasonCertExpired, c.Reason == termination.ReasonCertEarly, c.Reason == termination.ReasonCAExpired:
			dates++
		default:
			return "" // more is wrong than dates
		}
	}
	if a.policy == nil || dates < 2 {
		return ""
	}
	for _, at := range a.edges() {
		if a.policy.holdsAt(a.handshake.Presented, at) {
			if d := at.Sub(a.moment()); d > 0 {
				return fmt.Sprintf(" With a clock that is %s ahead of this one, all of it would hold.", span(d))
			}
			return fmt.Sprintf(" With a clock that is %s behind this one, all of it would hold.", span(a.moment().Sub(at)))
		}
	}
	return " There is no moment at which all its dates hold together."
}

// edges are the moments at which a date of the chain begins or ceases to hold, nearest first.
func (a *account) edges() []time.Time {
	path := a.handshake.Path
	if len(path) == 0 {
		path = []*x509.Certificate{a.leaf}
	}
	var out []time.Time
	for _, c := range path {
		if c != nil {
			out = append(out, c.NotBefore, c.NotAfter)
		}
	}
	slices.SortStableFunc(out, func(x, y time.Time) int {
		return int(x.Sub(a.moment()).Abs()/time.Second) - int(y.Sub(a.moment()).Abs()/time.Second)
	})
	return out[:min(len(out), maxShifts)]
}

// holdsAt reports whether a presented list would pass at another time. It decides nothing, and nothing of it is kept.
func (p *Policy) holdsAt(presented []*x509.Certificate, at time.Time) bool {
	in := &inspection{presented: presented, now: at, hygiene: p.hygiene}
	if len(presented) == 0 || !p.bounded(in) {
		return false
	}
	in.leaf(presented[0])
	if _, pinned := p.pinOf(presented[0]); pinned || in.failed() {
		return pinned && !in.failed()
	}
	return len(p.anchors) > 0 && p.verifyChain(in, presented[0]).Verified
}
