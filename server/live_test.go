package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
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
	return newLiveHarness(t, l, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	})
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

func TestLiveSocket(t *testing.T) {
	h := onTCP(t)
	h.publish(0, 50)
	ws := h.open()
	h.send(ws, `{"op":"sub"}`)
	first := h.next(ws, "hi")
	h.publish(50, 100)
	if got := h.events(ws, 100); len(got) != 100 || got[0].ID != "hs_0" || got[99].ID != "hs_99" {
		t.Errorf("%d events", len(got))
	}

	h.send(ws, `{"op":"sub","f":"outcome:verifed"}`)
	if f := h.next(ws, "err"); f.At != 9 || !strings.Contains(f.Message, "is no outcome") {
		t.Errorf("a wrong filter is answered with %+v", f)
	}
	h.publish(100, 101)
	h.events(ws, 101)

	h.send(ws, `{"op":"sub","f":"reason:cert_expired","after":51,"life":"`+first.Life+`"}`)
	if f := h.next(ws, "hi"); f.Filter != "reason:cert_expired" || f.Seq != 101 {
		t.Errorf("a new filter is answered with %+v", f)
	}
	if got := h.events(ws, 99); len(got) != 5 || got[0].Seq != 59 {
		t.Errorf("a new filter shows %+v", got)
	}

	h.send(ws, `{"op":"idle","on":true}`)
	h.next(ws, "st")
	h.send(ws, `{"op":"idle","on":false}`)
	h.publish(108, 109)
	h.events(ws, 102)

	if err := ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	checkEnding(t, ws, websocket.CloseNormalClosure, "")
	<-h.served
	if n := h.hub.Status().Subscribers; n != 0 {
		t.Errorf("%d subscribers are left", n)
	}
}

func TestLiveSocketAnswersAWrongFirstFilter(t *testing.T) {
	bubble(t, func(t *testing.T, h *liveHarness) {
		ws := h.open()
		h.send(ws, `{"op":"sub","f":"is:new"}`)
		if f := h.next(ws, "err"); f.At != 4 || !strings.Contains(f.Message, "not in this version") {
			t.Errorf("the answer is %+v", f)
		}
		go func() { // somebody thinks about it for an hour
			passTime(time.Hour)
			h.send(ws, `{"op":"sub","f":"is:pq"}`)
		}()
		if f := h.next(ws, "hi"); f.Filter != "is:pq" {
			t.Errorf("the answer is %+v", f)
		}
		_ = ws.Close()
	})
}

// A tab may be hidden before its filter is good, and stays hidden when the filter changes.
func TestLiveSocketRemembersThatNobodyLooks(t *testing.T) {
	bubble(t, func(t *testing.T, h *liveHarness) {
		ws := h.open()
		h.send(ws, `{"op":"idle","on":true}`)
		h.send(ws, `{"op":"sub"}`)
		h.next(ws, "hi")
		h.publish(0, 10)
		for range 2 {
			for range 3 {
				if _, text, err := ws.ReadMessage(); err != nil || !strings.HasPrefix(string(text), `{"op":"st"`) {
					t.Fatalf("a hidden tab gets %s, %v", text, err)
				}
			}
			h.send(ws, `{"op":"sub","f":"outcome:failed","after":1}`)
			h.next(ws, "hi")
			h.next(ws, "ev") // what is asked for on purpose comes
			h.publish(10, 20)
		}
		h.send(ws, `{"op":"idle","on":false}`)
		h.events(ws, 29)
		_ = ws.Close()
	})
}

