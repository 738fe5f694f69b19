package termination

// Outcome says how a handshake ended.
type Outcome string

// The outcomes of a handshake.
const (
	OutcomeVerified      Outcome = "verified"       // a client certificate was presented, passed, and its key was proven
	OutcomeOpen          Outcome = "open"           // TLS finished and no verified certificate was demanded
	OutcomePassed        Outcome = "passed"         // passed through to the upstream, sealed for us
	OutcomeRefused       Outcome = "refused"        // we ended it
	OutcomeClientRefused Outcome = "client_refused" // the client ended it because of our certificate
	OutcomeBrokenOff     Outcome = "broken_off"     // timeout, reset, not TLS
)

// Outcomes lists all outcomes in the order in which they are numbered on the wire of the live stream, from 0.
func Outcomes() []Outcome {
	return []Outcome{OutcomeVerified, OutcomeOpen, OutcomePassed, OutcomeRefused, OutcomeClientRefused, OutcomeBrokenOff}
}

// In reports whether the client was let in.
func (o Outcome) In() bool {
	return o == OutcomeVerified || o == OutcomeOpen || o == OutcomePassed
}

// Beat is one of the five stages of a handshake; 0 means that none was reached.
type Beat int

// The five beats.
const (
	BeatHello       Beat = 1 // a whole ClientHello was read
	BeatAgreement   Beat = 2 // version, suite, group, ALPN and server name lead to an endpoint
	BeatServerCert  Beat = 3 // the client went on after our certificate
	BeatClientCert  Beat = 4 // chain, dates and use of the client's certificate hold
	BeatEstablished Beat = 5 // the policy lets it in, the key was proven, Finished
)

// Turn says whose turn it is to repair a refusal.
type Turn string

// Who can repair it.
const (
	TurnClient   Turn = "client"   // whoever runs the client
	TurnOperator Turn = "operator" // whoever runs this gateway
	TurnCA       Turn = "ca"       // whoever issued the certificate
)

// Check is one check of the presented chain that failed, or that deserves a note.
type Check struct {
	Reason      Reason      `json:"reason"`
	Certificate int         `json:"certificate"` // index in the presented list; -1: none in particular
	Fingerprint Fingerprint `json:"fingerprint,omitzero"`
	Detail      string      `json:"detail"`         // one plain sentence, from the actual certificate
	Note        bool        `json:"note,omitempty"` // accepted, only worth knowing
}

// Fix is one thing to do about a refusal.
type Fix struct {
	Text    string `json:"text"`              // one sentence, imperative
	Command string `json:"command,omitempty"` // to copy into a shell
	Action  string `json:"action,omitempty"`  // path of a dashboard page that does it
	Lowers  bool   `json:"lowers,omitempty"`  // lowers security: never the primary fix
}

// Explanation is the verdict in words, made from the actual certificates.
type Explanation struct {
	Sentence string `json:"sentence"`            // what happened, in one sentence
	Right    string `json:"right,omitempty"`     // what was in order
	Turn     Turn   `json:"turn,omitempty"`      // whose turn it is
	Fixes    []Fix  `json:"fixes,omitempty"`     // the first is the primary one
	ClientTo string `json:"to_client,omitempty"` // text for the client's owner, without addresses
}

// Verdict is what was decided about a handshake.
type Verdict struct {
	Outcome     Outcome     `json:"outcome"`
	Reason      Reason      `json:"reason,omitempty"`       // empty when there is nothing to explain
	Rule        string      `json:"rule,omitempty"`         // that decided, as it stands in a file; or the expression, where that refused
	WouldRefuse bool        `json:"would_refuse,omitempty"` // let in although Reason would have kept it out, because the policy is report_only
	ReportOnly  bool        `json:"report_only,omitempty"`  // the policy was report_only: of a verified client, too, nothing was told to the service
	Beat        Beat        `json:"beat"`                   // the last beat that passed, or the one at which it broke
	Checks      []Check     `json:"checks,omitempty"`
	Explanation Explanation `json:"explanation,omitzero"`
}
