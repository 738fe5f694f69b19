package live

import (
	"time"

	"countersign/termination"
)

// AllEndpoints stands for every handshake, also those that led to no endpoint.
const AllEndpoints = ""

// Counts are exact numbers of handshakes. Those that the gateway made itself to prove a policy are left out.
type Counts struct {
	Verified, Open, Passed, Refused, ClientRefused, BrokenOff uint64

	Reasons map[termination.Reason]uint64 // why they failed
	Notes   map[termination.Reason]uint64 // reasons of handshakes that were let in, such as upstream_down

	KeyExchanges uint64 // handshakes whose key exchange is known
	PostQuantum  uint64 // of these, those with a post-quantum group

	P50, P95 time.Duration // without those that broke off; 0 when there are none
}

// In is the number of those that were let in.
func (c Counts) In() uint64 { return c.Verified + c.Open + c.Passed }

// Failed is the number of those that were not let in.
func (c Counts) Failed() uint64 { return c.Refused + c.ClientRefused + c.BrokenOff }

// Total is the number of all.
func (c Counts) Total() uint64 { return c.In() + c.Failed() }

func (c *cell) counts() Counts {
	return Counts{
		Verified: c.outcomes[0], Open: c.outcomes[1], Passed: c.outcomes[2],
		Refused: c.outcomes[3], ClientRefused: c.outcomes[4], BrokenOff: c.outcomes[5],
		Reasons: c.reasons.toMap(), Notes: c.notes.toMap(),
		KeyExchanges: c.keyExchanges, PostQuantum: c.postQuantum,
		P50: c.percentile(0.5), P95: c.percentile(0.95),
	}
}

// Counts returns the numbers of the last period, at most 15 minutes, in whole seconds, the running one included, for
// the endpoint with that ID or for [AllEndpoints]. A period of 0 means since the gateway started.
func (b *Hub) Counts(period time.Duration, endpointID string) Counts {
	c := &b.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.series(endpointID)
	if s == nil {
		return Counts{}
	}
	if period <= 0 {
		return s.total.counts()
	}
	var sum cell
	from := c.now - int64(period/time.Second)
	for i := range s.seconds {
		if s.seconds[i].time > from {
			sum.merge(&s.seconds[i].cell)
		}
	}
	return sum.counts()
}

// Second is one bar of the pulse.
type Second struct {
	Time   int64  // since 1970
	OK     uint64 // verified and open
	Open   uint64 // of these
	Passed uint64
	Failed uint64
}

// Series returns the last n whole seconds, at most 900, oldest first, one element for each second; for the endpoint
// with that ID or for [AllEndpoints].
func (b *Hub) Series(n int, endpointID string) []Second {
	n = max(0, min(n, int(counted/time.Second)))
	out := make([]Second, n)
	c := &b.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.now - int64(n)
	for i := range out {
		out[i].Time = from + int64(i)
	}
	s := c.series(endpointID)
	if s == nil {
		return out
	}
	for i := range s.seconds {
		x := &s.seconds[i]
		if at := x.time - from; at >= 0 && at < int64(n) {
			o := &out[at]
			o.OK += x.ok()
			o.Open += x.outcomes[1]
			o.Passed += x.passed()
			o.Failed += x.failed()
		}
	}
	return out
}

// Rate returns the handshakes per second over the last ten whole seconds.
func (b *Hub) Rate(endpointID string) float64 {
	const seconds = 10
	var sum uint64
	for _, s := range b.Series(seconds, endpointID) {
		sum += s.OK + s.Passed + s.Failed
	}
	return float64(sum) / seconds
}

func (c *counters) series(endpointID string) *series {
	if endpointID == AllEndpoints {
		return &c.all
	}
	return c.endpoints[endpointID]
}

// past returns the last whole seconds as frames of the stream, one for each.
func (c *counters) past(n int) []Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.now - int64(n)
	out := make([]Stats, n)
	for i := range out {
		out[i] = Stats{Op: "st", Time: from + int64(i)}
	}
	for i := range c.all.seconds {
		s := &c.all.seconds[i]
		if at := s.time - from; at >= 0 && at < int64(n) {
			out[at] = s.stats()
		}
	}
	return out
}

func (s *second) stats() Stats {
	return Stats{
		Op: "st", Time: s.time,
		OK: s.ok(), Open: s.outcomes[1], Passed: s.passed(), Failed: s.failed(),
		By: s.reasons.toMap(), Notes: s.notes.toMap(),
		P50: milliseconds(s.percentile(0.5)), P95: milliseconds(s.percentile(0.95)),
		KeyExchanges: s.keyExchanges, PostQuantum: s.postQuantum,
	}
}

// Status says how the stream itself is doing.
type Status struct {
	Seq              uint64        // of the newest event
	Missed           uint64        // handshakes that were counted, but neither shown nor stored: the queue was full
	MissedEnds       uint64        // ends of connections, likewise
	Lost             uint64        // handshakes that were shown but not stored: the history was too slow, or failed
	LostEnds         uint64        // ends of connections, likewise
	HistoryError     error         // of the last batch; nil when it was stored
	Subscribers      int           // at most [MaxSubscribers]
	Dropped          uint64        // events that subscribers were not shown, all of them together: sampled, or they were slow
	Queue, QueueSize int           // records that wait, and how many can
	Lag              time.Duration // how long a record waited at worst in the last whole second
}
