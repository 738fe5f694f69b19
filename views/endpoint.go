package views

import (
	"countersign/views/parts"
)

// EndpointDetail is what the page of an endpoint shows.
type EndpointDetail struct {
	Head           EndpointHead
	Warnings       []EndpointWarning
	Upstream       string
	Sealed         bool // TLS ends in the service
	Seen           SealedPart
	Ends           []ModeRow
	MoveError      string
	Policy         PolicyForm
	PolicyProblems []string
	Would          *Rehearsal     // what the policy as typed would change; nil: not asked
	Periods        []parts.Option // how far back is looked for that
	Besides        string         // what a request must prove besides; empty: nothing
	Exact          string         // how exact the alerts are, and why
	Routes         []RouteLine
	TryForm        TryForm
	Judged         *Judged
	Rules          []RuleLine // in their order
	RulesSince     string     // since when their clients are counted
	Proof          Proof
	Try            TryIt
	Presents       []Presented
	ACME           []ACMEName // its names whose certificates are obtained
	CanIssue       bool
	CanTrust       bool
	Targets        []TargetLine    // the services behind, where we connect to them
	Agents         *EndpointAgents // nil: its TLS ends elsewhere
	Told           *ToldPart       // nil: nothing is told
	Days, Hours    Trend
}

// ToldPart is what the service behind an endpoint is told about its clients.
type ToldPart struct {
	Names      []string // of the headers
	ReportOnly bool
	Client     string // of the example, hostile text; empty: nobody came in yet
	Href       string // of its handshake
	Text       string // the headers, a line each
}

// ModeRow is a place where TLS can end.
type ModeRow struct {
	Value   string
	Label   string
	Small   string
	Path    parts.Path
	Current bool
	Changes []string // what choosing it changes
	Parties []string // those besides the client
	Readers []Reader
}

// Reader says which of the parties can read a thing.
type Reader struct {
	What string
	Who  []string
}

// RouteLine is a path with a policy or an upstream of its own.
type RouteLine struct{ Path, Policy, Upstream string }

// TryIt are commands that reach an endpoint.
type TryIt struct {
	Panels      []TryPanel
	Dir         string // where the files are; empty: not known
	CAHref      string // where the CA is downloaded; empty: it need not be
	CAFile      string
	ClientFile  string
	NeedsClient bool // somebody has to bring a certificate
}

// TryPanel is one way to try: a command, or steps for a person.
type TryPanel struct {
	ID, Name, Command string
	Steps             []string
}

// Presented is a server certificate.
type Presented struct {
	Names, From, Key, Fingerprint string
	Begins, Ends, Left, Renewal   string
	Life                          parts.Life
	CA                            string // download of its CA; empty: none
	Staple                        string // about the answer of its responder; hostile text; empty: it names none
	StapleBad                     bool   // clients mind
}

// EndpointChange is one entry of an endpoint's history.
type EndpointChange struct {
	When, Exact, Who, Via, Action string
	Revision                      uint64
	Fields                        []FieldChange
}

// FieldChange is one field that a change gave another value.
type FieldChange struct{ Name, Before, After string }

// endpointTabs are the pages of an endpoint.
func endpointTabs(h EndpointHead, at string) []parts.Tab {
	return []parts.Tab{
		{Label: "Overview", Href: h.Href, Current: at == "overview"},
		{Label: "Live", Href: h.LiveHref},
		{Label: "Readiness", Href: h.Href + "/readiness", Current: at == "readiness"},
		{Label: "Settings", Href: h.Href + "/settings", Current: at == "settings"},
		{Label: "Config", Href: h.Href + "/config", Current: at == "config"},
		{Label: "History", Href: h.Href + "/history", Current: at == "history"},
	}
}

// readable is the tone of an answer to who can read what: what is open to a party warns.
func readable(s string) string {
	if len(s) >= 2 && s[:2] == "no" {
		return "ok"
	}
	return "warn"
}
