package store

import (
	"context"
	"fmt"
	"time"

	"countersign/termination"
)

const (
	identityDaysKeep = 31 * 24 * time.Hour // pages show thirty days
	// maxIdentityID bounds what is written for an identity that a record names: agents report records.
	maxIdentityID = 64
)

const (
	insertIdentityDay = `INSERT INTO identity_days (day, identity_id, handshakes, requests) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET handshakes = handshakes + excluded.handshakes, requests = requests + excluded.requests`
	insertIdentitySeen = `INSERT INTO identity_seen (identity_id, fingerprint, first, last, endpoint, address) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET first = min(first, excluded.first), endpoint = iif(excluded.last >= last, excluded.endpoint, endpoint),
			address = iif(excluded.last >= last, excluded.address, address), last = max(last, excluded.last)`
)

type identityDay struct {
	day int64
	id  string
}

type identitySight struct {
	id          string
	fingerprint termination.Fingerprint
}

// identityCounts are those of one batch: a row for each identity in it, however often it came.
type identityCounts struct {
	days map[identityDay][2]int64 // handshakes, requests
	seen map[identitySight]*IdentitySighting
}

func dayOf(t time.Time) int64 { return nanos(t) / int64(24*time.Hour) }

// handshake counts a client that came in as an identity. One that was refused has not proven that it is the one.
func (c *identityCounts) handshake(h *termination.Handshake) {
	id := h.Client.IdentityID
	if id == "" || len(id) > maxIdentityID || h.Proof || h.Verdict.Outcome != termination.OutcomeVerified {
		return
	}
	if c.days == nil {
		c.days, c.seen = map[identityDay][2]int64{}, map[identitySight]*IdentitySighting{}
	}
	day := identityDay{dayOf(h.Time), id}
	n := c.days[day]
	c.days[day] = [2]int64{n[0] + 1, n[1]}
	sight := identitySight{id, h.Client.Fingerprint}
	s := c.seen[sight]
	if s == nil {
		s = &IdentitySighting{First: h.Time}
		c.seen[sight] = s
	}
	if h.Time.Before(s.First) {
		s.First = h.Time
	}
	if !h.Time.Before(s.Last) {
		s.Last, s.Endpoint, s.Address = h.Time, column(h.Endpoint), column(h.Peer.Addr().Unmap().String())
	}
}

func (c *identityCounts) end(e *termination.ConnectionEnd) {
	if e.IdentityID == "" || len(e.IdentityID) > maxIdentityID || e.Requests <= 0 {
		return
	}
	if c.days == nil {
		c.days, c.seen = map[identityDay][2]int64{}, map[identitySight]*IdentitySighting{}
	}
	day := identityDay{dayOf(e.Time), e.IdentityID}
	n := c.days[day]
	c.days[day] = [2]int64{n[0], n[1] + e.Requests}
}

func (b *historyBatch) identities() error {
	for k, n := range b.identityCounts.days {
		if _, err := b.exec(insertIdentityDay, k.day, k.id, n[0], n[1]); err != nil {
			return err
		}
	}
	for k, s := range b.identityCounts.seen {
		if _, err := b.exec(insertIdentitySeen, k.id, k.fingerprint[:], nanos(s.First), nanos(s.Last), s.Endpoint, s.Address); err != nil {
			return err
		}
	}
	return nil
}

// IdentityDay is how often an identity came in on one day.
type IdentityDay struct {
	Day        time.Time // its beginning, in UTC
	Handshakes int64     // that were verified
	Requests   int64     // of connections that ended on that day
}

// IdentityDays returns the days of the last thirty on which an identity came in, oldest first.
func (s *Store) IdentityDays(ctx context.Context, id string) ([]IdentityDay, error) {
	var out []IdentityDay
	err := s.records.read(ctx, func(db *database) error {
		out = nil
		rows, err := db.reader.QueryContext(ctx, "SELECT day, handshakes, requests FROM identity_days WHERE identity_id = ? AND day > ? ORDER BY day", id, dayOf(s.now())-30)
		if err != nil {
			return fmt.Errorf("read the days of an identity: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var d IdentityDay
			var day int64
			if err := rows.Scan(&day, &d.Handshakes, &d.Requests); err != nil {
				return fmt.Errorf("read the days of an identity: %w", err)
			}
			d.Day = time.Unix(day*86400, 0).UTC()
			out = append(out, d)
		}
		return rows.Err()
	})
	return out, err
}

// IdentitySighting is when a certificate of an identity came in.
type IdentitySighting struct {
	Fingerprint termination.Fingerprint // of the certificate
	First, Last time.Time
	Endpoint    string // name, of that time, where it came in last
	Address     string // likewise
}

// IdentitySightings returns the certificates by which an identity came in, the one that was seen last first.
func (s *Store) IdentitySightings(ctx context.Context, id string) ([]IdentitySighting, error) {
	var out []IdentitySighting
	err := s.records.read(ctx, func(db *database) error {
		out = nil
		rows, err := db.reader.QueryContext(ctx, "SELECT fingerprint, first, last, endpoint, address FROM identity_seen WHERE identity_id = ? ORDER BY last DESC LIMIT 200", id)
		if err != nil {
			return fmt.Errorf("read when an identity was seen: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			v, err := scanSighting(rows)
			if err != nil {
				return err
			}
			out = append(out, v)
		}
		return rows.Err()
	})
	return out, err
}

// LastSightings returns when each identity was seen last, by ID.
func (s *Store) LastSightings(ctx context.Context) (map[string]IdentitySighting, error) {
	var out map[string]IdentitySighting
	err := s.records.read(ctx, func(db *database) error {
		out = map[string]IdentitySighting{}
		// With max() the other columns are those of the row that holds it (SQLite, "bare columns in an aggregate query").
		rows, err := db.reader.QueryContext(ctx, "SELECT fingerprint, first, max(last), endpoint, address, identity_id FROM identity_seen GROUP BY identity_id")
		if err != nil {
			return fmt.Errorf("read when identities were seen: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id string
			v, err := scanSighting(rows, &id)
			if err != nil {
				return err
			}
			out[id] = v
		}
		return rows.Err()
	})
	return out, err
}

func scanSighting(row scanner, more ...any) (IdentitySighting, error) {
	var v IdentitySighting
	var fingerprint []byte
	var first, last int64
	if err := row.Scan(append([]any{&fingerprint, &first, &last, &v.Endpoint, &v.Address}, more...)...); err != nil {
		return v, fmt.Errorf("read when an identity was seen: %w", err)
	}
	copy(v.Fingerprint[:], fingerprint)
	v.First, v.Last = time.Unix(0, first).UTC(), time.Unix(0, last).UTC()
	return v, nil
}
