package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"countersign/termination"
)

// SeenValue is a value of a filter's key, with how many of the newest records have it.
type SeenValue struct {
	Value string
	Count int64
}

// seenRecords is how many of the newest records are looked at for values: enough for what somebody types a filter about,
// and few enough for an answer between two keys.
const seenRecords = 50000

// Values returns the values of a key that were seen lately and hold a text, the most frequent first, at most limit of
// them. Keys whose values are no text of a record, such as since, have none.
func (s *Store) Values(ctx context.Context, key termination.FilterKey, held string, limit int) ([]SeenValue, error) {
	columns := valueColumns(key)
	if len(columns) == 0 {
		return nil, nil
	}
	query := ""
	var args []any
	for i, column := range columns {
		if i > 0 {
			query += " UNION ALL "
		}
		query += "SELECT " + column + " AS value FROM handshakes h WHERE h.seq > (SELECT coalesce(max(seq), 0) - ? FROM handshakes) AND h.proof = 0"
		args = append(args, seenRecords)
	}
	pattern := "%" + likePattern(termination.FilterValue{Text: held}) + "%"
	query = "SELECT value, count(*) FROM (" + query + `) WHERE value <> '' AND value LIKE ? ESCAPE '\' GROUP BY value ORDER BY 2 DESC, 1 LIMIT ?`
	args = append(args, pattern, limit)
	var out []SeenValue
	err := s.records.read(ctx, func(db *database) error {
		out = nil
		rows, err := db.reader.QueryContext(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("look for values: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var v SeenValue
			if err := rows.Scan(&v.Value, &v.Count); err != nil {
				return fmt.Errorf("look for values: %w", err)
			}
			out = append(out, v)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("look for values: %w", err)
		}
		return nil
	})
	return out, err
}

// valueColumns says where the values of a key stand, as the filter writes them.
func valueColumns(key termination.FilterKey) []string {
	switch key {
	case termination.FilterOutcome:
		return []string{"h.outcome"}
	case termination.FilterReason:
		return []string{"h.reason"}
	case termination.FilterBeat:
		return []string{"CAST(h.beat AS TEXT)"}
	case termination.FilterEndpoint:
		return []string{"h.endpoint"}
	case termination.FilterSNI:
		return []string{"h.sni"}
	case termination.FilterClient:
		return []string{"h.client"}
	case termination.FilterIdentity:
		return []string{"h.identity"}
	case termination.FilterCA:
		return []string{"h.authority", "CASE WHEN h.issuer <> h.authority THEN h.issuer END"}
	case termination.FilterFP:
		return []string{"lower(hex(h.fingerprint))"}
	case termination.FilterIP:
		return []string{"h.address"}
	case termination.FilterTLS:
		return []string{"CASE h.version WHEN 771 THEN '1.2' WHEN 772 THEN '1.3' END"}
	case termination.FilterKX:
		return []string{"CAST(h.key_group AS TEXT)"}
	case termination.FilterALPN:
		return []string{"h.alpn"}
	case termination.FilterJA4:
		return []string{"h.ja4"}
	default: // text in all of them, a number, a time, or what a record is
		return nil
	}
}

// Repeats says how often one client came to one end at one endpoint.
type Repeats struct {
	Count int64     // of the newest records, the handshake itself in it
	First time.Time // of these
	JA4   int64     // clients with the same JA4, told apart by certificate, or else by address
}

// Repeats looks among the newest records for handshakes like one: the same certificate, or without one the same address
// and JA4, the same endpoint and reason.
func (s *Store) Repeats(ctx context.Context, h *termination.Handshake) (Repeats, error) {
	const recent = " FROM handshakes h WHERE h.seq > (SELECT coalesce(max(seq), 0) - ? FROM handshakes) AND h.proof = 0 AND "
	var out Repeats
	v := columns(h)
	fingerprint, address, ja4 := v[17], v[11], v[22]
	err := s.records.read(ctx, func(db *database) error {
		out = Repeats{}
		var first sql.NullInt64
		err := db.reader.QueryRowContext(ctx, "SELECT count(*), min(h.time)"+recent+`h.endpoint_id = ? AND h.reason = ? AND h.outcome = ?
			AND h.fingerprint IS ? AND (h.fingerprint IS NOT NULL OR (h.address = ? AND h.ja4 IS ?))`,
			seenRecords, h.EndpointID, string(h.Verdict.Reason), string(h.Verdict.Outcome), fingerprint, address, ja4).Scan(&out.Count, &first)
		if err != nil {
			return fmt.Errorf("count repeats: %w", err)
		}
		if first.Valid {
			out.First = time.Unix(0, first.Int64).UTC()
		}
		if ja4 == nil || ja4 == "" {
			return nil
		}
		err = db.reader.QueryRowContext(ctx, "SELECT count(DISTINCT coalesce(h.fingerprint, h.address))"+recent+"h.ja4 = ?", seenRecords, ja4).Scan(&out.JA4)
		if err != nil {
			return fmt.Errorf("count clients of the same software: %w", err)
		}
		return nil
	})
	return out, err
}
