package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// prune runs retention once with settings.
func prune(t testing.TB, s *Store, r *retention, h HistorySettings) {
	t.Helper()
	if err := r.run(context.Background(), func(context.Context) (HistorySettings, error) { return h, nil }); err != nil {
		t.Fatalf("retention: %v", err)
	}
}

func count(t testing.TB, s *Store, table string) int {
	t.Helper()
	var n int
	if err := s.records.db.reader.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOldHandshakesGoFailuresLater(t *testing.T) {
	for name, hours := range map[string][]int{
		"hour by hour": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
		"long pauses":  {6, 8, 12},
	} {
		t.Run(name, func(t *testing.T) { ageHandshakes(t, hours) })
	}
}

func ageHandshakes(t *testing.T, hours []int) {
	s, c := newStore(t)
	r := &retention{history: s.records}
	keep := HistorySettings{Keep: time.Hour, KeepFailures: 270 * time.Minute, MaxSize: 1 << 30}
	// Six hours, one handshake of each kind a minute, more of them than fit into a window.
	begin := c.Now()
	var batch termination.HistoryBatch
	for i := range 6 * 60 {
		at := begin.Add(time.Duration(i) * time.Minute)
		for j := range 2 {
			good, bad := handshakeAt(uint64(4*i+2*j+1), at), refusedAt(uint64(4*i+2*j+2), at)
			batch.Handshakes = append(batch.Handshakes, good, bad)
			batch.Ends = append(batch.Ends, termination.ConnectionEnd{ID: good.ID, Time: at})
		}
	}
	if err := s.WriteHistory(batch); err != nil {
		t.Fatal(err)
	}
	for _, hours := range hours {
		c.Add(begin.Add(time.Duration(hours) * time.Hour).Sub(c.Now()))
		prune(t, s, r, keep)
		var want []uint64
		for _, h := range slices.Backward(batch.Handshakes) {
			limit := keep.Keep
			if !h.Verdict.Outcome.In() {
				limit = keep.KeepFailures
			}
			if c.Now().Sub(h.Time) <= limit {
				want = append(want, h.Seq)
			}
		}
		var got []uint64
		for q := (HistoryQuery{Limit: 1000}); ; {
			page := query(t, s, q)
			got = append(got, seqs(page)...)
			if q.Before = page.Next; q.Before == 0 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("after %d hours %d are left, want %d", hours, len(got), len(want))
		}
		if n := count(t, s, "records"); n != len(want) {
			t.Errorf("after %d hours %d records are left of %d handshakes", hours, n, len(want))
		}
	}
	c.Add(24 * time.Hour)
	prune(t, s, r, keep)
	for _, table := range []string{"handshakes", "records", "ends", "minutes"} {
		if n := count(t, s, table); n != 0 {
			t.Errorf("%s still holds %d rows", table, n)
		}
	}
	counts, err := s.Counts(context.Background(), CountQuery{Since: begin})
	if err != nil || len(counts) != 2 || counts[0].N != 720 || counts[1].N != 720 {
		t.Errorf("the counters went with the records: %v, %v", counts, err)
	}
	if seen, err := s.HasHandshakes(context.Background()); err != nil || !seen {
		t.Errorf("it forgot that it has seen a handshake (%v)", err)
	}
	if s.NextSeq() != 1 {
		t.Error("the first number of this run changed")
	}
	c.Add(countersKeep)
	prune(t, s, &retention{history: s.records}, keep)
	if n := count(t, s, "counters"); n != 0 {
		t.Errorf("%d counters are kept for ever", n)
	}
}

func TestHistoryKeepsToItsSize(t *testing.T) {
	s, c := newStore(t)
	r := &retention{history: s.records}
	keep := HistorySettings{Keep: 24 * time.Hour, KeepFailures: 24 * time.Hour, MaxSize: 2 << 20}
	ca := tlstest.NewCA()
	seq := uint64(0)
	fill := func(n int) {
		var batch termination.HistoryBatch
		for range n {
			seq++
			h := refusedAt(seq, c.Now())
			h.Presented = []*tlstest.Cert{ca.Client("x")}[0].Chain()
			batch.Handshakes = append(batch.Handshakes, h)
		}
		if err := s.WriteHistory(batch); err != nil {
			t.Fatal(err)
		}
		c.Add(3 * time.Hour)
	}
	size := func() int64 {
		if _, err := s.records.db.writer.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(s.records.db.path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for range 6 {
		fill(300)
		prune(t, s, r, keep)
		if n := size(); n > keep.MaxSize {
			t.Fatalf("the file has %d bytes, %d are allowed", n, keep.MaxSize)
		}
	}
	page := query(t, s, HistoryQuery{Limit: 1000})
	if len(page.Records) == 0 || page.Records[0].Handshake.Seq != seq {
		t.Fatalf("%d records are left, and not the newest", len(page.Records))
	}
	for i, r := range page.Records {
		if r.Handshake.Seq != seq-uint64(i) {
			t.Fatal("records are missing in the middle")
		}
	}
	if before, left := count(t, s, "certificates"), len(page.Records); before > left+700 {
		t.Errorf("%d certificates are kept for %d records", before, left)
	}
	keep.MaxSize = 1 << 20
	prune(t, s, r, keep)
	if n := size(); n > keep.MaxSize {
		t.Errorf("after max_size was lowered the file still has %d bytes", n)
	}
	for _, rec := range query(t, s, HistoryQuery{Limit: 1000}).Records {
		full, err := s.Handshake(context.Background(), rec.Handshake.ID)
		if err != nil || len(full.Handshake.Presented) == 0 {
			t.Fatalf("a record that is kept lost its certificates: %v", err)
		}
	}
}

func TestCertificateIsWrittenAgainAfterASweep(t *testing.T) {
	s, c := newStore(t)
	r := &retention{history: s.records}
	keep := HistorySettings{Keep: time.Hour, KeepFailures: time.Hour, MaxSize: 1 << 30}
	chain := tlstest.NewCA().Client("x").Chain()
	for i := range uint64(3) {
		h := handshakeAt(100*i+1, c.Now())
		h.Presented = chain
		write(t, s, h)
		if full, err := s.Handshake(context.Background(), h.ID); err != nil || len(full.Handshake.Presented) != len(chain) {
			t.Fatalf("round %d: %d certificates, %v", i, len(full.Handshake.Presented), err)
		}
		c.Add(24 * time.Hour)
		if _, err := s.records.db.writer.Exec("DELETE FROM clients"); err != nil { // whose certificates stay
			t.Fatal(err)
		}
		prune(t, s, r, keep)
		if n := count(t, s, "certificates"); n != 0 {
			t.Fatalf("round %d: %d certificates of nobody are kept", i, n)
		}
		// The clock was set back: by its time the certificate was written a moment ago.
		again := handshakeAt(100*i+2, h.Time)
		again.Presented = chain
		write(t, s, again)
		if full, err := s.Handshake(context.Background(), again.ID); err != nil || len(full.Handshake.Presented) != len(chain) {
			t.Fatalf("round %d, after the clock was set back: %v", i, err)
		}
		prune(t, s, &retention{history: s.records}, keep)
	}
}

func TestRetentionFollowsTheSettings(t *testing.T) {
	s, c := newStore(t)
	write(t, s, handshakeAt(1, c.Now()))
	c.Add(2 * time.Hour)
	change(t, s, func(tx *Tx) error {
		return tx.SetHistory(HistorySettings{Keep: time.Hour, KeepFailures: time.Hour, MaxSize: 1 << 30})
	})
	// The change asked the store's own goroutine, which needs the right to write that this loop does not hold.
	tlstest.Eventually(t, "the history to be emptied", func() bool { return count(t, s, "handshakes") == 0 })
}

func TestFullDiskDropsHandshakesAndNothingElse(t *testing.T) {
	s, c := newStore(t)
	populate(t, s)
	limitPages := func(n int) {
		if _, err := s.records.db.writer.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s, handshakeAt(1, c.Now()))
	limitPages(1) // not below what it has
	big := termination.HistoryBatch{}
	for seq := uint64(2); seq < 200; seq++ {
		big.Handshakes = append(big.Handshakes, handshakeAt(seq, c.Now()))
	}
	for range 3 {
		if err := s.WriteHistory(big); err == nil || !strings.Contains(err.Error(), "full") {
			t.Fatalf("got %v", err)
		}
	}
	v, err := s.Status(context.Background())
	if err != nil || v.Dropped != 3*198 || v.Failure == "" {
		t.Errorf("status %+v, %v", v, err)
	}
	if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0].Text, "the disk is full") {
		t.Errorf("warnings %v", w)
	}
	if n := len(query(t, s, HistoryQuery{}).Records); n != 1 {
		t.Errorf("%d records can be read", n)
	}
	change(t, s, func(tx *Tx) error { return tx.DeleteEndpoint("api") })
	limitPages(1 << 30)
	if err := s.WriteHistory(big); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Status(context.Background()); err != nil || v.Failure != "" {
		t.Errorf("status %+v, %v", v, err)
	}
	if w := s.Warnings(); len(w) != 2 || !strings.Contains(w[1].Text, "again") {
		t.Errorf("warnings %v", w)
	}
}

func TestDamagedHistoryIsMovedAside(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"text":         func([]byte) []byte { return []byte("Dear diary,\n") },
		"cut short":    func(b []byte) []byte { return b[:len(b)/2/4096*4096] },
		"pages zeroed": func(b []byte) []byte { clear(b[4096:]); return b },
		"random": func(b []byte) []byte {
			copy(b[4096:], []byte(strings.Repeat("\xde\xad\xbe\xef", len(b)/4-1024)))
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			dir := t.TempDir()
			s := openIn(t, dir, testOptions(c))
			populate(t, s)
			for seq := uint64(1); seq <= 300; seq++ {
				write(t, s, handshakeAt(seq, c.Now()))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, historyFile)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, path, spoil(content))
			s = openIn(t, dir, testOptions(c))
			if e := load(t, s).Endpoint("api"); e == nil || !e.Enabled {
				t.Error("the configuration was affected")
			}
			write(t, s, handshakeAt(1000, c.Now()), handshakeAt(1001, c.Now()))
			if page := query(t, s, HistoryQuery{}); len(page.Records) < 2 {
				t.Errorf("%d records", len(page.Records))
			}
			w := s.Warnings()
			if len(w) == 0 || !strings.Contains(w[0].Text, "moved to") {
				t.Errorf("warnings %v", w)
			}
			if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) == 0 {
				t.Errorf("nothing was moved aside (%v)", err)
			}
		})
	}
}

