package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// Revoked is a certificate that the local CA has taken back.
type Revoked struct {
	AuthorityID string
	Serial      string
	Reason      string
	Time        time.Time
	By          string
}

// Revoke takes back, for good, what the local CA of an authority has issued under a serial number. One that was taken back
// already stays as it was.
func (tx *Tx) Revoke(authority, serial, reason string) error {
	a, err := tx.Authority(authority)
	if err != nil {
		return err
	}
	plain, err := termination.ParseSerial(serial)
	if err != nil {
		return fieldError(KindAuthority, a.Name, "serial", err.Error(), "write it in hex, as openssl x509 -serial prints it")
	}
	if reason != "" {
		if err := checkText("the reason", reason); err != nil {
			return err
		}
	}
	var issues int
	if err := tx.sql.QueryRowContext(tx.ctx, "SELECT count(*) FROM local_cas WHERE authority_id = ?", a.ID).Scan(&issues); err != nil {
		return fmt.Errorf("look for the local CA: %w", err)
	}
	if issues == 0 {
		return fieldError(KindAuthority, a.Name, "", "its key is not here, so it is not for us to take back what it issues", "block the certificate instead, or give the authority the revocation list of its CA")
	}
	res, err := tx.sql.ExecContext(tx.ctx, "INSERT OR IGNORE INTO revoked_certificates (authority_id, serial, reason, revoked, revoked_by) VALUES (?, ?, ?, ?, ?)",
		a.ID, plain, reason, tx.now.UnixMilli(), tx.actor.Name)
	if err != nil {
		return saving(KindAuthority, a.Name, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return tx.audit(ActionRevoke, KindAuthority, a.ID, a.Name, nil, map[string]string{"serial": plain, "reason": reason})
}

// Revoked lists what local CAs have taken back.
func (s *Store) Revoked(ctx context.Context) ([]Revoked, error) {
	var out []Revoked
	err := s.read(ctx, func(q *sql.Tx) (err error) {
		out, err = readRevoked(ctx, q)
		return err
	})
	return out, err
}

func readRevoked(ctx context.Context, q *sql.Tx) ([]Revoked, error) {
	rows, err := q.QueryContext(ctx, "SELECT authority_id, serial, reason, revoked, revoked_by FROM revoked_certificates ORDER BY authority_id, revoked, serial")
	if err != nil {
		return nil, fmt.Errorf("read what was revoked: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []Revoked
	for rows.Next() {
		var r Revoked
		var at int64
		if err := rows.Scan(&r.AuthorityID, &r.Serial, &r.Reason, &at, &r.By); err != nil {
			return nil, fmt.Errorf("read what was revoked: %w", err)
		}
		r.Time = fromMillis(at)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read what was revoked: %w", err)
	}
	return out, nil
}

// revoked puts what was taken back beside the authority that it belongs to. An authority of which something cannot be read
// is not used: whom it would let in is not known.
func (l *loader) revoked() error {
	rows, err := readRevoked(l.ctx, l.sql)
	if err != nil {
		return err
	}
	byID := map[string]*termination.Authority{}
	for i := range l.config.Authorities {
		byID[l.config.Authorities[i].ID] = &l.config.Authorities[i]
	}
	for _, r := range rows {
		a := byID[r.AuthorityID]
		if a == nil {
			continue // nothing it has issued is let in
		}
		if serial, err := termination.ParseSerial(r.Serial); err != nil || serial != r.Serial {
			if l.broken[a.ID] == "" {
				l.breaks(KindAuthority, a.ID, a.Name, errors.New("a certificate that it has revoked cannot be read"))
			}
			continue
		}
		a.Revocation.Revoked = append(a.Revocation.Revoked, termination.RevokedCertificate{Serial: r.Serial, Time: r.Time, Reason: r.Reason})
	}
	var usable []termination.Authority
	for i := range l.config.Authorities {
		if l.broken[l.config.Authorities[i].ID] == "" {
			usable = append(usable, l.config.Authorities[i])
		}
	}
	l.config.Authorities = usable
	return nil
}