func TestLiveSocketChecksWhereItIsOpenedFrom(t *testing.T) {
	const good = "http://127.0.0.1:7443"
	for _, c := range []struct {
		name    string
		host    string
		origins []string
		bearer  bool
		opens   bool
	}{
		{"our page", "127.0.0.1:7443", []string{good}, false, true},
		{"our page under another name", "localhost:7443", []string{"http://localhost:7443"}, false, true},
		{"no origin, with a cookie", "127.0.0.1:7443", nil, false, false},
		{"no origin, with a token", "127.0.0.1:7443", nil, true, true},
		{"empty origin", "127.0.0.1:7443", []string{""}, false, false},
		{"another site", "127.0.0.1:7443", []string{"http://attacker.example"}, false, false},
		{"another site with a token", "127.0.0.1:7443", []string{"http://attacker.example"}, true, false},
		{"origin null", "127.0.0.1:7443", []string{"null"}, false, false},
		{"another port", "127.0.0.1:7443", []string{"http://127.0.0.1:8443"}, false, false},
		{"another scheme", "127.0.0.1:7443", []string{"https://127.0.0.1:7443"}, false, false},
		{"another of our names", "127.0.0.1:7443", []string{"http://localhost:7443"}, false, false},
		{"a name that begins like ours", "127.0.0.1:7443", []string{good + ".attacker.example"}, false, false},
		{"two origins", "127.0.0.1:7443", []string{good, "http://attacker.example"}, false, false},
		{"a name that was rebound to loopback", "attacker.example:7443", []string{"http://attacker.example:7443"}, false, false},
		{"a rebound name with a token", "attacker.example:7443", nil, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := onTCP(t)
			h.bearer.Store(c.bearer)
			header := http.Header{}
			if c.origins != nil {
				header["Origin"] = c.origins
			}
			ws, status, err := h.try(header, c.host)
			if c.opens {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				_ = ws.Close()
				return
			}
			if err == nil {
				_ = ws.Close()
				t.Fatal("opened")
			}
			if status != http.StatusForbidden {
				t.Errorf("the status is %d, want 403", status)
			}
		})
	}
}

