package store

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"countersign/termination"
)

// Bounds of the register of clients.
const (
	// MostStrangers is how many certificates are kept that were never verified; anybody can present one. The oldest go first.
	MostStrangers = 10000
	// MostVerified is how many are kept that were: as many as somebody's CA cares to issue.
	MostVerified = 50000
	// ClientsKeep is how long a verified one is kept after it came last.
	ClientsKeep = countersKeep

	clientDaysKeep  = 31    // days; pages show thirty
	clientHoursKeep = 49    // hours, before they become days; pages show two days
	trimEvery       = 500   // rows of strangers that are written between two looks at their number
	backfillRecords = 20000 // of an older history that the register begins with
	trimTraitsEvery = 12    // of one client that are written, between two looks at their number
	maxTraits       = 20000 // that the writer remembers to have written
	steadySoftware  = 20    // handshakes by the same software, before other software is worth an alert
	mostSoftware    = 3     // kinds of software; a certificate that more of them share is no single client
	mostChanges     = 1000  // changes of software that are kept
	maxTraitText    = 128   // bytes of a value
)

// traitKind is what a trait says.
type traitKind string

const (
	traitSoftware traitKind = "software"
	traitAddress  traitKind = "address"
	traitEndpoint traitKind = "endpoint"
	traitReason   traitKind = "reason"
)

// bound is how many of a kind are kept of one client.
func (k traitKind) bound() int {
	switch k {
	case traitSoftware:
		return 16
	case traitAddress, traitEndpoint:
		return 32
	case traitReason:
	}
	return 64 // more than there are reasons
}

