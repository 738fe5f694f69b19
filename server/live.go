package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination"
	"countersign/termination/live"
)

// Bounds of a live socket.
const (
	liveMessage = 4 << 10 // bytes of a message from the client
	liveBurst   = 20      // messages at once
	livePerSec  = 5       // and from then on
)

// liveTimes are the deadlines of a live socket. Together they close a reader that has stopped within ten seconds:
// either a write fails, or a pong does not come.
type liveTimes struct {
	first  time.Duration // for the first subscription
	write  time.Duration // for one message to be taken by the client
	ping   time.Duration // between pings
	silent time.Duration // without a sign of life
	check  time.Duration // between questions whether the visitor may still be here
	leave  time.Duration // for the closing words, and the client's answer to them
}

func defaultLiveTimes() liveTimes {
	return liveTimes{
		first: 5 * time.Second, write: 5 * time.Second, ping: 4 * time.Second, silent: 9 * time.Second,
		check: 500 * time.Millisecond, leave: 400 * time.Millisecond,
	}
}

// liveSocket serves the live stream of handshakes over WebSocket: GET /api/v1/handshakes/live. The frames are those of
// package live; the client sends {"op":"sub","f":FILTER,"after":SEQ,"life":LIFE} first, and again to change the filter, and
// {"op":"idle","on":true} while nobody looks.
//
// Each socket has one goroutine that reads, one that writes, and one that asks whether the visitor may still be here.
type liveSocket struct {
	hub   *live.Hub
	times liveTimes

	mu       sync.Mutex
	stopping bool
	visits   map[*liveVisit]struct{}
	running  sync.WaitGroup
}

func newLiveSocket(hub *live.Hub) *liveSocket {
	return &liveSocket{hub: hub, times: defaultLiveTimes(), visits: map[*liveVisit]struct{}{}}
}

// liveVisitor is what the server found out about the request before it hands it over.
type liveVisitor struct {
	// hosts are the values of Host that the dashboard answers to. Origin must be one of them, too.
	hosts []string
	// bearer says that a bearer token let the request in, which no browser sends by itself: only then may Origin be
	// missing.
	bearer bool
	// still reports whether the session or the token is still good. It is asked twice a second.
	still func(context.Context) bool
}

// admits checks Host and Origin again, whatever stands before: a page of another site can open a socket to a loopback
// address with the visitor's cookie, and gorilla's own check lets a missing Origin pass and believes the Host header,
// which a name that was rebound to loopback makes agree with Origin.
func (v liveVisitor) admits(r *http.Request) bool {
	if !slices.Contains(v.hosts, r.Host) {
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return v.bearer
	}
	return len(origins) == 1 && origins[0] == "http://"+r.Host
}

// serve runs one socket until it closes.
func (l *liveSocket) serve(w http.ResponseWriter, r *http.Request, v liveVisitor) {
	if !v.admits(r) {
		http.Error(w, "This request came from another site. Open the dashboard under its own address, or send a bearer token.", http.StatusForbidden)
		return
	}
	if l.hub == nil {
		http.Error(w, "This dashboard has no live stream.", http.StatusServiceUnavailable)
		return
	}
	upgrader := websocket.Upgrader{
		CheckOrigin: v.admits,
		// No permessage-deflate: a full frame of a thousand events shrinks from 260 to 27 kB, which loopback does not
		// need, for 2 ms instead of 1 µs of work (BenchmarkLiveCompression).
		EnableCompression: false,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			http.Error(w, "The live stream is a WebSocket: "+strings.TrimPrefix(reason.Error(), "websocket: ")+".", status)
		},
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	// The request's own context ends only with this handler: its connection is ours now.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c := &liveVisit{
		socket: l, ws: ws, times: l.times, cancel: cancel,
		refused: make(chan live.Failure), subscribed: make(chan *live.Subscription), read: make(chan struct{}),
	}
	if l.enter(c) {
		defer l.exit(c)
	}
	c.run(ctx, v.still)
}

// enter takes a place; where there is none, the visit begins with its end, so that the client is told why.
func (l *liveSocket) enter(c *liveVisit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		c.leave(websocket.CloseGoingAway, "the gateway is stopping")
		return false
	case len(l.visits) >= live.MaxSubscribers:
		c.leave(websocket.CloseTryAgainLater, live.ErrTooMany.Error())
		return false
	}
	l.visits[c] = struct{}{}
	l.running.Add(1)
	return true
}

