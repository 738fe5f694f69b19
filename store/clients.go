package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/termination"
)

// ClientActive is how long a client counts as active after it was let in as verified.
const ClientActive = 30 * 24 * time.Hour

// clientNew is how long a client counts as new after it was let in first.
const clientNew = 24 * time.Hour

// Client is a certificate that clients presented. Its texts are hostile. Certificates of handshakes that passed through
// sealed are in it, too: nobody here knows whether their keys were proven.
type Client struct {
	Fingerprint         termination.Fingerprint
	Name, Full          string
	Issuer, Authority   string
	Identity            string // by which it was known when it came last; empty: none
	NotBefore, NotAfter time.Time
	Notes               termination.ClientNotes
	PostQuantum         bool // its last hello offered a post-quantum key exchange
	HelloKnown          bool // there was one

	First, Last     time.Time // when it was presented
	FirstIn, LastIn time.Time // when it was let in as verified; zero: never
	Verified        int64     // handshakes, by what became of them
	Open            int64     // let in where no certificate is demanded
	Passed          int64     // sealed, by a service behind
	Failed          int64

	Outcome   termination.Outcome // of the last one
	Reason    termination.Reason
	Handshake string // the last one
	Proven    string // the last one in which its key was proven; empty: none
	Endpoint  string // where it came last, by its name of that time
	Address   string // from where
}

// ClientState chooses clients.
type ClientState string

// The states. A client can be in several.
const (
	ClientsAll       ClientState = ""
	ClientsIn        ClientState = "in"         // its last handshake was let in
	ClientsRefused   ClientState = "refused"    // it was verified once, and its last handshake failed
	ClientsStrangers ClientState = "strangers"  // never verified
	ClientsNew       ClientState = "new"        // verified for the first time within a day
	ClientsEnding    ClientState = "ends_soon"  // see [termination.LifeWarnings]
	ClientsEnded     ClientState = "ended"      //
	ClientsWeak      ClientState = "weak"       // key or signature
	ClientsPublic    ClientState = "public_ca"  //
	ClientsNoPQ      ClientState = "no_pq"      // its last hello offered no post-quantum key exchange
	ClientsLegacy    ClientState = "usage_note" // not for clients, no usage, X.509 v1, or a CA
)

// ClientStates lists the states in the order of the page.
func ClientStates() []ClientState {
	return []ClientState{
		ClientsAll, ClientsIn, ClientsRefused, ClientsStrangers, ClientsNew, ClientsEnding, ClientsEnded, ClientsWeak, ClientsPublic, ClientsLegacy, ClientsNoPQ,
	}
}

// condition is the state in SQL. It holds no text from outside.
func (s ClientState) condition(now time.Time) string {
	const in = "outcome IN ('verified', 'open', 'passed')"
	at := now.Unix()
	notes := func(n termination.ClientNotes) string { return fmt.Sprintf("notes & %d <> 0", n) }
	switch s {
	case ClientsAll:
	case ClientsIn:
		return in
	case ClientsRefused:
		return "first_in IS NOT NULL AND NOT " + in
	case ClientsStrangers:
		return "first_in IS NULL"
	case ClientsNew:
		return fmt.Sprintf("first_in > %d", nanos(now.Add(-clientNew)))
	case ClientsEnding:
		return fmt.Sprintf("not_after > %d AND warn_at < %d", at, at)
	case ClientsEnded:
		return fmt.Sprintf("not_after <= %d", at)
	case ClientsWeak:
		return notes(termination.NoteWeakKey | termination.NoteWeakSignature)
	case ClientsPublic:
		return notes(termination.NotePublicCA)
	case ClientsLegacy:
		return notes(termination.NoteNotForClients | termination.NoteNoUsage | termination.NoteVersion1 | termination.NoteIsCA)
	case ClientsNoPQ:
		return "pq = 0"
	}
	return "TRUE"
}

// ClientQuery chooses clients. The zero value means all, those first that came last.
type ClientQuery struct {
	Text  string // in a name, the issuer, an identity, an address, an endpoint's name, or the beginning of the fingerprint
	State ClientState
	From  int // rows to skip
	Limit int // 0 means 100, at most 1000
}

// ClientPage is what a query found.
type ClientPage struct {
	Clients []Client
	Counts  map[ClientState]int64 // of those that the text fits
	Total   int64                 // of them, those in the state
	Known   int64                 // in the register
	Since   time.Time             // from when on it is kept
}

const clientColumns = `fingerprint, first, last, coalesce(first_in, 0), coalesce(last_in, 0), verified, open, passed, failed, outcome, reason, handshake, proven,
	endpoint, address, name, full, issuer, authority, identity, not_before, not_after, notes, coalesce(pq, 2)`

// Clients returns a page of the register.
func (s *Store) Clients(ctx context.Context, q ClientQuery) (ClientPage, error) {
	now := s.now()
	where, args := clientText(q.Text)
	sums := make([]string, 0, len(ClientStates()))
	for _, state := range ClientStates() {
		sums = append(sums, "coalesce(sum("+state.condition(now)+"), 0)")
	}
	order := "last DESC"
	if q.State == ClientsEnding || q.State == ClientsEnded {
		order = "not_after, last DESC"
	}
	var page ClientPage
	err := s.records.read(ctx, func(db *database) error {
		page = ClientPage{Counts: map[ClientState]int64{}}
		tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("begin to read clients: %w", err)
		}
		defer func() { _ = tx.Rollback() }()
		var since int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(clients_since, 0), (SELECT count(*) FROM clients) FROM state").Scan(&since, &page.Known); err != nil {
			return fmt.Errorf("count clients: %w", err)
		}
		page.Since = time.Unix(0, since).UTC()
		counts := make([]int64, len(sums))
		into := make([]any, len(sums))
		for i := range counts {
			into[i] = &counts[i]
		}
		if err := tx.QueryRowContext(ctx, "SELECT "+strings.Join(sums, ", ")+" FROM clients WHERE "+where, args...).Scan(into...); err != nil {
			return fmt.Errorf("count clients: %w", err)
		}
		for i, state := range ClientStates() {
			page.Counts[state] = counts[i]
		}
		page.Total = page.Counts[q.State]
		page.Clients, err = readClients(ctx, tx, where+" AND "+q.State.condition(now)+" ORDER BY "+order+", fingerprint LIMIT ? OFFSET ?", append(slices.Clone(args), limit(q.Limit, 100, 1000), max(q.From, 0))...)
		return err
	})
	return page, err
}

