package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"countersign/termination"
)

// lingerBytes is how much of what a refused client still sends is read, so that it gets to read its alert.
const lingerBytes = 64 << 10

// serve is the story of one connection, from accept to the hand-over to HTTP or to the end of the splice.
func (g *Gateway) serve(raw Conn, a Arrival, slot *slot) {
	t := g.table.Load()
	rec := g.newRecord(t, raw, a)
	// Sockets keep real time, whatever clock the gateway has.
	c := &client{gateway: g, table: t, raw: raw, slot: slot, record: rec, deadline: time.Now().Add(t.config.Limits.HandshakeTimeout)}
	// Close finds live connections by themselves; those that are on their way in, or on their way out, it ends here.
	defer c.arrived()
	forget := context.AfterFunc(g.stopped, func() { _ = raw.Close() })
	defer forget()
	defer c.leave()
	_ = raw.SetDeadline(c.deadline) // fails only on a closed connection, and then so does the read

	if a.behindPROXY && !c.readPROXY() {
		return
	}
	hello, seen, err := c.readHello(a)
	rec.Stages.Hello = g.now().Sub(a.Accepted)
	c.probe = g.probeOf(raw)
	rec.Proof = c.probe != nil
	if err != nil {
		c.refuseHello(err)
		return
	}
	rec.Hello = offered(hello)
	if c.answerChallenge(seen) {
		return
	}

	e := t.route(a.Listener, rec.Local, hello.ServerName)
	if e == nil {
		c.refuseName()
		return
	}
	rec.EndpointID, rec.Endpoint, rec.Scheme, rec.TerminateAt = e.ID, e.Name, e.Scheme, e.TerminateAt
	c.endpoint, c.hello = e, seen
	if !e.Enabled {
		c.refuseName()
		return
	}
	if rec.StartTLS != e.StartTLS && rec.StartTLS != termination.StartTLSNone {
		c.refuseStartTLS()
		return
	}
	if e.TerminateAt == termination.AtUpstream {
		c.passThrough()
		return
	}
	if e.TerminateAt == termination.AtAgent {
		c.viaAgent()
		return
	}
	c.terminate()
}

// client is a connection on its way in.
type client struct {
	gateway  *Gateway
	table    *table
	endpoint *endpoint
	raw      Conn
	slot     *slot
	record   *termination.Handshake
	hello    []byte // the bytes in which the ClientHello was found
	deadline time.Time
	probe    *Probe // of ours that is at the other end; nil: a client

	answersPostgres bool // an endpoint of this address has starttls: postgres

	isIn      bool     // or out: it does not count as arriving any more
	session   *session // once it was let in
	published bool     // the record is out, and no longer ours to change
	handed    bool     // raw and slot belong to the session, and with it to HTTP
}

// arrived tells that the connection was handed on or refused, or that its bytes begin to pass.
func (c *client) arrived() {
	if !c.isIn {
		c.isIn = true
		c.gateway.arriving.Add(-1)
	}
}

// leave is deferred: it ends what is still ours. A hostile certificate must not end the process: a connection on which
// something panics is closed, nobody gets in, and it is recorded like any other.
func (c *client) leave() {
	if p := recover(); p != nil {
		c.gateway.log.Error("panic in a connection", "handshake", c.record.ID, "panic", p, "stack", string(debug.Stack()))
		c.afterPanic()
	}
	if !c.handed {
		_ = c.raw.Close()
		c.slot.release()
	}
}

func (c *client) afterPanic() {
	if !c.published {
		c.record.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonPolicyUnreadable, Beat: termination.BeatAgreement}
		c.record.Error = "the gateway failed while it looked at this connection; its log says where"
		c.publish()
	}
	if c.handed {
		_ = c.session.conn.Close()
	} else if c.session != nil {
		c.gateway.finish(c.session, termination.ConnectionEnd{})
	}
}

func (g *Gateway) newRecord(t *table, raw net.Conn, a Arrival) *termination.Handshake {
	if a.ID == "" {
		a.ID = termination.NewID(termination.PrefixHandshake, a.Accepted)
	}
	return &termination.Handshake{
		ID:       a.ID,
		Node:     t.config.Node,
		Revision: t.config.Revision,
		Time:     a.Accepted,
		Stages:   termination.Stages{Reply: -1, Wait: -1, Check: -1},
		Peer:     addrPort(raw.RemoteAddr()),
		Local:    addrPort(raw.LocalAddr()),
	}
}

// publishRecord completes and publishes a record. From here on it is immutable.
func (g *Gateway) publishRecord(rec *termination.Handshake) {
	rec.Duration = g.now().Sub(rec.Time)
	g.ruleHits.add(rec, g.now())
	g.seen.Note(rec)
	g.hub.Publish(rec)
}

// publish is publishRecord, once, for this connection's record.
func (c *client) publish() {
	c.published = true
	c.gateway.publishRecord(c.record)
	c.probe.recorded(c.record)
}

// refuse sends what is left to say to a client that stays outside, explains, records, and then waits until the client
// has had the time to read: closing at once would reset the connection under data that is still coming, and the alert
// would be lost.
func (c *client) refuse(last []byte) {
	if len(last) > 0 {
		_, _ = c.raw.Write(last) // it is refused either way
	}
	_ = c.raw.CloseWrite()
	took := c.gateway.now().Sub(c.record.Time) // the search for the cause is not the client's time
	c.explain()
	if c.endpoint != nil && !c.endpoint.Enabled {
		c.record.Verdict.Explanation = stopped(c.endpoint)
	}
	c.record.Duration, c.published = took, true
	c.gateway.ruleHits.add(c.record, c.gateway.now())
	c.gateway.seen.Note(c.record)
	c.gateway.hub.Publish(c.record)
	c.probe.recorded(c.record)
	linger(c.raw, c.table.config.Limits.RefusalLinger)
}

// stopped explains why nobody answers for a name that an endpoint has.
func stopped(e *endpoint) termination.Explanation {
	return termination.Explanation{
		Sentence: fmt.Sprintf("A client asked for a name of %s, which is stopped.", e.Name),
		Turn:     termination.TurnOperator,
		Fixes:    []termination.Fix{{Text: "Start the endpoint.", Action: "/endpoints/" + e.ID}},
	}
}

// explain finds the cause of a refusal, off the path of the client, which has its alert by now. It goes by the
// configuration that refused.
func (c *client) explain() { c.table.search.Explain(c.record, c.gateway.now()) }

func linger(raw net.Conn, patience time.Duration) {
	_ = raw.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.CopyN(io.Discard, raw, lingerBytes) // whatever it says, it is refused
}

// turnAway refuses a connection above a limit. It costs no goroutine, no reading and no search.
func (g *Gateway) turnAway(raw Conn, a Arrival, limit Limit) {
	rec := g.newRecord(g.table.Load(), raw, a)
	probe := g.probeOf(raw)
	rec.Proof = probe != nil
	abandon(raw) // no state is kept for a client that is one too many
	rec.Verdict = turnedAway(rec, limit)
	g.publishRecord(rec)
	probe.recorded(rec)
}
