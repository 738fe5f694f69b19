package store

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// handshakeAt is a record of a client that was let in.
func handshakeAt(seq uint64, at time.Time) *termination.Handshake {
	return &termination.Handshake{
		ID: termination.NewID(termination.PrefixHandshake, at), Seq: seq, Node: "node_1", Time: at.UTC(), Duration: 3900 * time.Microsecond,
		Stages: termination.Stages{Hello: 300 * time.Microsecond, Reply: 1900 * time.Microsecond, Wait: time.Millisecond, Check: -1},
		Peer:   netip.MustParseAddrPort("10.2.0.7:50123"), Local: netip.MustParseAddrPort("127.0.0.1:8443"),
		EndpointID: "ep_1", Endpoint: "api", Scheme: termination.SchemeHTTPS, TerminateAt: termination.AtEdge, Mode: termination.ModeRequire,
		Revision: 7, PolicyHash: "c0ffee",
		Hello: &termination.ClientHello{
			ServerName: "api.example", ALPN: []string{"h2", "http/1.1"}, Versions: []uint16{0x0304, 0x0303},
			CipherSuites: []uint16{0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f}, Groups: []uint16{4588, 29, 23}, KeyShares: []uint16{4588, 29},
			SignatureSchemes: []uint16{0x0403, 0x0804}, Extensions: []uint16{0, 11, 10, 35, 16, 22, 23, 13, 43, 45, 51},
			PostQuantum: true, JA3: "cd08e31494f9531f560d64c695473da9", JA4: "t13d1516h2_8daaf6152771_02713d6af862", Size: 1210, Records: 1,
		},
		Chosen:  &termination.Negotiated{Version: 0x0304, CipherSuite: 0x1301, Group: 4588, ALPN: "h2", PostQuantum: true},
		Client:  termination.ClientName{Name: "rhea", Full: "spiffe://prod/rhea", Fingerprint: termination.Fingerprint{0xab, 0xcd, byte(seq)}, Issuer: "Devices CA", Authority: "devices"},
		Verdict: termination.Verdict{Outcome: termination.OutcomeVerified, Beat: termination.BeatEstablished},
	}
}

func refusedAt(seq uint64, at time.Time) *termination.Handshake {
	h := handshakeAt(seq, at)
	h.Verdict = termination.Verdict{
		Outcome: termination.OutcomeRefused, Reason: termination.ReasonCertExpired, Beat: termination.BeatClientCert,
		Checks:      []termination.Check{{Reason: termination.ReasonCertExpired, Certificate: 0, Detail: "ended 3 days ago"}},
		Explanation: termination.Explanation{Sentence: "It ended.", Turn: termination.TurnClient, Fixes: []termination.Fix{{Text: "Issue a replacement.", Command: "countersign cert issue rhea"}}},
	}
	h.Alert = &termination.Alert{Number: 45, Name: "certificate_expired", Sent: true}
	return h
}

func write(t testing.TB, s *Store, handshakes ...*termination.Handshake) {
	t.Helper()
	if err := s.WriteHistory(termination.HistoryBatch{Handshakes: handshakes}); err != nil {
		t.Fatalf("write history: %v", err)
	}
}

func query(t testing.TB, s *Store, q HistoryQuery) HistoryPage {
	t.Helper()
	page, err := s.Handshakes(context.Background(), q)
	if err != nil {
		t.Fatalf("query: %v", err)
	}
	return page
}

func seqs(page HistoryPage) []uint64 {
	var out []uint64
	for _, r := range page.Records {
		out = append(out, r.Handshake.Seq)
	}
	return out
}

