package gateway

import (
	"errors"
	"net"
	"os"
	"time"

	"countersign/termination"
	"countersign/termination/wire"
)

// observeBuffer is the size of the reads in which the server's first flight is looked for.
const observeBuffer = 4 << 10

// passThrough hands the untouched bytes to the upstream's address and watches from outside until the server has
// chosen. No key for the name is needed or held.
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

// spliceWatching is [splice] with a look at the server's first flight. The record is published as soon as the choice is
// known, or when nothing more can be learned. Until then the handshake's deadline holds: for what the upstream is to
// take, for its answer, and for the client to take that.
func (c *client) spliceWatching(s *session, upstream end) spliced {
	splicing := newSplicing(c.raw, upstream, c.table.config.Limits.IdleTimeout)
	defer splicing.stop()
	_ = upstream.SetDeadline(c.deadline)
	if _, err := upstream.Write(c.hello); err != nil {
		splicing.ended(termination.ClosedByUpstream)
		c.observed(s, splicing, nil, err)
		return spliced{first: *splicing.first.Load()}
	}
	_ = upstream.SetWriteDeadline(time.Time{})
	var inbound int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		inbound = splicing.carry(upstream, c.raw)
	}()
	outbound, err := c.watchServer(s, splicing)
	if err == nil {
		_ = upstream.SetReadDeadline(time.Time{})
		_ = c.raw.SetWriteDeadline(time.Time{})
		outbound += splicing.carry(c.raw, upstream)
	} else {
		_ = upstream.Close()
		_ = c.raw.CloseWrite()
		c.waitForEnd(done)
	}
	<-done
	return spliced{fromClient: inbound, fromUpstream: outbound, first: *splicing.first.Load()}
}

// waitForEnd gives the client the time to read what was sent last, and then closes.
func (c *client) waitForEnd(done <-chan struct{}) {
	patience := time.NewTimer(c.table.config.Limits.RefusalLinger)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
	_ = c.raw.Close()
}

// watchServer forwards the server's first bytes and reads what can be seen of its choice.
func (c *client) watchServer(s *session, splicing *splicing) (int64, error) {
	g, rec := c.gateway, c.record
	began := g.now()
	var watch wire.ServerObserver
	buf := make([]byte, observeBuffer)
	var total int64
	for {
		n, err := splicing.upstream.Read(buf)
		more := true
		if n > 0 {
			splicing.moved()
			if total == 0 {
				rec.Stages.Reply = g.now().Sub(began)
			}
			more = watch.Feed(buf[:n])
			if _, werr := c.raw.Write(buf[:n]); werr != nil {
				err = werr
				splicing.ended(termination.ClosedByClient)
			}
			total += int64(n)
		}
		if err != nil || !more {
			if err != nil {
				splicing.ended(whoEndedWatch(err))
			}
			c.observed(s, splicing, &watch, err)
			return total, err
		}
	}
}

func whoEndedWatch(err error) termination.ClosedBy {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return termination.ClosedByGateway
	}
	return termination.ClosedByUpstream
}

// observed publishes the record with what was seen from outside.
func (c *client) observed(s *session, splicing *splicing, watch *wire.ServerObserver, err error) {
	rec := c.record
	c.slot.established()
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomePassed, Beat: termination.BeatHello}
	if watch != nil {
		c.noteServer(watch)
	}
	if err != nil {
		c.observedEnd(*splicing.first.Load(), err)
	}
	c.publish()
	c.judgeLate(s)
}

// observedEnd says why a connection ended before the server's choice was known, or at the deadline.
func (c *client) observedEnd(first termination.ClosedBy, err error) {
	rec, late := c.record, errors.Is(err, os.ErrDeadlineExceeded)
	answered := rec.Chosen != nil || rec.Alert != nil
	if answered && !late {
		return
	}
	rec.Error = err.Error()
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomeBrokenOff, Beat: termination.BeatAgreement}
	switch {
	case c.gateway.stopped.Err() != nil:
		rec.Verdict.Reason = termination.ReasonShutdown
	case answered: // so the client has stopped
		rec.Verdict.Reason = termination.ReasonTimeout
	case first == termination.ClosedByClient:
		rec.Verdict.Reason = termination.ReasonClientLeft
	case late:
		rec.Verdict.Reason = termination.ReasonUpstreamDown
		rec.Upstream.Error = "the upstream did not answer within the handshake timeout: " + err.Error()
	default:
		rec.Verdict.Reason = termination.ReasonUpstreamDown
		rec.Upstream.Error = "the upstream closed before it answered: " + err.Error()
	}
	c.explain()
}

// noteServer records the choice of the server, or its alert.
func (c *client) noteServer(watch *wire.ServerObserver) {
	rec := c.record
	if h := watch.Hello(); h != nil {
		rec.Chosen = &termination.Negotiated{
			Version: h.Version, CipherSuite: h.CipherSuite, Group: h.Group, ALPN: h.ALPN,
			PostQuantum: wire.IsPostQuantum(h.Group), HelloRetry: h.HelloRetryRequest,
		}
	}
	if a, ok := watch.Alert(); ok {
		rec.Alert = &termination.Alert{Number: a.Description, Name: wire.AlertName(a.Description), Plaintext: true}
	}
}
