package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver named "sqlite"
)

// The application IDs of our two files (PRAGMA application_id): "CSgn" and "CShi".
const (
	configurationID = 0x4353676e
	historyID       = 0x43536869
)

// readers is the number of connections that read one file at the same time.
const readers = 4

// database is one SQLite file: the one connection that writes, and a pool that reads.
type database struct {
	path   string
	writer *sql.DB
	reader *sql.DB
}

// kind says how one of the two files is opened.
type kind struct {
	file          string
	applicationID int
	migrations    string   // directory of its schema steps
	pragmas       []string // of every connection, besides the common ones
}

func configurationKind() kind {
	return kind{
		file: configurationFile, applicationID: configurationID, migrations: "configuration",
		// A change that was acknowledged is on the disk. What was deleted, such as a sealed key, is overwritten.
		pragmas: []string{"synchronous(FULL)", "secure_delete(ON)"},
	}
}

func historyKind() kind {
	return kind{
		file: historyFile, applicationID: historyID, migrations: "history",
		// In WAL mode NORMAL cannot damage the file; a power loss costs the last commits, as the history may.
		pragmas: []string{"auto_vacuum(INCREMENTAL)", "synchronous(NORMAL)", "journal_size_limit(67108864)"},
	}
}

func (k kind) path(dir string) string { return filepath.Join(dir, k.file) }

// dsn puts every pragma into the data source name: one that is run with Exec would reach a single pooled connection.
// The busy timeout comes first, because the others may already have to wait.
func dsn(path string, pragmas ...string) string {
	q := url.Values{}
	for _, p := range append([]string{"busy_timeout(10000)", "foreign_keys(ON)", "trusted_schema(OFF)", "cell_size_check(ON)"}, pragmas...) {
		q.Add("_pragma", p)
	}
	q.Set("_defensive", "1")
	q.Set("_dqs", "0")
	q.Set("_error_rc", "1")
	p := filepath.ToSlash(path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // a Windows path: file:///C:/…
	}
	return (&url.URL{Scheme: "file", Path: p, RawQuery: q.Encode()}).String()
}

// openDatabase opens, checks and migrates one of our files in dir. What it refuses is a [NewerError], [ForeignError] or
// [DamagedError], and then the file is as it was.
func openDatabase(ctx context.Context, dir string, k kind, steps []migration, now int64) (*database, error) {
	path := k.path(dir)
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	version, err := probe(ctx, path, k, len(steps))
	if err != nil {
		return nil, err
	}
	db := &database{path: path}
	// The journal mode comes last: it writes the first page, and then auto_vacuum could no longer be chosen.
	db.writer, err = sql.Open("sqlite", dsn(path, append(k.pragmas, "journal_mode(WAL)")...)+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.writer.SetMaxOpenConns(1)
	db.reader, err = sql.Open("sqlite", dsn(path, append(k.pragmas, "query_only(ON)")...))
	if err != nil {
		_ = db.writer.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	if version < len(steps) {
		if err := migrate(ctx, db.writer, k, steps[version:], now); err != nil {
			_ = db.close()
			return nil, err
		}
		if err := syncDirectory(dir); err != nil {
			_ = db.close()
			return nil, err
		}
	}
	return db, nil
}

// probe looks at the file without changing it and returns the version of its schema, 0 for an empty file.
func probe(ctx context.Context, path string, k kind, known int) (int, error) {
	empty, err := checkHeader(path)
	if err != nil || empty {
		return 0, err
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = db.Close() }()
	version, err := probeOpen(ctx, db, path, k, known)
	if isDamage(err) {
		return 0, DamagedError{File: path, Detail: err.Error()}
	}
	return version, err
}

func probeOpen(ctx context.Context, db *sql.DB, path string, k kind, known int) (int, error) {
	var applicationID, version, tables int
	for query, into := range map[string]*int{
		"PRAGMA application_id":              &applicationID,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := db.QueryRowContext(ctx, query).Scan(into); err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
	}
	switch {
	case applicationID == 0 && version == 0 && tables == 0:
		return 0, nil // its first start was broken off before the schema was committed
	case applicationID != k.applicationID:
		return 0, ForeignError{File: path, Detail: fmt.Sprintf("its application ID is %#x", applicationID)}
	case version > known:
		return 0, NewerError{File: path, Version: version, Known: known}
	case version < 1:
		return 0, DamagedError{File: path, Detail: fmt.Sprintf("schema version %d", version)}
	}
	if k.applicationID == configurationID {
		return version, integrity(ctx, db, path)
	}
	// The history can have gigabytes; reading all of it would delay the start. Damage in it is met when it is read.
	return version, nil
}

// integrity reads the whole file, its indexes and its references.
func integrity(ctx context.Context, db *sql.DB, path string) error {
	var detail string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&detail); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if detail != "ok" {
		return DamagedError{File: path, Detail: strings.Join(strings.Fields(detail), " ")}
	}
	var table string
	err := db.QueryRowContext(ctx, `SELECT "table" FROM pragma_foreign_key_check LIMIT 1`).Scan(&table)
	if err == nil {
		return DamagedError{File: path, Detail: "a row of " + table + " refers to one that is not there"}
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("check references in %s: %w", path, err)
	}
	return nil
}

// checkHeader reports whether the file is empty, and refuses one that is no SQLite database.
func checkHeader(path string) (empty bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	var head [16]byte
	n, err := io.ReadFull(f, head[:])
	if n == 0 && errors.Is(err, io.EOF) {
		return true, checkNoLog(path)
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if !bytes.Equal(head[:n], []byte("SQLite format 3\x00")) {
		return false, ForeignError{File: path, Detail: "no SQLite database"}
	}
	return false, nil
}

// checkNoLog refuses an empty database beside a write-ahead log: the header is written before the log is begun, so the
// database was emptied, and beginning anew would discard what the log still holds.
func checkNoLog(path string) error {
	info, err := os.Stat(path + "-wal")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at write-ahead log: %w", err)
	case info.Size() > 0:
		return DamagedError{File: path, Detail: "it is empty, but its write-ahead log is not"}
	}
	return nil
}

// close ends both pools; the last connection copies the write-ahead log into the database.
func (d *database) close() error {
	err := d.reader.Close()
	if _, cerr := d.writer.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err == nil {
		err = cerr
	}
	if cerr := d.writer.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}
