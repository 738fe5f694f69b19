package views

import "countersign/views/parts"

// Rehearsal is what a change would do to the clients of late. Nothing is applied yet.
type Rehearsal struct {
	Tone     parts.Tone
	Sentence string
	Groups   []RehearsalGroup // who loses, who gains
	Causes   []RehearsalCause // why nothing can be said of the others
	Notes    []string
}

// RehearsalGroup is those who lose, or those who gain.
type RehearsalGroup struct {
	Title   string
	Tone    parts.Tone
	Clients []RehearsalClient
	More    int // that are not listed
}

// RehearsalClient is one client whose entry a change would change.
type RehearsalClient struct {
	Name  string // hostile text
	Href  string // of its newest handshake
	Where string // name of the endpoint
	Why   string // hostile text
	Seen  string
	Exact string
}

// RehearsalCause is why nothing can be said of so many clients.
type RehearsalCause struct {
	Count int
	Words string
}

// Readiness is what would become of an endpoint's clients were its policy enforced.
type Readiness struct {
	Head       EndpointHead
	Asks       bool // it asks for certificates at all
	ReportOnly bool
	Sentence   string
	Tone       parts.Tone
	Periods    []parts.Tab
	States     []parts.Tab // which clients are listed
	Reasons    []ReadinessReason
	Clients    []ReadinessClient
	Empty      string // instead of clients
	Notes      []string
	Pages      string // as "1 to 100 of 10,000"
	Next, Last string // links; empty: none
	LiveHref   string // handshakes that came in only because the policy reports
}

// ReadinessReason is one cause for which clients would be refused.
type ReadinessReason struct {
	Title   string
	Fix     string
	Clients string
	Seen    string
	Exact   string
	Href    string // the newest handshake with it
}

// ReadinessClient is one client of the report.
type ReadinessClient struct {
	Name     string // hostile text
	Beside   string // its full name or its JA4; hostile text
	Href     string // of its newest handshake
	Tone     parts.Tone
	Mark     string
	State    string
	Detail   string // hostile text
	First    string
	Last     string
	Exact    string
	Visits   string
	Asserted bool
}

// Enforcing asks before a policy is enforced, or only reported again.
type Enforcing struct {
	Head     EndpointHead
	Enforce  bool
	Sentence string
	Points   []string
	Would    *Rehearsal
}
