package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/tlstest"
)

// raw makes an endpoint of any bytes inside TLS.
func raw(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS }

// dial opens a TLS connection to an endpoint of the rig.
func (r *rig) dial(port uint16, name string, version uint16, cert *tlstest.Cert) *tls.Conn {
	r.t.Helper()
	conn, err := tls.Dial("tcp", address(port), r.clientConfig(name, version, cert))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// dialTCP opens a bare connection and says something first.
func (r *rig) dialTCP(port uint16, first []byte) *net.TCPConn {
	r.t.Helper()
	conn, err := net.Dial("tcp", address(port))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(first); err != nil {
		r.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// close closes the gateway and gives it no time.
func (r *rig) close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return r.gateway.Close(ctx)
}

// Close does not wait for clients that have not finished their handshake, and their records say why they ended.
func TestCloseDuringHandshakes(t *testing.T) {
	stuck := tlstest.Silent(t)
	hello := helloFor(t, "a.localhost")
	for name, first := range map[string][]byte{
		"nothing": nil, "half a hello": hello[:len(hello)/2], "a hello": hello,
		"a sealed hello": helloFor(t, "sealed.localhost"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.config.Limits.HandshakeTimeout = 2 * patience
			port := freePort(t)
			r.endpoint("a", port, stuck.URL, raw)
			r.endpoint("sealed", port, stuck.URL, sealed)
			r.apply()
			before := stuck.Accepted()
			r.dialTCP(port, first)
			r.wait("the connection", func() bool { return r.gateway.Status().HalfOpen == 1 })
			if name == "a sealed hello" {
				r.wait("the upstream's connection", func() bool { return stuck.Accepted() > before })
			}
			ended := make(chan error, 1)
			go func() { ended <- r.close() }()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("a connection was cut, and Close says nothing")
				}
			case <-time.After(patience):
				t.Fatal("Close waits for a client")
			}
			if rec := r.next(); rec.Verdict.Reason != termination.ReasonShutdown || rec.Verdict.Outcome != termination.OutcomeBrokenOff {
				t.Errorf("recorded %s %q: %s", rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
			}
			if err := r.close(); err != nil {
				t.Errorf("closed twice: %v", err)
			}
			if err := r.gateway.Apply(context.Background(), r.config); !errors.Is(err, gateway.ErrClosed) {
				t.Errorf("applied after the end: %v", err)
			}
		})
	}
}

// Close ends connections through which nothing moves any more, since neither side reads.
func TestCloseStuckSplice(t *testing.T) {
	deaf := tlstest.ServeTCP(t, func(ctx context.Context, _ net.Conn) { <-ctx.Done() })
	for name, change := range map[string]func(*termination.Endpoint){"edge": raw, "sealed": sealed} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			port := freePort(t)
			r.endpoint("a", port, deaf.URL, change)
			r.apply()
			var conn net.Conn
			if name == "edge" {
				conn = r.dial(port, "a.localhost", tls.VersionTLS13, nil)
			} else {
				conn = r.dialTCP(port, helloFor(t, "a.localhost"))
			}
			fill(conn)
			ended := make(chan error, 1)
			go func() { ended <- r.close() }()
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("Close waits for an upstream that does not read")
			}
			rec := r.next()
			if end := r.end(rec.ID); end.ClosedBy != termination.ClosedByGateway {
				t.Errorf("closed by %s", end.ClosedBy)
			}
		})
	}
}

// fill writes until nothing more is taken.
func fill(conn net.Conn) {
	block := make([]byte, 64<<10)
	for {
		_ = conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := conn.Write(block); err != nil {
			return
		}
	}
}

