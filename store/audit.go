package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// Actions in the audit log.
const (
	ActionCreate = "create"
	ActionUpdate = "update"
	ActionDelete = "delete"
	ActionRevoke = "revoke"
	ActionIssue  = "issue"
	ActionSignIn = "sign in"
	ActionJoin   = "join"
)

// AuditEntry says who did what. Before and After are JSON without secrets; empty where there was or is nothing.
type AuditEntry struct {
	Seq      uint64 // position in the log, for paging
	ID       string
	Time     time.Time
	Revision uint64
	Actor    Actor
	Action   string
	Kind     string
	ObjectID string
	Name     string // of the object, at that time
	Before   json.RawMessage
	After    json.RawMessage
}

// AuditQuery chooses entries; the zero value means the newest of all kinds.
type AuditQuery struct {
	Kind     string
	ObjectID string
	Before   uint64 // only entries with a smaller Seq; 0: from the newest
	Limit    int    // 0 means 100, at most 1000
}

// Audit returns entries, newest first.
func (s *Store) Audit(ctx context.Context, q AuditQuery) ([]AuditEntry, error) {
	rows, err := s.config.reader.QueryContext(ctx, `
		SELECT seq, id, time, revision, actor, via, action, kind, object_id, name, coalesce(before, ''), coalesce(after, '')
		FROM audit
		WHERE (?1 = '' OR kind = ?1) AND (?2 = '' OR object_id = ?2) AND (?3 = 0 OR seq < ?3)
		ORDER BY seq DESC LIMIT ?4`, q.Kind, q.ObjectID, int64(q.Before), limit(q.Limit, 100, 1000)) //nolint:gosec // sequence numbers fit
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []AuditEntry
	for rows.Next() {
		var e AuditEntry
		var at int64
		var before, after string
		if err := rows.Scan(&e.Seq, &e.ID, &at, &e.Revision, &e.Actor.Name, &e.Actor.Via, &e.Action, &e.Kind, &e.ObjectID, &e.Name, &before, &after); err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		e.Time, e.Before, e.After = fromMillis(at), rawJSON(before), rawJSON(after)
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return out, nil
}

func rawJSON(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

func limit(n, standard, most int) int {
	if n <= 0 {
		return standard
	}
	return min(n, most)
}

// audit adds an entry. before and after are described objects, see describe in each object's file; nil is left out.
func (tx *Tx) audit(action, kind, id, name string, before, after any) error {
	b, err := marshalAudit(before)
	if err != nil {
		return err
	}
	a, err := marshalAudit(after)
	if err != nil {
		return err
	}
	tx.changes++
	err = tx.exec("INSERT INTO audit (id, time, revision, actor, via, action, kind, object_id, name, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		termination.NewID(termination.PrefixAudit, tx.now), tx.now.UnixMilli(), int64(tx.revision), tx.actor.Name, tx.actor.Via, action, kind, id, name, b, a) //nolint:gosec // a revision fits
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

func marshalAudit(v any) (any, error) {
	if v == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("describe object for the audit log: %w", err)
	}
	return string(b), nil
}

// same reports whether two described objects are equal, so that a save without a change leaves no trace.
func same(a, b any) (bool, error) {
	x, err := json.Marshal(a)
	if err == nil {
		var y []byte
		if y, err = json.Marshal(b); err == nil {
			return string(x) == string(y), nil
		}
	}
	return false, errors.Join(errors.New("compare objects"), err)
}
