package tunnel_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"countersign/termination"
	"countersign/termination/tunnel"
)

// What an agent has sent to the end before its tunnel ended reaches the client, however slowly that one reads.
func TestTunnelEndsAfterTheLastBytes(t *testing.T) {
	g := newGate(t)
	a := g.raw(g.member("a"))
	p, err := g.server.Search("ep_a", tunnel.Header{Handshake: "hs_1", Listener: netip.MustParseAddrPort("127.0.0.1:443"), Peer: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("127.0.0.1:443")}).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	stream, err := a.Mux.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	const size = 200 << 10 // less than a window, so that nobody has to read
	if _, err := stream.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := a.Report(&termination.Handshake{ID: "hs_1"}); err != nil {
		t.Fatal(err)
	}
	<-p.Handshake // so it has all come
	_ = a.Mux.Close()
	<-p.Gone()
	if b, err := io.ReadAll(p); err != nil || len(b) != size {
		t.Errorf("%d of %d bytes were read, and %v", len(b), size, err)
	}
}

// With several addresses of a gateway, an agent comes back by the one that it was there by: those before it may take
// their time to fail.
func TestAgentComesBackByTheSameAddress(t *testing.T) {
	g := newGate(t)
	id := g.member("a")
	const nowhere = "192.0.2.1:1"
	id.Gateways = []string{nowhere, g.address}
	dials := make(chan string, 100)
	conns := make(chan net.Conn, 100)
	c := tunnel.NewClient(tunnel.ClientOptions{
		Identity: id, Log: slog.New(slog.DiscardHandler), Now: g.clock.Now,
		Apply: func(context.Context, *tunnel.Policy) error { return nil }, Serve: func(s *tunnel.Stream, _ tunnel.Header) { _ = s.Reset() },
		Renewed: func(*tunnel.Identity) error { return nil },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials <- address
			if address == nowhere {
				return nil, errors.New("nobody is there")
			}
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			conns <- conn
			return conn, err
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	ready := func() bool { all := g.server.Agents(); return len(all) == 1 && all[0].Ready() }
	g.wait("the agent to be online", ready)
	_ = (<-conns).Close()
	for _, want := range []string{nowhere, g.address, g.address} {
		if got := <-dials; got != want {
			t.Errorf("connected to %s, not to %s", got, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// An agent that answers no client is tried last, though it has the fewest connections, until it is heard again.
func TestMuteAgentIsTriedLast(t *testing.T) {
	g := newGate(t)
	one, two := g.member("a"), g.member("a")
	agents := map[string]*tunnel.RawAgent{one.ID: g.raw(one), two.ID: g.raw(two)}
	next := func() *tunnel.Passage {
		p, err := g.server.Search("ep_a", tunnel.Header{Handshake: "hs", Listener: netip.MustParseAddrPort("127.0.0.1:443"), Peer: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("127.0.0.1:443")}).Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Release)
		return p
	}
	mute := next()
	mute.Unanswered()
	for range 3 { // no matter how many it has
		if p := next(); p.Agent() == mute.Agent() {
			t.Error("a client was given to the agent that does not answer")
		}
	}
	if err := agents[mute.Agent()].Confirm(g.config.Revision); err != nil {
		t.Fatal(err)
	}
	g.wait("the agent that is heard again to be given a client", func() bool { return next().Agent() == mute.Agent() })
}

// A tunnel that has had all the streams it can have ends, so that the agent opens another: else it would stay and carry
// nobody.
func TestTunnelOfOldAgeEnds(t *testing.T) {
	g := newGate(t)
	a := g.raw(g.member("a"))
	g.server.Exhaust()
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() {
		_, err := g.server.Search("ep_a", tunnel.Header{Handshake: "hs"}).Next(ctx)
		opened <- err
	}()
	for { // what the gateway says until the tunnel ends
		m, err := tunnel.ReadAny(a.Control)
		if err != nil {
			break
		}
		if beat, _ := m["beat"].(map[string]any); beat["n"] == 3.0 {
			t.Error("the tunnel goes on")
			break
		}
	}
	cancel() // else the client waits for the agent to come back
	if err := <-opened; err == nil {
		t.Error("a stream was opened")
	}
}
