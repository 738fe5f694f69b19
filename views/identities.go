package views

import "countersign/views/parts"

// Identities is the page of clients: those that have a name here.
type Identities struct {
	Tabs        []parts.Tab
	Items       []IdentityItem
	Query       string // what was searched for
	State       string // of the chosen chip
	Any         bool   // there is at least one identity
	States      []StateChip
	None        string // why no row is shown
	Rows        Rows
	Invitations []RegistrationItem
	Portal      bool // an endpoint serves invitations
}

// IdentityItem is one row.
type IdentityItem struct {
	Name      string
	Href      string
	Tone      parts.Tone
	Mark      string
	State     string
	Tags      []TagItem
	Known     string // by what
	Endpoints []Link
	Anywhere  bool
	More      int // endpoints that are not in the list
	Life      parts.Life
	LifeText  string // empty: no certificate is kept
	Seen      string
	SeenExact string
	Where     string // endpoint and address; hostile text
}

// RegistrationItem is an invitation to register a certificate.
type RegistrationItem struct {
	ID        string
	Name      string
	Tone      parts.Tone
	State     string
	When      string
	Exact     string
	By        string
	Withdraw  string // empty: it cannot be
	Endpoints string
}

// IdentityForm is the form of a new identity.
type IdentityForm struct {
	Name        parts.Input
	Text        parts.Input
	Match       parts.Input
	Rate        parts.Input
	Burst       parts.Input
	Endpoints   []PreviewEndpoint
	EndpointErr string
	Error       string
	// From is the handshake whose certificate is registered.
	From *IdentityFrom
}

// IdentityFrom is a certificate that a handshake has proven.
type IdentityFrom struct {
	Handshake string
	Href      string
	Facts     []parts.Fact
	Compare   parts.Input
}

// Identity is the page of one.
type Identity struct {
	Title        string
	Path         string // of its actions
	ReadOnly     bool
	Blocked      bool
	Tone         parts.Tone
	Mark         string
	State        string
	Tags         []TagItem
	Lead         string
	Error        string
	Live         string // the live list of it alone
	Certificates []IdentityCertificate
	Matches      []string
	Warnings     []string // what keeps it from coming in although it is registered
	Issuers      []parts.ChainItem
	Chart        IdentityChart
	Form         IdentityForm
	Upload       parts.Input
	Uploaded     []PreviewWarning // of the certificate that was added last
	Invite       string
	Confirm      parts.Input
	Would        *Rehearsal     // what its removal would change; nil: not asked
	Periods      []parts.Option // how far back is looked for that
	YAML         string
}

// IdentityCertificate is one thing that an identity is known by.
type IdentityCertificate struct {
	Item     parts.ChainItem
	Facts    []parts.Fact
	Pin      string
	CanDrop  bool
	DropText string
}

// IdentityChart is how often it came in, by day.
type IdentityChart struct {
	Summary string
	Bars    []ChartBar
	Rows    []ChartRow
}

// ChartBar is one day, in pixels of the drawing.
type ChartBar struct{ X, Y, Width, Height string }

// ChartRow is one day in numbers.
type ChartRow struct{ Day, Handshakes, Requests string }

// InviteClient is the form of an invitation, and what was made.
type InviteClient struct {
	Name      parts.Input
	Existing  []parts.Option
	Endpoints []PreviewEndpoint
	Portals   []parts.Option
	CAs       []parts.Option
	Lives     []parts.Option
	Error     string
	Link      string // of the invitation that was made; shown once
	Until     string
	Curl      string
	For       string
	None      bool // no endpoint serves invitations
	Warning   string
}
