package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Headers of one hop stay on it, whoever names them; those that say who the client is cannot be named away. What an
// upstream names beside "close" is an exception: net/http forgets the whole Connection of such an answer.
func TestHopByHop(t *testing.T) {
	heads := make(chan string, 1)
	upstream := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		if head, err := readHead(bufio.NewReader(conn)); err == nil {
			heads <- head
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Theirs\r\nX-Theirs: 1\r\nKeep-Alive: timeout=9\r\n"+
				"Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\r\nok")
		}
	})
	r, port, alice := strictRig(t, "http://"+upstream.Addr, func(e *termination.Endpoint) {
		e.ForwardIdentity = []termination.IdentityFormat{termination.IdentityNginx}
	})
	conn := r.dial(port, "a.localhost", tls.VersionTLS13, alice)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\nConnection: X-Mine, X-Client-Verify\r\nConnection: X-Client-CN, Forwarded, X-Forwarded-For, Host, keep-alive\r\n"+
		"X-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: gzip, trailers\r\nTrailer: X-T\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	head := "\r\n" + strings.ToLower(<-heads) + "\r\n"
	for _, gone := range []string{"x-mine", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "connection", "trailer"} {
		if strings.Contains(head, "\r\n"+gone+":") {
			t.Errorf("%s reached the upstream: %q", gone, head)
		}
	}
	for _, kept := range []string{"x-kept: 1", "te: trailers", "x-client-verify: success", "x-client-cn: alice", "x-forwarded-for: 127.0.0.1", "host: a.localhost"} {
		if strings.Count(head, "\r\n"+kept+"\r\n") != 1 {
			t.Errorf("%s did not reach the upstream once: %q", kept, head)
		}
	}
	for _, gone := range []string{"X-Theirs", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Upgrade", "Connection"} {
		if res.Header[gone] != nil {
			t.Errorf("%s reached the client: %v", gone, res.Header)
		}
	}
	if res.Header.Get("X-Kept") != "1" {
		t.Errorf("X-Kept did not reach the client: %v", res.Header)
	}
}

// What is sent at once behind the 101, and what the client sent before it had the 101, belong to the tunnel.
func TestTunnelLosesNothing(t *testing.T) {
	upstream := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		in := bufio.NewReader(conn)
		if _, err := readHead(in); err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nfirst ")
		_, _ = io.Copy(conn, in)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	r, port, alice := strictRig(t, "http://"+upstream.Addr, nil)
	conn := r.dial(port, "a.localhost", tls.VersionTLS13, alice)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
	in := bufio.NewReader(conn)
	head, err := readHead(in)
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("answered %q, %v", head, err)
	}
	fmt.Fprint(conn, "late")
	_ = conn.CloseWrite()
	if got, err := io.ReadAll(in); err != nil || string(got) != "first early late" {
		t.Errorf("read %q, %v", got, err)
	}
}

// An upstream that answers 101 with another protocol, or unasked, takes nothing over.
func TestSwitchToAnotherProtocol(t *testing.T) {
	upstream := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		if _, err := readHead(bufio.NewReader(conn)); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
		}
	})
	r, port, alice := strictRig(t, "http://"+upstream.Addr, nil)
	for _, ask := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
		conn := r.dial(port, "a.localhost", tls.VersionTLS13, alice)
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\n"+ask+"\r\n"+lastRequest)
		if got := statuses(t, conn); got != "502 502" {
			t.Errorf("asked with %q, answered %q", ask, got)
		}
	}
}

// An answer that breaks off must not look whole: HTTP/1.1 has no last chunk, HTTP/2 a reset.
func TestUpstreamBreaksOff(t *testing.T) {
	for name, head := range map[string]string{"length": "Content-Length: 100\r\n\r\nhalf", "chunked": "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		t.Run(name, func(t *testing.T) {
			upstream := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
				if _, err := readHead(bufio.NewReader(conn)); err == nil {
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n"+head)
				}
			})
			r, port, alice := strictRig(t, "http://"+upstream.Addr, nil)
			conn := r.dial(port, "a.localhost", tls.VersionTLS13, alice)
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
			if got, _ := io.ReadAll(conn); strings.HasSuffix(string(got), "0\r\n\r\n") {
				t.Errorf("HTTP/1.1: read %q", got)
			}
			c := r.rawH2(port, "a.localhost", alice)
			if _, body := c.Answer(c.ask("a.localhost", "/")); body != "INTERNAL_ERROR" { //nolint:bodyclose // it was read
				t.Errorf("HTTP/2: the stream ended with %q", body)
			}
		})
	}
}

// Large bodies pass both ways without being kept.
func TestLargeBodiesAreNotKept(t *testing.T) {
	const size = 64 << 20
	const allowed = 16 << 20 // buffers of the kernel are not counted, and nothing else may grow
	upstream := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
			return
		}
		_, _ = io.CopyN(w, &pattern{}, size)
	}))
	r, port, alice := strictRig(t, upstream.URL, nil)
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("h2=", h2), func(t *testing.T) {
			client := r.client(port, alice, h2)
			watch := newHeapWatch()
			res, err := client.Post("https://a.localhost/", "", io.TeeReader(io.LimitReader(&pattern{}, size), watch))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if string(answer) != fmt.Sprint(int64(size), nil) {
				t.Errorf("the upstream read %q, %v", answer, err)
			}
			if res, err = client.Get("https://a.localhost/"); err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if n, err := io.Copy(watch, res.Body); n != size || err != nil {
				t.Errorf("read %d bytes, %v", n, err)
			}
			if watch.most > watch.first+allowed {
				t.Errorf("the heap grew from %d to %d bytes", watch.first, watch.most)
			}
		})
	}
}

// heapWatch looks at what is alive on the heap each time that so many bytes have been written to it.
type heapWatch struct{ first, most, bytes uint64 }

func newHeapWatch() *heapWatch {
	w := &heapWatch{}
	w.look()
	w.first = w.most
	return w
}

func (w *heapWatch) look() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.most = max(w.most, m.HeapAlloc)
}

func (w *heapWatch) Write(p []byte) (int, error) {
	const step = 16 << 20
	before := w.bytes / step
	if w.bytes += uint64(len(p)); w.bytes/step != before {
		w.look()
	}
	return len(p), nil
}

// Header blocks without an end are cut off (CVE-2024-27316), and so are too many settings and pings that are not read.
func TestEndlessHeaders(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r, port, alice := strictRig(t, upstream.URL, nil)
	c := r.rawH2(port, "a.localhost", alice)
	block := c.Block(":method", "GET", ":scheme", "https", ":authority", "a.localhost", ":path", "/")
	c.Must(c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block}))
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c.Conn)
		ended <- err
	}()
	var err error
	const most = 16 << 20
	sent := 0
	for ; err == nil && sent < most; sent += 8 << 10 {
		err = c.Framer.WriteContinuation(1, false, c.Block("x-bomb", strings.Repeat("y", 8<<10)))
	}
	if err == nil {
		t.Errorf("%d bytes of one header block were taken", sent)
	}
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
	if upstream.Requests() != 0 {
		t.Error("the upstream was asked")
	}
}
