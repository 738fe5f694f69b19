package gateway

import (
	"countersign/termination"
)

// passThrough hands the untouched bytes to the upstream's address and watches the handshake from outside. No key for the
// name is needed or held.
func (c *client) passThrough() {
	g, rec := c.gateway, c.record
	upstream, release, result, err := c.dialUpstream()
	rec.Upstream = &result
	if err != nil {
		rec.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonUpstreamDown, Beat: termination.BeatAgreement}
		if g.stopped.Err() != nil {
			rec.Verdict.Outcome, rec.Verdict.Reason = termination.OutcomeBrokenOff, termination.ReasonShutdown
		}
		rec.Error = result.Error
		c.refuseWithAlert(alertInternalError)
		return
	}
	defer release()
	s := &session{record: rec, slot: c.slot, raw: c.raw, onLoss: c.endpoint.ClientAuth.OnLoss}
	s.reach(upstream)
	c.session = s
	g.live.add(s)
	c.arrived()
	passed := c.spliceWatching(s, upstream)
	_ = upstream.Close()
	s.endedBy(passed.first)
	g.finish(s, termination.ConnectionEnd{
		BytesIn:  int64(len(c.hello)) + passed.fromClient,
		BytesOut: passed.fromUpstream,
	})
}

// spliceWatching is [splice] with a look at the handshake. Until that has been seen, the handshake's deadline holds in
// both directions: for what one side is to say, and for the other to take it.
func (c *client) spliceWatching(s *session, upstream end) spliced {
	o := &observation{
		client: c, session: s, began: c.gateway.now(),
		splicing: newSplicing(c.raw, upstream, c.table.config.Limits.IdleTimeout),
	}
	defer o.splicing.stop()
	o.inbound = &way{from: c.raw, to: upstream, feed: o.seen.FromClient, watched: true}
	o.outbound = &way{from: upstream, to: c.raw, feed: o.seen.FromServer, watched: true}
	_ = upstream.SetDeadline(c.deadline) // fails only on a closed connection, and then so does the write
	if _, err := upstream.Write(c.hello); err != nil {
		o.splicing.ended(termination.ClosedByUpstream)
		o.publish(err)
		return spliced{first: *o.splicing.first.Load()}
	}
	return o.run()
}
