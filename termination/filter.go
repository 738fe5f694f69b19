package termination

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Filter selects handshakes. It is a list of terms that must all hold; the zero Filter selects every handshake.
// [ParseFilter] reads one from text. It is plain data, so that the history can say the same in SQL.
type Filter struct {
	Terms []FilterTerm
}

// FilterTerm is one condition: the handshake has one of the values, or, negated, none of them.
type FilterTerm struct {
	Key    FilterKey
	Negate bool
	Values []FilterValue // at least one; exactly one for since and until
}

// FilterKey says what a term looks at.
type FilterKey string

// The keys of the filter language. A value of a text key is compared whole, without regard to the case of ASCII
// letters; an asterisk outside quotes stands for any run of characters.
const (
	FilterText     FilterKey = ""         // bare word: held by the client's name, server name, address or the reason's words
	FilterOutcome  FilterKey = "outcome"  // Verdict.Outcome
	FilterReason   FilterKey = "reason"   // Verdict.Reason
	FilterBeat     FilterKey = "beat"     // Verdict.Beat
	FilterEndpoint FilterKey = "endpoint" // text: Endpoint
	FilterSNI      FilterKey = "sni"      // text: Hello.ServerName
	FilterClient   FilterKey = "client"   // text: Client.Name or Client.Full
	FilterIdentity FilterKey = "identity" // text: Client.Identity
	FilterCA       FilterKey = "ca"       // text: Client.Authority or Client.Issuer
	FilterFP       FilterKey = "fp"       // beginning of Client.Fingerprint
	FilterIP       FilterKey = "ip"       // Peer's address, or a network that it is in
	FilterTLS      FilterKey = "tls"      // Chosen.Version
	FilterKX       FilterKey = "kx"       // Chosen.Group
	FilterIs       FilterKey = "is"       // pq: Chosen.PostQuantum; would_refuse: Verdict.WouldRefuse; noise: Noise; new: New
	FilterALPN     FilterKey = "alpn"     // text: Chosen.ALPN
	FilterJA4      FilterKey = "ja4"      // text: Hello.JA4
	FilterMS       FilterKey = "ms"       // Duration
	FilterSince    FilterKey = "since"    // Time, at or after
	FilterUntil    FilterKey = "until"    // Time, before
)

// FilterKeys lists the keys that are written before a colon, in the order in which they are offered.
func FilterKeys() []FilterKey {
	return []FilterKey{
		FilterOutcome, FilterReason, FilterBeat, FilterEndpoint, FilterSNI, FilterClient, FilterIdentity, FilterCA, FilterFP, FilterIP,
		FilterTLS, FilterKX, FilterIs, FilterALPN, FilterJA4, FilterMS, FilterSince, FilterUntil,
	}
}

// The values of the key "is".
const (
	FilterPQ          = "pq"           // its key exchange is post-quantum
	FilterWouldRefuse = "would_refuse" // let in only because its policy is report_only
	FilterNoise       = "noise"        // a port scan, a health check, plain HTTP, half a ClientHello
	FilterNew         = "new"          // its certificate was let in as verified for the first time
	FilterMarked      = "marked"       // somebody marked it; the live stream, which shows what has just come, knows no marks
)

// FilterFailed is the group word of the key "outcome" for those that were not let in.
const FilterFailed = "failed"

// FilterValue is one value of a term, read. Which fields are set depends on the term's key.
type FilterValue struct {
	Text    string // canonical spelling, without quotes; of fp: the hex digits it begins with, in lower case
	Pattern bool   // text keys and bare words: every "*" in Text stands for any run of characters

	Outcomes []Outcome     // outcome: those that Text names
	Reasons  []Reason      // reason: the one named; bare word: those whose code or title holds it
	Number   uint16        // beat; tls and kx: the number on the wire
	Prefix   netip.Prefix  // ip: masked; of one address: all its bits
	Compare  Comparison    // ms
	Duration time.Duration // ms: what to compare with; since and until: how long before now, 0 for a fixed time
	Time     time.Time     // since and until, in UTC
}