func TestRecordComesBackAsItWentIn(t *testing.T) {
	s, c := newStore(t)
	ca := tlstest.NewCA()
	leaf := ca.Client("rhea")
	h := refusedAt(1, c.Now())
	h.Client.Fingerprint = termination.FingerprintOf(leaf.X509)
	h.Presented = leaf.Chain()
	h.Path = []*x509.Certificate{leaf.X509, ca.X509}
	h.Upstream = &termination.UpstreamResult{Address: "127.0.0.1:1", Connect: time.Second, Error: "refused"}
	other := handshakeAt(2, c.Now())
	other.Presented = h.Presented
	end := termination.ConnectionEnd{
		ID: h.ID, Time: c.Now().Add(time.Minute), BytesIn: 1 << 40, BytesOut: 7, Requests: 3, ClosedBy: termination.ClosedByPolicy,
		Reason: termination.ReasonUpstreamDown, Detail: "it broke off", Upstream: &termination.UpstreamResult{Address: "127.0.0.1:2"},
	}
	write(t, s, h, other)
	if r, err := s.Handshake(context.Background(), h.ID); err != nil || r.End != nil {
		t.Fatalf("before its end: %+v, %v", r.End, err)
	}
	unknown := termination.ConnectionEnd{ID: "hs_00000000000000000000000000"}
	if err := s.WriteHistory(termination.HistoryBatch{Ends: []termination.ConnectionEnd{end, unknown}}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Handshake(context.Background(), h.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r.End, &end) {
		t.Errorf("end\n got %+v\nwant %+v", r.End, end)
	}
	for i, pair := range [][2][]*x509.Certificate{{r.Handshake.Presented, h.Presented}, {r.Handshake.Path, h.Path}} {
		if !slices.EqualFunc(pair[0], pair[1], func(a, b *x509.Certificate) bool { return a.Equal(b) }) {
			t.Errorf("chain %d came back as %d certificates, want %d", i, len(pair[0]), len(pair[1]))
		}
	}
	r.Handshake.Presented, r.Handshake.Path = h.Presented, h.Path
	if !reflect.DeepEqual(r.Handshake, h) {
		t.Errorf("record\n got %+v\nwant %+v", r.Handshake, h)
	}
	var stored int
	if err := s.records.db.reader.QueryRow("SELECT count(*) FROM certificates").Scan(&stored); err != nil || stored != 3 && stored != 2 {
		t.Errorf("%d certificates stored, %v", stored, err)
	}
}

func TestHandshakeByPrefix(t *testing.T) {
	s, c := newStore(t)
	a, b := handshakeAt(1, c.Now()), handshakeAt(2, c.Now())
	a.ID, b.ID = "hs_01KKP0AAAAAAAAAAAAAAAAAAAA", "hs_01KKP0AAAAAAAAAAAAAAAAAAAB"
	far := handshakeAt(3, c.Now())
	far.ID = "hs_7Q2M4K9D000000000000000000"
	write(t, s, a, b, far)
	for ref, want := range map[string]any{
		a.ID:                        uint64(1),
		strings.ToLower(b.ID):       uint64(2),
		"7Q2M":                      uint64(3),
		"hs_7q2m4":                  uint64(3),
		"hs_01KKP0":                 AmbiguousError{Kind: KindHandshake, Prefix: "hs_01KKP0"},
		"hs_8":                      NotFoundError{Kind: KindHandshake, Name: "hs_8"},
		"":                          NotFoundError{Kind: KindHandshake},
		"hs_":                       NotFoundError{Kind: KindHandshake, Name: "hs_"},
		"hs_%":                      NotFoundError{Kind: KindHandshake, Name: "hs_%"},
		"hs_' OR 1=1 --":            NotFoundError{Kind: KindHandshake, Name: "hs_' OR 1=1 --"},
		a.ID + "0":                  NotFoundError{Kind: KindHandshake, Name: a.ID + "0"},
		"ep_7Q2M4K9D00000000000000": NotFoundError{Kind: KindHandshake, Name: "ep_7Q2M4K9D00000000000000"},
	} {
		r, err := s.Handshake(context.Background(), ref)
		var got any = err
		if err == nil {
			got = r.Handshake.Seq
		}
		if got != want {
			t.Errorf("%q: got %v, want %v", ref, got, want)
		}
	}
}

func TestPagesFollowWithoutGapOrDuplicate(t *testing.T) {
	s, c := newStore(t)
	var batch []*termination.Handshake
	for i := range uint64(2500) {
		batch = append(batch, handshakeAt(i+1, c.Now()))
	}
	write(t, s, batch...)
	for _, size := range []int{7, 200, 1000, 2500} {
		var all []uint64
		q := HistoryQuery{Limit: size}
		for {
			page := query(t, s, q)
			if len(page.Records) > min(size, 1000) {
				t.Fatalf("a page of %d records, asked for %d", len(page.Records), size)
			}
			all = append(all, seqs(page)...)
			if page.Next == 0 {
				break
			}
			q.Before = page.Next
		}
		if len(all) != 2500 || all[0] != 2500 || all[2499] != 1 || !slices.IsSortedFunc(all, func(a, b uint64) int { return int(b) - int(a) }) {
			t.Errorf("pages of %d gave %d records", size, len(all))
		}
	}
	if got := seqs(query(t, s, HistoryQuery{After: 10, Before: 14})); !slices.Equal(got, []uint64{13, 12, 11}) {
		t.Errorf("between 10 and 14: %v", got)
	}
}

func TestSearchGivesUpAndGoesOn(t *testing.T) {
	s, c := newStore(t)
	first := handshakeAt(1, c.Now().Add(-time.Hour))
	first.Hello.ServerName = "needle.example"
	write(t, s, first, handshakeAt(10*scanWindow, c.Now()))
	f, err := termination.ParseFilter("sni:needle.example", c.Now())
	if err != nil {
		t.Fatal(err)
	}
	q := HistoryQuery{Filter: f, Patience: 1} // a nanosecond: one window each
	for tries := 0; ; tries++ {
		if tries > 20 {
			t.Fatal("the search does not come to an end")
		}
		page := query(t, s, q)
		if len(page.Records) == 1 && page.Next == 0 {
			if tries < 5 {
				t.Errorf("found after %d tries: it did not give up in between", tries)
			}
			break
		}
		if page.Searched.IsZero() {
			t.Fatal("it gave up without saying how far it got")
		}
		q.Before = page.Next
	}
	if n, searched, err := s.CountHandshakes(context.Background(), HistoryQuery{Filter: f, Patience: time.Minute}); n != 1 || !searched.IsZero() || err != nil {
		t.Errorf("count: %d, %v, %v", n, searched, err)
	}
}

// TestFiltersSelectWhatMatchSelects compares the SQL with the domain's own predicate over records and filters that are
// put together at random from values that like to go wrong.
func TestFiltersSelectWhatMatchSelects(t *testing.T) {
	s, c := newStore(t)
	random := rand.New(rand.NewPCG(3, 14))
	texts := []string{
		"", "api.example", "API.example", "a%i.example", "a_i", `back\slash`, "quo\"te", "o'clock", "ümlaut", "Ümlaut", "x*y", "<img src=x>",
		"' OR 1=1 --", "billing-batch", "\u202eevil", "tab\there", strings.Repeat("long", 300), "API", "cert", "10.2",
	}
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	addresses := []string{"10.2.0.7", "10.20.9.3", "127.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.2.0.8", "2001:db8::7"}
	var all []*termination.Handshake
	for i := range uint64(150) {
		h := handshakeAt(i+1, c.Now().Add(-time.Duration(random.IntN(7200))*time.Second))
		h.Endpoint, h.Client.Name, h.Client.Full, h.Client.Authority, h.Client.Issuer = pick(texts), pick(texts), pick(texts), pick(texts), pick(texts)
		h.Hello.ServerName, h.Hello.JA4, h.Chosen.ALPN = pick(texts), pick(texts), pick(texts)
		h.Peer = netip.AddrPortFrom(netip.MustParseAddr(pick(addresses)), 4711)
		h.Verdict.Outcome = termination.Outcomes()[random.IntN(6)]
		h.Verdict.Reason = append(termination.Reasons(), termination.ReasonInfo{})[random.IntN(len(termination.Reasons())+1)].Code
		h.Verdict.Beat = termination.Beat(random.IntN(6))
		h.Verdict.WouldRefuse = h.Verdict.Outcome == termination.OutcomeOpen && h.Verdict.Reason != "" && random.IntN(2) == 0
		if slices.Contains(termination.NoiseReasons(), h.Verdict.Reason) && random.IntN(2) == 0 {
			h.Noise = termination.NoiseScan
		}
		h.Duration = time.Duration(random.IntN(100)) * time.Millisecond
		h.Chosen.Version, h.Chosen.Group, h.Chosen.PostQuantum = uint16(0x0303+random.IntN(2)), []uint16{0, 23, 29, 4588}[random.IntN(4)], random.IntN(2) == 0
		h.Client.Fingerprint = termination.Fingerprint{byte(random.IntN(256)), byte(random.IntN(4))}
		switch random.IntN(10) {
		case 0:
			h.Hello, h.Chosen, h.Peer = nil, nil, netip.AddrPort{}
			h.Client = termination.ClientName{}
		case 1:
			h.Chosen = nil
		}
		all = append(all, h)
	}
	write(t, s, all...)
	quote := func(v string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v[:min(len(v), 60)]) + `"`
	}
	value := func(key termination.FilterKey) string {
		text := func() string {
			switch random.IntN(3) {
			case 0:
				return pick([]string{"*", "api*", "*EXAMPLE", "a*i*e", "*%*", "*_*", `*\*`, "x*", "*'*", "**"})
			default:
				return quote(pick(texts))
			}
		}
		switch key {
		case termination.FilterOutcome:
			return pick([]string{"verified", "refused", "failed", "open", "passed", "client_refused", "broken_off"})
		case termination.FilterReason:
			return string(termination.Reasons()[random.IntN(len(termination.Reasons()))].Code)
		case termination.FilterBeat:
			return fmt.Sprint(1 + random.IntN(5))
		case termination.FilterFP:
			return fmt.Sprintf("%x", random.IntN(4096))
		case termination.FilterIP:
			return pick([]string{"10.2.0.7", "10.0.0.0/8", "10.2.0.0/23", "0.0.0.0/0", "::/0", "::1", "fe80::/10", "2001:db8::/33", "fe80::1"})
		case termination.FilterTLS:
			return pick([]string{"1.2", "1.3"})
		case termination.FilterKX:
			return pick([]string{"X25519", "P-256", "X25519MLKEM768"})
		case termination.FilterIs:
			return pick([]string{"pq", "would_refuse", "noise"})
		case termination.FilterMS:
			return pick([]string{">", ">=", "<", "<="}) + fmt.Sprint(random.IntN(100))
		case termination.FilterSince, termination.FilterUntil:
			return pick([]string{"1s", "10m", "1h", "90m", "2h", "3h"})
		default:
			return text()
		}
	}
	keys := append(termination.FilterKeys(), termination.FilterText)
	matched, parsed := 0, 0
	for range 400 {
		var terms []string
		for range 1 + random.IntN(3) {
			key := keys[random.IntN(len(keys))]
			term := value(key)
			if key != termination.FilterSince && key != termination.FilterUntil && random.IntN(3) == 0 {
				term += "," + value(key)
			}
			if key != termination.FilterText {
				term = string(key) + ":" + term
			}
			if random.IntN(3) == 0 {
				term = "-" + term
			}
			terms = append(terms, term)
		}
		text := strings.Join(terms, " ")
		f, err := termination.ParseFilter(text, c.Now())
		if err != nil {
			continue
		}
		parsed++
		var want []uint64
		for _, h := range slices.Backward(all) {
			if f.Match(h) {
				want = append(want, h.Seq)
			}
		}
		matched += len(want)
		if got := seqs(query(t, s, HistoryQuery{Filter: f, Limit: 1000})); !slices.Equal(got, want) {
			t.Errorf("%s\n got %v\nwant %v", text, got, want)
		}
		if n, _, err := s.CountHandshakes(context.Background(), HistoryQuery{Filter: f}); err != nil || n != int64(len(want)) {
			t.Errorf("%s: counted %d of %d, %v", text, n, len(want), err)
		}
	}
	if parsed < 250 || matched < 3000 {
		t.Errorf("only %d filters were read, and they matched %d times: this proves little", parsed, matched)
	}
}

