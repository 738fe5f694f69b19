package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"countersign/termination"
)

// condition is a filter in SQL, over the columns of handshakes under the name h. It selects what [termination.Filter.Match]
// selects; text that is not UTF-8 is compared as [column] stores it.
type condition struct {
	sql   string
	args  []any
	since int64 // nanoseconds; no record before it matches
	until int64 // nor any from here on
}

func newCondition(f termination.Filter) (condition, error) {
	c := condition{since: math.MinInt64, until: math.MaxInt64}
	terms := []string{"TRUE"}
	for _, t := range f.Terms {
		term, err := c.term(t)
		if err != nil {
			return c, err
		}
		terms = append(terms, term)
	}
	c.sql = strings.Join(terms, " AND ")
	return c, nil
}

func (c *condition) arg(v any) string {
	c.args = append(c.args, v)
	return "?"
}

func (c *condition) term(t termination.FilterTerm) (string, error) {
	values := make([]string, 0, len(t.Values))
	for _, v := range t.Values {
		s, err := c.value(t.Key, v)
		if err != nil {
			return "", err
		}
		values = append(values, s)
	}
	if len(values) == 0 {
		values = []string{"FALSE"}
	}
	if !t.Negate {
		c.narrow(t)
		return "((" + strings.Join(values, ") OR (") + ")) IS TRUE", nil
	}
	// A column that is NULL, for want of a ClientHello or a certificate, has none of the values.
	return "((" + strings.Join(values, ") OR (") + ")) IS NOT TRUE", nil
}

// narrow takes over the times between which all that matches lies.
func (c *condition) narrow(t termination.FilterTerm) {
	if len(t.Values) != 1 {
		return
	}
	switch at := nanos(t.Values[0].Time); t.Key {
	case termination.FilterSince:
		c.since = max(c.since, at)
	case termination.FilterUntil:
		c.until = min(c.until, at)
	default: // says nothing about time
	}
}

func (c *condition) value(key termination.FilterKey, v termination.FilterValue) (string, error) {
	switch key {
	case termination.FilterText:
		return c.word(v), nil
	case termination.FilterOutcome:
		return c.in("h.outcome", texts(v.Outcomes)), nil
	case termination.FilterReason:
		return c.in("h.reason", texts(v.Reasons)), nil
	case termination.FilterBeat:
		return "h.beat = " + c.arg(int64(v.Number)), nil
	case termination.FilterEndpoint:
		return c.text("h.endpoint", v), nil
	case termination.FilterSNI:
		return c.text("h.sni", v), nil
	case termination.FilterClient:
		return c.text("h.client", v) + " OR " + c.text("h.client_full", v), nil
	case termination.FilterIdentity:
		return c.text("coalesce(h.identity, '')", v), nil
	case termination.FilterCA:
		return c.text("h.authority", v) + " OR " + c.text("h.issuer", v), nil
	case termination.FilterFP:
		return c.fingerprint(v.Text)
	case termination.FilterIP:
		return c.network(v.Prefix), nil
	case termination.FilterTLS:
		return "h.version = " + c.arg(int64(v.Number)), nil
	case termination.FilterKX:
		return "h.key_group = " + c.arg(int64(v.Number)), nil
	case termination.FilterIs:
		switch v.Text {
		case termination.FilterPQ:
			return "h.pq", nil
		case termination.FilterNew:
			return "h.first_in", nil
		case termination.FilterWouldRefuse:
			// Few are open for a reason, so that their records can be looked into, and every other one is spared a column.
			return "h.outcome = " + c.arg(string(termination.OutcomeOpen)) + ` AND h.reason <> ''
				AND (SELECT json_extract(CAST(r.record AS TEXT), '$.verdict.would_refuse') FROM records r WHERE r.seq = h.seq)`, nil
		case termination.FilterNoise:
			return c.noise(), nil
		case termination.FilterMarked:
			return "EXISTS (SELECT 1 FROM marks m WHERE m.seq = h.seq)", nil
		}
		return "FALSE", nil
	case termination.FilterALPN:
		return c.text("h.alpn", v), nil
	case termination.FilterJA4:
		return c.text("h.ja4", v), nil
	case termination.FilterMS:
		return c.duration(v)
	case termination.FilterSince:
		return "h.time >= " + c.arg(nanos(v.Time)), nil
	case termination.FilterUntil:
		return "h.time < " + c.arg(nanos(v.Time)), nil
	}
	return "", fmt.Errorf("the history cannot be searched by %q", key)
}

