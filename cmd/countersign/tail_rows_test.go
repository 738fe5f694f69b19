package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"countersign/server/client"
	"countersign/termination"
	"countersign/views/format"
)

var update = flag.Bool("update", false, "write golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o750), os.WriteFile(path, []byte(got), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s differs (%v); if it should, run the test with -update. It is:\n%s", path, err, got)
	}
}

// tailEvents are one of each kind.
func tailEvents() []*client.Event {
	at := time.Date(2026, 11, 22, 14, 58, 7, 912e6, time.UTC)
	event := func(outcome termination.Outcome, beat termination.Beat, reason termination.Reason, change func(*client.Event)) *client.Event {
		e := &client.Event{Handshake: termination.Handshake{
			ID: "hs_01M8FM6NXF5ZG8HMYGSD4YHMZ0", Seq: 7, Time: at, Duration: 3900 * time.Microsecond, Peer: netip.MustParseAddrPort("10.20.9.3:51234"),
			Endpoint: "payments", Hello: &termination.ClientHello{ServerName: "payments.localhost"}, Client: termination.ClientName{Name: "checkout"},
			Chosen:  &termination.Negotiated{Version: 772, CipherSuite: 0x1301, Group: 4588, PostQuantum: true},
			Verdict: termination.Verdict{Outcome: outcome, Beat: beat, Reason: reason},
		}}
		if info, known := reason.Info(); known {
			e.Title = info.Title
		}
		if change != nil {
			change(e)
		}
		return e
	}
	return []*client.Event{
		event(termination.OutcomeVerified, 5, "", nil),
		event(termination.OutcomeVerified, 5, "", func(e *client.Event) { e.Chosen.Resumed, e.Chosen.Group, e.Chosen.PostQuantum = true, 29, false }),
		event(termination.OutcomeOpen, 5, termination.ReasonCertExpired, nil),
		event(termination.OutcomeOpen, 5, termination.ReasonCertExpired, func(e *client.Event) { e.Verdict.WouldRefuse = true }),
		event(termination.OutcomePassed, 2, "", func(e *client.Event) { e.Client.Name, e.Chosen = "", nil }),
		event(termination.OutcomeRefused, 4, termination.ReasonCertExpired, nil),
		event(termination.OutcomeClientRefused, 3, termination.ReasonClientRefusedUsCA, func(e *client.Event) { e.Client.Name = "" }),
		event(termination.OutcomeBrokenOff, 1, termination.ReasonNotTLS, func(e *client.Event) {
			e.Client.Name, e.Hello, e.Chosen, e.Endpoint, e.Duration = "", nil, nil, "", 20*time.Second
		}),
		event(termination.OutcomeRefused, 4, termination.ReasonCAUnknown, func(e *client.Event) {
			e.Client.Name, e.Hello.ServerName = "\x1b[31mred\x07\u202egnp.exe\r\nforged line", strings.Repeat("長い名前", 80)
		}),
	}
}

func TestTailRows(t *testing.T) {
	for name, rows := range map[string]*textRows{
		"tail-pipe.txt":   {},
		"tail-wide.txt":   {unicode: true, width: func() int { return 140 }},
		"tail-medium.txt": {unicode: true, width: func() int { return 100 }},
		"tail-narrow.txt": {width: func() int { return 60 }},
		"tail-least.txt":  {unicode: true, width: func() int { return narrowest }},
	} {
		var out bytes.Buffer
		rows.out, rows.zone = &out, time.UTC
		if rows.width == nil {
			rows.width = func() int { return 0 }
		}
		for _, e := range tailEvents() {
			if err := rows.handshake(e); err != nil {
				t.Fatal(err)
			}
		}
		late := tailEvents()[0]
		late.Verdict.Reason, late.Title = termination.ReasonUpstreamDown, "The service behind does not answer"
		if err := errors.Join(rows.update(late), rows.gap(missing{Count: 12312, Why: "this terminal was behind"}), rows.gap(missing{Count: 1, AtMost: true, Why: "the gateway remembers them only in its history"})); err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(out.String()) {
			if width := rows.width(); width > 0 && utf8.RuneCountInString(l)-1 > width {
				t.Errorf("%s: %d characters in %q", name, utf8.RuneCountInString(l)-1, l)
			}
		}
		golden(t, name, out.String())
	}
}

func TestTailColoursAreOurs(t *testing.T) {
	var out bytes.Buffer
	rows := &textRows{out: &out, width: func() int { return 120 }, zone: time.UTC, colour: true}
	events := tailEvents()
	if err := rows.handshake(events[len(events)-1]); err != nil {
		t.Fatal(err)
	}
	left := out.String()
	for _, c := range []string{colourDim, colourBad, colourEnd} {
		if !strings.Contains(left, c) {
			t.Errorf("%q is missing", c)
		}
		left = strings.ReplaceAll(left, c, "")
	}
	if strings.ContainsAny(left, "\x1b\x07\u202e\r") {
		t.Errorf("a stranger's characters pass: %q", left)
	}
}

func TestTailDocuments(t *testing.T) {
	var out bytes.Buffer
	rows := &jsonRows{out: &out}
	for _, e := range tailEvents() {
		if err := rows.handshake(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.gap(missing{Count: 312, From: 1, To: 312, Why: "this terminal was behind"}); err != nil {
		t.Fatal(err)
	}
	golden(t, "tail.jsonl", out.String())
	hostile := tailEvents()[8].Client.Name
	for l := range strings.Lines(out.String()) {
		var d tailDocument
		if err := json.Unmarshal([]byte(l), &d); err != nil {
			t.Errorf("%v in %q", err, l)
		}
		if l = strings.TrimSuffix(l, "\n"); format.Visible(l) != l {
			t.Errorf("%q hides something", l)
		}
		if d.Reason == termination.ReasonCAUnknown && d.Client != hostile {
			t.Errorf("the name came out as %q", d.Client)
		}
	}
}

func TestTailRowsFitAnyTerminal(t *testing.T) {
	for _, text := range []string{"", "\x00\x1b[2J", "\u202eabc", "\xff\xfe", strings.Repeat("x", 5000), strings.Repeat("\x1b", 90)} {
		for _, width := range []int{narrowest, 79, narrow - 1, narrow, roomy, 1000} {
			var out bytes.Buffer
			rows := &textRows{out: &out, width: func() int { return width }, zone: time.UTC}
			e := tailEvents()[5]
			e.Client.Name, e.Hello.ServerName, e.Endpoint, e.Title = text, text, text, text
			if err := rows.handshake(e); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if want := map[bool]int{true: 2, false: 1}[width < narrow]; len(lines) != want {
				t.Errorf("%d lines: %q", len(lines), out.String())
			}
			for _, l := range lines {
				if format.Visible(l) != l || utf8.RuneCountInString(l) > width {
					t.Errorf("%q in %d columns", l, width)
				}
			}
		}
	}
}
