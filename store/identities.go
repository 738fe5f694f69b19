package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"countersign/termination"
)

// CreateIdentity adds an identity and returns it with its new ID. One without an origin is the dashboard's.
func (tx *Tx) CreateIdentity(i termination.Identity) (termination.Identity, error) {
	if err := checkObject(KindIdentity, i.Name, &i.Origin); err != nil {
		return i, err
	}
	if err := tx.writable(KindIdentity, i.Name, i.Origin); err != nil {
		return i, err
	}
	i.ID = termination.NewID(termination.PrefixIdentity, tx.now)
	err := tx.exec("INSERT INTO identities (id, name, origin, rate, burst, blocked, created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		i.ID, i.Name, string(i.Origin), i.Rate.String(), i.Rate.Burst, i.Blocked, tx.now.UnixMilli(), tx.now.UnixMilli())
	if err != nil {
		return i, saving(KindIdentity, i.Name, err)
	}
	if err := tx.insertIdentityParts(i, nil); err != nil {
		return i, err
	}
	return i, tx.audit(ActionCreate, KindIdentity, i.ID, i.Name, nil, describeIdentity(i))
}

// UpdateIdentity replaces everything of the identity with i's ID but its origin. Rules follow a new name.
func (tx *Tx) UpdateIdentity(i termination.Identity) error {
	row, err := tx.identityRow(i.ID)
	if err != nil {
		return err
	}
	old := row.Identity
	if err := tx.writable(KindIdentity, old.Name, old.Origin); err != nil {
		return err
	}
	i.ID, i.Origin = old.ID, old.Origin
	if err := checkObject(KindIdentity, i.Name, &i.Origin); err != nil {
		return err
	}
	if unchanged, err := same(describeIdentity(old), describeIdentity(i)); err != nil || unchanged && row.err == nil {
		return err
	}
	if err := tx.exec("UPDATE identities SET name = ?, rate = ?, burst = ?, blocked = ?, changed = ? WHERE id = ?",
		i.Name, i.Rate.String(), i.Rate.Burst, i.Blocked, tx.now.UnixMilli(), i.ID); err != nil {
		return saving(KindIdentity, i.Name, err)
	}
	for _, table := range []string{"identity_pins", "identity_issuers", "identity_matches", "identity_endpoints"} {
		if err := tx.exec("DELETE FROM "+table+" WHERE identity_id = ?", i.ID); err != nil {
			return saving(KindIdentity, i.Name, err)
		}
	}
	if err := tx.insertIdentityParts(i, row.added); err != nil {
		return err
	}
	if err := tx.renameInRules("identity", old.Name, i.Name); err != nil {
		return err
	}
	return tx.audit(ActionUpdate, KindIdentity, i.ID, i.Name, describeIdentity(old), describeIdentity(i))
}

// DeleteIdentity removes the identity with that name or ID. Its certificate comes in nowhere any more, but where
// something else vouches for it.
func (tx *Tx) DeleteIdentity(ref string) error {
	row, err := tx.identityRow(ref)
	if err != nil {
		return err
	}
	if err := tx.writable(KindIdentity, row.Name, row.Origin); err != nil {
		return err
	}
	users, err := tx.credentialsOf(row.ID)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return InUseError{Kind: KindIdentity, Name: row.Name, By: users}
	}
	if err := tx.exec("DELETE FROM identities WHERE id = ?", row.ID); err != nil {
		return saving(KindIdentity, row.Name, err)
	}
	return tx.audit(ActionDelete, KindIdentity, row.ID, row.Name, describeIdentity(row.Identity), nil)
}

// Identity returns the identity with that ID or name. One that cannot be read whole is returned with what could be, so that
// it can be replaced or deleted.
func (tx *Tx) Identity(ref string) (termination.Identity, error) {
	row, err := tx.identityRow(ref)
	return row.Identity, err
}

func (tx *Tx) identityRow(ref string) (identityRow, error) {
	rows, err := readIdentities(tx.ctx, tx.sql, ref, nil)
	if err != nil {
		return identityRow{}, err
	}
	for _, r := range rows {
		if ref != "" && (r.ID == ref || len(rows) == 1) {
			return r, nil
		}
	}
	return identityRow{}, NotFoundError{Kind: KindIdentity, Name: ref}
}

