package store

import (
	"cmp"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"countersign/termination"
)

// VisitQuery chooses handshakes to be put together. The gateway's own proofs are left out.
type VisitQuery struct {
	Endpoints []string // IDs; empty: all
	Since     time.Time
	Patience  time.Duration // how long to look before returning what was found so far; 0 means 2 s
	Limit     int           // how many kinds of handshakes; 0 means 20,000
}

// VisitPage is what such a query found.
type VisitPage struct {
	Visits []termination.Visits // newest first
	Looked int64                // handshakes that were looked at
	Down   time.Time            // the time down to which was looked; zero: to Since
	More   bool                 // there are more kinds than Limit, or than could be read in time; the oldest are left out
}

const mostVisits = 20000

// Visits puts alike handshakes together, newest first. It looks at the narrow rows window by window, so that it can give
// up in between, and reads the whole record of the newest of each kind only.
func (s *Store) Visits(ctx context.Context, q VisitQuery) (VisitPage, error) {
	var page VisitPage
	patience := q.Patience
	if patience <= 0 {
		patience = 2 * time.Second
	}
	until := time.Now().Add(patience)
	most := limit(q.Limit, mostVisits, mostVisits)
	query, c := visitQuery(q)
	var found visitGroups
	var searched HistoryPage
	err := s.search(ctx, HistoryQuery{Patience: patience * 3 / 4}, c, func(tx *sql.Tx, from, to int64) (int64, error) {
		if found.groups == nil || to >= found.last { // the first window, also of a second try with a new file
			found = visitGroups{groups: map[string]*visitGroup{}, most: most}
		}
		found.last = to
		return found.read(ctx, tx, query, append([]any{from, to}, c.args...))
	}, &searched)
	if err != nil {
		return page, err
	}
	page.Down, page.Looked = searched.Searched, found.looked
	groups := found.newest()
	page.More = found.full
	err = s.records.read(ctx, func(db *database) error {
		page.Visits = make([]termination.Visits, 0, len(groups))
		page.More = found.full
		return readVisits(ctx, db, groups, until, &page)
	})
	return page, err
}

func visitQuery(q VisitQuery) (string, condition) {
	c := condition{sql: "h.time >= ?", since: nanos(q.Since), until: math.MaxInt64, args: []any{nanos(q.Since)}}
	if len(q.Endpoints) > 0 {
		c.sql += " AND " + c.in("h.endpoint_id", q.Endpoints)
	} else {
		c.sql += " AND h.endpoint_id <> ''"
	}
	return `SELECT h.seq, h.time, h.endpoint_id, h.sni, h.fingerprint,
			CASE WHEN h.fingerprint IS NULL THEN h.address END, CASE WHEN h.fingerprint IS NULL THEN h.ja4 END, h.outcome, h.reason
		FROM handshakes h WHERE h.seq >= ? AND h.seq <= ? AND h.proof = 0 AND ` + c.sql, c
}

// visitGroup is one kind of handshakes.
type visitGroup struct {
	endpoint, sni, outcome, reason string
	fingerprint                    termination.Fingerprint
	seq, first, last, count        int64
}

// visitGroups collects kinds of handshakes, window by window.
type visitGroups struct {
	groups map[string]*visitGroup // by what they have in common
	key    []byte
	most   int
	full   bool
	looked int64
	last   int64 // the end of the last window
}

// read takes in a window. They come newest first, so that a kind which is new to a full list is older than those in it.
func (g *visitGroups) read(ctx context.Context, tx *sql.Tx, query string, args []any) (int64, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("put handshakes together: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var seq, at int64
	var endpoint, sni, fingerprint, who, software, outcome, reason sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&seq, &at, &endpoint, &sni, &fingerprint, &who, &software, &outcome, &reason); err != nil {
			return 0, fmt.Errorf("put handshakes together: %w", err)
		}
		g.key = g.key[:0]
		for _, part := range [...]sql.RawBytes{endpoint, fingerprint, who, software, sni, outcome, reason} {
			g.key = binary.AppendUvarint(g.key, uint64(len(part)))
			g.key = append(g.key, part...)
		}
		g.looked++
		known := g.groups[string(g.key)] // costs no copy
		if known == nil {
			if len(g.groups) >= g.most {
				g.full = true
				continue
			}
			known = &visitGroup{seq: seq, first: at, last: at, endpoint: string(endpoint), sni: string(sni), outcome: string(outcome), reason: string(reason)}
			copy(known.fingerprint[:], fingerprint)
			g.groups[string(g.key)] = known
		}
		known.seq, known.count = max(known.seq, seq), known.count+1
		known.first, known.last = min(known.first, at), max(known.last, at)
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("put handshakes together: %w", err)
	}
	return 0, nil
}

