package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"countersign/termination"
)

// Record is one handshake as it was kept.
type Record struct {
	Handshake *termination.Handshake
	End       *termination.ConnectionEnd // nil: the connection is open, or its end was not kept
	Mark      termination.Mark
}

// storedHandshake is the JSON document of a record. The certificates have rows of their own.
type storedHandshake struct {
	*termination.Handshake
	Presented []termination.Fingerprint `json:"presented,omitempty"`
	Path      []termination.Fingerprint `json:"path,omitempty"`
}

const insertHandshake = `INSERT INTO handshakes (seq, id, time, duration, outcome, reason, beat, proof, endpoint_id, endpoint,
	ip, address, sni, client, client_full, authority, issuer, fingerprint, version, key_group, pq, alpn, ja4, identity, first_in)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

const (
	insertRecord      = "INSERT INTO records (seq, record) VALUES (?, ?)"
	insertEnd         = "INSERT INTO ends (seq, record) SELECT seq, ?2 FROM handshakes WHERE id = ?1 ON CONFLICT DO UPDATE SET record = excluded.record"
	insertCertificate = "INSERT INTO certificates (fingerprint, last_seen, der) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)"
	insertMinute      = `INSERT INTO minutes (minute, first_seq, last_seq) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET first_seq = min(first_seq, excluded.first_seq), last_seq = max(last_seq, excluded.last_seq)`
	insertCounter = `INSERT INTO counters (minute, endpoint_id, outcome, reason, count) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET count = count + excluded.count`
)

// seenEvery is how exact the times are at which certificates were last seen, so that a certificate is not written with
// each of its handshakes.
const seenEvery = time.Hour

// maxKnown bounds how many certificates the writer remembers to have written.
const maxKnown = 20000

// rowsBetweenRetention is how many records are written before retention is asked to look at the size.
const rowsBetweenRetention = 20000

// leap is the gap in the sequence after a crash: events are seen live before they are stored.
const leap = 1 << 20

// historyWriter writes batches into one file. One goroutine at a time uses it.
type historyWriter struct {
	db             *sql.DB
	statements     map[string]*sql.Stmt
	known          map[termination.Fingerprint]int64 // certificates that were written, with the time they carry
	nextSeq        uint64
	stored         uint64 // highest number at the start
	sinceRetention int

	traits    map[traitKey]bool               // of clients, that were written; true: with a proven key
	untrimmed map[termination.Fingerprint]int // of a client, traits that may be too many
	strangers int                             // rows of never verified clients, since their number was looked at
	most      int64                           // of them are kept: MostStrangers
}

func newHistoryWriter(ctx context.Context, db *database, now time.Time) (*historyWriter, error) {
	w := &historyWriter{db: db.writer, most: MostStrangers, statements: map[string]*sql.Stmt{}, known: map[termination.Fingerprint]int64{}, traits: map[traitKey]bool{}, untrimmed: map[termination.Fingerprint]int{}}
	for _, query := range append(clientStatements(), insertHandshake, insertRecord, insertEnd, insertCertificate, insertMinute, insertCounter, insertIdentityDay, insertIdentitySeen) {
		statement, err := db.writer.PrepareContext(ctx, query) //nolint:sqlclosecheck // it ends with the database
		if err != nil {
			return nil, fmt.Errorf("prepare to write the history: %w", err)
		}
		w.statements[query] = statement
	}
	var last int64
	var clean bool
	err := db.writer.QueryRowContext(ctx, "SELECT max(last_seq, coalesce((SELECT max(seq) FROM handshakes), 0)), clean FROM state").Scan(&last, &clean)
	if err == nil {
		_, err = db.writer.ExecContext(ctx, "UPDATE state SET clean = 0")
	}
	if err != nil {
		return nil, fmt.Errorf("read the history's state: %w", err)
	}
	w.stored = uint64(last) //nolint:gosec // never negative
	w.nextSeq = w.stored + 1
	if !clean {
		w.nextSeq += leap
	}
	if err := w.beginClients(ctx, now); err != nil {
		return nil, fmt.Errorf("begin the register of clients: %w", err)
	}
	return w, nil
}

func (w *historyWriter) setLastSeq(ctx context.Context, seq uint64) error {
	if _, err := w.db.ExecContext(ctx, "UPDATE state SET last_seq = max(last_seq, ?)", int64(seq)); err != nil { //nolint:gosec // fits
		return fmt.Errorf("carry the sequence over: %w", err)
	}
	return nil
}

func (w *historyWriter) setClean() error {
	if _, err := w.db.Exec("UPDATE state SET clean = 1"); err != nil {
		return fmt.Errorf("close the history in order: %w", err)
	}
	return nil
}

// write stores a batch and returns how many of its records were there already.
func (w *historyWriter) write(ctx context.Context, b termination.HistoryBatch) (skipped int, err error) {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("begin to write the history: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	batch := newHistoryBatch(ctx, w, tx)
	if err := batch.write(b); err != nil {
		return 0, fmt.Errorf("write the history: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("commit the history: %w", err)
	}
	batch.remember()
	w.sinceRetention += len(b.Handshakes)
	return batch.skipped, nil
}

type counterKey struct {
	minute   int64
	endpoint string
	outcome  termination.Outcome
	reason   termination.Reason
}

// historyBatch is a batch while it is written.
type historyBatch struct {
	ctx      context.Context //nolint:containedctx // lives within one call
	w        *historyWriter
	tx       *sql.Tx
	bound    map[string]*sql.Stmt // the writer's statements, bound to tx
	skipped  int
	lastSeq  int64
	seen     bool
	counters map[counterKey]int64
	minutes  map[int64][2]int64 // first and last seq
	fresh    map[termination.Fingerprint]int64

	identityCounts identityCounts
	clientCounts   clientCounts
	traits         map[traitKey]bool // for the writer, once this is stored
	untrimmed      map[termination.Fingerprint]int
	strangers      int // likewise
	backfilling    bool
}

func newHistoryBatch(ctx context.Context, w *historyWriter, tx *sql.Tx) *historyBatch {
	return &historyBatch{
		ctx: ctx, w: w, tx: tx, bound: map[string]*sql.Stmt{}, counters: map[counterKey]int64{}, minutes: map[int64][2]int64{},
		fresh: map[termination.Fingerprint]int64{}, clientCounts: clientCounts{}, traits: map[traitKey]bool{}, untrimmed: map[termination.Fingerprint]int{},
	}
}

// remember tells the writer what is in the file now.
func (b *historyBatch) remember() {
	w := b.w
	w.strangers = b.strangers
	if len(w.traits)+len(b.traits) > maxTraits {
		clear(w.traits)
		clear(w.untrimmed)
	}
	maps.Copy(w.untrimmed, b.untrimmed)
	maps.Copy(w.traits, b.traits)
	if len(w.known)+len(b.fresh) > maxKnown {
		clear(w.known)
	}
	for f, at := range b.fresh {
		w.known[f] = at
	}
}

func (b *historyBatch) statement(query string) *sql.Stmt {
	statement := b.bound[query]
	if statement == nil {
		statement = b.tx.StmtContext(b.ctx, b.w.statements[query])
		b.bound[query] = statement
	}
	return statement
}

func (b *historyBatch) exec(query string, args ...any) (sql.Result, error) {
	return b.statement(query).ExecContext(b.ctx, args...) //nolint:sqlclosecheck // it ends with the transaction
}

func (b *historyBatch) write(batch termination.HistoryBatch) error {
	for _, h := range batch.Handshakes {
		if err := b.handshake(h); err != nil {
			return err
		}
	}
	for i := range batch.Ends {
		record, err := json.Marshal(&batch.Ends[i])
		if err != nil {
			return fmt.Errorf("encode end of connection: %w", err)
		}
		if _, err := b.exec(insertEnd, batch.Ends[i].ID, record); err != nil {
			return err
		}
		b.identityCounts.end(&batch.Ends[i])
	}
	if err := b.identities(); err != nil {
		return err
	}
	if err := b.clients(); err != nil {
		return err
	}
	for minute, seqs := range b.minutes {
		if _, err := b.exec(insertMinute, minute, seqs[0], seqs[1]); err != nil {
			return err
		}
	}
	for k, n := range b.counters {
		if _, err := b.exec(insertCounter, k.minute, k.endpoint, string(k.outcome), string(k.reason), n); err != nil {
			return err
		}
	}
	if b.lastSeq == 0 {
		return nil
	}
	_, err := b.tx.ExecContext(b.ctx, "UPDATE state SET last_seq = max(last_seq, ?), seen = max(seen, ?)", b.lastSeq, b.seen)
	return err
}

func (b *historyBatch) handshake(h *termination.Handshake) error {
	stored := storedHandshake{Handshake: h}
	var err error
	if stored.Presented, err = b.certificates(h, h.Presented); err != nil {
		return err
	}
	if stored.Path, err = b.certificates(h, h.Path); err != nil {
		return err
	}
	record, err := json.Marshal(stored)
	if err != nil {
		return fmt.Errorf("encode handshake: %w", err)
	}
	seq := int64(h.Seq) //nolint:gosec // numbered from 1 upwards
	res, err := b.exec(insertHandshake, columns(h)...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		b.skipped++
		return err
	}
	if _, err := b.exec(insertRecord, seq, record); err != nil {
		return err
	}
	b.count(h, seq)
	b.identityCounts.handshake(h)
	b.clientCounts.handshake(h, stored.Presented)
	return nil
}

func (b *historyBatch) count(h *termination.Handshake, seq int64) {
	minute := nanos(h.Time) / int64(time.Minute)
	seqs, ok := b.minutes[minute]
	if !ok {
		seqs = [2]int64{seq, seq}
	}
	b.minutes[minute] = [2]int64{min(seqs[0], seq), max(seqs[1], seq)}
	b.lastSeq = max(b.lastSeq, seq)
	if h.Proof {
		return
	}
	b.seen = true
	b.counters[counterKey{minute: minute, endpoint: h.EndpointID, outcome: h.Verdict.Outcome, reason: h.Verdict.Reason}]++
}

// certificates writes those that are not known yet and returns the fingerprints of all.
func (b *historyBatch) certificates(h *termination.Handshake, chain []*x509.Certificate) ([]termination.Fingerprint, error) {
	if len(chain) == 0 {
		return nil, nil
	}
	at := nanos(h.Time)
	fingerprints := make([]termination.Fingerprint, len(chain))
	for i, c := range chain {
		f := termination.FingerprintOf(c)
		fingerprints[i] = f
		seen, ok := b.fresh[f]
		if !ok {
			seen, ok = b.w.known[f]
		}
		if ok && at-seen < int64(seenEvery) {
			continue
		}
		if _, err := b.exec(insertCertificate, f[:], at, c.Raw); err != nil {
			return nil, err
		}
		b.fresh[f] = at
	}
	return fingerprints, nil
}

// columns returns the values of insertHandshake.
func columns(h *termination.Handshake) []any {
	peer := h.Peer.Addr().Unmap()
	address := ""
	if peer.IsValid() {
		address = peer.String()
	}
	v := []any{
		int64(h.Seq), h.ID, nanos(h.Time), int64(h.Duration), string(h.Verdict.Outcome), string(h.Verdict.Reason), int64(h.Verdict.Beat), h.Proof, //nolint:gosec // fits
		h.EndpointID, column(h.Endpoint), nonNil(peer.WithZone("").AsSlice()), column(address), column(serverName(h)),
		column(h.Client.Name), nil, column(h.Client.Authority), column(h.Client.Issuer), nil, nil, nil, nil, nil, nil, nil, nil,
	}
	if h.Client.Full != h.Client.Name {
		v[14] = column(h.Client.Full)
	}
	if f := h.Client.Fingerprint; f != (termination.Fingerprint{}) {
		v[17] = f[:]
	}
	if n := h.Chosen; n != nil {
		v[18], v[19], v[20], v[21] = int64(n.Version), int64(n.Group), n.PostQuantum, column(n.ALPN)
	}
	if h.Hello != nil {
		v[22] = column(h.Hello.JA4)
	}
	if h.Client.Identity != "" {
		v[23] = column(h.Client.Identity)
	}
	if h.New {
		v[24] = true
	}
	return v
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func serverName(h *termination.Handshake) string {
	if h.Hello == nil {
		return ""
	}
	return h.Hello.ServerName
}

// maxColumn is how much of a text from the wire can be searched for; the record has all of it.
const maxColumn = 1 << 10

// column makes hostile text fit for SQLite's text functions, which stop at NUL and read UTF-8: what is neither becomes
// U+FFFD. The record has the text as it came.
func column(s string) string {
	s = s[:min(len(s), maxColumn)]
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// nanos is t in nanoseconds since 1970, held within the times that have such a number.
func nanos(t time.Time) int64 {
	switch {
	case t.Year() < 1970:
		return 0
	case t.Year() > 2261:
		return time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	}
	return t.UnixNano()
}
