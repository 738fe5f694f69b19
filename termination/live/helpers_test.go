package live

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/live/livetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame is any frame of the stream, as a browser reads it.
type frame struct {
	at time.Time // when it came

	Op        string            `json:"op"`
	Filter    string            `json:"f"`
	Seq       uint64            `json:"seq"`
	Life      string            `json:"life"`
	Outcomes  []string          `json:"outcomes"`
	Reasons   map[string]string `json:"reasons"`
	Past      []Stats           `json:"past"`
	N         uint32            `json:"n"`
	NFailed   uint32            `json:"nf"`
	Endpoints map[int]string    `json:"endpoints"`
	Events    []Event           `json:"e"`
	Message   string            `json:"m"`

	gap Gap
	st  Stats
}

func readFrame(t *testing.T, text []byte) frame {
	t.Helper()
	f := frame{at: time.Now()}
	var err error
	if err = json.Unmarshal(text, &f); err == nil {
		switch f.Op {
		case "gap":
			err = json.Unmarshal(text, &f.gap)
		case "st":
			err = json.Unmarshal(text, &f.st)
		}
	}
	if err != nil {
		t.Fatalf("frame %s: %v", text, err)
	}
	return f
}

// watcher reads a subscription to its end and keeps the frames.
type watcher struct {
	*Subscription
	t    *testing.T
	done chan struct{}

	mu     sync.Mutex
	frames []frame
}

func watch(t *testing.T, b *Hub, filter string, after uint64) *watcher {
	t.Helper()
	s, err := b.Subscribe(Request{Filter: mustFilter(t, filter), After: after})
	if err != nil {
		t.Fatal(err)
	}
	return read(t, s)
}

func read(t *testing.T, s *Subscription) *watcher {
	w := &watcher{Subscription: s, t: t, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			text, err := s.Next(context.Background())
			if err != nil {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("Next: %v", err)
				}
				return
			}
			f := readFrame(t, text)
			w.mu.Lock()
			w.frames = append(w.frames, f)
			w.mu.Unlock()
		}
	}()
	return w
}

// leave closes the subscription and returns its frames.
func (w *watcher) leave() []frame {
	w.Close()
	<-w.done
	return w.frames
}

// seen returns the frames so far and forgets them.
func (w *watcher) seen() []frame {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.frames
	w.frames = nil
	return f
}

func events(frames []frame) []Event {
	var out []Event
	for _, f := range frames {
		out = append(out, f.Events...)
	}
	return out
}

func gaps(frames []frame) []Gap {
	var out []Gap
	for _, f := range frames {
		if f.Op == "gap" {
			out = append(out, f.gap)
		}
	}
	return out
}

func stats(frames []frame) []Stats {
	var out []Stats
	for _, f := range frames {
		if f.Op == "st" {
			out = append(out, f.st)
		}
	}
	return out
}

func checkSeqs(t *testing.T, got []Event, from, to uint64) {
	t.Helper()
	if len(got) != int(to-from+1) {
		t.Errorf("%d events, want %d (%d to %d)", len(got), to-from+1, from, to)
	}
	for i, e := range got {
		if e.Seq != from+uint64(i) {
			t.Fatalf("event %d has number %d, want %d", i, e.Seq, from+uint64(i))
		}
	}
}

func mustFilter(t *testing.T, s string) termination.Filter {
	t.Helper()
	f, err := termination.ParseFilter(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustClose(t *testing.T, b *Hub) {
	t.Helper()
	if err := b.Close(context.Background()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// publish puts handshakes [from, to) of livetest into the feed, at an even pace, and lets the hub take each.
func publish(b *Hub, from, to, perSecond int) {
	start := time.Now()
	for n := from; n < to; n++ {
		if due := time.Duration(n-from) * time.Second / time.Duration(perSecond); due > time.Since(start) {
			pass(due - time.Since(start)) // of the bubble's clock
		}
		b.Publish(livetest.Handshake(n, time.Now()))
	}
	synctest.Wait()
}

// publishNow puts handshakes [from, to) into the feed at once.
func publishNow(b *Hub, from, to int) {
	for n := from; n < to; n++ {
		b.Publish(livetest.Handshake(n, time.Now()))
	}
	synctest.Wait()
}

// pass lets time pass: the bubble's, which waits for every goroutine in it and not for a clock.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time
}
