package proof

import (
	"cmp"
	"slices"
	"time"

	"countersign/termination"
)

// Try names what was tried. The codes are stable: scripts look at them.
type Try string

// What can be tried.
const (
	TryTrusted  Try = "trusted"         // a certificate from a CA that the endpoint trusts
	TryNone     Try = "none"            // no certificate
	TryStranger Try = "stranger"        // a certificate from a CA that nobody knows
	TryExpired  Try = "expired"         // from a trusted CA, ended a minute ago
	TryWrongUse Try = "wrong_use"       // from a trusted CA, made for servers
	TryUnlisted Try = "unlisted"        // from a CA that is trusted elsewhere, where only pins count
	TryTLS12    Try = "tls12"           // a client that knows TLS 1.2 and no more
	TryTLS11    Try = "tls11"           // a client that knows TLS 1.1 and no more
	TryRoute    Try = "route"           // no certificate, at a route with a policy of its own
	TrySame     Try = "own_certificate" // whether clients get the service's own certificate
	TryNoKey    Try = "no_key"          // whether a key for that certificate is held here
	TryPolicy   Try = "policy"          // who may come in, where the service behind decides
)

// Result is how a line ended.
type Result string

// The results.
const (
	Contradicts Result = "contradicts" // it did not happen as the policy says
	Failed      Result = "failed"      // it was tried, and the connection broke
	Holds       Result = "holds"       // it happened as the policy says
	NotShown    Result = "not_shown"   // it cannot be tried from here
)

// Line is one thing that was tried.
type Line struct {
	Try       Try                `json:"try"`
	Tried     string             `json:"tried"`              // in words
	Expected  string             `json:"expected,omitempty"` // let in, or refused
	Happened  string             `json:"happened,omitempty"` // likewise
	Result    Result             `json:"result"`
	Detail    string             `json:"detail,omitempty"` // what was seen, or why it could not be tried
	Alert     *termination.Alert `json:"alert,omitempty"`  // that the client read
	Version   uint16             `json:"version,omitempty"`
	Handshake string             `json:"handshake,omitempty"` // ID of the gateway's record
	Duration  time.Duration      `json:"duration_ns,omitempty"`
	// Weak marks what happened as the policy says, but could be stricter.
	Weak bool `json:"weak,omitempty"`
}

// Report is what came of one proof.
type Report struct {
	EndpointID  string                  `json:"endpoint_id"`
	Endpoint    string                  `json:"endpoint"`
	URL         string                  `json:"url"`
	TerminateAt termination.TerminateAt `json:"terminate_at"`
	Mode        termination.Mode        `json:"mode,omitempty"`
	Revision    uint64                  `json:"revision"`
	Time        time.Time               `json:"time"`
	Duration    time.Duration           `json:"duration_ns"`
	Result      Result                  `json:"result"` // holds, contradicts, or failed
	Lines       []Line                  `json:"lines"`  // contradictions first
}

// Count returns how many lines ended so.
func (r *Report) Count(of Result) int {
	n := 0
	for _, l := range r.Lines {
		if l.Result == of {
			n++
		}
	}
	return n
}

// Handshakes returns how many were made.
func (r *Report) Handshakes() int { return len(r.Lines) - r.Count(NotShown) }

// settle puts what is wrong first, and says what the whole comes to. Only what was seen counts: a proof of which
// nothing could be shown has failed.
func (r *Report) settle() {
	rank := []Result{Contradicts, Failed, Holds, NotShown}
	slices.SortStableFunc(r.Lines, func(a, b Line) int {
		return cmp.Compare(slices.Index(rank, a.Result), slices.Index(rank, b.Result))
	})
	switch {
	case r.Count(Contradicts) > 0:
		r.Result = Contradicts
	case r.Count(Failed) > 0 || r.Count(Holds) == 0:
		r.Result = Failed
	default:
		r.Result = Holds
	}
}
