package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What an upgrade would change is known without a change, and can be put back.
func TestInspectKeepRestore(t *testing.T) {
	ctx := context.Background()
	dir := closedStore(t)
	config, history := filepath.Join(dir, configurationFile), filepath.Join(dir, historyFile)
	if files, err := Inspect(ctx, dir); len(files) > 0 || err != nil {
		t.Errorf("of this version: %q, %v", files, err)
	}
	if files, err := Inspect(ctx, t.TempDir()); len(files) > 0 || err != nil {
		t.Errorf("of an empty directory: %q, %v", files, err)
	}
	raw(t, config, "PRAGMA user_version = 1")
	before, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Inspect(ctx, dir)
	if err != nil || strings.Join(files, " ") != configurationFile {
		t.Fatalf("an older configuration: %q, %v", files, err)
	}
	kept, err := Keep(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	raw(t, config, "PRAGMA user_version = 4711", "CREATE TABLE more (x)")
	writeAll(t, config+"-wal", "of the file that goes")
	if err := kept.Restore(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(config)
	if err != nil || string(after) != string(before) {
		t.Errorf("the file is not what it was, %v", err)
	}
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := errors.Join(kept.Restore(), kept.Forget()); err != nil {
		t.Errorf("a second time: %v", err)
	}
	for _, pattern := range []string{"*" + keptSuffix, configurationFile + "-*"} {
		if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
			t.Errorf("left over: %q", left)
		}
	}
	if _, err := Keep(dir, []string{"../" + configurationFile}); err == nil {
		t.Error("a file that is none of a store is kept")
	}

	raw(t, config, "PRAGMA user_version = 4711")
	if _, err := Inspect(ctx, dir); !is[NewerError](err) {
		t.Errorf("a newer configuration: %v", err)
	}
	writeAll(t, config, string(before))
	writeAll(t, history, "Dear diary,\n")
	if files, err := Inspect(ctx, dir); err != nil || len(files) != 1 {
		t.Errorf("a history that would be begun anew: %q, %v", files, err)
	}
}

func writeAll(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
