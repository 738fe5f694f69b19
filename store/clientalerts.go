package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"countersign/termination"
)

// AlertKind says what is about to go wrong with a client.
type AlertKind string

// The kinds.
const (
	AlertEnded     AlertKind = "ended"            // its certificate has ended
	AlertEnding    AlertKind = "ends_soon"        // it is about to; see [termination.LifeWarnings]
	AlertUsageEnds AlertKind = "usage_ends"       // its CA stops issuing for clients, so that its renewal is likely to fail
	AlertSoftware  AlertKind = "software_changed" // it came with another TLS library than it used for long
)

// AlertSoftwareKeep is how long an alert about changed software lasts.
const AlertSoftwareKeep = 7 * 24 * time.Hour

// mostAlerts bounds how many alerts there are of a kind.
const mostAlerts = 1000

// ClientAlert is something about an active client that its owner, or somebody here, should act on.
type ClientAlert struct {
	Kind   AlertKind
	Urgent bool      // it has happened, or is about to within days
	Since  time.Time // when it began to be worth an alert
	Client Client
	Change *SoftwareChange // of AlertSoftware
}

// SoftwareChange says that a client came with other software than it used for long. Its texts are hostile.
type SoftwareChange struct {
	Time          time.Time
	Handshake     string
	Before, After string // JA4
	Times         int64  // how often it had come in with the software before
	Address       string
	Endpoint      string
}

// Key tells alerts apart: the same alert has the same key until it is over, so that nobody is told twice. A renewed
// certificate is another client, and so another alert.
func (a ClientAlert) Key() string {
	key := string(a.Kind) + ":" + a.Client.Fingerprint.String()
	if a.Change != nil {
		key += ":" + a.Change.Handshake
	}
	if a.Kind == AlertEnding && a.Urgent {
		key += ":urgent"
	}
	return key
}

// ClientAlerts returns what is worth an alert at that time, what is urgent first: of clients that were let in as verified
// within [ClientActive], those whose certificates have ended, end soon, or cannot be renewed as they are, and those that
// changed their software. A certificate that its client has replaced already is left out. Whoever notifies asks again every minute or so, and tells by [ClientAlert.Key] what is new.
func (s *Store) ClientAlerts(ctx context.Context, now time.Time) ([]ClientAlert, error) {
	return s.clientAlerts(ctx, now, "TRUE", "TRUE")
}

// AlertsOf returns those of [Store.ClientAlerts] that are about one client.
func (s *Store) AlertsOf(ctx context.Context, f termination.Fingerprint, now time.Time) ([]ClientAlert, error) {
	one := fmt.Sprintf("fingerprint = x'%s'", f)
	return s.clientAlerts(ctx, now, one, "(full, issuer) = (SELECT full, issuer FROM clients WHERE "+one+")")
}

// clientAlerts looks at the clients that a condition chooses, and at those that another one chooses for what has taken
// their place.
func (s *Store) clientAlerts(ctx context.Context, now time.Time, which, namesakes string) ([]ClientAlert, error) {
	active := fmt.Sprintf("%s AND last_in > %d", which, nanos(now.Add(-ClientActive)))
	var out []ClientAlert
	err := s.records.read(ctx, func(db *database) error {
		out = nil
		tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("begin to look for alerts: %w", err)
		}
		defer func() { _ = tx.Rollback() }()
		ending, err := readClients(ctx, tx, active+" AND warn_at < ? ORDER BY not_after, fingerprint LIMIT ?", now.Unix(), mostAlerts)
		if err != nil {
			return err
		}
		changed, err := softwareAlerts(ctx, tx, which, active, now)
		if err != nil {
			return err
		}
		lost, err := readClients(ctx, tx, fmt.Sprintf("%s AND notes & %d <> 0 ORDER BY not_after, fingerprint LIMIT ?", active, termination.NoteUsageEnds), mostAlerts)
		if err != nil {
			return err
		}
		renewed, err := renewals(ctx, tx, fmt.Sprintf("%s AND last_in > %d", namesakes, nanos(now.Add(-ClientActive))))
		if err != nil {
			return err
		}
		var later []ClientAlert
		for _, c := range ending {
			if renewed.of(c, now) {
				continue
			}
			warn, urgent := termination.LifeWarnings(c.NotBefore, c.NotAfter)
			switch {
			case !now.Before(c.NotAfter):
				out = append(out, ClientAlert{Kind: AlertEnded, Urgent: true, Since: c.NotAfter, Client: c})
			case now.After(urgent):
				out = append(out, ClientAlert{Kind: AlertEnding, Urgent: true, Since: urgent, Client: c})
			default:
				later = append(later, ClientAlert{Kind: AlertEnding, Since: warn, Client: c})
			}
		}
		out = append(append(out, changed...), later...)
		for _, c := range lost {
			if renewed.of(c, now) {
				continue
			}
			out = append(out, ClientAlert{Kind: AlertUsageEnds, Since: c.FirstIn, Client: c})
		}
		return nil
	})
	return out, err
}

