package live

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"countersign/termination"
	"countersign/termination/live/livetest"
)

// hostile are texts that strangers may put into a handshake.
func hostile() []string {
	return []string{
		`<img src=x onerror=alert(1)>`, "</script>", "a\x00b\x1b[31m", "\xff\xfe\xc3(", "\u202egnp.exe", "\u2028\u2029", "\"\\\b\f\n\r\t\x7f",
		"=cmd()", "{{x}}", strings.Repeat("é", 5000), strings.Repeat("\xff", 300), "\ufffd", "",
	}
}

func hostileHandshake(text string) *termination.Handshake {
	h := livetest.Handshake(0, time.UnixMilli(1795359487884))
	h.ID, h.Hello.ServerName, h.Hello.JA4, h.Chosen.ALPN = text, text, text, text
	h.Client.Name, h.Client.Full, h.Client.Issuer, h.Client.Authority = text, text, text, ""
	return h
}

func TestEventIsHarmlessJSON(t *testing.T) {
	for _, s := range hostile() {
		text, err := json.Marshal(newEvent(hostileHandshake(s), 1, false))
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(string(text), "<>&\x00\x1b\u2028\u2029") || !utf8.Valid(text) {
			t.Errorf("%.20q goes out as %s", s, text)
		}
	}
}

func TestEventBoundsTexts(t *testing.T) {
	for _, s := range hostile() {
		e := newEvent(hostileHandshake(s), 1, false)
		for _, got := range []string{e.ServerName, e.Client, e.Authority, e.JA4, e.ALPN} {
			if len(got) > maxText {
				t.Errorf("%d bytes of %.20q pass", len(got), s)
			}
			if utf8.ValidString(s) && !utf8.ValidString(got) {
				t.Errorf("%.20q is cut within a character: %q", s, got)
			}
			if len(s) > maxText && !strings.HasSuffix(got, "…") {
				t.Errorf("%.20q is cut without saying so", s)
			}
		}
	}
}

func TestEventOfABareHandshake(t *testing.T) {
	h := &termination.Handshake{ID: "hs_1", Seq: 7, Time: time.UnixMilli(5), Verdict: termination.Verdict{
		Outcome: termination.OutcomeBrokenOff, Reason: termination.ReasonNotTLS, Beat: termination.BeatHello,
	}}
	e := newEvent(h, 0, false)
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text), `{"q":7,"i":"hs_1","t":5,"o":5,"b":1,"r":"not_tls","d":0}`; got != want {
		t.Errorf("event is %s, want %s", got, want)
	}
}

func TestOutcomeIndexFollowsTheList(t *testing.T) {
	all := termination.Outcomes()
	if len(all) != outcomes {
		t.Fatalf("there are %d outcomes, counted are %d", len(all), outcomes)
	}
	for i, o := range all {
		if outcomeIndex(o) != i {
			t.Errorf("%s has number %d, want %d", o, outcomeIndex(o), i)
		}
	}
}

// What is kept of a handshake makes the same event, and filters decide about it as they do about the whole.
func TestKeptIsEnough(t *testing.T) {
	h := livetest.Handshake(8, time.Now())
	h.Noise, h.New, h.Proof = termination.NoiseScan, true, true
	h.Client = termination.ClientName{Name: "rhea", Full: "spiffe://prod/rhea", Fingerprint: termination.Fingerprint{0xab}, Issuer: "Devices CA", Authority: "devices", Identity: "meter", IdentityID: "id_1"}
	h.Verdict = termination.Verdict{Outcome: termination.OutcomeOpen, Reason: termination.ReasonCertExpired, Beat: termination.BeatClientCert, WouldRefuse: true}
	h.Chosen = &termination.Negotiated{Version: 0x0304, CipherSuite: 0x1301, Group: 4588, ALPN: "h2", PostQuantum: true, Resumed: true}
	r := newReplay(16)
	kept := &r.keep(h).handshake
	if whole, small := newEvent(h, 3, true), newEvent(kept, 3, true); whole != small {
		t.Errorf("the event of the whole\n%+v\nand of what is kept\n%+v", whole, small)
	}
	values := map[termination.FilterKey][]string{
		termination.FilterOutcome: {"open", "failed"}, termination.FilterReason: {"cert_expired"}, termination.FilterBeat: {"4"}, termination.FilterEndpoint: {h.Endpoint},
		termination.FilterSNI: {h.Hello.ServerName}, termination.FilterClient: {"rhea", "spiffe://prod/rhea"}, termination.FilterIdentity: {"meter"}, termination.FilterCA: {"devices", "\"Devices CA\""},
		termination.FilterFP: {"ab00"}, termination.FilterIP: {h.Peer.Addr().String()}, termination.FilterTLS: {"1.3"}, termination.FilterKX: {"X25519MLKEM768"},
		termination.FilterIs: {"pq", "would_refuse", "noise", "new"}, termination.FilterALPN: {"h2"}, termination.FilterJA4: {h.Hello.JA4}, termination.FilterMS: {">0"},
		termination.FilterSince: {"1h"}, termination.FilterUntil: {"1h"},
	}
	for _, key := range termination.FilterKeys() {
		if len(values[key]) == 0 {
			t.Errorf("nothing is asked about %s", key)
		}
		for _, value := range values[key] {
			f, err := termination.ParseFilter(string(key)+":"+value, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if f.Match(kept) != f.Match(h) {
				t.Errorf("%s says %v of the whole, and %v of what is kept", f, f.Match(h), f.Match(kept))
			}
		}
	}
}
