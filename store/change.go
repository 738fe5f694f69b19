package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"countersign/termination"
)

// Actor is whoever makes a change, for the audit log.
type Actor struct {
	Name string // as given at sign-in, or the name of a token
	Via  string // "dashboard", "api", "file", "command", "start"
}

// Tx is the transaction of one change. It ends with the function that it was given to, and belongs to one goroutine.
type Tx struct {
	ctx       context.Context //nolint:containedctx // a transaction lives within one call of Change
	store     *Store
	sql       *sql.Tx
	actor     Actor
	now       time.Time
	revision  uint64
	declared  bool // the configuration file is being applied: what it declares may be written
	command   bool // a command begins or ends: what is its own may be written
	changes   int  // audit rows written
	retention bool // how long the history is kept was set
}

// Change is the one way to change the configuration. It calls mutate in a transaction, with the revision raised by one
// and an audit row for each object that is changed; loads and validates the whole configuration out of that
// transaction; and calls prepare with it, which may compile it and may refuse. An error from any of them undoes
// everything: a [termination.ValidationError] when the outcome could not be served as it is written. When Change returns
// without error, the change is on the disk. The configuration returned is the one that prepare saw.
//
// Objects that could not be read before the change do not stop it; they are returned as problems, see [Store.Load].
// When mutate changes nothing the revision stays. mutate must use nothing but its Tx: a second change waits for the
// first. prepare may be nil.
func (s *Store) Change(ctx context.Context, actor Actor, mutate func(*Tx) error, prepare func(*termination.Config) error) (*termination.Config, []Problem, error) {
	if err := actor.check(); err != nil {
		return nil, nil, err
	}
	if err := s.acquire(ctx); err != nil {
		return nil, nil, err
	}
	defer s.release()
	var config *termination.Config
	var problems []Problem
	retention := false
	err := s.transact(ctx, actor, func(tx *Tx) error {
		if err := tx.raiseRevision(); err != nil {
			return err
		}
		if err := mutate(tx); err != nil {
			return err
		}
		retention = tx.retention
		if tx.changes == 0 {
			if err := tx.exec("UPDATE state SET revision = revision - 1"); err != nil {
				return fmt.Errorf("keep revision: %w", err)
			}
		}
		var err error
		if config, problems, err = s.load(ctx, tx.sql, s.known); err != nil {
			return err
		}
		if err := s.onlyKnown(problems); err != nil {
			return err
		}
		if prepare == nil {
			return nil
		}
		return prepare(config)
	})
	if err != nil {
		return nil, nil, err
	}
	s.remember(problems)
	if retention {
		s.records.askRetention()
	}
	return config, problems, nil
}

// onlyKnown refuses problems that were not there before the change.
func (s *Store) onlyKnown(problems []Problem) error {
	var fresh termination.ValidationError
	for _, p := range problems {
		if !s.known[p.ID] {
			fresh = append(fresh, termination.FieldError{Kind: p.Kind, Name: p.Name, Problem: p.Text})
		}
	}
	if len(fresh) > 0 {
		return fresh
	}
	return nil
}

// transact runs f in a transaction on the one writer. The caller holds the right to write. The end of ctx is no reason to
// break off: between a commit and its acknowledgement nobody could say what holds.
func (s *Store) transact(ctx context.Context, actor Actor, f func(*Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	begun, err := s.config.writer.BeginTx(ctx, nil)
	if err != nil {
		return explain(s.config.path, fmt.Errorf("begin change: %w", err))
	}
	defer func() { _ = begun.Rollback() }()
	tx := &Tx{ctx: ctx, store: s, sql: begun, actor: actor, now: s.now()}
	if err := tx.sql.QueryRowContext(ctx, "SELECT revision FROM state").Scan(&tx.revision); err != nil {
		return explain(s.config.path, fmt.Errorf("read revision: %w", err))
	}
	if err := f(tx); err != nil {
		return explain(s.config.path, err)
	}
	if err := begun.Commit(); err != nil {
		return explain(s.config.path, fmt.Errorf("commit change: %w", err))
	}
	return nil
}

// write runs f in a transaction for what is no part of the configuration: sessions, tokens, issued certificates. The
// revision stays.
func (s *Store) write(ctx context.Context, actor Actor, f func(*Tx) error) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	return s.transact(ctx, actor, f)
}

// read runs f in a transaction that sees one state of the configuration.
func (s *Store) read(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.config.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin to read the store: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	return f(tx)
}

// Now is the time of the change; every row that it writes carries it.
func (tx *Tx) Now() time.Time { return tx.now }

// Revision is the number that the configuration has if the change is committed.
func (tx *Tx) Revision() uint64 { return tx.revision }

func (tx *Tx) raiseRevision() error {
	err := tx.sql.QueryRowContext(tx.ctx, "UPDATE state SET revision = revision + 1 RETURNING revision").Scan(&tx.revision)
	if err != nil {
		return fmt.Errorf("raise revision: %w", err)
	}
	return nil
}

func (tx *Tx) exec(query string, args ...any) error {
	_, err := tx.sql.ExecContext(tx.ctx, query, args...)
	return err
}

// strings returns the first column of a query.
func (tx *Tx) strings(query string, args ...any) ([]string, error) {
	rows, err := tx.sql.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

func (a Actor) check() error {
	if err := checkText("the name of whoever makes a change", a.Name); err != nil {
		return err
	}
	return checkText("the way of a change", a.Via)
}

// writable refuses to touch what the configuration file declares, except while the file itself is applied, and what a
// command made, except when that begins or ends.
func (tx *Tx) writable(kind, name string, o termination.Origin) error {
	if !o.Fixed() || o == termination.OriginFile && tx.declared || o == termination.OriginCommand && tx.command {
		return nil
	}
	if o == termination.OriginFile {
		o = ""
	}
	return ReadOnlyError{Kind: kind, Name: name, Origin: o}
}
