package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/agent"
	"countersign/termination/tlstest"
)

// Whatever a stranger presents to an agent harms nobody else who is connected through it: a report that the gateway does
// not take would end the tunnel, and everyone's connection with it.
func TestStrangersDoNotEndTheTunnel(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	echo := tlstest.TCP(t).Addr
	r := newRig(t)
	r.trust("devices", devices)
	r.agents()
	port := freePort(t)
	r.endpoint("a", port, "tcp://"+echo, func(e *termination.Endpoint) { asTLS(e); require("devices")(e); atAgent(e) })
	r.apply()
	r.agent("a", "tcp://"+echo)
	alice := devices.Client("alice")
	conn, err := r.echoTLS("a", port, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.next()
	filler := tlstest.NewCA(tlstest.CN("f")).X509.Raw
	mallory := alice.TLS() // its key is not looked at: the chain is refused before
	mallory.Certificate = devices.Client("mallory").TLS().Certificate
	for range 400 {
		mallory.Certificate = append(mallory.Certificate, filler)
	}
	config := r.clientConfig("a.localhost", tls.VersionTLS13, nil)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &mallory, nil }
	bad, err := tls.Dial("tcp", address(port), config)
	if err == nil {
		_ = bad.SetDeadline(time.Now().Add(patience))
		_, err = bad.Read(make([]byte, 1))
		_ = bad.Close()
	}
	if err == nil {
		t.Error("a stranger was let in")
	}
	if rec := r.next(); rec.Verdict.Outcome != termination.OutcomeRefused || rec.Verdict.Reason == termination.ReasonAgentOffline {
		t.Errorf("recorded %s %s, %s", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
	}
	if _, err := fmt.Fprintln(conn, "again"); err != nil {
		t.Fatalf("another client was cut off: %v", err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "again\n" {
		t.Fatalf("another client was cut off: %q, %v", line, err)
	}
}

// held is a network that keeps what is written to it until it is let go, as a slow one does.
type held struct {
	net.Conn
	hold *atomic.Bool
	free chan struct{}
}

func (h *held) Write(p []byte) (int, error) {
	if h.hold.Load() {
		<-h.free
	}
	return h.Conn.Write(p)
}

// An agent that stops goes when everything has arrived, not when it has handed it to its network.
func TestAgentStopsAfterTheLastBytes(t *testing.T) {
	const size = 200 << 10 // fits into the tunnel's buffers, so that the engine is done with it
	hold, free := new(atomic.Bool), make(chan struct{})
	answered := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(answered)
		hold.Store(true)
		_, _ = w.Write(make([]byte, size))
	}))
	defer service.Close()
	r := newRig(t)
	r.agents()
	port := freePort(t)
	e := r.endpoint("a", port, service.URL, atAgent)
	r.apply()
	o, _ := r.agentOptions(e, service.URL)
	a := &testAgent{r: r, id: o.Identity, ended: make(chan error, 1), network: &silence{}}
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := a.network.dial(ctx, network, address)
		return &held{conn, hold, free}, err
	}
	a.Agent = agent.New(o)
	go func() { a.ended <- a.Run() }()
	a.ready()
	conn, err := tls.Dial("tcp", address(port), r.clientConfig("a.localhost", tls.VersionTLS13, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	rec := r.next()
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-answered
	closed := make(chan error, 1)
	go func() { closed <- a.Close(t.Context()) }()
	select {
	case <-closed:
		t.Error("the agent went with bytes on their way")
		closed <- nil
	case <-time.After(time.Second): // that it does not go cannot be waited for
	}
	close(free)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || len(b) != size {
		t.Errorf("the client got %d of %d bytes, and %v", len(b), size, err)
	}
	if end := r.end(rec.ID); end.Reason != "" || end.Requests != 1 {
		t.Errorf("ended %+v", end)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := <-a.ended; err != nil {
		t.Error(err)
	}
}
