package gateway_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/agent"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
	"countersign/termination/tunnel"
)

// agents makes the rig's gateway take agents, on a port of its own.
func (r *rig) agents() {
	r.t.Helper()
	ca, err := localca.CreateAgentCA(time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	r.config.Agents = termination.Agents{Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(r.t)), CA: ca}
}

// newAgentRig starts a gateway all of whose endpoints end TLS in agents.
func newAgentRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.byAgents, r.services, r.running = true, map[string]string{}, map[string]*testAgent{}
	r.agents()
	return r
}

// runAgents starts the agents that are missing and waits until all have the configuration in force.
func (r *rig) runAgents() {
	r.t.Helper()
	if !r.byAgents {
		return
	}
	for name, upstream := range r.services {
		switch a := r.running[name]; {
		case r.config.Endpoint(name) == nil:
		case a == nil:
			r.running[name] = r.agent(name, upstream)
		case r.config.Endpoint(name).Enabled:
			a.ready()
		}
	}
}

// testAgent is an agent in this process.
type testAgent struct {
	*agent.Agent
	r       *rig
	id      *tunnel.Identity
	dir     string
	ended   chan error
	network *silence
}

// agentOptions are those of an agent of the endpoint, which has joined and has a certificate of the rig's CA.
func (r *rig) agentOptions(e *termination.Endpoint, upstream string) (agent.Options, string) {
	r.t.Helper()
	token := r.registry.Invite(r.config.Agents.CA, e.ID, e.Name, time.Minute, r.config.Agents.Listen.String())
	id, err := tunnel.Join(context.Background(), tunnel.JoinOptions{
		Token: token, Endpoint: e.Name, Name: "test", Version: "v0", Now: time.Now, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	dir := r.t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	state, err := agent.OpenState(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = state.Close() })
	if err := state.Keep(id); err != nil {
		r.t.Fatal(err)
	}
	up, err := termination.ParseUpstream(upstream)
	if err != nil {
		r.t.Fatal(err)
	}
	server := r.serverCA.Server(e.ServerNames()[0], tlstest.DNS(e.ServerNames()...))
	written := server.WriteFiles(r.t, dir)
	files := &agent.Files{Certificate: written.Cert, Key: written.Key, Now: time.Now, Log: quiet()}
	if err := files.Read(); err != nil {
		r.t.Fatal(err)
	}
	return agent.Options{
		Identity: id, State: state, Upstream: up, Files: files, Name: "test", Version: "v0", Log: quiet(), Now: time.Now,
	}, dir
}

func quiet() *slog.Logger {
	if os.Getenv("AGENT_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// agent starts an agent of an endpoint and waits until it is ready for clients.
func (r *rig) agent(name, upstream string) *testAgent {
	r.t.Helper()
	o, dir := r.agentOptions(r.config.Endpoint(name), upstream)
	a := r.start(o)
	a.dir = dir
	a.ready()
	return a
}

func (r *rig) start(o agent.Options) *testAgent {
	network := &silence{}
	o.Dial = network.dial
	a := &testAgent{Agent: agent.New(o), r: r, id: o.Identity, ended: make(chan error, 1), network: network}
	go func() { a.ended <- a.Run() }()
	r.t.Cleanup(a.kill)
	return a
}

// kill cuts the agent off at once, as SIGKILL would: nothing is said any more.
func (a *testAgent) kill() {
	select {
	case err, ok := <-a.ended:
		if !ok {
			return
		}
		a.ended <- err
	default:
	}
	a.network.cut()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = a.Close(ctx)
	<-a.ended
	close(a.ended)
}

func (a *testAgent) status() (tunnel.AgentStatus, bool) {
	for _, s := range a.r.gateway.Status().Agents {
		if s.ID == a.id.ID {
			return s, true
		}
	}
	return tunnel.AgentStatus{}, false
}

// ready waits until clients are given to the agent under the configuration in force.
func (a *testAgent) ready() {
	a.r.t.Helper()
	a.r.wait("the agent to be ready", func() bool {
		s, online := a.status()
		return online && s.Ready() && s.Revision == a.r.gateway.Config().Revision
	})
}

// atAgent makes an endpoint's TLS end in an agent.
func atAgent(e *termination.Endpoint) {
	e.TerminateAt = termination.AtAgent
	e.Certificates, e.Upstream = nil, termination.Upstream{}
}

func TestAgentServes(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.trust("devices", devices)
	r.agents()
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, func(e *termination.Endpoint) { require("devices")(e); atAgent(e) })
	r.apply()
	r.agent("a", upstream.URL)
	status, body, err := get(r.clientConfig("a.localhost", tls.VersionTLS13, devices.Client("alice")), port, "a.localhost")
	if err != nil || status != 200 {
		t.Fatalf("%d %v %s", status, err, body)
	}
	rec := r.next()
	if rec.Verdict.Outcome != termination.OutcomeVerified || rec.TerminateAt != termination.AtAgent || rec.Client.Name != "alice" || rec.Client.Authority != "devices" {
		t.Errorf("recorded %+v", rec)
	}
	end := r.end(rec.ID)
	if end.Requests != 1 || end.BytesIn == 0 || end.BytesOut == 0 || end.Upstream == nil {
		t.Errorf("ended %+v", end)
	}
}

// silence is a network that can be made to swallow everything without ending a connection.
type silence struct {
	mu    sync.Mutex
	conns []*silentConn
	on    bool
	gone  bool
}

type silentConn struct {
	net.Conn
	of *silence
}

func (s *silence) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &silentConn{Conn: conn, of: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	s.conns = append(s.conns, c)
	return c, nil
}

// cut ends all connections with a reset, as when the process behind them is killed, and lets no more through.
func (s *silence) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for _, c := range s.conns {
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
		_ = c.Conn.Close()
	}
}

func (s *silence) set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
}

func (c *silentConn) silent() bool {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	return c.of.on
}

func (c *silentConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.silent() {
			return n, err
		}
	}
}

func (c *silentConn) Write(p []byte) (int, error) {
	if c.silent() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Whoever watches whether a policy has changed learns it of agents' endpoints too, where the authority keeps its name.
func TestStatusTellsThePolicyOfAgents(t *testing.T) {
	r := newRig(t)
	r.trust("devices", tlstest.NewCA(tlstest.CN("Devices")))
	r.agents()
	r.endpoint("a", freePort(t), "http://127.0.0.1:9", func(e *termination.Endpoint) { require("devices")(e); atAgent(e) })
	r.apply()
	before := r.gateway.Status().Endpoints[0].PolicyHash
	r.config.Authorities[0].Certificates[0].Certificate = tlstest.NewCA(tlstest.CN("Devices")).X509
	r.apply()
	after := r.gateway.Status().Endpoints[0].PolicyHash
	if before == "" || after == "" || before == after {
		t.Errorf("hash %q before and %q after another CA of the same name", before, after)
	}
}
