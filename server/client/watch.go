package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination/live"
)

// Bounds of a stream.
const (
	maxFrame = 16 << 20         // bytes; a thousand events of texts that cost as much as they can are below it
	silence  = 15 * time.Second // after which a stream counts as lost: counters come every second
	maxWait  = 15 * time.Second // between tries to come back
)

// ErrEnded says that the gateway will not have this client back, whatever it tries.
var ErrEnded = errors.New("the gateway ended the stream")

// Watch follows the live stream with a filter and hands each frame to got, until ctx ends or got returns an error. A stream
// that is lost comes back after growing waits and goes on after the last handshake that was seen, so that nothing is lost
// without a gap that says so, and nothing comes twice; only the first connection must succeed at once. At its beginning it
// tells the newest handshakes that the gateway remembers: their Seq is at most that of Open.
//
// The error is that of ctx or of got, or says why there is no stream: [ErrAway], [ErrEnded], *[FilterError], *[AnswerError].
func (c *Client) Watch(ctx context.Context, filter string, got func(Frame) error) error {
	s := stream{client: c, filter: filter, got: got, legend: legend{endpoints: map[int]string{}}}
	wait := c.wait
	for {
		err := s.once(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.stopped != nil:
			return s.stopped
		case !s.opened || final(err):
			return err
		}
		if s.fresh { // it had come back in between
			wait = c.wait
		}
		s.fresh = false
		pause := wait + rand.N(wait) //nolint:gosec // so that many clients do not come back at once
		wait = min(2*wait, maxWait)
		if err := got(Frame{Lost: err, Wait: pause}); err != nil {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// final reports whether another try would end the same way.
func final(err error) bool {
	answer, is := errors.AsType[*AnswerError](err)
	_, filter := errors.AsType[*FilterError](err)
	return filter || errors.Is(err, ErrEnded) || is && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden)
}

// stream is what is kept of a stream from one connection to the next.
type stream struct {
	client  *Client
	filter  string
	got     func(Frame) error
	legend  legend
	after   uint64 // the last number that was seen
	life    string // of the gateway that it is from
	opened  bool   // ever
	fresh   bool   // since the last loss
	stopped error  // what got returned
}

// subscription is the first message to the gateway.
type subscription struct {
	Op     string `json:"op"`
	Filter string `json:"f"`
	After  uint64 `json:"after,omitempty"`
	Life   string `json:"life,omitempty"`
}

// once runs one connection to its end.
func (s *stream) once(ctx context.Context) error {
	ws, err := s.client.open(ctx)
	if err != nil {
		return fmt.Errorf("open the live stream: %w", err)
	}
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() { // ends with this function
		defer close(watched)
		select {
		case <-ctx.Done():
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
			_ = ws.Close() // wakes the reader
		case <-ended:
		}
	}()
	defer func() {
		close(ended)
		<-watched
		_ = ws.Close()
	}()
	ws.SetReadLimit(maxFrame)
	alive := func() { _ = ws.SetReadDeadline(time.Now().Add(silence)) } // fails on a closed connection, and then so does the read
	answer := ws.PingHandler()
	ws.SetPingHandler(func(data string) error {
		alive()
		return answer(data)
	})
	alive()
	if err := ws.WriteJSON(subscription{Op: "sub", Filter: s.filter, After: s.after, Life: s.life}); err != nil {
		return fmt.Errorf("ask for the live stream: %w", err)
	}
	for {
		_, text, err := ws.ReadMessage()
		if err != nil {
			return closed(err)
		}
		alive()
		if err := s.take(text); err != nil {
			return err
		}
	}
}

// closed turns the end of a connection into words.
func closed(err error) error {
	bye, is := errors.AsType[*websocket.CloseError](err)
	if !is {
		return err
	}
	if bye.Code == websocket.ClosePolicyViolation {
		return fmt.Errorf("%w: %s", ErrEnded, bye.Text)
	}
	if bye.Text == "" {
		return errors.New("the connection was closed")
	}
	return errors.New(bye.Text)
}

// take hands one frame on.
func (s *stream) take(text []byte) error {
	f, err := s.legend.read(text)
	if err != nil {
		return err
	}
	switch {
	case f.Open != nil:
		if f.Open.Version != live.Version {
			return fmt.Errorf("%w: it speaks version %d of the stream and this program version %d; use the program of the same release", ErrEnded, f.Open.Version, live.Version)
		}
		if f.Open.Life != s.life {
			s.after, s.life = 0, f.Open.Life
		}
		s.opened, s.fresh = true, true
	case f.Gap != nil:
		s.after = max(s.after, f.Gap.To)
	case f.Stats != nil:
		s.after = max(s.after, f.Stats.Seq)
	case f.Events == nil:
		return nil // of a kind that this version does not know
	}
	for i := range f.Events {
		s.after = max(s.after, f.Events[i].Seq)
	}
	if s.stopped = s.got(f); s.stopped != nil {
		return s.stopped
	}
	return nil
}

// open opens the WebSocket.
func (c *Client) open(ctx context.Context) (*websocket.Conn, error) {
	address := *c.base
	address.Scheme = map[string]string{"http": "ws", "https": "wss"}[c.base.Scheme]
	address.Path = prefix + "/handshakes/live"
	dialer := websocket.Dialer{NetDialContext: c.dial, HandshakeTimeout: patience}
	header := http.Header{}
	c.authorize(header)
	ws, res, err := dialer.DialContext(ctx, address.String(), header) //nolint:bodyclose // nothing is open: what there is of it was read
	if err != nil && res != nil {
		return nil, answerError(res)
	}
	if err != nil {
		return nil, away(err)
	}
	return ws, nil
}
