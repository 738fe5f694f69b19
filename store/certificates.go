package store

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"

	"countersign/termination"
)

// Where a server certificate came from.
const (
	SourceUpload = "upload"
	SourceLocal  = "local" // issued by the local CA
	SourceFile   = "file"  // named in the configuration file
)

// certificateRow is a server certificate as it was read, its key still sealed; err says why it cannot be used.
type certificateRow struct {
	termination.Certificate
	source string
	sealed []byte
	err    error
}

// CreateCertificate adds a server certificate, its key sealed, and returns it with its new ID. source is one of
// [SourceUpload], [SourceLocal], [SourceFile].
func (tx *Tx) CreateCertificate(c termination.Certificate, source string) (termination.Certificate, error) {
	if err := checkObject(KindCertificate, c.Name, &c.Origin); err != nil {
		return c, err
	}
	if err := tx.writable(KindCertificate, c.Name, c.Origin); err != nil {
		return c, err
	}
	sealed, err := tx.sealKey(c)
	if err != nil {
		return c, err
	}
	c.ID = termination.NewID(termination.PrefixCertificate, tx.now)
	err = tx.exec("INSERT INTO certificates (id, name, origin, source, chain, sealed_key, created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		c.ID, c.Name, string(c.Origin), source, joinDER(c.Chain), sealed, tx.now.UnixMilli(), tx.now.UnixMilli())
	if err != nil {
		return c, saving(KindCertificate, c.Name, err)
	}
	return c, tx.audit(ActionCreate, KindCertificate, c.ID, c.Name, nil, describeCertificate(c))
}

// UpdateCertificate replaces the name, chain and key of the certificate with c's ID. Its origin stays. Endpoints follow
// a new name. Without a key the stored one stays, and the chain's leaf must be for it.
func (tx *Tx) UpdateCertificate(c termination.Certificate) error {
	old, err := tx.certificate(c.ID)
	if err != nil {
		return err
	}
	if err := tx.writable(KindCertificate, old.Name, old.Origin); err != nil {
		return err
	}
	c.ID, c.Origin = old.ID, old.Origin
	if err := checkObject(KindCertificate, c.Name, &c.Origin); err != nil {
		return err
	}
	if unchanged, err := same(describeCertificate(old.Certificate), describeCertificate(c)); err != nil || unchanged {
		return err // a chain is for one key only, so the same chain means the same key
	}
	sealed := old.sealed
	if c.Key != nil {
		sealed, err = tx.sealKey(c)
	} else if len(c.Chain) > 0 {
		_, err = tx.store.sealer.open(sealed, c.Leaf().PublicKey)
	}
	if err != nil {
		return err
	}
	err = tx.exec("UPDATE certificates SET name = ?, chain = ?, sealed_key = ?, changed = ? WHERE id = ?", c.Name, joinDER(c.Chain), sealed, tx.now.UnixMilli(), c.ID)
	if err != nil {
		return saving(KindCertificate, c.Name, err)
	}
	return tx.audit(ActionUpdate, KindCertificate, c.ID, c.Name, describeCertificate(old.Certificate), describeCertificate(c))
}

// DeleteCertificate removes the certificate with that name or ID, and its key. It is an [InUseError] while an endpoint
// needs it.
func (tx *Tx) DeleteCertificate(ref string) error {
	c, err := tx.certificate(ref)
	if err != nil {
		return err
	}
	if err := tx.writable(KindCertificate, c.Name, c.Origin); err != nil {
		return err
	}
	users, err := tx.strings(`SELECT DISTINCT 'endpoint "' || name || '"' FROM endpoints WHERE id IN
		(SELECT endpoint_id FROM endpoint_certificates WHERE certificate_id = ?1 UNION SELECT endpoint_id FROM endpoint_own_certificates WHERE certificate_id = ?1)`, c.ID)
	if err != nil {
		return fmt.Errorf("look for users of certificate: %w", err)
	}
	if len(users) > 0 {
		return InUseError{Kind: KindCertificate, Name: c.Name, By: users}
	}
	if err := tx.exec("DELETE FROM certificates WHERE id = ?", c.ID); err != nil {
		return saving(KindCertificate, c.Name, err)
	}
	return tx.audit(ActionDelete, KindCertificate, c.ID, c.Name, describeCertificate(c.Certificate), nil)
}

// Certificate returns the certificate with that ID or name, without its key.
func (tx *Tx) Certificate(ref string) (termination.Certificate, error) {
	r, err := tx.certificate(ref)
	return r.Certificate, err
}

func (tx *Tx) certificate(ref string) (certificateRow, error) {
	rows, err := readCertificates(tx.ctx, tx.sql, ref)
	if err != nil {
		return certificateRow{}, err
	}
	for _, r := range rows {
		if ref != "" && (r.ID == ref || len(rows) == 1) {
			return r, nil
		}
	}
	return certificateRow{}, NotFoundError{Kind: KindCertificate, Name: ref}
}

func (tx *Tx) sealKey(c termination.Certificate) ([]byte, error) {
	if len(c.Chain) == 0 || c.Key == nil {
		return nil, fieldError(KindCertificate, c.Name, "cert_file", "certificate or key is missing", "give both")
	}
	if !samePublicKey(c.Key.Public(), c.Leaf().PublicKey) {
		return nil, fieldError(KindCertificate, c.Name, "key_file", "the key does not belong to the certificate", "give the key that the certificate was made for")
	}
	return tx.store.sealer.seal(c.Key)
}

// readCertificates returns server certificates in the order in which they were made, without their keys: those with that
// ID or name, or, with an empty ref, all.
func readCertificates(ctx context.Context, q *sql.Tx, ref string) ([]certificateRow, error) {
	rows, err := q.QueryContext(ctx, "SELECT id, name, origin, source, chain, sealed_key FROM certificates WHERE ?1 = '' OR id = ?1 OR name = ?1 ORDER BY id", ref)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []certificateRow
	for rows.Next() {
		var r certificateRow
		var chain []byte
		if err := rows.Scan(&r.ID, &r.Name, &r.Origin, &r.source, &chain, &r.sealed); err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		r.Chain, r.err = x509.ParseCertificates(chain)
		if r.err == nil && len(r.Chain) == 0 {
			r.err = errors.New("it is empty")
		}
		if r.err != nil {
			r.Chain, r.err = nil, fmt.Errorf("its chain cannot be read: %w", r.err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return out, nil
}

func joinDER(chain []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range chain {
		b.Write(c.Raw)
	}
	return b.Bytes()
}

type describedChain struct {
	Name  string                 `json:"name"`
	Chain []describedCertificate `json:"chain"`
}

func describeCertificate(c termination.Certificate) describedChain {
	d := describedChain{Name: c.Name, Chain: []describedCertificate{}}
	for _, x := range c.Chain {
		d.Chain = append(d.Chain, describeX509(x, ""))
	}
	return d
}
