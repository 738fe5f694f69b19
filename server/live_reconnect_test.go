package server

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination"
	"countersign/termination/live"
	"countersign/termination/live/livetest"
)

// cutConn is a connection that breaks after some bytes have come, be it in the middle of a frame.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		_ = c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// keptInMemory is a history in memory.
type keptInMemory struct {
	mu  sync.Mutex
	ids map[uint64]string
}

func (k *keptInMemory) write(b termination.HistoryBatch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range b.Handshakes {
		k.ids[h.Seq] = h.ID
	}
	return nil
}

// watcher does what static/stream.js does: it comes back with the last number that it has seen, and reads from the history
// what it is told to be missing.
type watcher struct {
	t          *testing.T
	last       uint64
	life, next string
	history    *keptInMemory
	seen       map[string]int
}

// follow reads until the connection breaks, or until everything up to a number was seen.
func (w *watcher) follow(ws *websocket.Conn, until uint64) {
	w.t.Helper()
	request, err := json.Marshal(map[string]any{"op": "sub", "after": w.last, "life": w.life})
	if err != nil {
		w.t.Fatal(err)
	}
	if ws.WriteMessage(websocket.TextMessage, request) != nil {
		return
	}
	for w.next == "" || w.life != w.next || w.last < until {
		_, text, err := ws.ReadMessage()
		if err != nil {
			return
		}
		w.take(text)
	}
}