// A connection through which nothing moves ends after the idle time, also where each side waits for the other to read.
func TestStuckSpliceIsIdle(t *testing.T) {
	// An echo that is not read from stops reading.
	echo := tlstest.TCP(t)
	for name, change := range map[string]func(*termination.Endpoint){"edge": raw, "sealed": sealed} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.config.Limits.IdleTimeout = time.Second
			port := freePort(t)
			r.endpoint("a", port, echo.URL, change)
			r.apply()
			var conn net.Conn
			if name == "edge" {
				conn = r.dial(port, "a.localhost", tls.VersionTLS13, nil)
			} else {
				conn = r.dialTCP(port, helloFor(t, "a.localhost"))
			}
			fill(conn)
			if end := r.end(r.next().ID); end.ClosedBy != termination.ClosedByGateway {
				t.Errorf("closed by %s", end.ClosedBy)
			}
		})
	}
}

// A connection that moves a few bytes in one direction is not idle, however long that lasts.
func TestTrickleIsNotIdle(t *testing.T) {
	silent := tlstest.Silent(t)
	for name, change := range map[string]func(*termination.Endpoint){"edge": raw, "sealed": sealed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.config.Limits.IdleTimeout = 1500 * time.Millisecond
			port := freePort(t)
			r.endpoint("a", port, silent.URL, change)
			r.apply()
			var conn net.Conn
			if name == "edge" {
				conn = r.dial(port, "a.localhost", tls.VersionTLS13, nil)
			} else {
				// The server has to answer before its silence is an idle one.
				speaks := tlstest.ServeTCP(t, func(_ context.Context, c net.Conn) {
					_, _ = c.Write([]byte("not TLS"))
					_, _ = io.Copy(io.Discard, c)
				})
				r.change("a", func(e *termination.Endpoint) { e.Upstream.Address = speaks.Addr })
				conn = r.dialTCP(port, helloFor(t, "a.localhost"))
				if _, err := io.ReadFull(conn, make([]byte, 7)); err != nil {
					t.Fatal(err)
				}
			}
			rec := r.next()
			for range 40 {
				time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the time that passes is what is tested
				if _, err := conn.Write([]byte{1}); err != nil {
					t.Fatalf("the connection was cut while bytes moved: %v", err)
				}
			}
			r.mu.Lock()
			_, ended := r.ends[rec.ID]
			r.mu.Unlock()
			if ended {
				t.Fatal("the connection was cut while bytes moved")
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("an idle connection was not cut")
			}
			if end := r.end(rec.ID); end.ClosedBy != termination.ClosedByGateway {
				t.Errorf("closed by %s", end.ClosedBy)
			}
		})
	}
}

// A reset must not look to the other side as if the stream had ended there.
func TestResetIsCarriedThrough(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			got := make(chan error, 1)
			takes := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
				_, err := io.Copy(io.Discard, conn)
				got <- err
			})
			resets := tlstest.Resetting(t)
			r := newRig(t)
			port := freePort(t)
			r.endpoint("takes", port, takes.URL, raw)
			r.endpoint("resets", port, resets.URL, raw)
			r.apply()
			conn := r.dial(port, "takes.localhost", version, nil)
			if _, err := conn.Write([]byte("half a mess")); err != nil {
				t.Fatal(err)
			}
			_ = conn.NetConn().(*net.TCPConn).SetLinger(0)
			_ = conn.NetConn().Close()
			if err := <-got; err == nil {
				t.Error("the upstream took a reset for the end")
			}
			if end := r.end(r.next().ID); end.ClosedBy != termination.ClosedByClient {
				t.Errorf("closed by %s", end.ClosedBy)
			}
			below := &endNoting{Conn: r.dialTCP(port, nil)}
			inner := tls.Client(below, r.clientConfig("resets.localhost", version, nil))
			_, _ = inner.Write([]byte("x"))
			_, _ = io.ReadAll(inner) // crypto/tls takes an end without close_notify for one with it
			if !below.ended {
				t.Error("the client got a close_notify after a reset")
			}
			if end := r.end(r.next().ID); end.ClosedBy != termination.ClosedByUpstream {
				t.Errorf("closed by %s", end.ClosedBy)
			}
		})
	}
}

