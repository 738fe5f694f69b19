package live

import (
	"slices"
	"strings"

	"countersign/termination"
)

// replaySlots is how many slots are allocated at once: memory grows with use, and is used again from then on.
const replaySlots = 1024

// replay remembers the last events. It belongs to the hub's goroutine.
type replay struct {
	size   uint64
	blocks [][]slot
	count  uint64            // events ever kept
	byID   map[string]uint64 // handshake's ID to the number of its newest event, among those remembered
}

// slot holds what filters and rows need of a handshake: its certificates would take a hundred times the memory.
type slot struct {
	handshake termination.Handshake
	hello     termination.ClientHello
	chosen    termination.Negotiated
	update    bool
	replaced  bool   // by a later event of the same handshake
	json      []byte // written when first wanted, then never changed
}

func newReplay(size int) replay {
	blocks := (size + replaySlots - 1) / replaySlots
	return replay{
		size:   uint64(size), //nolint:gosec // checked by New
		blocks: make([][]slot, blocks),
		byID:   make(map[string]uint64),
	}
}

func (r *replay) slot(n uint64) *slot {
	i := n % r.size
	block := &r.blocks[i/replaySlots]
	if *block == nil {
		*block = make([]slot, replaySlots)
	}
	return &(*block)[i%replaySlots]
}

// next frees the slot of the oldest event.
func (r *replay) next(id string) *slot {
	s := r.slot(r.count)
	if old := s.handshake.ID; old != "" && r.byID[old] == r.count-r.size {
		delete(r.byID, old)
	}
	r.byID[id] = r.count
	r.count++
	return s
}

// keep remembers of a handshake what its event and the filters look at.
func (r *replay) keep(h *termination.Handshake) *slot {
	s := r.next(h.ID)
	s.update, s.replaced, s.json = false, false, nil
	s.handshake = termination.Handshake{
		ID: h.ID, Seq: h.Seq, Time: h.Time, Duration: h.Duration, Peer: h.Peer,
		EndpointID: h.EndpointID, Endpoint: h.Endpoint, Proof: h.Proof, New: h.New, Noise: h.Noise,
		Client: termination.ClientName{
			Name: keepText(h.Client.Name), Full: keepText(h.Client.Full), Fingerprint: h.Client.Fingerprint,
			Issuer: keepText(h.Client.Issuer), Authority: h.Client.Authority, Identity: h.Client.Identity,
		},
		Verdict: termination.Verdict{Outcome: h.Verdict.Outcome, Reason: h.Verdict.Reason, Beat: h.Verdict.Beat, WouldRefuse: h.Verdict.WouldRefuse},
	}
	if h.Hello != nil {
		s.hello = termination.ClientHello{ServerName: keepText(h.Hello.ServerName), JA4: keepText(h.Hello.JA4)}
		s.handshake.Hello = &s.hello
	}
	if h.Chosen != nil {
		s.chosen = *h.Chosen
		s.chosen.ALPN = keepText(s.chosen.ALPN)
		s.handshake.Chosen = &s.chosen
	}
	return s
}

// keepText bounds what hostile texts cost: a name on the wire has at most 255 bytes.
func keepText(s string) string {
	const most = 512
	if len(s) > most {
		return strings.Clone(s[:most])
	}
	return s
}

// find returns the newest event of a handshake, or nil.
func (r *replay) find(id string) *slot {
	n, ok := r.byID[id]
	if !ok {
		return nil
	}
	return r.slot(n)
}

// amend remembers a new event of an old handshake.
func (r *replay) amend(old *slot, seq uint64, reason termination.Reason) *slot {
	h := old.handshake // before its slot may be used again
	old.replaced = true
	s := r.keep(&h)
	s.update = true
	s.handshake.Seq = seq
	s.handshake.Verdict.Reason = reason
	return s
}

// maxCompared bounds how many values of a filter are held against remembered events at once: meanwhile the hub takes no
// records. All events are looked at with four values; a filter may have a hundred.
const maxCompared = 100_000

// reach is how many events are looked at for a filter.
func reach(f termination.Filter) int {
	values := 1
	for i := range f.Terms {
		values += len(f.Terms[i].Values)
	}
	return maxCompared / values
}

// each visits the remembered events that no later one replaces, newest first, until visit returns false.
func (r *replay) each(visit func(*slot) bool) {
	for n := r.count; n > 0 && r.count-n < r.size; n-- {
		if s := r.slot(n - 1); !s.replaced && !visit(s) {
			return
		}
	}
}

// oldest returns the number of the oldest event that is remembered, replaced or not; 0 if there is none.
func (r *replay) oldest() uint64 {
	if r.count == 0 {
		return 0
	}
	return r.slot(r.count - min(r.count, r.size)).handshake.Seq
}

// newest returns at most n events that f selects, oldest first.
func (r *replay) newest(f termination.Filter, n int) []*slot {
	var found []*slot
	left := reach(f)
	r.each(func(s *slot) bool {
		left--
		if len(found) < n && f.Match(&s.handshake) {
			found = append(found, s)
		}
		return len(found) < n && left > 0
	})
	slices.Reverse(found)
	return found
}

// after returns the remembered events that f selects and that follow seq, oldest first. Those up to skipped were not looked
// at: there are too many for such a filter; 0: all were.
func (r *replay) after(f termination.Filter, seq uint64) (found []*slot, skipped uint64) {
	left := reach(f)
	r.each(func(s *slot) bool {
		if s.handshake.Seq <= seq {
			return false
		}
		if left == 0 {
			skipped = s.handshake.Seq
			return false
		}
		left--
		if f.Match(&s.handshake) {
			found = append(found, s)
		}
		return true
	})
	slices.Reverse(found)
	return found, skipped
}
