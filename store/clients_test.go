package store

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// visitor makes handshakes of one certificate.
type visitor struct {
	cert *x509.Certificate
	full string
	ja4  string
	seq  *uint64
}

func visitorOf(seq *uint64, c *tlstest.Cert, full string) visitor {
	return visitor{c.X509, full, "t13d1516h2_8daaf6152771_02713d6af862", seq}
}

func (v visitor) at(t time.Time, change ...func(*termination.Handshake)) *termination.Handshake {
	*v.seq++
	h := handshakeAt(*v.seq, t)
	h.Presented = []*x509.Certificate{v.cert}
	h.Client = termination.ClientName{Name: v.full, Full: v.full, Fingerprint: termination.FingerprintOf(v.cert), Issuer: "Devices CA", Authority: "devices"}
	h.Hello.JA4 = v.ja4
	for _, f := range change {
		f(h)
	}
	return h
}

func (v visitor) times(n int, from time.Time) []*termination.Handshake {
	var out []*termination.Handshake
	for i := range n {
		out = append(out, v.at(from.Add(time.Duration(i)*time.Second)))
	}
	return out
}

func ended(o termination.Outcome, r termination.Reason) func(*termination.Handshake) {
	return func(h *termination.Handshake) {
		h.Verdict = termination.Verdict{Outcome: o, Reason: r, Beat: termination.BeatClientCert}
		h.Client.Authority = ""
	}
}