func TestLiveSocketRefusesWhatIsNoWebSocket(t *testing.T) {
	h := onTCP(t)
	client := http.Client{Transport: &http.Transport{DialContext: h.dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.host+"/api/v1/handshakes/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "http://"+h.host)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text := make([]byte, 200)
	n, _ := response.Body.Read(text)
	if response.StatusCode != http.StatusBadRequest || !strings.HasPrefix(string(text[:n]), "The live stream is a WebSocket") {
		t.Errorf("answered %d %q", response.StatusCode, text[:n])
	}
}

func TestLiveSocketWithoutAStream(t *testing.T) {
	h := onTCP(t)
	h.socket.hub = nil
	if _, status, err := h.try(http.Header{"Origin": {"http://" + h.host}}, h.host); err == nil || status != http.StatusServiceUnavailable {
		t.Errorf("the status is %d, want 503", status)
	}
}

func TestLiveSocketRefusesMessages(t *testing.T) {
	for _, c := range []struct {
		message string
		binary  bool
		code    int
		words   string
	}{
		{"", false, 1008, "expected {"},
		{"hello", false, 1008, "expected {"},
		{"null", false, 1008, "unknown op"},
		{`[]`, false, 1008, "expected {"},
		{`{"op":"sub"`, false, 1008, "expected {"},
		{`{"op":"sub"}{"op":"sub"}`, false, 1008, "expected {"},
		{`{"op":"sub"} x`, false, 1008, "expected {"},
		{`{"op":"sub","filter":"x"}`, false, 1008, "expected {"},
		{`{"op":"sub","f":7}`, false, 1008, "expected {"},
		{`{"op":"sub","after":-1}`, false, 1008, "expected {"},
		{`{"op":"sub","after":1e99}`, false, 1008, "expected {"},
		{`{"op":"sub","on":true}`, false, 1008, "other members"},
		{`{"op":"idle"}`, false, 1008, "other members"},
		{`{"op":"idle","on":true,"f":"x"}`, false, 1008, "other members"},
		{`{"op":"` + strings.Repeat("x", 500) + `"}`, false, 1008, "unknown op"},
		{`{"op":"sub"}`, true, 1008, "expected text"},
		{`{"op":"sub","f":"` + strings.Repeat("x", liveMessage) + `"}`, false, 1009, ""},
	} {
		t.Run(fmt.Sprintf("%.30s", c.message), func(t *testing.T) {
			h := onTCP(t)
			ws := h.open()
			kind := websocket.TextMessage
			if c.binary {
				kind = websocket.BinaryMessage
			}
			if err := ws.WriteMessage(kind, []byte(c.message)); err != nil {
				t.Fatal(err)
			}
			checkEnding(t, ws, c.code, c.words)
			<-h.served
		})
	}
}

func FuzzLiveRequest(f *testing.F) {
	for _, s := range []string{
		`{"op":"sub"}`, `{"op":"sub","f":"outcome:failed","after":18203,"life":"m2k"}`, `{"op":"idle","on":true}`, `{"op":"idle","on":null}`, `[`, "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readLiveRequest(websocket.TextMessage, text)
		if err != nil {
			if len(err.Error()) > 123 { // RFC 6455, section 5.5: 125 bytes with the code
				t.Errorf("the reason does not fit into a close frame: %v", err)
			}
			return
		}
		if m.Op != "sub" && (m.Op != "idle" || m.On == nil) {
			t.Errorf("%q is taken for %+v", text, m)
		}
	})
}

func TestLiveSocketBoundsMessages(t *testing.T) {
	h := onTCP(t)
	ws := h.watch(`{"op":"sub"}`)
	for range liveBurst + livePerSec*20 {
		if ws.WriteMessage(websocket.TextMessage, []byte(`{"op":"sub"}`)) != nil {
			break // closed already
		}
	}
	checkEnding(t, ws, websocket.ClosePolicyViolation, "too many messages")
	<-h.served
}

func TestLiveSocketBoundsSubscribers(t *testing.T) {
	h := onTCP(t)
	var all []*websocket.Conn
	for range live.MaxSubscribers {
		all = append(all, h.watch(`{"op":"sub"}`))
	}
	late := h.open()
	h.send(late, `{"op":"sub"}`)
	checkEnding(t, late, websocket.CloseTryAgainLater, "16 subscribers already watch")
	<-h.served
	_ = all[3].Close()
	<-h.served
	h.watch(`{"op":"sub"}`)

	// Places are also taken by others than sockets.
	_ = all[4].Close()
	<-h.served
	s, err := h.hub.Subscribe(live.Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	late = h.open()
	h.send(late, `{"op":"sub"}`)
	checkEnding(t, late, websocket.CloseTryAgainLater, "16 subscribers already watch")
}

func TestLiveSocketSaysThatTheGatewayStops(t *testing.T) {
	t.Run("the dashboard first", func(t *testing.T) {
		h := onTCP(t)
		a, b := h.watch(`{"op":"sub"}`), h.open()
		stopped := make(chan error, 1)
		go func() { stopped <- h.socket.shutdown(t.Context()) }()
		checkEnding(t, a, websocket.CloseGoingAway, "stopping")
		checkEnding(t, b, websocket.CloseGoingAway, "stopping")
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		checkEnding(t, h.open(), websocket.CloseGoingAway, "stopping")
	})
	t.Run("the stream first", func(t *testing.T) {
		h := onTCP(t)
		a, b := h.watch(`{"op":"sub"}`), h.open()
		if err := h.hub.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkEnding(t, a, websocket.CloseGoingAway, "stopping")
		h.send(b, `{"op":"sub"}`)
		checkEnding(t, b, websocket.CloseGoingAway, "stopping")
	})
}

// bubble runs a test in fake time, so that the real deadlines can be waited for.
func bubble(t *testing.T, f func(*testing.T, *liveHarness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, inMemory(t)) })
}

func TestLiveSocketEndsWithItsSession(t *testing.T) {
	bubble(t, func(t *testing.T, h *liveHarness) {
		ws := h.watch(`{"op":"sub"}`)
		ended := make(chan *websocket.CloseError, 1)
		go func() { ended <- ending(t, ws) }()
		passTime(time.Hour)
		synctest.Wait()
		select {
		case e := <-ended:
			t.Fatalf("a good session is closed: %v", e)
		default:
		}
		h.signedOut.Store(true)
		start := time.Now()
		e := <-ended
		<-h.served
		if waited := time.Since(start); waited > time.Second || e.Code != websocket.ClosePolicyViolation || !strings.Contains(e.Text, "sign in again") {
			t.Errorf("closed %v after the session with %d %q", waited, e.Code, e.Text)
		}
	})
}

