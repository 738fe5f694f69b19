package termination

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// noon is when the tests of the filter take place.
func noon() time.Time { return time.Date(2026, 3, 10, 12, 0, 0, 0, time.FixedZone("UTC+1", 3600)) }

func mustParse(t *testing.T, s string) Filter {
	t.Helper()
	f, err := ParseFilter(s, noon())
	if err != nil {
		t.Fatalf("ParseFilter(%q): %v", s, err)
	}
	return f
}

func filterSample() *Handshake {
	return &Handshake{
		ID: "hs_1", Time: noon().Add(-10 * time.Minute), Duration: 5500 * time.Microsecond,
		Peer:     netip.MustParseAddrPort("[::ffff:10.20.9.3]:41234"),
		Endpoint: "payments",
		Hello:    &ClientHello{ServerName: "Payments.localhost", JA4: "t13d1516h2_8daaf6152771_02713d6af862"},
		Chosen:   &Negotiated{Version: tls.VersionTLS13, Group: 4588, ALPN: "h2", PostQuantum: true},
		Client: ClientName{
			Name: "billing batch", Full: "spiffe://acme/ns/billing/sa/batch", Issuer: "Acme Issuing CA 2", Authority: "acme",
			Fingerprint: Fingerprint{0xab, 0xcd, 0xef, 0x01},
		},
		Verdict: Verdict{Outcome: OutcomeRefused, Reason: ReasonCertExpired, Beat: BeatClientCert},
	}
}

func TestFilterMatch(t *testing.T) {
	bare := &Handshake{Time: noon(), Peer: netip.MustParseAddrPort("[fe80::1%eth0]:1"), Verdict: Verdict{Outcome: OutcomeBrokenOff, Reason: ReasonNotTLS, Beat: BeatHello}}
	for _, c := range []struct {
		filter       string
		sample, bare bool
	}{
		{"", true, true},
		{"  \t ", true, true},
		{"outcome:refused", true, false},
		{"OUTCOME:Refused", true, false},
		{"-outcome:refused", false, true},
		{"outcome:verified", false, false},
		{"outcome:verified,refused", true, false},
		{"outcome:failed", true, true},
		{"-outcome:failed", false, false},
		{"reason:cert_expired", true, false},
		{"reason:cert_expired,not_tls", true, true},
		{"beat:4", true, false},
		{"beat:1,2", false, true},
		{"endpoint:payments", true, false},
		{"endpoint:PAYMENTS", true, false},
		{"endpoint:pay", false, false},
		{"endpoint:pay*", true, false},
		{"endpoint:*", true, false},
		{`endpoint:""`, false, true},
		{"sni:payments.localhost", true, false},
		{"sni:*.localhost", true, false},
		{"-sni:*.localhost", false, true},
		{`sni:"*.localhost"`, false, false},
		{`client:"billing batch"`, true, false},
		{"client:billing", false, false},
		{"client:*batch", true, false},
		{"client:spiffe://acme/*", true, false},
		{`client:""`, false, true},
		{"ca:acme", true, false},
		{`ca:"Acme Issuing CA 2"`, true, false},
		{"fp:abcdef", true, false},
		{"fp:AB:CD:EF:01", true, false},
		{"fp:abcdee", false, false},
		{"fp:0000", false, false},
		{"ip:10.20.9.3", true, false},
		{"ip:::ffff:10.20.9.3", true, false},
		{"ip:10.20.0.0/16", true, false},
		{"ip:10.21.0.0/16,fe80::/10", false, true},
		{"ip:0.0.0.0/0", true, false},
		{"tls:1.3", true, false},
		{"tls:1.2", false, false},
		{"-tls:1.2", true, true},
		{"kx:x25519mlkem768", true, false},
		{"kx:4588", true, false},
		{"kx:P-256", false, false},
		{"is:pq", true, false},
		{"-is:pq", false, true},
		{"is:would_refuse", false, false},
		{"-is:would_refuse", true, true},
		{"is:pq,would_refuse", true, false},
		{"is:noise", false, false},
		{"-is:noise", true, true},
		{"alpn:h2", true, false},
		{"alpn:http/1.1", false, false},
		{"ja4:t13d1516h2_8daaf6152771_02713d6af862", true, false},
		{"ja4:t13d*", true, false},
		{"ms:>5", true, false},
		{"ms:>5.5", false, false},
		{"ms:>=5.5", true, false},
		{"ms:<5.5", false, true},
		{"ms:<=5.5", true, true},
		{"since:15m", true, true},
		{"since:5m", false, true},
		{"until:5m", true, false},
		{"since:11:50", true, true},
		{"since:11:51", false, true},
		{"until:2026-03-10T12:00", true, false},
		{"billing", true, false},
		{"BATCH", true, false},
		{"payments.", true, false},
		{"10.20.9", true, false},
		{"expired", true, false},
		{"cert_exp", true, false},
		{`"has ended"`, true, false},
		{"-billing", false, true},
		{"b*batch", true, false},
		{"b*bitch", false, false},
		{`"b*batch"`, false, false},
		{"billing,not_tls", true, true},
		{"outcome:failed billing tls:1.3", true, false},
		{"outcome:failed billing tls:1.2", false, false},
		{"outcome:failed -billing", false, true},
	} {
		f := mustParse(t, c.filter)
		if got := f.Match(filterSample()); got != c.sample {
			t.Errorf("%q on a refused handshake: %v, want %v", c.filter, got, c.sample)
		}
		if got := f.Match(bare); got != c.bare {
			t.Errorf("%q on bytes that are not TLS: %v, want %v", c.filter, got, c.bare)
		}
	}
}

