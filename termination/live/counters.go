package live

import (
	"math/bits"
	"slices"
	"sync"
	"time"

	"countersign/termination"
)

// counted is how long single seconds are remembered.
const counted = 15 * time.Minute

// outcomes is the number of outcomes.
const outcomes = 6

// outcomeIndex returns o's place in [termination.Outcomes], without making that list each time.
func outcomeIndex(o termination.Outcome) int {
	switch o {
	case termination.OutcomeVerified:
		return 0
	case termination.OutcomeOpen:
		return 1
	case termination.OutcomePassed:
		return 2
	case termination.OutcomeRefused:
		return 3
	case termination.OutcomeClientRefused:
		return 4
	case termination.OutcomeBrokenOff:
	}
	return 5
}

// tally counts few different things. It is smaller than a map, and as quick while they are few.
type tally[K comparable] []tallied[K]

type tallied[K comparable] struct {
	what  K
	count uint64
}

func (t *tally[K]) add(what K, n uint64) {
	for i := range *t {
		if (*t)[i].what == what {
			(*t)[i].count += n
			return
		}
	}
	*t = append(*t, tallied[K]{what, n})
}

func (t *tally[K]) merge(o tally[K]) {
	for _, x := range o {
		t.add(x.what, x.count)
	}
}

func (t tally[K]) toMap() map[K]uint64 {
	if len(t) == 0 {
		return nil
	}
	m := make(map[K]uint64, len(t))
	for _, x := range t {
		m[x.what] = x.count
	}
	return m
}

// cell counts the handshakes of one span of time.
type cell struct {
	outcomes     [outcomes]uint64
	keyExchanges uint64 // known
	postQuantum  uint64 // of these
	reasons      tally[termination.Reason]
	notes        tally[termination.Reason]
	durations    tally[uint8]
}

func (c *cell) add(h *termination.Handshake) {
	c.outcomes[outcomeIndex(h.Verdict.Outcome)]++
	if h.Chosen != nil && (h.Chosen.Group != 0 || h.Chosen.PostQuantum) {
		c.keyExchanges++
		if h.Chosen.PostQuantum {
			c.postQuantum++
		}
	}
	switch {
	case h.Verdict.Reason == "":
	case h.Verdict.Outcome.In():
		c.notes.add(h.Verdict.Reason, 1)
	default:
		c.reasons.add(h.Verdict.Reason, 1)
	}
	if h.Verdict.Outcome != termination.OutcomeBrokenOff { // how long somebody was silent says nothing about handshakes
		c.durations.add(durationBucket(h.Duration), 1)
	}
}

func (c *cell) merge(o *cell) {
	for i, n := range o.outcomes {
		c.outcomes[i] += n
	}
	c.keyExchanges += o.keyExchanges
	c.postQuantum += o.postQuantum
	c.reasons.merge(o.reasons)
	c.notes.merge(o.notes)
	c.durations.merge(o.durations)
}

// durationBucket numbers spans that are an eighth of an octave wide: the first ends at 32 µs, the last holds all above
// two minutes.
func durationBucket(d time.Duration) uint8 {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 32 {
		return 0
	}
	octave := bits.Len64(us) - 1
	n := (octave-5)*8 + int(us>>(octave-3)&7) + 1
	return uint8(min(n, 8*22)) //nolint:gosec // bounded
}

// bucketStart is the shortest duration of a bucket.
func bucketStart(bucket uint8) time.Duration {
	if bucket == 0 {
		return 0
	}
	n := uint64(bucket - 1)
	return time.Duration((8+n%8)<<(n/8+2)) * time.Microsecond //nolint:gosec // at most two minutes
}

// percentile returns the duration that a share of all durations does not exceed, as exactly as the buckets allow.
func (c *cell) percentile(share float64) time.Duration {
	sorted := slices.Clone(c.durations)
	slices.SortFunc(sorted, func(a, b tallied[uint8]) int { return int(a.what) - int(b.what) })
	var all uint64
	for _, x := range sorted {
		all += x.count
	}
	rank := share * float64(all)
	for _, x := range sorted {
		if rank <= float64(x.count) {
			from, to := bucketStart(x.what), bucketStart(x.what+1)
			return from + time.Duration(rank/float64(x.count)*float64(to-from))
		}
		rank -= float64(x.count)
	}
	return 0
}