func texts[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

func (c *condition) in(column string, values []string) string {
	if len(values) == 0 {
		return "FALSE"
	}
	marks := make([]string, len(values))
	for i, v := range values {
		marks[i] = c.arg(v)
	}
	return column + " IN (" + strings.Join(marks, ", ") + ")"
}

// text compares a whole text, without regard to the case of ASCII letters, as NOCASE and LIKE do.
func (c *condition) text(name string, v termination.FilterValue) string {
	if v.Pattern {
		return name + " <> '' AND " + name + " LIKE " + c.arg(likePattern(v)) + ` ESCAPE '\'`
	}
	return name + " = " + c.arg(column(v.Text)) + " COLLATE NOCASE"
}

// word looks a bare word up where people look: who, which name, from where, why.
func (c *condition) word(v termination.FilterValue) string {
	parts := []string{c.in("h.reason", texts(v.Reasons))}
	for _, name := range []string{"h.client", "h.client_full", "h.sni", "h.address"} {
		parts = append(parts, name+" LIKE "+c.arg("%"+likePattern(v)+"%")+` ESCAPE '\'`)
	}
	return strings.Join(parts, " OR ")
}

// likePattern escapes what LIKE would take for a wildcard; only the asterisks of a pattern become one.
func likePattern(v termination.FilterValue) string {
	p := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(column(v.Text))
	if v.Pattern {
		p = strings.ReplaceAll(p, "*", "%")
	}
	return p
}

// fingerprint compares the beginning of a fingerprint: all that begin with those digits lie between two values.
func (c *condition) fingerprint(digits string) (string, error) {
	const size = 2 * len(termination.Fingerprint{})
	digits = digits[:min(len(digits), size)]
	low, err := hex.DecodeString(digits + strings.Repeat("0", size-len(digits)))
	if err != nil {
		return "", fmt.Errorf("read fingerprint of the filter: %w", err)
	}
	high, err := hex.DecodeString(digits + strings.Repeat("f", size-len(digits)))
	if err != nil {
		return "", fmt.Errorf("read fingerprint of the filter: %w", err)
	}
	return "h.fingerprint BETWEEN " + c.arg(low) + " AND " + c.arg(high), nil
}

// network compares addresses of one family; those of a network lie between its first and its last.
func (c *condition) network(p netip.Prefix) string {
	if !p.IsValid() {
		return "FALSE"
	}
	low := p.Masked().Addr().AsSlice()
	high := append([]byte(nil), low...)
	for bit := p.Bits(); bit < 8*len(high); bit++ {
		high[bit/8] |= 0x80 >> (bit % 8)
	}
	return "length(h.ip) = " + c.arg(len(low)) + " AND h.ip BETWEEN " + c.arg(low) + " AND " + c.arg(high)
}

func (c *condition) duration(v termination.FilterValue) (string, error) {
	switch v.Compare {
	case termination.Less, termination.LessOrEqual, termination.Greater, termination.GreaterOrEqual:
		return "h.duration " + string(v.Compare) + " " + c.arg(int64(v.Duration)), nil
	}
	return "", fmt.Errorf("the history cannot be compared by %q", v.Compare)
}

// bounds returns the lowest and the highest sequence number that can match. Times and sequence numbers do not always
// rise together, since clocks are set; the table of minutes knows where each minute lies.
func (c *condition) bounds(ctx context.Context, tx *sql.Tx) (low, high int64, err error) {
	var first, last sql.NullInt64
	err = tx.QueryRowContext(ctx, "SELECT min(first_seq), max(last_seq) FROM minutes WHERE minute >= ? AND minute <= ?",
		floorMinute(c.since), floorMinute(c.until)).Scan(&first, &last)
	if err != nil {
		return 0, 0, fmt.Errorf("search the history: %w", err)
	}
	if !first.Valid {
		return 1, 0, nil
	}
	return first.Int64, last.Int64, nil
}

func floorMinute(ns int64) int64 {
	if ns < 0 {
		return math.MinInt64
	}
	return ns / int64(time.Minute)
}

// noise, too, is looked up in the records of the few that can be it.
func (c *condition) noise() string {
	var marks []string
	for _, r := range termination.NoiseReasons() {
		marks = append(marks, c.arg(string(r)))
	}
	return "h.reason IN (" + strings.Join(marks, ", ") + `)
		AND (SELECT json_extract(CAST(r.record AS TEXT), '$.noise') IS NOT NULL FROM records r WHERE r.seq = h.seq)`
}
