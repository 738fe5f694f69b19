package gateway

import (
	"maps"
	"sync"
	"time"

	"countersign/termination"
)

// maxRuleHits bounds the rules of one endpoint that are counted in a day; what edits leave behind counts until midnight.
const maxRuleHits = 4000

// ruleHits counts by which rule clients were let in or refused, since midnight. It is kept in memory and nowhere else.
type ruleHits struct {
	mu     sync.Mutex
	day    time.Time // its midnight
	since  time.Time // when counting began, on that day
	counts map[string]map[string]int64
}

// add counts a record by the rule that decided, if one did.
func (h *ruleHits) add(rec *termination.Handshake, now time.Time) {
	if rec.Verdict.Rule == "" || rec.Proof {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turn(now)
	of := h.counts[rec.EndpointID]
	if of == nil {
		of = map[string]int64{}
		h.counts[rec.EndpointID] = of
	}
	if _, known := of[rec.Verdict.Rule]; known || len(of) < maxRuleHits {
		of[rec.Verdict.Rule]++
	}
}

// turn forgets yesterday.
func (h *ruleHits) turn(now time.Time) {
	y, m, d := now.Date()
	day := time.Date(y, m, d, 0, 0, 0, 0, now.Location())
	if h.counts != nil && h.day.Equal(day) {
		return
	}
	h.since = day
	if h.counts == nil {
		h.since = now
	}
	h.day, h.counts = day, map[string]map[string]int64{}
}

// RuleHits returns how many clients of an endpoint each rule decided about today, by the rule as it stands in a file, and
// since when that was counted. A restart forgets it.
func (g *Gateway) RuleHits(endpointID string) (counts map[string]int64, since time.Time) {
	g.ruleHits.mu.Lock()
	defer g.ruleHits.mu.Unlock()
	g.ruleHits.turn(g.now())
	return maps.Clone(g.ruleHits.counts[endpointID]), g.ruleHits.since
}
