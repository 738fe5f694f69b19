package store

import (
	"context"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestIdentityHistory: what identities did is counted by day and by certificate, survives a restart, and goes with time.
func TestIdentityHistory(t *testing.T) {
	s, clock := newStore(t)
	old, fresh := tlstest.SelfSigned(tlstest.CN("old")), tlstest.SelfSigned(tlstest.CN("new"))
	today := clock.Now()
	seq := uint64(0)
	record := func(at time.Time, id string, cert *tlstest.Cert, change func(*termination.Handshake)) *termination.Handshake {
		seq++
		h := handshakeAt(seq, at)
		h.Verdict.Outcome, h.Verdict.Reason = termination.OutcomeVerified, ""
		h.Client.Identity, h.Client.IdentityID, h.Client.Fingerprint = "name of "+id, id, termination.FingerprintOf(cert.X509)
		if change != nil {
			change(h)
		}
		return h
	}
	yesterday := today.Add(-24 * time.Hour)
	write(t, s,
		record(today.Add(-40*24*time.Hour), "id_a", old, nil),
		record(yesterday, "id_a", old, nil),
		record(yesterday, "id_a", old, func(h *termination.Handshake) { h.Endpoint = "second" }),
		record(today, "id_a", fresh, func(h *termination.Handshake) { h.Endpoint = "third" }),
		record(today, "id_b", fresh, nil),
		// None of these is a client that came in as one.
		record(today, "id_a", fresh, func(h *termination.Handshake) { h.Verdict.Outcome = termination.OutcomeRefused }),
		record(today, "id_a", fresh, func(h *termination.Handshake) { h.Proof = true }),
		record(today, "", fresh, nil),
		record(today, string(make([]byte, 100)), fresh, nil),
	)
	if err := s.WriteHistory(termination.HistoryBatch{Ends: []termination.ConnectionEnd{
		{ID: "hs_1", Time: today, Requests: 7, IdentityID: "id_a"},
		{ID: "hs_2", Time: today, Requests: 3, IdentityID: "id_a"},
		{ID: "hs_3", Time: today, Requests: 5},
		{ID: "hs_4", Time: today, Requests: -1, IdentityID: "id_a"},
	}}); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, closeIn(t, s), testOptions(clock))
	check := func() {
		t.Helper()
		days, err := s.IdentityDays(context.Background(), "id_a")
		if err != nil || len(days) != 2 || days[0].Handshakes != 2 || days[0].Requests != 0 || days[1].Handshakes != 1 || days[1].Requests != 10 {
			t.Errorf("days %+v, %v", days, err)
		}
		last, err := s.LastSightings(context.Background())
		if err != nil || len(last) != 2 || last["id_a"].Endpoint != "third" || !last["id_a"].Last.Equal(today) {
			t.Errorf("last %+v, %v", last, err)
		}
	}
	check()
	seen, err := s.IdentitySightings(context.Background(), "id_a")
	if err != nil || len(seen) != 2 || seen[0].Fingerprint != termination.FingerprintOf(fresh.X509) || seen[1].Endpoint != "second" || !seen[1].First.Equal(today.Add(-40*24*time.Hour)) {
		t.Errorf("seen %+v, %v", seen, err)
	}
	if n := count(t, s, "identity_days"); n != 4 {
		t.Errorf("%d days", n)
	}
	r := &retention{history: s.records}
	prune(t, s, r, DefaultHistorySettings())
	if n := count(t, s, "identity_days"); n != 3 {
		t.Errorf("%d days are left", n)
	}
	check()
	clock.Add(500 * 24 * time.Hour)
	prune(t, s, &retention{history: s.records}, DefaultHistorySettings())
	if d, n := count(t, s, "identity_days"), count(t, s, "identity_seen"); d+n != 0 {
		t.Errorf("%d days and %d sights are left", d, n)
	}
}

// TestFilterByIdentity: the stored and the live filter agree.
func TestFilterByIdentity(t *testing.T) {
	s, clock := newStore(t)
	a, b, c := handshakeAt(1, clock.Now()), handshakeAt(2, clock.Now()), handshakeAt(3, clock.Now())
	a.Client.Identity, b.Client.Identity = "billing", "other"
	write(t, s, a, b, c)
	for text, want := range map[string]int{"identity:billing": 1, "identity:BILL*": 1, "identity:*": 2, "-identity:billing": 2} {
		f, err := termination.ParseFilter(text, clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		page := query(t, s, HistoryQuery{Filter: f})
		live := 0
		for _, h := range []*termination.Handshake{a, b, c} {
			if f.Match(h) {
				live++
			}
		}
		if len(page.Records) != want || live != want {
			t.Errorf("%s: %d stored, %d live, want %d", text, len(page.Records), live, want)
		}
	}
}