// endNoting notes the end of the TCP stream, which nobody reads after a close_notify.
type endNoting struct {
	net.Conn
	ended bool
}

func (c *endNoting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.ended = c.ended || err != nil
	return n, err
}

// A client that says goodbye has closed the connection, in HTTP too.
func TestPoliteClientCloses(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, nil)
	r.apply()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn := r.dial(port, "a.localhost", version, nil)
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if err := conn.CloseWrite(); err != nil { // the TCP connection stays open
			t.Fatal(err)
		}
		if end := r.end(r.next().ID); end.ClosedBy != termination.ClosedByClient || end.Requests != 1 {
			t.Errorf("%s: closed by %s after %d requests", tls.VersionName(version), end.ClosedBy, end.Requests)
		}
	}
}

// A sealed client that leaves before the server has answered has left; the server is not to blame.
func TestSealedClientLeaves(t *testing.T) {
	silent := tlstest.Silent(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("sealed", port, silent.URL, sealed)
	r.apply()
	for name, leave := range map[string]func(*net.TCPConn){
		"end":   func(c *net.TCPConn) { _ = c.Close() },
		"reset": func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	} {
		before := silent.Accepted()
		conn := r.dialTCP(port, helloFor(t, "sealed.localhost"))
		r.wait("the upstream's connection", func() bool { return silent.Accepted() > before })
		leave(conn)
		rec := r.next()
		if rec.Verdict.Outcome != termination.OutcomeBrokenOff || rec.Verdict.Reason != termination.ReasonClientLeft {
			t.Errorf("%s: recorded %s %q: %s", name, rec.Verdict.Outcome, rec.Verdict.Reason, rec.Error)
		}
		if end := r.end(rec.ID); end.ClosedBy != termination.ClosedByClient {
			t.Errorf("%s: closed by %s", name, end.ClosedBy)
		}
	}
}

// A service that accepts and stays silent is cut at the handshake's deadline, and the record blames it.
func TestSealedServerIsSilent(t *testing.T) {
	silent := tlstest.Silent(t)
	r := newRig(t)
	r.config.Limits.HandshakeTimeout = 300 * time.Millisecond
	port := freePort(t)
	r.endpoint("sealed", port, silent.URL, sealed)
	r.apply()
	conn := r.dialTCP(port, helloFor(t, "sealed.localhost"))
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the client was left waiting")
	}
	rec := r.next()
	if rec.Verdict.Reason != termination.ReasonUpstreamDown || !strings.Contains(rec.Upstream.Error, "did not answer") {
		t.Errorf("recorded %q: %+v", rec.Verdict.Reason, rec.Upstream)
	}
}

// A defect of ours ends one connection: it is recorded, its place comes back, and the gateway goes on.
func TestPanicIsContained(t *testing.T) {
	for name, change := range map[string]func(*termination.Endpoint){"edge": raw, "sealed": sealed} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			broken := gateway.New(gateway.Options{Hub: r.hub, Dial: func(context.Context, string, string) (net.Conn, error) { panic("a defect") }})
			t.Cleanup(func() { _ = broken.Close(context.Background()) })
			port := freePort(t)
			r.endpoint("a", port, "tcp://127.0.0.1:1", change)
			if err := broken.Apply(context.Background(), r.config); err != nil {
				t.Fatal(err)
			}
			if name == "edge" {
				r.dial(port, "a.localhost", tls.VersionTLS13, nil)
			} else {
				r.dialTCP(port, helloFor(t, "a.localhost"))
			}
			rec := r.next()
			if name == "edge" {
				r.end(rec.ID)
			} else if rec.Verdict.Outcome.In() || rec.Error == "" {
				t.Errorf("recorded %s %q", rec.Verdict.Outcome, rec.Error)
			}
			r.wait("the place to come back", func() bool { return broken.Status().Connections == 0 && broken.Status().HalfOpen == 0 })
			if n := broken.Status().Endpoints[0].Connections; n != 0 {
				t.Errorf("%d connections are left", n)
			}
		})
	}
}
