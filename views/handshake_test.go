package views

import (
	"strings"
	"testing"
	"time"

	"countersign/termination"
)

// Where it broke follows the verdict, not the clock: what ran after the break by accident is not shown.
func TestStagesOf(t *testing.T) {
	all := termination.Stages{Hello: time.Millisecond, Reply: time.Millisecond, Wait: time.Millisecond, Check: time.Microsecond}
	helloOnly := termination.Stages{Hello: time.Millisecond, Reply: -1, Wait: -1, Check: -1}
	uptoWait := termination.Stages{Hello: time.Millisecond, Reply: time.Millisecond, Wait: time.Millisecond, Check: -1}
	tests := []struct {
		name    string
		stages  termination.Stages
		outcome termination.Outcome
		beat    termination.Beat
		broke   int // stage with the mark; -1: none
		ran     int
		last    string // name of the last stage
	}{
		{"verified", all, termination.OutcomeVerified, termination.BeatEstablished, -1, 4, "Chain, dates, key proof"},
		{"client refused us while we waited", all, termination.OutcomeClientRefused, termination.BeatServerCert, 2, 3, "Chain, dates, key proof"},
		{"unknown name: never replied", helloOnly, termination.OutcomeRefused, termination.BeatAgreement, 1, 1, "Chain, dates, key proof"},
		{"too old a version: replied with an alert", uptoWait, termination.OutcomeRefused, termination.BeatAgreement, 1, 2, "Chain, dates, key proof"},
		{"unknown CA: no word of the key", all, termination.OutcomeRefused, termination.BeatClientCert, 3, 4, "Chain and dates"},
		{"left instead of sending a certificate", uptoWait, termination.OutcomeBrokenOff, termination.BeatClientCert, 2, 3, "Chain and dates"},
		{"said nothing", helloOnly, termination.OutcomeBrokenOff, termination.BeatHello, 0, 1, "Chain, dates, key proof"},
		{"not listed", all, termination.OutcomeRefused, termination.BeatEstablished, 3, 4, "Chain, dates, key proof"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := stagesOf(&termination.Handshake{Stages: test.stages, Verdict: termination.Verdict{Outcome: test.outcome, Beat: test.beat}})
			broke, ran := -1, 0
			for i, s := range got {
				if s.Mark != "" {
					broke = i
				}
				if s.Ran {
					ran++
				}
			}
			if broke != test.broke || ran != test.ran || got[3].Name != test.last {
				t.Errorf("broke at %d, %d ran, last %q; want %d, %d, %q", broke, ran, got[3].Name, test.broke, test.ran, test.last)
			}
		})
	}
}

// A refusal shows what the client's tool printed, folded; a success shows nothing of it.
func TestHandshakePrinted(t *testing.T) {
	h := passedExample(func(h *termination.Handshake) {
		h.TerminateAt, h.Passed, h.Scheme = termination.AtEdge, nil, termination.SchemeHTTPS
		h.Alert = &termination.Alert{Number: 116, Name: "certificate_required", Sent: true}
		h.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonCertMissing, Beat: termination.BeatClientCert}
	})
	if page := renderPage(t, drawer(h)); !strings.Contains(page, "<summary>What the client printed</summary>") || !strings.Contains(page, "tlsv13 alert certificate required, errno 0") {
		t.Errorf("it is not told what the client printed:\n%s", page)
	}
	h.Verdict = termination.Verdict{Outcome: termination.OutcomeVerified, Beat: termination.BeatEstablished}
	if page := renderPage(t, drawer(h)); strings.Contains(page, "What the client printed") {
		t.Error("a client that came in printed an error")
	}
}
