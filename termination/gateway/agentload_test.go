package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/tlstest"
)

// While the configuration changes without pause, agents keep up: no client that is admitted is dropped or refused.
func TestAgentsUnderChange(t *testing.T) {
	const changes, clients = 200, 8
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	echo := tlstest.TCP(t).Addr
	r := newAgentRig(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("a", port, "tcp://"+echo, func(e *termination.Endpoint) { asTLS(e); require("devices")(e) })
	r.apply()
	alice := devices.Client("alice")
	steady, err := r.echoTLS("a", port, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer steady.Close()
	var stop atomic.Bool
	var done sync.WaitGroup
	var served atomic.Int64
	versions := [...]uint16{tls.VersionTLS12, tls.VersionTLS13}
	eve := tlstest.NewCA(tlstest.CN("Devices")).Client("eve") // of a CA that has the name alone
	for _, version := range versions {
		done.Go(func() {
			for !stop.Load() {
				if conn, err := r.echoVersion("a", port, version, eve); err == nil {
					_ = conn.Close()
					t.Error("a stranger was served")
					return
				}
			}
		})
	}
	for i := range clients {
		done.Go(func() {
			for !stop.Load() {
				conn, err := r.echoVersion("a", port, versions[i%2], alice)
				if err != nil {
					t.Errorf("after %d clients: %v", served.Load(), err)
					return
				}
				served.Add(1)
				_ = conn.Close()
			}
		})
	}
	for i := range changes {
		before := served.Load()
		r.wait("another client to be served", func() bool { return served.Load() > before || t.Failed() })
		r.reapply(func(c *termination.Config) {
			c.Endpoints[0].ClientAuth.MaxDepth = 3 + i%2
			c.Endpoints[0].Aliases = []string{fmt.Sprintf("alias-%d.localhost", i)}
		})
	}
	r.running["a"].ready()
	stop.Store(true)
	done.Wait()
	if _, err := fmt.Fprintln(steady, "still"); err != nil {
		t.Error(err)
	}
	if line, err := bufio.NewReader(steady).ReadString('\n'); err != nil || line != "still\n" {
		t.Errorf("the steady connection: %q, %v", line, err)
	}
	t.Logf("%d clients were served during %d changes", served.Load(), changes)
}

// Much data passes an agent unharmed, both ways at once.
func TestMuchThroughAgent(t *testing.T) {
	const size = 16 << 20
	echo := tlstest.TCP(t).Addr
	r := newAgentRig(t)
	port := freePort(t)
	r.endpoint("a", port, "tcp://"+echo, asTLS)
	r.apply()
	conn, err := r.echoTLS("a", port, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	began := time.Now()
	sent, got := sha256.New(), sha256.New()
	go func() {
		source := io.TeeReader(io.LimitReader(rand.New(rand.NewSource(1)), size), sent)
		_, _ = io.Copy(conn, source)
		_ = conn.CloseWrite()
	}()
	n, err := io.Copy(got, conn)
	if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("%d of %d bytes came back, %v", n, size, err)
	}
	t.Logf("%d MiB there and back in %v", size>>20, time.Since(began))
}

// When another process takes the gateway over, agents connect to that one, and what they have in the old one stays. A
// client that is quicker than they are waits for them.
func TestGatewayIsTakenOver(t *testing.T) {
	echo := tlstest.TCP(t).Addr
	r := newRig(t)
	r.agents()
	port := freePort(t)
	r.endpoint("a", port, "tcp://"+echo, func(e *termination.Endpoint) { asTLS(e); atAgent(e) })
	r.apply()
	a := r.agent("a", "tcp://"+echo)
	steady, err := r.echoTLS("a", port, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := r.next()
	old := r.gateway
	old.Leave()
	r.gateway = gateway.New(gateway.Options{Hub: r.hub, Registry: r.registry})
	r.apply()
	began := time.Now()
	quick, err := r.echoTLS("a", port, nil)
	if err != nil {
		t.Errorf("a client that comes at once: %v", err)
	} else {
		t.Logf("a client that came at once was served after %v", time.Since(began))
		_ = quick.Close()
	}
	r.next()
	a.ready()
	if _, err := fmt.Fprintln(steady, "still"); err != nil {
		t.Error(err)
	}
	if line, err := bufio.NewReader(steady).ReadString('\n'); err != nil || line != "still\n" {
		t.Errorf("a client of the old process: %q, %v", line, err)
	}
	_ = steady.Close()
	if end := r.end(first.ID); end.ClosedBy != termination.ClosedByClient || end.Reason != "" {
		t.Errorf("it ended %+v", end)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := old.Close(ctx); err != nil {
		t.Error(err)
	}
}
