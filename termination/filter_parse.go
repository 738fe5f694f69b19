package termination

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of a filter's text.
const (
	maxFilterLength = 1 << 10
	maxFilterTerms  = 32
	maxFilterValues = 100 // of all terms: every handshake is held against each, by everybody who watches
)

// FilterError says where and why a text is no filter.
type FilterError struct {
	Position int    // of the byte where it goes wrong, counted from 1
	Message  string // what was found and what was expected, in words
}

// Error returns position and message.
func (e *FilterError) Error() string { return fmt.Sprintf("position %d: %s", e.Position, e.Message) }

// ParseFilter reads the filter language: terms "key:value" or bare words; a space means and, a comma between values
// means or, a minus sign before a term negates it, double quotes keep spaces and commas (a backslash before a quote or
// a backslash takes its meaning away). An empty text selects everything. Durations in since: and until: are counted
// back from now; times without a zone are in now's. The error is a [*FilterError].
func ParseFilter(s string, now time.Time) (Filter, error) {
	p := filterParser{rest: s, text: s, now: now}
	f, err := p.parse()
	if err != nil {
		return Filter{}, err
	}
	return f, nil
}

type filterParser struct {
	text string // whole
	rest string // not yet read
	held int    // values so far
	now  time.Time
}

func (p *filterParser) position() int { return len(p.text) - len(p.rest) + 1 }

func (p *filterParser) fail(position int, format string, args ...any) error {
	return &FilterError{Position: position, Message: fmt.Sprintf(format, args...)}
}

func (p *filterParser) parse() (Filter, error) {
	var f Filter
	if len(p.text) > maxFilterLength {
		return f, p.fail(maxFilterLength+1, "a filter has at most %d bytes, this has %d", maxFilterLength, len(p.text))
	}
	for i, r := range p.text {
		if r == utf8.RuneError && !strings.HasPrefix(p.text[i:], "\uFFFD") {
			return f, p.fail(i+1, "this is not UTF-8 text")
		}
		if unicode.IsControl(r) && !unicode.IsSpace(r) {
			return f, p.fail(i+1, "control character %U", r)
		}
	}
	for {
		p.rest = strings.TrimLeftFunc(p.rest, unicode.IsSpace)
		if p.rest == "" {
			break
		}
		if len(f.Terms) == maxFilterTerms {
			return f, p.fail(p.position(), "a filter has at most %d terms", maxFilterTerms)
		}
		t, err := p.term()
		if err != nil {
			return f, err
		}
		f.Terms = append(f.Terms, t)
	}
	if n := len(f.String()); n > maxFilterLength { // so that the canonical text can be read again
		return f, p.fail(1, "written out, this filter has %d bytes; it may have %d", n, maxFilterLength)
	}
	return f, nil
}

func (p *filterParser) term() (FilterTerm, error) {
	var t FilterTerm
	if strings.HasPrefix(p.rest, "-") {
		t.Negate = true
		p.rest = p.rest[1:]
		if p.rest == "" || p.rest[0] == '-' || startsWithSpace(p.rest) {
			return t, p.fail(p.position(), "expected a term after the minus sign; put quotes around text that begins with one")
		}
	}
	if err := p.key(&t); err != nil {
		return t, err
	}
	for {
		at := p.position()
		if p.held++; p.held > maxFilterValues {
			return t, p.fail(at, "a filter has at most %d values", maxFilterValues)
		}
		raw, quoted, err := p.value()
		if err != nil {
			return t, err
		}
		if raw == "" && !quoted {
			return t, p.fail(at, "expected a value%s", p.after(t))
		}
		v, err := t.Key.read(raw, quoted, p.now)
		if err != nil {
			return t, p.fail(at, "%s", err)
		}
		t.Values = append(t.Values, v)
		if !strings.HasPrefix(p.rest, ",") {
			break
		}
		if t.Key == FilterSince || t.Key == FilterUntil {
			return t, p.fail(p.position(), "%s: takes one value", t.Key)
		}
		p.rest = p.rest[1:]
	}
	if p.rest != "" && !startsWithSpace(p.rest) {
		return t, p.fail(p.position(), "expected a space or a comma after the quotes")
	}
	return t, nil
}

func (p *filterParser) after(t FilterTerm) string {
	switch {
	case len(t.Values) > 0:
		return " after the comma"
	case t.Key != FilterText:
		return fmt.Sprintf(" after %s:", t.Key)
	}
	return ""
}

