package parts

import (
	"fmt"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"countersign/termination"
)

// Tone is what a colour says; a shape or a word always says it too.
type Tone string

// The tones.
const (
	Plain  Tone = ""     // neither good nor bad
	OK     Tone = "ok"   // verified, holds
	Bad    Tone = "bad"  // refused, broken
	Warn   Tone = "warn" // ends soon, laxer than it could be, plaintext
	Sealed Tone = "opq"  // sealed for us, waiting
)

// OutcomeTone returns the tone of an outcome.
func OutcomeTone(o termination.Outcome) Tone {
	switch o {
	case termination.OutcomeVerified, termination.OutcomeOpen:
		return OK
	case termination.OutcomePassed:
		return Sealed
	default:
		return Bad
	}
}

// VerdictTone returns the tone of a verdict: that of its outcome, unless the client is only in because nobody enforces yet.
func VerdictTone(v termination.Verdict) Tone {
	if v.WouldRefuse {
		return Warn
	}
	return OutcomeTone(v.Outcome)
}

// VerdictWords names what was decided as pages write it.
func VerdictWords(v termination.Verdict) string {
	if v.WouldRefuse {
		return "let in, would be refused"
	}
	return OutcomeWords(v.Outcome)
}

// OutcomeMark returns the shape that says the same as the tone.
func OutcomeMark(o termination.Outcome) string {
	if o.In() {
		return "●"
	}
	return "✕"
}

// OutcomeWords names an outcome as pages write it.
func OutcomeWords(o termination.Outcome) string {
	switch o {
	case termination.OutcomeVerified:
		return "verified"
	case termination.OutcomeOpen:
		return "open"
	case termination.OutcomePassed:
		return "passed through"
	case termination.OutcomeRefused:
		return "refused"
	case termination.OutcomeClientRefused:
		return "client refused us"
	case termination.OutcomeBrokenOff:
		return "broken off"
	}
	return string(o)
}

// BeatWords names a beat.
func BeatWords(b termination.Beat) string {
	switch b {
	case termination.BeatHello:
		return "hello"
	case termination.BeatAgreement:
		return "agreement"
	case termination.BeatServerCert:
		return "our certificate"
	case termination.BeatClientCert:
		return "client certificate"
	case termination.BeatEstablished:
		return "open"
	}
	return "nothing"
}

// Glyph is one of the drawn handshakes, named by the symbol that draws it and by its text alternative.
type Glyph struct {
	Symbol string // id in icons.svg
	Words  string
}

// GlyphOf chooses the drawing of a handshake. The scripts choose by the same rule: see static/beats.js.
func GlyphOf(o termination.Outcome, b termination.Beat, resumed bool) Glyph {
	switch o {
	case termination.OutcomeVerified:
		if resumed {
			return Glyph{"beats-resumed", "verified, session resumed"}
		}
		return Glyph{"beats-verified", "verified"}
	case termination.OutcomeOpen:
		if resumed {
			return Glyph{"beats-resumed", "open, session resumed"}
		}
		return Glyph{"beats-open", "open, no verified client certificate"}
	case termination.OutcomePassed:
		return Glyph{"beats-passed", "passed through, not opened"}
	default:
		b = min(max(b, termination.BeatHello), termination.BeatEstablished)
		return Glyph{"beats-broken-" + strconv.Itoa(int(b)), "failed at " + BeatWords(b)}
	}
}

// Waiting is the drawing of a handshake that has not come yet.
func Waiting() Glyph { return Glyph{"beats-waiting", "waiting for a handshake"} }

// Life is the validity of a certificate on a bar.
type Life struct {
	From, Until, Now time.Time
	Tone             Tone   // Plain: chosen by [LifeTone]
	Words            string // the text alternative; empty: how many days of how many are used
}

