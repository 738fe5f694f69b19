package gateway

import (
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
	upstream, result, err := g.dialUpstream(c.endpoint.Upstream)
	rec.Upstream = &result
	if err != nil {
		rec.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonUpstreamDown, Beat: termination.BeatAgreement}
		rec.Error = result.Error
		g.refuseWithAlert(c.raw, rec, alertInternalError)
		return
	}
	s := &session{record: rec, slot: c.slot, raw: c.raw, onLoss: c.endpoint.ClientAuth.OnLoss}
	g.live.add(s)
	passed := c.spliceWatching(s, upstream)
	_ = upstream.Close()
	s.endedBy(passed.first)
	g.finish(s, termination.ConnectionEnd{
		BytesIn:  int64(len(c.hello)) + passed.fromClient,
		BytesOut: passed.fromUpstream,
	})
}

// spliceWatching is [splice] with a look at the server's first flight. The record is published as soon as the choice is
// known, or when nothing more can be learned.
func (c *client) spliceWatching(s *session, upstream end) spliced {
	g := c.gateway
	splicing := newSplicing(c.table.config.Limits.IdleTimeout, g.now)
	if _, err := upstream.Write(c.hello); err != nil {
		c.observed(s, nil, err)
		return spliced{first: termination.ClosedByUpstream}
	}
	_ = c.raw.SetDeadline(time.Time{}) // from here on the upstream's deadline bounds the handshake
	var inbound int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		inbound = splicing.carry(upstream, c.raw, termination.ClosedByClient)
	}()
	outbound, err := c.watchServer(s, upstream)
	if err == nil {
		_ = upstream.SetDeadline(time.Time{})
		outbound += splicing.carry(c.raw, upstream, termination.ClosedByUpstream)
	} else {
		splicing.ended(termination.ClosedByUpstream)
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
func (c *client) watchServer(s *session, upstream end) (int64, error) {
	g, rec := c.gateway, c.record
	began := g.now()
	_ = upstream.SetReadDeadline(rec.Time.Add(c.table.config.Limits.HandshakeTimeout))
	var watch wire.ServerObserver
	buf := make([]byte, observeBuffer)
	var total int64
	for {
		n, err := upstream.Read(buf)
		more := true
		if n > 0 {
			if total == 0 {
				rec.Stages.Reply = g.now().Sub(began)
			}
			more = watch.Feed(buf[:n])
			if _, werr := c.raw.Write(buf[:n]); werr != nil {
				err = werr
			}
			total += int64(n)
		}
		if err != nil || !more {
			c.observed(s, &watch, err)
			return total, err
		}
	}
}

// observed publishes the record with what was seen from outside.
func (c *client) observed(s *session, watch *wire.ServerObserver, err error) {
	g, rec := c.gateway, c.record
	c.slot.established()
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomePassed, Beat: termination.BeatHello}
	if watch != nil {
		c.noteServer(watch)
	}
	if rec.Chosen == nil && rec.Alert == nil && err != nil {
		rec.Verdict = termination.Verdict{Outcome: termination.OutcomeBrokenOff, Reason: termination.ReasonUpstreamDown, Beat: termination.BeatAgreement}
		rec.Error = err.Error()
		rec.Upstream.Error = "the upstream closed before it answered: " + err.Error()
		g.explain(rec)
	}
	g.publishRecord(rec)
	c.judgeLate(s)
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
