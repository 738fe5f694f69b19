package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/localca"

	"countersign/termination/tlstest"
)

// An agent that dies with a handshake half done, or that never answers, leaves a record, and its clients a clean end;
// another agent gets those that have seen nothing of it.
func TestAgentDiesDuringHandshake(t *testing.T) {
	echo := tlstest.TCP(t).Addr
	r := newRig(t)
	r.agents()
	port := freePort(t)
	e := r.endpoint("a", port, "tcp://"+echo, func(e *termination.Endpoint) { asTLS(e); atAgent(e) })
	r.apply()
	a := r.agent("a", "tcp://"+echo)
	// Half done: the server's flight has come, and the client says nothing.
	raw, err := net.Dial("tcp", address(port))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	half := &pausing{Conn: raw}
	go func() { _ = tls.Client(half, r.clientConfig("a.localhost", tls.VersionTLS13, nil)).Handshake() }()
	r.wait("the client to have seen the server's flight", half.paused)
	a.kill()
	rec := r.next()
	if rec.Verdict.Outcome != termination.OutcomeBrokenOff || rec.Verdict.Reason != termination.ReasonAgentOffline || !strings.Contains(rec.Error, "tunnel broke") {
		t.Errorf("recorded %+v, %s", rec.Verdict, rec.Error)
	}
	half.resume()

	// Nothing seen: the ClientHello goes to the other one.
	o, _ := r.agentOptions(e, "tcp://"+echo)
	mute := r.start(o)
	mute.ready()
	mute.network.set(true)
	r.agent("a", "tcp://"+echo)
	for range 2 { // one of the two is tried with the mute agent first
		conn, err := r.echoTLS("a", port, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if rec := r.next(); !rec.Verdict.Outcome.In() {
			t.Errorf("recorded %+v", rec.Verdict)
		}
	}
}

// pausing is a client's connection that reads the server's first flight and then says nothing more until resume.
type pausing struct {
	net.Conn
	mu      sync.Mutex
	wrote   bool
	read    bool
	resumed chan struct{}
}

func (p *pausing) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.mu.Lock()
	p.read = p.read || n > 0
	p.mu.Unlock()
	return n, err
}

func (p *pausing) Write(b []byte) (int, error) {
	p.mu.Lock()
	first := !p.wrote
	p.wrote = true
	if p.resumed == nil {
		p.resumed = make(chan struct{})
	}
	p.mu.Unlock()
	if !first {
		<-p.resumed
	}
	return p.Conn.Write(b)
}

func (p *pausing) paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read
}

func (p *pausing) resume() { close(p.resumed) }

// An agent without a certificate makes its own key, and the gateway's local CA signs it for the endpoint's names as the
// gateway has them. While it cannot, nobody gets in, and the page says why; afterwards it goes on by itself.
func TestAgentMakesItsOwnKey(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.agents()
	port := freePort(t)
	e := r.endpoint("a", port, upstream.URL, atAgent)
	r.apply()
	o, _ := r.agentOptions(e, upstream.URL)
	o.Files = nil
	a := r.start(o)
	r.wait("the agent to say what it lacks", func() bool { s, _ := a.status(); return strings.Contains(s.Problem, "there is no local CA") })
	if _, _, err := get(r.clientConfig("a.localhost", tls.VersionTLS13, nil), port, "a.localhost"); err == nil {
		t.Error("got in at an agent without a certificate")
	}
	r.next()
	ca, err := localca.Create(localca.Options{Name: "Local CA", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	r.reapply(func(c *termination.Config) { c.LocalCAs = []termination.LocalCA{*ca} })
	a.ready()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	connect := func(name string) error {
		conn, err := tls.Dial("tcp", address(port), &tls.Config{ServerName: name, RootCAs: roots})
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, cert := range conn.ConnectionState().PeerCertificates {
			if names := cert.DNSNames; len(names) == 0 || names[0] != "a.localhost" {
				t.Errorf("the certificate is for %q", names)
			}
		}
		return nil
	}
	if err := connect("a.localhost"); err != nil {
		t.Error(err)
	}
	r.next()
	r.reapply(func(c *termination.Config) { c.Endpoints[0].Aliases = []string{"*.more.test"} })
	a.ready()
	if err := connect("one.more.test"); err != nil {
		t.Errorf("a name that was added: %v", err)
	}
	r.next()
	if s := r.gateway.Status(); len(s.Endpoints[0].Leaves) != 0 {
		t.Errorf("the gateway presents %v for it", s.Endpoints[0].Leaves)
	}
}
