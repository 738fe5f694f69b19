package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestServerSentEvents: each event passes when it is sent, not when more has come.
func TestServerSentEvents(t *testing.T) {
	everyWay(t, func(t *testing.T, h2 bool, to func(*termination.Endpoint)) {
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", "http://unused.invalid", to))
		ctx, leave := context.WithCancel(context.Background())
		defer leave()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+f.address.String()+"/?events=3", nil)
		r.Host = "public.test"
		res, err := f.client(clientOptions{h2: h2, serverName: "public.test"}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		events := bufio.NewReader(res.Body) // the stream stays open behind the third
		for i := range 3 {
			for _, want := range []string{fmt.Sprintf("id: %d\n", i), fmt.Sprintf("data: event %d\n", i), "\n"} {
				if line, err := events.ReadString('\n'); err != nil || line != want {
					t.Fatalf("read %q, %v, want %q", line, err, want)
				}
			}
		}
	})
}

// TestKnownLengthIsNotHeldBack: an answer whose length is known but which comes in parts is not held back for the rest.
func TestKnownLengthIsNotHeldBack(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f := newFront(t, frontOptions{})
		finish := make(chan struct{})
		up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			<-finish
			_, _ = io.WriteString(w, "b")
		}))
		f.apply(f.endpoint("public.test", up.URL))
		r, _ := http.NewRequest(http.MethodGet, "https://"+f.address.String()+"/", nil)
		r.Host = "public.test"
		res, err := f.client(clientOptions{h2: h2, serverName: "public.test"}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		one := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, one); err != nil || one[0] != 'a' {
			t.Fatalf("read %q, %v", one, err)
		}
		close(finish)
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "b" {
			t.Errorf("read %q, %v", rest, err)
		}
	})
}

func TestWebSocket(t *testing.T) {
	f := newFront(t, frontOptions{})
	kinds := upstreams(t)
	for _, name := range []string{"http", "https"} {
		t.Run(name, func(t *testing.T) {
			f.apply(f.endpoint("public.test", "http://unused.invalid", kinds[name], mode(termination.ModeRequire)))
			ws := f.websocket(clientOptions{serverName: "public.test", cert: f.clients.Client("alice")}, "/socket?x")
			for _, message := range []string{"one", strings.Repeat("two", 100_000), ""} {
				if err := ws.WriteMessage(websocket.BinaryMessage, []byte(message)); err != nil {
					t.Fatal(err)
				}
				kind, got, err := ws.ReadMessage()
				if err != nil || kind != websocket.BinaryMessage || string(got) != message {
					t.Fatalf("%d bytes came back as %d bytes, %v", len(message), len(got), err)
				}
			}
			if err := ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye"), time.Now().Add(patient)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("the close frame came back as %v", err)
			}
		})
	}
	t.Run("h2c", func(t *testing.T) {
		f.apply(f.endpoint("public.test", "http://unused.invalid", kinds["h2c"]))
		a := f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/", "Connection", "Upgrade", "Upgrade", "websocket",
			"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		wantRefused(t, a, http.StatusNotImplemented, "")
	})
	t.Run("refused", func(t *testing.T) {
		f.apply(f.endpoint("public.test", "http://unused.invalid", kinds["http"], mode(termination.ModeRequire)))
		dialer := websocket.Dialer{TLSClientConfig: f.tlsConfig(clientOptions{serverName: "public.test"})}
		_, res, err := dialer.Dial("wss://"+f.address.String()+"/", http.Header{"Host": {"public.test"}}) //nolint:bodyclose // the library has read it
		if err == nil || res == nil || res.StatusCode != 403 {
			t.Errorf("the upgrade was answered with %v, %v", res, err)
		}
	})
}

// TestWebSocketEndsWithItsClient: when the client's connection ends, so does the upstream's.
func TestWebSocketEndsWithItsClient(t *testing.T) {
	f := newFront(t, frontOptions{})
	left := make(chan struct{})
	up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(io.Discard, r)
		close(left)
	})
	f.apply(f.endpoint("public.test", "http://"+up.Addr))
	conn := f.dial(clientOptions{serverName: "public.test"})
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: public.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // there is none
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("answered %v, %v", res, err)
	}
	_ = f.only().raw.Close()
	wait(t, left, "the upstream's connection to end")
}

// TestTunnelHalfClose: after the upgrade, one side may end while the other goes on.
func TestTunnelHalfClose(t *testing.T) {
	f := newFront(t, frontOptions{})
	up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		if all, err := io.ReadAll(r); err == nil {
			fmt.Fprintf(conn, "%s and goodbye", all)
		}
	})
	f.apply(f.endpoint("public.test", "http://"+up.Addr))
	conn := f.dial(clientOptions{serverName: "public.test"})
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: public.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil) //nolint:bodyclose // there is none
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("answered %v, %v", res, err)
	}
	fmt.Fprint(conn, "hello")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "hello and goodbye" {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestUpstreamSwitchesUnasked: an upstream must not take a connection over that did not ask for it.
func TestUpstreamSwitchesUnasked(t *testing.T) {
	f := newFront(t, frontOptions{})
	up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
		}
	})
	f.apply(f.endpoint("public.test", "http://"+up.Addr))
	wantRefused(t, f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/"), 502, "")
}

// TestTunnelThatUpstreamDoesNotRead: a WebSocket whose upstream reads nothing is not kept for ever.
func TestTunnelThatUpstreamDoesNotRead(t *testing.T) {
	f := newFront(t, frontOptions{proxy: Options{Patience: 200 * time.Millisecond}})
	up := tlstest.ServeTCP(t, func(ctx context.Context, conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			<-ctx.Done()
		}
	})
	f.apply(f.endpoint("public.test", "http://"+up.Addr))
	conn := f.dial(clientOptions{serverName: "public.test"})
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: public.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	block := make([]byte, 64<<10)
	for {
		if _, err := conn.Write(block); err != nil {
			break // the gateway has ended it; the deadline of the connection would do so far later, without a note
		}
	}
	if n := f.waitNote(termination.ReasonUpstreamDown); !strings.Contains(n.Detail, "read nothing") {
		t.Errorf("noted %+v", n)
	}
}