func (l *liveSocket) exit(c *liveVisit) {
	l.mu.Lock()
	delete(l.visits, c)
	l.mu.Unlock()
	l.running.Done()
}

// shutdown closes every socket with the words that the gateway is stopping, and waits for that as long as ctx allows.
// http.Server.Shutdown knows nothing of them.
func (l *liveSocket) shutdown(ctx context.Context) error {
	l.mu.Lock()
	l.stopping = true
	for c := range l.visits {
		c.leave(websocket.CloseGoingAway, "the gateway is stopping")
	}
	l.mu.Unlock()
	left := make(chan struct{})
	go func() { // ends with the last socket, each of which has its deadline
		defer close(left)
		l.running.Wait()
	}()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the live sockets: %w", ctx.Err())
	}
}

// liveVisit is one open socket.
type liveVisit struct {
	socket *liveSocket
	ws     *websocket.Conn
	times  liveTimes
	cancel context.CancelFunc // wakes the writer and the watch

	refused    chan live.Failure       // filters that were not understood before there was a subscription
	subscribed chan *live.Subscription // the first good one
	read       chan struct{}           // closed when the reader has ended
	idle       bool                    // as the client last said; belongs to the reader
	once       sync.Once               // the first reason to leave counts
	code       int                     // of the close frame; 0: none is due
	words      string
	deadline   *time.Timer
}

// leave makes the visit end, with a close code (RFC 6455, section 7.4) and a reason; any goroutine may call it.
func (c *liveVisit) leave(code int, words string) {
	c.once.Do(func() {
		c.code, c.words = code, words
		// A write that is stuck in a full buffer, and a client that does not answer, end here.
		c.deadline = time.AfterFunc(c.times.leave, func() { _ = c.ws.NetConn().Close() })
		c.cancel()
	})
}

func (c *liveVisit) run(ctx context.Context, still func(context.Context) bool) {
	var others sync.WaitGroup
	others.Go(func() { c.readAll(ctx) })
	others.Go(func() { c.watch(ctx, still) })
	c.writeAll(ctx)
	c.close()
	others.Wait()
}

// close sends the closing words, and waits for the client to have read them.
func (c *liveVisit) close() {
	c.leave(0, "")
	if c.code != 0 {
		words := websocket.FormatCloseMessage(c.code, c.words)
		if c.ws.WriteControl(websocket.CloseMessage, words, time.Now().Add(c.times.leave)) == nil {
			<-c.read // closing with something unread would reset the connection, and the words could be lost
		}
	}
	c.deadline.Stop()
	_ = c.ws.Close()
}

// watch ends the visit when the session or the token has ended.
func (c *liveVisit) watch(ctx context.Context, still func(context.Context) bool) {
	tick := time.NewTicker(c.times.check)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !still(ctx) {
				c.leave(websocket.ClosePolicyViolation, "the session or token has ended; sign in again")
				return
			}
		}
	}
}

// writeAll is the only one that writes messages.
func (c *liveVisit) writeAll(ctx context.Context) {
	sub := c.awaitSubscription(ctx)
	if sub == nil {
		return
	}
	defer sub.Close()
	for {
		untilPing, cancel := context.WithTimeout(ctx, c.times.ping)
		err := c.writeUntil(untilPing, sub)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			err = c.ping()
		case errors.Is(err, live.ErrClosed):
			c.leave(websocket.CloseGoingAway, "the gateway is stopping")
			return
		}
		if err != nil {
			return
		}
	}
}

// writeUntil passes frames on until ctx ends; it returns the error that ended it.
func (c *liveVisit) writeUntil(ctx context.Context, sub *live.Subscription) error {
	for {
		frame, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		if err = c.write(frame); err != nil {
			return err
		}
	}
}

func (c *liveVisit) write(frame []byte) error {
	if err := c.ws.SetWriteDeadline(time.Now().Add(c.times.write)); err != nil {
		return err
	}
	return c.ws.WriteMessage(websocket.TextMessage, frame)
}

func (c *liveVisit) ping() error {
	return c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(c.times.write))
}

