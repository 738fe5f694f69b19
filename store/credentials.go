package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// CreateCredential adds a credential and returns it with its new ID. One without an origin is the dashboard's.
func (tx *Tx) CreateCredential(c termination.Credential) (termination.Credential, error) {
	if err := checkObject(KindCredential, c.Name, &c.Origin); err != nil {
		return c, err
	}
	if err := tx.writable(KindCredential, c.Name, c.Origin); err != nil {
		return c, err
	}
	identity, err := tx.boundTo(c)
	if err != nil {
		return c, err
	}
	c.ID = termination.NewID(termination.PrefixCredential, tx.now)
	err = tx.exec(`INSERT INTO credentials (id, name, origin, kind, user, hash, pin, identity_id, everywhere, expires, blocked, created, created_by, changed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.ID, c.Name, string(c.Origin), string(c.Kind), c.User, c.Hash, pinText(c.Pin), identity, len(c.Endpoints) == 0, orNull(c.Expires), c.Blocked,
		tx.now.UnixMilli(), tx.actor.Name, tx.now.UnixMilli())
	if err != nil {
		return c, saving(KindCredential, c.Name, err)
	}
	if err := tx.insertCredentialEndpoints(c); err != nil {
		return c, err
	}
	return c, tx.audit(ActionCreate, KindCredential, c.ID, c.Name, nil, describeCredential(c))
}

// UpdateCredential replaces everything of the credential with c's ID but its origin and, without a hash, its secret.
func (tx *Tx) UpdateCredential(c termination.Credential) error {
	row, err := tx.credentialRow(c.ID)
	if err != nil {
		return err
	}
	old := row.Credential
	if err := tx.writable(KindCredential, old.Name, old.Origin); err != nil {
		return err
	}
	c.ID, c.Origin = old.ID, old.Origin
	if c.Hash == "" && c.Kind == old.Kind {
		c.Hash = old.Hash
	}
	if err := checkObject(KindCredential, c.Name, &c.Origin); err != nil {
		return err
	}
	if unchanged, err := same(describeCredential(old), describeCredential(c)); err != nil || unchanged && c.Hash == old.Hash && row.err == nil {
		return err
	}
	identity, err := tx.boundTo(c)
	if err != nil {
		return err
	}
	if err := tx.exec("UPDATE credentials SET name = ?, kind = ?, user = ?, hash = ?, pin = ?, identity_id = ?, everywhere = ?, expires = ?, blocked = ?, changed = ? WHERE id = ?",
		c.Name, string(c.Kind), c.User, c.Hash, pinText(c.Pin), identity, len(c.Endpoints) == 0, orNull(c.Expires), c.Blocked, tx.now.UnixMilli(), c.ID); err != nil {
		return saving(KindCredential, c.Name, err)
	}
	if err := tx.exec("DELETE FROM credential_endpoints WHERE credential_id = ?", c.ID); err != nil {
		return saving(KindCredential, c.Name, err)
	}
	if err := tx.insertCredentialEndpoints(c); err != nil {
		return err
	}
	return tx.audit(ActionUpdate, KindCredential, c.ID, c.Name, describeCredential(old), describeCredential(c))
}

// BlockCredential blocks the credential with that name or ID, or lets it in again.
func (tx *Tx) BlockCredential(ref string, blocked bool) error {
	c, err := tx.Credential(ref)
	if err != nil {
		return err
	}
	c.Blocked = blocked
	return tx.UpdateCredential(c)
}

// DeleteCredential removes the credential with that name or ID.
func (tx *Tx) DeleteCredential(ref string) error {
	row, err := tx.credentialRow(ref)
	if err != nil {
		return err
	}
	if err := tx.writable(KindCredential, row.Name, row.Origin); err != nil {
		return err
	}
	if err := tx.exec("DELETE FROM credentials WHERE id = ?", row.ID); err != nil {
		return saving(KindCredential, row.Name, err)
	}
	return tx.audit(ActionDelete, KindCredential, row.ID, row.Name, describeCredential(row.Credential), nil)
}

// Credential returns the credential with that ID or name. One that cannot be read whole is returned with what could be, so
// that it can be replaced or deleted.
func (tx *Tx) Credential(ref string) (termination.Credential, error) {
	row, err := tx.credentialRow(ref)
	return row.Credential, err
}

func (tx *Tx) credentialRow(ref string) (credentialRow, error) {
	rows, err := readCredentials(tx.ctx, tx.sql, ref)
	if err != nil {
		return credentialRow{}, err
	}
	for _, r := range rows {
		if ref != "" && (r.ID == ref || len(rows) == 1) {
			return r, nil
		}
	}
	return credentialRow{}, NotFoundError{Kind: KindCredential, Name: ref}
}

// boundTo is the ID of the identity that a credential is bound to.
func (tx *Tx) boundTo(c termination.Credential) (*string, error) {
	if c.Identity == "" {
		return nil, nil //nolint:nilnil // none, which is NULL
	}
	var id string
	err := tx.sql.QueryRowContext(tx.ctx, "SELECT id FROM identities WHERE name = ?", c.Identity).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fieldError(KindCredential, c.Name, "identity", fmt.Sprintf("there is no identity %q", c.Identity), "create it first, or bind the credential to a pin")
	}
	if err != nil {
		return nil, fmt.Errorf("look for identity %q: %w", c.Identity, err)
	}
	return &id, nil
}

func (tx *Tx) insertCredentialEndpoints(c termination.Credential) error {
	for n, name := range c.Endpoints {
		var id string
		var origin termination.Origin
		err := tx.sql.QueryRowContext(tx.ctx, "SELECT id, origin FROM endpoints WHERE name = ?", name).Scan(&id, &origin)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fieldError(KindCredential, c.Name, "endpoints", fmt.Sprintf("there is no endpoint %q", name), "create it first, or name another")
		case err != nil:
			return fmt.Errorf("look for endpoint %q: %w", name, err)
		case origin == termination.OriginCommand:
			return fieldError(KindCredential, c.Name, "endpoints", fmt.Sprintf("the endpoint %q was made by a command and ends with it", name), "name an endpoint that stays")
		}
		if err := tx.exec("INSERT INTO credential_endpoints (credential_id, position, endpoint_id) VALUES (?, ?, ?)", c.ID, n, id); err != nil {
			return saving(KindCredential, c.Name, err)
		}
	}
	return nil
}

// credentialsOf names the credentials that name an endpoint, or are bound to an identity, by its ID.
func (tx *Tx) credentialsOf(id string) ([]string, error) {
	users, err := tx.strings(`SELECT 'credential "' || name || '"' FROM credentials
		WHERE identity_id = ?1 OR id IN (SELECT credential_id FROM credential_endpoints WHERE endpoint_id = ?1) ORDER BY 1 LIMIT 10`, id)
	if err != nil {
		return nil, fmt.Errorf("look for credentials that need it: %w", err)
	}
	return users, nil
}

func pinText(p *termination.Pin) string {
	if p == nil {
		return ""
	}
	return p.String()
}

func orNull(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.UnixMilli()
	return &n
}

// describedCredential is a credential for the audit log, without anything of its secret.
type describedCredential struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	User      string   `json:"user,omitempty"`
	Endpoints []string `json:"endpoints"`
	Pin       string   `json:"pin,omitempty"`
	Identity  string   `json:"identity,omitempty"`
	Expires   string   `json:"expires,omitempty"`
	Blocked   bool     `json:"blocked"`
}

func describeCredential(c termination.Credential) describedCredential {
	d := describedCredential{
		Name: c.Name, Kind: string(c.Kind), User: c.User, Endpoints: append([]string{}, c.Endpoints...),
		Pin: pinText(c.Pin), Identity: c.Identity, Blocked: c.Blocked,
	}
	if !c.Expires.IsZero() {
		d.Expires = c.Expires.UTC().Format(time.RFC3339)
	}
	return d
}
