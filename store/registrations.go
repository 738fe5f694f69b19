package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/termination"
)

// maxRegistrations bounds the invitations that are kept.
const maxRegistrations = 5000

// registrationPrefix tells people and secret scanners what the text is; the digit is the version of the form.
const registrationPrefix = "csreg1_"

// Errors of invitations to register a certificate. Whoever has a link learns no more from them than what became of it.
var (
	ErrRegistrationUnknown = errors.New("there is no such invitation: it was withdrawn, or the link is not whole")
	ErrRegistrationUsed    = errors.New("the invitation was used already; it works once")
	ErrRegistrationExpired = errors.New("the invitation has expired")
	ErrRegistrationStale   = errors.New("what the invitation is for is not there any more")
)

// Registration is an invitation to register a certificate: for an identity that is there, or for a new one.
type Registration struct {
	ID          string
	Portal      string   // name of the endpoint that serves it
	IdentityID  string   // empty: a new one
	Name        string   // of the identity
	Endpoints   []string // names, of a new identity
	CA          string   // name of the local CA that signs a request; empty: none does
	Created     time.Time
	By          string
	Expires     time.Time
	Used        time.Time // zero: it was not
	Fingerprint termination.Fingerprint
}

// Open reports whether it still works.
func (r Registration) Open(now time.Time) bool { return r.Used.IsZero() && now.Before(r.Expires) }

type describedRegistration struct {
	Identity  string    `json:"identity"`
	Endpoints []string  `json:"endpoints,omitempty"`
	CA        string    `json:"ca,omitempty"`
	Portal    string    `json:"portal"`
	Expires   time.Time `json:"expires"`
}

func describeRegistration(r Registration) describedRegistration {
	return describedRegistration{Identity: r.Name, Endpoints: r.Endpoints, CA: r.CA, Portal: r.Portal, Expires: r.Expires}
}

func registrationError(field, problem, advice string) error {
	return fieldError(KindRegistration, "", field, problem, advice)
}

