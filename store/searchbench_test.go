package store

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"time"

	"countersign/termination"
)

var searchedRows = flag.Int("rows", 200_000, "how many handshakes BenchmarkSearch looks through; 10000000 is what docs/load.md tells of")

// BenchmarkSearch looks for the first 200 matches of filters among many handshakes: one in twelve was refused, one in a
// thousand is of a rare client, and one alone, the oldest, is of the rarest. Each record is as small as it can be, since
// only those of the matches are read.
func BenchmarkSearch(b *testing.B) {
	s, c := newStore(b)
	last := c.Now()
	fillHistory(b, s, *searchedRows, last)
	for _, text := range []string{
		"", "outcome:failed", "endpoint:e3", "client:client-77", "client:rarest", "-outcome:verified,refused", "rarest", "fp:00ff", "ip:10.0.0.0/29", "ja4:t13d*", "is:pq",
		"since:1h outcome:failed", fmt.Sprintf("until:%s client:client-77", last.Add(-6*24*time.Hour).Format(time.RFC3339)),
	} {
		f, err := termination.ParseFilter(text, last)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%q", text), func(b *testing.B) {
			var page HistoryPage
			for b.Loop() {
				if page, err = s.Handshakes(context.Background(), HistoryQuery{Filter: f}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(page.Records)), "found")
			if !page.Searched.IsZero() {
				b.ReportMetric(last.Sub(page.Searched).Hours(), "hours-searched")
			}
		})
	}
}

// fillHistory writes n handshakes of seven days at once, without their certificates.
func fillHistory(b testing.TB, s *Store, n int, last time.Time) {
	b.Helper()
	record, err := json.Marshal(storedHandshake{Handshake: &termination.Handshake{ID: "hs_0", Time: last}})
	if err != nil {
		b.Fatal(err)
	}
	week := 7 * 24 * time.Hour
	step := int64(week) / int64(n)
	err = s.records.read(context.Background(), func(db *database) error {
		for _, query := range []string{
			`INSERT INTO handshakes (seq, id, time, duration, outcome, reason, beat, proof, endpoint_id, endpoint, ip, address, sni, client, client_full,
				authority, issuer, fingerprint, version, key_group, pq, alpn, ja4, identity)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
			SELECT i, printf('hs_%026d', i), ?2 - (?1 - i) * ?3, 3900000 + i % 1000, iif(i % 12 = 0, 'refused', 'verified'), iif(i % 12 = 0, 'cert_expired', ''), 5, 0,
				printf('ep_%d', i % 5), printf('e%d', i % 5), unhex(printf('0A%02X%02X%02X', i % 7, i % 11, i % 251)), printf('10.%d.%d.%d', i % 7, i % 11, i % 251),
				printf('e%d.example.com', i % 5), CASE WHEN i = 1 THEN 'rarest' WHEN i % 1000 = 0 THEN printf('client-%d', i / 1000 % 100) ELSE 'common' END, NULL,
				'devices', 'Devices CA', unhex(printf('%064X', i % 997)), 772, 4588, i % 3 > 0, 'h2', 't13d1516h2_8daaf6152771_02713d6af862', NULL FROM n`,
			`INSERT INTO records (seq, record) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) SELECT i, ?4 FROM n`,
			`INSERT INTO minutes (minute, first_seq, last_seq) SELECT time / 60000000000, min(seq), max(seq) FROM handshakes GROUP BY 1`,
		} {
			if _, err := db.writer.Exec(query, n, last.UnixNano(), step, record); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
