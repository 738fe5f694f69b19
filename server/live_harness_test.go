package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination/live"
	"countersign/termination/live/livetest"
)

// liveHarness is a live socket behind an HTTP server of its own.
type liveHarness struct {
	t      *testing.T
	hub    *live.Hub
	socket *liveSocket
	http   *http.Server
	dial   func(context.Context, string, string) (net.Conn, error)
	host   string
	served chan struct{} // one token for each request that is over

	bearer    atomic.Bool
	signedOut atomic.Bool
}

func newLiveHarness(t *testing.T, l net.Listener, dial func(context.Context, string, string) (net.Conn, error)) *liveHarness {
	t.Helper()
	hub := live.New(live.Options{})
	h := &liveHarness{t: t, hub: hub, socket: newLiveSocket(hub), dial: dial, host: "127.0.0.1:7443", served: make(chan struct{}, 100)}
	h.http = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.socket.serve(w, r, liveVisitor{
			hosts: []string{h.host, "localhost:7443"}, bearer: h.bearer.Load(),
			still: func(context.Context) bool { return !h.signedOut.Load() },
		})
		h.served <- struct{}{}
	})}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = h.http.Serve(l)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(h.socket.shutdown(ctx), h.http.Shutdown(ctx), h.hub.Close(ctx)); err != nil {
			t.Errorf("stop: %v", err)
		}
		<-stopped
	})
	return h
}

// onTCP serves on a real socket.
func onTCP(t *testing.T) *liveHarness {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newLiveHarness(t, smallBuffers{l}, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	})
}

// smallBuffers accepts connections that hold little on their way, so that who stops reading is noticed soon.
type smallBuffers struct{ net.Listener }

func (b smallBuffers) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		err = tcp.SetWriteBuffer(64 << 10)
	}
	return c, err
}

// pipes is a listener whose connections are in memory and have no buffer, for tests in a bubble of fake time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7443} }

func inMemory(t *testing.T) *liveHarness {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	return newLiveHarness(t, p, func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		p.conns <- theirs
		return ours, nil
	})
}

func (h *liveHarness) open() *websocket.Conn {
	h.t.Helper()
	ws, status, err := h.try(http.Header{"Origin": {"http://" + h.host}}, h.host)
	if err != nil {
		h.t.Fatalf("open the live stream: %v (status %d)", err, status)
	}
	h.t.Cleanup(func() { _ = ws.Close() })
	return ws
}

// try opens a stream, or returns the status of the refusal.
func (h *liveHarness) try(header http.Header, host string) (*websocket.Conn, int, error) {
	d := websocket.Dialer{NetDialContext: h.dial}
	ws, response, err := d.DialContext(h.t.Context(), "ws://"+host+"/api/v1/handshakes/live", header)
	if response == nil {
		return nil, 0, err
	}
	response.Body.Close()
	return ws, response.StatusCode, err
}

// watch opens a stream and subscribes.
func (h *liveHarness) watch(message string) *websocket.Conn {
	h.t.Helper()
	ws := h.open()
	h.send(ws, message)
	if f := h.next(ws, "hi"); f.Version != live.Version {
		h.t.Errorf("the stream has version %d", f.Version)
	}
	return ws
}

func (h *liveHarness) send(ws *websocket.Conn, message string) {
	h.t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *liveHarness) publish(from, to int) {
	for n := from; n < to; n++ {
		h.hub.Publish(livetest.Handshake(n, time.Now()))
	}
}

type liveFrame struct {
	Op      string
	Seq     uint64       `json:"seq"`
	Version int          `json:"v"`
	Life    string       `json:"life"`
	Filter  string       `json:"f"`
	Tag     uint32       `json:"n"`
	At      int          `json:"at"`
	Message string       `json:"m"`
	Events  []live.Event `json:"e"`
}

// next returns the next frame with that op. It passes over others.
func (h *liveHarness) next(ws *websocket.Conn, op string) liveFrame {
	h.t.Helper()
	for {
		kind, text, err := ws.ReadMessage()
		if err != nil {
			h.t.Fatalf("waiting for %q: %v", op, err)
		}
		var f liveFrame
		if err := json.Unmarshal(text, &f); err != nil || kind != websocket.TextMessage {
			h.t.Fatalf("frame of kind %d: %s: %v", kind, text, err)
		}
		if f.Op == op {
			return f
		}
	}
}

