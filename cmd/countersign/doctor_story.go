package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"countersign/server/client"
	"countersign/termination"
	"countersign/termination/doctor"
	"countersign/termination/wire"
	"countersign/views/format"
)

// doctorStory is both halves of what happened: what the client saw, and what the gateway recorded of the same handshake.
type doctorStory struct {
	*doctor.Report
	Record     *client.Record `json:"gateway_record,omitempty"`
	MatchedBy  string         `json:"matched_by,omitempty"`
	Missing    string         `json:"gateway_missing,omitempty"`        // why there is no record
	ClockAhead string         `json:"clock_ahead_of_gateway,omitempty"` // of this machine; empty: less than half a minute
	ForOthers  *handOver      `json:"hand_over,omitempty"`
}

// handOver is what whoever runs the gateway needs to find the handshake there.
type handOver struct {
	Filter string `json:"filter"`
	Line   string `json:"line"`
}

// print tells the story. Whatever a server or a certificate says is text from a stranger.
func (s *doctorStory) print(out io.Writer) {
	w := &visible{out: out}
	w.line("%s, asked for as %s", s.URL, s.Name)
	w.line("")
	w.line("What this client saw, %s", s.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
	for _, step := range s.Steps {
		mark := map[doctor.State]string{doctor.OK: "ok  ", doctor.Warn: "!   ", doctor.Bad: "BAD ", doctor.Note: "-   "}[step.State]
		w.wrap(fmt.Sprintf("  %s%-20s", mark, step.Name), step.Text)
	}
	w.line("")
	s.printGateway(w)
	w.line("%s", s.verdict())
	s.printFixes(w)
	if h := s.ForOthers; h != nil {
		w.line("")
		w.line("For whoever runs the server:")
		w.line("  %s", h.Line)
		w.line("  On the Live page of a Countersign gateway, by this machine's clock: %s", h.Filter)
	}
}

func (s *doctorStory) printGateway(w *visible) {
	r := s.Record
	if r == nil {
		if s.Missing != "" {
			w.wrap("What the gateway saw: ", s.Missing)
			w.line("")
		}
		return
	}
	w.line("What the gateway saw of the same handshake, %s (known by %s)", r.ID, s.MatchedBy)
	tell := func(what, format string, args ...any) {
		w.wrap(fmt.Sprintf("      %-20s", what), fmt.Sprintf(format, args...))
	}
	if r.Endpoint != "" {
		tell("endpoint", "%s, where TLS ends at the %s, client certificates: %s", r.Endpoint, r.TerminateAt, r.Mode)
	}
	if s.Attempts[0].Local != r.Peer {
		tell("came from", "%s; here it left from %s, so something in between translates addresses", r.Peer, s.Attempts[0].Local)
	}
	presented := "nothing"
	if len(r.Presented) > 0 {
		presented = fmt.Sprintf("%q, issued by %q, one of %d; SHA-256 %s", r.Presented[0].Subject, r.Presented[0].Issuer, len(r.Presented), r.Presented[0].Fingerprint)
	}
	tell("was presented", "%s", presented)
	e := client.EventOf(r)
	outcome := outcomeWords(&e)
	if !r.Verdict.Outcome.In() {
		outcome = fmt.Sprintf("%s at beat %d of 5: %s", strings.ReplaceAll(string(r.Verdict.Outcome), "_", " "), r.Verdict.Beat, outcome)
	}
	tell("outcome", "%s", outcome)
	if a := r.Alert; a != nil {
		way := "received from this client"
		if a.Sent {
			way = "sent to this client"
		}
		tell("alert", "%d %s, %s", a.Number, wire.AlertName(a.Number), way)
	}
	if x := r.Verdict.Explanation; x.Sentence != "" {
		tell("because", "%s", x.Sentence)
		if x.Right != "" {
			tell("in order", "%s", x.Right)
		}
	}
	for _, c := range r.Verdict.Checks {
		if !c.Note && c.Detail != r.Verdict.Explanation.Sentence {
			tell("also", "%s", c.Detail)
		}
	}
	if r.End != nil && r.End.Detail != "" {
		tell("after TLS", "%s", r.End.Detail)
	}
	if s.ClockAhead != "" {
		words := s.ClockAhead + " ahead of"
		if behind, is := strings.CutPrefix(s.ClockAhead, "-"); is {
			words = behind + " behind"
		}
		tell("clocks", "this machine's is %s the gateway's", words)
	}
	w.line("")
}

// verdict says who refused, in one sentence.
func (s *doctorStory) verdict() string {
	who := "the server"
	if s.Record != nil {
		who = "the gateway"
	}
	switch {
	case s.Result == doctor.LetIn && s.Record != nil && s.Record.Verdict.WouldRefuse:
		return "Let in, for as long as the endpoint's policy only reports: enforced, it would refuse this client."
	case s.Result == doctor.LetIn:
		return "Let in."
	case s.Result == doctor.NotTried:
		return "It could not be tried."
	case s.RefusedBy == doctor.SideClient:
		return "Not let in: this client refused " + who + "."
	case s.Record != nil && s.Record.Verdict.Outcome.In():
		return "Not let in: TLS was finished, and the answer inside it refused."
	case s.Record != nil && !s.Record.Verdict.Outcome.In() && s.Record.Verdict.Outcome != termination.OutcomeRefused:
		return "Not let in: the handshake broke off between this client and the gateway."
	}
	return "Not let in: " + who + " refused this client."
}

// printFixes tells the gateway's fixes first: it knows why it refused.
func (s *doctorStory) printFixes(w *visible) {
	var fixes []termination.Fix
	if s.Record != nil {
		fixes = s.Record.Verdict.Explanation.Fixes
		if turn := s.Record.Verdict.Explanation.Turn; turn != "" && s.Result != doctor.LetIn {
			whose := map[termination.Turn]string{termination.TurnClient: "whoever runs this client", termination.TurnOperator: "whoever runs the gateway", termination.TurnCA: "whoever issued the certificate"}[turn]
			w.line("It is the turn of %s.", whose)
		}
	}
	for _, state := range []doctor.State{doctor.Bad, doctor.Warn} { // what keeps the client out comes first
		for _, step := range s.Steps {
			if step.State == state && step.Fix != "" && (s.Record == nil || step.Name != "handshake") {
				fixes = append(fixes, termination.Fix{Text: upperFirst(step.Fix) + "."})
			}
		}
	}
	if len(fixes) == 0 {
		return
	}
	w.line("")
	w.line("What to do")
	told := map[string]bool{}
	for _, f := range fixes {
		if told[f.Text] {
			continue
		}
		told[f.Text] = true
		text := f.Text
		if f.Lowers {
			text += " (This lowers security.)"
		}
		w.wrap("  - ", text)
		if f.Command != "" {
			for l := range strings.SplitSeq(f.Command, "\n") {
				w.line("      %s", l)
			}
		}
		if f.Action != "" && s.Record != nil {
			w.line("      in the dashboard: %s", f.Action)
		}
	}
}

// handOver is what finds this handshake elsewhere.
func (s *doctorStory) handOver() *handOver {
	a := s.Attempts[0]
	const slack = 2 * time.Second
	filter := "since:" + a.Started.Add(-slack).UTC().Format(time.RFC3339) + " until:" + a.Ended.Add(slack).UTC().Format(time.RFC3339)
	if name := serverName(s.Name); name != "" {
		filter = termination.FormatFilterTerm(termination.FilterSNI, name, false) + " " + filter
	}
	line := fmt.Sprintf("%s, from %s to %s", a.Started.UTC().Format("2006-01-02T15:04:05.000Z"), a.Local, a.Remote)
	if s.Client != nil {
		line += ", client certificate SHA-256 " + s.Client.Fingerprint.String()
	}
	if len(a.Server) > 0 {
		line += ", server certificate SHA-256 " + a.Server[0].Fingerprint.String()
	}
	if a.Marker != "" {
		line += ", ALPN marker " + a.Marker
	}
	return &handOver{Filter: filter, Line: line}
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// visible writes lines in which everything invisible was made visible.
type visible struct{ out io.Writer }

func (v *visible) line(words string, args ...any) {
	fmt.Fprintln(v.out, format.Visible(fmt.Sprintf(words, args...)))
}

// wrapAt is how wide a paragraph is, in characters.
const wrapAt = 110

// wrap writes a paragraph behind a label, its further lines below its first.
func (v *visible) wrap(label, text string) {
	text = format.Cut(text, 2000)
	indent := strings.Repeat(" ", len(label))
	line := label
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line += word
		case len([]rune(line))+1+len([]rune(word)) > wrapAt:
			v.line("%s", line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	v.line("%s", line)
}
