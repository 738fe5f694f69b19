package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"countersign/termination"
)

// A filter may hold a hundred words, each of which is looked for in every record: whoever may read must not keep a
// processor busy for longer than the search has patience.
func TestSearchForManyWordsGivesUp(t *testing.T) {
	s, c := newStore(t)
	last := c.Now()
	fillHistory(t, s, scanWindow+1, last)
	f, err := termination.ParseFilter(strings.Repeat("ø,", 99)+"ø", last)
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Handshakes(context.Background(), HistoryQuery{Filter: f, Patience: time.Nanosecond})
	if err != nil || page.Next < scanWindow/2 || page.Searched.IsZero() {
		t.Errorf("it did not give up after a few: %+v, %v", page, err)
	}
}
