package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live"
	"countersign/termination/tlstest"
)

func batch(ids ...string) termination.HistoryBatch {
	var b termination.HistoryBatch
	for _, id := range ids {
		b.Ends = append(b.Ends, termination.ConnectionEnd{ID: id})
	}
	return b
}

// Records go where the history is at the moment, in order, and wait while it is nowhere.
func TestPen(t *testing.T) {
	var got []string
	take := func(b termination.HistoryBatch) error {
		for _, e := range b.Ends {
			got = append(got, e.ID)
		}
		return nil
	}
	log := &buffer{}
	p := &pen{log: slog.New(slog.NewTextHandler(log, nil))}
	_ = p.write(batch("1")) // before there is a store
	p.use(take)
	_ = p.write(batch("2"))
	p.keep()
	_ = p.write(batch("3", "4"))
	_ = p.write(batch("5"))
	if s := strings.Join(got, " "); s != "1 2" {
		t.Errorf("written %q", s)
	}
	p.use(take)
	_ = p.write(batch("6"))
	if s := strings.Join(got, " "); s != "1 2 3 4 5 6" {
		t.Errorf("written %q", s)
	}

	// A store that is closed under the pen's hands loses nothing.
	p.use(func(termination.HistoryBatch) error { p.keep(); return store.ErrClosed })
	if err := p.write(batch("7")); err != nil {
		t.Error(err)
	}
	p.use(take)
	if s := strings.Join(got, " "); !strings.HasSuffix(s, " 6 7") {
		t.Errorf("written %q", s)
	}
	// One that is closed for good says so.
	p.use(func(termination.HistoryBatch) error { return store.ErrClosed })
	if err := p.write(batch("8")); !errors.Is(err, store.ErrClosed) {
		t.Error(err)
	}

	// What waits is bounded, and what is too much is told.
	p.keep()
	for range maxKept/1000 + 5 {
		_ = p.write(termination.HistoryBatch{Ends: make([]termination.ConnectionEnd, 1000)})
	}
	n := 0
	p.use(func(b termination.HistoryBatch) error { n += len(b.Ends); return nil })
	if n != maxKept || !strings.Contains(log.String(), "records=5000") {
		t.Errorf("%d were kept: %s", n, log)
	}
}

// A record is the same after it went from one process to the next, but for its number.
func TestRecordsCrossOver(t *testing.T) {
	ca := tlstest.NewCA()
	leaf := ca.Client("rhea")
	h := &termination.Handshake{
		ID: "hs_1", Seq: 4711, Endpoint: "one", Client: termination.ClientName{Name: "rhea"}, Time: time.Now().UTC().Truncate(0),
		Presented: leaf.Chain(), Path: append(leaf.Chain(), ca.X509), Verdict: termination.Verdict{Outcome: termination.OutcomeVerified},
	}
	end := termination.ConnectionEnd{ID: "hs_1", BytesIn: 7, ClosedBy: termination.ClosedByGateway, Reason: termination.ReasonShutdown}
	text, err := json.Marshal(newRecords(termination.HistoryBatch{Handshakes: []*termination.Handshake{h}, Ends: []termination.ConnectionEnd{end}}))
	if err != nil {
		t.Fatal(err)
	}
	var r records
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got termination.HistoryBatch
	hub := live.New(live.Options{FirstSeq: 9, Sink: func(b termination.HistoryBatch) error {
		mu.Lock()
		defer mu.Unlock()
		got.Handshakes, got.Ends = append(got.Handshakes, b.Handshakes...), append(got.Ends, b.Ends...)
		return nil
	}})
	r.publish(t.Context(), hub)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := hub.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if len(got.Handshakes) != 1 || len(got.Ends) != 1 {
		t.Fatalf("%+v", got)
	}
	after := got.Handshakes[0]
	if after.Seq != 9 || after.ID != h.ID || after.Client.Name != "rhea" || !after.Time.Equal(h.Time) || len(after.Presented) != 1 || !after.Presented[0].Equal(leaf.X509) || len(after.Path) != 2 {
		t.Errorf("the handshake: %+v", after)
	}
	if e := got.Ends[0]; e != end {
		t.Errorf("the end: %+v", e)
	}
}

// The service manager is told what it has to know.
func TestNotifyManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := &program{getenv: func(name string) string { return map[string]string{"NOTIFY_SOCKET": path}[name] }}
	p.notifyManager(stateReplaced(4711))
	_ = l.SetReadDeadline(time.Now().Add(deadline))
	got := make([]byte, 100)
	n, err := l.Read(got)
	if err != nil || string(got[:n]) != "MAINPID=4711\nREADY=1" {
		t.Errorf("%q, %v", got[:n], err)
	}
	(&program{getenv: func(string) string { return "" }}).notifyManager(stateReady) // nobody is there
	(&program{getenv: func(string) string { return path + "x" }}).notifyManager(stateReady)
}
