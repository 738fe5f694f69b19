package live

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"countersign/termination"
)

// Bounds of one subscription.
const (
	waitingEvents = 4096
	frameEvents   = 1000
	framePeriod   = 50 * time.Millisecond
	waitingStats  = 16
	waitingOthers = 16
)

// Request is what a subscriber wants.
type Request struct {
	Filter termination.Filter
	// After is the last number that was seen: the stream goes on with the next one, or with a gap where that is not
	// remembered any more. 0: it begins with the newest events that are remembered.
	After uint64
	// Life is the life of the gateway that After is from; if it is not this one, the stream begins with the first
	// event of this one. Empty: this one.
	Life string
	// Idle holds events back from the start, apart from those that are asked for here: see [Subscription.SetIdle].
	Idle bool
	// Tag comes back in [Hi], so that the subscriber knows from where on the stream follows this request.
	Tag uint32
}

// Subscription is one subscriber's view of the feed. One goroutine calls Next; the other methods may be called by
// any. It must be closed.
type Subscription struct {
	hub   *Hub
	ended chan struct{} // closed with the hub, or by Close
	once  sync.Once
	wake  chan struct{} // holds one token when there is something new to take

	// These belong to the hub's goroutine.
	filter  termination.Filter
	idle    bool
	offered uint64 // when idle: the last number that was offered
	sampler sampler
	cell    cell // of the running second, as the filter has it
	dropped uint64

	// These belong to the goroutine that calls Next.
	nextEvents time.Time // not before
	known      int       // endpoints of the legend that were sent
	batch      []entry
	frame      []byte // used again for each frame of events

	mu      sync.Mutex
	others  []any   // Hi and Failure, in order
	stats   []Stats // of the last seconds
	gap     Gap     // ahead of the events that wait; Count 0: none
	waiting []entry // events, oldest first
	limit   int     // of waiting
	scanned uint64  // every event up to here was offered
	overrun uint64  // events that did not fit, in the running second
}

// entry is an event that waits.
type entry struct {
	seq       uint64
	n, failed uint32 // how many events one stood for
	json      []byte
}