func (c *cell) ok() uint64     { return c.outcomes[0] + c.outcomes[1] }
func (c *cell) passed() uint64 { return c.outcomes[2] }
func (c *cell) failed() uint64 { return c.outcomes[3] + c.outcomes[4] + c.outcomes[5] }

// second is what happened in one second.
type second struct {
	time int64 // since 1970
	cell
}

// series are the counters of all endpoints together, or of one.
type series struct {
	total   cell
	seconds []second // oldest first; only those in which something happened
}

func (s *series) at(t int64) *cell {
	if n := len(s.seconds); n == 0 || s.seconds[n-1].time != t {
		s.seconds = append(s.seconds, second{time: t})
	}
	return &s.seconds[len(s.seconds)-1].cell
}

// forget drops the seconds before t.
func (s *series) forget(t int64) {
	n := 0
	for n < len(s.seconds) && s.seconds[n].time < t {
		n++
	}
	if n > 0 {
		s.seconds = slices.Delete(s.seconds, 0, n)
	}
}

// counters count every handshake, by endpoint and by second.
type counters struct {
	mu        sync.Mutex
	now       int64 // the running second
	all       series
	endpoints map[string]*series // by ID
}

func (c *counters) add(h *termination.Handshake) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.total.add(h)
	c.all.at(c.now).add(h)
	if e := c.endpoint(h.EndpointID); e != nil {
		e.total.add(h)
		e.at(c.now).add(h)
	}
}

// note counts a reason that became known only after the handshake.
func (c *counters) note(endpointID string, r termination.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.total.notes.add(r, 1)
	c.all.at(c.now).notes.add(r, 1)
	if e := c.endpoint(endpointID); e != nil {
		e.total.notes.add(r, 1)
		e.at(c.now).notes.add(r, 1)
	}
}

// endpoint returns the counters of an endpoint; nil for handshakes that led to none.
func (c *counters) endpoint(id string) *series {
	if id == "" {
		return nil
	}
	e := c.endpoints[id]
	if e == nil {
		e = new(series)
		c.endpoints[id] = e
	}
	return e
}

// second is the running second.
func (c *counters) second() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// endSecond adds what was counted beside the queue, returns the counters of the second that ends, and begins that of
// next.
func (c *counters) endSecond(beside map[string]*cell, next int64) second {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, missed := range beside {
		c.all.total.merge(missed)
		c.all.at(c.now).merge(missed)
		if e := c.endpoint(id); e != nil {
			e.total.merge(missed)
			e.at(c.now).merge(missed)
		}
	}
	ended := second{time: c.now}
	if n := len(c.all.seconds); n > 0 && c.all.seconds[n-1].time == c.now {
		ended.merge(&c.all.seconds[n-1].cell) // a copy: late counts may still change this one
	}
	c.now = next
	oldest := next - int64(counted/time.Second)
	c.all.forget(oldest)
	for _, e := range c.endpoints {
		e.forget(oldest)
	}
	return ended
}

// missed counts handshakes that found the queue full. It is used by the connections' own goroutines.
type missed struct {
	mu    sync.Mutex
	total uint64 // handshakes, since the start
	ends  uint64
	cells map[string]*cell // by endpoint ID, since the hub last took them; proofs are not in it
}

func (m *missed) add(h *termination.Handshake) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	if h.Proof {
		return
	}
	c := m.cells[h.EndpointID]
	if c == nil {
		c = new(cell)
		if m.cells == nil {
			m.cells = make(map[string]*cell)
		}
		m.cells[h.EndpointID] = c
	}
	c.add(h)
}

func (m *missed) addEnd() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends++
}

// take returns the counters since the last call, and how much was missed in all.
func (m *missed) take() (cells map[string]*cell, total uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cells, m.cells = m.cells, nil
	return cells, m.total
}

func (m *missed) totals() (handshakes, ends uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total, m.ends
}
