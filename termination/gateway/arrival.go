package gateway

import (
	"net"
	"net/netip"
	"time"

	"countersign/termination"
)

// Conn is a client's connection: TCP, or a stream of an agent's tunnel. Its addresses are [net.TCPAddr], the remote one
// the client's. Where it has a method Reset, that ends it so that the peer cannot take what came for the whole.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Arrival is what is known of a connection before its first byte is read.
type Arrival struct {
	ID       string         // of its handshake's record; empty: it gets one
	Listener netip.AddrPort // the configured address that it came by
	Accepted time.Time

	behindPROXY bool // a PROXY header comes first
}

// Take serves a connection that was accepted, by a listener of this gateway or elsewhere. It returns at once. It must
// not be called any more once Close was.
func (g *Gateway) Take(conn Conn, a Arrival) {
	local, peer := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	a.behindPROXY = g.table.Load().sendsPROXY(a.Listener, local, peer)
	slot, limit := g.slots.take(peer.Addr(), !a.behindPROXY)
	if slot == nil {
		g.turnAway(conn, a, limit)
		return
	}
	g.arriving.Add(1)
	g.conns.Go(func() { g.serve(conn, a, slot) })
}

// Recorder takes what the gateway has to tell about connections. [live.Hub] is one. Its methods never block.
type Recorder interface {
	Publish(h *termination.Handshake)       // once for each connection; immutable from here on
	Complete(end termination.ConnectionEnd) // after Publish, for those that were let in
}
