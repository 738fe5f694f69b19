package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"countersign/server/client"
	"countersign/termination"
	"countersign/termination/wire"
	"countersign/views/format"
)

// Widths in columns. Below roomy a row goes without the key exchange; below narrow it takes two lines.
const (
	roomy       = 130
	narrow      = 100
	timeWidth   = 12
	beatsWidth  = 9
	keysWidth   = 7
	msWidth     = 8
	columnSpace = 2
)

// textRows prints a row for people. Colours repeat what shapes and words say.
type textRows struct {
	out     io.Writer
	width   func() int // of the terminal; 0: there is none
	colour  bool
	unicode bool
	zone    *time.Location
}

// Colours (ECMA-48, section 8.3.117).
const (
	colourOK     = "\x1b[32m"
	colourBad    = "\x1b[31m"
	colourWarn   = "\x1b[33m"
	colourSealed = "\x1b[34m"
	colourDim    = "\x1b[2m"
	colourEnd    = "\x1b[0m"
)

func (r *textRows) handshake(e *client.Event) error {
	return r.row(e, outcomeWords(e))
}

func (r *textRows) update(e *client.Event) error {
	return r.row(e, "then: "+reasonWords(e))
}

func (r *textRows) row(e *client.Event, outcome string) error {
	width := r.width()
	at := e.Time.In(r.zone).Format("15:04:05.000")
	ms := fmt.Sprintf("%*s", msWidth, strings.ReplaceAll(format.Milliseconds(e.Duration), "\u2009", ""))
	colour := outcomeColour(e)
	beats := r.paint(colour, r.beats(e))
	if width == 0 { // a file or a pipe: nothing is cut
		line := fmt.Sprintf("%s  %s  %s  %-28s  %-32s  %-*s  %s", at, beats, ms, clientWords(e), askedWords(e), keysWidth, keysWords(e), outcome)
		return r.print(format.Visible(line))
	}
	if width < narrow {
		// Two lines: who, and below it what for and how it ended.
		const indent = 8 + columnSpace
		who := pad(clientWords(e), width-indent-beatsWidth-msWidth-2*columnSpace)
		asked := ""
		if words := askedWords(e); words != "–" {
			asked = format.Cut(words, max((width-indent)/2, width-indent-3-utf8.RuneCountInString(outcome))) + " · "
		}
		outcome = format.Cut(outcome, max(1, width-indent-utf8.RuneCountInString(asked)))
		return r.print(r.paint(colourDim, at[:8]) + "  " + beats + ms + "  " + who + "\n" + strings.Repeat(" ", indent) + asked + r.paint(colour, outcome))
	}
	rest, keys := width-timeWidth-beatsWidth-msWidth-5*columnSpace, ""
	if width >= roomy {
		keys = pad(keysWords(e), keysWidth) + "  "
		rest -= keysWidth + columnSpace
	}
	who, asked := rest*27/100, rest*30/100
	return r.print(r.paint(colourDim, at) + "  " + beats + "  " + ms + "  " + pad(clientWords(e), who) + "  " + pad(askedWords(e), asked) + "  " + keys +
		r.paint(colour, format.Cut(outcome, rest-who-asked)))
}

func (r *textRows) gap(m missing) error {
	count := format.Count(int(min(m.Count, 1<<40)), "handshake", "handshakes")
	if m.AtMost {
		count = "up to " + count
	}
	words := strings.ReplaceAll(count, "\u2009", "") + " not shown: " + m.Why
	if width := r.width(); width > 0 {
		words = format.Cut(words, max(1, width-timeWidth-columnSpace))
	}
	return r.print(r.paint(colourDim, strings.Repeat(" ", timeWidth)) + "  " + r.paint(colourWarn, words))
}

func (r *textRows) print(line string) error {
	if !r.unicode {
		line = strings.Map(plain, line)
	}
	if _, err := io.WriteString(r.out, line+"\n"); err != nil {
		return fmt.Errorf("print a handshake: %w", err)
	}
	return nil
}

