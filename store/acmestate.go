package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"countersign/termination"
)

const (
	// acmeLease is how long a lock outlives an owner that died; longer than any attempt to obtain a certificate.
	acmeLease = 10 * time.Minute
	// acmeLockWait is how often a lock that another holds is tried again.
	acmeLockWait = 200 * time.Millisecond
	maxACMEValue = 1 << 20
)

// ACMEState keeps what an ACME client must remember between starts: accounts, certificates and their keys, under keys
// like file paths. Every value is sealed. It is no part of the configuration.
type ACMEState struct {
	store *Store
	owner string // of the locks taken here
}

// ACMEState returns the state of ACME clients. Locks that are taken through it are its own.
func (s *Store) ACMEState() *ACMEState {
	return &ACMEState{store: s, owner: termination.NewID("acme", s.now())}
}

func (a *ACMEState) write(ctx context.Context, f func(*Tx) error) error {
	return a.store.write(ctx, Actor{Name: "acme", Via: "acme"}, f)
}

// Put stores a value.
func (a *ACMEState) Put(ctx context.Context, key string, value []byte) error {
	if err := checkText("a key of the ACME state", key); err != nil {
		return err
	}
	if len(value) > maxACMEValue {
		return fmt.Errorf("keep the ACME state %s: it has %d bytes, where %d are allowed", key, len(value), maxACMEValue)
	}
	sealed, err := a.store.sealer.sealBytes(value)
	if err != nil {
		return err
	}
	return a.write(ctx, func(tx *Tx) error {
		err := tx.exec("INSERT INTO acme_state (key, sealed, modified) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sealed = excluded.sealed, modified = excluded.modified", key, sealed, tx.now.UnixMilli())
		if err != nil {
			return fmt.Errorf("keep the ACME state %s: %w", key, err)
		}
		return nil
	})
}

// Get returns a value and when it was stored. The error is [fs.ErrNotExist] when there is none.
func (a *ACMEState) Get(ctx context.Context, key string) ([]byte, time.Time, error) {
	var sealed []byte
	var modified int64
	err := a.store.config.reader.QueryRowContext(ctx, "SELECT sealed, modified FROM acme_state WHERE key = ?", key).Scan(&sealed, &modified)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, fmt.Errorf("ACME state %s: %w", key, fs.ErrNotExist)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the ACME state %s: %w", key, err)
	}
	value, err := a.store.sealer.openBytes(sealed)
	return value, time.UnixMilli(modified), err
}

// Delete removes a value and all below it; the error is [fs.ErrNotExist] when there is none.
func (a *ACMEState) Delete(ctx context.Context, key string) error {
	return a.write(ctx, func(tx *Tx) error {
		res, err := tx.sql.ExecContext(tx.ctx, "DELETE FROM acme_state WHERE key = ?1 OR substr(key, 1, length(?1) + 1) = ?1 || '/'", key)
		if err != nil {
			return fmt.Errorf("delete the ACME state %s: %w", key, err)
		}
		if n, err := res.RowsAffected(); err == nil && n == 0 {
			return fmt.Errorf("ACME state %s: %w", key, fs.ErrNotExist)
		}
		return nil
	})
}

// Keys returns the keys below a prefix, in order.
func (a *ACMEState) Keys(ctx context.Context, prefix string) ([]string, error) {
	rows, err := a.store.config.reader.QueryContext(ctx, "SELECT key FROM acme_state WHERE ?1 = '' OR substr(key, 1, length(?1) + 1) = ?1 || '/' ORDER BY key", prefix)
	if err != nil {
		return nil, fmt.Errorf("list the ACME state: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, fmt.Errorf("list the ACME state: %w", err)
		}
		out = append(out, key)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the ACME state: %w", err)
	}
	return out, nil
}

// Lock takes the lock of that name, and waits for it until ctx ends. It ends by itself when its owner does not let go of it.
func (a *ACMEState) Lock(ctx context.Context, name string) error {
	for {
		taken, err := a.tryLock(ctx, name)
		if err != nil || taken {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the ACME lock %s: %w", name, context.Cause(ctx))
		case <-time.After(acmeLockWait):
		}
	}
}

func (a *ACMEState) tryLock(ctx context.Context, name string) (bool, error) {
	var taken bool
	err := a.write(ctx, func(tx *Tx) error {
		res, err := tx.sql.ExecContext(tx.ctx, `INSERT INTO acme_locks (name, owner, expires) VALUES (?1, ?2, ?3)
			ON CONFLICT DO UPDATE SET owner = ?2, expires = ?3 WHERE expires <= ?4`,
			name, a.owner, tx.now.Add(acmeLease).UnixMilli(), tx.now.UnixMilli())
		if err != nil {
			return fmt.Errorf("take the ACME lock %s: %w", name, err)
		}
		n, err := res.RowsAffected()
		taken = n > 0
		return err
	})
	return taken, err
}

// Unlock lets go of a lock that was taken here.
func (a *ACMEState) Unlock(ctx context.Context, name string) error {
	return a.write(ctx, func(tx *Tx) error {
		if err := tx.exec("DELETE FROM acme_locks WHERE name = ? AND owner = ?", name, a.owner); err != nil {
			return fmt.Errorf("let go of the ACME lock %s: %w", name, err)
		}
		return nil
	})
}
