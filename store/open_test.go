package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/termination"
)

func TestEverythingIsPrivate(t *testing.T) {
	c := newClock()
	dir := filepath.Join(t.TempDir(), "a b?c#d%20e")
	s := openIn(t, dir, testOptions(c))
	populate(t, s)
	write(t, s, handshakeAt(1, c.Now()))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Name()] = true
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	for _, name := range []string{configurationFile, configurationFile + "-wal", configurationFile + "-shm", historyFile, historyFile + "-wal", historyFile + "-shm", keyFile, lockFile} {
		if !found[name] {
			t.Errorf("%s is not there", name)
		}
	}
}

func TestLaxPermissionsAreTightened(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := openIn(t, dir, testOptions(c))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, configurationFile): 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	s = openIn(t, dir, testOptions(c))
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, configurationFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, keyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), dir, testOptions(c))
	if e, ok := errors.AsType[KeyFileError](err); !ok || !strings.Contains(e.Advice, "chmod 600") {
		t.Errorf("a key file that others may have read: %v", err)
	}
}

func TestDirectoryOfOthersIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), dir, testOptions(newClock()))
	if _, ok := errors.AsType[ExposedDirError](err); !ok {
		t.Fatalf("got %v", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, configurationFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was made in it")
	}
	file := filepath.Join(dir, "thesis.txt")
	if _, err := Open(context.Background(), file, testOptions(newClock())); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestSecondProcessIsToldWhoHoldsTheDirectory(t *testing.T) {
	s, c := newStore(t)
	_, err := Open(context.Background(), s.Dir(), testOptions(c))
	if e, ok := errors.AsType[LockedError](err); !ok || e.Dir != s.Dir() || !strings.Contains(err.Error(), s.Dir()) {
		t.Errorf("got %v", err)
	}
	if out := runChild(t, "open", s.Dir()); !strings.Contains(out, "in use by another process") {
		t.Errorf("another process was told: %s", out)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out := runChild(t, "open", s.Dir()); !strings.Contains(out, "opened") {
		t.Errorf("after the close another process was told: %s", out)
	}
}

// closedStore makes a populated store, closes it and returns its directory.
func closedStore(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	c := newClock()
	s := openIn(t, dir, testOptions(c))
	populate(t, s)
	write(t, s, handshakeAt(1, c.Now()), refusedAt(2, c.Now()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// raw runs statements in a database file behind the store's back.
func raw(t testing.TB, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func TestRefusedFilesStayAsTheyAre(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, dir, path string)
		check func(error) bool
		says  string
	}{
		"newer configuration": {
			func(t *testing.T, _, path string) { raw(t, path, "PRAGMA user_version = 4711") },
			is[NewerError], "start that version",
		},
		"newer history": {
			func(t *testing.T, dir, _ string) {
				raw(t, filepath.Join(dir, historyFile), "PRAGMA user_version = 4711")
			},
			is[NewerError], "start that version",
		},
		"another program's": {
			func(t *testing.T, _, path string) { raw(t, path, "PRAGMA application_id = 1234") },
			is[ForeignError], "move it away",
		},
		"text": {
			func(t *testing.T, _, path string) { overwrite(t, path, []byte("Dear diary,\n")) },
			is[ForeignError], "no SQLite database",
		},
		"a few bytes": {
			func(t *testing.T, _, path string) { overwrite(t, path, []byte("SQLi")) },
			is[ForeignError], "no SQLite database",
		},
		"cut short": {
			func(t *testing.T, _, path string) {
				if err := os.Truncate(path, 3*4096); err != nil {
					t.Fatal(err)
				}
			},
			is[DamagedError], "Restore a backup",
		},
		"no schema version": {
			func(t *testing.T, _, path string) { raw(t, path, "PRAGMA user_version = 0") },
			is[DamagedError], "Restore a backup",
		},
		"a reference to nothing": {
			func(t *testing.T, _, path string) { raw(t, path, "PRAGMA foreign_keys = OFF; DELETE FROM authorities") },
			is[DamagedError], "refers to one that is not there",
		},
		"a table is gone": {
			func(t *testing.T, _, path string) { raw(t, path, "DROP TABLE settings") },
			is[DamagedError], "Restore a backup",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedStore(t)
			path := filepath.Join(dir, configurationFile)
			test.spoil(t, dir, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(context.Background(), dir, testOptions(newClock()))
			if !test.check(err) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the refused file was changed, %v", err)
			}
		})
	}
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func overwrite(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedBytesAreRefusedOrHarmless damages a store in many places. Whatever it is, opening it ends in a typed error
// or in a configuration that validates.
func TestFlippedBytesAreRefusedOrHarmless(t *testing.T) {
	dir := closedStore(t)
	path := filepath.Join(dir, configurationFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(2, 71))
	refused := 0
	for i := range 80 {
		bad := bytes.Clone(good)
		switch i % 4 {
		case 0: // the header of some page, where its structure stands
			bad[random.IntN(len(good)/4096)*4096+random.IntN(16)] ^= byte(1 + random.IntN(255))
		case 1: // a whole page
			page := random.IntN(len(good) / 4096)
			clear(bad[page*4096 : (page+1)*4096])
		case 2: // the file's header
			bad[random.IntN(100)] ^= byte(1 + random.IntN(255))
		default:
			bad[random.IntN(len(good))] ^= byte(1 << random.IntN(8))
		}
		overwrite(t, path, bad)
		s, err := Open(context.Background(), dir, testOptions(newClock()))
		if err != nil {
			refused++
			if !is[DamagedError](err) && !is[ForeignError](err) && !is[NewerError](err) && !is[KeyFileError](err) {
				t.Errorf("round %d: an error without advice: %v", i, err)
			}
			continue
		}
		config, _, err := s.Load(context.Background())
		if err != nil {
			t.Errorf("round %d: it opened, but does not load: %v", i, err)
		} else if err := config.Validate(); err != nil {
			t.Errorf("round %d: it loaded an invalid configuration: %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("round %d: close: %v", i, err)
		}
		for _, suffix := range []string{"-wal", "-shm"} {
			_ = os.Remove(path + suffix)
		}
	}
	if refused < 30 {
		t.Errorf("only %d of 80 damaged files were refused", refused)
	}
	overwrite(t, path, good)
	openIn(t, dir, testOptions(newClock()))
}

func TestEmptiedDatabaseWithALogIsNotBegunAnew(t *testing.T) {
	dir := closedStore(t)
	path := filepath.Join(dir, configurationFile)
	overwrite(t, path, nil)
	overwrite(t, path+"-wal", bytes.Repeat([]byte{1}, 100))
	if _, err := Open(context.Background(), dir, testOptions(newClock())); !is[DamagedError](err) {
		t.Errorf("a new store was begun over the remains of the old one: %v", err)
	}
}

func TestPragmasReachEveryConnection(t *testing.T) {
	s, _ := newStore(t)
	for _, test := range []struct {
		db     *sql.DB
		conns  int
		pragma string
		want   string
	}{
		{s.config.writer, 1, "synchronous", "2"},
		{s.config.writer, 1, "journal_mode", "wal"},
		{s.config.writer, 1, "foreign_keys", "1"},
		{s.config.writer, 1, "busy_timeout", "10000"},
		{s.config.writer, 1, "secure_delete", "1"},
		{s.config.reader, readers, "foreign_keys", "1"},
		{s.config.reader, readers, "query_only", "1"},
		{s.config.reader, readers, "busy_timeout", "10000"},
		{s.config.reader, readers, "trusted_schema", "0"},
		{s.records.db.writer, 1, "synchronous", "1"},
		{s.records.db.writer, 1, "journal_mode", "wal"},
		{s.records.db.writer, 1, "auto_vacuum", "2"},
		{s.records.db.reader, readers, "query_only", "1"},
	} {
		var conns []*sql.Conn
		for range test.conns {
			conn, err := test.db.Conn(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			var got string
			if err := conn.QueryRowContext(context.Background(), "PRAGMA "+test.pragma).Scan(&got); err != nil || got != test.want {
				t.Errorf("%s is %q, want %q (%v)", test.pragma, got, test.want, err)
			}
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

// TestMigrationsFromEveryVersion brings a store of each version up to the newest, with what it holds.
func TestMigrationsFromEveryVersion(t *testing.T) {
	ctx := context.Background()
	for _, k := range []kind{configurationKind(), historyKind()} {
		steps, err := loadMigrations(k.migrations)
		if err != nil || len(steps) == 0 {
			t.Fatalf("%s: %d steps, %v", k.file, len(steps), err)
		}
		for from := range len(steps) + 1 {
			dir := t.TempDir()
			old, err := openDatabase(ctx, dir, k, steps[:from], 1)
			if err != nil {
				t.Fatalf("%s at version %d: %v", k.file, from, err)
			}
			if err := old.close(); err != nil {
				t.Fatal(err)
			}
			db, err := openDatabase(ctx, dir, k, steps, 2)
			if err != nil {
				t.Fatalf("%s from version %d: %v", k.file, from, err)
			}
			var version, id, recorded int
			if err := db.reader.QueryRow("SELECT * FROM pragma_user_version, pragma_application_id, (SELECT count(*) FROM migrations)").Scan(&version, &id, &recorded); err != nil {
				t.Fatal(err)
			}
			if version != len(steps) || id != k.applicationID || recorded != len(steps) {
				t.Errorf("%s from version %d: version %d, ID %#x, %d steps recorded", k.file, from, version, id, recorded)
			}
			if err := db.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestBrokenMigrationLeavesNothing(t *testing.T) {
	ctx := context.Background()
	k := configurationKind()
	steps, err := loadMigrations(k.migrations)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	broken := append(append([]migration{}, steps...), migration{version: len(steps) + 1, name: "broken", sql: "CREATE TABLE half (a TEXT) STRICT; INSERT INTO nowhere VALUES (1);"})
	if _, err := openDatabase(ctx, dir, k, broken, 1); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema %d (broken)", len(steps)+1)) {
		t.Fatalf("got %v", err)
	}
	db, err := openDatabase(ctx, dir, k, steps, 1)
	if err != nil {
		t.Fatalf("after a broken step: %v", err)
	}
	defer func() { _ = db.close() }()
	var n int
	if err := db.reader.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").Scan(&n); err != nil || n != 0 {
		t.Errorf("a broken step left a table (%d, %v)", n, err)
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	s, _ := newStore(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	if _, _, err := s.Change(context.Background(), rhea, func(*Tx) error { return nil }, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("change: %v", err)
	}
	if _, _, err := s.Load(context.Background()); err == nil {
		t.Error("load works after close")
	}
	if _, err := s.Handshakes(context.Background(), HistoryQuery{}); !errors.Is(err, ErrClosed) {
		t.Errorf("history: %v", err)
	}
}

func TestChangeGivesUpWaitingWithItsContext(t *testing.T) {
	s, _ := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	change(t, s, func(*Tx) error {
		cancel()
		_, _, err := s.Change(ctx, rhea, func(*Tx) error { t.Error("it ran"); return nil }, func(*termination.Config) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		return nil
	})
}
