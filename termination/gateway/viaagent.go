package gateway

import (
	"context"
	"errors"
	"os"
	"time"

	"countersign/termination"
	"countersign/termination/tunnel"
)

const (
	// nextAgentAfter is how long an agent may take to answer a ClientHello before another one is tried, if there is one.
	// An agent that is well answers at once.
	nextAgentAfter = 3 * time.Second
	// reportTime is how long an agent's word may take after what it is about.
	reportTime = 5 * time.Second
)

// viaAgent hands the untouched bytes to an agent that serves the endpoint, which ends TLS and tells what became of it.
// No key for the name is needed or held, and only the ClientHello is read.
func (c *client) viaAgent() {
	g, rec := c.gateway, c.record
	rec.Mode = c.endpoint.ClientAuth.Mode
	p, first, err := c.findAgent()
	if err != nil {
		rec.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonAgentOffline, Beat: termination.BeatAgreement}
		if g.stopped.Err() != nil {
			rec.Verdict.Outcome, rec.Verdict.Reason = termination.OutcomeBrokenOff, termination.ReasonShutdown
		}
		if !errors.Is(err, tunnel.ErrOffline) {
			rec.Error = err.Error()
		}
		c.refuseWithAlert(alertInternalError)
		return
	}
	defer p.Release()
	s := &session{record: rec, slot: c.slot, raw: c.raw, onLoss: c.endpoint.ClientAuth.OnLoss}
	s.reach(p)
	c.session = s
	g.live.add(s)
	splicing := newPatientSplicing(c.raw, p) // the agent's engine judges idleness, of HTTP too
	defer splicing.stop()
	over := make(chan spliced, 1)
	g.conns.Go(func() { over <- c.spliceAgent(splicing, first) })
	passed, ended := c.awaitReport(p, over)
	c.arrived()
	c.publish()
	c.judgeLate(s)
	if !rec.Verdict.Outcome.In() {
		if !ended {
			splicing.watchIdle(c.table.config.Limits.RefusalLinger)
			<-over
		}
		s.over.Store(true)
		g.live.remove(s)
		return
	}
	end, ended := awaitEnd(p, over, &passed, ended)
	if !ended { // it is over for the agent, and the client may still read
		splicing.watchIdle(c.table.config.Limits.IdleTimeout)
		passed = <-over
	}
	if end.ClosedBy != "" {
		s.endedBy(end.ClosedBy) // unless we ended it
	}
	s.endedBy(passed.first)
	end.BytesIn, end.BytesOut = int64(len(c.hello))+passed.fromClient, int64(len(first))+passed.fromUpstream
	g.finish(s, end)
}

// findAgent gives the ClientHello to an agent, and returns the passage with the first bytes of its answer. As long as
// nothing came back, nothing has happened, and the same ClientHello can go to another agent: no client data is read
// before. When no agent answers, the error of the last one that was tried is returned.
func (c *client) findAgent() (*tunnel.Passage, []byte, error) {
	g, rec := c.gateway, c.record
	ctx, cancel := context.WithDeadline(g.stopped, c.deadline)
	defer cancel()
	search := g.agents.Search(c.endpoint.ID, tunnel.Header{
		Handshake: rec.ID, Listener: c.endpoint.Address(), Peer: rec.Peer, Local: rec.Local,
	})
	var last error
	for {
		p, err := search.Next(ctx)
		if err != nil {
			if last == nil {
				last = err
			}
			return nil, nil, last
		}
		deadline := c.deadline
		if soon := time.Now().Add(nextAgentAfter); soon.Before(deadline) && search.More() {
			deadline = soon
		}
		began := g.now()
		first, err := c.ask(ctx, p, deadline)
		if err == nil {
			rec.Stages.Reply = g.now().Sub(began)
			return p, first, nil
		}
		p.Release()
		last = err
	}
}

// ask sends the ClientHello to an agent and waits for the first bytes of its answer.
func (c *client) ask(ctx context.Context, p *tunnel.Passage, deadline time.Time) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = p.Reset() })
	defer stop()
	_ = p.SetDeadline(deadline) // fails only on a closed stream, and then so does the write
	buf := make([]byte, observeBuffer)
	n := 0
	_, err := p.Write(c.hello)
	if err == nil {
		n, err = p.Read(buf)
	}
	if n == 0 {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.Unanswered()
		}
		return nil, agentError(err)
	}
	_ = p.SetDeadline(time.Time{})
	return buf[:n], nil
}