// Comparison is the sign before a number.
type Comparison string

// The comparisons of the key "ms".
const (
	Less           Comparison = "<"
	LessOrEqual    Comparison = "<="
	Greater        Comparison = ">"
	GreaterOrEqual Comparison = ">="
)

// searchedText is how many bytes of a text from the wire a filter looks at: names on the wire are at most 255 bytes
// long, and what is longer was made to cost time.
const searchedText = 1 << 10

// Match reports whether the filter selects h. It may be called by several goroutines at once.
func (f Filter) Match(h *Handshake) bool {
	for i := range f.Terms {
		t := &f.Terms[i]
		if t.match(h) == t.Negate {
			return false
		}
	}
	return true
}

func (t *FilterTerm) match(h *Handshake) bool {
	for i := range t.Values {
		if t.Values[i].match(t.Key, h) {
			return true
		}
	}
	return false
}

func (v *FilterValue) match(key FilterKey, h *Handshake) bool {
	switch key {
	case FilterText:
		return v.matchWord(h)
	case FilterOutcome:
		return slices.Contains(v.Outcomes, h.Verdict.Outcome)
	case FilterReason:
		return slices.Contains(v.Reasons, h.Verdict.Reason)
	case FilterBeat:
		return h.Verdict.Beat == Beat(v.Number)
	case FilterEndpoint:
		return v.matchText(h.Endpoint)
	case FilterSNI:
		return v.matchText(h.serverName())
	case FilterClient:
		return v.matchText(h.Client.Name) || v.matchText(h.Client.Full)
	case FilterIdentity:
		return v.matchText(h.Client.Identity)
	case FilterCA:
		return v.matchText(h.Client.Authority) || v.matchText(h.Client.Issuer)
	case FilterFP:
		return h.Client.Fingerprint != Fingerprint{} && h.Client.Fingerprint.hasPrefix(v.Text)
	case FilterIP:
		return v.Prefix.Contains(h.Peer.Addr().Unmap().WithZone(""))
	case FilterTLS:
		return h.Chosen != nil && h.Chosen.Version == v.Number
	case FilterKX:
		return h.Chosen != nil && h.Chosen.Group == v.Number
	case FilterIs:
		return v.matchIs(h)
	case FilterALPN:
		return h.Chosen != nil && v.matchText(h.Chosen.ALPN)
	case FilterJA4:
		return h.Hello != nil && v.matchText(h.Hello.JA4)
	case FilterMS:
		return v.Compare.holds(h.Duration, v.Duration)
	case FilterSince:
		return !h.Time.Before(v.Time)
	case FilterUntil:
		return h.Time.Before(v.Time)
	}
	return false
}

func (v *FilterValue) matchIs(h *Handshake) bool {
	switch v.Text {
	case FilterPQ:
		return h.Chosen != nil && h.Chosen.PostQuantum
	case FilterWouldRefuse:
		return h.Verdict.WouldRefuse
	case FilterNew:
		return h.New
	case FilterNoise:
		return h.Noise != ""
	}
	return false
}

// matchWord looks a bare word up where people look: who, which name, from where, why.
func (v *FilterValue) matchWord(h *Handshake) bool {
	var buf [64]byte
	return slices.Contains(v.Reasons, h.Verdict.Reason) ||
		v.within(h.Client.Name) || v.within(h.Client.Full) || v.within(h.serverName()) ||
		v.within(string(h.Peer.Addr().Unmap().AppendTo(buf[:0])))
}

// matchText compares a whole text. An empty text is only matched by an empty value, so that client:* means "any".
func (v *FilterValue) matchText(s string) bool {
	s = clip(s)
	if v.Pattern {
		return s != "" && globFold(v.Text, s, false)
	}
	return equalFold(v.Text, s)
}

// within reports whether s holds the value.
func (v *FilterValue) within(s string) bool {
	s = clip(s)
	if v.Pattern {
		return globFold(v.Text, s, true)
	}
	for i := 0; i+len(v.Text) <= len(s); i++ {
		if hasPrefixFold(s[i:], v.Text) {
			return true
		}
	}
	return false
}

