package store

import (
	"context"
	"testing"
)

// TestNoticesAreNotForgotten: as long as something lasts it is looked at every minute, so what was told of it must outlive
// everything else that can last at the same time.
func TestNoticesAreNotForgotten(t *testing.T) {
	s, _ := newStore(t)
	add := func(about string) bool {
		t.Helper()
		_, added, err := s.AddNotice(context.Background(), Notice{Kind: NoticeExpiry, About: about, Title: "It ends"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return added
	}
	if !add("first") || add("first") {
		t.Error("not told once")
	}
	err := s.write(context.Background(), Actor{Name: "test", Via: "test"}, func(tx *Tx) error {
		return tx.exec(`WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO notices (id, time, kind, about, title, text, href, handshake) SELECT printf('ntc_Z%06d', i), 1, ?, 'a' || i, '', '', '', '' FROM n`, 3*mostAlerts, string(NoticeExpiry))
	})
	if err != nil {
		t.Fatal(err)
	}
	if !add("last") || add("first") || add("a1") {
		t.Error("something is told again")
	}
}