// insertIdentityParts writes what an identity is known by and where it may come in. added has the times of pins that it
// had before.
func (tx *Tx) insertIdentityParts(i termination.Identity, added map[termination.Pin]int64) error {
	for n, pin := range i.Pins {
		var der []byte
		if c := i.Certificate(pin); c != nil {
			der = c.Raw
		}
		at, ok := added[pin]
		if !ok {
			at = tx.now.UnixMilli()
		}
		err := tx.exec("INSERT INTO identity_pins (pin, identity_id, position, der, added) VALUES (?, ?, ?, ?, ?)", pin.String(), i.ID, n, der, at)
		if err != nil {
			return saving(KindIdentity, i.Name, err)
		}
	}
	for n, c := range i.Issuers {
		if err := tx.exec("INSERT INTO identity_issuers (identity_id, position, der) VALUES (?, ?, ?)", i.ID, n, c.Raw); err != nil {
			return saving(KindIdentity, i.Name, err)
		}
	}
	if err := tx.insertIdentityMatches(i); err != nil {
		return err
	}
	return tx.insertIdentityEndpoints(i)
}

func (tx *Tx) insertIdentityMatches(i termination.Identity) error {
	if len(i.Matches) == 0 {
		return nil
	}
	ids, err := nameToID(tx.ctx, tx.sql, authorityNames)
	if err != nil {
		return err
	}
	for n, m := range i.Matches {
		if m.Authority == "" {
			return fieldError(KindIdentity, i.Name, "match", "it names no authority, and another CA could write the same names", "add authority= to it, the one that issues this client's certificates")
		}
		id, ok := ids[m.Authority]
		if !ok {
			return fieldError(KindIdentity, i.Name, "match", fmt.Sprintf("there is no authority %q", m.Authority), "upload it under Trust, or choose another")
		}
		m.Authority = ""
		subject, err := json.Marshal(m.Words())
		if err != nil {
			return fmt.Errorf("encode a match of identity %q: %w", i.Name, err)
		}
		if err := tx.exec("INSERT INTO identity_matches (identity_id, position, authority_id, subject) VALUES (?, ?, ?, ?)", i.ID, n, id, string(subject)); err != nil {
			return saving(KindIdentity, i.Name, err)
		}
	}
	return nil
}

func (tx *Tx) insertIdentityEndpoints(i termination.Identity) error {
	for n, name := range i.Endpoints {
		var id string
		var origin termination.Origin
		err := tx.sql.QueryRowContext(tx.ctx, "SELECT id, origin FROM endpoints WHERE name = ?", name).Scan(&id, &origin)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fieldError(KindIdentity, i.Name, "endpoints", fmt.Sprintf("there is no endpoint %q", name), "create it first, or name another")
		case err != nil:
			return fmt.Errorf("look for endpoint %q: %w", name, err)
		case origin == termination.OriginCommand:
			return fieldError(KindIdentity, i.Name, "endpoints", fmt.Sprintf("the endpoint %q was made by a command and ends with it", name), "name an endpoint that stays")
		}
		if err := tx.exec("INSERT INTO identity_endpoints (identity_id, position, endpoint_id) VALUES (?, ?, ?)", i.ID, n, id); err != nil {
			return saving(KindIdentity, i.Name, err)
		}
	}
	return nil
}

// identitiesAt names the identities that name an endpoint.
func (tx *Tx) identitiesAt(endpointID string) ([]string, error) {
	users, err := tx.strings(`SELECT DISTINCT 'identity "' || name || '"' FROM identity_endpoints JOIN identities ON id = identity_id WHERE endpoint_id = ? ORDER BY 1 LIMIT 10`, endpointID)
	if err != nil {
		return nil, fmt.Errorf("look for identities of endpoint: %w", err)
	}
	return users, nil
}

type describedIdentity struct {
	Name         string                 `json:"name"`
	Pins         []string               `json:"pins"`
	Match        []map[string]string    `json:"match"`
	Endpoints    []string               `json:"endpoints"`
	Rate         string                 `json:"rate"`
	Burst        int                    `json:"burst"`
	Blocked      bool                   `json:"blocked"`
	Certificates []describedCertificate `json:"certificates"`
	Issuers      []describedCertificate `json:"issuers,omitempty"`
}

func describeIdentity(i termination.Identity) describedIdentity {
	d := describedIdentity{
		Name: i.Name, Pins: pinTexts(i.Pins), Match: []map[string]string{}, Endpoints: append([]string{}, i.Endpoints...),
		Rate: i.Rate.String(), Burst: i.Rate.Burst, Blocked: i.Blocked, Certificates: []describedCertificate{},
	}
	for _, m := range i.Matches {
		d.Match = append(d.Match, m.Words())
	}
	for _, pin := range i.Pins {
		if c := i.Certificate(pin); c != nil {
			d.Certificates = append(d.Certificates, describeX509(c, ""))
		}
	}
	for _, c := range i.Issuers {
		d.Issuers = append(d.Issuers, describeX509(c, ""))
	}
	return d
}