const (
	insertClient = `INSERT INTO clients (fingerprint, first, last, first_in, last_in, verified, open, passed, failed, outcome, reason, handshake, proven,
			endpoint, address, name, full, issuer, authority, identity, not_before, not_after, warn_at, notes, pq)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET
			first = min(first, excluded.first),
			first_in = coalesce(min(first_in, excluded.first_in), first_in, excluded.first_in),
			last_in = coalesce(max(last_in, excluded.last_in), last_in, excluded.last_in),
			verified = verified + excluded.verified, open = open + excluded.open, passed = passed + excluded.passed, failed = failed + excluded.failed,
			outcome = iif(excluded.last >= last, excluded.outcome, outcome), reason = iif(excluded.last >= last, excluded.reason, reason),
			handshake = iif(excluded.last >= last, excluded.handshake, handshake), proven = iif(excluded.proven = '', proven, excluded.proven),
			endpoint = iif(excluded.last >= last, excluded.endpoint, endpoint), address = iif(excluded.last >= last, excluded.address, address),
			authority = iif(excluded.authority = '', authority, excluded.authority), identity = iif(excluded.last >= last, excluded.identity, identity),
			pq = iif(excluded.last >= last, coalesce(excluded.pq, pq), pq), notes = notes | excluded.notes, last = max(last, excluded.last)`
	insertTrait = `INSERT INTO client_traits (fingerprint, kind, value, label, first, last, let_in, failed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET label = excluded.label, first = min(first, excluded.first), last = max(last, excluded.last),
			let_in = let_in + excluded.let_in, failed = failed + excluded.failed`
	// Of those that are too many, the ones go that never came in, then the oldest: whoever presents somebody else's
	// certificate, which is public, drives nothing out that is true.
	trimTraits = `DELETE FROM client_traits WHERE fingerprint = ?1 AND kind = ?2 AND value NOT IN (
		SELECT value FROM client_traits WHERE fingerprint = ?1 AND kind = ?2 ORDER BY let_in > 0 DESC, last DESC LIMIT ?3)`
	insertClientHour = `INSERT INTO client_hours (hour, fingerprint, let_in, failed) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET let_in = let_in + excluded.let_in, failed = failed + excluded.failed`
	selectSoftware     = "SELECT value, let_in, last FROM client_traits WHERE fingerprint = ? AND kind = 'software'"
	insertClientChange = `INSERT INTO client_changes (time, fingerprint, handshake, before, after, times, address, endpoint) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	trimChanges        = "DELETE FROM client_changes WHERE time < (SELECT time FROM client_changes ORDER BY time DESC LIMIT 1 OFFSET ?)"
	trimStrangers      = `DELETE FROM clients WHERE first_in IS NULL AND fingerprint IN (SELECT fingerprint FROM clients WHERE first_in IS NULL ORDER BY last
		LIMIT max(0, (SELECT count(*) FROM clients WHERE first_in IS NULL) - ?)) RETURNING fingerprint, first, last`
	trimVerified = `DELETE FROM clients WHERE first_in IS NOT NULL AND fingerprint IN (SELECT fingerprint FROM clients WHERE first_in IS NOT NULL ORDER BY last
		LIMIT max(0, (SELECT count(*) FROM clients WHERE first_in IS NOT NULL) - ?)) RETURNING fingerprint, first, last`
	deleteTraits      = "DELETE FROM client_traits WHERE fingerprint = ?"
	deleteClientHours = `DELETE FROM client_hours WHERE (hour, fingerprint) IN (
		WITH RECURSIVE every(hour) AS (VALUES(?1) UNION ALL SELECT hour + 1 FROM every WHERE hour < ?2) SELECT hour, ?3 FROM every)`
)

// clientStatements are what the writer prepares for the register.
func clientStatements() []string {
	return []string{insertClient, insertTrait, trimTraits, insertClientHour, selectSoftware, insertClientChange, trimChanges, deleteTraits, deleteClientHours}
}

type traitKey struct {
	fingerprint termination.Fingerprint
	kind        traitKind
	value       string
}

// sight is what one batch says about one certificate.
type sight struct {
	presented       []*x509.Certificate
	first, last     time.Time
	newest          *termination.Handshake
	firstIn, lastIn time.Time // verified
	proven          string
	authority       string
	postQuantum     *bool
	counts          [4]int64 // verified, open, passed, failed
	traits          map[traitKey]*traitSight
	hours           map[int64][2]int64
}

type traitSight struct {
	label         string
	first, last   time.Time
	letIn, failed int64
	proven        *termination.Handshake // the first whose key was proven
}

// clientCounts are those of one batch: a row for each certificate in it, however often it came.
type clientCounts map[termination.Fingerprint]*sight

// handshake counts a handshake in which a client presented a certificate, whatever became of it.
func (c clientCounts) handshake(h *termination.Handshake, fingerprints []termination.Fingerprint) {
	if len(h.Presented) == 0 || h.Proof {
		return
	}
	f := fingerprints[0]
	s := c[f]
	if s == nil {
		s = &sight{presented: h.Presented, first: h.Time, traits: map[traitKey]*traitSight{}, hours: map[int64][2]int64{}}
		c[f] = s
	}
	if h.Time.Before(s.first) {
		s.first = h.Time
	}
	if !h.Time.Before(s.last) {
		s.last, s.newest = h.Time, h
		if h.Hello != nil {
			s.postQuantum = &h.Hello.PostQuantum
		}
	}
	in := h.Verdict.Outcome.In()
	switch h.Verdict.Outcome {
	case termination.OutcomeVerified:
		s.counts[0]++
		if s.firstIn.IsZero() || h.Time.Before(s.firstIn) {
			s.firstIn = h.Time
		}
		if h.Time.After(s.lastIn) {
			s.lastIn = h.Time
		}
	case termination.OutcomeOpen:
		s.counts[1]++
	case termination.OutcomePassed:
		s.counts[2]++
	default:
		s.counts[3]++
	}
	if keyProven(h) {
		s.proven = h.ID
	}
	if h.Client.Authority != "" {
		s.authority = h.Client.Authority
	}
	if h.Hello != nil {
		s.trait(f, traitSoftware, h.Hello.JA4, "", h)
	}
	s.trait(f, traitAddress, h.Peer.Addr().Unmap().String(), "", h)
	s.trait(f, traitEndpoint, h.EndpointID, h.Endpoint, h)
	if !in {
		s.trait(f, traitReason, string(h.Verdict.Reason), "", h)
	}
	hour := hourOf(h.Time)
	n := s.hours[hour]
	if in {
		n[0]++
	} else {
		n[1]++
	}
	s.hours[hour] = n
}

// keyProven reports whether the client has shown that it has the key of what it presented. In what passes through sealed,
// only the service knows.
func keyProven(h *termination.Handshake) bool {
	return h.Verdict.Outcome == termination.OutcomeVerified || h.Verdict.Outcome == termination.OutcomeOpen
}

func (s *sight) trait(f termination.Fingerprint, kind traitKind, value, label string, h *termination.Handshake) {
	if value == "" || len(value) > maxTraitText {
		return
	}
	key := traitKey{f, kind, column(value)}
	t := s.traits[key]
	if t == nil {
		t = &traitSight{first: h.Time, last: h.Time}
		s.traits[key] = t
	}
	t.label = label
	if h.Time.Before(t.first) {
		t.first = h.Time
	}
	if h.Time.After(t.last) {
		t.last = h.Time
	}
	if h.Verdict.Outcome.In() {
		t.letIn++
	} else {
		t.failed++
	}
	if t.proven == nil && keyProven(h) {
		t.proven = h
	}
}

func hourOf(t time.Time) int64 { return nanos(t) / int64(time.Hour) }

func compareFingerprints(a, b termination.Fingerprint) int { return bytes.Compare(a[:], b[:]) }

// clients writes what the batch says about certificates.
func (b *historyBatch) clients() error {
	strangers := 0
	// In the order of the file, so that each page of it is changed once, and not again and again as the cache drops it.
	for _, f := range slices.SortedFunc(maps.Keys(b.clientCounts), compareFingerprints) {
		s := b.clientCounts[f]
		if err := b.client(f, s); err != nil {
			return err
		}
		if s.firstIn.IsZero() {
			strangers++
		}
	}
	if strangers += b.w.strangers; strangers >= trimEvery {
		if err := b.trimStrangers(); err != nil {
			return err
		}
		strangers = 0
	}
	b.strangers = strangers
	return nil
}

func (b *historyBatch) client(f termination.Fingerprint, s *sight) error {
	h, leaf := s.newest, s.presented[0]
	warn, _ := termination.LifeWarnings(leaf.NotBefore, leaf.NotAfter)
	var firstIn, lastIn, pq any
	if !s.firstIn.IsZero() {
		firstIn, lastIn = nanos(s.firstIn), nanos(s.lastIn)
	}
	if s.postQuantum != nil {
		pq = *s.postQuantum
	}
	_, err := b.exec(insertClient, f[:], nanos(s.first), nanos(s.last), firstIn, lastIn, s.counts[0], s.counts[1], s.counts[2], s.counts[3],
		string(h.Verdict.Outcome), string(h.Verdict.Reason), h.ID, s.proven, column(h.Endpoint), h.Peer.Addr().Unmap().String(),
		column(h.Client.Name), column(h.Client.Full), column(h.Client.Issuer), column(s.authority), column(h.Client.Identity),
		leaf.NotBefore.Unix(), leaf.NotAfter.Unix(), warn.Unix(), int64(termination.NotesOf(s.presented)), pq)
	if err != nil {
		return err
	}
	if err := b.software(f, s); err != nil {
		return err
	}
	fresh := b.w.untrimmed[f] // traits that may be new, since too many were looked for
	for key, t := range s.traits {
		if _, err := b.exec(insertTrait, f[:], string(key.kind), key.value, column(t.label), nanos(t.first), nanos(t.last), t.letIn, t.failed); err != nil {
			return err
		}
		proven, known := b.w.traits[key]
		if !known {
			fresh++
		}
		if !known || !proven && t.proven != nil {
			b.traits[key] = t.proven != nil
		}
	}
	if fresh >= trimTraitsEvery {
		fresh = 0
		for _, kind := range []traitKind{traitSoftware, traitAddress, traitEndpoint, traitReason} {
			if _, err := b.exec(trimTraits, f[:], string(kind), kind.bound()); err != nil {
				return err
			}
		}
	}
	b.untrimmed[f] = fresh
	for hour, n := range s.hours {
		if _, err := b.exec(insertClientHour, hour, f[:], n[0], n[1]); err != nil {
			return err
		}
	}
	return nil
}

// trimStrangers deletes the oldest certificates that were never verified, beyond as many as are kept.
func (b *historyBatch) trimStrangers() error {
	gone, err := deleteClients(b.ctx, b.tx, trimStrangers, b.w.most)
	if err != nil {
		return err
	}
	for _, g := range gone {
		if err := g.forget(b.exec); err != nil {
			return err
		}
	}
	return nil
}

// goneClient is a certificate that was deleted, with the hours between which it came.
type goneClient struct {
	fingerprint termination.Fingerprint
	first, last int64
}

// forget deletes what else the register has of it.
func (g goneClient) forget(exec func(string, ...any) (sql.Result, error)) error {
	if _, err := exec(deleteTraits, g.fingerprint[:]); err != nil {
		return err
	}
	last := g.last
	if _, err := exec(deleteClientHours, max(g.first, last-clientHoursKeep-24), last, g.fingerprint[:]); err != nil {
		return err
	}
	for day := g.first; day < last-clientHoursKeep-24; day += 24 { // hours that were joined
		if _, err := exec(deleteClientHours, day, day, g.fingerprint[:]); err != nil {
			return err
		}
	}
	return nil
}

// deleteClients runs a deletion that returns fingerprint, first and last.
func deleteClients(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]goneClient, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("delete clients: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var gone []goneClient
	for rows.Next() {
		var g goneClient
		var f []byte
		if err := rows.Scan(&f, &g.first, &g.last); err != nil {
			return nil, fmt.Errorf("delete clients: %w", err)
		}
		copy(g.fingerprint[:], f)
		g.last /= int64(time.Hour)
		g.first = max(g.first/int64(time.Hour), g.last-24*clientDaysKeep) / 24 * 24
		gone = append(gone, g)
	}
	return gone, rows.Err()
}