// clientText is what a text must fit, in SQL.
func clientText(text string) (string, []any) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "TRUE", nil
	}
	like := "%" + likePattern(termination.FilterValue{Text: text}) + "%"
	var parts []string
	var args []any
	for _, name := range []string{"name", "full", "issuer", "authority", "identity", "endpoint"} {
		parts, args = append(parts, name+` LIKE ? ESCAPE '\'`), append(args, like)
	}
	parts = append(parts, `EXISTS (SELECT 1 FROM client_traits t WHERE t.fingerprint = clients.fingerprint AND (t.label = ? COLLATE NOCASE OR t.value = ? COLLATE NOCASE))`)
	args = append(args, column(text), column(text))
	if low, high, ok := fingerprintRange(text); ok {
		parts, args = append(parts, "fingerprint BETWEEN ? AND ?"), append(args, low, high)
	}
	return "(" + strings.Join(parts, " OR ") + ")", args
}

// fingerprintRange is between which values all fingerprints lie that begin as text says, in hex, with or without colons.
func fingerprintRange(text string) (low, high []byte, ok bool) {
	const size = 2 * len(termination.Fingerprint{})
	digits := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if len(digits) < 4 || len(digits) > size {
		return nil, nil, false
	}
	low, err := hex.DecodeString(digits + strings.Repeat("0", size-len(digits)))
	if err != nil {
		return nil, nil, false
	}
	high, err = hex.DecodeString(digits + strings.Repeat("f", size-len(digits)))
	return low, high, err == nil
}

// querier is a transaction or a pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func readClients(ctx context.Context, db querier, where string, args ...any) ([]Client, error) {
	rows, err := db.QueryContext(ctx, "SELECT "+clientColumns+" FROM clients WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read clients: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []Client
	for rows.Next() {
		var c Client
		var fingerprint []byte
		var first, last, firstIn, lastIn, notBefore, notAfter, notes, pq int64
		err := rows.Scan(&fingerprint, &first, &last, &firstIn, &lastIn, &c.Verified, &c.Open, &c.Passed, &c.Failed, &c.Outcome, &c.Reason, &c.Handshake, &c.Proven,
			&c.Endpoint, &c.Address, &c.Name, &c.Full, &c.Issuer, &c.Authority, &c.Identity, &notBefore, &notAfter, &notes, &pq)
		if err != nil {
			return nil, fmt.Errorf("read clients: %w", err)
		}
		copy(c.Fingerprint[:], fingerprint)
		c.First, c.Last, c.FirstIn, c.LastIn = moment(first), moment(last), moment(firstIn), moment(lastIn)
		c.NotBefore, c.NotAfter = time.Unix(notBefore, 0).UTC(), time.Unix(notAfter, 0).UTC()
		c.Notes, c.PostQuantum, c.HelloKnown = termination.ClientNotes(notes), pq == 1, pq != 2 //nolint:gosec // as it was written
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read clients: %w", err)
	}
	return out, nil
}

// moment is the time of a number of nanoseconds; zero for 0.
func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// Client returns the one whose fingerprint begins with ref, in hex, with or without colons; four digits at least.
func (s *Store) Client(ctx context.Context, ref string) (Client, error) {
	low, high, ok := fingerprintRange(ref)
	if !ok {
		return Client{}, NotFoundError{Kind: KindClient, Name: ref}
	}
	var found []Client
	err := s.records.read(ctx, func(db *database) (err error) {
		found, err = readClients(ctx, db.reader, "fingerprint BETWEEN ? AND ? LIMIT 2", low, high)
		return err
	})
	switch {
	case err != nil:
		return Client{}, err
	case len(found) == 0:
		return Client{}, NotFoundError{Kind: KindClient, Name: ref}
	case len(found) > 1:
		return Client{}, AmbiguousError{Kind: KindClient, Prefix: ref}
	}
	return found[0], nil
}

// ClientsLetIn returns the certificates that were let in as verified, those first that came last: for the live feed, which
// tells the others apart.
func (s *Store) ClientsLetIn(ctx context.Context) ([]termination.Fingerprint, error) {
	var out []termination.Fingerprint
	err := s.records.read(ctx, func(db *database) error {
		out = []termination.Fingerprint{}
		rows, err := db.reader.QueryContext(ctx, "SELECT fingerprint FROM clients WHERE first_in IS NOT NULL ORDER BY last DESC")
		if err != nil {
			return fmt.Errorf("read clients: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var f []byte
			if err := rows.Scan(&f); err != nil {
				return fmt.Errorf("read clients: %w", err)
			}
			var fingerprint termination.Fingerprint
			copy(fingerprint[:], f)
			out = append(out, fingerprint)
		}
		return rows.Err()
	})
	return out, err
}