// awaitSubscription waits for the client to say what it wants to see. One whose filter was not understood may stay and
// try again.
func (c *liveVisit) awaitSubscription(ctx context.Context) *live.Subscription {
	patience := time.NewTimer(c.times.first)
	defer patience.Stop()
	ping := time.NewTicker(c.times.ping)
	defer ping.Stop()
	for {
		select {
		case sub := <-c.subscribed:
			return sub
		case f := <-c.refused:
			f.Op = "err"
			frame, err := json.Marshal(f)
			if err != nil || c.write(frame) != nil {
				return nil
			}
			patience.Stop()
		case <-ping.C:
			if c.ping() != nil {
				return nil
			}
		case <-patience.C:
			c.leave(websocket.ClosePolicyViolation, `expected {"op":"sub"} first`)
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// liveRequest is a message from the client.
type liveRequest struct {
	Op     string `json:"op"`
	Filter string `json:"f"`
	After  uint64 `json:"after"`
	Life   string `json:"life"`
	On     *bool  `json:"on"`
	Tag    uint32 `json:"n"`
}

// readAll is the only one that reads.
func (c *liveVisit) readAll(ctx context.Context) {
	defer close(c.read)
	c.ws.SetReadLimit(liveMessage)
	alive := func() error { return c.ws.SetReadDeadline(time.Now().Add(c.times.silent)) }
	c.ws.SetPongHandler(func(string) error { return alive() })
	_ = alive()
	var sub *live.Subscription
	allowance, since := float64(liveBurst), time.Now()
	for {
		kind, text, err := c.ws.ReadMessage()
		if err != nil {
			c.leave(0, "") // gorilla has answered a close frame, or what breaks the protocol
			return
		}
		if ctx.Err() != nil {
			continue // until the client has answered the close frame, or its time is up
		}
		_ = alive()
		now := time.Now()
		allowance = min(liveBurst, allowance+livePerSec*now.Sub(since).Seconds()) - 1
		since = now
		if allowance < 0 {
			c.leave(websocket.ClosePolicyViolation, fmt.Sprintf("too many messages; %d a second are allowed", livePerSec))
			continue
		}
		m, err := readLiveRequest(kind, text)
		if err != nil {
			c.leave(websocket.ClosePolicyViolation, err.Error())
			continue
		}
		sub = c.obey(ctx, m, sub)
	}
}

// readLiveRequest is strict. Its errors are short enough for a close frame, and hold nothing of the message.
func readLiveRequest(kind int, text []byte) (liveRequest, error) {
	var m liveRequest
	if kind != websocket.TextMessage {
		return m, errors.New("expected text, not binary data")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&m) != nil || d.Decode(new(json.RawMessage)) != io.EOF {
		return m, errors.New(`expected {"op":"sub","f":"filter","after":1} or {"op":"idle","on":true}`)
	}
	switch {
	case m.Op == "sub" && m.On == nil:
		return m, nil
	case m.Op == "idle" && m.On != nil && m.Filter == "" && m.After == 0 && m.Life == "" && m.Tag == 0:
		return m, nil
	case m.Op == "sub" || m.Op == "idle":
		return m, fmt.Errorf("op %q has other members", m.Op)
	}
	return m, errors.New("unknown op; expected sub or idle")
}

// obey does what the client asks for, and returns its subscription.
func (c *liveVisit) obey(ctx context.Context, m liveRequest, sub *live.Subscription) *live.Subscription {
	if m.Op == "idle" {
		c.idle = *m.On
		if sub != nil {
			sub.SetIdle(c.idle)
		}
		return sub
	}
	filter, err := termination.ParseFilter(m.Filter, time.Now())
	if err != nil {
		c.refuse(ctx, err, sub)
		return sub
	}
	request := live.Request{Filter: filter, After: m.After, Life: m.Life, Idle: c.idle, Tag: m.Tag}
	if sub != nil {
		sub.Set(request)
		return sub
	}
	sub, err = c.socket.hub.Subscribe(request)
	switch {
	case errors.Is(err, live.ErrTooMany):
		c.leave(websocket.CloseTryAgainLater, err.Error())
		return nil
	case err != nil:
		c.leave(websocket.CloseGoingAway, "the gateway is stopping")
		return nil
	}
	select {
	case c.subscribed <- sub: // the writer closes it
		return sub
	case <-ctx.Done():
		sub.Close()
		return nil
	}
}

// refuse answers a filter that was not understood; the socket stays open, and the stream as it was.
func (c *liveVisit) refuse(ctx context.Context, err error, sub *live.Subscription) {
	f := live.Failure{Message: err.Error()}
	var wrong *termination.FilterError
	if errors.As(err, &wrong) {
		f.Position, f.Message = wrong.Position, wrong.Message
	}
	if sub != nil {
		sub.Refuse(f)
		return
	}
	select {
	case c.refused <- f:
	case <-ctx.Done():
	}
}
