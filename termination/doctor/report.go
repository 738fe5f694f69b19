package doctor

import (
	"net/netip"
	"time"

	"countersign/termination"
)

// Result is what came of it.
type Result string

// The results.
const (
	LetIn    Result = "let_in"
	NotLetIn Result = "not_let_in" // the handshake or the request was refused, by either side
	NotTried Result = "not_tried"  // there was nobody to try it with
)

// Side is a party that can refuse.
type Side string

// The sides.
const (
	SideClient Side = "client"
	SideServer Side = "server"
)

// State says how a step went.
type State string

// The states of a step.
const (
	OK   State = "ok"
	Warn State = "warn" // works, but will not for long, or not for everybody
	Bad  State = "bad"
	Note State = "note" // neither good nor bad
)

// Step is one thing that was looked at. Its texts hold what certificates and servers say, as it came.
type Step struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// Report is the client's half of the story.
type Report struct {
	URL       string    `json:"url"`
	Name      string    `json:"server_name"` // that was asked for
	Time      time.Time `json:"time"`        // by this machine's clock
	Result    Result    `json:"result"`
	RefusedBy Side      `json:"refused_by,omitempty"`
	Steps     []Step    `json:"steps"`

	Client *Presented `json:"client_certificate,omitempty"`
	// Attempts are the handshakes that were made; the first is the one that counts.
	Attempts []*Attempt `json:"attempts,omitempty"`
}

// Presented names a certificate.
type Presented struct {
	Subject     string                  `json:"subject"`
	Issuer      string                  `json:"issuer"`
	Fingerprint termination.Fingerprint `json:"fingerprint"`
}

// Attempt is one handshake as its client saw it.
type Attempt struct {
	What    string         `json:"what"`
	Marker  string         `json:"marker,omitempty"` // at the end of the ALPN list
	Local   netip.AddrPort `json:"local"`
	Remote  netip.AddrPort `json:"remote"`
	Started time.Time      `json:"started"`
	Ended   time.Time      `json:"ended"`

	Version     string             `json:"version,omitempty"`
	CipherSuite string             `json:"cipher_suite,omitempty"`
	Group       string             `json:"group,omitempty"`
	ALPN        string             `json:"alpn,omitempty"`
	Server      []Presented        `json:"server_certificates,omitempty"` // as sent
	Asked       bool               `json:"asked"`                         // for a client certificate
	Named       []string           `json:"named_authorities,omitempty"`   // CAs that the request names
	Sent        bool               `json:"sent"`                          // a client certificate was sent
	Finished    bool               `json:"finished"`                      // on this side
	Alert       *termination.Alert `json:"alert,omitempty"`               // that came from the server
	Error       string             `json:"error,omitempty"`               // the TLS library's words
	HTTP        *HTTPAnswer        `json:"http,omitempty"`

	parsed seen
}

// HTTPAnswer is how the request inside was answered.
type HTTPAnswer struct {
	Status    int       `json:"status"`
	Server    string    `json:"server,omitempty"`
	Date      time.Time `json:"date,omitzero"`
	Code      string    `json:"code,omitempty"`      // of a problem document
	Detail    string    `json:"detail,omitempty"`    // likewise, or the first line of a text
	Handshake string    `json:"handshake,omitempty"` // ID in the gateway's records, where it told
}

func (r *Report) add(name string, state State, text, fix string) {
	r.Steps = append(r.Steps, Step{Name: name, State: state, Text: text, Fix: fix})
}

// Bad returns the steps that keep the client out.
func (r *Report) Bad() []Step {
	var out []Step
	for _, s := range r.Steps {
		if s.State == Bad {
			out = append(out, s)
		}
	}
	return out
}