// Subscribe begins a subscription; its first frame is [Hi]. The error is [ErrTooMany] or [ErrClosed].
func (b *Hub) Subscribe(r Request) (*Subscription, error) {
	s := &Subscription{hub: b, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	err := ErrClosed
	b.call(func() {
		if len(b.subscriptions) >= MaxSubscribers {
			err = ErrTooMany
			return
		}
		err = nil
		b.subscriptions = append(b.subscriptions, s)
		b.watching.Store(int32(len(b.subscriptions))) //nolint:gosec // at most MaxSubscribers
		s.begin(r)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the subscription; Next then returns [ErrClosed].
func (s *Subscription) Close() {
	s.hub.call(func() {
		b := s.hub
		b.subscriptions = slices.DeleteFunc(b.subscriptions, func(o *Subscription) bool { return o == s })
		b.watching.Store(int32(len(b.subscriptions))) //nolint:gosec // at most MaxSubscribers
	})
	s.end()
}

func (s *Subscription) end() { s.once.Do(func() { close(s.ended) }) }

// Set changes the filter, or goes on after a number. What waited is dropped: the next frame is a new [Hi], and all
// after it follows the new filter. It also ends idling.
func (s *Subscription) Set(r Request) { s.hub.call(func() { s.begin(r) }) }

// SetIdle holds events back, and only sends counters, or goes on where it stopped.
func (s *Subscription) SetIdle(idle bool) {
	s.hub.call(func() {
		if idle == s.idle {
			return
		}
		s.idle = idle
		if idle {
			s.offered = s.hub.seq.Load()
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.resume(s.offered)
	})
}

// Refuse puts an error frame about a filter into the stream. The filter stays as it was.
func (s *Subscription) Refuse(f Failure) {
	f.Op = "err"
	s.mu.Lock()
	if len(s.others) < waitingOthers {
		s.others = append(s.others, f)
	}
	s.mu.Unlock()
	s.signal()
}

// begin applies a request, in the hub's goroutine.
func (s *Subscription) begin(r Request) {
	b := s.hub
	hi := Hi{Op: "hi", Seq: b.seq.Load(), Version: Version, Life: b.life, Now: time.Now().UnixMilli(), Filter: r.Filter.String(), Tag: r.Tag}
	if len(r.Filter.Terms) == 0 {
		hi.Past = b.counters.past(pastSeconds)
	}
	s.filter, s.idle, s.sampler, s.cell, s.dropped = r.Filter, false, sampler{step: b.now}, cell{}, 0

	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.others); n > 0 {
		if _, again := s.others[n-1].(Hi); again {
			s.others = s.others[:n-1]
		}
	}
	s.others = append(s.others, hi)
	s.stats, s.gap, s.waiting, s.limit, s.overrun = nil, Gap{}, nil, waitingEvents, 0
	switch {
	case r.Life != "" && r.Life != b.life && r.After > 0:
		// What was recorded between the end of that stream and the end of that life is in the history. The numbers after it
		// may be given out again.
		s.missBefore(r.After)
		s.resume(b.first - 1)
	case r.After == 0 || r.After > hi.Seq:
		s.remember(b.replay.newest(s.filter, backfill))
	default:
		s.missBefore(r.After)
		s.resume(max(r.After, b.first-1))
	}
	s.scanned = hi.Seq
	if r.Idle { // in the same step: an event that comes next must find it so
		s.idle, s.offered = true, hi.Seq
	}
	s.signal()
}

// missBefore points to what earlier lives have put into the history after a number. The caller holds mu.
func (s *Subscription) missBefore(after uint64) {
	if stored := s.hub.stored; after < stored {
		s.miss(after+1, stored, stored-after, true)
	}
}

// resume goes on after a number. The caller holds mu.
func (s *Subscription) resume(after uint64) {
	b := s.hub
	s.scanned = b.seq.Load()
	oldest := b.replay.oldest()
	if oldest == 0 {
		oldest = s.scanned + 1
	}
	if after+1 < oldest {
		// What still waits is older than what is missing. It joins the gap, so that the order stays.
		s.lose(len(s.waiting))
		s.miss(after+1, oldest-1, oldest-1-after, true)
	}
	found, skipped := b.replay.after(s.filter, after)
	if skipped > 0 {
		from := max(after+1, oldest)
		s.lose(len(s.waiting)) // likewise
		s.miss(from, skipped, skipped-from+1, true)
	}
	s.remember(found)
	s.signal()
}

// remember lets events wait that are older than all to come. The caller holds mu.
func (s *Subscription) remember(slots []*slot) {
	for _, x := range slots {
		s.waiting = append(s.waiting, entry{seq: x.handshake.Seq, n: 1, failed: 1, json: s.hub.json(x)})
	}
	s.limit = max(s.limit, waitingEvents+len(s.waiting))
}

// lose turns the n oldest events that wait into a gap. The caller holds mu.
func (s *Subscription) lose(n int) {
	if n == 0 {
		return
	}
	s.miss(s.waiting[0].seq, s.waiting[n-1].seq, uint64(n), false) //nolint:gosec // a length
	s.overrun += uint64(n)                                         //nolint:gosec // a length
	s.discard(n)
}

// discard forgets the n oldest events that wait. The caller holds mu.
func (s *Subscription) discard(n int) {
	clear(s.waiting[:n]) // so that their JSON is not kept alive
	s.waiting = s.waiting[n:]
}

// miss adds to the gap, which is ahead of all that waits. The caller holds mu.
func (s *Subscription) miss(from, to, count uint64, atMost bool) {
	if s.gap.Count == 0 {
		s.gap = Gap{Op: "gap", From: from}
	}
	s.gap.To = to
	s.gap.Count += count
	s.gap.AtMost = s.gap.AtMost || atMost
}

// offer lets the subscriber have an event, if its filter selects it. It runs in the hub's goroutine.
func (s *Subscription) offer(x *slot) {
	h := &x.handshake
	if !s.filter.Match(h) {
		return
	}
	if !h.Proof {
		s.cell.add(h)
	}
	if s.idle {
		return
	}
	if !s.sampler.take(!h.Verdict.Outcome.In(), s.hub.now) {
		s.dropped++
		return
	}
	s.push(x)
}

// amend lets the subscriber have the new state of an event, also where the filter selected only the old one. It is
// counted once, and never left out by sampling.
func (s *Subscription) amend(x *slot, shown bool, reason termination.Reason) {
	selected := s.filter.Match(&x.handshake)
	if selected && !x.handshake.Proof {
		s.cell.notes.add(reason, 1)
	}
	if (selected || shown) && !s.idle {
		s.push(x)
	}
}

func (s *Subscription) push(x *slot) {
	e := entry{seq: x.handshake.Seq, json: s.hub.json(x)}
	e.n, e.failed = s.sampler.rates()
	s.mu.Lock()
	if len(s.waiting) >= s.limit {
		s.lose(1)
	}
	first := len(s.waiting) == 0
	s.waiting = append(s.waiting, e)
	s.mu.Unlock()
	if first { // who waits for more than one has a timer already, and is not woken for each
		s.signal()
	}
}

// endSecond adds the counters of a second. all are those of every handshake, about is what concerns the stream.
func (s *Subscription) endSecond(t int64, all *second, about Stats, failing int) {
	own := second{time: t, cell: s.cell}
	everything := len(s.filter.Terms) == 0
	if everything {
		own.cell = all.cell
	}
	st := own.stats()
	st.Missed, st.Lost, st.Lag = about.Missed, about.Lost, about.Lag
	st.Dropped = s.dropped
	if everything {
		st.Failing = &failing
	}
	s.cell, s.dropped = cell{}, 0

	s.mu.Lock()
	st.Dropped += s.overrun
	s.overrun = 0
	s.hub.dropped.Add(st.Dropped)
	if !s.idle {
		s.scanned = s.hub.seq.Load()
	}
	if len(s.stats) >= waitingStats {
		s.stats = slices.Delete(s.stats, 0, 1)
	}
	s.stats = append(s.stats, st)
	s.mu.Unlock()
	s.signal()
}

func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next frame and returns it, as JSON that is good until the next call. Frames of events come every
// 50 ms at most, with 1,000 events at most. The error is [ErrClosed] or that of ctx.
func (s *Subscription) Next(ctx context.Context) ([]byte, error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-s.ended:
			return nil, ErrClosed
		default:
		}
		frame, wait, err := s.take(time.Now())
		if frame != nil || err != nil {
			return frame, err
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.ended:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take returns what is due, or how long to wait for more at most.
func (s *Subscription) take(now time.Time) (frame []byte, wait time.Duration, err error) {
	other, wait := s.pick(now)
	switch x := other.(type) {
	case nil:
		if len(s.batch) == 0 {
			return nil, wait, nil
		}
		return s.events(), 0, nil
	case Hi:
		x.Outcomes = termination.Outcomes()
		x.Reasons = titles()
		x.Endpoints, s.known = s.hub.endpointLegend(0)
		other = x
	}
	frame, err = json.Marshal(other)
	if err != nil {
		return nil, 0, fmt.Errorf("write frame: %w", err)
	}
	return frame, 0, nil
}

// pick takes one thing out of what waits: a frame, or events into batch.
func (s *Subscription) pick(now time.Time) (frame any, wait time.Duration) {
	s.batch = s.batch[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.others) > 0 {
		frame = s.others[0]
		s.others = slices.Delete(s.others, 0, 1)
		return frame, 0
	}
	if len(s.stats) > 0 {
		st := s.stats[0]
		s.stats = slices.Delete(s.stats, 0, 1)
		st.Seq = s.settled()
		return st, 0
	}
	if s.gap.Count == 0 && len(s.waiting) == 0 {
		return nil, time.Hour
	}
	if wait = s.nextEvents.Sub(now); wait > 0 {
		return nil, wait
	}
	if s.gap.Count > 0 {
		gap := s.gap
		s.gap = Gap{}
		return gap, 0
	}
	n := 1
	for n < min(len(s.waiting), frameEvents) && s.waiting[n].sameRates(s.waiting[0]) {
		n++
	}
	s.batch = append(s.batch, s.waiting[:n]...)
	s.discard(n)
	if len(s.waiting) < waitingEvents {
		s.limit = waitingEvents
	}
	s.nextEvents = now.Add(framePeriod)
	return nil, 0
}

// settled is the number up to which nothing is outstanding. The caller holds mu.
func (s *Subscription) settled() uint64 {
	switch {
	case s.gap.Count > 0:
		return s.gap.From - 1
	case len(s.waiting) > 0:
		return s.waiting[0].seq - 1
	}
	return s.scanned
}

func (e entry) sameRates(o entry) bool { return e.n == o.n && e.failed == o.failed }

// events writes the frame of batch.
func (s *Subscription) events() []byte {
	b := fmt.Appendf(s.frame[:0], `{"op":"ev","n":%d`, s.batch[0].n)
	if f := s.batch[0].failed; f > 1 {
		b = fmt.Appendf(b, `,"nf":%d`, f)
	}
	var added map[int]string
	if added, s.known = s.hub.endpointLegend(s.known); len(added) > 0 {
		if text, err := json.Marshal(added); err == nil { // a map of strings has no way to fail
			b = append(append(b, `,"endpoints":`...), text...)
		}
	}
	b = append(b, `,"e":[`...)
	for i, e := range s.batch {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.json...)
	}
	s.frame = append(b, "]}"...)
	return s.frame
}

// titles are the reasons' titles, by code.
func titles() map[termination.Reason]string {
	all := termination.Reasons()
	m := make(map[termination.Reason]string, len(all))
	for _, r := range all {
		m[r.Code] = r.Title
	}
	return m
}
