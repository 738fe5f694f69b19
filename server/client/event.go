package client

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"countersign/termination"
	"countersign/termination/live"
)

// Event is a handshake as the stream tells it: as much of its record as a row shows.
type Event struct {
	termination.Handshake
	Fingerprint string // first digits of the client's certificate's; empty: none
	Title       string // of the reason, in the gateway's words
	Update      bool   // replaces what was told of the same ID
}

// Frame is what a stream brings. One of its members is set.
type Frame struct {
	Open   *live.Hi // the stream begins, or is back
	Events []Event  // oldest first
	Gap    *live.Gap
	Stats  *live.Stats
	Lost   error // the stream was lost, and is tried again

	// Sampled comes with Events: one of so many that were let in is among them.
	Sampled uint32
	// Wait comes with Lost: until the next try.
	Wait time.Duration
}

// legend is what the numbers and codes of a stream mean.
type legend struct {
	outcomes  []termination.Outcome
	reasons   map[termination.Reason]string
	endpoints map[int]string
}

// mostEndpoints bounds the legend.
const mostEndpoints = 100_000

func (l *legend) learn(endpoints map[int]string) {
	for n, name := range endpoints {
		if len(l.endpoints) < mostEndpoints {
			l.endpoints[n] = name
		}
	}
}

// event reads one event of the stream.
func (l *legend) event(e live.Event) Event {
	out := Event{Fingerprint: e.Fingerprint, Title: l.reasons[e.Reason], Update: e.Update != 0}
	h := &out.Handshake
	h.ID, h.Seq, h.Time, h.Proof = e.ID, e.Seq, time.UnixMilli(e.Time), e.Proof != 0
	h.Duration = time.Duration(e.Duration * float64(time.Millisecond))
	h.Endpoint = l.endpoints[e.Endpoint]
	h.Client.Name, h.Client.Authority = e.Client, e.Authority
	h.Verdict = termination.Verdict{Reason: e.Reason, Beat: termination.Beat(e.Beat), WouldRefuse: e.WouldRefuse != 0}
	if e.Outcome >= 0 && e.Outcome < len(l.outcomes) {
		h.Verdict.Outcome = l.outcomes[e.Outcome]
	}
	if address, err := netip.ParseAddr(e.Address); err == nil {
		h.Peer = netip.AddrPortFrom(address, 0)
	}
	if e.ServerName != "" || e.JA4 != "" {
		h.Hello = &termination.ClientHello{ServerName: e.ServerName, JA4: e.JA4}
	}
	if e.Version != 0 {
		h.Chosen = &termination.Negotiated{Version: e.Version, CipherSuite: e.CipherSuite, Group: e.Group, ALPN: e.ALPN, PostQuantum: e.PostQuantum != 0, Resumed: e.Resumed != 0}
	}
	return out
}

// EventOf is a record as the stream would have told it.
func EventOf(r *Record) Event {
	e := Event{Handshake: r.Handshake}
	if f := r.Client.Fingerprint; f != (termination.Fingerprint{}) {
		e.Fingerprint = f.String()[:12]
	}
	if e.Client.Authority == "" {
		e.Client.Authority = r.Client.Issuer
	}
	if e.Verdict.Reason == "" && r.End != nil {
		e.Verdict.Reason = r.End.Reason
	}
	if info, known := e.Verdict.Reason.Info(); known {
		e.Title = info.Title
	}
	return e
}

// message is any frame, as far as it must be read to know which.
type message struct {
	Op string `json:"op"`
}

// read reads a frame and learns what it says about later ones.
func (l *legend) read(text []byte) (Frame, error) {
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		return Frame{}, fmt.Errorf("read a frame of the stream: %w", err)
	}
	var f Frame
	var err error
	switch m.Op {
	case "hi":
		f.Open = new(live.Hi)
		err = json.Unmarshal(text, f.Open)
		l.outcomes, l.reasons, l.endpoints = f.Open.Outcomes, f.Open.Reasons, map[int]string{}
		l.learn(f.Open.Endpoints)
	case "ev":
		var events live.Events
		err = json.Unmarshal(text, &events)
		l.learn(events.Endpoints)
		f.Sampled, f.Events = events.N, make([]Event, len(events.Events))
		for i, e := range events.Events {
			f.Events[i] = l.event(e)
		}
	case "gap":
		f.Gap = new(live.Gap)
		err = json.Unmarshal(text, f.Gap)
	case "st":
		f.Stats = new(live.Stats)
		err = json.Unmarshal(text, f.Stats)
	case "err":
		var failure live.Failure
		if err = json.Unmarshal(text, &failure); err == nil {
			err = &FilterError{Position: failure.Position, Message: failure.Message}
		}
	}
	if err != nil {
		if _, filter := err.(*FilterError); filter { //nolint:errorlint // made above
			return Frame{}, err
		}
		return Frame{}, fmt.Errorf("read a frame of the stream: %w", err)
	}
	return f, nil
}

// FilterError says that the gateway did not understand the filter.
type FilterError struct {
	Position int // byte of the filter, counted from 1; 0: nobody knows
	Message  string
}

// Error implements error.
func (e *FilterError) Error() string {
	if e.Position == 0 {
		return e.Message
	}
	return fmt.Sprintf("at %d: %s", e.Position, e.Message)
}
