package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"countersign/termination"
)

const (
	retentionEvery  = time.Minute
	retentionWindow = 500                  // records looked at in one transaction, so that writes never wait long
	retentionPages  = 512                  // pages given back to the file system in one step
	countersKeep    = 400 * 24 * time.Hour // of the counters by minute, which are small
)

// startRetention begins to delete what is too old or too much, until close.
func (h *history) startRetention(settings func(context.Context) (HistorySettings, error)) {
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.done = stop, make(chan struct{})
	go func() {
		defer close(h.done)
		r := &retention{history: h}
		ticker := time.NewTicker(retentionEvery)
		defer ticker.Stop()
		var failure string
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-h.kick:
			}
			err := r.run(ctx, settings)
			switch {
			case err == nil || ctx.Err() != nil:
				failure = ""
			case err.Error() != failure: // not the same every minute
				failure = err.Error()
				h.warn("old handshakes are not deleted from the history: " + failure + advice(err))
			}
		}
	}()
}

// retention deletes what is too old or too much, in steps between which batches are written.
type retention struct {
	history *history
	db      *database // that survivors belongs to
	// survivors is the sequence number below which only those are left that are kept longer. Without it each run would
	// look at all of them again.
	survivors int64
	swept     time.Time // when certificates were last looked through
}

func (r *retention) run(ctx context.Context, settings func(context.Context) (HistorySettings, error)) error {
	keep, err := settings(ctx)
	if err != nil {
		return err
	}
	now := r.history.now()
	if err := r.step(ctx, func(tx *sql.Tx) error { return forgetMarks(ctx, tx, now) }); err != nil {
		return err
	}
	if err := r.byAge(ctx, now, keep); err != nil {
		return err
	}
	shrunk, err := r.bySize(ctx, keep.MaxSize)
	if err != nil {
		return err
	}
	if shrunk || now.Sub(r.swept) >= time.Hour {
		if err := r.sweep(ctx, now, keep.MaxSize); err != nil {
			return err
		}
		r.swept = now
	}
	return r.giveBack(ctx, keep.MaxSize)
}

// step runs f in a transaction of its own on the one writer.
func (r *retention) step(ctx context.Context, f func(tx *sql.Tx) error) error {
	h := r.history
	h.writing.Lock()
	defer h.writing.Unlock()
	err := h.stepOnce(ctx, r, f)
	if isDamage(err) {
		return h.replaceIfStill(ctx, h.db, err)
	}
	return err
}

func (h *history) stepOnce(ctx context.Context, r *retention, f func(tx *sql.Tx) error) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.db == nil {
		return h.unavailable()
	}
	if r.db != h.db {
		r.db, r.survivors = h.db, 0
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := h.db.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin to delete handshakes: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return fmt.Errorf("delete handshakes: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("delete handshakes: %w", err)
	}
	return nil
}

