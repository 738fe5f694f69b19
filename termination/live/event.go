package live

import (
	"encoding/hex"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"countersign/termination"
)

// maxText bounds each text of an event. Names on the wire have at most 255 bytes; what is longer was made to cost us.
const maxText = 256

// newEvent makes the event of a handshake. endpoint is its number in the legend.
func newEvent(h *termination.Handshake, endpoint int, update bool) Event {
	e := Event{
		Seq:      h.Seq,
		ID:       h.ID,
		Time:     h.Time.UnixMilli(),
		Outcome:  outcomeIndex(h.Verdict.Outcome),
		Beat:     int(h.Verdict.Beat),
		Reason:   h.Verdict.Reason,
		Endpoint: endpoint,
		Client:   shorten(h.Client.Name),
		Duration: milliseconds(h.Duration),
		Proof:    flag(h.Proof),
		Update:   flag(update),
	}
	e.Authority = shorten(h.Client.Authority)
	if e.Authority == "" {
		e.Authority = shorten(h.Client.Issuer)
	}
	if h.Client.Fingerprint != (termination.Fingerprint{}) {
		e.Fingerprint = hex.EncodeToString(h.Client.Fingerprint[:6])
	}
	if h.Peer.IsValid() {
		e.Address = h.Peer.Addr().Unmap().String()
	}
	if h.Hello != nil {
		e.ServerName = shorten(h.Hello.ServerName)
		e.JA4 = shorten(h.Hello.JA4)
	}
	if c := h.Chosen; c != nil {
		e.Group, e.PostQuantum, e.Version, e.CipherSuite = c.Group, flag(c.PostQuantum), c.Version, c.CipherSuite
		e.ALPN, e.Resumed = shorten(c.ALPN), flag(c.Resumed)
	}
	return e
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// milliseconds rounds to hundredths, so that the number is short.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Millisecond)*100) / 100
}

// shorten cuts s after [maxText] bytes, at the edge of a character, and says so with an ellipsis.
func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText - len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// appendJSON appends e as encoding/json would write it, in a fifth of the time: thousands are written in a second.
func (e *Event) appendJSON(b []byte) []byte {
	b = appendUint(b, `{"q":`, e.Seq)
	b = appendText(b, `,"i":`, e.ID)
	b = appendInt(b, `,"t":`, e.Time)
	b = appendInt(b, `,"o":`, int64(e.Outcome))
	b = appendInt(b, `,"b":`, int64(e.Beat))
	b = appendTextIfAny(b, `,"r":`, string(e.Reason))
	b = appendIfAny(b, `,"ep":`, uint64(e.Endpoint)) //nolint:gosec // numbers of the legend are not negative
	b = appendTextIfAny(b, `,"s":`, e.ServerName)
	b = appendTextIfAny(b, `,"c":`, e.Client)
	b = appendTextIfAny(b, `,"f":`, e.Fingerprint)
	b = appendTextIfAny(b, `,"ca":`, e.Authority)
	b = appendTextIfAny(b, `,"a":`, e.Address)
	b = appendIfAny(b, `,"k":`, uint64(e.Group))
	b = appendIfAny(b, `,"pq":`, uint64(e.PostQuantum)) //nolint:gosec // 0 or 1
	b = appendIfAny(b, `,"v":`, uint64(e.Version))
	b = appendIfAny(b, `,"cs":`, uint64(e.CipherSuite))
	b = appendTextIfAny(b, `,"al":`, e.ALPN)
	b = appendTextIfAny(b, `,"j":`, e.JA4)
	b = appendIfAny(b, `,"z":`, uint64(e.Resumed)) //nolint:gosec // 0 or 1
	b = append(b, `,"d":`...)
	b = strconv.AppendFloat(b, e.Duration, 'f', -1, 64)
	b = appendIfAny(b, `,"p":`, uint64(e.Proof))  //nolint:gosec // 0 or 1
	b = appendIfAny(b, `,"u":`, uint64(e.Update)) //nolint:gosec // 0 or 1
	return append(b, '}')
}

func appendUint(b []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(b, name...), n, 10)
}

func appendInt(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(append(b, name...), n, 10)
}

func appendIfAny(b []byte, name string, n uint64) []byte {
	if n == 0 {
		return b
	}
	return appendUint(b, name, n)
}

func appendTextIfAny(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(b, name, s)
}

// appendText appends a JSON string. Bytes that are not UTF-8 become U+FFFD, and what could end a script element is
// escaped, as encoding/json does.
func appendText(b []byte, name, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, name...)
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + 1
			case r == '\u2028' || r == '\u2029': // line ends in old JavaScript
				b = append(append(b, s[start:i]...), `\u202`...)
				b = append(b, hexDigits[r&15])
				start = i + size
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
