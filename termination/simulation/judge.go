package simulation

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"countersign/termination"
	"countersign/termination/verify"
)

// run is a simulation under way.
type run struct {
	current, proposed *side
	judged            map[judgedKey]judged
	judgements        int
	partial           bool
}

// judgedKey is everything that a judgement of both sides depends on, but for the time: of alike ones the newest counts.
type judgedKey struct {
	endpoint, name string
	chain          [sha256.Size]byte
	peer           netip.Addr // only where a client has no certificate, by which it is known
}

// judged is what both sides say.
type judged struct {
	is, would answer
}

// answer is what one side says of a client.
type answer struct {
	entry  Entry
	reason termination.Reason
	rule   string
	detail string
	why    Why // nothing can be said
}

// visit says what becomes of the client of visits.
func (r *run) visit(v *termination.Visits) Client {
	c := Client{
		EndpointID: v.EndpointID, Endpoint: v.Endpoint, Name: v.Client, Address: v.Address, JA4: v.JA4, Handshake: v.Handshake,
		First: v.First, Last: v.Last, Handshakes: v.Count, Had: had(v), Was: v.Reason,
	}
	if e := r.proposed.endpoint(v.EndpointID); e != nil {
		c.Endpoint = e.Name
	}
	if why := r.beyond(v); why != "" {
		c.Change, c.Why = Unknown, why
		return c
	}
	j := r.judge(v)
	c.Is, c.Would, c.Reason, c.Rule, c.Detail = j.is.entry, j.would.entry, j.would.reason, j.would.rule, j.would.detail
	switch {
	case j.would.why != "" || j.is.why != "":
		c.Change, c.Why = Unknown, j.would.why
		if c.Why == "" {
			c.Why = j.is.why
		}
	case !byPolicy(v):
		// The key was not proven, or it came too often: what another policy says of the certificate does not help.
		c.Change, c.Would, c.Reason = StaysOut, Out, v.Reason
	case c.Would > c.Is:
		c.Change = Gains
	case c.Would < c.Is:
		c.Change = Loses
	case c.Would == Inside:
		c.Change = StaysIn
	default:
		c.Change = StaysOut
	}
	c.Silent = r.silent(v, c.Would)
	return c
}

// had says how far the client got, as it was recorded.
func had(v *termination.Visits) Entry {
	switch {
	case !v.Outcome.In():
		return Out
	case v.Outcome == termination.OutcomeOpen && v.Reason != "" && !v.WouldRefuse && (v.Mode.Verifies() || v.Mode == termination.ModeRequireAny && v.Client.Fingerprint == termination.Fingerprint{}):
		return Partly
	}
	return Inside
}

// beyond says why nothing can be said of visits; empty: it can.
func (r *run) beyond(v *termination.Visits) Why {
	e := r.proposed.endpoint(v.EndpointID)
	switch {
	case v.Outcome == termination.OutcomePassed, e != nil && e.TerminateAt == termination.AtUpstream:
		return WhySealed
	case v.Outcome == termination.OutcomeBrokenOff, v.Outcome == termination.OutcomeClientRefused, early(v):
		return WhyBroken
	case v.Cut:
		return WhyNoChain
	case v.Mode == termination.ModeOff && len(v.Presented) == 0 && e.asks():
		return WhyNotAsked
	case r.partial:
		return WhyTime
	}
	return ""
}

// early reports whether a refused handshake ended before its certificate was looked at.
func early(v *termination.Visits) bool {
	if v.Outcome != termination.OutcomeRefused {
		return false
	}
	if slices.Contains([]termination.Reason{
		termination.ReasonPolicyUnreadable, termination.ReasonOverloaded, termination.ReasonAgentOffline, termination.ReasonShutdown,
	}, v.Reason) {
		return true
	}
	info, known := v.Reason.Info()
	return !known || info.Beat != 0 && info.Beat < termination.BeatClientCert
}

// byPolicy reports whether another policy could have ended the handshake otherwise.
func byPolicy(v *termination.Visits) bool {
	if v.Outcome != termination.OutcomeRefused {
		return true
	}
	switch v.Reason {
	case termination.ReasonKeyProof, termination.ReasonRateLimited:
		return false
	case termination.ReasonCertMalformed, termination.ReasonCertWeak: // also where crypto/tls itself could not read it
		return len(v.Presented) > 0
	default:
		return true
	}
}

// judge asks both sides, once for all visits that are alike to them.
func (r *run) judge(v *termination.Visits) judged {
	key := judgedKey{endpoint: v.EndpointID, name: v.ServerName}
	h := sha256.New()
	for _, c := range v.Presented {
		f := termination.FingerprintOf(c)
		h.Write(f[:])
	}
	h.Sum(key.chain[:0])
	if len(v.Presented) == 0 || r.current.needsPeer(v.EndpointID) || r.proposed.needsPeer(v.EndpointID) {
		key.peer = v.Address
	}
	if j, known := r.judged[key]; known {
		return j
	}
	client := verify.Client{Presented: v.Presented, ServerName: v.ServerName, Version: v.Version, Peer: netip.AddrPortFrom(v.Address, 0)}
	j := judged{is: r.current.ask(v, client), would: r.proposed.ask(v, client)}
	r.judged[key] = j
	r.judgements += 2
	return j
}

// ask says what one side makes of a client at the time of its newest visit. It goes by the rule of the handshake: who is let
// in by the policy of a route gets through TLS, and HTTP refuses the rest.
func (s *side) ask(v *termination.Visits, client verify.Client) answer {
	e := s.endpoint(v.EndpointID)
	if e == nil || !e.Enabled {
		return answer{entry: Out, reason: termination.ReasonNameUnknown}
	}
	if e.broken { // fail closed: nobody enters by a policy that cannot be read
		return answer{entry: Out, reason: termination.ReasonPolicyUnreadable}
	}
	if e.own == nil { // its TLS ends in the service
		return answer{why: WhySealed}
	}
	return e.ask(client, v.Last)
}

func (e *endpoint) ask(client verify.Client, at time.Time) answer {
	j := e.own.Judge(client, at)
	out := answer{rule: j.Rule}
	if j.Undecided {
		out.why = WhyRequest
	}
	if j.In {
		out.entry = Inside
		return out
	}
	out.reason = j.Reason
	for _, check := range j.Checks {
		if !check.Note && check.Reason == j.Reason {
			out.detail = check.Detail
			break
		}
	}
	if e.own.Soft() {
		out.entry = Partly
	}
	for _, p := range e.routes {
		if p.Soft() || p.Judge(client, at).In {
			out.entry = Partly
		}
	}
	return out
}

// asks reports whether clients of the endpoint are asked for a certificate.
func (e *endpoint) asks() bool { return e != nil && e.own != nil && e.own.Mode().Asks() }

// needsPeer reports whether one certificate may be judged otherwise from another address.
func (s *side) needsPeer(id string) bool {
	e := s.endpoint(id)
	return e != nil && e.own != nil && (e.own.NeedsPeer() || slices.ContainsFunc(e.routes, (*verify.Policy).NeedsPeer))
}

// silent reports whether a client without a certificate may have one that it did not show: many send none when their issuer
// is not among those that are named to them.
func (r *run) silent(v *termination.Visits, would Entry) bool {
	if len(v.Presented) > 0 || would == Inside {
		return false
	}
	now := r.current.endpoint(v.EndpointID)
	return now != nil && now.own != nil && now.own.Announces()
}
