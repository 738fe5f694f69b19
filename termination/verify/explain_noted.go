package verify

import (
	"crypto/x509"
	"fmt"

	"countersign/termination"
)

// noted adds to the words about a client that came in what will keep it out one day, or does elsewhere: nothing has to be
// done now.
func (a *account) noted(ex termination.Explanation) termination.Explanation {
	if a.leaf == nil {
		return ex
	}
	for _, c := range a.handshake.Verdict.Checks {
		switch {
		case !c.Note:
		case c.Reason == termination.ReasonChainGap:
			ex = a.completed(ex)
		case c.Reason == termination.ReasonCertUse && termination.SaysPublicCA(a.leaf):
			ex.Right = fmt.Sprintf("It comes from a public CA. %s: after its next renewal, on %s at the latest, it would be refused here.", publicRenewal, stamp(a.leaf.NotAfter))
			ex.Turn = termination.TurnClient
			ex.Fixes = append(ex.Fixes, a.issue("Before then, issue the client a certificate of your own CA, and trust that here"))
			ex.ClientTo = a.toClient("all is well today, but its certificate comes from a public CA, which does not issue for clients any more or soon will not", "Please change to a certificate of a private CA before it is renewed.")
		}
	}
	return ex
}

// completed tells of a client whose chain was completed here: another server would refuse it.
func (a *account) completed(ex termination.Explanation) termination.Explanation {
	if len(ex.Fixes) > 0 {
		return ex // told already: several may be missing
	}
	var gap []*x509.Certificate
	for i := 1; i < len(a.handshake.Path)-1; i++ {
		if c := a.handshake.Path[i]; !contains(a.handshake.Presented, c) {
			gap = append(gap, c)
		}
	}
	if len(gap) == 0 {
		return ex
	}
	ex.Right = fmt.Sprintf("It did not send %s; the chain was completed from the authority's own certificates. A server that does not keep it refuses this client.", certName(gap[0]))
	ex.Turn = termination.TurnClient
	ex.Fixes = append(ex.Fixes, termination.Fix{Text: "Let the client send its whole chain. This makes the file: what is missing stands in it.", Command: chainFile(gap)})
	return ex
}
