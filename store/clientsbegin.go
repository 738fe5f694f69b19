package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"fmt"
	"time"

	"countersign/termination"
)

// beginClients begins the register of clients in a file that has none: with its newest records, so that an upgrade does
// not start from nothing, and no more of them than a start can wait for.
func (w *historyWriter) beginClients(ctx context.Context, now time.Time) error {
	var since sql.NullInt64
	if err := w.db.QueryRowContext(ctx, "SELECT clients_since FROM state").Scan(&since); err != nil || since.Valid {
		return err
	}
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	b := newHistoryBatch(ctx, w, tx)
	b.backfilling = true
	begun, err := b.recount(now)
	if err != nil {
		return err
	}
	if err := b.clients(); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE state SET clients_since = ?", nanos(begun)); err != nil {
		return err
	}
	return tx.Commit()
}

// recount counts the newest records, oldest first, and returns the time of the first.
func (b *historyBatch) recount(now time.Time) (begun time.Time, err error) {
	rows, err := b.tx.QueryContext(b.ctx, `SELECT h.time, h.fingerprint IS NOT NULL, r.record FROM handshakes h JOIN records r ON r.seq = h.seq
		WHERE h.seq > (SELECT coalesce(max(seq), 0) FROM handshakes) - ? ORDER BY h.seq`, backfillRecords)
	if err != nil {
		return now, err
	}
	defer func() { _ = rows.Close() }()
	known := map[termination.Fingerprint]*x509.Certificate{}
	begun = now
	for rows.Next() {
		var at int64
		var presented bool
		var record []byte
		if err := rows.Scan(&at, &presented, &record); err != nil {
			return now, err
		}
		if t := time.Unix(0, at).UTC(); t.Before(begun) {
			begun = t
		}
		if !presented {
			continue
		}
		stored, r, err := decodeRecord(record, nil)
		if err != nil || len(stored.Presented) == 0 {
			continue // what cannot be read is not counted
		}
		if r.Handshake.Presented, err = b.certificatesOf(stored.Presented, known); err != nil {
			return now, err
		}
		b.clientCounts.handshake(r.Handshake, stored.Presented)
	}
	return begun, rows.Err()
}

func (b *historyBatch) certificatesOf(fingerprints []termination.Fingerprint, known map[termination.Fingerprint]*x509.Certificate) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, f := range fingerprints {
		c, ok := known[f]
		if !ok {
			read, err := readChain(b.ctx, b.tx, []termination.Fingerprint{f})
			if err != nil {
				return nil, err
			}
			if len(read) == 1 {
				c = read[0]
			}
			known[f] = c
		}
		if c == nil {
			return chain, nil
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// clientBytes is about what a certificate takes in the register, the certificate itself included.
const clientBytes = 2 << 10

// sweepClients deletes what the register need not keep, and joins hours to days. Of most bytes, which are for the whole
// history, strangers and clients may each take a quarter.
func sweepClients(ctx context.Context, tx *sql.Tx, now time.Time, most int64) error {
	fit := most / 4 / clientBytes
	prepared := map[string]*sql.Stmt{}
	defer func() {
		for _, statement := range prepared {
			_ = statement.Close()
		}
	}()
	exec := func(query string, args ...any) (sql.Result, error) {
		if prepared[query] == nil {
			statement, err := tx.PrepareContext(ctx, query) //nolint:sqlclosecheck // closed above
			if err != nil {
				return nil, err
			}
			prepared[query] = statement
		}
		return prepared[query].ExecContext(ctx, args...)
	}
	for _, trim := range []struct {
		query string
		arg   int64
	}{
		{"DELETE FROM clients WHERE first_in IS NOT NULL AND last < ? RETURNING fingerprint, first, last", nanos(now.Add(-ClientsKeep))},
		{trimVerified, min(MostVerified, fit)},
		{trimStrangers, min(MostStrangers, fit)},
	} {
		gone, err := deleteClients(ctx, tx, trim.query, trim.arg)
		if err != nil {
			return err
		}
		for _, g := range gone {
			if err := g.forget(exec); err != nil {
				return err
			}
		}
	}
	hour := hourOf(now)
	joined := hour - clientHoursKeep
	for _, step := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO client_hours (hour, fingerprint, let_in, failed)
			SELECT hour / 24 * 24, fingerprint, sum(let_in), sum(failed) FROM client_hours WHERE hour >= ?1 AND hour < ?2 AND hour % 24 <> 0 GROUP BY 1, 2
			ON CONFLICT DO UPDATE SET let_in = let_in + excluded.let_in, failed = failed + excluded.failed`, []any{joined - 24*clientDaysKeep, joined / 24 * 24}},
		{"DELETE FROM client_hours WHERE hour >= ?1 AND hour < ?2 AND hour % 24 <> 0", []any{joined - 24*clientDaysKeep, joined / 24 * 24}},
		{"DELETE FROM client_hours WHERE hour < ?", []any{(hour/24 - clientDaysKeep) * 24}},
		{"DELETE FROM client_changes WHERE time < ?", []any{nanos(now.Add(-ClientsKeep))}},
	} {
		if _, err := tx.ExecContext(ctx, step.query, step.args...); err != nil {
			return fmt.Errorf("sweep clients: %w", err)
		}
	}
	return nil
}
