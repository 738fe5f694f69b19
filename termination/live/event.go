package live

import (
	"encoding/hex"
	"math"
	"time"
	"unicode/utf8"

	"countersign/termination"
)

// maxText bounds each text of an event. Names on the wire have at most 255 bytes; what is longer was made to cost us.
const maxText = 256

// EventOf makes the event of a recorded handshake, for rows that come from the history. endpoint is the number of its name
// in a legend of the caller's.
func EventOf(h *termination.Handshake, endpoint int) Event { return newEvent(h, endpoint, false) }

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
	e.Noise = h.Noise
	e.WouldRefuse, e.New = flag(h.Verdict.WouldRefuse), flag(h.New)
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
