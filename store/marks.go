package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// MaxMarks is how many handshakes can be marked at a time: they are kept when others are deleted for their age.
const MaxMarks = 1000

// marksKeep is how long a mark keeps its handshake.
const marksKeep = countersKeep

// Marked is a mark with the handshake that has it.
type Marked struct {
	Handshake string // its ID
	Mark      termination.Mark
	Time      time.Time // when it was marked
	By        string
}

// SetMark gives the handshake with that ID, or an unambiguous beginning of it, a shape in the place of the one it has, and
// returns its whole ID. The empty mark takes it away. A [termination.ValidationError] says that there is no such shape, or
// that there are [MaxMarks] already.
func (s *Store) SetMark(ctx context.Context, actor Actor, ref string, mark termination.Mark) (string, error) {
	if err := actor.check(); err != nil {
		return "", err
	}
	if mark != "" && !mark.Known() {
		return "", fieldError(KindHandshake, "", "mark", "there is no such shape", "use star, square, triangle or diamond")
	}
	id := ""
	err := s.records.change(ctx, func(tx *sql.Tx) (err error) {
		seq, err := findHandshake(ctx, tx, ref)
		if err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, "SELECT id FROM handshakes WHERE seq = ?", seq).Scan(&id); err != nil {
			return fmt.Errorf("mark handshake: %w", err)
		}
		for _, query := range []string{"DELETE FROM marks WHERE seq = ?", "DELETE FROM marked_certificates WHERE seq = ?"} {
			if _, err := tx.ExecContext(ctx, query, seq); err != nil {
				return fmt.Errorf("mark handshake: %w", err)
			}
		}
		if mark == "" {
			return nil
		}
		return insertMark(ctx, tx, seq, mark, s.now(), actor.Name)
	})
	return id, err
}

func insertMark(ctx context.Context, tx *sql.Tx, seq int64, mark termination.Mark, now time.Time, by string) error {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM marks").Scan(&n); err != nil {
		return fmt.Errorf("count marks: %w", err)
	}
	if n >= MaxMarks {
		return fieldError(KindHandshake, "", "mark", fmt.Sprintf("%d handshakes are marked already", MaxMarks), "take the mark from some that nobody needs; is:marked lists them")
	}
	var record []byte
	if err := tx.QueryRowContext(ctx, "SELECT record FROM records WHERE seq = ?", seq).Scan(&record); err != nil {
		return fmt.Errorf("mark handshake: %w", err)
	}
	var chains struct{ Presented, Path []termination.Fingerprint }
	if err := json.Unmarshal(record, &chains); err != nil {
		return fmt.Errorf("read the certificates of a handshake: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO marks (seq, mark, marked, marked_by) VALUES (?, ?, ?, ?)", seq, string(mark), nanos(now), by); err != nil {
		return fmt.Errorf("mark handshake: %w", err)
	}
	for _, f := range append(chains.Presented, chains.Path...) {
		if _, err := tx.ExecContext(ctx, "INSERT INTO marked_certificates (fingerprint, seq) VALUES (?, ?) ON CONFLICT DO NOTHING", f[:], seq); err != nil {
			return fmt.Errorf("keep the certificates of a marked handshake: %w", err)
		}
	}
	return nil
}

// Marks lists what is marked, newest handshake first.
func (s *Store) Marks(ctx context.Context) ([]Marked, error) {
	var out []Marked
	err := s.records.read(ctx, func(db *database) error {
		out = nil
		rows, err := db.reader.QueryContext(ctx, "SELECT h.id, m.mark, m.marked, m.marked_by FROM marks m JOIN handshakes h ON h.seq = m.seq ORDER BY m.seq DESC")
		if err != nil {
			return fmt.Errorf("list marks: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var m Marked
			var at int64
			if err := rows.Scan(&m.Handshake, &m.Mark, &at, &m.By); err != nil {
				return fmt.Errorf("list marks: %w", err)
			}
			m.Time = time.Unix(0, at).UTC()
			out = append(out, m)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("list marks: %w", err)
		}
		return nil
	})
	return out, err
}

// markOf returns the mark of a record, if it has one.
func markOf(ctx context.Context, tx *sql.Tx, seq int64) (termination.Mark, error) {
	var m termination.Mark
	err := tx.QueryRowContext(ctx, "SELECT mark FROM marks WHERE seq = ?", seq).Scan(&m)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read mark of a handshake: %w", err)
	}
	return m, nil
}

// change runs f in a transaction on the one writer, between two batches.
func (h *history) change(ctx context.Context, f func(*sql.Tx) error) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.db == nil {
		return h.unavailable()
	}
	tx, err := h.db.writer.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return fmt.Errorf("begin to change the history: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("change the history: %w", err)
	}
	return nil
}

const (
	// unmarked leaves out what a mark keeps, in a statement about a table with the column seq.
	unmarked = "seq NOT IN (SELECT seq FROM marks)"
	// firstUnmarked is the lowest number of a handshake that no mark keeps.
	firstUnmarked = "(SELECT h.seq FROM handshakes h WHERE NOT EXISTS (SELECT 1 FROM marks m WHERE m.seq = h.seq) ORDER BY h.seq LIMIT 1)"
)

// forgetMarks takes the marks from handshakes that they have kept long enough, which then go as all others do.
func forgetMarks(ctx context.Context, tx *sql.Tx, now time.Time) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM marks WHERE NOT EXISTS (SELECT 1 FROM handshakes h WHERE h.seq = marks.seq AND h.time >= ?)", nanos(now.Add(-marksKeep)))
	if err == nil {
		_, err = tx.ExecContext(ctx, "DELETE FROM marked_certificates WHERE seq NOT IN (SELECT seq FROM marks)")
	}
	return err
}

// forgetAllMarks is the last resort where what is marked alone is more than the history may hold.
func forgetAllMarks(ctx context.Context, tx *sql.Tx) (bool, error) {
	res, err := tx.ExecContext(ctx, "DELETE FROM marks")
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