// plain replaces our own signs where the locale may not have them. Names keep theirs.
func plain(c rune) rune {
	switch c {
	case '·', '–':
		return '-'
	case '…':
		return '~'
	case '⟨':
		return '<'
	case '⟩':
		return '>'
	}
	return c
}

func (r *textRows) paint(colour, s string) string {
	if !r.colour || colour == "" {
		return s
	}
	return colour + s + colourEnd
}

// pad makes a text exactly n columns wide, everything invisible in it made visible.
func pad(s string, n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%-*s", n, format.Cut(s, n))
}

// beats draws the five beats, as the dashboard does: passed stops on a wire, the last one filled; a cross where it broke,
// dots for what was not reached; a resumed session without the stops that it skips; a band where it passed sealed.
func (r *textRows) beats(e *client.Event) string {
	pick := func(unicode, ascii string) string {
		if r.unicode {
			return unicode
		}
		return ascii
	}
	resumed := e.Chosen != nil && e.Chosen.Resumed
	switch o := e.Verdict.Outcome; {
	case o == termination.OutcomePassed:
		return pick("●╱╱╱╱╱╱╱╱", "*////////")
	case o.In() && resumed:
		return pick("○─○┄┄┄┄┄●", "o-o.....*")
	case o == termination.OutcomeVerified:
		return pick("○─○─○─○─●", "o-o-o-o-*")
	case o == termination.OutcomeOpen:
		return pick("○─○─○─╌─●", "o-o-o- -*")
	}
	broke := int(min(max(e.Verdict.Beat, termination.BeatHello), termination.BeatEstablished))
	dots := int(termination.BeatEstablished) - broke
	return strings.Repeat(pick("○─", "o-"), broke-1) + pick("✕", "x") + strings.Repeat(pick(" ·", " ."), dots)
}

func outcomeColour(e *client.Event) string {
	switch o := e.Verdict.Outcome; {
	case e.Verdict.WouldRefuse:
		return colourWarn
	case o == termination.OutcomeVerified, o == termination.OutcomeOpen:
		return colourOK
	case o == termination.OutcomePassed:
		return colourSealed
	default:
		return colourBad
	}
}

// outcomeWords says how a handshake ended, in the words of the Live page.
func outcomeWords(e *client.Event) string {
	words := map[termination.Outcome]string{
		termination.OutcomeVerified: "verified", termination.OutcomeOpen: "open", termination.OutcomePassed: "passed through",
		termination.OutcomeRefused: "refused", termination.OutcomeClientRefused: "client refused us", termination.OutcomeBrokenOff: "broken off",
	}[e.Verdict.Outcome]
	if words == "" {
		words = string(e.Verdict.Outcome)
	}
	if e.Verdict.WouldRefuse {
		words = "let in, would be refused"
	}
	title := reasonWords(e)
	switch {
	case title != "" && !e.Verdict.Outcome.In():
		words = title
	case title != "":
		words += ": " + title
	case e.Chosen != nil && e.Chosen.Resumed:
		words += ", resumed"
	}
	if e.Proof {
		words += " (proof)"
	}
	return words
}

func reasonWords(e *client.Event) string {
	if e.Verdict.Reason == "" {
		return ""
	}
	if e.Title == "" {
		return string(e.Verdict.Reason)
	}
	return e.Title
}

func clientWords(e *client.Event) string {
	name, address := e.Client.Name, ""
	if e.Peer.IsValid() {
		address = e.Peer.Addr().Unmap().String()
	}
	switch {
	case name == "" && address == "":
		return "unknown"
	case name == "":
		return address
	case address == "":
		return name
	}
	return name + " " + address
}

func askedWords(e *client.Event) string {
	asked := ""
	if e.Hello != nil {
		asked = e.Hello.ServerName
	}
	switch {
	case asked == "" && e.Endpoint == "":
		return "–"
	case asked == "":
		return "(no name) " + e.Endpoint
	case e.Endpoint == "":
		return asked
	}
	return asked + " " + e.Endpoint
}

