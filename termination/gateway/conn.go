package gateway

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"countersign/termination"
	"countersign/termination/wire"
)

// lingerBytes is how much of what a refused client still sends is read, so that it gets to read its alert.
const lingerBytes = 64 << 10

// serve is the story of one connection, from accept to the hand-over to HTTP or to the end of the splice.
func (g *Gateway) serve(l *listener, raw *net.TCPConn, accepted time.Time, slot *slot) {
	rec := g.newRecord(l, raw, accepted)
	owned := true // raw and slot are ours to close and release
	defer func() {
		if p := recover(); p != nil {
			// A hostile certificate must not end the process; the connection is closed and nobody gets in.
			g.log.Error("panic in a connection", "handshake", rec.ID, "panic", p)
		}
		if owned {
			_ = raw.Close()
			slot.release()
		}
	}()

	t := g.table.Load()
	rec.Revision = t.config.Revision
	_ = raw.SetDeadline(accepted.Add(t.config.Limits.HandshakeTimeout)) // fails only on a closed connection, and then so does the read

	hello, seen, err := wire.ReadClientHello(raw, t.config.Limits.ClientHello)
	rec.Stages.Hello = g.now().Sub(accepted)
	if err != nil {
		g.refuseHello(raw, rec, err)
		return
	}
	rec.Hello = offered(hello)

	e := t.route(l.address, hello.ServerName)
	if e == nil {
		g.refuseName(raw, rec)
		return
	}
	rec.EndpointID, rec.Endpoint, rec.Scheme, rec.TerminateAt = e.ID, e.Name, e.Scheme, e.TerminateAt
	c := &client{gateway: g, table: t, endpoint: e, listener: l, raw: raw, slot: slot, record: rec, hello: seen}
	if e.TerminateAt == termination.AtUpstream {
		c.passThrough()
		return
	}
	owned = !c.terminate()
}

// client is a connection on its way in.
type client struct {
	gateway  *Gateway
	table    *table
	endpoint *endpoint
	listener *listener
	raw      *net.TCPConn
	slot     *slot
	record   *termination.Handshake
	hello    []byte // the bytes in which the ClientHello was found
}

func (g *Gateway) newRecord(l *listener, raw net.Conn, accepted time.Time) *termination.Handshake {
	t := g.table.Load()
	return &termination.Handshake{
		ID:     termination.NewID(termination.PrefixHandshake, accepted),
		Node:   t.config.Node,
		Time:   accepted,
		Stages: termination.Stages{Reply: -1, Wait: -1, Check: -1},
		Peer:   addrPort(raw.RemoteAddr()),
		Local:  addrPort(raw.LocalAddr()),
	}
}

// route finds the endpoint of a server name as the client sent it: exact, wildcard, fallback, or none. A name that is
// no name is treated as unknown, never as missing.
func (t *table) route(address netip.AddrPort, serverName string) *endpoint {
	names := t.routes[address]
	if names == nil {
		return nil
	}
	e, _ := names.Lookup(serverName)
	return e
}

// publishRecord completes and publishes a record. From here on it is immutable.
func (g *Gateway) publishRecord(rec *termination.Handshake) {
	rec.Duration = g.now().Sub(rec.Time)
	g.hub.Publish(rec)
}

// refuse sends what is left to say to a client that stays outside, explains, records, and then waits until the client
// has had the time to read: closing at once would reset the connection under data that is still coming, and the alert
// would be lost.
func (g *Gateway) refuse(raw *net.TCPConn, rec *termination.Handshake, last []byte) {
	if len(last) > 0 {
		_, _ = raw.Write(last) // it is refused either way
	}
	_ = raw.CloseWrite()
	rec.Duration = g.now().Sub(rec.Time)
	g.explain(rec)
	g.hub.Publish(rec)
	g.linger(raw, g.table.Load().config.Limits.RefusalLinger)
}

// explain finds the cause of a refusal, off the path of the client, which has its alert by now.
func (g *Gateway) explain(rec *termination.Handshake) { g.table.Load().search.Explain(rec, g.now()) }

func (g *Gateway) linger(raw *net.TCPConn, patience time.Duration) {
	_ = raw.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.CopyN(io.Discard, raw, lingerBytes) // whatever it says, it is refused
}

// turnAway refuses a connection above a limit. It costs no goroutine, no reading and no search.
func (g *Gateway) turnAway(l *listener, raw *net.TCPConn, accepted time.Time, limit Limit) {
	rec := g.newRecord(l, raw, accepted)
	_ = raw.SetLinger(0) // no state is kept for a client that is one too many
	_ = raw.Close()
	rec.Revision = g.table.Load().config.Revision
	rec.Verdict = termination.Verdict{
		Outcome: termination.OutcomeRefused, Reason: termination.ReasonOverloaded, Beat: termination.BeatHello,
		Explanation: termination.Explanation{
			Sentence: fmt.Sprintf("%s was turned away: the limit %s is reached.", rec.Peer.Addr(), limit),
			Turn:     termination.TurnOperator,
			Fixes:    []termination.Fix{{Text: fmt.Sprintf("Raise limits.%s, or find out who uses most of it.", limit)}},
		},
	}
	g.publishRecord(rec)
}