// renewal is a certificate that a client may have instead of an older one.
type renewal struct{ notAfter, firstIn, lastIn time.Time }

// renewalsKept is how many of the newest certificates of one client are compared with.
const renewalsKept = 4

// clientRenewals are the newest certificates of each client, by whole name and issuer.
type clientRenewals map[[2]string][]renewal

func renewals(ctx context.Context, tx *sql.Tx, active string) (clientRenewals, error) {
	rows, err := tx.QueryContext(ctx, "SELECT full, issuer, not_after, first_in, last_in FROM clients WHERE "+active+" AND full <> '' ORDER BY not_after DESC") //nolint:gosec // active is a number of ours
	if err != nil {
		return nil, fmt.Errorf("look for renewed certificates: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := clientRenewals{}
	for rows.Next() {
		var who [2]string
		var notAfter, firstIn, lastIn int64
		if err := rows.Scan(&who[0], &who[1], &notAfter, &firstIn, &lastIn); err != nil {
			return nil, fmt.Errorf("look for renewed certificates: %w", err)
		}
		if len(out[who]) < renewalsKept {
			out[who] = append(out[who], renewal{time.Unix(notAfter, 0), moment(firstIn), moment(lastIn)})
		}
	}
	return out, rows.Err()
}

// of reports whether a client has taken another certificate instead of this one: a later one that came when this stopped,
// or that comes while this has not come for a day. A second machine that goes on with the old one is not forgotten so.
func (r clientRenewals) of(c Client, now time.Time) bool {
	for _, n := range r[[2]string{c.Full, c.Issuer}] {
		if n.notAfter.After(c.NotAfter) && n.lastIn.After(c.LastIn) && (n.firstIn.After(c.LastIn.Add(-time.Hour)) || c.LastIn.Before(now.Add(-24*time.Hour))) {
			return true
		}
	}
	return false
}

func softwareAlerts(ctx context.Context, tx *sql.Tx, which, active string, now time.Time) ([]ClientAlert, error) {
	changes, err := readChanges(ctx, tx, which+" AND time > ? ORDER BY time DESC LIMIT ?", nanos(now.Add(-AlertSoftwareKeep)), mostAlerts)
	if err != nil {
		return nil, err
	}
	var out []ClientAlert
	for _, c := range changes {
		clients, err := readClients(ctx, tx, "fingerprint = ? AND "+active, c.fingerprint[:])
		if err != nil {
			return nil, err
		}
		if len(clients) == 1 {
			out = append(out, ClientAlert{Kind: AlertSoftware, Urgent: true, Since: c.Time, Client: clients[0], Change: &c.SoftwareChange})
		}
	}
	return out, nil
}

type clientChange struct {
	SoftwareChange
	fingerprint termination.Fingerprint
}

func readChanges(ctx context.Context, db querier, where string, args ...any) ([]clientChange, error) {
	rows, err := db.QueryContext(ctx, "SELECT time, fingerprint, handshake, before, after, times, address, endpoint FROM client_changes WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read changes of software: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []clientChange
	for rows.Next() {
		var c clientChange
		var at int64
		var fingerprint []byte
		if err := rows.Scan(&at, &fingerprint, &c.Handshake, &c.Before, &c.After, &c.Times, &c.Address, &c.Endpoint); err != nil {
			return nil, fmt.Errorf("read changes of software: %w", err)
		}
		copy(c.fingerprint[:], fingerprint)
		c.Time = moment(at)
		out = append(out, c)
	}
	return out, rows.Err()
}

// SoftwareChanges returns when a client changed its software, the newest first.
func (s *Store) SoftwareChanges(ctx context.Context, f termination.Fingerprint) ([]SoftwareChange, error) {
	var out []SoftwareChange
	err := s.records.read(ctx, func(db *database) error {
		out = nil
		changes, err := readChanges(ctx, db.reader, "fingerprint = ? ORDER BY time DESC LIMIT 20", f[:])
		for _, c := range changes {
			out = append(out, c.SoftwareChange)
		}
		return err
	})
	return out, err
}

// ActiveClients returns clients that were let in as verified within [ClientActive] of now, those first whose certificates
// end first.
func (s *Store) ActiveClients(ctx context.Context, now time.Time, most int) ([]Client, error) {
	var out []Client
	err := s.records.read(ctx, func(db *database) (err error) {
		out, err = readClients(ctx, db.reader, "last_in > ? ORDER BY not_after, fingerprint LIMIT ?", nanos(now.Add(-ClientActive)), limit(most, 100, 1000))
		return err
	})
	return out, err
}