// byAge walks from the oldest record upwards, twice: over what is too old in any case, and over what is too old unless
// it is of the kind that is kept longer.
func (r *retention) byAge(ctx context.Context, now time.Time, keep HistorySettings) error {
	in, failed := nanos(now.Add(-keep.Keep)), nanos(now.Add(-keep.KeepFailures))
	for done := false; !done; {
		err := r.step(ctx, func(tx *sql.Tx) error {
			w, err := readWindow(ctx, tx, 0)
			if err != nil || w.rows == 0 || w.oldest >= min(in, failed) {
				done = true
				return err
			}
			deleted, err := deleteOlder(ctx, tx, w, min(in, failed), min(in, failed))
			done = deleted < w.rows
			return err
		})
		if err != nil {
			return err
		}
	}
	for done := in == failed; !done; {
		err := r.step(ctx, func(tx *sql.Tx) error {
			w, err := readWindow(ctx, tx, r.survivors)
			if err != nil || w.rows == 0 || w.oldest >= max(in, failed) {
				done = true
				return err
			}
			if w.newest < max(in, failed) && w.rows == retentionWindow {
				r.survivors = w.last
			} else {
				done = true
			}
			_, err = deleteOlder(ctx, tx, w, in, failed)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// window is a run of neighbouring records.
type window struct {
	first, last    int64 // sequence numbers
	oldest, newest int64
	rows           int64
}

func readWindow(ctx context.Context, tx *sql.Tx, after int64) (window, error) {
	var w window
	err := tx.QueryRowContext(ctx, `
		SELECT count(*), coalesce(min(seq), 0), coalesce(max(seq), 0), coalesce(min(time), 0), coalesce(max(time), 0)
		FROM (SELECT seq, time FROM handshakes WHERE seq > ? AND `+unmarked+` ORDER BY seq LIMIT ?)`, after, retentionWindow).
		Scan(&w.rows, &w.first, &w.last, &w.oldest, &w.newest)
	return w, err
}

// deleteOlder deletes those of a window that are older than their kind is kept.
func deleteOlder(ctx context.Context, tx *sql.Tx, w window, in, failed int64) (int64, error) {
	res, err := tx.ExecContext(ctx, "DELETE FROM handshakes WHERE seq BETWEEN ? AND ? AND "+unmarked+" AND time < CASE WHEN outcome IN (?, ?, ?) THEN ? ELSE ? END",
		w.first, w.last, string(termination.OutcomeVerified), string(termination.OutcomeOpen), string(termination.OutcomePassed), in, failed)
	if err != nil {
		return 0, err
	}
	for _, query := range []string{
		"DELETE FROM records WHERE seq BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM handshakes h WHERE h.seq = records.seq)",
		"DELETE FROM ends WHERE seq BETWEEN ? AND ? AND NOT EXISTS (SELECT 1 FROM handshakes h WHERE h.seq = ends.seq)",
	} {
		if _, err := tx.ExecContext(ctx, query, w.first, w.last); err != nil {
			return 0, err
		}
	}
	return res.RowsAffected()
}

// bySize deletes the oldest records, whatever became of them, until what is left fits. Space that they leave in the
// file is used again. It reports whether it deleted anything.
func (r *retention) bySize(ctx context.Context, most int64) (bool, error) {
	most -= most / 10 // so that the file itself, which does not shrink at once, stays below
	target := most - most/20
	deleted := false
	for {
		more := false
		err := r.step(ctx, func(tx *sql.Tx) error {
			used, _, err := fileSize(ctx, tx)
			if err != nil || used <= target || !deleted && used <= most {
				return err
			}
			w, err := readWindow(ctx, tx, 0)
			if err != nil {
				return err
			}
			if w.rows == 0 { // only what is marked is left, and it is too much
				more, err = forgetAllMarks(ctx, tx)
				return err
			}
			for _, query := range []string{"DELETE FROM handshakes WHERE seq <= ?", "DELETE FROM records WHERE seq <= ?", "DELETE FROM ends WHERE seq <= ?"} {
				if _, err := tx.ExecContext(ctx, query+" AND "+unmarked, w.last); err != nil {
					return err
				}
			}
			deleted, more = true, true
			return nil
		})
		if err != nil || !more {
			return deleted, err
		}
	}
}

// fileSize returns the bytes that hold something, and all bytes of the file.
func fileSize(ctx context.Context, tx *sql.Tx) (used, all int64, err error) {
	var pages, free, size int64
	for query, into := range map[string]*int64{"PRAGMA page_count": &pages, "PRAGMA freelist_count": &free, "PRAGMA page_size": &size} {
		if err := tx.QueryRowContext(ctx, query).Scan(into); err != nil {
			return 0, 0, err
		}
	}
	return (pages - free) * size, pages * size, nil
}

// sweep deletes certificates, minutes, counters and clients that nothing refers to any more.
func (r *retention) sweep(ctx context.Context, now time.Time, most int64) error {
	var oldest sql.NullInt64 // minute of the oldest record
	err := r.step(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM minutes WHERE last_seq < coalesce("+firstUnmarked+", ?) AND NOT EXISTS (SELECT 1 FROM marks m WHERE m.seq BETWEEN first_seq AND last_seq)", int64(1)<<62)
		if err == nil {
			_, err = tx.ExecContext(ctx, "DELETE FROM counters WHERE minute < ?", now.Add(-countersKeep).Unix()/60)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, "DELETE FROM identity_days WHERE day < ?", dayOf(now.Add(-identityDaysKeep)))
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, "DELETE FROM identity_seen WHERE last < ?", nanos(now.Add(-countersKeep)))
		}
		if err == nil {
			err = sweepClients(ctx, tx, now, most)
		}
		if err == nil {
			err = tx.QueryRowContext(ctx, "SELECT min(minute) FROM minutes WHERE last_seq >= "+firstUnmarked).Scan(&oldest)
		}
		return err
	})
	if err != nil {
		return err
	}
	limit := nanos(now) - int64(2*seenEvery)
	if oldest.Valid {
		limit = min(limit, oldest.Int64*int64(time.Minute)-int64(2*seenEvery))
	}
	for {
		var n int64
		err := r.step(ctx, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(ctx, `DELETE FROM certificates WHERE rowid IN (SELECT rowid FROM certificates c WHERE last_seen < ?
				AND NOT EXISTS (SELECT 1 FROM clients k WHERE k.fingerprint = c.fingerprint)
				AND NOT EXISTS (SELECT 1 FROM marked_certificates m WHERE m.fingerprint = c.fingerprint) LIMIT ?)`, limit, retentionWindow)
			if err != nil {
				return err
			}
			n, err = res.RowsAffected()
			if n > 0 {
				clear(r.history.writer.known)
			}
			return err
		})
		if err != nil || n < retentionWindow {
			return err
		}
	}
}

// giveBack returns free pages to the file system while the file is larger than it may be, as after a lower max_size.
func (r *retention) giveBack(ctx context.Context, most int64) error {
	for {
		var before, after int64
		err := r.step(ctx, func(tx *sql.Tx) error {
			used, all, err := fileSize(ctx, tx)
			if err != nil || all <= most || all == used {
				return err
			}
			before = all
			if err := vacuumSome(ctx, tx); err != nil {
				return err
			}
			_, after, err = fileSize(ctx, tx)
			return err
		})
		if err != nil || after >= before {
			return err
		}
	}
}

func vacuumSome(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", retentionPages))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() { // each step frees a page
	}
	return rows.Err()
}