func TestHistoryDamagedWhileItIsReadGoesOn(t *testing.T) {
	s, c := newStore(t)
	for seq := uint64(1); seq <= 300; seq++ {
		write(t, s, handshakeAt(seq, c.Now()))
	}
	// Put what is in the log into the file, and close the readers' view of it, then spoil the file.
	if _, err := s.records.db.writer.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.records.db.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, info.Size()-4096), 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if page := query(t, s, HistoryQuery{}); len(page.Records) != 0 {
		t.Errorf("%d records came out of zeroes", len(page.Records))
	}
	write(t, s, handshakeAt(301, c.Now()))
	if got := seqs(query(t, s, HistoryQuery{})); !slices.Equal(got, []uint64{301}) {
		t.Errorf("the new history holds %v", got)
	}
	if w := s.Warnings(); len(w) != 1 {
		t.Errorf("warnings %v", w)
	}
	if err := s.records.read(context.Background(), func(db *database) error {
		var last uint64
		err := db.reader.QueryRow("SELECT last_seq FROM state").Scan(&last)
		if last < 300 {
			t.Errorf("the sequence of the new history is at %d", last)
		}
		return err
	}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestDamageMetByAWriteLosesNoBatch spoils what opening does not look at, so that the first batch meets it.
func TestDamageMetByAWriteLosesNoBatch(t *testing.T) {
	c := newClock()
	dir := closedStore(t)
	path := filepath.Join(dir, historyFile)
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	var page int64
	if err := db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = 'handshakes_by_id'").Scan(&page); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(content[(page-1)*4096 : page*4096])
	overwrite(t, path, content)
	s := openIn(t, dir, testOptions(c))
	if w := s.Warnings(); len(w) != 0 {
		t.Fatalf("opening met it: %v", w)
	}
	write(t, s, handshakeAt(3, c.Now()), handshakeAt(4, c.Now()))
	if got := seqs(query(t, s, HistoryQuery{})); !slices.Equal(got, []uint64{4, 3}) {
		t.Errorf("the new history holds %v", got)
	}
	if w := s.Warnings(); len(w) != 1 {
		t.Errorf("warnings %v", w)
	}
	if v, err := s.Status(context.Background()); err != nil || v.Dropped != 0 {
		t.Errorf("status %+v, %v", v, err)
	}
}
