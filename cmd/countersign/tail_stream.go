package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"countersign/server/client"
	"countersign/termination"
	"countersign/termination/live"
	"countersign/views/format"
)

// tailPrinter prints what tail has to say. Errors are those of writing.
type tailPrinter interface {
	handshake(e *client.Event) error
	update(e *client.Event) error
	gap(g missing) error
}

// missing are handshakes that are not shown.
type missing struct {
	Count  uint64 `json:"count"`
	AtMost bool   `json:"at_most,omitempty"` // nobody knows how many of them the filter selects
	From   uint64 `json:"from,omitempty"`    // their numbers; 0: between others
	To     uint64 `json:"to,omitempty"`
	Why    string `json:"why"`
}

// tail prints what was recorded, and goes on with the stream.
type tail struct {
	client  *client.Client
	history termination.Filter
	most    int // recorded handshakes at most
	rows    tailPrinter
	said    io.Writer

	begun   bool
	newest  uint64    // number of the newest that came from the history
	opened  uint64    // number of the newest when the stream began
	fresh   time.Time // what is younger may not have been stored yet by then
	life    string    // of the gateway at that time
	shown   recent    // IDs
	sampled uint32    // of the last events
	behind  uint64    // lost to a full ring since the last counters
	lost    time.Time // zero: the stream is open
}

// recorded prints what is in the history, as far back as it can be searched until the deadline of ctx.
func (t *tail) recorded(ctx context.Context) error {
	if t.most == 0 {
		return nil
	}
	var events []client.Event
	var cursor string
	var back time.Time // down to where was searched
	for {
		page, err := t.client.Handshakes(ctx, t.history.String(), cursor, min(tailPage, t.most-len(events)))
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			if back.IsZero() {
				t.say("the history takes too long to answer, so this begins without it")
			} else {
				t.say("the history was searched back to %s", back.Local().Format(time.DateTime))
			}
			break
		}
		if err != nil {
			return err
		}
		for i := range page.Items {
			events = append(events, client.EventOf(&page.Items[i]))
			back = page.Items[i].Time
		}
		if page.Searched != nil {
			back = *page.Searched
		}
		if cursor = page.Cursor; cursor == "" || len(events) >= t.most {
			break
		}
	}
	if cursor != "" && len(events) == tailMost {
		t.say("the history holds more before these %s; narrow the filter, or read on over the API with before=%s", format.Count(len(events), "handshake", "handshakes"), cursor)
	}
	slices.Reverse(events)
	for i := range events {
		t.newest = max(t.newest, events[i].Seq)
		t.shown.add(events[i].ID)
		if err := t.rows.handshake(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

// frame prints one frame of the stream.
func (t *tail) frame(ctx context.Context, f client.Frame) error {
	switch {
	case f.Open != nil:
		return t.open(ctx, f.Open)
	case f.Lost != nil:
		if t.lost.IsZero() {
			t.lost = time.Now()
			t.say("stream lost: %s; trying again", format.Cut(f.Lost.Error(), 200))
		}
	case f.Gap != nil:
		return t.gap(f.Gap)
	case f.Stats != nil:
		return t.stats(f.Stats)
	}
	t.sampled = max(t.sampled, f.Sampled)
	for i := range f.Events {
		if err := t.event(&f.Events[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tail) open(ctx context.Context, hi *live.Hi) error {
	if !t.lost.IsZero() {
		t.say("stream open again after %s", format.Span(time.Since(t.lost)))
		t.lost = time.Time{}
	}
	if t.begun {
		if hi.Life != t.life { // whose numbers may be some that were given out before
			t.opened, t.life = 0, hi.Life
		}
		return nil
	}
	t.begun, t.opened, t.life, t.fresh = true, hi.Seq, hi.Life, time.UnixMilli(hi.Now).Add(-tailFresh)
	// The history comes first, while the stream waits in the socket's buffers: what is in both is known by its number.
	ctx, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	err := t.recorded(ctx)
	if answer, is := errors.AsType[*client.AnswerError](err); is {
		t.say("the history cannot be read: %s", format.Cut(answer.Error(), 200))
		return nil // what comes can be shown all the same
	}
	return err
}

func (t *tail) event(e *client.Event) error {
	old := e.Seq <= t.opened // it was there before the stream began
	if old && (t.most == 0 || e.Seq <= t.newest || e.Time.Before(t.fresh)) || t.shown.has(e.ID) && (old || !e.Update) {
		return nil
	}
	again := t.shown.has(e.ID)
	t.shown.add(e.ID)
	if again {
		return t.rows.update(e)
	}
	return t.rows.handshake(e)
}

func (t *tail) gap(g *live.Gap) error {
	m := missing{Count: g.Count, AtMost: g.AtMost, From: g.From, To: g.To, Why: "this terminal was behind"}
	if g.AtMost {
		m.Why = "the gateway remembers them only in its history"
	} else {
		t.behind += g.Count
	}
	return t.rows.gap(m)
}

// stats says what sampling left out: above a rate that nobody reads, some of those that were let in are not sent.
func (t *tail) stats(s *live.Stats) error {
	sampled, behind := t.sampled, t.behind
	t.sampled, t.behind = 0, 0
	if s.Dropped <= behind || sampled <= 1 {
		return nil
	}
	return t.rows.gap(missing{Count: s.Dropped - behind, Why: fmt.Sprintf("too many come; of those let in, one of %d is shown", sampled)})
}

func (t *tail) say(words string, args ...any) {
	fmt.Fprintf(t.said, "countersign: "+words+"\n", args...)
}

// mostRecent bounds [recent]; the gateway remembers as many.
const mostRecent = 20_000

// recent remembers the last IDs.
type recent struct {
	ids  map[string]struct{}
	ring []string
	next int
}

func (r *recent) has(id string) bool {
	_, is := r.ids[id]
	return is
}

func (r *recent) add(id string) {
	if r.has(id) {
		return
	}
	if r.ids == nil {
		r.ids = make(map[string]struct{})
	}
	if len(r.ring) < mostRecent {
		r.ring = append(r.ring, id)
	} else {
		delete(r.ids, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % mostRecent
	}
	r.ids[id] = struct{}{}
}
