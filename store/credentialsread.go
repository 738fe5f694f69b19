package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"countersign/termination"
)

// credentialRow is a credential as it was read; err says why it cannot be used.
type credentialRow struct {
	termination.Credential
	err        error
	everywhere bool
}

// readCredentials returns credentials by name: those with that ID or name, or, with an empty ref, all.
func readCredentials(ctx context.Context, q *sql.Tx, ref string) ([]credentialRow, error) {
	rows, err := q.QueryContext(ctx, `SELECT c.id, c.name, c.origin, c.kind, c.user, c.hash, c.pin, coalesce(i.name, ''), c.everywhere, coalesce(c.expires, 0), c.blocked
		FROM credentials c LEFT JOIN identities i ON i.id = c.identity_id WHERE ?1 = '' OR c.id = ?1 OR c.name = ?1 ORDER BY c.name`, ref)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []credentialRow
	at := map[string]int{}
	for rows.Next() {
		var r credentialRow
		var pin string
		var expires int64
		if err := rows.Scan(&r.ID, &r.Name, &r.Origin, &r.Kind, &r.User, &r.Hash, &pin, &r.Identity, &r.everywhere, &expires, &r.Blocked); err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		if expires != 0 {
			r.Expires = fromMillis(expires)
		}
		if pin != "" {
			p, err := termination.ParsePin(pin)
			if err != nil {
				r.err = err // without it, it would count on any connection
			}
			r.Pin = &p
		}
		at[r.ID] = len(out)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if len(out) == 0 {
		return nil, nil
	}
	if err := readCredentialEndpoints(ctx, q, out, at); err != nil {
		return nil, err
	}
	for i := range out {
		if r := &out[i]; r.everywhere != (len(r.Endpoints) == 0) && r.err == nil {
			r.err = fmt.Errorf("the endpoints where it counts are not known")
		}
	}
	return out, nil
}

func readCredentialEndpoints(ctx context.Context, q *sql.Tx, credentials []credentialRow, at map[string]int) error {
	query, args := "SELECT credential_id, e.name FROM credential_endpoints JOIN endpoints e ON e.id = endpoint_id", []any{}
	if len(credentials) == 1 {
		query, args = query+" WHERE credential_id = ?", append(args, credentials[0].ID)
	}
	rows, err := q.QueryContext(ctx, query+" ORDER BY credential_id, position", args...)
	if err != nil {
		return fmt.Errorf("read endpoints of credentials: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, name string
		if err := rows.Scan(&id, &name); err != nil {
			return fmt.Errorf("read endpoints of credentials: %w", err)
		}
		if i, ok := at[id]; ok {
			credentials[i].Endpoints = append(credentials[i].Endpoints, name)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read endpoints of credentials: %w", err)
	}
	return nil
}

// credentials puts the credentials into the configuration. One that cannot be read counts nowhere; an endpoint that could
// be entered by no other lets nobody in.
func (l *loader) credentials() error {
	rows, err := readCredentials(l.ctx, l.sql, "")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.err == nil {
			r.err = termination.CheckHash(r.Kind, r.Hash)
		}
		if r.err == nil && r.Identity != "" && l.config.Identity(r.Identity) == nil {
			r.err = fmt.Errorf("the identity %q that it is bound to cannot be used", r.Identity)
		}
		if r.err != nil {
			l.breaksCredential(r.ID, r.Name, r.err)
			continue
		}
		l.config.Credentials = append(l.config.Credentials, r.Credential)
	}
	return nil
}

func (l *loader) breaksCredential(id, name string, err error) {
	l.problem(KindCredential, id, name, err.Error()+"; it lets nobody in until it is replaced or deleted")
}

func (l *loader) tolerateCredential(f termination.FieldError) bool {
	i := slices.IndexFunc(l.config.Credentials, func(c termination.Credential) bool { return c.Name == f.Name })
	if i < 0 || !l.may(l.config.Credentials[i].ID) {
		return false
	}
	l.breaksCredential(l.config.Credentials[i].ID, f.Name, f)
	l.config.Credentials = slices.Delete(l.config.Credentials, i, i+1)
	return true
}

// CredentialUse is what the store knows of a credential beside what the configuration says of it.
type CredentialUse struct {
	Created time.Time
	By      string
	Used    time.Time // as far as it was noted; zero: never
}

// CredentialUses returns a row for each credential, by ID.
func (s *Store) CredentialUses(ctx context.Context) (map[string]CredentialUse, error) {
	rows, err := s.config.reader.QueryContext(ctx, "SELECT id, created, created_by, coalesce(last_used, 0) FROM credentials")
	if err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]CredentialUse{}
	for rows.Next() {
		var id string
		var u CredentialUse
		var created, used int64
		if err := rows.Scan(&id, &created, &u.By, &used); err != nil {
			return nil, fmt.Errorf("list credentials: %w", err)
		}
		u.Created = fromMillis(created)
		if used != 0 {
			u.Used = fromMillis(used)
		}
		out[id] = u
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	return out, nil
}

// CredentialsUsed notes when credentials were used, in one transaction. It is no change of the configuration.
func (s *Store) CredentialsUsed(ctx context.Context, used map[string]time.Time) error {
	if len(used) == 0 {
		return nil
	}
	return s.write(ctx, Actor{Name: "the gateway", Via: "start"}, func(tx *Tx) error {
		for id, at := range used {
			if err := tx.exec("UPDATE credentials SET last_used = ?1 WHERE id = ?2 AND coalesce(last_used, 0) < ?1", at.UnixMilli(), id); err != nil {
				return fmt.Errorf("note when credentials were used: %w", err)
			}
		}
		return nil
	})
}
