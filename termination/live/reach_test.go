package live

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// A filter of many words is held against so many events only: meanwhile the hub takes no records, and whoever may
// watch could have the history miss them. What was not looked at is said.
func TestResumeWithManyWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		defer mustClose(t, b)
		publish(b, 0, 3000, 1000)
		many := "-" + strings.Repeat("ø,", maxCompared/1000-2) + "ø" // selects everything, and reaches 1000 events
		frames := watchBriefly(t, b, many, 500)
		if want := []Gap{{Op: "gap", From: 501, To: 2000, Count: 1500, AtMost: true}}; !slices.Equal(gaps(frames), want) {
			t.Errorf("gaps are %+v, want %+v", gaps(frames), want)
		}
		checkSeqs(t, events(frames), 2001, 3000)
		checkSeqs(t, events(watchBriefly(t, b, many, 0)), 2001, 3000)
	})
}
