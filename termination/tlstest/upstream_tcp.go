package tlstest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
)

// TCP starts an upstream that sends back each byte it gets, and ends its sending
// side when the client ends the other one.
func TCP(t testing.TB) *Upstream {
	return ServeTCP(t, echoBytes)
}

// TLS starts an upstream that sends back each byte it gets, in TLS with this
// configuration, which it takes over.
func TLS(t testing.TB, config *tls.Config) *Upstream {
	up := ServeTCP(t, func(ctx context.Context, conn net.Conn) {
		inner := tls.Server(conn, config)
		if inner.HandshakeContext(ctx) != nil {
			return
		}
		echoBytes(ctx, inner)
	})
	up.URL = "tls://" + up.Addr
	return up
}

// Silent starts an upstream that accepts connections and reads, but never answers.
func Silent(t testing.TB) *Upstream {
	return ServeTCP(t, func(_ context.Context, conn net.Conn) { io.Copy(io.Discard, conn) })
}

// Resetting starts an upstream that resets each connection after it has read
// the first bytes.
func Resetting(t testing.TB) *Upstream {
	return ServeTCP(t, func(_ context.Context, conn net.Conn) {
		conn.Read(make([]byte, 1))
		conn.(*net.TCPConn).SetLinger(0)
	})
}

// Slow starts an upstream that answers each connection with these bytes, one for
// each value received from pace, however little the client sends. Closing pace
// lets the rest go at once.
func Slow(t testing.TB, answer []byte, pace <-chan struct{}) *Upstream {
	return ServeTCP(t, func(ctx context.Context, conn net.Conn) {
		for i := range answer {
			select {
			case <-pace:
			case <-ctx.Done():
				return
			}
			if _, err := conn.Write(answer[i : i+1]); err != nil {
				return
			}
		}
	})
}

// Refusing returns an upstream on whose address nobody listens: dialling it fails
// at once. Its port was free a moment ago.
func Refusing(t testing.TB) *Upstream {
	t.Helper()
	listener := listen(t)
	addr := listener.Addr().String()
	listener.Close()
	return &Upstream{Addr: addr, URL: "tcp://" + addr}
}

// ServeTCP starts an upstream that hands each connection to serve and closes it
// after. When the test ends, the context ends, the connections are closed, and
// the test waits for serve to return.
func ServeTCP(t testing.TB, serve func(context.Context, net.Conn)) *Upstream {
	t.Helper()
	listener := listen(t)
	up := &Upstream{Addr: listener.Addr().String()}
	up.URL = "tcp://" + up.Addr
	serveConns(t, listener, func(ctx context.Context, conn net.Conn) {
		up.accepted.Add(1)
		serve(ctx, conn)
	})
	return up
}

func serveConns(t testing.TB, listener net.Listener, serve func(context.Context, net.Conn)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept on a test listener: %v", err)
				}
				return
			}
			running.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				serve(ctx, conn)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		running.Wait()
	})
}

func echoBytes(_ context.Context, conn net.Conn) {
	io.Copy(conn, conn)
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen on loopback: %v", err)
	}
	return listener
}

func cutColon(s string) (before, after string, found bool) {
	before, after, found = strings.Cut(s, ":")
	return strings.TrimSpace(before), strings.TrimSpace(after), found
}

// quiet is for servers whose clients are meant to misbehave.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// ServeOnce listens, hands the first connection to serve, and returns the
// address. The test waits for serve to return.
func ServeOnce(t testing.TB, serve func(net.Conn)) (addr string) {
	t.Helper()
	var once sync.Once
	return ServeTCP(t, func(_ context.Context, conn net.Conn) {
		once.Do(func() { serve(conn) })
	}).Addr
}
