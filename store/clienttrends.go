package store

import (
	"context"
	"fmt"
	"time"

	"countersign/termination"
)

// ClientTrait is with what, from where or to where a client came, or why it failed.
type ClientTrait struct {
	Value         string // JA4, address, endpoint's ID or reason; hostile text
	Label         string // of an endpoint: its name of that time
	First, Last   time.Time
	LetIn, Failed int64 // handshakes
}

// ClientTraits are those of one client, the newest first. A few of each kind are kept: 16 kinds of software, 32 addresses
// and 32 endpoints; those that never came in go first.
type ClientTraits struct {
	Software, Addresses, Endpoints, Reasons []ClientTrait
}

// ClientTraits returns what is known of how a client came.
func (s *Store) ClientTraits(ctx context.Context, f termination.Fingerprint) (ClientTraits, error) {
	var out ClientTraits
	err := s.records.read(ctx, func(db *database) error {
		out = ClientTraits{}
		rows, err := db.reader.QueryContext(ctx, "SELECT kind, value, label, first, last, let_in, failed FROM client_traits WHERE fingerprint = ? ORDER BY last DESC, value", f[:])
		if err != nil {
			return fmt.Errorf("read how a client came: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var kind string
			var t ClientTrait
			var first, last int64
			if err := rows.Scan(&kind, &t.Value, &t.Label, &first, &last, &t.LetIn, &t.Failed); err != nil {
				return fmt.Errorf("read how a client came: %w", err)
			}
			t.First, t.Last = moment(first), moment(last)
			switch traitKind(kind) {
			case traitSoftware:
				out.Software = append(out.Software, t)
			case traitAddress:
				out.Addresses = append(out.Addresses, t)
			case traitEndpoint:
				out.Endpoints = append(out.Endpoints, t)
			case traitReason:
				out.Reasons = append(out.Reasons, t)
			}
		}
		return rows.Err()
	})
	return out, err
}

// TrendStep is how long one bar of a trend is.
type TrendStep time.Duration

// The steps.
const (
	TrendHours TrendStep = TrendStep(time.Hour)
	TrendDays  TrendStep = TrendStep(24 * time.Hour)
)

// bars is how many bars a trend has: two days of hours, thirty days of days.
func (s TrendStep) bars() int {
	if s == TrendHours {
		return 48
	}
	return 30
}

// TrendBar is how often something came within one step. Proofs are not counted.
type TrendBar struct {
	Time   time.Time // its beginning, in UTC
	LetIn  int64
	Failed int64
}

// trend is an empty one, up to the step that now is in.
func trend(now time.Time, step TrendStep) []TrendBar {
	out := make([]TrendBar, step.bars())
	last := now.UTC().Truncate(time.Duration(step))
	for i := range out {
		out[i].Time = last.Add(-time.Duration(len(out)-1-i) * time.Duration(step))
	}
	return out
}

// ClientTrend returns how often a client came, oldest first, one bar for each step. Hours are known of two days.
func (s *Store) ClientTrend(ctx context.Context, f termination.Fingerprint, step TrendStep) ([]TrendBar, error) {
	var out []TrendBar
	err := s.records.read(ctx, func(db *database) error {
		out = trend(s.now(), step)
		begin := hourOf(out[0].Time)
		rows, err := db.reader.QueryContext(ctx, `WITH RECURSIVE every(hour) AS (VALUES(?1) UNION ALL SELECT hour + 1 FROM every WHERE hour < ?2)
			SELECT c.hour, c.let_in, c.failed FROM every CROSS JOIN client_hours c ON c.hour = every.hour AND c.fingerprint = ?3`, begin, hourOf(s.now()), f[:])
		if err != nil {
			return fmt.Errorf("read the trend of a client: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var hour, letIn, failed int64
			if err := rows.Scan(&hour, &letIn, &failed); err != nil {
				return fmt.Errorf("read the trend of a client: %w", err)
			}
			bar := &out[(hour-begin)/int64(time.Duration(step)/time.Hour)]
			bar.LetIn, bar.Failed = bar.LetIn+letIn, bar.Failed+failed
		}
		return rows.Err()
	})
	return out, err
}

// EndpointTrend returns how often clients came to an endpoint, by its ID, oldest first, from the counters by minute.
func (s *Store) EndpointTrend(ctx context.Context, id string, step TrendStep) ([]TrendBar, error) {
	out := trend(s.now(), step)
	counts, err := s.Counts(ctx, CountQuery{Since: out[0].Time, Step: time.Duration(step), EndpointID: id})
	if err != nil {
		return nil, err
	}
	for _, c := range counts {
		i := int(c.Time.Sub(out[0].Time) / time.Duration(step))
		if i < 0 || i >= len(out) {
			continue
		}
		if c.Outcome.In() {
			out[i].LetIn += c.N
		} else {
			out[i].Failed += c.N
		}
	}
	return out, nil
}
