package live

import (
	"countersign/termination"
)

// Version of the frames. It goes up when a reader of the old frames could misread the new ones.
const Version = 1

// Each message of the stream is one JSON object whose member "op" names its kind:
//
//	hi   first, and after every accepted filter: what the numbers and codes in later frames mean
//	ev   events, oldest first
//	gap  events that are not shown: fetch them from the history, if they are wanted
//	st   counters of one second, once a second
//	err  the filter was not understood; the one before stays
//
// A reader keeps the highest of ev's q, gap's to and st's q that it has seen, and asks for what follows it ("after")
// when it comes back. It also says which life of the gateway that number is from ("life", as hi told it): numbers go on
// after a restart, but may repeat a few that the history had not stored yet. When hi tells of another life, the reader
// forgets its number and keeps its rows: what follows is all that this life remembers.

// Hi opens the stream, and again after each change of the filter. What was shown before no longer counts, unless the
// reader asked to go on after a number.
type Hi struct {
	Op        string                        `json:"op"` // "hi"
	Seq       uint64                        `json:"seq"`
	Version   int                           `json:"v"`
	Life      string                        `json:"life"`
	Now       int64                         `json:"now"`         // the gateway's clock, milliseconds since 1970
	Filter    string                        `json:"f"`           // in its canonical form
	Tag       uint32                        `json:"n,omitempty"` // that of the request
	Endpoints map[int]string                `json:"endpoints"`
	Outcomes  []termination.Outcome         `json:"outcomes"`       // an event's o is an index into it
	Reasons   map[termination.Reason]string `json:"reasons"`        // code to title
	Past      []Stats                       `json:"past,omitempty"` // the last two minutes, oldest first, as far as counters go; only without a filter
}

// Events is a frame of events. Of those that were let in, one of every N is in it; of those that failed, one of every
// NFailed, which is left out when it is 1.
type Events struct {
	Op        string         `json:"op"` // "ev"
	N         uint32         `json:"n"`
	NFailed   uint32         `json:"nf,omitempty"`
	Endpoints map[int]string `json:"endpoints,omitempty"` // additions to the legend of hi
	Events    []Event        `json:"e"`
}

// Event is one handshake as a row of the list shows it. Texts are hostile, and shortened to [maxText] bytes.
type Event struct {
	Seq         uint64             `json:"q"`
	ID          string             `json:"i"`
	Time        int64              `json:"t"` // of the accept, milliseconds since 1970
	Outcome     int                `json:"o"` // index into hi's outcomes
	Beat        int                `json:"b"`
	Reason      termination.Reason `json:"r,omitempty"`
	WouldRefuse int                `json:"w,omitempty"` // 1: let in only because its policy is report_only
	Noise       termination.Noise  `json:"x,omitempty"`
	Endpoint    int                `json:"ep,omitempty"` // number in the legend; 0: none was found
	ServerName  string             `json:"s,omitempty"`
	Client      string             `json:"c,omitempty"` // best name
	Fingerprint string             `json:"f,omitempty"` // first 12 hex digits of the client's certificate
	Authority   string             `json:"ca,omitempty"`
	Address     string             `json:"a,omitempty"`
	Group       uint16             `json:"k,omitempty"`
	PostQuantum int                `json:"pq,omitempty"` // 1: yes
	Version     uint16             `json:"v,omitempty"`
	CipherSuite uint16             `json:"cs,omitempty"`
	ALPN        string             `json:"al,omitempty"`
	JA4         string             `json:"j,omitempty"`
	Resumed     int                `json:"z,omitempty"`  // 1: yes
	Duration    float64            `json:"d"`            // milliseconds
	Proof       int                `json:"p,omitempty"`  // 1: made by the gateway itself, not counted
	New         int                `json:"nw,omitempty"` // 1: its certificate was let in for the first time
	Mark        string             `json:"m,omitempty"`  // the shape that somebody gave it; only of rows from the history
	Update      int                `json:"u,omitempty"`  // 1: replaces the row with the same i
}

// Gap says that events are missing at this place of the stream.
type Gap struct {
	Op     string `json:"op"` // "gap"
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Count  uint64 `json:"count"`
	AtMost bool   `json:"atMost,omitempty"` // nobody knows how many of Count the filter would have selected
}

// Stats are the counters of one second. They follow the filter, count what sampling left out, and leave out the
// gateway's own proofs.
type Stats struct {
	Op           string                        `json:"op"`             // "st"
	Time         int64                         `json:"t"`              // the second, since 1970
	Seq          uint64                        `json:"q,omitempty"`    // everything up to here was sent or said to be missing
	OK           uint64                        `json:"ok"`             // verified and open
	Open         uint64                        `json:"open,omitempty"` // of these
	Passed       uint64                        `json:"pass"`
	Failed       uint64                        `json:"bad"`
	By           map[termination.Reason]uint64 `json:"by,omitempty"`   // why they failed
	Notes        map[termination.Reason]uint64 `json:"note,omitempty"` // reasons of handshakes that were let in, upstream_down for one
	P50          float64                       `json:"p50"`            // milliseconds, without those that broke off
	P95          float64                       `json:"p95"`
	KeyExchanges uint64                        `json:"kx"`                // handshakes whose key exchange is known
	PostQuantum  uint64                        `json:"pq"`                // of these
	Failing      *int                          `json:"clients,omitempty"` // clients whose last handshake of two minutes failed; only without a filter
	Dropped      uint64                        `json:"dropped,omitempty"` // left out by sampling or a full ring in this second
	Missed       uint64                        `json:"missed"`            // counted but never shown, since the gateway started
	Lost         uint64                        `json:"lost,omitempty"`    // shown but not stored, since the gateway started
	Lag          float64                       `json:"lag"`               // milliseconds that the stream was behind, at worst
}

// Failure answers a filter that was not understood.
type Failure struct {
	Op       string `json:"op"`           // "err"
	Position int    `json:"at,omitempty"` // byte of the filter, counted from 1
	Message  string `json:"m"`
}
