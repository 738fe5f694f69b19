package store

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// visitAt is a handshake of a client at an endpoint; without a chain it showed none.
func visitAt(seq uint64, at time.Time, endpoint, address string, chain *tlstest.Cert) *termination.Handshake {
	h := handshakeAt(seq, at)
	h.EndpointID, h.Endpoint, h.Mode = "ep_"+endpoint, endpoint, termination.ModeRequire
	h.Peer = netip.AddrPortFrom(netip.MustParseAddr(address), 4711)
	h.Client = termination.ClientName{}
	h.Presented, h.Path = nil, nil
	if chain != nil {
		h.Presented = chain.Chain()
		h.Client = termination.ClientName{Name: chain.X509.Subject.CommonName, Fingerprint: termination.FingerprintOf(chain.X509), Authority: "devices"}
	}
	return h
}

func TestVisits(t *testing.T) {
	s, c := newStore(t)
	ca := tlstest.NewCA()
	alice, bob := ca.Client("alice"), ca.Client("bob")
	at := func(minutes int) time.Time { return c.Now().Add(time.Duration(minutes) * time.Minute) }
	var all []*termination.Handshake
	add := func(minutes int, endpoint, address string, chain *tlstest.Cert, change func(*termination.Handshake)) {
		h := visitAt(uint64(len(all)+1), at(minutes), endpoint, address, chain)
		if change != nil {
			change(h)
		}
		all = append(all, h)
	}
	reported := func(h *termination.Handshake) {
		h.Verdict = termination.Verdict{Outcome: termination.OutcomeOpen, Reason: termination.ReasonCertMissing, WouldRefuse: true, ReportOnly: true, Beat: termination.BeatEstablished}
	}
	add(-200, "api", "10.0.0.1", alice, nil) // before the time that is asked for
	add(-50, "api", "10.0.0.1", alice, nil)
	add(-40, "api", "10.0.0.9", alice, nil) // another address, the same client
	add(-30, "api", "10.0.0.2", bob, nil)
	add(-30, "api", "10.0.0.2", bob, func(h *termination.Handshake) {
		h.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonCertExpired}
	})
	add(-20, "api", "10.0.0.3", nil, reported)
	add(-20, "api", "10.0.0.4", nil, reported)
	add(-20, "api", "10.0.0.4", nil, func(h *termination.Handshake) { reported(h); h.Hello.JA4 = "another" })
	add(-10, "api", "10.0.0.1", alice, func(h *termination.Handshake) { h.Hello.ServerName = "other" })
	add(-10, "erp", "10.0.0.1", alice, nil)
	add(-5, "api", "10.0.0.1", alice, func(h *termination.Handshake) { h.Proof = true })
	add(-5, "api", "10.0.0.1", nil, func(h *termination.Handshake) { h.EndpointID, h.Endpoint = "", "" })
	write(t, s, all...)

	page, err := s.Visits(context.Background(), VisitQuery{Endpoints: []string{"ep_api"}, Since: at(-60)})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Visits) != 7 || page.Looked != 8 || page.More || !page.Down.IsZero() {
		t.Fatalf("%d kinds of %d handshakes: %+v", len(page.Visits), page.Looked, page)
	}
	if v := page.Visits[0]; v.ServerName != "other" || v.Handshake != all[8].ID {
		t.Errorf("the newest is %+v", v)
	}
	byName := map[string]termination.Visits{}
	for _, v := range page.Visits {
		byName[v.Client.Name+" "+string(v.Outcome)+" "+v.Address.String()+" "+v.ServerName] = v
	}
	a := byName["alice verified 10.0.0.9 api.example"]
	if a.Count != 2 || !a.First.Equal(at(-50)) || !a.Last.Equal(at(-40)) || a.Handshake != all[2].ID || a.Mode != termination.ModeRequire || a.Cut ||
		len(a.Presented) != len(alice.Chain()) || !a.Presented[0].Equal(alice.X509) || a.Client.Authority != "devices" || a.Endpoint != "api" {
		t.Errorf("alice: %+v", a)
	}
	if v := byName[" open 10.0.0.3 api.example"]; !v.WouldRefuse || !v.ReportOnly || v.Reason != termination.ReasonCertMissing || len(v.Presented) != 0 || v.Cut {
		t.Errorf("who showed none: %+v", v)
	}

	every, err := s.Visits(context.Background(), VisitQuery{})
	if err != nil || len(every.Visits) != 8 || every.Looked != 10 {
		t.Errorf("of all endpoints: %d of %d, %v", len(every.Visits), every.Looked, err)
	}
	few, err := s.Visits(context.Background(), VisitQuery{Limit: 2})
	if err != nil || len(few.Visits) != 2 || !few.More {
		t.Errorf("with a limit: %d, more %v, %v", len(few.Visits), few.More, err)
	}
	if none, err := s.Visits(context.Background(), VisitQuery{Endpoints: []string{"ep_none"}}); err != nil || len(none.Visits) != 0 {
		t.Errorf("of none: %+v, %v", none, err)
	}
}

