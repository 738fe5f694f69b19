package server

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination/live"
)

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
		h.send(ws, `{"op":"sub","f":"is:nobody"}`)
		if f := h.next(ws, "err"); f.At != 4 || !strings.Contains(f.Message, "nothing that a handshake can be") {
			t.Errorf("the answer is %+v", f)
		}
		go func() { // somebody thinks about it for an hour
			passTime(time.Hour)
			h.send(ws, `{"op":"sub","f":"is:pq","n":7}`)
		}()
		if f := h.next(ws, "hi"); f.Filter != "is:pq" || f.Tag != 7 {
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
		{`{"op":"idle","on":true,"n":1}`, false, 1008, "other members"},
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