// LifeTone warns as [termination.LifeWarnings] says, and of what is not valid now.
func LifeTone(from, until, now time.Time) Tone {
	warn, urgent := termination.LifeWarnings(from, until)
	switch {
	case !now.Before(until) || now.Before(from) || now.After(urgent):
		return Bad
	case now.After(warn):
		return Warn
	}
	return OK
}

func (l Life) tone() Tone {
	if l.Tone != Plain {
		return l.Tone
	}
	return LifeTone(l.From, l.Until, l.Now)
}

// used is the elapsed part of the life, from 0 to 1.
func (l Life) used() float64 {
	total := l.Until.Sub(l.From)
	if total <= 0 {
		return 1
	}
	return min(max(float64(l.Now.Sub(l.From))/float64(total), 0), 1)
}

func (l Life) words() string {
	if l.Words != "" {
		return l.Words
	}
	const day = 24 * time.Hour
	total := max(int(l.Until.Sub(l.From)/day), 0)
	switch {
	case l.Now.After(l.Until):
		return fmt.Sprintf("Validity of %d days, over for %d days", total, int(l.Now.Sub(l.Until)/day))
	case l.Now.Before(l.From):
		return fmt.Sprintf("Validity of %d days, not begun", total)
	}
	return fmt.Sprintf("%d of %d days used", int(l.Now.Sub(l.From)/day), total)
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', 1, 64) + "%" }

// ChainState says how one certificate of a chain did.
type ChainState string

// The states of a certificate in a chain.
const (
	ChainGood    ChainState = "check"  // holds
	ChainBroken  ChainState = "broken" // here it failed
	ChainAnchor  ChainState = "anchor" // trusted: the chain ends here
	ChainWarn    ChainState = "warn"   // accepted, worth knowing
	ChainMissing ChainState = "unseen" // neither sent nor known
)

func (s ChainState) words() string {
	switch s {
	case ChainGood:
		return "holds"
	case ChainBroken:
		return "failed"
	case ChainAnchor:
		return "trust anchor"
	case ChainWarn:
		return "noted"
	default:
		return "missing"
	}
}

// ChainItem is one certificate of a chain, from the leaf to the anchor.
type ChainItem struct {
	State   ChainState
	Name    string // hostile text
	Href    string // of its page; empty: none
	Tag     string // its role, such as "sent by client"
	TagTone Tone
	Details []string // lines below the name; hostile text
	Life    *Life
}

// Fact is a name and what a machine said about it.
type Fact struct {
	Name  string
	Value string // hostile text
	Note  string // our own word after it
	Tone  Tone   // of the note
	Key   string // of the filter that the value is one of; empty: none
	Href  string // the handshakes with this value
}

// Option is one choice of a select, a row of radios or a segmented control.
type Option struct {
	Value    string
	Label    string
	Hint     string
	Selected bool
}

// Input is one field of a form.
type Input struct {
	Name         string
	ID           string // empty: "f-" and the name
	Label        string
	Hint         string
	Value        string
	Error        string // in words, what is wrong and what to do
	Type         string // empty: "text"
	Placeholder  string
	Autocomplete string // empty: "off"
	Rows         int    // of an [Area]; 0: by the stylesheet
	Words        bool   // what is typed is words, not machine text
	Required     bool
	ReadOnly     bool
}

func (f Input) id() string {
	if f.ID != "" {
		return f.ID
	}
	return "f-" + f.Name
}

func (f Input) describedBy() string {
	s := ""
	if f.Hint != "" {
		s = f.id() + "-hint"
	}
	if f.Error != "" {
		if s != "" {
			s += " "
		}
		s += f.id() + "-error"
	}
	return s
}

// Tab is one entry of a row of tabs that are pages of their own.
type Tab struct {
	Label   string
	Href    string
	Count   string // empty: none
	Current bool
}

func or(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// described ties a field to its hint and its error.
func described(f Input) templ.Attributes {
	a := templ.Attributes{}
	if d := f.describedBy(); d != "" {
		a["aria-describedby"] = d
	}
	if f.Error != "" {
		a["aria-invalid"] = "true"
	}
	return a
}
