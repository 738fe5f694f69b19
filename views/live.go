package views

import (
	"countersign/termination"
	"countersign/views/format"
	"countersign/views/parts"
)

// Live is what the Live page shows.
type Live struct {
	Filter      string    // as typed
	FilterError string    // why it was not understood, in words
	Printed     []Printed // what clients print, if that is what was typed, where nothing matches it
	Chips       []Chip    // one for each term; none when the filter was not understood
	Clear       string    // the page without a filter
	Segments    []Segment
	Saved       []SavedLink
	Save        string // leads to the form that saves this filter; empty: there is nothing to save
	Pulse       Pulse
	Rows        []Row
	Older       string // link to older records; empty: there are none
	Cursor      string // of these
	Searched    string // down to when was searched, where that was not to the end
	Since       string // where nothing matches: from when on, of all that are kept
	Hidden      string // how many handshakes the filter hides since then
	Keep        string // "7 d is deleted": what is no longer kept
	LastSeq     uint64 // the stream goes on from here
}

// Chip is one term of the filter.
type Chip struct {
	Text string // hostile where a value was taken from a handshake
	Href string // the page without it
}

// Printed is a line that clients print, with what it means.
type Printed struct {
	Meaning string
	Href    string // the page with the handshakes that it may stand for
}

// Segment is one of the choices beside the filter.
type Segment struct {
	Label   string
	Href    string
	Current bool
	Failed  bool // beside it stands how many failed
}

// Pulse is what is going on, from counters, or from the records where a filter chooses.
type Pulse struct {
	Total    uint64
	Say      []Word
	Facts    string // the line under the sentence
	Periods  []Segment
	Fixed    bool      // the filter says when it ends
	Live     bool      // the stream's seconds go on with the bars
	Since    int64     // when the first bar begins, in seconds since 1970
	Step     int       // seconds of a bar
	Count    int       // of bars, those included in which nothing happened
	Series   string    // for the script
	Drawn    [3]string // paths: let in, passed through, failed
	From, To string    // ends of the axis
	Span     string    // both in words
	Numbers  []Number  // the bars in which something happened, newest first
	WhySince string    // of Why and Failed
	Why      []Why
	Failed   string // how many handshakes failed; empty: none
	Demands  bool   // an endpoint demands a certificate
}

// Word is a part of a sentence.
type Word struct {
	Text string
	Tone parts.Tone // empty: none
}

// Number is one bar in figures.
type Number struct{ Time, In, Passed, Failed string }

// Why is one reason for failures.
type Why struct {
	Reason termination.Reason
	Title  string
	Count  uint64
	Share  string // of the most frequent one, as "36.0%"
	Href   string
	On     bool // the filter asks for it
}

func noMatch(l Live) string {
	if l.Since == "" {
		return "No match"
	}
	return "No match since " + l.Since
}

func hiddenWords(l Live) string {
	switch l.Hidden {
	case "", "0":
		return "No handshake is stored that the filter could hide."
	case "1":
		return "1 other handshake is hidden."
	}
	return l.Hidden + " other handshakes are hidden."
}

// Row is one handshake of the list.
type Row struct {
	ID      string
	Href    string
	Time    string // local, with milliseconds
	Exact   string // UTC
	Glyph   parts.Glyph
	Client  string // best name; hostile text; empty: unknown
	Address string
	Asked   string // server name; hostile text
	Goes    string // name of the endpoint, where it is not plain from the server name
	Keys    string
	PQ      bool
	Tone    parts.Tone
	Outcome string
	MS      string
	Failed  bool
	Marked  termination.Mark
}

// RowOf puts a record into a row.
func RowOf(clock format.Clock, h *termination.Handshake) Row {
	r := Row{
		ID: h.ID, Href: "/handshakes/" + h.ID, Time: clock.Time(h.Time), Exact: clock.Exact(h.Time),
		Client: h.Client.Name, Address: h.Peer.Addr().String(), Goes: h.Endpoint,
		Tone: parts.VerdictTone(h.Verdict), Failed: !h.Verdict.Outcome.In(),
		MS: format.Milliseconds(h.Duration), Outcome: outcomeLine(h),
	}
	resumed := false
	if h.Hello != nil {
		r.Asked = h.Hello.ServerName
	}
	if h.Chosen != nil {
		resumed, r.PQ = h.Chosen.Resumed, h.Chosen.PostQuantum
		r.Keys = keysWord(h.Chosen.Group, h.Chosen.PostQuantum)
	}
	r.Glyph = parts.GlyphOf(h.Verdict.Outcome, h.Verdict.Beat, resumed)
	return r
}

// outcomeLine says how a handshake ended, in the words of the list. static/list.js has the same rule.
func outcomeLine(h *termination.Handshake) string {
	title := reasonTitle(h.Verdict.Reason, h.Verdict.Outcome.In())
	if h.Verdict.WouldRefuse {
		return "let in, would be refused · " + title
	}
	switch h.Verdict.Outcome {
	case termination.OutcomeVerified:
		if title != "" {
			return "verified · " + title
		}
		if h.Chosen != nil && h.Chosen.Resumed {
			return "verified, resumed"
		}
		return "verified"
	case termination.OutcomeOpen:
		if title != "" {
			return "open · " + title
		}
		return "open"
	case termination.OutcomePassed:
		return "passed through, sealed"
	default:
		if title != "" {
			return title
		}
		return parts.OutcomeWords(h.Verdict.Outcome)
	}
}

// reasonTitle is what a reason is called. One that is known from those who were let in says so in its title, which is
// not true of a sealed handshake that got nowhere.
func reasonTitle(r termination.Reason, in bool) string {
	if r == termination.ReasonUpstreamDown && !in {
		return "The service behind does not answer"
	}
	info, ok := r.Info()
	if !ok {
		return string(r)
	}
	return info.Title
}

// FailureTitle is what a reason for a failure is called.
func FailureTitle(r termination.Reason) string { return reasonTitle(r, false) }

// keysWord names a key exchange in one word. static/list.js has the same rule.
func keysWord(group uint16, pq bool) string {
	if pq {
		return "hybrid"
	}
	switch group {
	case 29:
		return "X25519"
	case 23:
		return "P-256"
	case 24:
		return "P-384"
	case 25:
		return "P-521"
	case 0:
		return "–"
	}
	return "other"
}

// LiveKeys are the single keys of the Live page. static/live.js answers them.
func LiveKeys() []Key {
	return []Key{
		{[]string{"space"}, "pause and resume everything"},
		{[]string{"j", "k", "↓", "↑"}, "next and previous handshake"},
		{[]string{"n", "N"}, "next and previous failure"},
		{[]string{"Enter"}, "open it"},
		{[]string{"→", "←"}, "unfold and fold repeats"},
		{[]string{"Home"}, "back to the newest"},
		{[]string{"f", "-"}, "filter by the value under the pointer, else its reason or client; or shut it out"},
		{[]string{"F"}, "filter off and on"},
		{[]string{"/"}, "to the filter"},
		{[]string{"x"}, "mark it"},
		{[]string{"y"}, "copy its link"},
		{[]string{"c"}, "copy a curl command that does the same"},
		{[]string{"e"}, "export what is filtered"},
		{[]string{"m"}, "mute its client in this browser"},
	}
}