func TestFilterString(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		" a   b ":                        "a b",
		"Outcome:Verified,REFUSED":       "outcome:verified,refused",
		"-outcome:failed":                "-outcome:failed",
		`client:"plain"`:                 "client:plain",
		`client:"two words"`:             `client:"two words"`,
		`client:"a,b"`:                   `client:"a,b"`,
		`client:"say \"hi\" \\ \n"`:      `client:"say \"hi\" \\ \\n"`,
		`client:back\slash`:              `client:back\slash`,
		`client:"*",*`:                   `client:"*",*`,
		`client:-x`:                      `client:-x`,
		`"-x"`:                           `"-x"`,
		`"a:b"`:                          `"a:b"`,
		`a,b:c,-d`:                       `a,b:c,-d`,
		"kx:p256,29,23,4588":             "kx:P-256,X25519,P-256,X25519MLKEM768",
		"kx:256":                         "kx:256",
		"ip:10.20.9.3/16":                "ip:10.20.0.0/16",
		"ip:10.20.9.3/32":                "ip:10.20.9.3",
		"fp:AB:CD:EF":                    "fp:abcdef",
		"ms:>=050.50,<1":                 "ms:>=50.5,<1",
		"since:90m":                      "since:90m",
		"since:1h30m":                    "since:90m",
		"since:24H":                      "since:1d",
		"since:1w":                       "since:7d",
		"since:2026-03-01T14:58:07.123Z": "since:2026-03-01T14:58:07.123Z",
		"since:2026-03-01":               "since:2026-02-28T23:00:00Z",
		"since:13:00":                    "since:2026-03-09T12:00:00Z",
	} {
		f := mustParse(t, in)
		if got := f.String(); got != want {
			t.Errorf("%q is written %q, want %q", in, got, want)
		}
		if again := mustParse(t, want); !reflect.DeepEqual(again, f) {
			t.Errorf("%q reads back as %+v, want %+v", want, again, f)
		}
	}
}

func TestFilterRefusals(t *testing.T) {
	for _, c := range []struct {
		filter   string
		position int
		says     string
	}{
		{"outcome:verifed", 9, "expected verified, open, passed, refused, client_refused, broken_off or failed"},
		{"outcome:", 9, "expected a value after outcome:"},
		{"outcome:open,", 14, "expected a value after the comma"},
		{"outcome:open,,passed", 14, "expected a value after the comma"},
		{",", 1, "expected a value"},
		{"billing colour:red", 9, `"colour" is no key; expected one of outcome, reason`},
		{"::1", 1, "put quotes around text that holds a colon"},
		{"reason:expired", 8, "did you mean cert_expired, ca_expired?"},
		{"reason:zebra", 8, "expected a code such as cert_expired"},
		{`reason:""`, 8, "is no reason"},
		{"beat:6", 6, "from 1 (hello) to 5 (open)"},
		{"beat:0", 6, "is no beat"},
		{"fp:abc", 4, "expected 4 to 64 hex digits"},
		{"fp:xyz12", 4, "is no SHA-256 fingerprint"},
		{"ip:10.20.9", 4, "is no address"},
		{"ip:10.0.0.0/33", 4, "is no address"},
		{"ip:fe80::1%eth0", 4, "is no address"},
		{"tls:1.1", 5, "expected 1.2 or 1.3"},
		{"kx:rsa", 4, "is no key exchange"},
		{"kx:65536", 4, "is no key exchange"},
		{"is:newer", 4, "nothing that a handshake can be"},
		{"is:good", 4, "expected pq"},
		{"ms:50", 4, "compares nothing"},
		{"ms:>", 4, "compares nothing"},
		{"ms:>-1", 4, "compares nothing"},
		{"ms:>1e9", 4, "compares nothing"},
		{"ms:>1.", 4, "compares nothing"},
		{"ms:>0.0000001", 4, "compares nothing"},
		{"ms:>9999999999", 4, "longer than any handshake"},
		{"since:15", 7, "is no time"},
		{"since:15y", 7, "is no time"},
		{"since:0m", 7, "more than no time"},
		{"since:99999999999999d", 7, "more than ten years"},
		{"since:9y,1d", 7, "is no time"},
		{"since:9d,1d", 9, "since: takes one value"},
		{"since:2026-13-01", 7, "is no time"},
		{"since:0001-01-01T00:00:00Z", 7, "out of reach"},
		{`client:"never closed`, 8, "never closed"},
		{`client:"a"b`, 11, "expected a space or a comma"},
		{`client:a"b"`, 9, "a quote within a word"},
		{"- a", 2, "expected a term after the minus sign"},
		{"--a", 2, "expected a term after the minus sign"},
		{"-", 2, "expected a term after the minus sign"},
		{`""`, 1, "expected a word"},
		{"**", 1, "expected a word"},
		{"a\x00b", 2, "control character"},
		{"\"a\tb\"", 3, "control character"},
		{"a\xffb", 2, "not UTF-8"},
		{strings.Repeat("a", maxFilterLength+1), maxFilterLength + 1, "at most 1024 bytes"},
		{strings.Repeat("a ", maxFilterTerms+1), 2*maxFilterTerms + 1, "at most 32 terms"},
		{strings.Repeat("a,", 60) + "a " + strings.Repeat("b,", 60) + "b", 2*maxFilterValues + 1, "at most 100 values"},
		{"kx:" + strings.Repeat("4588,", 90) + "4588", 1, "written out"},
	} {
		_, err := ParseFilter(c.filter, noon())
		var wrong *FilterError
		if !errors.As(err, &wrong) {
			t.Errorf("%.40q: error %v, want a FilterError", c.filter, err)
			continue
		}
		if wrong.Position != c.position || !strings.Contains(wrong.Message, c.says) {
			t.Errorf("%.40q: %v; want position %d and %q", c.filter, wrong, c.position, c.says)
		}
	}
}

