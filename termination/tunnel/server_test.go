package tunnel_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
	"countersign/termination/tunnel"
	"countersign/termination/tunnel/tunneltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// gate is the gateway's end, with endpoints a and b that end in agents.
type gate struct {
	t        *testing.T
	server   *tunnel.Server
	registry *tunneltest.Registry
	ca       *termination.AgentCA
	config   *termination.Config
	clock    *clock
	address  string
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{t: t, clock: &clock{now: time.Now()}}
	g.registry = &tunneltest.Registry{Now: g.clock.Now}
	var err error
	if g.ca, err = localca.CreateAgentCA(g.clock.Now()); err != nil {
		t.Fatal(err)
	}
	g.server = tunnel.NewServer(tunnel.ServerOptions{
		Registry: g.registry, Log: slog.New(slog.DiscardHandler), Now: g.clock.Now,
		Sign: func(*termination.Config, *termination.Endpoint, []byte) ([]*x509.Certificate, error) {
			return nil, errors.New("no local CA")
		},
	})
	g.config = &termination.Config{Revision: 1, Node: "node_test", Limits: termination.DefaultLimits(), Agents: termination.Agents{CA: g.ca}}
	for _, name := range []string{"a", "b"} {
		g.config.Endpoints = append(g.config.Endpoints, termination.Endpoint{
			ID: "ep_" + name, Name: name, Enabled: true, Host: name + ".test", Listen: netip.MustParseAddr("127.0.0.1"), Port: 443,
			Scheme: termination.SchemeHTTPS, TerminateAt: termination.AtAgent, ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
		})
	}
	g.config.Endpoints = append(g.config.Endpoints, termination.Endpoint{ID: "ep_edge", Name: "edge", Enabled: true, TerminateAt: termination.AtEdge})
	g.server.Apply(g.config)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = l.Addr().String()
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.server.Take(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepted
		g.server.Close()
	})
	return g
}

func (g *gate) invite(endpoint string, life time.Duration) termination.JoinToken {
	return g.registry.Invite(g.ca, "ep_"+endpoint, endpoint, life, g.address)
}

func (g *gate) join(token termination.JoinToken, endpoint string) (*tunnel.Identity, error) {
	return tunnel.Join(g.t.Context(), tunnel.JoinOptions{
		Token: token, Endpoint: endpoint, Name: "test", Version: "v0", Now: g.clock.Now, Dial: (&net.Dialer{}).DialContext,
	})
}

// member returns an agent of an endpoint that has joined.
func (g *gate) member(endpoint string) *tunnel.Identity {
	g.t.Helper()
	id, err := g.join(g.invite(endpoint, time.Minute), endpoint)
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

// raw returns an agent that is online and confirmed its policy.
func (g *gate) raw(id *tunnel.Identity) *tunnel.RawAgent {
	g.t.Helper()
	a, err := tunnel.DialRaw(g.t.Context(), g.address, id, g.clock.Now)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = a.Mux.Close() })
	if m, err := a.Greet(g.t.Context()); err != nil || m["welcome"] == nil {
		g.t.Fatalf("%v, %v", m, err)
	}
	for {
		m, err := tunnel.ReadAny(a.Control)
		if err != nil {
			g.t.Fatal(err)
		}
		if m["policy"] != nil {
			break
		}
	}
	if err := a.Confirm(g.config.Revision); err != nil {
		g.t.Fatal(err)
	}
	g.wait("the agent to be ready", func() bool {
		for _, s := range g.server.Agents() {
			if s.ID == id.ID {
				return s.Ready()
			}
		}
		return false
	})
	return a
}

func (g *gate) wait(what string, ok func() bool) {
	g.t.Helper()
	tlstest.Eventually(g.t, what, ok)
}