func (g *visitGroups) newest() []*visitGroup {
	out := make([]*visitGroup, 0, len(g.groups))
	for _, v := range g.groups {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *visitGroup) int { return cmp.Compare(b.seq, a.seq) })
	return out
}

// visitRecord is what is needed of a record.
type visitRecord struct {
	Mode      termination.Mode          `json:"mode"`
	Client    termination.ClientName    `json:"client"`
	Presented []termination.Fingerprint `json:"presented"`
	Verdict   struct {
		WouldRefuse bool `json:"would_refuse"`
		ReportOnly  bool `json:"report_only"`
	} `json:"verdict"`
}

const readVisit = `SELECT h.id, h.endpoint, h.address, coalesce(h.ja4, ''), coalesce(h.version, 0), r.record
	FROM handshakes h JOIN records r ON r.seq = h.seq WHERE h.seq = ?`

// readVisits reads the newest record of each group. Of the groups whose turn does not come in time, and of those that
// retention has deleted meanwhile, nothing is returned.
func readVisits(ctx context.Context, db *database, groups []*visitGroup, until time.Time, page *VisitPage) error {
	tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin to read the history: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	record, err := tx.PrepareContext(ctx, readVisit)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	defer func() { _ = record.Close() }()
	certificate, err := tx.PrepareContext(ctx, "SELECT der FROM certificates WHERE fingerprint = ?")
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	defer func() { _ = certificate.Close() }()
	certificates := visitCertificates{known: map[termination.Fingerprint]*x509.Certificate{}, read: certificate}
	for i, g := range groups {
		if i > 0 && i%64 == 0 && time.Now().After(until) {
			page.More = true
			return nil
		}
		v := termination.Visits{
			EndpointID: g.endpoint, ServerName: g.sni, Outcome: termination.Outcome(g.outcome), Reason: termination.Reason(g.reason),
			Count: g.count, First: time.Unix(0, g.first).UTC(), Last: time.Unix(0, g.last).UTC(),
		}
		var address string
		var document []byte
		err := record.QueryRowContext(ctx, g.seq).Scan(&v.Handshake, &v.Endpoint, &address, &v.JA4, &v.Version, &document)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		var r visitRecord
		if json.Unmarshal(document, &r) != nil {
			v.Cut = true
		}
		v.Mode, v.Client, v.WouldRefuse, v.ReportOnly = r.Mode, r.Client, r.Verdict.WouldRefuse, r.Verdict.ReportOnly
		v.Client.Fingerprint = g.fingerprint // of all of them
		v.Address, _ = netip.ParseAddr(address)
		if v.Presented, err = certificates.chain(ctx, r.Presented); err != nil {
			return err
		}
		v.Cut = v.Cut || len(v.Presented) < len(r.Presented) || len(v.Presented) == 0 && g.fingerprint != (termination.Fingerprint{})
		page.Visits = append(page.Visits, v)
	}
	return nil
}

// visitCertificates reads each certificate once.
type visitCertificates struct {
	known map[termination.Fingerprint]*x509.Certificate // nil: it is not kept
	read  *sql.Stmt
}

func (c *visitCertificates) chain(ctx context.Context, fingerprints []termination.Fingerprint) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, f := range fingerprints {
		cert, known := c.known[f]
		if !known {
			var der []byte
			err := c.read.QueryRowContext(ctx, f[:]).Scan(&der)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return nil, fmt.Errorf("read certificate of a handshake: %w", err)
			}
			if err == nil {
				cert, err = x509.ParseCertificate(der)
			}
			if err != nil {
				cert = nil // as if it was not there
			}
			c.known[f] = cert
		}
		if cert == nil {
			return chain, nil
		}
		chain = append(chain, cert)
	}
	return chain, nil
}
