package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"fmt"
	"time"

	"countersign/termination"
)

// Issued is a certificate that the local CA issued. Its key is not kept.
type Issued struct {
	Certificate *x509.Certificate
	Kind        string // "client" or "server"
	Name        string // what it was issued for; hostile text
	AuthorityID string // empty when the authority is gone
	Created     time.Time
	By          string
}

// AddIssued records a certificate that the local CA under the authority with that name or ID issued. The same
// certificate twice is no error.
func (s *Store) AddIssued(ctx context.Context, actor Actor, authority, kind, name string, c *x509.Certificate) error {
	if err := actor.check(); err != nil {
		return err
	}
	if err := checkText("the name of an issued certificate", name); err != nil {
		return err
	}
	return s.write(ctx, actor, func(tx *Tx) error {
		a, err := tx.Authority(authority)
		if err != nil {
			return err
		}
		f := termination.FingerprintOf(c)
		res, err := tx.sql.ExecContext(tx.ctx, `INSERT INTO issued_certificates (fingerprint, authority_id, kind, name, der, not_after, created, created_by)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, f[:], a.ID, kind, name, c.Raw, c.NotAfter.UnixMilli(), tx.now.UnixMilli(), actor.Name)
		if err != nil {
			return fmt.Errorf("record issued certificate: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return tx.audit(ActionIssue, KindIssued, f.String(), name, nil, describeX509(c, ""))
	})
}

// Issued lists the certificates of that kind that were issued here ("" for all), what ends first first. One that cannot
// be read is left out.
func (s *Store) Issued(ctx context.Context, kind string) ([]Issued, error) {
	var out []Issued
	err := s.read(ctx, func(q *sql.Tx) error {
		rows, err := q.QueryContext(ctx, `SELECT kind, name, coalesce(authority_id, ''), der, created, created_by FROM issued_certificates
			WHERE ?1 = '' OR kind = ?1 ORDER BY not_after, created`, kind)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var i Issued
			var der []byte
			var created int64
			if err := rows.Scan(&i.Kind, &i.Name, &i.AuthorityID, &der, &created, &i.By); err != nil {
				return err
			}
			i.Created = fromMillis(created)
			if i.Certificate, err = x509.ParseCertificate(der); err != nil {
				s.log.Warn("an issued certificate cannot be read", "name", i.Name, "error", err)
				continue
			}
			out = append(out, i)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list issued certificates: %w", err)
	}
	return out, nil
}