func agentError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("an agent is online, and did not answer in time")
	}
	return errors.New("an agent was online, and its tunnel broke before it answered")
}

// spliceAgent carries the bytes both ways until the agent has ended what it sends: inside TLS there is no half of a
// connection after that. The client then has a little time to read, and to close.
func (c *client) spliceAgent(splicing *splicing, first []byte) spliced {
	p := splicing.upstream
	var inbound, outbound int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		inbound = splicing.carry(p, c.raw)
	}()
	if _, err := c.raw.Write(first); err != nil {
		splicing.ended(termination.ClosedByClient)
		splicing.abort()
	} else {
		outbound = splicing.carry(c.raw, p)
	}
	c.waitForEnd(done)
	abandon(p) // else a client that sends on would be waited for
	<-done
	return spliced{fromClient: inbound, fromUpstream: outbound, first: *splicing.first.Load()}
}

// awaitReport waits for what the agent tells about the handshake, and completes the record by it. An agent that says
// nothing leaves a record that says so.
func (c *client) awaitReport(p *tunnel.Passage, over chan spliced) (passed spliced, ended bool) {
	late := time.NewTimer(time.Until(c.deadline) + reportTime)
	defer late.Stop()
	for {
		select {
		case h := <-p.Handshake:
			c.reported(h)
			return passed, ended
		case passed = <-over:
			ended, over = true, nil
			late.Reset(reportTime) // its word may be on the way
		case <-p.Gone():
			select {
			case h := <-p.Handshake: // it came first
				c.reported(h)
			default:
				c.unreported(termination.OutcomeBrokenOff, "the agent's tunnel broke during the handshake")
			}
			return passed, ended
		case <-late.C:
			c.unreported(termination.OutcomePassed, "the agent did not report this handshake in time")
			return passed, ended
		}
	}
}

func (c *client) unreported(outcome termination.Outcome, why string) {
	rec := c.record
	c.slot.established()
	_ = c.raw.SetDeadline(time.Time{}) // fails only on a closed connection
	rec.Verdict = termination.Verdict{Outcome: outcome, Beat: termination.BeatAgreement}
	rec.Error = why
	if outcome != termination.OutcomePassed {
		rec.Verdict.Reason = termination.ReasonAgentOffline
		if c.gateway.stopped.Err() != nil {
			rec.Verdict.Reason = termination.ReasonShutdown
		}
		c.explain()
	}
}

// reported completes the record by the agent's.
func (c *client) reported(h *termination.Handshake) {
	if err := c.merge(h); err != nil {
		c.unreported(termination.OutcomePassed, "the agent's report makes no sense: "+err.Error())
		return
	}
	c.slot.established()
	if c.gateway.stopped.Err() != nil && !c.record.Verdict.Outcome.In() { // to the agent it looked like a client's end
		c.record.Verdict.Outcome, c.record.Verdict.Reason = termination.OutcomeBrokenOff, termination.ReasonShutdown
	}
	if c.record.Verdict.Outcome.In() {
		_ = c.raw.SetDeadline(time.Time{}) // fails only on a closed connection
		return
	}
	c.explain()
}

// awaitEnd waits for what the agent tells about the connection's end, for no longer than a little after the bytes have
// ended. It reports whether they have.
func awaitEnd(p *tunnel.Passage, over <-chan spliced, passed *spliced, ended bool) (termination.ConnectionEnd, bool) {
	late := time.NewTimer(reportTime)
	defer late.Stop()
	if !ended {
		late.Stop()
	}
	for {
		select {
		case end := <-p.End:
			return cleanEnd(end), ended
		case <-p.Gone():
			select {
			case end := <-p.End: // it came first
				return cleanEnd(end), ended
			default:
			}
			return termination.ConnectionEnd{Reason: termination.ReasonAgentOffline, Detail: "The agent's tunnel broke."}, ended
		case *passed = <-over:
			ended, over = true, nil
			late.Reset(reportTime) // its word may be on the way
		case <-late.C:
			return termination.ConnectionEnd{}, ended
		}
	}
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