func keysWords(e *client.Event) string {
	switch {
	case e.Chosen == nil || e.Chosen.Group == 0:
		return "–"
	case e.Chosen.PostQuantum:
		return "hybrid"
	}
	return wire.GroupName(e.Chosen.Group)
}

// jsonRows prints documents for programs.
type jsonRows struct{ out io.Writer }

// tailDocument is a line of --json.
type tailDocument struct {
	Kind        string              `json:"kind"` // handshake, update, gap
	ID          string              `json:"id"`
	Seq         uint64              `json:"seq"`
	Time        time.Time           `json:"time"`
	Outcome     termination.Outcome `json:"outcome"`
	Reason      termination.Reason  `json:"reason,omitempty"`
	Title       string              `json:"title,omitempty"`
	Beat        termination.Beat    `json:"beat"`
	WouldRefuse bool                `json:"would_refuse,omitempty"`
	Endpoint    string              `json:"endpoint,omitempty"`
	ServerName  string              `json:"server_name,omitempty"`
	Client      string              `json:"client,omitempty"`
	Fingerprint string              `json:"fingerprint_begins,omitempty"`
	Authority   string              `json:"authority,omitempty"`
	Address     string              `json:"address,omitempty"`
	Version     string              `json:"version,omitempty"`
	CipherSuite string              `json:"cipher_suite,omitempty"`
	Group       string              `json:"group,omitempty"`
	PostQuantum bool                `json:"post_quantum"`
	ALPN        string              `json:"alpn,omitempty"`
	JA4         string              `json:"ja4,omitempty"`
	Resumed     bool                `json:"resumed,omitempty"`
	DurationMS  float64             `json:"duration_ms"`
	Proof       bool                `json:"proof,omitempty"`
}

func (r *jsonRows) handshake(e *client.Event) error { return r.document(e, "handshake") }

func (r *jsonRows) update(e *client.Event) error { return r.document(e, "update") }

func (r *jsonRows) gap(m missing) error {
	return r.print(struct {
		Kind string `json:"kind"`
		missing
	}{"gap", m})
}

func (r *jsonRows) document(e *client.Event, kind string) error {
	d := tailDocument{
		Kind: kind, ID: e.ID, Seq: e.Seq, Time: e.Time.UTC(), Outcome: e.Verdict.Outcome, Reason: e.Verdict.Reason, Title: e.Title,
		Beat: e.Verdict.Beat, WouldRefuse: e.Verdict.WouldRefuse, Endpoint: e.Endpoint, Client: e.Client.Name, Fingerprint: e.Fingerprint,
		Authority: e.Client.Authority, DurationMS: float64(e.Duration.Microseconds()) / 1000, Proof: e.Proof,
	}
	if e.Peer.IsValid() {
		d.Address = e.Peer.Addr().Unmap().String()
	}
	if e.Hello != nil {
		d.ServerName, d.JA4 = e.Hello.ServerName, e.Hello.JA4
	}
	if c := e.Chosen; c != nil {
		d.Version, d.CipherSuite, d.ALPN = wire.VersionName(c.Version), wire.CipherSuiteName(c.CipherSuite), c.ALPN
		d.PostQuantum, d.Resumed = c.PostQuantum, c.Resumed
		if c.Group != 0 {
			d.Group = wire.GroupName(c.Group)
		}
	}
	return r.print(d)
}

func (r *jsonRows) print(v any) error {
	var text bytes.Buffer
	encode := json.NewEncoder(&text)
	encode.SetEscapeHTML(false)
	if err := encode.Encode(v); err != nil {
		return fmt.Errorf("print a handshake: %w", err)
	}
	if _, err := r.out.Write(format.JSON(text.Bytes())); err != nil {
		return fmt.Errorf("print a handshake: %w", err)
	}
	return nil
}