// events returns events up to the one with that number.
func (h *liveHarness) events(ws *websocket.Conn, last uint64) []live.Event {
	h.t.Helper()
	var all []live.Event
	for len(all) == 0 || all[len(all)-1].Seq < last {
		all = append(all, h.next(ws, "ev").Events...)
	}
	return all
}

// ending reads until the server closes, and returns its reason.
func ending(t *testing.T, ws *websocket.Conn) *websocket.CloseError {
	t.Helper()
	for {
		_, _, err := ws.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			return closed
		}
		if err != nil {
			t.Fatalf("the server did not say why it closed: %v", err)
		}
	}
}

func checkEnding(t *testing.T, ws *websocket.Conn, code int, words string) {
	t.Helper()
	if e := ending(t, ws); e.Code != code || !strings.Contains(e.Text, words) {
		t.Errorf("closed with %d %q, want %d %q", e.Code, e.Text, code, words)
	}
}

// bubble runs a test in fake time, so that the real deadlines can be waited for.
func bubble(t *testing.T, f func(*testing.T, *liveHarness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, inMemory(t)) })
}

// settle waits until the hub has taken everything: a subscription is made by its goroutine, between two records.
func (h *liveHarness) settle() {
	for h.hub.Status().Queue > 0 {
		s, err := h.hub.Subscribe(live.Request{})
		if err != nil {
			h.t.Fatal(err)
		}
		s.Close()
	}
}

// maskedText makes a text frame of less than 126 bytes, as a client must send it (RFC 6455, section 5.3).
func maskedText(s string) []byte {
	frame := []byte{0x81, 0x80 | byte(len(s))}
	mask := binary.BigEndian.AppendUint32(nil, 0x01020304)
	frame = append(frame, mask...)
	for i := range len(s) {
		frame = append(frame, s[i]^mask[i%4])
	}
	return frame
}

// BenchmarkLiveCompression shows what permessage-deflate would cost and save on full frames of events.
func BenchmarkLiveCompression(b *testing.B) {
	events := make([]live.Event, 1000)
	for i := range events {
		h := livetest.Handshake(i, time.UnixMilli(1795359487884).Add(time.Duration(i)*time.Millisecond))
		events[i] = live.Event{
			Seq: uint64(i), ID: fmt.Sprintf("hs_01J%023d", i*7919), Time: h.Time.UnixMilli(), Beat: 5, Endpoint: 1 + i%3, ServerName: h.Hello.ServerName,
			Client: h.Client.Name, Address: h.Peer.Addr().String(), Group: 4588, PostQuantum: 1, Version: 772, CipherSuite: 4865, ALPN: "h2",
			JA4: h.Hello.JA4, Duration: float64(i%97) / 10, Fingerprint: h.Client.Fingerprint.String()[:12], Authority: "acme",
		}
	}
	frame, err := json.Marshal(live.Events{Op: "ev", N: 1, Events: events})
	if err != nil {
		b.Fatal(err)
	}
	for _, level := range []int{0, 1} {
		b.Run(map[int]string{0: "plain", 1: "deflate"}[level], func(b *testing.B) {
			h := counting{}
			ws := upgraded(b, &h, level > 0)
			h.written = 0
			b.ReportAllocs()
			for b.Loop() {
				if err := ws.WriteMessage(websocket.TextMessage, frame); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(h.written)/float64(b.N), "wire-bytes/op")
		})
	}
}

// counting is a connection that throws away what is written.
type counting struct {
	net.Conn
	http.ResponseWriter
	written int
}

func (c *counting) Write(p []byte) (int, error)      { c.written += len(p); return len(p), nil }
func (c *counting) SetDeadline(time.Time) error      { return nil }
func (c *counting) SetWriteDeadline(time.Time) error { return nil }
func (c *counting) Close() error                     { return nil }
func (c *counting) Header() http.Header              { return http.Header{} }
func (c *counting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return c, bufio.NewReadWriter(bufio.NewReader(strings.NewReader("")), bufio.NewWriter(c)), nil
}

func upgraded(b *testing.B, c *counting, compress bool) *websocket.Conn {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://127.0.0.1:7443/", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Extensions": {"permessage-deflate"},
	}
	ws, err := (&websocket.Upgrader{EnableCompression: compress}).Upgrade(c, r, nil)
	if err != nil {
		b.Fatal(err)
	}
	return ws
}

// passTime lets time pass in a bubble, which waits for every goroutine in it and not for a clock.
func passTime(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time
}
