package store

import (
	"bytes"
	"context"
	"crypto"
	"database/sql"
	"errors"
	"fmt"

	"countersign/termination"
)

// localCARow is a local CA as it was read, its key still sealed.
type localCARow struct {
	authorityID string
	authority   string // name
	fingerprint []byte
	sealed      []byte
	constrained bool
}

// CreateLocalCA makes an authority able to issue: key belongs to a certificate of the authority with that name or ID,
// which becomes the issuing one. constrained says that it may sign only for localhost and loopback; those are asked
// first.
func (tx *Tx) CreateLocalCA(authority string, key crypto.Signer, constrained bool) error {
	a, err := tx.Authority(authority)
	if err != nil {
		return err
	}
	for _, c := range a.Certificates {
		if c.Certificate.IsCA && samePublicKey(key.Public(), c.Certificate.PublicKey) {
			return tx.insertLocalCA(a, c, key, constrained)
		}
	}
	return fieldError(KindAuthority, a.Name, "key", "the key belongs to no CA certificate in it", "give the key of one of its CA certificates")
}

func (tx *Tx) insertLocalCA(a termination.Authority, c termination.CACertificate, key crypto.Signer, constrained bool) error {
	sealed, err := tx.store.sealer.seal(key)
	if err != nil {
		return err
	}
	f := termination.FingerprintOf(c.Certificate)
	err = tx.exec("INSERT INTO local_cas (authority_id, fingerprint, sealed_key, constrained, created) VALUES (?, ?, ?, ?, ?)", a.ID, f[:], sealed, constrained, tx.now.UnixMilli())
	if err != nil {
		return saving(KindLocalCA, a.Name, err)
	}
	return tx.audit(ActionCreate, KindLocalCA, a.ID, a.Name, nil, describeX509(c.Certificate, c.Role))
}

// DeleteLocalCA takes the key away from an authority, which stays trusted. Endpoints that have certificates from it are
// checked with the whole configuration.
func (tx *Tx) DeleteLocalCA(authority string) error {
	a, err := tx.Authority(authority)
	if err != nil {
		return err
	}
	res, err := tx.sql.ExecContext(tx.ctx, "DELETE FROM local_cas WHERE authority_id = ?", a.ID)
	if err != nil {
		return saving(KindLocalCA, a.Name, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return saving(KindLocalCA, a.Name, err)
	}
	if n == 0 {
		return NotFoundError{Kind: KindLocalCA, Name: authority}
	}
	return tx.audit(ActionDelete, KindLocalCA, a.ID, a.Name, describeAuthority(a), nil)
}

// LocalCA says which authorities can issue here.
type LocalCA struct {
	AuthorityID string
	Authority   string // name
	Constrained bool   // to localhost and loopback
}

// LocalCAs lists the authorities that can issue here, in the order in which they are asked.
func (s *Store) LocalCAs(ctx context.Context) ([]LocalCA, error) {
	var out []LocalCA
	err := s.read(ctx, func(q *sql.Tx) error {
		rows, err := readLocalCAs(ctx, q)
		for _, r := range rows {
			out = append(out, LocalCA{AuthorityID: r.authorityID, Authority: r.authority, Constrained: r.constrained})
		}
		return err
	})
	return out, err
}

// readLocalCAs returns the constrained ones first: a name that one of those may sign never takes the other's power.
func readLocalCAs(ctx context.Context, q *sql.Tx) ([]localCARow, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT l.authority_id, a.name, l.fingerprint, l.sealed_key, l.constrained
		FROM local_cas l JOIN authorities a ON a.id = l.authority_id ORDER BY l.constrained DESC, l.created, a.id`)
	if err != nil {
		return nil, fmt.Errorf("read local CAs: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []localCARow
	for rows.Next() {
		var r localCARow
		if err := rows.Scan(&r.authorityID, &r.authority, &r.fingerprint, &r.sealed, &r.constrained); err != nil {
			return nil, fmt.Errorf("read local CAs: %w", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read local CAs: %w", err)
	}
	return out, nil
}

// open finds the issuing certificate in its authority and opens its key.
func (r localCARow) open(a *termination.Authority, l *loader) (termination.LocalCA, error) {
	if a == nil {
		return termination.LocalCA{}, errors.New("its authority cannot be read")
	}
	for _, c := range a.Certificates {
		if f := termination.FingerprintOf(c.Certificate); !bytes.Equal(f[:], r.fingerprint) {
			continue
		}
		key, err := l.store.sealer.openKept(r.sealed, c.Certificate.PublicKey, l.keys)
		return termination.LocalCA{Name: a.Name, Certificate: c.Certificate, Key: key}, err
	}
	return termination.LocalCA{}, errors.New("its certificate is not in its authority")
}
