package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"

	"countersign/termination"
)

// FetchedList is what was fetched from an address of revocation lists, kept over a restart.
type FetchedList struct {
	Authority    string // its ID
	URL          string
	Body         []byte // nil where only Checked has changed
	ETag         string
	LastModified string
	Checked      time.Time
}

// FetchedLists returns everything that was fetched and is kept.
func (s *Store) FetchedLists(ctx context.Context) ([]FetchedList, error) {
	rows, err := s.config.reader.QueryContext(ctx, "SELECT authority_id, url, body, etag, modified, checked FROM fetched_crls ORDER BY authority_id, url")
	if err != nil {
		return nil, fmt.Errorf("read fetched revocation lists: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []FetchedList
	for rows.Next() {
		var f FetchedList
		var checked int64
		if err := rows.Scan(&f.Authority, &f.URL, &f.Body, &f.ETag, &f.LastModified, &checked); err != nil {
			return nil, fmt.Errorf("read fetched revocation lists: %w", err)
		}
		f.Checked = time.UnixMilli(checked)
		out = append(out, f)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read fetched revocation lists: %w", err)
	}
	return out, nil
}

// KeepFetchedList keeps what was fetched, as long as the authority wants that address. It is no part of the configuration.
func (s *Store) KeepFetchedList(ctx context.Context, f FetchedList) error {
	return s.write(ctx, Actor{Name: "revocation", Via: "revocation"}, func(tx *Tx) error {
		var err error
		if f.Body == nil {
			err = tx.exec("UPDATE fetched_crls SET checked = ? WHERE authority_id = ? AND url = ?", f.Checked.UnixMilli(), f.Authority, f.URL)
		} else {
			err = tx.exec(`INSERT OR REPLACE INTO fetched_crls (authority_id, url, body, etag, modified, checked)
				SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM authority_crl_urls WHERE authority_id = ?1 AND url = ?2)`,
				f.Authority, f.URL, f.Body, f.ETag, f.LastModified, f.Checked.UnixMilli())
		}
		if err != nil {
			return fmt.Errorf("keep a revocation list: %w", err)
		}
		return nil
	})
}

// saveRevocation replaces what an authority says about revocation. What the local CA has taken back stands elsewhere.
func (tx *Tx) saveRevocation(a termination.Authority) error {
	for _, q := range []string{
		"DELETE FROM authority_revocation WHERE authority_id = ?", "DELETE FROM authority_crls WHERE authority_id = ?",
		"DELETE FROM authority_crl_urls WHERE authority_id = ?",
	} {
		if err := tx.exec(q, a.ID); err != nil {
			return saving(KindAuthority, a.Name, err)
		}
	}
	r := a.Revocation
	if r.Mode != "" || r.OCSPURL != "" {
		if err := tx.exec("INSERT INTO authority_revocation (authority_id, mode, ocsp_url) VALUES (?, ?, ?)", a.ID, string(r.Mode), r.OCSPURL); err != nil {
			return saving(KindAuthority, a.Name, err)
		}
	}
	for i, l := range r.CRLs {
		if err := tx.exec("INSERT INTO authority_crls (authority_id, position, source, der) VALUES (?, ?, ?, ?)", a.ID, i, l.Source, l.DER); err != nil {
			return saving(KindAuthority, a.Name, err)
		}
	}
	for i, u := range r.CRLURLs {
		if err := tx.exec("INSERT INTO authority_crl_urls (authority_id, position, url) VALUES (?, ?, ?)", a.ID, i, u); err != nil {
			return saving(KindAuthority, a.Name, err)
		}
	}
	if err := tx.exec("DELETE FROM fetched_crls WHERE authority_id = ?1 AND url NOT IN (SELECT url FROM authority_crl_urls WHERE authority_id = ?1)", a.ID); err != nil {
		return saving(KindAuthority, a.Name, err)
	}
	return nil
}

// keepNewest makes sure that no list takes the place of one that its CA has issued later, also when the gateway was stopped
// meanwhile: through the dashboard that is an error, and from a file the newer one stays.
func keepNewest(old termination.Authority, a *termination.Authority) error {
	for i := range a.Revocation.CRLs {
		given := &a.Revocation.CRLs[i]
		for _, before := range old.Revocation.CRLs {
			if bytes.Equal(before.DER, given.DER) || !older(given.DER, before.DER) {
				continue
			}
			if a.Origin != termination.OriginFile {
				return fieldError(KindAuthority, a.Name, "crl_files", fmt.Sprintf("the revocation list %q is older than the one of the same CA that is there", given.Source), "give the newest one")
			}
			given.DER = before.DER
		}
	}
	return nil
}

// older reports whether one list is an older one of the same CA and for the same certificates as another.
func older(der, than []byte) bool {
	a, err := termination.ReadCRLs(der)
	if err != nil || len(a) != 1 {
		return false // what cannot be read never comes into force
	}
	b, err := termination.ReadCRLs(than)
	if err != nil || len(b) != 1 {
		return false
	}
	return a[0].TakesPlaceOf(b[0]) && a[0].OlderThan(b[0])
}

// readRevocation adds to authorities what they say about revocation.
func readRevocation(ctx context.Context, q *sql.Tx, byID map[string]*authorityRow, only string) error {
	type row struct {
		id, one, two string
		der          []byte
	}
	each := func(query string, take func(*authorityRow, row)) error {
		rows, err := q.QueryContext(ctx, query, only)
		if err != nil {
			return fmt.Errorf("read revocation of authorities: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.id, &r.one, &r.two, &r.der); err != nil {
				return fmt.Errorf("read revocation of authorities: %w", err)
			}
			if a := byID[r.id]; a != nil {
				take(a, r)
			}
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("read revocation of authorities: %w", err)
		}
		return nil
	}
	const where = " WHERE ?1 = '' OR authority_id = ?1 ORDER BY authority_id"
	if err := each("SELECT authority_id, mode, ocsp_url, x'' FROM authority_revocation"+where, func(a *authorityRow, r row) {
		a.Revocation.Mode, a.Revocation.OCSPURL = termination.RevocationMode(r.one), r.two
	}); err != nil {
		return err
	}
	if err := each("SELECT authority_id, source, '', der FROM authority_crls"+where+", position", func(a *authorityRow, r row) {
		a.Revocation.CRLs = append(a.Revocation.CRLs, termination.CRL{Source: r.one, DER: r.der})
	}); err != nil {
		return err
	}
	return each("SELECT authority_id, url, '', x'' FROM authority_crl_urls"+where+", position", func(a *authorityRow, r row) {
		a.Revocation.CRLURLs = append(a.Revocation.CRLURLs, r.one)
	})
}

type describedRevocation struct {
	Mode  termination.RevocationMode `json:"mode,omitempty"`
	Lists []string                   `json:"crls,omitempty"` // source and SHA-256
	URLs  []string                   `json:"crl_urls,omitempty"`
	OCSP  string                     `json:"ocsp_url,omitempty"`
}

func describeRevocation(r termination.Revocation) *describedRevocation {
	d := &describedRevocation{Mode: r.Mode, URLs: r.CRLURLs, OCSP: r.OCSPURL}
	for _, l := range r.CRLs {
		sum := sha256.Sum256(l.DER)
		d.Lists = append(d.Lists, l.Source+" "+hex.EncodeToString(sum[:]))
	}
	if d.Mode == "" && d.OCSP == "" && len(d.URLs)+len(d.Lists) == 0 {
		return nil
	}
	return d
}