// key reads what stands before a colon, if the term has one outside quotes.
func (p *filterParser) key(t *FilterTerm) error {
	end := strings.IndexFunc(p.rest, func(r rune) bool { return r == ':' || r == ',' || r == '"' || unicode.IsSpace(r) })
	if end < 0 || p.rest[end] != ':' {
		return nil
	}
	word := p.rest[:end]
	key := FilterKey(strings.ToLower(word))
	if key == FilterText || !slices.Contains(FilterKeys(), key) {
		return p.fail(p.position(), "%q is no key; expected one of %s; put quotes around text that holds a colon",
			shorten(word), list(FilterKeys()))
	}
	t.Key = key
	p.rest = p.rest[end+1:]
	return nil
}

// value reads up to the next comma or space, or a text in quotes.
func (p *filterParser) value() (text string, quoted bool, err error) {
	if strings.HasPrefix(p.rest, `"`) {
		text, err = p.quoted()
		return text, true, err
	}
	end := strings.IndexFunc(p.rest, func(r rune) bool { return r == ',' || r == '"' || unicode.IsSpace(r) })
	if end < 0 {
		end = len(p.rest)
	}
	text, p.rest = p.rest[:end], p.rest[end:]
	if strings.HasPrefix(p.rest, `"`) {
		return "", false, p.fail(p.position(), "a quote within a word; put the whole value into quotes")
	}
	return text, false, nil
}

func (p *filterParser) quoted() (string, error) {
	at := p.position()
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case c < ' ' || c == 0x7f:
			return "", p.fail(at+i, "control character %#x within quotes", c)
		case c == '\\' && i+1 < len(p.rest) && (p.rest[i+1] == '"' || p.rest[i+1] == '\\'):
			i++
			c = p.rest[i]
		}
		b.WriteByte(c)
	}
	return "", p.fail(at, "this quote is never closed")
}

// read makes a value of this key of a text.
func (k FilterKey) read(raw string, quoted bool, now time.Time) (FilterValue, error) {
	switch k {
	case FilterText, FilterEndpoint, FilterSNI, FilterClient, FilterIdentity, FilterCA, FilterALPN, FilterJA4:
		return readText(k, raw, quoted)
	case FilterOutcome:
		return readOutcome(strings.ToLower(raw))
	case FilterReason:
		return readReason(strings.ToLower(raw))
	case FilterBeat:
		return readBeat(raw)
	case FilterFP:
		return readFingerprint(raw)
	case FilterIP:
		return readAddress(raw)
	case FilterTLS:
		return readVersion(raw)
	case FilterKX:
		return readGroup(raw)
	case FilterIs:
		return readIs(strings.ToLower(raw))
	case FilterMS:
		return readMilliseconds(raw)
	case FilterSince, FilterUntil:
		return readTime(raw, now)
	}
	return FilterValue{}, fmt.Errorf("%q is no key", k)
}

func readText(k FilterKey, raw string, quoted bool) (FilterValue, error) {
	v := FilterValue{Text: raw, Pattern: !quoted && strings.Contains(raw, "*")}
	if k != FilterText {
		return v, nil
	}
	if strings.Trim(raw, "*") == "" {
		return v, errors.New("expected a word to search for")
	}
	for _, i := range Reasons() {
		if v.within(string(i.Code)) || v.within(i.Title) {
			v.Reasons = append(v.Reasons, i.Code)
		}
	}
	return v, nil
}

func readOutcome(raw string) (FilterValue, error) {
	v := FilterValue{Text: raw}
	for _, o := range Outcomes() {
		if raw == string(o) || raw == FilterFailed && !o.In() {
			v.Outcomes = append(v.Outcomes, o)
		}
	}
	if v.Outcomes == nil {
		return v, fmt.Errorf("%q is no outcome; expected %s or %s", shorten(raw), list(Outcomes()), FilterFailed)
	}
	return v, nil
}

func readReason(raw string) (FilterValue, error) {
	if _, ok := Reason(raw).Info(); ok {
		return FilterValue{Text: raw, Reasons: []Reason{Reason(raw)}}, nil
	}
	var like []Reason
	for _, i := range Reasons() {
		if raw != "" && strings.Contains(string(i.Code), raw) {
			like = append(like, i.Code)
		}
	}
	if like == nil {
		return FilterValue{}, fmt.Errorf("%q is no reason; expected a code such as %s; a bare word searches the words of all reasons",
			shorten(raw), ReasonCertExpired)
	}
	return FilterValue{}, fmt.Errorf("%q is no reason; did you mean %s?", shorten(raw), list(like))
}

