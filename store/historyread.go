package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"countersign/termination"
)

// HistoryQuery chooses records. The zero value means the newest of all. The gateway's own proofs are in no list; each has
// its record, by ID.
type HistoryQuery struct {
	Filter   termination.Filter
	Before   uint64        // only sequence numbers below; 0: from the newest
	After    uint64        // only sequence numbers above
	Limit    int           // 0 means 200, at most 1000
	Patience time.Duration // how long to search before returning what was found so far; 0 means 800 ms
}

// HistoryPage is what a query found, newest first.
type HistoryPage struct {
	Records  []Record  // without their certificates
	Next     uint64    // Before of the next page; 0: there is nothing older
	Searched time.Time // the time down to which was searched; zero: all
}

// scanWindow is how many sequence numbers one statement looks at, so that a search can be given up in between.
const scanWindow = 20000

// window is how many are looked at at once for a condition: the fewer, the more there is to compare in each record. A filter
// may hold a hundred words.
func (c *condition) window() int64 {
	const least, cheap = 200, 8
	return max(least, scanWindow/int64(1+len(c.args)/cheap))
}

// Handshakes returns the records that a filter selects, newest first. When few match, it gives up after Patience, with
// what it has and Next to go on from.
func (s *Store) Handshakes(ctx context.Context, q HistoryQuery) (HistoryPage, error) {
	var page HistoryPage
	want := limit(q.Limit, 200, 1000)
	c, err := newCondition(q.Filter)
	if err != nil {
		return page, err
	}
	query := `SELECT h.seq, r.record, e.record, coalesce(m.mark, '') FROM handshakes h JOIN records r ON r.seq = h.seq LEFT JOIN ends e ON e.seq = h.seq LEFT JOIN marks m ON m.seq = h.seq
		WHERE h.seq >= ? AND h.seq <= ? AND h.proof = 0 AND ` + c.sql + ` ORDER BY h.seq DESC LIMIT ?`
	err = s.search(ctx, q, c, func(tx *sql.Tx, from, to int64) (next int64, err error) {
		args := append(append([]any{from, to}, c.args...), want-len(page.Records))
		last, err := s.appendRecords(ctx, tx, &page, query, args)
		if err != nil || len(page.Records) < want {
			return 0, err
		}
		return last, nil
	}, &page)
	return page, err
}

func (s *Store) appendRecords(ctx context.Context, tx *sql.Tx, page *HistoryPage, query string, args []any) (last int64, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("search the history: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var record, end []byte
		var mark termination.Mark
		if err := rows.Scan(&last, &record, &end, &mark); err != nil {
			return 0, fmt.Errorf("search the history: %w", err)
		}
		_, r, err := decodeRecord(record, end)
		if err != nil {
			s.log.Warn("a record of the history cannot be read", "seq", last, "error", err)
			continue
		}
		r.Mark = mark
		page.Records = append(page.Records, r)
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("search the history: %w", err)
	}
	return last, nil
}

// CountHandshakes counts the records that a query selects; its Limit has no meaning. searched is the time down to which
// was counted before Patience ended, zero when all were.
func (s *Store) CountHandshakes(ctx context.Context, q HistoryQuery) (n int64, searched time.Time, err error) {
	c, err := newCondition(q.Filter)
	if err != nil {
		return 0, searched, err
	}
	var page HistoryPage
	err = s.search(ctx, q, c, func(tx *sql.Tx, from, to int64) (int64, error) {
		var k int64
		err := tx.QueryRowContext(ctx, "SELECT count(*) FROM handshakes h WHERE h.seq >= ? AND h.seq <= ? AND h.proof = 0 AND "+c.sql, append([]any{from, to}, c.args...)...).Scan(&k)
		n += k
		if err != nil {
			return 0, fmt.Errorf("count in the history: %w", err)
		}
		return 0, nil
	}, &page)
	return n, page.Searched, err
}

// search calls look for windows of sequence numbers, newest first, until it returns where to go on, all was searched, or
// the query's patience ends. It sets Next and Searched of page.
func (s *Store) search(ctx context.Context, q HistoryQuery, c condition, look func(tx *sql.Tx, from, to int64) (next int64, err error), page *HistoryPage) error {
	patience := q.Patience
	if patience <= 0 {
		patience = 800 * time.Millisecond // so that whoever waits has an answer within a second
	}
	return s.records.read(ctx, func(db *database) error {
		*page = HistoryPage{}
		tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("begin to search the history: %w", err)
		}
		defer func() { _ = tx.Rollback() }()
		low, high, err := c.bounds(ctx, tx)
		if err != nil {
			return err
		}
		low = max(low, clampSeq(q.After)+1)
		if q.Before > 0 {
			high = min(high, clampSeq(q.Before)-1)
		}
		begun := time.Now()
		for high >= low {
			from := max(low, high-c.window()+1)
			next, err := look(tx, from, high)
			if err != nil {
				return err
			}
			high = from - 1
			if next > 0 {
				high = next - 1
			}
			if high >= low && (next > 0 || time.Since(begun) > patience) {
				page.Next = uint64(high + 1) //nolint:gosec // above low, which is above 0
				page.Searched, err = timeOf(ctx, tx, high+1)
				return err
			}
		}
		return nil
	})
}

