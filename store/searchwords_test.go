package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"countersign/termination"
)

// A filter may hold hundreds of words, each of which is looked for in every record: whoever may read must not keep a
// processor busy for longer than the search has patience.
func TestSearchForManyWordsGivesUp(t *testing.T) {
	s, c := newStore(t)
	last := c.Now()
	fillHistory(t, s, scanWindow+1, last)
	f, err := termination.ParseFilter(strings.Repeat("ø,", 300)+"ø", last)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	page, err := s.Handshakes(context.Background(), HistoryQuery{Filter: f, Patience: time.Millisecond})
	if took := time.Since(began); err != nil || took > 500*time.Millisecond {
		t.Errorf("it took %v: %v", took, err)
	}
	if page.Next == 0 || page.Searched.IsZero() {
		t.Errorf("it did not give up: %+v", page)
	}
}
