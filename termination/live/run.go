package live

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"countersign/termination"
)

// run is the hub's goroutine.
func (b *Hub) run() {
	defer close(b.done)
	second := time.NewTimer(untilNextSecond(b.start))
	defer second.Stop()
	flush := time.NewTicker(b.flush)
	defer flush.Stop()
	for {
		select {
		case r := <-b.queue:
			b.takeAll(r, takenAtOnce)
		case call := <-b.calls:
			b.now = time.Since(b.start)
			call()
		case now := <-second.C:
			b.endSecond(now)
			second.Reset(untilNextSecond(time.Now()))
		case <-flush.C:
			b.history.flush()
		case <-b.stop:
			b.finish()
			return
		}
	}
}

// untilNextSecond is a little more than what is left of the second, so that the timer does not ring within it.
func untilNextSecond(now time.Time) time.Duration {
	return now.Truncate(time.Second).Add(time.Second + time.Millisecond).Sub(now)
}

// finish takes what is still in the queue, and ends what depends on the hub.
func (b *Hub) finish() {
	b.closed.Store(true)
	select {
	case r := <-b.queue:
		b.takeAll(r, cap(b.queue)+takenAtOnce)
	default:
	}
	b.endSecond(time.Now())
	for _, s := range b.subscriptions {
		s.end()
	}
	b.subscriptions = nil
	b.watching.Store(0)
	b.history.finish(b.abandon)
}

// takeAll takes first and at most n more records that wait.
func (b *Hub) takeAll(first record, n int) {
	b.now = time.Since(b.start)
	b.worst = max(b.worst, b.now-first.at)
	b.take(first)
	for range n {
		select {
		case r := <-b.queue:
			b.take(r)
		default:
			return
		}
	}
}

func (b *Hub) take(r record) {
	if r.end != nil {
		b.complete(r.end)
		return
	}
	h := r.handshake
	h.Seq = b.nextSeq()
	b.number(h)
	if !h.Proof {
		h.New = b.letIn.first(h)
		b.counters.add(h)
		b.clients.add(h, b.counters.now)
	}
	b.observe(h)
	b.history.add(h)
	b.offer(b.replay.keep(h))
}

// complete hands an end to the history. Where it says that something went wrong after TLS, the handshake's row changes.
func (b *Hub) complete(end *termination.ConnectionEnd) {
	b.observeEnd(end)
	b.history.addEnd(end)
	if end.Reason == "" {
		return
	}
	old := b.replay.find(end.ID)
	if old != nil && old.handshake.Verdict.Reason == end.Reason {
		return // told already
	}
	if old == nil { // too long ago to be replayed; it is counted all the same
		b.counters.note(AllEndpoints, end.Reason)
		return
	}
	if !old.handshake.Proof {
		b.counters.note(old.handshake.EndpointID, end.Reason)
	}
	var shown [MaxSubscribers]bool // who was offered the row as it was
	for i, s := range b.subscriptions {
		shown[i] = s.filter.Match(&old.handshake)
	}
	amended := b.replay.amend(old, b.nextSeq(), end.Reason)
	for i, s := range b.subscriptions {
		s.amend(amended, shown[i], end.Reason)
	}
}

func (b *Hub) nextSeq() uint64 { return b.seq.Add(1) }

// number gives the endpoint of h a number in the legend, before any event of it goes out.
func (b *Hub) number(h *termination.Handshake) int {
	if h.Endpoint == "" {
		return 0
	}
	name := endpointName{h.EndpointID, h.Endpoint}
	n, ok := b.numbers[name]
	if !ok {
		legend := append(slices.Clone(*b.legend.Load()), h.Endpoint)
		n = len(legend)
		b.numbers[name] = n
		b.legend.Store(&legend)
	}
	return n
}

// json writes the event when somebody wants it, once for all.
func (b *Hub) json(s *slot) []byte {
	if s.json == nil {
		text, err := json.Marshal(newEvent(&s.handshake, b.number(&s.handshake), s.update))
		if err != nil { // numbers and texts: there is no such value, and a row without content is better than none
			text = fmt.Appendf(nil, `{"q":%d,"i":""}`, s.handshake.Seq)
		}
		s.json = text
	}
	return s.json
}

func (b *Hub) offer(s *slot) {
	for _, sub := range b.subscriptions {
		sub.offer(s)
	}
}

// endSecond closes the running second and tells every subscriber about it.
func (b *Hub) endSecond(now time.Time) {
	b.now = time.Since(b.start)
	ended := b.counters.now
	if now.Unix() == ended && !b.closed.Load() {
		return // the clock was set back a little: go on with this second
	}
	beside, missed := b.missed.take()
	cells := b.counters.endSecond(beside, now.Unix())
	b.clients.forget(now.Unix() - int64(counted/time.Second))
	b.lag.Store(int64(b.worst))
	about := Stats{Missed: missed, Lost: b.history.lost.Load(), Lag: milliseconds(b.worst)}
	b.worst = 0
	failing := b.clients.failing(ended-int64(failingPeriod/time.Second), AllEndpoints)
	for _, s := range b.subscriptions {
		s.endSecond(ended, &cells, about, failing)
	}
}

// call runs f in the hub's goroutine and waits for it; false when the hub is ending.
func (b *Hub) call(f func()) bool {
	finished := make(chan struct{})
	select {
	case b.calls <- func() { defer close(finished); f() }:
		<-finished
		return true
	case <-b.stop:
		return false
	}
}

// Status returns how the stream is doing.
func (b *Hub) Status() Status {
	s := Status{
		Seq: b.seq.Load(), Lost: b.history.lost.Load(), LostEnds: b.history.lostEnds.Load(),
		Subscribers: int(b.watching.Load()), Dropped: b.dropped.Load(), Queue: len(b.queue), QueueSize: cap(b.queue), Lag: time.Duration(b.lag.Load()),
	}
	s.Missed, s.MissedEnds = b.missed.totals()
	if err := b.history.lastError.Load(); err != nil {
		s.HistoryError = *err
	}
	return s
}

// endpointLegend returns the names after the first known ones, by number.
func (b *Hub) endpointLegend(known int) (map[int]string, int) {
	legend := *b.legend.Load()
	if known == len(legend) {
		return nil, known
	}
	added := make(map[int]string, len(legend)-known)
	for i := known; i < len(legend); i++ {
		added[i+1] = legend[i]
	}
	return added, len(legend)
}
