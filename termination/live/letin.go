package live

import "countersign/termination"

// MaxLetIn is how many certificates are remembered that were let in. Once there are as many, none is called new any more:
// a client that is called new again would be the worse lie.
const MaxLetIn = 1 << 17

// letIn remembers which certificates were let in. It belongs to the hub's goroutine. Only verified ones count: who comes
// in where no certificate is demanded was let in without regard to it, and could fill this with ever new ones.
type letIn map[termination.Fingerprint]struct{}

func newLetIn(known []termination.Fingerprint) letIn {
	if known == nil {
		return nil
	}
	l := make(letIn, len(known))
	for _, f := range known[:min(len(known), MaxLetIn)] {
		l[f] = struct{}{}
	}
	return l
}

// first reports whether h is the first with its certificate that was let in, and remembers it.
func (l letIn) first(h *termination.Handshake) bool {
	f := h.Client.Fingerprint
	if l == nil || h.Verdict.Outcome != termination.OutcomeVerified || f == (termination.Fingerprint{}) || len(l) >= MaxLetIn {
		return false
	}
	if _, known := l[f]; known {
		return false
	}
	l[f] = struct{}{}
	return true
}