func (h *Handshake) serverName() string {
	if h.Hello == nil {
		return ""
	}
	return h.Hello.ServerName
}

func (f *Fingerprint) hasPrefix(digits string) bool {
	const hexDigits = "0123456789abcdef"
	for i := range min(len(digits), 2*len(f)) {
		nibble := f[i/2] >> 4
		if i%2 == 1 {
			nibble = f[i/2] & 15
		}
		if digits[i] != hexDigits[nibble] {
			return false
		}
	}
	return true
}

func (c Comparison) holds(d, limit time.Duration) bool {
	switch c {
	case Less:
		return d < limit
	case LessOrEqual:
		return d <= limit
	case Greater:
		return d > limit
	case GreaterOrEqual:
		return d >= limit
	}
	return false
}

func clip(s string) string { return s[:min(len(s), searchedText)] }

// globFold reports whether pattern, in which "*" stands for any run of bytes, describes s as a whole, or, within, some
// part of it.
func globFold(pattern, s string, within bool) bool {
	p, i := 0, 0
	again, mark := -1, 0 // where to go on in the pattern, and in s, once the last asterisk has taken one byte more
	if within {
		again = 0
	}
	for {
		switch {
		case p == len(pattern) && (within || i == len(s)):
			return true
		case p < len(pattern) && pattern[p] == '*':
			p++
			again, mark = p, i
		case p < len(pattern) && i < len(s) && fold(pattern[p]) == fold(s[i]):
			p++
			i++
		case again >= 0 && mark < len(s):
			mark++
			p, i = again, mark
		default:
			return false
		}
	}
}

func equalFold(a, b string) bool { return len(a) == len(b) && hasPrefixFold(a, b) }

func hasPrefixFold(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if fold(s[i]) != fold(prefix[i]) {
			return false
		}
	}
	return true
}

// fold makes ASCII letters lower case and leaves the rest alone, as SQLite's LIKE and NOCASE do.
func fold(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// String returns the canonical text of f, which [ParseFilter] reads back to the same filter.
func (f Filter) String() string {
	var b strings.Builder
	for i, t := range f.Terms {
		if i > 0 {
			b.WriteByte(' ')
		}
		t.write(&b)
	}
	return b.String()
}

// String returns the canonical text of one term, as a chip shows it.
func (t FilterTerm) String() string {
	var b strings.Builder
	t.write(&b)
	return b.String()
}

func (t FilterTerm) write(b *strings.Builder) {
	if t.Negate {
		b.WriteByte('-')
	}
	if t.Key != FilterText {
		b.WriteString(string(t.Key))
		b.WriteByte(':')
	}
	for i, v := range t.Values {
		if i > 0 {
			b.WriteByte(',')
		}
		bare := t.Key == FilterText && i == 0
		if v.Pattern || !needsQuotes(v.Text, bare) {
			b.WriteString(v.Text)
		} else {
			writeQuoted(b, v.Text)
		}
	}
}

// FormatFilterTerm returns the text of a term that selects exactly this value, whatever characters it has; for pages
// that offer "only this" and "not this".
func FormatFilterTerm(key FilterKey, value string, negate bool) string {
	return FilterTerm{Key: key, Negate: negate, Values: []FilterValue{{Text: value}}}.String()
}

// needsQuotes reports whether text would be read as something else without quotes. At the start of a term a minus
// sign and a colon have a meaning, too.
func needsQuotes(text string, startsTerm bool) bool {
	if text == "" || strings.ContainsAny(text, `,"*`) || strings.ContainsFunc(text, unicode.IsSpace) {
		return true
	}
	return startsTerm && (text[0] == '-' || strings.Contains(text, ":"))
}

func writeQuoted(b *strings.Builder, text string) {
	b.WriteByte('"')
	for i := range len(text) {
		if text[i] == '"' || text[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	b.WriteByte('"')
}
