package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/server/client"
	"countersign/termination/live/livetest"
)

// watched is a client of the live stream whose connections the test can break.
type watched struct {
	client *client.Client
	mu     sync.Mutex
	last   net.Conn
}

func watchedBy(t *testing.T, h *liveHarness) *watched {
	t.Helper()
	h.bearer.Store(true)
	w := &watched{}
	var err error
	w.client, err = client.New(client.Options{URL: "http://" + h.host, Token: "t", Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := h.dial(ctx, "", "")
		w.mu.Lock()
		defer w.mu.Unlock()
		w.last = c
		return c, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watched) breakOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.last.Close()
}

func TestTheClientLosesAndRepeatsNothing(t *testing.T) {
	h := onTCP(t)
	w := watchedBy(t, h)
	start := time.Now()
	publish := func(from, to int) {
		for n := from; n < to; n++ {
			h.hub.Publish(livetest.Handshake(n, start))
		}
	}
	publish(0, 5)
	var got []uint64
	var lost int
	enough := errors.New("enough")
	err := w.client.Watch(t.Context(), "", func(f client.Frame) error {
		for i := range f.Events {
			got = append(got, f.Events[i].Seq)
		}
		switch {
		case f.Lost != nil:
			lost++
			publish(10, 15) // while nobody looks
		case len(f.Events) > 0 && len(got) == 5:
			publish(5, 10)
		case len(f.Events) > 0 && len(got) == 10:
			w.breakOff()
		case len(got) >= 15:
			return enough
		}
		return nil
	})
	want := make([]uint64, 15)
	for i := range want {
		want[i] = uint64(i + 1)
	}
	if !errors.Is(err, enough) || lost != 1 || !slices.Equal(got, want) {
		t.Errorf("%v, lost %d times, got %v", err, lost, got)
	}
}

func TestTheClientGivesUpWhereTryingIsOfNoUse(t *testing.T) {
	h := onTCP(t)
	w := watchedBy(t, h)
	nothing := func(client.Frame) error { return nil }
	err := w.client.Watch(t.Context(), "colour:red", nothing)
	if wrong, is := errors.AsType[*client.FilterError](err); !is || !strings.Contains(wrong.Message, `"colour" is no key`) {
		t.Errorf("a filter that is none: %v", err)
	}
	err = w.client.Watch(t.Context(), "", func(f client.Frame) error {
		h.signedOut.Store(true)
		return nil
	})
	if !errors.Is(err, client.ErrEnded) {
		t.Errorf("a token that has ended: %v", err)
	}
	h.bearer.Store(false)
	err = w.client.Watch(t.Context(), "", nothing)
	if answer, is := errors.AsType[*client.AnswerError](err); !is || answer.Status != 403 {
		t.Errorf("no token: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h.signedOut.Store(false)
	h.bearer.Store(true)
	err = w.client.Watch(ctx, "", func(client.Frame) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("told to end: %v", err)
	}
}
