package main

import (
	"path/filepath"
	"testing"
)

// A copy of the store holds keys. One that is left of an upgrade whose program was killed goes with the next start.
func TestCopiesOfKilledUpgrade(t *testing.T) {
	dir := dataDir(t)
	noDemo := func(o *appOptions) { o.NoDemo = true }
	start(t, dir, noDemo).end()
	left := filepath.Join(dir, "countersign.db.before-upgrade")
	writeFile(t, left, []byte("keys"))
	start(t, dir, noDemo)
	if exists(left) {
		t.Error("the copy is left over")
	}
}
