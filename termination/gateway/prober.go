package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"countersign/termination"
)

// probes are the connections that the gateway makes to itself to prove a policy. A record is such a probe's by the two
// addresses of its TCP connection alone, which nobody else can have while the probe holds its socket: nothing that a
// client sends can make it one, and so hide it from the counts.
type probes struct {
	mu   sync.Mutex
	open map[socketPair]*Probe
}

// socketPair is a TCP connection as its two ends know it.
type socketPair struct{ client, server netip.AddrPort }

// Probe is a connection to one of the gateway's own listeners, whose handshake is recorded as a proof.
type Probe struct {
	net.Conn
	gateway *Gateway
	pair    socketPair
	record  chan *termination.Handshake
	once    sync.Once
}

// DialProbe connects to an address of this machine, where the gateway listens, to prove what its policy does.
func (g *Gateway) DialProbe(ctx context.Context, address netip.AddrPort) (*Probe, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("connect to our own listener: %w", err)
	}
	// Known from here on, before a byte is sent: the gateway looks when it has read some.
	p := &Probe{
		Conn: conn, gateway: g, record: make(chan *termination.Handshake, 1),
		pair: socketPair{client: addrPort(conn.LocalAddr()), server: addrPort(conn.RemoteAddr())},
	}
	g.probes.mu.Lock()
	defer g.probes.mu.Unlock()
	if g.probes.open == nil {
		g.probes.open = map[socketPair]*Probe{}
	}
	g.probes.open[p.pair] = p
	return p, nil
}

// Record gets what the gateway recorded of this connection. It must not be changed.
func (p *Probe) Record() <-chan *termination.Handshake { return p.record }

// Close forgets the probe, and then gives its address back.
func (p *Probe) Close() error {
	p.once.Do(func() {
		p.gateway.probes.mu.Lock()
		defer p.gateway.probes.mu.Unlock()
		delete(p.gateway.probes.open, p.pair)
	})
	return p.Conn.Close()
}

// probeOf returns the probe at the other end of a connection, or nil.
func (g *Gateway) probeOf(raw net.Conn) *Probe {
	pair := socketPair{client: addrPort(raw.RemoteAddr()), server: addrPort(raw.LocalAddr())}
	g.probes.mu.Lock()
	defer g.probes.mu.Unlock()
	return g.probes.open[pair]
}

// recorded hands a record to the probe that caused it.
func (p *Probe) recorded(rec *termination.Handshake) {
	if p == nil {
		return
	}
	select {
	case p.record <- rec:
	default: // one is enough
	}
}
