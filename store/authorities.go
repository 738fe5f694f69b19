package store

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// authorityRow is an authority as it was read; err says why it cannot be used.
type authorityRow struct {
	termination.Authority
	err error
}

// CreateAuthority adds an authority and returns it with its new ID. An authority without an origin is the dashboard's.
func (tx *Tx) CreateAuthority(a termination.Authority) (termination.Authority, error) {
	if err := checkObject(KindAuthority, a.Name, &a.Origin); err != nil {
		return a, err
	}
	if err := tx.writable(KindAuthority, a.Name, a.Origin); err != nil {
		return a, err
	}
	a.ID = termination.NewID(termination.PrefixAuthority, tx.now)
	err := tx.exec("INSERT INTO authorities (id, name, origin, created, changed) VALUES (?, ?, ?, ?, ?)", a.ID, a.Name, string(a.Origin), tx.now.UnixMilli(), tx.now.UnixMilli())
	if err != nil {
		return a, saving(KindAuthority, a.Name, err)
	}
	if err := tx.insertAuthorityCertificates(a); err != nil {
		return a, err
	}
	if err := tx.saveRevocation(a); err != nil {
		return a, err
	}
	return a, tx.audit(ActionCreate, KindAuthority, a.ID, a.Name, nil, describeAuthority(a))
}

// UpdateAuthority replaces the name and the certificates of the authority with a's ID. Its origin stays. Endpoints
// follow a new name.
func (tx *Tx) UpdateAuthority(a termination.Authority) error {
	old, err := tx.Authority(a.ID)
	if err != nil {
		return err
	}
	if err := tx.writable(KindAuthority, old.Name, old.Origin); err != nil {
		return err
	}
	a.ID, a.Origin = old.ID, old.Origin
	if err := checkObject(KindAuthority, a.Name, &a.Origin); err != nil {
		return err
	}
	if err := keepNewest(old, &a); err != nil {
		return err
	}
	if unchanged, err := same(describeAuthority(old), describeAuthority(a)); err != nil || unchanged {
		return err
	}
	if err := tx.keepsLocalCA(a); err != nil {
		return err
	}
	if err := tx.exec("UPDATE authorities SET name = ?, changed = ? WHERE id = ?", a.Name, tx.now.UnixMilli(), a.ID); err != nil {
		return saving(KindAuthority, a.Name, err)
	}
	if err := tx.renameInRules("authority", old.Name, a.Name); err != nil {
		return err
	}
	if err := tx.exec("DELETE FROM authority_certificates WHERE authority_id = ?", a.ID); err != nil {
		return saving(KindAuthority, a.Name, err)
	}
	if err := tx.insertAuthorityCertificates(a); err != nil {
		return err
	}
	if err := tx.saveRevocation(a); err != nil {
		return err
	}
	return tx.audit(ActionUpdate, KindAuthority, a.ID, a.Name, describeAuthority(old), describeAuthority(a))
}

// DeleteAuthority removes the authority with that name or ID. It is an [InUseError] while an endpoint, the defaults or
// a local CA need it.
func (tx *Tx) DeleteAuthority(ref string) error {
	a, err := tx.Authority(ref)
	if err != nil {
		return err
	}
	if err := tx.writable(KindAuthority, a.Name, a.Origin); err != nil {
		return err
	}
	users, err := tx.authorityUsers(a.ID)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return InUseError{Kind: KindAuthority, Name: a.Name, By: users}
	}
	if err := tx.exec("DELETE FROM authorities WHERE id = ?", a.ID); err != nil {
		return saving(KindAuthority, a.Name, err)
	}
	return tx.audit(ActionDelete, KindAuthority, a.ID, a.Name, describeAuthority(a), nil)
}

// Authority returns the authority with that ID or name. One whose certificates cannot be read is returned without
// them, so that it can be replaced or deleted.
func (tx *Tx) Authority(ref string) (termination.Authority, error) {
	rows, err := readAuthorities(tx.ctx, tx.sql, ref)
	if err != nil {
		return termination.Authority{}, err
	}
	for _, r := range rows {
		if ref != "" && (r.ID == ref || len(rows) == 1) {
			return r.Authority, nil
		}
	}
	return termination.Authority{}, NotFoundError{Kind: KindAuthority, Name: ref}
}

func (tx *Tx) insertAuthorityCertificates(a termination.Authority) error {
	for i, c := range a.Certificates {
		if c.Role != termination.RoleAnchor && c.Role != termination.RoleHelper {
			return fieldError(KindAuthority, a.Name, "role", fmt.Sprintf("%q is unknown", c.Role), "use anchor or helper")
		}
		f := termination.FingerprintOf(c.Certificate)
		err := tx.exec("INSERT INTO authority_certificates (authority_id, position, role, fingerprint, der) VALUES (?, ?, ?, ?, ?)", a.ID, i, string(c.Role), f[:], c.Certificate.Raw)
		if isUnique(err) {
			return fieldError(KindAuthority, a.Name, "pem", fmt.Sprintf("the certificate %s stands in it twice", f.Short()), "remove one")
		}
		if err != nil {
			return saving(KindAuthority, a.Name, err)
		}
	}
	return nil
}