func TestJoin(t *testing.T) {
	g := newGate(t)
	id := g.member("a")
	if id.EndpointID != "ep_a" || id.Endpoint != "a" || id.Certificate.NotAfter.Sub(g.clock.Now()) > localca.AgentLife || localca.AgentID(id.Certificate) != id.ID {
		t.Errorf("joined as %+v", id)
	}
	if len(id.Certificate.DNSNames) > 0 || id.Certificate.IsCA || len(id.Certificate.ExtKeyUsage) != 1 || id.Certificate.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("an agent's certificate is good for more than that: %+v", id.Certificate)
	}
	// Left to the invitation.
	if id, err := g.join(g.invite("b", time.Minute), ""); err != nil || id.EndpointID != "ep_b" {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestJoinIsRefused(t *testing.T) {
	g := newGate(t)
	other, err := localca.CreateAgentCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	used := g.invite("a", time.Minute)
	if _, err := g.join(used, "a"); err != nil {
		t.Fatal(err)
	}
	mistaken := g.invite("a", time.Minute)
	unknown := mistaken
	unknown.Secret[0] ^= 1
	wrongPin := mistaken
	wrongPin.CA = termination.FingerprintOf(other.Certificate)
	for _, c := range []struct {
		name     string
		token    termination.JoinToken
		endpoint string
		says     string
		final    bool
	}{
		{"unknown", unknown, "a", "does not know this invitation", true},
		{"used", used, "a", "was used already", true},
		{"expired", g.invite("a", -time.Second), "a", "has expired", true},
		{"another endpoint", mistaken, "b", "is for another endpoint", true},
		{"an endpoint at the edge", mistaken, "edge", "is for another endpoint", true},
		{"no endpoint", mistaken, "nobody", "is for another endpoint", true},
		{"unknown, and no endpoint", unknown, "nobody", "does not know this invitation", true},
		{"wrong pin", wrongPin, "a", "is not the gateway of this invitation", false},
	} {
		_, err := g.join(c.token, c.endpoint)
		var no *tunnel.RefusedError
		var pin *tunnel.PinError
		if err == nil || !strings.Contains(err.Error(), c.says) || errors.As(err, &no) != c.final || errors.As(err, &pin) != (c.name == "wrong pin") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	g.registry.Break(errors.New("disk full"))
	if _, err := g.join(mistaken, "a"); err == nil || strings.Contains(err.Error(), "disk") {
		t.Errorf("with a broken store: %v", err)
	}
	g.registry.Break(nil)
	if _, err := g.join(mistaken, "a"); err != nil {
		t.Errorf("an invitation that nobody used is used up: %v", err)
	}
	if n := len(g.server.Agents()); n != 0 {
		t.Errorf("%d agents are online", n)
	}
}

// An address that is refused again and again is not heard for a while.
func TestJoinIsLimited(t *testing.T) {
	g := newGate(t)
	bad := g.invite("a", -time.Second)
	for range tunnel.RefusalsAllowed {
		if _, err := g.join(bad, "a"); err == nil {
			t.Fatal("joined")
		}
	}
	good := g.invite("a", time.Hour)
	if _, err := g.join(good, "a"); err == nil || !strings.Contains(err.Error(), "in a minute") {
		t.Errorf("heard: %v", err)
	}
	g.clock.add(2 * time.Minute)
	if _, err := g.join(good, "a"); err != nil {
		t.Error(err)
	}
}

// Who may open a tunnel: an agent with a certificate of our CA, whose row in the registry is there and has its key.
func TestTunnelIsRefused(t *testing.T) {
	g := newGate(t)
	id := g.member("a")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := localca.ReadRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(ca *termination.AgentCA, agentID string) *tunnel.Identity {
		cert, err := localca.SignAgent(ca, agentID, request, g.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return &tunnel.Identity{ID: agentID, Key: key, Certificate: cert, CA: g.ca.Certificate, EndpointID: "ep_a"}
	}
	foreign, err := localca.CreateAgentCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := localca.IssueAgentListener(g.ca, g.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	self := tlstest.NewCA(tlstest.CN("self"))
	g.registry.Put(termination.Agent{ID: "agt_gone", EndpointID: "ep_gone", Key: termination.KeyFingerprintOf(signed(g.ca, "agt_gone").Certificate)})
	g.registry.Put(termination.Agent{ID: "agt_edge", EndpointID: "ep_edge", Key: termination.KeyFingerprintOf(signed(g.ca, "agt_edge").Certificate)})
	g.registry.Put(termination.Agent{ID: "agt_out", EndpointID: "ep_a", Removed: true, Key: termination.KeyFingerprintOf(signed(g.ca, "agt_out").Certificate)})
	for name, c := range map[string]struct {
		id   *tunnel.Identity
		says string // in the gateway's words; empty: not even heard
	}{
		"another CA":              {signed(foreign, id.ID), ""},
		"signed itself":           {&tunnel.Identity{Key: self.Key, Certificate: self.X509, CA: g.ca.Certificate}, ""},
		"the listener's own":      {&tunnel.Identity{Key: listener.Key, Certificate: listener.Leaf(), CA: g.ca.Certificate}, ""},
		"another key":             {signed(g.ca, id.ID), "does not know this agent"},
		"unknown":                 {signed(g.ca, "agt_unknown"), "does not know this agent"},
		"removed":                 {signed(g.ca, "agt_out"), "was removed"},
		"of no endpoint any more": {signed(g.ca, "agt_gone"), "was removed on the gateway, or its TLS ends elsewhere"},
		"of an edge endpoint":     {signed(g.ca, "agt_edge"), "was removed on the gateway, or its TLS ends elsewhere"},
	} {
		a, err := tunnel.DialRaw(t.Context(), g.address, c.id, g.clock.Now)
		if err != nil {
			if c.says != "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		m, err := a.Greet(t.Context())
		_ = a.Mux.Close()
		text := fmt.Sprint(m["refused"])
		if m["welcome"] != nil || c.says == "" && err == nil || c.says != "" && !strings.Contains(text, c.says) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	if n := len(g.server.Agents()); n != 0 {
		t.Errorf("%d agents are online", n)
	}
}

// What is no TLS 1.3 by one of the two names gets nothing.
func TestListenerIsStrict(t *testing.T) {
	g := newGate(t)
	pool := x509.NewCertPool()
	pool.AddCert(g.ca.Certificate)
	config := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{RootCAs: pool, ServerName: localca.AgentListenerName, NextProtos: []string{tunnel.ProtocolTunnel}, MinVersion: tls.VersionTLS12, Time: g.clock.Now}
		change(c)
		return c
	}
	for name, change := range map[string]func(*tls.Config){
		"no certificate": func(*tls.Config) {},
		"TLS 1.2":        func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12; c.NextProtos = []string{tunnel.ProtocolJoin} },
		"no ALPN":        func(c *tls.Config) { c.NextProtos = nil },
		"another ALPN":   func(c *tls.Config) { c.NextProtos = []string{"h2"} },
	} {
		conn, err := tls.Dial("tcp", g.address, config(change))
		if err == nil { // in TLS 1.3 the client has finished before it is refused
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A session is never resumed.
	cache := tls.NewLRUClientSessionCache(1)
	for range 2 {
		conn, err := tls.Dial("tcp", g.address, config(func(c *tls.Config) { c.NextProtos, c.ClientSessionCache = []string{tunnel.ProtocolJoin}, cache }))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if err := tunnel.WriteFrame(conn, map[string]any{"secret": "x"}); err != nil {
			t.Fatal(err)
		}
		if m, err := tunnel.ReadAny(conn); err != nil || m["refused"] == nil {
			t.Errorf("%v, %v", m, err)
		}
		if conn.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		_ = conn.Close()
	}
}

// P33: an agent serves its endpoint and no other, and speaks of its connections and no others.
func TestAgentSpeaksForItselfAlone(t *testing.T) {
	g := newGate(t)
	a, b := g.raw(g.member("a")), g.raw(g.member("b"))
	header := tunnel.Header{Handshake: "hs_1", Listener: netip.MustParseAddrPort("127.0.0.1:443"), Peer: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("127.0.0.1:443")}
	search := g.server.Search("ep_a", header)
	p, err := search.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // else it waits for one to come back
	defer cancel()
	if _, err := search.Next(soon); !errors.Is(err, tunnel.ErrOffline) {
		t.Errorf("an agent of b was offered for a: %v", err)
	}
	stream, err := a.Mux.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	if h, err := tunnel.ReadHeader(stream); err != nil || h != header {
		t.Errorf("%+v, %v", h, err)
	}
	// b lies about a's connection, then a tells the truth.
	if err := b.Report(&termination.Handshake{ID: "hs_1", Error: "a lie"}); err != nil {
		t.Fatal(err)
	}
	if err := b.Report(&termination.Handshake{ID: "hs_2", Error: "of nobody"}); err != nil {
		t.Fatal(err)
	}
	select {
	case h := <-p.Handshake:
		t.Fatalf("%s", h.Error)
	case <-time.After(50 * time.Millisecond): // that nothing comes cannot be waited for
	}
	if err := a.Report(&termination.Handshake{ID: "hs_1", Error: "the truth"}); err != nil {
		t.Fatal(err)
	}
	select {
	case h := <-p.Handshake:
		if h.Error != "the truth" {
			t.Errorf("%s", h.Error)
		}
	case <-time.After(patience):
		t.Error("a report did not come")
	}
	// One whose row says another endpoint now is cut off.
	g.registry.Put(termination.Agent{ID: g.server.Agents()[1].ID, EndpointID: "ep_a"})
	g.server.Apply(g.config)
	g.wait("b to be cut off", func() bool { return len(g.server.Agents()) == 1 })
}
