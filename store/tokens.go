package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// Scope says what an API token may do. Each scope includes the ones before it.
type Scope string

// The scopes of API tokens.
const (
	ScopeRead    Scope = "read"    // look at everything but secrets
	ScopeOperate Scope = "operate" // enable, disable, issue
	ScopeAdmin   Scope = "admin"   // everything
)

// Includes reports whether a token of scope s may do what other allows. An unknown scope includes nothing.
func (s Scope) Includes(other Scope) bool {
	rank := map[Scope]int{ScopeRead: 1, ScopeOperate: 2, ScopeAdmin: 3}
	return rank[s] > 0 && rank[other] > 0 && rank[s] >= rank[other]
}

// Token is an API token without its secret.
type Token struct {
	ID       string
	Name     string
	Scope    Scope
	Created  time.Time
	By       string    // who made it
	LastUsed time.Time // exact to a minute; zero: never
	Revoked  time.Time // zero: it is good
}

// tokenPrefix makes a token recognisable for programs that look for leaked secrets.
const tokenPrefix = "countersign_"

// CreateToken makes an API token and returns it with its secret, which is not kept.
func (s *Store) CreateToken(ctx context.Context, actor Actor, name string, scope Scope) (Token, string, error) {
	if err := actor.check(); err != nil {
		return Token{}, "", err
	}
	if err := termination.CheckName(name); err != nil {
		return Token{}, "", fieldError(KindToken, name, "name", err.Error(), "choose another name")
	}
	if !scope.Includes(ScopeRead) {
		return Token{}, "", fieldError(KindToken, name, "scope", fmt.Sprintf("%q is unknown", scope), "use read, operate or admin")
	}
	secret, hash := newSecret(tokenPrefix)
	var token Token
	err := s.write(ctx, actor, func(tx *Tx) error {
		token = Token{ID: termination.NewID(termination.PrefixToken, tx.now), Name: name, Scope: scope, Created: tx.now, By: actor.Name}
		err := tx.exec("INSERT INTO api_tokens (id, name, scope, token_hash, created, created_by) VALUES (?, ?, ?, ?, ?, ?)",
			token.ID, name, string(scope), hash, tx.now.UnixMilli(), actor.Name)
		if err != nil {
			return saving(KindToken, name, err)
		}
		return tx.audit(ActionCreate, KindToken, token.ID, name, nil, describedToken{Name: name, Scope: scope})
	})
	if err != nil {
		return Token{}, "", err
	}
	return token, secret, nil
}

type describedToken struct {
	Name  string `json:"name"`
	Scope Scope  `json:"scope"`
}

const selectToken = "SELECT id, name, scope, created, created_by, coalesce(last_used, 0), coalesce(revoked, 0) FROM api_tokens " //nolint:gosec // a query, no secret

// Token returns the token with that secret and notes that it was used. An unknown or revoked one is [ErrNoToken].
func (s *Store) Token(ctx context.Context, secret string) (Token, error) {
	token, err := scanToken(s.config.reader.QueryRowContext(ctx, selectToken+"WHERE token_hash = ? AND revoked IS NULL", hashSecret(secret)))
	if errors.Is(err, sql.ErrNoRows) {
		return Token{}, ErrNoToken
	}
	if err != nil {
		return Token{}, fmt.Errorf("look for token: %w", err)
	}
	if s.now().Sub(token.LastUsed) >= touchEvery {
		s.touch(ctx, "UPDATE api_tokens SET last_used = ? WHERE id = ?", token.ID)
	}
	return token, nil
}

// Tokens lists all tokens, revoked ones too, newest first.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	rows, err := s.config.reader.QueryContext(ctx, selectToken+"ORDER BY id DESC")
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []Token
	for rows.Next() {
		token, err := scanToken(rows)
		if err != nil {
			return nil, fmt.Errorf("list tokens: %w", err)
		}
		out = append(out, token)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return out, nil
}

// RevokeToken ends the token with that ID, or the good one of that name.
func (s *Store) RevokeToken(ctx context.Context, actor Actor, ref string) error {
	if err := actor.check(); err != nil {
		return err
	}
	return s.write(ctx, actor, func(tx *Tx) error {
		token, err := scanToken(tx.sql.QueryRowContext(tx.ctx, selectToken+"WHERE (id = ?1 OR name = ?1) AND revoked IS NULL ORDER BY id = ?1 DESC", ref))
		if errors.Is(err, sql.ErrNoRows) {
			return NotFoundError{Kind: KindToken, Name: ref}
		}
		if err != nil {
			return fmt.Errorf("look for token: %w", err)
		}
		if err := tx.exec("UPDATE api_tokens SET revoked = ? WHERE id = ?", tx.now.UnixMilli(), token.ID); err != nil {
			return fmt.Errorf("revoke token: %w", err)
		}
		return tx.audit(ActionRevoke, KindToken, token.ID, token.Name, describedToken{Name: token.Name, Scope: token.Scope}, nil)
	})
}

func scanToken(row scanner) (Token, error) {
	var t Token
	var created, used, revoked int64
	err := row.Scan(&t.ID, &t.Name, &t.Scope, &created, &t.By, &used, &revoked)
	t.Created = fromMillis(created)
	if used != 0 {
		t.LastUsed = fromMillis(used)
	}
	if revoked != 0 {
		t.Revoked = fromMillis(revoked)
	}
	return t, err
}
