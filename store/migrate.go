package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"path"
	"strconv"
	"strings"
)

//go:embed migrations
var migrationFiles embed.FS

// migration is one step of a schema. A released step is never edited.
type migration struct {
	version int
	name    string
	sql     string
}

// loadMigrations reads the steps of one of the two files: 0001_name.sql, 0002_name.sql, …, without gaps.
func loadMigrations(dir string) ([]migration, error) {
	entries, err := migrationFiles.ReadDir(path.Join("migrations", dir))
	if err != nil {
		return nil, fmt.Errorf("list schema steps: %w", err)
	}
	steps := make([]migration, 0, len(entries))
	for i, e := range entries {
		number, name, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if !ok || err != nil || version != i+1 {
			return nil, fmt.Errorf("schema step %s is not number %d", e.Name(), i+1)
		}
		text, err := migrationFiles.ReadFile(path.Join("migrations", dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read schema step: %w", err)
		}
		steps = append(steps, migration{version: version, name: name, sql: string(text)})
	}
	return steps, nil
}

// migrate runs steps, each in a transaction of its own, so that a broken-off upgrade goes on where it stopped.
func migrate(ctx context.Context, db *sql.DB, k kind, steps []migration, now int64) error {
	for _, step := range steps {
		if err := migrateOne(ctx, db, k, step, now); err != nil {
			return fmt.Errorf("bring %s to schema %d (%s): %w", k.file, step.version, step.name, err)
		}
	}
	return nil
}

func migrateOne(ctx context.Context, db *sql.DB, k kind, step migration, now int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, step.sql); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO migrations (version, name, applied) VALUES (?, ?, ?)", step.version, step.name, now); err != nil {
		return err
	}
	// Both are kept in the header of the file and take part in the transaction.
	pragmas := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", k.applicationID, step.version)
	if _, err := tx.ExecContext(ctx, pragmas); err != nil {
		return err
	}
	return tx.Commit()
}
