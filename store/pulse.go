package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"countersign/termination"
)

// PulseQuery chooses the recorded handshakes of a period.
type PulseQuery struct {
	Filter       termination.Filter
	Since, Until time.Time     // zero Until: now
	Step         time.Duration // of a bar, at least a second
	Patience     time.Duration // as in [HistoryQuery]
}

// Pulse sums up the recorded handshakes of a period. The gateway's own proofs are not in it.
type Pulse struct {
	Steps        []PulseStep // one for each step of the period, oldest first
	Reasons      map[termination.Reason]uint64
	KeyExchanges uint64        // handshakes whose key exchange is known
	PostQuantum  uint64        // of these
	P50, P95     time.Duration // without those that broke off; exact to a twentieth
	Failing      int           // clients whose last handshake failed; at most [maxFailing] are told apart
	Searched     time.Time     // the time down to which was looked; zero: the whole period
}

// PulseStep is one bar.
type PulseStep struct {
	Time                           time.Time // when it begins
	Verified, Open, Passed, Failed uint64
}

// Add counts handshakes of one outcome.
func (s *PulseStep) Add(o termination.Outcome, n uint64) {
	switch o {
	case termination.OutcomeVerified:
		s.Verified += n
	case termination.OutcomeOpen:
		s.Open += n
	case termination.OutcomePassed:
		s.Passed += n
	case termination.OutcomeRefused, termination.OutcomeClientRefused, termination.OutcomeBrokenOff:
		s.Failed += n
	}
}

const (
	maxPulseSteps = 1000
	maxFailing    = 4096 // as many clients as the live counters remember
)

// PulseSteps returns empty steps that cover a period.
func PulseSteps(since, until time.Time, step time.Duration) []PulseStep {
	n := int(min(max(until.Sub(since)+step-1, 0)/max(step, time.Second), maxPulseSteps))
	out := make([]PulseStep, n)
	for i := range out {
		out[i].Time = since.Add(step * time.Duration(i))
	}
	return out
}

// Pulse looks at every record of a period that a filter selects, newest first, until its patience ends.
func (s *Store) Pulse(ctx context.Context, q PulseQuery) (Pulse, error) {
	if q.Until.IsZero() {
		q.Until = s.now()
	}
	q.Step = max(q.Step, time.Second)
	c, err := newCondition(q.Filter)
	if err != nil {
		return Pulse{}, err
	}
	c.since, c.until = max(c.since, nanos(q.Since)), min(c.until, nanos(q.Until))
	sum := pulseSum{since: nanos(q.Since), step: int64(q.Step)}
	query := `SELECT h.time, h.duration, h.outcome, h.reason, coalesce(h.key_group, 0), coalesce(h.pq, 0),
			coalesce(h.client_full, h.client), h.address, coalesce(h.ja4, '')
		FROM handshakes h WHERE h.seq >= ? AND h.seq <= ? AND h.proof = 0 AND h.time >= ? AND h.time < ? AND ` + c.sql + ` ORDER BY h.seq DESC`
	var page HistoryPage
	history := HistoryQuery{Filter: q.Filter, Patience: q.Patience}
	err = s.search(ctx, history, c, func(tx *sql.Tx, from, to int64) (int64, error) {
		if sum.clients == nil || to >= sum.first {
			// Windows go down. One above the first says that the history is read again, in another file.
			sum.reset(PulseSteps(q.Since, q.Until, q.Step), to)
		}
		return 0, sum.window(ctx, tx, query, append([]any{from, to, c.since, c.until}, c.args...))
	}, &page)
	if sum.clients == nil {
		sum.reset(PulseSteps(q.Since, q.Until, q.Step), 0)
	}
	sum.Searched = page.Searched
	sum.P50, sum.P95 = sum.percentile(0.5), sum.percentile(0.95)
	return sum.Pulse, err
}

// pulseSum adds rows up.
type pulseSum struct {
	Pulse
	since, step int64
	first       int64             // where the first window ended
	clients     map[string]string // by who, how the newest handshake ended
	durations   map[int]uint64    // by bucket, twenty to a doubling
	timed       uint64
}

func (p *pulseSum) reset(steps []PulseStep, first int64) {
	p.Pulse = Pulse{Steps: steps, Reasons: map[termination.Reason]uint64{}}
	p.first, p.timed = first, 0
	p.clients, p.durations = map[string]string{}, map[int]uint64{}
}

func (p *pulseSum) window(ctx context.Context, tx *sql.Tx, query string, args []any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("sum up the history: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var at, duration, group, pq int64
		var outcome termination.Outcome
		var reason termination.Reason
		var client, address, ja4 string
		if err := rows.Scan(&at, &duration, &outcome, &reason, &group, &pq, &client, &address, &ja4); err != nil {
			return fmt.Errorf("sum up the history: %w", err)
		}
		if i := (at - p.since) / p.step; i >= 0 && i < int64(len(p.Steps)) {
			p.Steps[i].Add(outcome, 1)
		}
		if !outcome.In() {
			p.Reasons[reason]++
		}
		if group != 0 || pq != 0 {
			p.KeyExchanges++
			p.PostQuantum += uint64(pq) //nolint:gosec // 0 or 1
		}
		if outcome != termination.OutcomeBrokenOff { // how long somebody was silent says nothing about handshakes
			p.durations[int(20*math.Log2(float64(max(duration, 1))))]++
			p.timed++
		}
		p.see(outcome, client, address, ja4)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("sum up the history: %w", err)
	}
	return nil
}

// see takes note of a client. Rows come newest first, so the first one of each says how it stands.
func (p *pulseSum) see(outcome termination.Outcome, client, address, ja4 string) {
	who := client
	if who == "" {
		who = address + "\x00" + ja4
	}
	if _, known := p.clients[who]; known || len(p.clients) >= maxFailing {
		return
	}
	p.clients[who] = string(outcome)
	if !outcome.In() {
		p.Failing++
	}
}

func (p *pulseSum) percentile(share float64) time.Duration {
	rank := share * float64(p.timed)
	for bucket := range 20 * 64 {
		n := float64(p.durations[bucket])
		if n > 0 && rank <= n {
			return time.Duration(math.Exp2((float64(bucket) + rank/n) / 20))
		}
		rank -= n
	}
	return 0
}