func (w *watcher) take(text []byte) {
	w.t.Helper()
	var f struct {
		Op     string       `json:"op"`
		Life   string       `json:"life"`
		Events []live.Event `json:"e"`
		Upto   uint64       `json:"q"`
		From   uint64       `json:"from"`
		To     uint64       `json:"to"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	if f.Op == "hi" {
		w.next = f.Life
		return
	}
	if w.next != w.life {
		w.last, w.life = 0, w.next
	}
	for _, e := range f.Events {
		w.seen[e.ID]++
		w.last = max(w.last, e.Seq)
	}
	if f.Op == "gap" {
		w.history.mu.Lock()
		for seq, id := range w.history.ids {
			if seq >= f.From && seq <= f.To {
				w.seen[id]++
			}
		}
		w.history.mu.Unlock()
	}
	w.last = max(w.last, f.To, f.Upto)
}

// A browser whose connection breaks again and again, in the middle of frames too, and over two restarts of the gateway, one
// in order and one by a crash that leaves a leap in the numbers, has seen each handshake exactly once.
func TestReconnectsLoseAndRepeatNothing(t *testing.T) {
	const visits, each = 45, 60
	random := rand.New(rand.NewPCG(5, 11))
	history := &keptInMemory{ids: map[uint64]string{}}
	w := &watcher{t: t, history: history, seen: map[string]int{}}
	h := onTCP(t)
	restart := func(leap uint64) {
		last := h.hub.Status().Seq
		closeAll(t, h.socket.shutdown)
		closeAll(t, h.hub.Close) // stores what is left
		h.hub = live.New(live.Options{FirstSeq: last + 1 + leap, Stored: last, Sink: history.write})
		h.socket = newLiveSocket(h.hub)
	}
	restart(0)
	left := 0
	plain := h.dial
	h.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := plain(ctx, network, address)
		return &cutConn{c, left}, err
	}
	n := 0
	publish := func(count int) {
		h.publish(n, n+count)
		n += count
		h.settle()
	}
	for visit := range visits {
		publish(random.IntN(each))
		left = 1000 + random.IntN(60000)
		if visit == 0 {
			left = 1 << 30 // whoever has seen nothing yet is shown the newest
		}
		ws, _, err := h.try(http.Header{"Origin": {"http://" + h.host}}, h.host)
		if err != nil {
			continue // cut within the handshake of the socket
		}
		done := make(chan struct{})
		go func() { // more arrive while it reads
			defer close(done)
			publish(random.IntN(each))
		}()
		<-done
		w.follow(ws, h.hub.Status().Seq)
		_ = ws.Close()
		<-h.served
		switch visit {
		case visits / 3:
			publish(each) // nobody watches
			restart(0)
		case 2 * visits / 3:
			publish(each)
			restart(1 << 20)
		}
	}
	left = 1 << 30
	ws := h.open()
	w.follow(ws, h.hub.Status().Seq)
	for i := range n {
		if id := livetest.Handshake(i, time.Time{}).ID; w.seen[id] != 1 {
			t.Errorf("handshake %s was seen %d times", id, w.seen[id])
		}
	}
	if len(w.seen) != n {
		t.Errorf("%d handshakes were seen, of %d", len(w.seen), n)
	}
}

// hostileVisit is one way to misuse a live socket, on a raw connection after the upgrade.
type hostileVisit struct {
	name string
	act  func(c net.Conn)
}

// rawFrame makes a frame with any first byte and length, masked or not.
func rawFrame(first byte, payload string, length int, mask bool) []byte {
	f := []byte{first}
	bit := byte(0)
	if mask {
		bit = 0x80
	}
	switch {
	case length < 126:
		f = append(f, bit|byte(length))
	case length < 1<<16:
		f = append(f, bit|126, byte(length>>8), byte(length))
	default:
		f = append(f, bit|127, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	}
	if mask {
		f = append(f, 0, 0, 0, 0)
	}
	return append(f, payload...)
}

func hostileVisits() []hostileVisit {
	const sub = `{"op":"sub","after":1}`
	send := func(frames ...[]byte) func(net.Conn) {
		return func(c net.Conn) {
			for _, f := range frames {
				if _, err := c.Write(f); err != nil {
					return
				}
			}
		}
	}
	var pieces, endless, floods, again [][]byte
	for i := range len(sub) {
		first := byte(0) // RFC 6455, section 5.4
		if i == 0 {
			first = 1
		}
		if i == len(sub)-1 {
			first |= 0x80
		}
		pieces = append(pieces, rawFrame(first, sub[i:i+1], 1, true))
	}
	endless = append(endless, rawFrame(1, "{", 1, true))
	for range 2 * liveMessage / 100 {
		endless = append(endless, rawFrame(0, string(slices.Repeat([]byte{' '}, 100)), 100, true))
	}
	for range 10 * liveBurst {
		floods = append(floods, rawFrame(0x81, sub, len(sub), true), rawFrame(0x89, "x", 1, true))
	}
	for i := range liveBurst {
		other := `{"op":"sub","f":"outcome:failed"}`
		if i%2 == 0 {
			other = `{"op":"sub","f":"is:pq","after":3}`
		}
		again = append(again, rawFrame(0x81, other, len(other), true))
	}
	return []hostileVisit{
		{"reads nothing", send(rawFrame(0x81, sub, len(sub), true))},
		{"reads byte by byte", func(c net.Conn) {
			send(rawFrame(0x81, sub, len(sub), true))(c)
			one := make([]byte, 1)
			for range 2000 {
				if _, err := c.Read(one); err != nil {
					return
				}
			}
		}},
		{"garbage", send([]byte("GET / HTTP/1.1\r\n\r\n\xff\xfe\x00"))},
		{"a frame of 2^62 bytes", send(rawFrame(0x81, "x", 1<<40, true))},
		{"in pieces of one byte", send(pieces...)},
		{"a message without end", send(endless...)},
		{"compressed without being asked", send(rawFrame(0xc1, sub, len(sub), true))},
		{"not masked", send(rawFrame(0x81, sub, len(sub), false))},
		{"a ping too long", send(rawFrame(0x89, string(make([]byte, 126)), 126, true))},
		{"a piece of nothing", send(rawFrame(0x80, "x", 1, true))},
		{"floods", send(floods...)},
		{"changes its mind", send(again...)},
		{"half a frame", send([]byte{0x81})},
		{"a wrong goodbye", send(rawFrame(0x88, "\x00\x01\xff", 3, true))},
	}
}

// Whatever fourteen hostile clients do, again and again, two honest ones get every handshake in order, and none is missed
// by the hub: whoever publishes waits for nobody.
func TestHostileSocketsChangeNothingForTheRest(t *testing.T) {
	h := onTCP(t)
	h.socket.times.write = 300 * time.Millisecond
	honest := []*websocket.Conn{h.watch(`{"op":"sub"}`), h.watch(`{"op":"sub"}`)}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for _, v := range hostileVisits() {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ws, _, err := h.try(http.Header{"Origin": {"http://" + h.host}}, h.host)
				if err != nil {
					continue
				}
				v.act(ws.NetConn())
				_ = ws.NetConn().Close()
			}
		})
	}
	drained := make(chan struct{})
	go func() { // the harness counts visits
		defer close(drained)
		for {
			select {
			case <-h.served:
			case <-stop:
				return
			}
		}
	}()
	const blocks, each = 7, 250 // fewer than are sampled, however quick the machine
	for block := range blocks {
		h.publish(block*each, (block+1)*each)
		for i, ws := range honest {
			next := uint64(block*each + 1)
			for next <= uint64((block+1)*each) {
				for _, e := range h.next(ws, "ev").Events {
					if e.Seq != next {
						t.Fatalf("honest client %d gets number %d, want %d", i, e.Seq, next)
					}
					next++
				}
			}
		}
	}
	if s := h.hub.Status(); s.Missed > 0 || s.Seq != blocks*each {
		t.Errorf("%d handshakes of %d are missed", s.Missed, s.Seq)
	}
	close(stop)
	others.Wait()
	<-drained
}