func clampSeq(seq uint64) int64 { return int64(min(seq, 1<<62)) }

// timeOf returns the time of the first record from seq upwards.
func timeOf(ctx context.Context, tx *sql.Tx, seq int64) (time.Time, error) {
	var at int64
	err := tx.QueryRowContext(ctx, "SELECT time FROM handshakes WHERE seq >= ? ORDER BY seq LIMIT 1", seq).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("search the history: %w", err)
	}
	return time.Unix(0, at).UTC(), nil
}

// Handshake returns one record with its certificates. ref is its ID, in either case, or an unambiguous beginning of it.
func (s *Store) Handshake(ctx context.Context, ref string) (Record, error) {
	var r Record
	err := s.records.read(ctx, func(db *database) error {
		tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("begin to read the history: %w", err)
		}
		defer func() { _ = tx.Rollback() }()
		seq, err := findHandshake(ctx, tx, ref)
		if err != nil {
			return err
		}
		r, err = readRecord(ctx, tx, seq)
		return err
	})
	return r, err
}

func findHandshake(ctx context.Context, tx *sql.Tx, ref string) (int64, error) {
	unknown := NotFoundError{Kind: KindHandshake, Name: ref}
	prefix := termination.PrefixHandshake + "_"
	digits := ref
	if len(ref) >= len(prefix) && strings.EqualFold(ref[:len(prefix)], prefix) {
		digits = ref[len(prefix):]
	}
	digits = strings.ToUpper(digits)
	if digits == "" || strings.Trim(digits, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return 0, unknown
	}
	from := prefix + digits
	rows, err := tx.QueryContext(ctx, "SELECT seq, id FROM handshakes WHERE id >= ? AND id < ? ORDER BY id LIMIT 2", from, from+"~")
	if err != nil {
		return 0, fmt.Errorf("look for handshake: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var found []int64
	for rows.Next() {
		var seq int64
		var id string
		if err := rows.Scan(&seq, &id); err != nil {
			return 0, fmt.Errorf("look for handshake: %w", err)
		}
		if id == from {
			return seq, nil
		}
		found = append(found, seq)
	}
	switch err := rows.Err(); {
	case err != nil:
		return 0, fmt.Errorf("look for handshake: %w", err)
	case len(found) == 0:
		return 0, unknown
	case len(found) > 1:
		return 0, AmbiguousError{Kind: KindHandshake, Prefix: ref}
	}
	return found[0], nil
}

func readRecord(ctx context.Context, tx *sql.Tx, seq int64) (Record, error) {
	var record, end []byte
	err := tx.QueryRowContext(ctx, "SELECT r.record, e.record FROM records r LEFT JOIN ends e ON e.seq = r.seq WHERE r.seq = ?", seq).Scan(&record, &end)
	if err != nil {
		return Record{}, fmt.Errorf("read handshake: %w", err)
	}
	stored, r, err := decodeRecord(record, end)
	if err != nil {
		return Record{}, err
	}
	if r.Mark, err = markOf(ctx, tx, seq); err != nil {
		return Record{}, err
	}
	if r.Handshake.Presented, err = readChain(ctx, tx, stored.Presented); err != nil {
		return Record{}, err
	}
	r.Handshake.Path, err = readChain(ctx, tx, stored.Path)
	return r, err
}

func decodeRecord(record, end []byte) (storedHandshake, Record, error) {
	stored := storedHandshake{Handshake: &termination.Handshake{}}
	if err := json.Unmarshal(record, &stored); err != nil {
		return stored, Record{}, fmt.Errorf("read handshake: %w", err)
	}
	r := Record{Handshake: stored.Handshake}
	if end == nil {
		return stored, r, nil
	}
	r.End = &termination.ConnectionEnd{ID: r.Handshake.ID}
	if err := json.Unmarshal(end, r.End); err != nil {
		return stored, Record{}, fmt.Errorf("read end of connection: %w", err)
	}
	return stored, r, nil
}

// readChain returns certificates in order, up to the first that is not there: their places have a meaning.
func readChain(ctx context.Context, tx *sql.Tx, fingerprints []termination.Fingerprint) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, f := range fingerprints {
		var der []byte
		err := tx.QueryRowContext(ctx, "SELECT der FROM certificates WHERE fingerprint = ?", f[:]).Scan(&der)
		if errors.Is(err, sql.ErrNoRows) {
			return chain, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read certificate of a handshake: %w", err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return chain, nil //nolint:nilerr // as if it was not there
		}
		chain = append(chain, c)
	}
	return chain, nil
}
