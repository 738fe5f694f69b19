package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/tunnel"
)

// Whatever an agent sends, it harms itself alone.
func TestHostileAgents(t *testing.T) {
	for name, attack := range map[string]func(*tunnel.RawAgent) error{
		"an unknown key": func(a *tunnel.RawAgent) error { return tunnel.WriteFrame(a.Control, map[string]any{"root": true}) },
		"nothing":        func(a *tunnel.RawAgent) error { return tunnel.WriteFrame(a.Control, map[string]any{}) },
		"too much": func(a *tunnel.RawAgent) error {
			return tunnel.WriteFrame(a.Control, strings.Repeat("x", tunnel.MaxState+1))
		},
		"no JSON":             func(a *tunnel.RawAgent) error { _, err := a.Control.Write([]byte{0, 0, 0, 1, '{'}); return err },
		"an endless length":   func(a *tunnel.RawAgent) error { _, err := a.Control.Write([]byte{255, 255, 255, 255}); return err },
		"no multiplexing":     func(a *tunnel.RawAgent) error { _, err := a.TLS.Write([]byte("GET / HTTP/1.1\r\n\r\n")); return err },
		"a report of nothing": func(a *tunnel.RawAgent) error { return tunnel.WriteFrame(a.Reports, map[string]any{}) },
		"a report of two": func(a *tunnel.RawAgent) error {
			return tunnel.WriteFrame(a.Reports, map[string]any{"end": map[string]any{"id": "1"}, "handshake": map[string]any{"id": "1"}})
		},
		"a closed control": func(a *tunnel.RawAgent) error { return a.Control.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			good, bad := g.member("a"), g.member("b")
			g.raw(good)
			a := g.raw(bad)
			_ = attack(a) // it may be cut off before it has said all
			g.wait("the hostile agent to be cut off", func() bool {
				agents := g.server.Agents()
				return len(agents) == 1 && agents[0].ID == good.ID && agents[0].Ready()
			})
		})
	}
	t.Run("many streams", func(t *testing.T) {
		g := newGate(t)
		a := g.raw(g.member("a"))
		for i := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			s, err := a.Mux.OpenStream(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write([]byte("x")); err != nil || i < tunnel.FromAgent {
				continue
			}
			_ = s.SetReadDeadline(time.Now().Add(patience))
			if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, yamux.ErrTimeout) {
				t.Fatalf("stream %d stays open: %v", i, err)
			}
		}
		if agents := g.server.Agents(); len(agents) != 1 {
			t.Errorf("%d agents", len(agents))
		}
	})
	t.Run("a policy that it was not given", func(t *testing.T) {
		g := newGate(t)
		a := g.raw(g.member("a"))
		if err := a.Confirm(1 << 40); err != nil {
			t.Fatal(err)
		}
		g.wait("it to be taken for what it is", func() bool { return !g.server.Agents()[0].Ready() })
	})
}

// One that was switched off past its certificate's end may renew it, for a time; until it has, it gets no clients.
func TestLateAgentRenews(t *testing.T) {
	g := newGate(t)
	id := g.member("a")
	g.clock.add(localca.AgentLife + 24*time.Hour)
	a, err := tunnel.DialRaw(t.Context(), g.address, id, g.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Mux.Close()
	if m, err := a.Greet(t.Context()); err != nil || m["welcome"] == nil {
		t.Fatalf("%v, %v", m, err)
	}
	if err := a.Confirm(g.config.Revision); err != nil {
		t.Fatal(err)
	}
	ask := func(csr []byte) map[string]any {
		if err := tunnel.WriteFrame(a.Control, map[string]any{"certificate": map[string]any{"kind": "agent", "csr": csr}}); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := tunnel.ReadAny(a.Control)
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := m["certificate"].(map[string]any); ok {
				return c
			}
			if m["policy"] != nil {
				if err := a.Confirm(g.config.Revision); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	other := g.member("a")
	if c := ask(other.Request()); c["chain"] != nil || !strings.Contains(fmt.Sprint(c["error"]), "keeps the key") {
		t.Errorf("another key: %v", c)
	}
	if s := g.server.Agents()[0]; s.Ready() || g.server.Search("ep_a", tunnel.Header{}).More() {
		t.Errorf("an agent whose certificate has ended gets clients, or looks as if it did: %+v", s)
	}
	if c := ask(id.Request()); c["chain"] == nil {
		t.Errorf("its own key: %v", c)
	}
	g.wait("the agent to be given clients", func() bool { return g.server.Search("ep_a", tunnel.Header{}).More() })
	g.clock.add(tunnel.RenewalGrace + 48*time.Hour)
	if a, err := tunnel.DialRaw(t.Context(), g.address, id, g.clock.Now); err == nil {
		if m, err := a.Greet(t.Context()); err == nil {
			t.Errorf("one that is far too late is heard: %v", m)
		}
		_ = a.Mux.Close()
	}
}

// Somebody who connects and says nothing keeps nobody away who comes from elsewhere.
func TestSilentStrangers(t *testing.T) {
	g := newGate(t)
	for range 2 * tunnel.MostGreetingAddress {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	_, err := tunnel.Join(t.Context(), tunnel.JoinOptions{Token: g.invite("a", time.Minute), Now: g.clock.Now, Dial: dialer.DialContext})
	if err != nil {
		t.Error(err)
	}
}

// An agent that tries again and again, as one whose endpoint was moved does, keeps no other from joining from there.
func TestRetryingAgentKeepsNobodyAway(t *testing.T) {
	g := newGate(t)
	gone := g.member("a")
	g.registry.Put(termination.Agent{ID: gone.ID, EndpointID: "ep_edge", Key: termination.KeyFingerprintOf(gone.Certificate)})
	for range tunnel.RefusalsAllowed + 1 {
		a, err := tunnel.DialRaw(t.Context(), g.address, gone, g.clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := a.Greet(t.Context()); err != nil || m["refused"] == nil {
			t.Fatalf("%v, %v", m, err)
		}
		_ = a.Mux.Close()
	}
	if _, err := g.join(g.invite("b", time.Hour), "b"); err != nil {
		t.Error(err)
	}
}

// An agent that was removed while the registry could not be read is cut off soon after it can be.
func TestRegistryFailsAtRemoval(t *testing.T) {
	g := newGate(t)
	a := g.raw(g.member("a"))
	g.registry.Break(errors.New("locked"))
	g.server.Apply(g.config)
	g.wait("the registry to be asked", func() bool { return g.registry.Failed() > 0 })
	if n := len(g.server.Agents()); n != 1 {
		t.Errorf("%d agents are online while the registry cannot be read", n)
	}
	g.registry.Break(nil)
	g.registry.Remove(g.server.Agents()[0].ID)
	for {
		m, err := tunnel.ReadAny(a.Control)
		if err != nil {
			t.Fatalf("the agent was not told that it was removed: %v", err)
		}
		if m["refused"] != nil {
			break
		}
	}
}

// An agent of another version is told what to do about it.
func TestAgentOfAnotherVersion(t *testing.T) {
	g := newGate(t)
	a, err := tunnel.DialRaw(t.Context(), g.address, g.member("a"), g.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Mux.Close() }()
	if err := tunnel.WriteFrame(a.Control, map[string]any{"hello": map[string]any{"name": "n", "version": "v9", "future": true}}); err != nil {
		t.Fatal(err)
	}
	if m, err := tunnel.ReadAny(a.Control); err != nil || !strings.Contains(fmt.Sprint(m["refused"]), "same version") {
		t.Errorf("%v, %v", m, err)
	}
}
