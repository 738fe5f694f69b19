package store

import (
	"strings"

	"countersign/termination"
)

// stackOf is the part of a JA4 that stays the same for one TLS library: version, and the cipher suites it offers. Its last
// part changes with session tickets, and its first with whether a name was asked for.
func stackOf(ja4 string) string {
	parts := strings.Split(ja4, "_")
	if len(parts) != 3 || len(parts[0]) != 10 {
		return ja4
	}
	return parts[0][:3] + parts[0][4:6] + parts[1]
}

// software looks whether a client, which had come with the same software for long, comes with another now.
func (b *historyBatch) software(f termination.Fingerprint, s *sight) error {
	for key, t := range s.traits {
		if key.kind != traitSoftware || t.proven == nil || b.backfilling {
			continue
		}
		if b.w.traits[key] {
			continue
		}
		before, times, err := b.steady(f, s, key.value, t)
		if err != nil {
			return err
		}
		if before == "" {
			continue
		}
		h := t.proven
		if _, err := b.exec(insertClientChange, nanos(h.Time), f[:], h.ID, before, key.value, times, h.Peer.Addr().Unmap().String(), column(h.Endpoint)); err != nil {
			return err
		}
		if _, err := b.exec(trimChanges, mostChanges); err != nil {
			return err
		}
	}
	return nil
}

// steady returns the software that a client came in with last before, if it was for long and the new one is another.
func (b *historyBatch) steady(f termination.Fingerprint, s *sight, ja4 string, now *traitSight) (before string, times int64, err error) {
	statement := b.statement(selectSoftware) //nolint:sqlclosecheck // it ends with the transaction
	rows, err := statement.QueryContext(b.ctx, f[:])
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = rows.Close() }()
	type use struct {
		ja4         string
		times, last int64
	}
	uses := map[string]*use{} // by stack
	add := func(value string, times, last int64) {
		u := uses[stackOf(value)]
		if u == nil {
			u = &use{}
			uses[stackOf(value)] = u
		}
		u.times += times
		if last >= u.last {
			u.ja4, u.last = value, last
		}
	}
	for rows.Next() {
		var value string
		var times, last int64
		if err := rows.Scan(&value, &times, &last); err != nil {
			return "", 0, err
		}
		if times > 0 {
			add(value, times, last)
		}
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	for key, t := range s.traits {
		if key.kind == traitSoftware && t.letIn > 0 && key.value != ja4 && t.first.Before(now.first) {
			add(key.value, t.letIn, nanos(t.first))
		}
	}
	if uses[stackOf(ja4)] != nil || len(uses) > mostSoftware {
		return "", 0, nil
	}
	var newest *use
	for _, u := range uses {
		if newest == nil || u.last > newest.last {
			newest = u
		}
	}
	if newest == nil || newest.times < steadySoftware {
		return "", 0, nil
	}
	return newest.ja4, newest.times, nil
}