// authorityUsers names what needs an authority.
func (tx *Tx) authorityUsers(id string) ([]string, error) {
	users, err := tx.strings(`
		SELECT DISTINCT CASE route WHEN '' THEN '' ELSE 'route ' || route || ' of ' END || 'endpoint "' || e.name || '"'
		FROM endpoint_authorities JOIN endpoints e ON e.id = endpoint_id WHERE authority_id = ?1
		UNION ALL SELECT DISTINCT 'the defaults' FROM default_authorities WHERE authority_id = ?1
		UNION ALL SELECT 'the local CA' FROM local_cas WHERE authority_id = ?1
		UNION ALL SELECT DISTINCT 'identity "' || i.name || '"' FROM identity_matches JOIN identities i ON i.id = identity_id WHERE authority_id = ?1
		UNION ALL SELECT CASE count(*) WHEN 1 THEN 'a block' ELSE count(*) || ' blocks' END || ' by serial number' FROM blocks WHERE authority_id = ?1 HAVING count(*) > 0`, id)
	if err != nil {
		return nil, fmt.Errorf("look for users of authority: %w", err)
	}
	return users, nil
}

// keepsLocalCA refuses to take the local CA's own certificate out of its authority.
func (tx *Tx) keepsLocalCA(a termination.Authority) error {
	var fingerprint []byte
	err := tx.sql.QueryRowContext(tx.ctx, "SELECT fingerprint FROM local_cas WHERE authority_id = ?", a.ID).Scan(&fingerprint)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for local CA: %w", err)
	}
	for _, c := range a.Certificates {
		if f := termination.FingerprintOf(c.Certificate); bytes.Equal(f[:], fingerprint) {
			return nil
		}
	}
	return InUseError{Kind: "the certificate of authority", Name: a.Name, By: []string{"the local CA"}}
}

// readAuthorities returns authorities in the order in which they were made: those with that ID or name, or, with an
// empty ref, all.
func readAuthorities(ctx context.Context, q *sql.Tx, ref string) ([]authorityRow, error) {
	rows, err := q.QueryContext(ctx, "SELECT id, name, origin FROM authorities WHERE ?1 = '' OR id = ?1 OR name = ?1 ORDER BY id", ref)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []authorityRow
	for rows.Next() {
		var r authorityRow
		if err := rows.Scan(&r.ID, &r.Name, &r.Origin); err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	return out, readAuthorityCertificates(ctx, q, out)
}

func readAuthorityCertificates(ctx context.Context, q *sql.Tx, authorities []authorityRow) error {
	byID := make(map[string]*authorityRow, len(authorities))
	for i := range authorities {
		byID[authorities[i].ID] = &authorities[i]
	}
	only := ""
	if len(authorities) == 1 {
		only = authorities[0].ID
	}
	rows, err := q.QueryContext(ctx, "SELECT authority_id, role, fingerprint, der FROM authority_certificates WHERE ?1 = '' OR authority_id = ?1 ORDER BY authority_id, position", only)
	if err != nil {
		return fmt.Errorf("read certificates of authorities: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		var role termination.Role
		var fingerprint, der []byte
		if err := rows.Scan(&id, &role, &fingerprint, &der); err != nil {
			return fmt.Errorf("read certificates of authorities: %w", err)
		}
		if a := byID[id]; a != nil && a.err == nil {
			a.add(role, fingerprint, der)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read certificates of authorities: %w", err)
	}
	return readRevocation(ctx, q, byID, only)
}

// add takes a certificate as it was read. One that is not what was stored makes the whole authority unusable: what is
// left of it would be another policy than the one that was chosen.
func (r *authorityRow) add(role termination.Role, fingerprint, der []byte) {
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		r.err = fmt.Errorf("a certificate in it cannot be read: %w", err)
	case role != termination.RoleAnchor && role != termination.RoleHelper:
		r.err = fmt.Errorf("a certificate in it has the unknown role %q", role)
	default:
		if f := termination.FingerprintOf(c); !bytes.Equal(f[:], fingerprint) {
			r.err = errors.New("a certificate in it is not the one that was stored")
		}
	}
	if r.err != nil {
		r.Certificates = nil
		return
	}
	r.Certificates = append(r.Certificates, termination.CACertificate{Certificate: c, Role: role})
}

type describedAuthority struct {
	Name         string                 `json:"name"`
	Certificates []describedCertificate `json:"certificates"`
	Revocation   *describedRevocation   `json:"revocation,omitempty"`
}

type describedCertificate struct {
	Fingerprint termination.Fingerprint `json:"fingerprint"`
	Subject     string                  `json:"subject"`
	NotAfter    time.Time               `json:"notAfter"`
	Role        termination.Role        `json:"role,omitempty"`
}

func describeAuthority(a termination.Authority) describedAuthority {
	d := describedAuthority{Name: a.Name, Certificates: []describedCertificate{}, Revocation: describeRevocation(a.Revocation)}
	for _, c := range a.Certificates {
		d.Certificates = append(d.Certificates, describeX509(c.Certificate, c.Role))
	}
	return d
}

func describeX509(c *x509.Certificate, role termination.Role) describedCertificate {
	return describedCertificate{
		Fingerprint: termination.FingerprintOf(c), Role: role,
		Subject: termination.NameText(c.Subject), NotAfter: c.NotAfter.UTC(),
	}
}
