package tlstest

import (
	"testing"
	"time"
)

// Eventually waits for a state that nobody announces. What is announced is waited for by itself.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const most = 30 * time.Second // for tests that fail anyway: nothing takes that long
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	tooLate := time.After(most)
	for !holds() {
		select {
		case <-tick.C:
		case <-tooLate:
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}