func readBeat(raw string) (FilterValue, error) {
	if len(raw) != 1 || raw[0] < '1' || raw[0] > '5' {
		return FilterValue{}, fmt.Errorf("%q is no beat; expected a number from 1 (hello) to 5 (open)", shorten(raw))
	}
	return FilterValue{Text: raw, Number: uint16(raw[0] - '0')}, nil
}

func readFingerprint(raw string) (FilterValue, error) {
	digits := strings.ToLower(strings.ReplaceAll(raw, ":", ""))
	if len(digits) < 4 || len(digits) > 2*len(Fingerprint{}) || strings.Trim(digits, "0123456789abcdef") != "" {
		return FilterValue{}, fmt.Errorf("%q is no SHA-256 fingerprint; expected 4 to 64 hex digits, with or without colons", shorten(raw))
	}
	return FilterValue{Text: digits}, nil
}

func readAddress(raw string) (FilterValue, error) {
	if a, err := netip.ParseAddr(raw); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return FilterValue{Text: a.String(), Prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	n, err := netip.ParsePrefix(raw)
	if err != nil || n.Addr().Is4In6() {
		return FilterValue{}, fmt.Errorf("%q is no address; expected one such as 10.20.4.17, or a network such as 10.20.0.0/16", shorten(raw))
	}
	n = n.Masked()
	v := FilterValue{Text: n.String(), Prefix: n}
	if n.IsSingleIP() {
		v.Text = n.Addr().String()
	}
	return v, nil
}

func readVersion(raw string) (FilterValue, error) {
	switch raw {
	case "1.2":
		return FilterValue{Text: raw, Number: tls.VersionTLS12}, nil
	case "1.3":
		return FilterValue{Text: raw, Number: tls.VersionTLS13}, nil
	}
	return FilterValue{}, fmt.Errorf("%q is no version of TLS; expected 1.2 or 1.3", shorten(raw))
}

// keyExchanges are the groups that a filter can name, the canonical spelling of each group first.
func keyExchanges() []struct {
	name   string
	number tls.CurveID
} {
	return []struct {
		name   string
		number tls.CurveID
	}{
		{"X25519MLKEM768", tls.X25519MLKEM768},
		{"SecP256r1MLKEM768", tls.SecP256r1MLKEM768},
		{"SecP384r1MLKEM1024", tls.SecP384r1MLKEM1024},
		{"X25519", tls.X25519},
		{"P-256", tls.CurveP256},
		{"P-384", tls.CurveP384},
		{"P-521", tls.CurveP521},
		{"P256", tls.CurveP256},
		{"P384", tls.CurveP384},
		{"P521", tls.CurveP521},
		{"secp256r1", tls.CurveP256},
		{"secp384r1", tls.CurveP384},
		{"secp521r1", tls.CurveP521},
	}
}

func readGroup(raw string) (FilterValue, error) {
	number, err := strconv.ParseUint(raw, 10, 16)
	known := keyExchanges()
	for _, x := range known {
		if equalFold(raw, x.name) {
			number, err = uint64(x.number), nil
		}
	}
	if err != nil {
		return FilterValue{}, fmt.Errorf("%q is no key exchange; expected a group such as X25519MLKEM768, X25519, P-256, or its number", shorten(raw))
	}
	v := FilterValue{Text: strconv.FormatUint(number, 10), Number: uint16(number)} //nolint:gosec // parsed with 16 bits
	for _, x := range slices.Backward(known) {                                     // the first of a group's names is the one that stays
		if uint64(x.number) == number {
			v.Text = x.name
		}
	}
	return v, nil
}

func readIs(raw string) (FilterValue, error) {
	switch raw {
	case FilterPQ, FilterWouldRefuse, FilterNoise, FilterNew, FilterMarked:
		return FilterValue{Text: raw}, nil
	}
	return FilterValue{}, fmt.Errorf("%q is nothing that a handshake can be; expected pq, for a post-quantum key exchange, would_refuse, for who came in only because a policy reports, noise, for port checks and the like, new, for a certificate that came in for the first time, or marked", shorten(raw))
}

func list[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// shorten keeps an error readable whatever was typed.
func shorten(s string) string {
	if n := 40; len(s) > n {
		for !utf8.RuneStart(s[n]) {
			n--
		}
		return s[:n] + "…"
	}
	return s
}

func startsWithSpace(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.IsSpace(r)
}
