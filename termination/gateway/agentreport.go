package gateway

import (
	"errors"
	"slices"
	"strings"

	"countersign/termination"
	"countersign/termination/verify"
	"countersign/termination/wire"
)

// Bounds of the text that an agent may put into a record, in bytes.
const (
	mostReportedText = 500
	mostReportedName = 100
)

// merge takes into the record what an agent may say about a handshake: what was negotiated, what the client presented,
// what was decided and why. Everything else the gateway has seen itself, or finds out itself.
func (c *client) merge(h *termination.Handshake) error {
	rec := c.record
	if err := checkReport(h); err != nil {
		return err
	}
	rec.Revision, rec.PolicyHash = h.Revision, clipped(h.PolicyHash, mostReportedName)
	rec.Mode = h.Mode
	rec.Stages.Reply, rec.Stages.Wait, rec.Stages.Check = max(h.Stages.Reply, -1), max(h.Stages.Wait, -1), max(h.Stages.Check, -1)
	rec.Chosen, rec.Presented, rec.Path = h.Chosen, h.Presented, h.Path
	if rec.Chosen != nil {
		rec.Chosen.ALPN = clipped(rec.Chosen.ALPN, mostReportedName)
	}
	if len(rec.Presented) > 0 && h.Client.Fingerprint == termination.FingerprintOf(rec.Presented[0]) {
		rec.Client = verify.BestName(rec.Presented[0])
		rec.Client.Authority, rec.Client.Pin = clipped(h.Client.Authority, mostReportedName), clipped(h.Client.Pin, mostReportedName)
	}
	if identity := c.table.identities.ByID(h.Client.IdentityID); identity != nil {
		rec.Client.Identity, rec.Client.IdentityID = identity.Name, identity.ID
	}
	rec.Verdict = termination.Verdict{Outcome: h.Verdict.Outcome, Reason: h.Verdict.Reason, Beat: h.Verdict.Beat}
	rec.Verdict.Rule = clipped(h.Verdict.Rule, mostReportedText)
	rec.Verdict.WouldRefuse, rec.Verdict.ReportOnly = h.Verdict.WouldRefuse, h.Verdict.ReportOnly
	for _, check := range h.Verdict.Checks {
		check.Detail = clipped(check.Detail, mostReportedText)
		rec.Verdict.Checks = append(rec.Verdict.Checks, check)
	}
	if h.Alert != nil {
		rec.Alert = &termination.Alert{Number: h.Alert.Number, Name: wire.AlertName(h.Alert.Number), Sent: h.Alert.Sent, Plaintext: h.Alert.Plaintext}
	}
	rec.Error = clipped(h.Error, mostReportedText)
	if rec.Verdict.Reason == termination.ReasonShutdown { // its own, not ours
		rec.Verdict.Reason, rec.Error = termination.ReasonAgentOffline, "the agent was stopping"
	}
	rec.Upstream = cleanUpstream(h.Upstream)
	return nil
}

// checkReport refuses what no agent of ours reports.
func checkReport(h *termination.Handshake) error {
	v := h.Verdict
	switch {
	case !slices.Contains(termination.Outcomes(), v.Outcome) || v.Outcome == termination.OutcomePassed:
		return errors.New("its outcome is not one of ours")
	case v.Reason != "" && !known(v.Reason), v.Reason == "" && !v.Outcome.In():
		return errors.New("its reason is not one of ours")
	case v.WouldRefuse && (!v.ReportOnly || v.Reason == "" || v.Outcome != termination.OutcomeOpen),
		v.ReportOnly && v.Outcome != termination.OutcomeOpen && v.Outcome != termination.OutcomeVerified:
		return errors.New("what it says of report_only does not fit its outcome")
	case v.Beat < 0 || v.Beat > termination.BeatEstablished:
		return errors.New("its beat is not one of ours")
	case h.Mode != "" && !h.Mode.Valid():
		return errors.New("its mode is not one of ours")
	case v.Outcome == termination.OutcomeVerified && len(h.Presented) == 0:
		return errors.New("it calls a client verified that presented nothing")
	}
	for _, check := range v.Checks {
		if !known(check.Reason) || check.Certificate < -1 || check.Certificate >= len(h.Presented) {
			return errors.New("its checks are not ours")
		}
	}
	return nil
}

func known(r termination.Reason) bool {
	_, ok := r.Info()
	return ok
}

// cleanEnd is what an agent may say about the end of a connection; what was carried, the gateway has counted itself.
func cleanEnd(e termination.ConnectionEnd) termination.ConnectionEnd {
	out := termination.ConnectionEnd{Requests: max(e.Requests, 0), Detail: clipped(e.Detail, mostReportedText), Upstream: cleanUpstream(e.Upstream)}
	switch {
	case e.Reason == termination.ReasonShutdown:
		out.Reason, out.Detail = termination.ReasonAgentOffline, "The agent was stopping."
	case known(e.Reason):
		out.Reason = e.Reason
	}
	switch e.ClosedBy {
	case termination.ClosedByClient, termination.ClosedByUpstream, termination.ClosedByGateway, termination.ClosedByPolicy:
		out.ClosedBy = e.ClosedBy
	}
	return out
}

func cleanUpstream(u *termination.UpstreamResult) *termination.UpstreamResult {
	if u == nil {
		return nil
	}
	return &termination.UpstreamResult{Address: clipped(u.Address, mostReportedText), Connect: max(u.Connect, 0), Error: clipped(u.Error, mostReportedText)}
}

func clipped(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