func client(t testing.TB, s *Store, c *x509.Certificate) Client {
	t.Helper()
	found, err := s.Client(context.Background(), termination.FingerprintOf(c).String())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func clients(t testing.TB, s *Store, q ClientQuery) ClientPage {
	t.Helper()
	page, err := s.Clients(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// TestClientsAreRegistered: what a certificate did is counted, survives restart and the end of its records.
func TestClientsAreRegistered(t *testing.T) {
	s, clock := newStore(t)
	var seq uint64
	now := clock.Now().Add(-3 * time.Hour)
	ca := tlstest.NewCA()
	meter := visitorOf(&seq, ca.Client("meter"), "spiffe://acme/meter")
	stranger := visitorOf(&seq, tlstest.SelfSigned(tlstest.CN("nobody"), tlstest.NoEKU()), "nobody")
	sealed := visitorOf(&seq, ca.Client("sealed", tlstest.EKU(x509.ExtKeyUsageServerAuth)), "sealed")
	proof := visitorOf(&seq, ca.Client("proof"), "proof")
	elsewhere := func(h *termination.Handshake) {
		h.EndpointID, h.Endpoint, h.Hello.PostQuantum = "ep_2", "second", false
	}
	last := meter.at(now.Add(time.Hour), elsewhere)
	write(t, s,
		meter.at(now), meter.at(now.Add(time.Minute), ended(termination.OutcomeRefused, termination.ReasonNotListed)), last,
		stranger.at(now, ended(termination.OutcomeRefused, termination.ReasonCAUnknown)), stranger.at(now, ended(termination.OutcomeOpen, termination.ReasonCAUnknown)),
		sealed.at(now, ended(termination.OutcomePassed, "")),
		proof.at(now, func(h *termination.Handshake) { h.Proof = true }),
		handshakeAt(90, now), // presented nothing
	)
	seq = 100
	write(t, s, meter.at(now.Add(-time.Hour), ended(termination.OutcomeBrokenOff, termination.ReasonTimeout))) // late
	s = openIn(t, closeIn(t, s), testOptions(clock))
	clock.Add(40 * 24 * time.Hour)
	prune(t, s, &retention{history: s.records}, HistorySettings{Keep: time.Hour, KeepFailures: time.Hour, MaxSize: 1 << 30})
	if n := count(t, s, "handshakes"); n != 0 {
		t.Fatalf("%d handshakes are left", n)
	}
	page := clients(t, s, ClientQuery{})
	if page.Total != 3 || page.Known != 3 || len(page.Clients) != 3 || page.Clients[0].Name != "spiffe://acme/meter" || page.Since.IsZero() {
		t.Fatalf("%+v", page)
	}
	m := client(t, s, meter.cert)
	if m.Verified != 2 || m.Failed != 2 || m.Open+m.Passed != 0 || !m.First.Equal(now.Add(-time.Hour)) || !m.Last.Equal(last.Time) || !m.FirstIn.Equal(now) || !m.LastIn.Equal(last.Time) {
		t.Errorf("counts and times: %+v", m)
	}
	if m.Handshake != last.ID || m.Proven != last.ID || m.Outcome != termination.OutcomeVerified || m.Endpoint != "second" || m.Authority != "devices" || m.PostQuantum || !m.HelloKnown {
		t.Errorf("the last time: %+v", m)
	}
	if m.Notes != 0 || !m.NotAfter.Equal(meter.cert.NotAfter) {
		t.Errorf("the certificate: %+v", m)
	}
	if c := client(t, s, stranger.cert); c.Open != 1 || c.Failed != 1 || !c.FirstIn.IsZero() || c.Notes != termination.NoteNoUsage {
		t.Errorf("the stranger: %+v", c)
	}
	if c := client(t, s, sealed.cert); c.Passed != 1 || !c.FirstIn.IsZero() || c.Proven != "" || c.Notes != termination.NoteNotForClients {
		t.Errorf("the sealed one: %+v", c)
	}
	traits, err := s.ClientTraits(context.Background(), m.Fingerprint)
	if err != nil || len(traits.Software) != 1 || len(traits.Endpoints) != 2 || traits.Endpoints[0].Label != "second" || len(traits.Reasons) != 2 || traits.Addresses[0].LetIn != 2 || traits.Addresses[0].Failed != 2 {
		t.Errorf("traits %+v, %v", traits, err)
	}
	if seen, err := s.SeenCertificates(context.Background(), m.Fingerprint.String()); err != nil || len(seen) != 1 {
		t.Errorf("its certificate went with the records: %v", err)
	}
	letIn, err := s.ClientsLetIn(context.Background())
	if err != nil || len(letIn) != 1 || letIn[0] != m.Fingerprint {
		t.Errorf("let in: %v, %v", letIn, err)
	}
	clock.Add(ClientsKeep)
	prune(t, s, &retention{history: s.records}, HistorySettings{Keep: time.Hour, KeepFailures: time.Hour, MaxSize: 1 << 30})
	if page := clients(t, s, ClientQuery{}); page.Known != 2 { // strangers are bounded by number
		t.Errorf("%d are kept after so long", page.Known)
	}
}

func TestClientsAreFound(t *testing.T) {
	s, clock := newStore(t)
	var seq uint64
	now := clock.Now()
	ca := tlstest.NewCA()
	life := func(from, until time.Duration) tlstest.Option { return tlstest.Valid(now.Add(from), now.Add(until)) }
	day := 24 * time.Hour
	fresh := visitorOf(&seq, ca.Client("fresh", life(-day, 90*day)), "fresh_%")
	ending := visitorOf(&seq, ca.Client("ending", life(-85*day, 5*day)), "ending")
	over := visitorOf(&seq, ca.Client("over", life(-85*day, -day)), "over")
	public := visitorOf(&seq, ca.Client("public", life(-day, 90*day), tlstest.Template(func(c *x509.Certificate) {
		oid, _ := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1})
		c.Policies = []x509.OID{oid}
	})), "public")
	weak := visitorOf(&seq, ca.Client("weak", tlstest.RSA(1024), life(-day, 90*day)), "weak")
	write(t, s,
		fresh.at(now.Add(-time.Hour)), ending.at(now.Add(-60*day)), ending.at(now.Add(-30*time.Minute), func(h *termination.Handshake) { h.Hello.PostQuantum = false }),
		over.at(now.Add(-2*day)), over.at(now.Add(-time.Minute), ended(termination.OutcomeRefused, termination.ReasonCertExpired)),
		public.at(now.Add(-40*day)), weak.at(now, ended(termination.OutcomeRefused, termination.ReasonCertWeak)),
	)
	for state, want := range map[ClientState][]string{
		ClientsAll: {"weak", "over", "ending", "fresh_%", "public"}, ClientsIn: {"ending", "fresh_%", "public"}, ClientsRefused: {"over"}, ClientsStrangers: {"weak"},
		ClientsNew: {"fresh_%"}, ClientsEnding: {"ending"}, ClientsEnded: {"over"}, ClientsWeak: {"weak"}, ClientsPublic: {"public"}, ClientsLegacy: nil, ClientsNoPQ: {"ending"},
	} {
		page := clients(t, s, ClientQuery{State: state})
		var got []string
		for _, c := range page.Clients {
			got = append(got, c.Name)
		}
		if !slices.Equal(got, want) || page.Total != int64(len(want)) {
			t.Errorf("%q: %v of %d, want %v", state, got, page.Total, want)
		}
	}
	if c := client(t, s, public.cert); c.Notes != termination.NotePublicCA|termination.NoteUsageEnds {
		t.Errorf("notes of the public one: %v", c.Notes.Codes())
	}
	short := termination.FingerprintOf(over.cert).String()
	for text, want := range map[string]int64{
		"": 5, "OVER": 1, "_%": 1, "%": 1, "devices": 5, "10.2.0.7": 5, "10.2.0": 0, "api": 5, short[:8]: 1, short: 1, short + "0": 0, "'; --": 0, "\x00\xff": 0, "zz": 0,
	} {
		if page := clients(t, s, ClientQuery{Text: text}); page.Total != want {
			t.Errorf("%q finds %d, want %d", text, page.Total, want)
		}
	}
	for _, ref := range []string{"", "abc", "zzzz", "%", short + "00", "'"} {
		if _, err := s.Client(context.Background(), ref); !is[NotFoundError](err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if page := clients(t, s, ClientQuery{From: 4, Limit: 3}); len(page.Clients) != 1 || page.Clients[0].Name != "public" {
		t.Errorf("the last page: %+v", page.Clients)
	}
}

// TestStrangersAreBounded: whoever presents ever new certificates drives out strangers only, and what he presents of
// others' drives out nothing that is true.
func TestStrangersAreBounded(t *testing.T) {
	s, clock := newStore(t)
	var seq uint64
	now := clock.Now()
	leaf := tlstest.NewCA().Client("meter")
	meter := visitorOf(&seq, leaf, "meter")
	write(t, s, meter.at(now.Add(-time.Hour)))
	template := *leaf.X509
	var batch termination.HistoryBatch
	flush := func() {
		if err := s.WriteHistory(batch); err != nil {
			t.Fatal(err)
		}
		batch = termination.HistoryBatch{}
	}
	const most = 1000 // in place of MostStrangers, which take a minute to write under the race detector
	s.records.writer.most = most
	for i := range most + 1000 {
		c := template
		c.Raw = binary.BigEndian.AppendUint32(nil, uint32(i))
		h := visitor{&c, "x", meter.ja4, &seq}.at(now.Add(time.Duration(i)*time.Millisecond), ended(termination.OutcomeRefused, termination.ReasonCAUnknown))
		if batch.Handshakes = append(batch.Handshakes, h); len(batch.Handshakes) == 1000 {
			flush()
		}
	}
	for i := range 200 {
		h := meter.at(now.Add(time.Duration(i)*time.Second), ended(termination.OutcomeRefused, termination.ReasonKeyProof), func(h *termination.Handshake) {
			h.Hello.JA4 = fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i)
			h.EndpointID = fmt.Sprint("ep_", i)
		})
		batch.Handshakes = append(batch.Handshakes, h)
	}
	flush()
	if n := count(t, s, "clients"); n > most+trimEvery+1 || n < most {
		t.Errorf("%d are kept", n)
	}
	if n := count(t, s, "client_hours"); n > most+trimEvery+10 {
		t.Errorf("%d hours are kept", n)
	}
	if c := client(t, s, meter.cert); c.Verified != 1 || c.Failed != 200 {
		t.Errorf("the client: %+v", c)
	}
	traits, err := s.ClientTraits(context.Background(), termination.FingerprintOf(meter.cert))
	if err != nil || len(traits.Software) > traitSoftware.bound()+trimTraitsEvery || len(traits.Endpoints) > traitEndpoint.bound()+trimTraitsEvery {
		t.Errorf("%d kinds of software and %d endpoints are kept, %v", len(traits.Software), len(traits.Endpoints), err)
	}
	if !slices.ContainsFunc(traits.Software, func(x ClientTrait) bool { return x.Value == meter.ja4 && x.LetIn == 1 }) {
		t.Error("the true software was driven out")
	}
	prune(t, s, &retention{history: s.records}, HistorySettings{Keep: 1000 * time.Hour, KeepFailures: 1000 * time.Hour, MaxSize: 1 << 20})
	if n := count(t, s, "clients"); n > 1<<20/4/clientBytes+1 {
		t.Errorf("%d are kept in a small history", n)
	}
}

// TestClientAlerts: certificates that end, and software that changes, of those that are active and have not renewed.
func TestClientAlerts(t *testing.T) {
	s, clock := newStore(t)
	var seq uint64
	now := clock.Now()
	day := 24 * time.Hour
	ca := tlstest.NewCA()
	made := func(name string, from, until time.Duration) visitor {
		return visitorOf(&seq, ca.Client(name, tlstest.Valid(now.Add(from), now.Add(until))), "spiffe://acme/"+name)
	}
	soon, urgent, over, gone, fine := made("soon", -90*day, 10*day), made("urgent", -99*day, day), made("over", -99*day, -day), made("gone", -99*day, -31*day), made("fine", -day, 10*day)
	old, renewed := made("again", -99*day, -day), made("again", -2*day, 90*day)
	machine, second := made("two", -99*day, 2*day), made("two", -20*day, 90*day)
	never := made("never", -99*day, day)
	var all []*termination.Handshake
	for _, v := range []visitor{soon, urgent, over, fine} {
		all = append(all, v.at(now.Add(-2*day)))
	}
	all = append(all, gone.at(now.Add(-31*day)), old.at(now.Add(-2*day)), renewed.at(now.Add(-time.Hour)), second.at(now.Add(-19*day)), machine.at(now.Add(-time.Minute)), second.at(now),
		never.at(now, ended(termination.OutcomeRefused, termination.ReasonCAUnknown)))
	write(t, s, all...)
	alerts := func() []string {
		t.Helper()
		found, err := s.ClientAlerts(context.Background(), now)
		if err != nil {
			t.Fatal(err)
		}
		var out, single []string
		for _, a := range found {
			out = append(out, string(a.Kind)+" "+a.Client.Name[len("spiffe://acme/"):])
		}
		for _, v := range []visitor{soon, urgent, over, gone, fine, old, renewed, machine, second, never} {
			of, err := s.AlertsOf(context.Background(), termination.FingerprintOf(v.cert), now)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range of {
				single = append(single, string(a.Kind)+" "+a.Client.Name[len("spiffe://acme/"):])
			}
		}
		if !slices.Equal(slices.Sorted(slices.Values(out)), slices.Sorted(slices.Values(single))) {
			t.Errorf("all %v, one by one %v", out, single)
		}
		return out
	}
	if got, want := alerts(), []string{"ended over", "ends_soon urgent", "ends_soon two", "ends_soon soon"}; !slices.Equal(got, want) {
		t.Fatalf("alerts %v, want %v", got, want)
	}

	// Nineteen times are not long; the twentieth is, also within one batch, and a ticket or another name changes nothing.
	other := func(v visitor, ja4 string) visitor { v.ja4 = ja4; return v }
	openssl := "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"
	write(t, s, fine.times(18, now.Add(-time.Hour))...)
	write(t, s, other(fine, openssl).at(now))
	if got := alerts(); slices.Contains(got, "software_changed fine") {
		t.Errorf("too early: %v", got)
	}
	write(t, s, append(renewed.times(19, now.Add(-time.Hour)), other(renewed, "t13i1517h1_8daaf6152771_aaaaaaaaaaaa").at(now), // the same library
		other(renewed, openssl).at(now, ended(termination.OutcomeRefused, termination.ReasonKeyProof)), // somebody else
	)...)
	if got := alerts(); slices.Contains(got, "software_changed again") {
		t.Errorf("no change: %v", got)
	}
	write(t, s, other(renewed, openssl).at(now.Add(time.Second)), other(renewed, openssl).at(now.Add(2*time.Second)))
	write(t, s, other(renewed, openssl).at(now.Add(3*time.Second)))
	found, err := s.ClientAlerts(context.Background(), now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(found, func(a ClientAlert) bool { return a.Kind == AlertSoftware })
	if i < 0 || found[i].Change.After != openssl || found[i].Change.Times < steadySoftware || found[i].Key() == found[0].Key() {
		t.Fatalf("no alert of changed software: %+v", found)
	}
	if n := count(t, s, "client_changes"); n != 1 {
		t.Errorf("%d changes", n)
	}
	changes, err := s.SoftwareChanges(context.Background(), termination.FingerprintOf(renewed.cert))
	if err != nil || len(changes) != 1 {
		t.Errorf("changes %v, %v", changes, err)
	}
	if late, err := s.ClientAlerts(context.Background(), now.Add(ClientActive+time.Hour)); err != nil || len(late) != 0 {
		t.Errorf("of those who do not come any more: %v, %v", late, err)
	}
}

func TestTrends(t *testing.T) {
	s, clock := newStore(t)
	var seq uint64
	now := clock.Now()
	v := visitorOf(&seq, tlstest.NewCA().Client("meter"), "meter")
	var all []*termination.Handshake
	for hours := range 24 * 29 {
		all = append(all, v.at(now.Add(-time.Duration(hours)*time.Hour)))
	}
	write(t, s, all...)
	write(t, s, v.at(now, ended(termination.OutcomeRefused, termination.ReasonNotListed)))
	f := termination.FingerprintOf(v.cert)
	check := func() {
		t.Helper()
		for name, read := range map[string]func(TrendStep) ([]TrendBar, error){
			"client":   func(step TrendStep) ([]TrendBar, error) { return s.ClientTrend(context.Background(), f, step) },
			"endpoint": func(step TrendStep) ([]TrendBar, error) { return s.EndpointTrend(context.Background(), "ep_1", step) },
		} {
			hours, err := read(TrendHours)
			if err != nil || len(hours) != 48 || hours[47].LetIn != 1 || hours[47].Failed != 1 || hours[0].LetIn != 1 || !hours[47].Time.Equal(now.Truncate(time.Hour)) {
				t.Errorf("%s, hours: %+v, %v", name, hours, err)
			}
			days, err := read(TrendDays)
			if err != nil || len(days) != 30 || days[28].LetIn != 24 || days[29].Failed != 1 || days[20].LetIn != 24 || days[29].Time.Hour() != 0 {
				t.Errorf("%s, days: %+v, %v", name, days, err)
			}
		}
	}
	check()
	before := count(t, s, "client_hours")
	prune(t, s, &retention{history: s.records}, HistorySettings{Keep: 1000 * time.Hour, KeepFailures: 1000 * time.Hour, MaxSize: 1 << 30})
	if n := count(t, s, "client_hours"); n > 48+24+31 || n >= before {
		t.Errorf("%d of %d hours are left", n, before)
	}
	check()
	if none, err := s.EndpointTrend(context.Background(), "ep_none", TrendHours); err != nil || len(none) != 48 || none[47].LetIn != 0 {
		t.Errorf("of no endpoint: %v, %v", none, err)
	}
}

// TestRegisterBeginsWithAnOlderHistory: a file of the version before gets its newest records counted in.
func TestRegisterBeginsWithAnOlderHistory(t *testing.T) {
	s, clock := newStore(t)
	var seq uint64
	v := visitorOf(&seq, tlstest.NewCA().Client("meter"), "meter")
	first := clock.Now().Add(-time.Hour)
	write(t, s, v.at(first), v.at(first.Add(time.Minute)), handshakeAt(9, first.Add(2*time.Minute)))
	newer := filepath.Join(closeIn(t, s), historyFile)
	steps, err := loadMigrations(historyKind().migrations)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "old")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old, err := openDatabase(context.Background(), dir, historyKind(), steps[:2], 1)
	if err != nil {
		t.Fatal(err)
	}
	columns := "seq, id, time, duration, outcome, reason, beat, proof, endpoint_id, endpoint, ip, address, sni, client, client_full, authority, issuer, fingerprint, version, key_group, pq, alpn, ja4, identity"
	for _, statement := range []string{
		"ATTACH '" + newer + "' AS newer", "INSERT INTO handshakes SELECT " + columns + " FROM newer.handshakes",
		"INSERT INTO records SELECT * FROM newer.records", "INSERT INTO certificates SELECT * FROM newer.certificates", "INSERT INTO minutes SELECT * FROM newer.minutes",
		"INSERT INTO records VALUES (10, x'00')", "DETACH newer",
	} {
		if _, err := old.writer.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := old.close(); err != nil {
		t.Fatal(err)
	}
	again := openIn(t, dir, testOptions(clock))
	if c := client(t, again, v.cert); c.Verified != 2 || !c.FirstIn.Equal(first) || c.Proven == "" {
		t.Errorf("%+v", c)
	}
	if page := clients(t, again, ClientQuery{}); page.Known != 1 || !page.Since.Equal(first) {
		t.Errorf("%+v", page)
	}
	again = openIn(t, closeIn(t, again), testOptions(clock))
	if c := client(t, again, v.cert); c.Verified != 2 {
		t.Errorf("counted again at the next start: %+v", c)
	}
	var isNew sql.NullInt64
	if err := again.records.db.reader.QueryRow("SELECT max(first_in) FROM handshakes").Scan(&isNew); err != nil || isNew.Valid {
		t.Errorf("an old record is called new: %v, %v", isNew, err)
	}
}

func TestFilterByNew(t *testing.T) {
	s, c := newStore(t)
	h := handshakeAt(1, c.Now())
	h.New = true
	write(t, s, h, handshakeAt(2, c.Now()))
	for text, want := range map[string]uint64{"is:new": 1, "-is:new": 2} {
		filter, err := termination.ParseFilter(text, c.Now())
		if err != nil {
			t.Fatal(err)
		}
		page := query(t, s, HistoryQuery{Filter: filter})
		if len(page.Records) != 1 || page.Records[0].Handshake.Seq != want || page.Records[0].Handshake.New != (want == 1) {
			t.Errorf("%s: %+v", text, page.Records)
		}
	}
}
