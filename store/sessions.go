package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// Session is somebody who is signed in to the dashboard.
type Session struct {
	ID       string
	Name     string // as given at sign-in, for the audit log
	CSRF     string // the token that every form of this session carries
	Created  time.Time
	LastSeen time.Time // exact to a minute
	Expires  time.Time // without another request
}

// touchEvery is how exact last-seen times are: writing at every request would cost a disk sync each.
const touchEvery = time.Minute

// CreateSession signs name in and returns the session with its token, which is the cookie's value and is not kept. The
// session ends idle after the last request, and after life in any case. via is written to the audit log.
func (s *Store) CreateSession(ctx context.Context, name, via string, idle, life time.Duration) (Session, string, error) {
	actor := Actor{Name: name, Via: via}
	if err := actor.check(); err != nil {
		return Session{}, "", err
	}
	token, hash := newSecret("")
	csrf, _ := newSecret("")
	var session Session
	err := s.write(ctx, actor, func(tx *Tx) error {
		session = Session{
			ID: termination.NewID(termination.PrefixSession, tx.now), Name: name, CSRF: csrf,
			Created: tx.now, LastSeen: tx.now, Expires: tx.now.Add(min(idle, life)),
		}
		if err := tx.exec("DELETE FROM sessions WHERE min(ends, last_seen + idle) <= ?", tx.now.UnixMilli()); err != nil {
			return fmt.Errorf("remove ended sessions: %w", err)
		}
		err := tx.exec("INSERT INTO sessions (id, token_hash, name, csrf, created, last_seen, idle, ends) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			session.ID, hash, name, csrf, tx.now.UnixMilli(), tx.now.UnixMilli(), idle.Milliseconds(), tx.now.Add(life).UnixMilli())
		if err != nil {
			return fmt.Errorf("save session: %w", err)
		}
		return tx.audit(ActionSignIn, KindSession, session.ID, name, nil, nil)
	})
	if err != nil {
		return Session{}, "", err
	}
	return session, token, nil
}

const selectSession = "SELECT id, name, csrf, created, last_seen, min(ends, last_seen + idle) FROM sessions "

// Session returns the session of a token and notes that it was seen. An unknown or ended one is [ErrNoSession].
func (s *Store) Session(ctx context.Context, token string) (Session, error) {
	now := s.now()
	session, err := scanSession(s.config.reader.QueryRowContext(ctx, selectSession+"WHERE token_hash = ?", hashSecret(token)))
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, ErrNoSession
	}
	if err != nil {
		return Session{}, fmt.Errorf("look for session: %w", err)
	}
	if !now.Before(session.Expires) {
		return Session{}, ErrNoSession
	}
	if now.Sub(session.LastSeen) >= touchEvery {
		s.touch(ctx, "UPDATE sessions SET last_seen = ? WHERE id = ?", session.ID)
	}
	return session, nil
}

// touch notes that a session or a token was used. Whoever asked does not wait for another change, nor fail for this.
func (s *Store) touch(ctx context.Context, query, id string) {
	select {
	case <-s.writing:
	default:
		return // the next request does it
	}
	defer s.release()
	if s.closed {
		return
	}
	if _, err := s.config.writer.ExecContext(context.WithoutCancel(ctx), query, s.now().UnixMilli(), id); err != nil {
		s.log.Warn("note when a session or token was used", "error", err)
	}
}

// Sessions lists the sessions that have not ended, newest first.
func (s *Store) Sessions(ctx context.Context) ([]Session, error) {
	rows, err := s.config.reader.QueryContext(ctx, selectSession+"WHERE min(ends, last_seen + idle) > ? ORDER BY id DESC", s.now().UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []Session
	for rows.Next() {
		session, err := scanSession(rows)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		out = append(out, session)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return out, nil
}

// EndSession signs out. A session that has ended already is no error.
func (s *Store) EndSession(ctx context.Context, id string) error {
	return s.write(ctx, Actor{}, func(tx *Tx) error {
		if err := tx.exec("DELETE FROM sessions WHERE id = ?", id); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
		return nil
	})
}

// CreateLink makes a one-time sign-in link's token, which is not kept.
func (s *Store) CreateLink(ctx context.Context, life time.Duration) (string, error) {
	token, hash := newSecret("")
	err := s.write(ctx, Actor{}, func(tx *Tx) error {
		if err := tx.exec("DELETE FROM sign_in_links WHERE expires <= ?", tx.now.UnixMilli()); err != nil {
			return fmt.Errorf("remove expired sign-in links: %w", err)
		}
		err := tx.exec("INSERT INTO sign_in_links (token_hash, created, expires) VALUES (?, ?, ?)", hash, tx.now.UnixMilli(), tx.now.Add(life).UnixMilli())
		if err != nil {
			return fmt.Errorf("save sign-in link: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// CheckLink reports whether a sign-in link could be used, without using it up: a GET must not. If not, [ErrNoLink].
func (s *Store) CheckLink(ctx context.Context, token string) error {
	var one int
	err := s.config.reader.QueryRowContext(ctx, "SELECT 1 FROM sign_in_links WHERE token_hash = ? AND expires > ?", hashSecret(token), s.now().UnixMilli()).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNoLink
	}
	if err != nil {
		return fmt.Errorf("look for sign-in link: %w", err)
	}
	return nil
}

// UseLink uses a sign-in link up. Of two who use the same link at once, one gets [ErrNoLink].
func (s *Store) UseLink(ctx context.Context, token string) error {
	return s.write(ctx, Actor{}, func(tx *Tx) error {
		var expires int64
		err := tx.sql.QueryRowContext(tx.ctx, "DELETE FROM sign_in_links WHERE token_hash = ? RETURNING expires", hashSecret(token)).Scan(&expires)
		if errors.Is(err, sql.ErrNoRows) || err == nil && expires <= tx.now.UnixMilli() {
			return ErrNoLink
		}
		if err != nil {
			return fmt.Errorf("use sign-in link: %w", err)
		}
		return nil
	})
}

type scanner interface{ Scan(into ...any) error }

func scanSession(row scanner) (Session, error) {
	var v Session
	var created, seen, expires int64
	err := row.Scan(&v.ID, &v.Name, &v.CSRF, &created, &seen, &expires)
	v.Created, v.LastSeen, v.Expires = fromMillis(created), fromMillis(seen), fromMillis(expires)
	return v, err
}
