package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
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
	for range clients {
		done.Go(func() {
			for !stop.Load() {
				conn, err := r.echoTLS("a", port, alice)
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
	const size = 32 << 20
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