func TestTimesAreFoundAfterTheClockJumped(t *testing.T) {
	s, c := newStore(t)
	base := c.Now()
	write(t, s, handshakeAt(1, base), handshakeAt(2, base.Add(24*time.Hour)), handshakeAt(3, base.Add(time.Minute)), handshakeAt(4, base.Add(-24*time.Hour)), handshakeAt(5, base.Add(2*time.Minute)))
	for text, want := range map[string][]uint64{
		"since:" + base.Format(time.RFC3339):                {5, 3, 2, 1},
		"since:" + base.Add(time.Hour).Format(time.RFC3339): {2},
		"until:" + base.Format(time.RFC3339):                {4},
		"-since:" + base.Format(time.RFC3339):               {4},
		"since:" + base.Add(time.Second).Format(time.RFC3339) + " -until:" + base.Add(90*time.Second).Format(time.RFC3339): {5, 2},
	} {
		f, err := termination.ParseFilter(text, base)
		if err != nil {
			t.Fatal(err)
		}
		if got := seqs(query(t, s, HistoryQuery{Filter: f})); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// TestHostileTextIsKept writes what peers can send into every text of a record.
func TestHostileTextIsKept(t *testing.T) {
	s, c := newStore(t)
	for i, hostile := range []string{"'; DROP TABLE handshakes; --", "a\x00b", "\xff\xfe", "\x1b[31m", "=cmd()|x", "\u202e", strings.Repeat("A", 70000), "%_\\"} {
		h := refusedAt(uint64(i+1), c.Now())
		h.Endpoint, h.Client.Name, h.Client.Full, h.Client.Issuer, h.Client.Authority = hostile, hostile, hostile+"x", hostile, hostile
		h.Hello.ServerName, h.Hello.ALPN, h.Hello.JA4, h.Chosen.ALPN, h.Error = hostile, []string{hostile}, hostile, hostile, hostile
		h.Verdict.Reason, h.Verdict.Explanation.Sentence = termination.Reason(hostile), hostile
		write(t, s, h)
		r, err := s.Handshake(context.Background(), h.ID)
		if err != nil {
			t.Fatalf("%.20q: %v", hostile, err)
		}
		// JSON is UTF-8: bytes that are not are replaced, everything else is exact.
		want := strings.ToValidUTF8(hostile, "\uFFFD")
		if !slices.Contains([]string{want, strings.ReplaceAll(want, "\uFFFD", "\uFFFD\uFFFD")}, r.Handshake.Hello.ServerName) {
			t.Errorf("%.20q came back as %.20q", hostile, r.Handshake.Hello.ServerName)
		}
		if page := query(t, s, HistoryQuery{Filter: termination.Filter{Terms: []termination.FilterTerm{{Key: termination.FilterSNI, Values: []termination.FilterValue{{Text: hostile[:min(len(hostile), maxColumn)]}}}}}}); len(page.Records) != 1 {
			t.Errorf("%.20q is found %d times", hostile, len(page.Records))
		}
	}
}

func TestCountersAreExactAndLeaveProofsOut(t *testing.T) {
	s, c := newStore(t)
	if seen, err := s.HasHandshakes(context.Background()); seen || err != nil {
		t.Fatalf("a new store has seen a handshake: %v, %v", seen, err)
	}
	base := c.Now().Truncate(time.Hour)
	proof := handshakeAt(1, base)
	proof.Proof = true
	write(t, s, proof)
	if seen, err := s.HasHandshakes(context.Background()); seen || err != nil {
		t.Fatalf("a proof is no client: %v, %v", seen, err)
	}
	if page := query(t, s, HistoryQuery{}); len(page.Records) != 0 {
		t.Errorf("a proof is listed: %+v", page)
	}
	if n, _, err := s.CountHandshakes(context.Background(), HistoryQuery{}); n != 0 || err != nil {
		t.Errorf("%d proofs are counted, %v", n, err)
	}
	if r, err := s.Handshake(context.Background(), proof.ID); err != nil || !r.Handshake.Proof {
		t.Errorf("a proof has no record: %+v, %v", r, err)
	}
	seq := uint64(1)
	for minute := range 10 {
		for range minute + 1 {
			seq++
			write(t, s, handshakeAt(seq, base.Add(time.Duration(minute)*time.Minute)))
		}
		seq++
		write(t, s, refusedAt(seq, base.Add(time.Duration(minute)*time.Minute)))
	}
	if seen, err := s.HasHandshakes(context.Background()); !seen || err != nil {
		t.Errorf("nothing seen: %v, %v", seen, err)
	}
	sum := func(q CountQuery) map[string]int64 {
		counts, err := s.Counts(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int64{}
		for _, n := range counts {
			out[n.Time.Format("15:04 ")+string(n.Outcome)+" "+string(n.Reason)] += n.N
		}
		return out
	}
	at := base.Format("15:04 ")
	if got, want := sum(CountQuery{Since: base, Until: base.Add(9 * time.Minute)}), map[string]int64{at + "verified ": 55, at + "refused cert_expired": 10}; !reflect.DeepEqual(got, want) {
		t.Errorf("all: %v", got)
	}
	got := sum(CountQuery{Since: base, Until: base.Add(9 * time.Minute), Step: 5 * time.Minute, EndpointID: "ep_1"})
	later := base.Add(5 * time.Minute).Format("15:04 ")
	if want := map[string]int64{at + "verified ": 15, at + "refused cert_expired": 5, later + "verified ": 40, later + "refused cert_expired": 5}; !reflect.DeepEqual(got, want) {
		t.Errorf("in steps of five minutes: %v", got)
	}
	if got := sum(CountQuery{Since: base, EndpointID: "ep_2"}); len(got) != 0 {
		t.Errorf("of another endpoint: %v", got)
	}
	clients, err := s.AuthorityClients(context.Background(), base.Add(8*time.Minute))
	if err != nil || !reflect.DeepEqual(clients, map[string]int64{"devices": 19}) {
		t.Errorf("clients by authority: %v, %v", clients, err)
	}
}

func TestSequenceGoesOnAfterARestart(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := openIn(t, dir, testOptions(c))
	if s.NextSeq() != 1 {
		t.Fatalf("a new store begins at %d", s.NextSeq())
	}
	write(t, s, handshakeAt(41, c.Now()))
	write(t, s, handshakeAt(41, c.Now())) // the same number again is skipped, not an error
	if v, err := s.Status(context.Background()); err != nil || v.Dropped != 1 || v.HistoryBytes == 0 || !v.Oldest.Equal(c.Now()) {
		t.Errorf("status: %+v, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Something was dropped, so live events may have had higher numbers.
	s = openIn(t, dir, testOptions(c))
	if got := s.NextSeq(); got != 42+leap {
		t.Errorf("after a drop it goes on at %d", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = openIn(t, dir, testOptions(c)); s.NextSeq() != 42 {
		t.Errorf("after an orderly close it goes on at %d", s.NextSeq())
	}
	if err := s.WriteHistory(termination.HistoryBatch{}); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteHistory(termination.HistoryBatch{Handshakes: []*termination.Handshake{handshakeAt(50, c.Now())}}); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// TestRecordDocumentIsStable fails when a word of the domain is renamed in a way that old records could not be read.
func TestRecordDocumentIsStable(t *testing.T) {
	h := refusedAt(1, newClock().Now())
	b, err := json.Marshal(storedHandshake{Handshake: h, Presented: []termination.Fingerprint{{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"id":`, `"seq":1`, `"peer":"10.2.0.7:50123"`, `"hello":{"server_name":`, `"chosen":{"version":772`, `"client":{"name":`, `"verdict":{"outcome":"refused","reason":"cert_expired"`, `"presented":["00`} {
		if !strings.Contains(string(b), key) {
			t.Errorf("the document of a record lacks %s: %s", key, b)
		}
	}
}
