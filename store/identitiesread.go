package store

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"countersign/termination"
)

// identityRow is an identity as it was read; err says why it cannot be used.
type identityRow struct {
	termination.Identity
	err        error
	unreadable []termination.Pin // whose certificates cannot be read; they decide nothing
	added      map[termination.Pin]int64
	matches    []storedMatch
}

// storedMatch is a match by the ID of its authority.
type storedMatch struct {
	authority string
	subject   termination.Subject
}

// parsedCertificates are certificates by fingerprint, so that those of ten thousand identities are not parsed with each change.
type parsedCertificates map[termination.Fingerprint]*x509.Certificate

// readIdentities returns identities by name: those with that ID or name, or, with an empty ref, all. Certificates are looked
// for in known first.
func readIdentities(ctx context.Context, q *sql.Tx, ref string, known parsedCertificates) ([]identityRow, error) {
	rows, err := q.QueryContext(ctx, "SELECT id, name, origin, rate, burst, blocked FROM identities WHERE ?1 = '' OR id = ?1 OR name = ?1 ORDER BY name", ref)
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []identityRow
	for rows.Next() {
		r := identityRow{added: map[termination.Pin]int64{}}
		var rate string
		var burst int
		if err := rows.Scan(&r.ID, &r.Name, &r.Origin, &rate, &burst, &r.Blocked); err != nil {
			return nil, fmt.Errorf("read identities: %w", err)
		}
		if r.Rate, err = termination.ParseRate(rate); err != nil {
			r.err = err
		}
		r.Rate.Burst = burst
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, readIdentityParts(ctx, q, out, known)
}

func readIdentityParts(ctx context.Context, q *sql.Tx, identities []identityRow, known parsedCertificates) error {
	byID, only := make(map[string]*identityRow, len(identities)), ""
	for i := range identities {
		byID[identities[i].ID] = &identities[i]
	}
	if len(identities) == 1 {
		only = identities[0].ID
	}
	each := func(query string, scan func(rows *sql.Rows) error) error {
		rows, err := q.QueryContext(ctx, query, only)
		if err != nil {
			return fmt.Errorf("read what identities are known by: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return fmt.Errorf("read what identities are known by: %w", err)
			}
		}
		return rows.Err()
	}
	var id, text, other string
	var der []byte
	var at int64
	err := each("SELECT identity_id, pin, der, added FROM identity_pins WHERE ?1 = '' OR identity_id = ?1 ORDER BY identity_id, position", func(rows *sql.Rows) error {
		if err := rows.Scan(&id, &text, &der, &at); err != nil {
			return err
		}
		if r := byID[id]; r != nil {
			r.addPin(text, der, at, known)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = each("SELECT identity_id, der FROM identity_issuers WHERE ?1 = '' OR identity_id = ?1 ORDER BY identity_id, position", func(rows *sql.Rows) error {
		if err := rows.Scan(&id, &der); err != nil {
			return err
		}
		if c := known.parse(der); c != nil && byID[id] != nil { // one that cannot be read is only not shown
			byID[id].Issuers = append(byID[id].Issuers, c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = each("SELECT identity_id, a.name, a.id, subject FROM identity_matches JOIN authorities a ON a.id = authority_id WHERE ?1 = '' OR identity_id = ?1 ORDER BY identity_id, position", func(rows *sql.Rows) error {
		var authorityID string
		if err := rows.Scan(&id, &other, &authorityID, &text); err != nil {
			return err
		}
		if r := byID[id]; r != nil {
			r.addMatch(authorityID, other, text)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return each("SELECT identity_id, name FROM identity_endpoints JOIN endpoints e ON e.id = endpoint_id WHERE ?1 = '' OR identity_id = ?1 ORDER BY identity_id, position", func(rows *sql.Rows) error {
		if err := rows.Scan(&id, &other); err != nil {
			return err
		}
		if r := byID[id]; r != nil {
			r.Endpoints = append(r.Endpoints, other)
		}
		return nil
	})
}

// parse reads a certificate, unless it is known; nil: it cannot be read.
func (p parsedCertificates) parse(der []byte) *x509.Certificate {
	f := sha256.Sum256(der)
	if c := p[f]; c != nil {
		return c
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	if p != nil {
		p[f] = c
	}
	return c
}

func (r *identityRow) addPin(text string, der []byte, at int64, known parsedCertificates) {
	pin, err := termination.ParsePin(text)
	if err != nil {
		r.err = fmt.Errorf("a pin of it cannot be read: %w", err)
		return
	}
	r.Pins = append(r.Pins, pin)
	r.added[pin] = at
	if len(der) == 0 {
		return
	}
	if c := known.parse(der); c != nil && !pin.Key && termination.FingerprintOf(c) == pin.Fingerprint {
		r.Certificates = append(r.Certificates, c)
	} else {
		r.unreadable = append(r.unreadable, pin)
	}
}

func (r *identityRow) addMatch(authorityID, authority, text string) {
	var words map[string]string
	err := strictJSON([]byte(text), &words)
	var subject termination.Subject
	if err == nil {
		subject, err = termination.SubjectOf(words)
	}
	if err != nil {
		r.err = fmt.Errorf("a match of it cannot be read: %w", err)
		return
	}
	subject.Authority = authority
	r.Matches = append(r.Matches, subject)
	r.matches = append(r.matches, storedMatch{authorityID, subject})
}

// identities puts the identities into the configuration. Whom one that cannot be read would keep out is not known, so
// until it is repaired nobody comes in where certificates are asked for.
func (l *loader) identities() error {
	known := l.store.identityCertificates.Load()
	next := parsedCertificates{}
	if known != nil {
		maps.Copy(next, *known)
	}
	rows, err := readIdentities(l.ctx, l.sql, "", next)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.err != nil {
			l.breaksIdentity(r.ID, r.Name, r.err)
			continue
		}
		for _, pin := range r.unreadable {
			l.problem(KindIdentity, r.ID, r.Name, fmt.Sprintf("the certificate %s cannot be read; its client is still known by the fingerprint. Register the certificate again", pin))
		}
		r.Matches = nil
		for _, m := range r.matches {
			if _, broken := l.broken[m.authority]; !broken { // that authority vouches for nobody now
				r.Matches = append(r.Matches, m.subject)
			}
		}
		l.config.Identities = append(l.config.Identities, r.Identity)
	}
	l.keepCertificates(next)
	return nil
}

// keepCertificates keeps those that are still somebody's for the next load.
func (l *loader) keepCertificates(parsed parsedCertificates) {
	kept := parsedCertificates{}
	for i := range l.config.Identities {
		identity := &l.config.Identities[i]
		for _, c := range slices.Concat(identity.Certificates, identity.Issuers) {
			f := sha256.Sum256(c.Raw)
			kept[f] = parsed[f]
		}
	}
	l.store.identityCertificates.Store(&kept)
}

func (l *loader) breaksIdentity(id, name string, err error) {
	l.problem(KindIdentity, id, name, err.Error()+"; endpoints that ask for certificates let nobody in until it is replaced or deleted, since whom it keeps out is not known")
	for i := range l.config.Endpoints {
		if e := &l.config.Endpoints[i]; !l.closed[e.ID] && asksAnywhere(e) {
			l.closeEndpoint(i, fmt.Sprintf("the identity %q cannot be used", name))
		}
	}
}

func asksAnywhere(e *termination.Endpoint) bool {
	return e.ClientAuth.Mode.Asks() || slices.ContainsFunc(e.Routes, func(r termination.Route) bool {
		return r.ClientAuth != nil && r.ClientAuth.Mode.Asks()
	})
}

// shutOut keeps identities and credentials out of endpoints that let nobody in, or are not there.
func (l *loader) shutOut() {
	open := map[string]bool{}
	for _, e := range l.config.Endpoints {
		open[e.Name] = !l.closed[e.ID]
	}
	still := func(names []string) (out []string) {
		for _, name := range names {
			if !open[name] {
				name = termination.EndpointElsewhere
			}
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
		return out
	}
	for i := range l.config.Identities {
		l.config.Identities[i].Endpoints = still(l.config.Identities[i].Endpoints)
	}
	for i := range l.config.Credentials {
		l.config.Credentials[i].Endpoints = still(l.config.Credentials[i].Endpoints)
	}
}

// IdentityPin is when a pin was given to an identity.
type IdentityPin struct {
	Pin   termination.Pin
	Added time.Time
}

// IdentityPins returns the pins of the identity with that ID, in their order.
func (s *Store) IdentityPins(ctx context.Context, id string) ([]IdentityPin, error) {
	rows, err := s.config.reader.QueryContext(ctx, "SELECT pin, added FROM identity_pins WHERE identity_id = ? ORDER BY position", id)
	if err != nil {
		return nil, fmt.Errorf("read pins of identity: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []IdentityPin
	for rows.Next() {
		var text string
		var at int64
		if err := rows.Scan(&text, &at); err != nil {
			return nil, fmt.Errorf("read pins of identity: %w", err)
		}
		if pin, err := termination.ParsePin(text); err == nil {
			out = append(out, IdentityPin{Pin: pin, Added: fromMillis(at)})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read pins of identity: %w", err)
	}
	return out, nil
}