func TestFormatFilterTerm(t *testing.T) {
	h := filterSample()
	for _, name := range []string{"billing", "two words", "a,b", `say "hi"`, "*", "-x", "a:b", `\`, ""} {
		h.Client.Name, h.Client.Full = name, name
		for _, negate := range []bool{false, true} {
			s := FormatFilterTerm(FilterClient, name, negate)
			if f := mustParse(t, s); f.Match(h) == negate {
				t.Errorf("%s: does not do what it says about %q", s, name)
			}
		}
	}
}

func TestFilterBoundsWork(t *testing.T) {
	h := filterSample()
	h.Hello.ServerName = strings.Repeat("a", 64<<10)
	if !mustParse(t, "sni:*a").Match(h) {
		t.Error("the beginning of a long name is not searched")
	}
	h.Hello.ServerName += "needle"
	if mustParse(t, "needle").Match(h) {
		t.Error("a name is searched past its bound")
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{
		"", "outcome:failed -reason:cert_expired", `client:"a \"b\" \\" sni:*.localhost`, "ms:>50.5 since:1h30m until:14:58",
		"ip:10.0.0.0/8,::1 kx:p-256 is:pq beat:1,2", "since:2026-03-01T14:58:07.123+02:00", `"-a:b*",c`, "fp:AB:CD:EF tls:1.3 alpn:h2 ja4:t13*",
	} {
		f.Add(s)
	}
	samples := []*Handshake{filterSample(), {}}
	f.Fuzz(func(t *testing.T, s string) {
		first, err := ParseFilter(s, noon())
		if err != nil {
			var wrong *FilterError
			if !errors.As(err, &wrong) || wrong.Position < 1 || wrong.Position > len(s)+1 || wrong.Message == "" {
				t.Fatalf("%q: error %#v says nothing", s, err)
			}
			return
		}
		again, err := ParseFilter(first.String(), noon())
		if err != nil {
			t.Fatalf("%q is written %q, which is refused: %v", s, first, err)
		}
		if !reflect.DeepEqual(first, again) {
			t.Fatalf("%q is written %q, which means something else:\n%+v\n%+v", s, first, first, again)
		}
		for _, h := range samples {
			if first.Match(h) != again.Match(h) {
				t.Fatalf("%q and %q select differently", s, first)
			}
		}
	})
}

func BenchmarkFilterMatch(b *testing.B) {
	for _, s := range []string{"outcome:failed endpoint:payments", "client:*batch", "billing"} {
		f, err := ParseFilter(s, noon())
		if err != nil {
			b.Fatal(err)
		}
		h := filterSample()
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Match(h)
			}
		})
	}
}

func TestFilterByWhatAPolicyOnlyReported(t *testing.T) {
	h := &Handshake{Verdict: Verdict{Outcome: OutcomeOpen, Reason: ReasonCertMissing, WouldRefuse: true, ReportOnly: true}}
	for filter, want := range map[string]bool{
		"is:would_refuse": true, "-is:would_refuse": false, "outcome:open is:would_refuse reason:cert_missing": true, "is:pq": false, "outcome:failed": false,
	} {
		if got := mustParse(t, filter).Match(h); got != want {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
}

func TestFilterByNoise(t *testing.T) {
	check := &Handshake{Noise: NoisePortCheck, Verdict: Verdict{Outcome: OutcomeBrokenOff, Reason: ReasonSilent}}
	waiting := &Handshake{Verdict: Verdict{Outcome: OutcomeBrokenOff, Reason: ReasonNotTLS}} // MQTT: a client, not noise
	for filter, want := range map[string][2]bool{
		"is:noise": {true, false}, "-is:noise": {false, true}, "is:pq,noise": {true, false}, "reason:silent is:noise": {true, false},
	} {
		f := mustParse(t, filter)
		if got := [2]bool{f.Match(check), f.Match(waiting)}; got != want {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
}
