package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
)

// SeenCertificates returns certificates of the history whose SHA-256 begins with prefix, lower-case hex, at most two: more
// than one means that the prefix is ambiguous.
func (s *Store) SeenCertificates(ctx context.Context, prefix string) ([]*x509.Certificate, error) {
	const whole = 64
	low, err := hex.DecodeString(prefix + strings.Repeat("0", max(0, whole-len(prefix))))
	if err != nil || len(prefix) > whole || prefix == "" {
		return nil, nil //nolint:nilerr // what is no hex is the prefix of nothing
	}
	high, err := hex.DecodeString(prefix + strings.Repeat("f", whole-len(prefix)))
	if err != nil {
		return nil, nil //nolint:nilerr // likewise
	}
	var out []*x509.Certificate
	err = s.records.read(ctx, func(db *database) error {
		out = nil
		tx, err := db.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("begin to look for a certificate: %w", err)
		}
		defer func() { _ = tx.Rollback() }()
		rows, err := tx.QueryContext(ctx, "SELECT der FROM certificates WHERE fingerprint BETWEEN ? AND ? LIMIT 2", low, high)
		if err != nil {
			return fmt.Errorf("look for a certificate: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var der []byte
			if err := rows.Scan(&der); err != nil {
				return fmt.Errorf("look for a certificate: %w", err)
			}
			if c, err := x509.ParseCertificate(der); err == nil {
				out = append(out, c)
			}
		}
		return rows.Err()
	})
	return out, err
}
