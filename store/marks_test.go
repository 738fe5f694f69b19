package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A mark keeps its handshake and its certificates beyond their age, until it is taken away or has done so for long enough.
func TestMarksKeepTheirHandshakes(t *testing.T) {
	s, c := newStore(t)
	ctx, actor := t.Context(), Actor{Name: "rhea", Via: "dashboard"}
	r := &retention{history: s.records}
	keep := HistorySettings{Keep: time.Hour, KeepFailures: time.Hour, MaxSize: 1 << 30}
	ca := tlstest.NewCA()
	var batch termination.HistoryBatch
	for seq := uint64(1); seq <= 1100; seq++ { // more than two windows of retention
		h := handshakeAt(seq, c.Now())
		batch.Handshakes = append(batch.Handshakes, h)
	}
	first, second := batch.Handshakes[3], batch.Handshakes[700]
	first.Presented = ca.Client("rhea").Chain()
	if err := s.WriteHistory(batch); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*termination.Handshake{first, second} {
		if id, err := s.SetMark(ctx, actor, h.ID, termination.MarkSquare); err != nil || id != h.ID {
			t.Fatalf("%s, %v", id, err)
		}
	}
	if _, err := s.SetMark(ctx, actor, first.ID, "circle"); err == nil {
		t.Error("a fifth shape is taken")
	}
	if _, err := s.SetMark(ctx, actor, "hs_ZZZZ", termination.MarkStar); !errors.As(err, new(NotFoundError)) {
		t.Errorf("marking what is not there: %v", err)
	}
	c.Add(48 * time.Hour)
	prune(t, s, r, keep)
	filter, err := termination.ParseFilter("is:marked", c.Now())
	if err != nil {
		t.Fatal(err)
	}
	page := query(t, s, HistoryQuery{Filter: filter})
	if got := seqs(page); !slices.Equal(got, []uint64{701, 4}) || page.Records[0].Mark != termination.MarkSquare || count(t, s, "handshakes") != 2 {
		t.Fatalf("left are %v", got)
	}
	if kept, err := s.Handshake(ctx, first.ID); err != nil || len(kept.Handshake.Presented) == 0 || kept.Mark != termination.MarkSquare {
		t.Errorf("the marked handshake is %+v, %v", kept, err)
	}
	if _, err := s.SetMark(ctx, actor, second.ID, ""); err != nil {
		t.Fatal(err)
	}
	prune(t, s, r, keep)
	if marked, err := s.Marks(ctx); err != nil || len(marked) != 1 || marked[0].Handshake != first.ID || marked[0].By != "rhea" || count(t, s, "handshakes") != 1 {
		t.Errorf("marked are %+v, %v", marked, err)
	}
	c.Add(marksKeep)
	prune(t, s, r, keep)
	for _, table := range []string{"handshakes", "marks", "marked_certificates"} {
		if n := count(t, s, table); n != 0 {
			t.Errorf("%s still holds %d rows", table, n)
		}
	}
}