func TestLiveSocketEndsWithItsSessionThoughTheClientDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T, h *liveHarness) {
		h.watch(`{"op":"sub"}`)
		h.publish(0, 10)
		passTime(100 * time.Millisecond) // the frame of events is stuck
		h.signedOut.Store(true)
		start := time.Now()
		<-h.served
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("closed %v after the session", waited)
		}
	})
}

func TestLiveSocketExpectsASubscription(t *testing.T) {
	bubble(t, func(t *testing.T, h *liveHarness) {
		start := time.Now()
		checkEnding(t, h.open(), websocket.ClosePolicyViolation, "sub")
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("closed after %v", waited)
		}
		<-h.served
	})
}

func TestLiveSocketClosesAReaderThatStops(t *testing.T) {
	bubble(t, func(t *testing.T, h *liveHarness) {
		h.watch(`{"op":"sub"}`)
		start := time.Now()
		quick := h.watch(`{"op":"sub"}`)
		done := make(chan struct{})
		go func() {
			defer close(done)
			got := h.events(quick, 20000)
			for i, e := range got {
				if e.Seq != uint64(i+1) {
					t.Errorf("the other subscriber's event %d has number %d", i, e.Seq)
					return
				}
			}
		}()
		go func() {
			for n := range 20000 {
				if n%20 == 0 {
					passTime(12 * time.Millisecond)
				}
				h.publish(n, n+1)
			}
		}()
		<-h.served
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("closed after %v", waited)
		}
		synctest.Wait()
		if n := h.hub.Status().Subscribers; n != 1 {
			t.Errorf("%d subscribers are left, want the one that reads", n)
		}
		<-done
		if s := h.hub.Status(); s.Missed > 0 {
			t.Errorf("%d handshakes are missed", s.Missed)
		}
		_ = quick.Close()
	})
}

func TestLiveSocketClosesAClientThatIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, h *liveHarness) {
		ws := h.watch(`{"op":"sub"}`)
		ws.SetPingHandler(func(string) error { return nil }) // reads, and never answers
		start := time.Now()
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				break
			}
		}
		if waited := time.Since(start); waited > 10*time.Second || waited < 4*time.Second {
			t.Errorf("closed after %v", waited)
		}
		<-h.served
	})
}

// A client that completes the upgrade on a raw socket, asks for everything and then reads nothing.
func TestLiveSocketClosesARawReaderThatStops(t *testing.T) {
	h := onTCP(t)
	h.socket.times.write = 300 * time.Millisecond
	const all = 18000
	for n := 0; n < all; n += 6000 { // less than the queue holds
		h.publish(n, n+6000)
		h.settle()
	}

	raw, err := h.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	fmt.Fprintf(raw, "GET /api/v1/handshakes/live HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		h.host, h.host, base64.StdEncoding.EncodeToString(key))
	response, err := http.ReadResponse(bufio.NewReaderSize(raw, 16), nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", response, err)
	}
	defer response.Body.Close()
	if _, err := raw.Write(maskedText(`{"op":"sub","after":1}`)); err != nil {
		t.Fatal(err)
	}

	quick := h.open()
	h.send(quick, `{"op":"sub","after":1}`)
	got := h.events(quick, all)
	if len(got) != all-1 || !slices.IsSortedFunc(got, func(a, b live.Event) int { return int(a.Seq) - int(b.Seq) }) {
		t.Errorf("the other subscriber got %d events, want %d in order", len(got), all-1)
	}
	<-h.served // the raw one
	if err := quick.WriteMessage(websocket.TextMessage, []byte(`{"op":"sub"}`)); err != nil {
		t.Errorf("the other subscriber is closed, too: %v", err)
	}
	h.next(quick, "hi")
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