// A certificate that retention has deleted is said to be missing, never taken for none.
func TestVisitsWithoutTheirChain(t *testing.T) {
	s, c := newStore(t)
	write(t, s, visitAt(1, c.Now(), "api", "10.0.0.1", tlstest.NewCA().Client("alice")))
	if _, err := s.records.db.writer.Exec("DELETE FROM certificates"); err != nil {
		t.Fatal(err)
	}
	page, err := s.Visits(context.Background(), VisitQuery{})
	if err != nil || len(page.Visits) != 1 || !page.Visits[0].Cut || len(page.Visits[0].Presented) != 0 {
		t.Errorf("got %+v, %v", page.Visits, err)
	}
	bare := visitAt(2, c.Now(), "erp", "10.0.0.1", tlstest.NewCA().Client("bob"))
	bare.Presented = nil // the record knows whose it was, and no more
	write(t, s, bare)
	if page, err = s.Visits(context.Background(), VisitQuery{Endpoints: []string{"ep_erp"}}); err != nil || len(page.Visits) != 1 || !page.Visits[0].Cut {
		t.Errorf("got %+v, %v", page.Visits, err)
	}
}

// With little patience the newest are there, and how far was looked is said.
func TestVisitsGiveUp(t *testing.T) {
	s, c := newStore(t)
	fillVisits(t, s, 3*scanWindow, 300, c.Now())
	page, err := s.Visits(context.Background(), VisitQuery{Patience: 1})
	if err != nil || page.Down.IsZero() && !page.More {
		t.Fatalf("%d kinds of %d handshakes, down to %v, more %v, %v", len(page.Visits), page.Looked, page.Down, page.More, err)
	}
	if len(page.Visits) == 0 || page.Visits[0].Last.Before(page.Visits[len(page.Visits)-1].Last) {
		t.Errorf("%d visits, not newest first", len(page.Visits))
	}
	page, err = s.Visits(context.Background(), VisitQuery{Patience: time.Minute})
	if err != nil || len(page.Visits) != 300 || page.Looked != 3*scanWindow {
		t.Errorf("%d kinds of %d handshakes, %v", len(page.Visits), page.Looked, err)
	}
}

// fillVisits writes n handshakes of so many clients without the way through the queue.
func fillVisits(t testing.TB, s *Store, n, clients int, now time.Time) {
	t.Helper()
	ca := tlstest.NewCA()
	leaves := make([]*tlstest.Cert, min(clients, 100)) // clients share certificates of so many; their names tell them apart
	for i := range leaves {
		leaves[i] = ca.Client(fmt.Sprint("client-", i))
	}
	var first []*termination.Handshake
	for i := range clients {
		h := visitAt(uint64(i+1), now.Add(-time.Duration(n-i)*time.Millisecond), "api", "10.0.0.1", leaves[i%len(leaves)])
		h.Hello.ServerName = fmt.Sprint("name-", i/len(leaves))
		first = append(first, h)
	}
	write(t, s, first...)
	db := s.records.db.writer
	for _, query := range []string{
		`WITH RECURSIVE n(i) AS (SELECT ?1 + 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
			INSERT INTO handshakes (seq, id, time, duration, outcome, reason, beat, proof, endpoint_id, endpoint, ip, address,
			sni, client, client_full, authority, issuer, fingerprint, version, key_group, pq, alpn, ja4) SELECT n.i, 'hs_' || n.i, h.time + (n.i - h.seq) * 1000000, duration, outcome, reason, beat, proof, endpoint_id, endpoint, ip, address,
			sni, client, client_full, authority, issuer, fingerprint, version, key_group, pq, alpn, ja4 FROM n JOIN handshakes h ON h.seq = (n.i - 1) % ?1 + 1`,
		`INSERT INTO records SELECT h.seq, r.record FROM handshakes h JOIN records r ON r.seq = (h.seq - 1) % ?1 + 1 WHERE h.seq > max(?1, ?2 - ?1)`,
		`INSERT INTO minutes SELECT time / 60000000000, min(seq), max(seq) FROM handshakes WHERE ?1 + ?2 > 0 GROUP BY 1
			ON CONFLICT DO UPDATE SET first_seq = min(first_seq, excluded.first_seq), last_seq = max(last_seq, excluded.last_seq)`,
	} {
		if _, err := db.Exec(query, clients, n); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkVisits puts a million handshakes of 5,000 clients together.
func BenchmarkVisits(b *testing.B) {
	s, c := newStore(b)
	fillVisits(b, s, 1_000_000, 5000, c.Now())
	b.ResetTimer()
	for range b.N {
		page, err := s.Visits(context.Background(), VisitQuery{Patience: time.Minute})
		if err != nil || page.Looked != 1_000_000 || len(page.Visits) != 5000 {
			b.Fatalf("%d kinds of %d handshakes, %v", len(page.Visits), page.Looked, err)
		}
	}
}
