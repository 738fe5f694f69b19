package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"countersign/termination"
)

// Count is how many handshakes of one kind there were from a time on. Proofs are not counted.
type Count struct {
	Time       time.Time // beginning of the step
	EndpointID string    // empty where none was reached
	Outcome    termination.Outcome
	Reason     termination.Reason
	N          int64
}

// CountQuery chooses counters. They are exact to the minute: those of the minute that Since and Until lie in are in.
type CountQuery struct {
	Since, Until time.Time     // zero Until: now
	Step         time.Duration // whole minutes; 0: one step for all
	EndpointID   string        // empty: all
}

// Counts returns stored counters, oldest first. They outlive the records that they count.
func (s *Store) Counts(ctx context.Context, q CountQuery) ([]Count, error) {
	if q.Until.IsZero() {
		q.Until = s.now()
	}
	from, to := floorMinute(nanos(q.Since)), floorMinute(nanos(q.Until))
	step := int64(q.Step / time.Minute)
	if step <= 0 {
		step = max(to-from+1, 1)
	}
	var out []Count
	err := s.records.read(ctx, func(db *database) error {
		out = nil
		rows, err := db.reader.QueryContext(ctx, `
			SELECT ?1 + (minute - ?1) / ?3 * ?3, endpoint_id, outcome, reason, sum(count) FROM counters
			WHERE minute >= ?1 AND minute <= ?2 AND (?4 = '' OR endpoint_id = ?4) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`, from, to, step, q.EndpointID)
		if err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var c Count
			var minute int64
			if err := rows.Scan(&minute, &c.EndpointID, &c.Outcome, &c.Reason, &c.N); err != nil {
				return fmt.Errorf("read counters: %w", err)
			}
			c.Time = time.Unix(minute*60, 0).UTC()
			out = append(out, c)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("read counters: %w", err)
		}
		return nil
	})
	return out, err
}

// AuthorityClients returns how many different client certificates each authority let in since a time, by the
// authority's name. It looks at every record since then.
func (s *Store) AuthorityClients(ctx context.Context, since time.Time) (map[string]int64, error) {
	var out map[string]int64
	err := s.records.read(ctx, func(db *database) error {
		out = map[string]int64{}
		rows, err := db.reader.QueryContext(ctx, `
			SELECT authority, count(DISTINCT fingerprint) FROM handshakes
			WHERE seq >= (SELECT min(first_seq) FROM minutes WHERE minute >= ?) AND time >= ? AND outcome = ? AND authority <> '' AND proof = 0
			GROUP BY authority`, floorMinute(nanos(since)), nanos(since), string(termination.OutcomeVerified))
		if err != nil {
			return fmt.Errorf("count clients: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var name string
			var n int64
			if err := rows.Scan(&name, &n); err != nil {
				return fmt.Errorf("count clients: %w", err)
			}
			out[name] = n
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("count clients: %w", err)
		}
		return nil
	})
	return out, err
}

// HasHandshakes reports whether any client's handshake was ever recorded, whether or not it is kept.
func (s *Store) HasHandshakes(ctx context.Context) (bool, error) {
	var seen bool
	err := s.records.read(ctx, func(db *database) error {
		if err := db.reader.QueryRowContext(ctx, "SELECT seen FROM state").Scan(&seen); err != nil {
			return fmt.Errorf("read the history's state: %w", err)
		}
		return nil
	})
	return seen, err
}

// Status is how the store is, for the status line and diagnostics.
type Status struct {
	ConfigurationBytes int64     // with what SQLite keeps beside the file
	HistoryBytes       int64     // likewise
	Oldest             time.Time // of the records that are kept; zero: there is none
	Dropped            uint64    // records that could not be stored since the start
	Failure            string    // why the last batch could not be stored; empty: it was
}

// Status returns sizes and the state of the history.
func (s *Store) Status(ctx context.Context) (Status, error) {
	v := Status{
		ConfigurationBytes: bytesOf(configurationKind().path(s.dir)),
		HistoryBytes:       bytesOf(historyKind().path(s.dir)),
	}
	v.Dropped, v.Failure = s.records.status()
	err := s.records.read(ctx, func(db *database) error {
		var at int64
		err := db.reader.QueryRowContext(ctx, "SELECT time FROM handshakes ORDER BY seq LIMIT 1").Scan(&at)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("look for the oldest handshake: %w", err)
		}
		v.Oldest = time.Unix(0, at).UTC()
		return nil
	})
	return v, err
}

func bytesOf(path string) int64 {
	var sum int64
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			sum += info.Size()
		}
	}
	return sum
}