// CreateRegistration makes an invitation that works once, and returns it with its secret, of which only the hash is kept.
// r says its Portal, and IdentityID or Name and Endpoints.
func (s *Store) CreateRegistration(ctx context.Context, actor Actor, r Registration, life time.Duration) (Registration, string, error) {
	if err := actor.check(); err != nil {
		return r, "", err
	}
	if life < MinInvitation || life > MaxInvitation {
		return r, "", registrationError("expires", "must be from a minute to 30 days", "a day is enough for most: 24h")
	}
	secret, hash := newSecret(registrationPrefix)
	err := s.write(ctx, actor, func(tx *Tx) error {
		portalID, endpoints, caID, err := tx.checkRegistration(&r)
		if err != nil {
			return err
		}
		r.ID, r.By = termination.NewID(termination.PrefixInvitation, tx.now), actor.Name
		r.Created, r.Expires = tx.now.Truncate(time.Millisecond), tx.now.Add(life).Truncate(time.Millisecond)
		err = tx.exec("INSERT INTO registrations (id, secret_hash, portal_id, identity_id, name, endpoints, authority_id, created, created_by, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			r.ID, hash, portalID, nullable(r.IdentityID), r.Name, endpoints, nullable(caID), r.Created.UnixMilli(), r.By, r.Expires.UnixMilli())
		if err != nil {
			return fmt.Errorf("save invitation: %w", err)
		}
		return tx.audit(ActionCreate, KindRegistration, r.ID, r.Name, nil, describeRegistration(r))
	})
	return r, secret, err
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// checkRegistration looks whether an invitation could be used, and completes it.
func (tx *Tx) checkRegistration(r *Registration) (portalID, endpoints, caID string, err error) {
	if err := tx.exec("DELETE FROM registrations WHERE min(expires, coalesce(used, expires)) < ?", tx.now.Add(-invitationMemory).UnixMilli()); err != nil {
		return "", "", "", fmt.Errorf("forget old invitations: %w", err)
	}
	var n int
	if err := tx.sql.QueryRowContext(tx.ctx, "SELECT count(*) FROM registrations").Scan(&n); err != nil {
		return "", "", "", fmt.Errorf("count invitations: %w", err)
	}
	if n >= maxRegistrations {
		return "", "", "", registrationError("identity", fmt.Sprintf("there are %d invitations, and no room for more", n), "withdraw some")
	}
	portal, err := tx.Endpoint(r.Portal)
	if err != nil {
		return "", "", "", err
	}
	if !portal.Upstream.Portal() {
		return "", "", "", registrationError("portal", fmt.Sprintf("the endpoint %q does not serve invitations", portal.Name), "choose one whose upstream is portal")
	}
	r.Portal = portal.Name
	if r.IdentityID != "" {
		i, err := tx.Identity(r.IdentityID)
		if err != nil {
			return "", "", "", err
		}
		if err := tx.writable(KindIdentity, i.Name, i.Origin); err != nil {
			return "", "", "", err
		}
		r.IdentityID, r.Name, r.Endpoints = i.ID, i.Name, nil
	} else if err := tx.checkNewIdentity(r.Name); err != nil {
		return "", "", "", err
	}
	ids := []string{}
	for _, name := range r.Endpoints {
		row, err := tx.endpointRow(name)
		if err != nil {
			return "", "", "", err
		}
		if termination.Origin(row.origin) == termination.OriginCommand || row.terminateAt == string(termination.AtUpstream) {
			return "", "", "", registrationError("endpoints", fmt.Sprintf("the endpoint %q cannot have clients with a name", row.name), "choose one that stays, and whose TLS ends at the edge or an agent")
		}
		ids = append(ids, row.id)
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return "", "", "", fmt.Errorf("encode invitation: %w", err)
	}
	if r.CA != "" {
		a, err := tx.Authority(r.CA)
		if err != nil {
			return "", "", "", err
		}
		caID = a.ID
	}
	return portal.ID, string(text), caID, nil
}

func (tx *Tx) checkNewIdentity(name string) error {
	if err := termination.CheckName(name); err != nil {
		return registrationError("name", err.Error(), "choose another name")
	}
	_, err := tx.Identity(name)
	var missing NotFoundError
	switch {
	case errors.As(err, &missing):
		return nil
	case err != nil:
		return err
	}
	return NameTakenError{Kind: KindIdentity, Name: name}
}

const selectRegistration = `SELECT r.id, e.name, coalesce(r.identity_id, ''), coalesce(i.name, r.name), r.endpoints, coalesce(a.name, ''), r.created, r.created_by, r.expires, coalesce(r.used, 0), coalesce(r.fingerprint, x'')
	FROM registrations r JOIN endpoints e ON e.id = r.portal_id LEFT JOIN identities i ON i.id = r.identity_id LEFT JOIN authorities a ON a.id = r.authority_id `

// scanRegistration reads a row; its Endpoints are IDs still.
func scanRegistration(row scanner) (Registration, error) {
	var r Registration
	var endpoints string
	var created, expires, used int64
	var fingerprint []byte
	if err := row.Scan(&r.ID, &r.Portal, &r.IdentityID, &r.Name, &endpoints, &r.CA, &created, &r.By, &expires, &used, &fingerprint); err != nil {
		return r, err
	}
	if err := strictJSON([]byte(endpoints), &r.Endpoints); err != nil {
		return r, fmt.Errorf("read the endpoints of an invitation: %w", err)
	}
	copy(r.Fingerprint[:], fingerprint)
	r.Created, r.Expires = fromMillis(created), fromMillis(expires)
	if used != 0 {
		r.Used = fromMillis(used)
	}
	return r, nil
}

// Registrations lists invitations, newest first: those that are open, and for a week those that were used or expired.
func (s *Store) Registrations(ctx context.Context) ([]Registration, error) {
	var out []Registration
	err := s.read(ctx, func(q *sql.Tx) error {
		rows, err := q.QueryContext(ctx, selectRegistration+"WHERE min(r.expires, coalesce(r.used, r.expires)) >= ? ORDER BY r.created DESC, r.id DESC", s.now().Add(-invitationMemory).UnixMilli())
		if err != nil {
			return fmt.Errorf("list invitations: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			r, err := scanRegistration(rows)
			if err != nil {
				return fmt.Errorf("list invitations: %w", err)
			}
			out = append(out, r)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("list invitations: %w", err)
		}
		return nameEndpoints(ctx, q, out)
	})
	return out, err
}

// nameEndpoints puts names in the place of IDs; endpoints that are gone stay as they are.
func nameEndpoints(ctx context.Context, q *sql.Tx, list []Registration) error {
	names := map[string]string{}
	rows, err := q.QueryContext(ctx, "SELECT id, name FROM endpoints")
	if err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, name string
		if err := rows.Scan(&id, &name); err != nil {
			return fmt.Errorf("read names: %w", err)
		}
		names[id] = name
	}
	for i := range list {
		for n, id := range list[i].Endpoints {
			if name, ok := names[id]; ok {
				list[i].Endpoints[n] = name
			}
		}
	}
	return rows.Err()
}

// Registration returns the invitation of a secret, if it still works at the endpoint with that ID.
func (s *Store) Registration(ctx context.Context, secret, portalID string) (Registration, error) {
	var out Registration
	err := s.read(ctx, func(q *sql.Tx) (err error) {
		out, err = usableRegistration(ctx, q, secret, portalID, s.now())
		return err
	})
	return out, err
}

func usableRegistration(ctx context.Context, q *sql.Tx, secret, portalID string, now time.Time) (Registration, error) {
	if !strings.HasPrefix(secret, registrationPrefix) || len(secret) > maxText {
		return Registration{}, ErrRegistrationUnknown
	}
	r, err := scanRegistration(q.QueryRowContext(ctx, selectRegistration+"WHERE r.secret_hash = ? AND r.portal_id = ?", hashSecret(secret), portalID))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Registration{}, ErrRegistrationUnknown
	case err != nil:
		return Registration{}, fmt.Errorf("look for invitation: %w", err)
	case !r.Used.IsZero():
		return r, ErrRegistrationUsed
	case !now.Before(r.Expires):
		return r, ErrRegistrationExpired
	}
	list := []Registration{r}
	err = nameEndpoints(ctx, q, list)
	return list[0], err
}

// WithdrawRegistration makes the invitation with that ID useless.
func (s *Store) WithdrawRegistration(ctx context.Context, actor Actor, id string) error {
	if err := actor.check(); err != nil {
		return err
	}
	return s.write(ctx, actor, func(tx *Tx) error {
		r, err := scanRegistration(tx.sql.QueryRowContext(tx.ctx, selectRegistration+"WHERE r.id = ? AND r.used IS NULL", id))
		if errors.Is(err, sql.ErrNoRows) {
			return NotFoundError{Kind: KindRegistration, Name: id}
		}
		if err != nil {
			return fmt.Errorf("look for invitation: %w", err)
		}
		if err := tx.exec("DELETE FROM registrations WHERE id = ?", id); err != nil {
			return fmt.Errorf("withdraw invitation: %w", err)
		}
		return tx.audit(ActionRevoke, KindRegistration, r.ID, r.Name, describeRegistration(r), nil)
	})
}

// UseRegistration registers a certificate by an invitation and uses it up, both or neither: a change that is refused leaves
// it as it was. Of two who use one at once, one gets [ErrRegistrationUsed].
func (tx *Tx) UseRegistration(secret, portalID string, cert *x509.Certificate) (termination.Identity, error) {
	r, err := usableRegistration(tx.ctx, tx.sql, secret, portalID, tx.now)
	if err != nil {
		return termination.Identity{}, err
	}
	pin := termination.Pin{Fingerprint: termination.FingerprintOf(cert)}
	if err := tx.exec("UPDATE registrations SET used = ?, fingerprint = ? WHERE id = ?", tx.now.UnixMilli(), pin.Fingerprint[:], r.ID); err != nil {
		return termination.Identity{}, fmt.Errorf("use invitation: %w", err)
	}
	if r.IdentityID != "" {
		i, err := tx.Identity(r.IdentityID)
		if err != nil {
			return i, err
		}
		i.Pins, i.Certificates = append(slices.Clone(i.Pins), pin), append(slices.Clone(i.Certificates), cert)
		return i, tx.UpdateIdentity(i)
	}
	for _, name := range r.Endpoints {
		if _, err := tx.endpointRow(name); err != nil {
			return termination.Identity{}, ErrRegistrationStale
		}
	}
	i, err := tx.CreateIdentity(termination.Identity{Name: r.Name, Endpoints: r.Endpoints, Pins: []termination.Pin{pin}, Certificates: []*x509.Certificate{cert}})
	var taken NameTakenError
	if errors.As(err, &taken) {
		return i, ErrRegistrationStale
	}
	return i, err
}
