package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"countersign/termination"
)

// Meta is what the store knows about an object beside what the configuration says of it.
type Meta struct {
	ID      string
	Name    string
	Origin  termination.Origin
	Source  string // of certificates: [SourceUpload], [SourceLocal], [SourceFile]; else empty
	Created time.Time
	Changed time.Time
}

// Meta returns a row for each object of a kind ([KindAuthority], [KindCertificate], [KindEndpoint]), by ID.
func (s *Store) Meta(ctx context.Context, kind string) (map[string]Meta, error) {
	query, ok := map[string]string{ //nolint:gosec // names of tables
		KindAuthority:   "SELECT id, name, origin, '', created, changed FROM authorities",
		KindCertificate: "SELECT id, name, origin, source, created, changed FROM certificates",
		KindEndpoint:    "SELECT id, name, origin, '', created, changed FROM endpoints",
		KindIdentity:    "SELECT id, name, origin, '', created, changed FROM identities",
		KindCredential:  "SELECT id, name, origin, '', created, changed FROM credentials",
	}[kind]
	if !ok {
		return nil, fmt.Errorf("no such kind of object: %q", kind)
	}
	rows, err := s.config.reader.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]Meta{}
	for rows.Next() {
		var m Meta
		var created, changed int64
		if err := rows.Scan(&m.ID, &m.Name, &m.Origin, &m.Source, &created, &changed); err != nil {
			return nil, fmt.Errorf("list objects: %w", err)
		}
		m.Created, m.Changed = fromMillis(created), fromMillis(changed)
		out[m.ID] = m
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	return out, nil
}

// checkObject checks what all objects have in common, and gives one without an origin the dashboard's.
func checkObject(kind, name string, o *termination.Origin) error {
	if *o == "" {
		*o = termination.OriginDashboard
	}
	switch *o {
	case termination.OriginDashboard, termination.OriginDemo, termination.OriginFile, termination.OriginCommand:
	default:
		return fmt.Errorf("%s %q has the unknown origin %q", kind, name, *o)
	}
	if err := termination.CheckName(name); err != nil {
		return fieldError(kind, name, "name", err.Error(), "choose another name")
	}
	return nil
}

// saving says what a failed statement means for the object that was to be saved.
func saving(kind, name string, err error) error {
	if isUnique(err) {
		return NameTakenError{Kind: kind, Name: name}
	}
	return fmt.Errorf("save %s %q: %w", kind, name, err)
}

const (
	authorityNames   = "SELECT name, id FROM authorities"
	certificateNames = "SELECT name, id FROM certificates"
)

// nameToID maps names to IDs; query is [authorityNames] or [certificateNames].
func nameToID(ctx context.Context, q *sql.Tx, query string) (map[string]string, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]string{}
	for rows.Next() {
		var name, id string
		if err := rows.Scan(&name, &id); err != nil {
			return nil, fmt.Errorf("read names: %w", err)
		}
		out[name] = id
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	return out, nil
}
