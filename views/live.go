package views

import (
	"countersign/termination"
	"countersign/views/format"
	"countersign/views/parts"
)

// Live is what the Live page shows.
type Live struct {
	Filter      string // as typed
	FilterError string // why it was not understood, in words
	Segments    []Segment
	Saved       []SavedLink
	Save        string // leads to the form that saves this filter; empty: there is nothing to save
	Pulse       Pulse
	Rows        []Row
	Older       string // link to older records; empty: there are none
	Searched    string // down to when was searched, where that was not to the end
	Keep        string // how long records are kept
	LastSeq     uint64 // the stream goes on from here
}

// Segment is one of the choices beside the filter.
type Segment struct {
	Label   string
	Href    string
	Current bool
	Failed  bool // beside it stands how many failed
}

// Pulse is what is going on, from counters.
type Pulse struct {
	Total    uint64 // of the last two minutes
	Verified string // share of them, as "93.1 %"; empty: none
	Period   string // of Why and Failed
	Young    int    // seconds until two minutes are counted; 0: they are
	Failing  int    // clients that cannot get in
	Failed   string // how many handshakes failed in the last 15 minutes; empty: none
	Facts    string // the line under the sentence
	Bars     []Bar
	Why      []Why
	Demands  bool // an endpoint demands a certificate
}

// Bar is one second.
type Bar struct{ OK, Passed, Failed uint64 }

// Why is one reason for failures of the last 15 minutes.
type Why struct {
	Reason termination.Reason
	Title  string
	Count  uint64
	Share  string // of the most frequent one, as "36.0%"
	Href   string
	On     bool // the filter asks for it
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
		{[]string{"space"}, "pause and resume"},
		{[]string{"j", "k"}, "next and previous handshake"},
		{[]string{"n", "N"}, "next and previous failure"},
		{[]string{"Enter"}, "open it"},
		{[]string{"Home"}, "back to the newest"},
		{[]string{"f", "-"}, "filter by its reason or client, or shut it out"},
		{[]string{"y"}, "copy its link"},
		{[]string{"/"}, "to the filter"},
	}
}
