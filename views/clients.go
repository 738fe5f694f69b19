package views

import "countersign/views/parts"

// Clients is the register of client certificates that were seen.
type Clients struct {
	Tabs   []parts.Tab
	Query  string
	State  string
	Known  bool // there is at least one
	Since  string
	States []StateChip
	Items  []ClientItem
	Alerts []ClientAlertItem // the first few
	More   string            // how many more alerts there are; empty: none
	None   string            // why no row is shown
	Rows   Rows
}

// ClientItem is one row. Its texts are hostile.
type ClientItem struct {
	Name      string
	Href      string
	Short     string // fingerprint
	Issuer    string
	Tone      parts.Tone
	Mark      string
	State     string
	Tags      []TagItem
	Where     string // endpoint
	Counts    string
	Seen      string
	SeenExact string
	Life      parts.Life
	LifeText  string
}

// ClientAlertItem is an alert in a list.
type ClientAlertItem struct {
	Tone     parts.Tone
	Mark     string
	Label    string
	Sentence string // hostile
	Href     string
	ID       string // of the text for the owner
	ToOwner  string // hostile
}

// Client is the page of one certificate.
type Client struct {
	Title    string // hostile
	Tabs     []parts.Tab
	Tone     parts.Tone
	Mark     string
	State    string
	Tags     []TagItem
	Lead     string
	Unproven bool // no handshake has shown that it had the key
	Live     string
	Name     string // where to give it a name; empty: it has one, or cannot get one
	Identity *Link
	Block    string
	Blocked  *Link
	Page     string // of the certificate; empty: it is not known beyond the register
	Notes    []ClientNote
	Alerts   []ClientAlertItem
	Life     parts.Life
	From     string
	Until    string
	Facts    []parts.Fact
	Days     Trend
	Hours    Trend
	Lists    []ClientTraits
}

// ClientNote is something worth knowing about a certificate.
type ClientNote struct{ Label, Sentence string }

// ClientTraits is with what, from where or to where it came, or why it failed.
type ClientTraits struct {
	ID    string
	Title string
	Of    string // the head of its first column
	Rows  []ClientTrait
}

// ClientTrait is one line of it.
type ClientTrait struct {
	Value  string // hostile
	Href   string
	Note   string
	First  string
	Last   string
	In     string
	Failed string
}

// Trend is how often something came, as bars of hours or days.
type Trend struct {
	ID      string
	Title   string
	Summary string
	In      []ChartBar
	Failed  []ChartBar
	Rows    []ChartRow // let in, failed
	Of      string     // the head of the first column
}

// Expiry says what ends when.
type Expiry struct {
	Tabs   []parts.Tab
	Groups []ExpiryGroup
	Alerts []ClientAlertItem
	All    string // texts to all owners
	More   string
}

// ExpiryGroup is one kind of thing that ends.
type ExpiryGroup struct {
	ID    string
	Title string
	None  string
	Items []ExpiryItem
	More  *Link // where to go on; nil: nowhere
}

// ExpiryItem is something that ends.
type ExpiryItem struct {
	Name string // hostile
	Href string
	Note string
	Life parts.Life
	Ends string
	Left string
	Tone parts.Tone
}
