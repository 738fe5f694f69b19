package gateway

import (
	"crypto/tls"
	"time"

	"countersign/termination"
	"countersign/termination/terminate"
)

// terminate ends TLS here. A connection of an https endpoint belongs to HTTP afterwards, which closes it and releases
// its slot through the session's end.
func (c *client) terminate() {
	g, rec := c.gateway, c.record
	rec.Mode = c.endpoint.ClientAuth.Mode
	if c.endpoint.problem != "" {
		c.refuseUnreadable()
		return
	}
	rec.PolicyHash = c.endpoint.policy.Hash()
	conn := terminate.NewConn(c.raw, c.hello, g.now)
	conn.Certificates = c.endpoint.certificates()
	c.hello = nil
	result := c.endpoint.terminator.Handshake(conn, rec)
	if result.Conn == nil {
		c.refuse(nil)
		return
	}
	if result.Conn.ConnectionState().ServerName != rec.Hello.ServerName {
		// The endpoint was found by one name and TLS agreed on another: fail closed.
		rec.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonHelloBroken, Beat: termination.BeatAgreement}
		c.refuse(nil)
		return
	}
	c.slot.established()
	_ = c.raw.SetDeadline(time.Time{}) // fails only on a closed connection
	s := &session{
		record: rec, since: g.now(), slot: c.slot, raw: c.raw, conn: conn,
		client: result.Client, onLoss: c.endpoint.ClientAuth.OnLoss, admission: result.Judgement,
	}
	c.session = s
	if c.endpoint.Scheme == termination.SchemeHTTPS {
		c.handToHTTP(s, result)
		return
	}
	g.live.add(s)
	c.publish()
	c.judgeLate(s)
	c.arrived()
	c.spliceTLS(s, result.Conn)
}

// judgeLate judges a connection that finished its handshake while something changed: the round after that change may have
// looked before this connection was among the live ones.
func (c *client) judgeLate(s *session) {
	t := c.gateway.table.Load()
	if t.config == c.table.config && s.admission.Generation == c.gateway.revocation.Snapshot().Generation() {
		if s.conn != nil {
			c.gateway.live.watch(s, c.endpoint.until(s, s.admission))
		}
		return
	}
	if onLoss, why := c.gateway.judge(t, s); why != nil {
		s.lose(onLoss, *why)
	}
}

// refuseUnreadable turns clients of an endpoint away whose certificate or policy could not be had.
func (c *client) refuseUnreadable() {
	rec := c.record
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonPolicyUnreadable, Beat: termination.BeatAgreement}
	rec.Error = c.endpoint.problem
	c.refuseWithAlert(alertInternalError)
}

// spliceTLS carries the bytes inside TLS to the upstream of a tls endpoint.
func (c *client) spliceTLS(s *session, front *tls.Conn) {
	g := c.gateway
	end := termination.ConnectionEnd{ID: s.record.ID}
	upstream, release, result, err := c.dialUpstream()
	end.Upstream = &result
	if err != nil {
		end.Reason, end.Detail = termination.ReasonUpstreamDown, result.Error
		if g.stopped.Err() != nil {
			end.Reason = termination.ReasonShutdown
		}
		s.endedBy(termination.ClosedByGateway)
		_ = front.Close() // with close_notify, so that the client does not take it for an attack
	} else {
		defer release()
		s.reach(upstream)
		passed := splice(front, upstream, c.table.config.Limits.IdleTimeout)
		s.endedBy(passed.first)
		_ = front.Close()
		_ = upstream.Close()
	}
	g.finish(s, end)
}

// finish completes the record of a connection that has ended, once.
func (g *Gateway) finish(s *session, end termination.ConnectionEnd) {
	if s.over.Swap(true) {
		return
	}
	g.live.remove(s)
	end.ID, end.Time = s.record.ID, g.now()
	if !s.record.Proof {
		end.Endpoint = s.record.Endpoint
	}
	if s.record.Verdict.Outcome == termination.OutcomeVerified {
		end.IdentityID = s.record.Client.IdentityID
	}
	if s.conn != nil { // where TLS ended here, all bytes count, those of TLS too
		end.BytesIn, end.BytesOut = s.conn.BytesIn(), s.conn.BytesOut()
	}
	end.ClosedBy = termination.ClosedByGateway
	if who := s.closedBy.Load(); who != nil {
		end.ClosedBy = *who
	}
	if why := s.lost.Load(); why != nil && end.ClosedBy == termination.ClosedByPolicy {
		end.Reason, end.Detail = why.reason, why.detail
	}
	if end.ClosedBy == termination.ClosedByGateway && end.Reason == "" && g.stopped.Err() != nil {
		end.Reason, end.Detail = termination.ReasonShutdown, "The gateway stopped, and its grace time was over."
	}
	g.hub.Complete(end)
}
