package views

import (
	"countersign/termination"
	"countersign/views/parts"
)

// Authorities is the Trust page: the authorities, and what was found in an upload, if there is one.
type Authorities struct {
	Items   []AuthorityItem
	Upload  string // why the upload could not be read, in words
	Pasted  string // kept when it could not be read; never a private key
	Preview *TrustPreview
	CanMake bool // a local CA can be made on the Certificates page
}

// AuthorityItem is one authority of the list.
type AuthorityItem struct {
	Name     string
	Href     string
	Tags     []TagItem
	Facts    string // fingerprint and key of its first anchor
	UsedBy   []Link
	Life     parts.Life
	LifeText string
	ReadOnly bool
}

// TagItem is a small label.
type TagItem struct {
	Tone parts.Tone
	Text string
}

// Link is a word that leads somewhere.
type Link struct{ Label, Href string }

// TrustPreview says what would become of an upload. Nothing is saved yet.
type TrustPreview struct {
	Source    string // file name or "pasted text", and its size; hostile text
	Headline  string
	Items     []PreviewItem
	PEM       string // what travels on: the certificates, and nothing else
	Into      string // name of the authority that they are added to; empty: a new one
	Name      parts.Input
	Endpoints []PreviewEndpoint
	Error     string // why it was not saved
	Button    string // empty: there is nothing to save
	Pins      bool   // something is pinned, so an endpoint must be chosen
	Would     *Rehearsal
	Periods   []parts.Option
}

// PreviewItem is one thing that was found.
type PreviewItem struct {
	Title       string // hostile text
	Symbol      parts.ChainState
	Tone        parts.Tone
	Label       string
	Message     string
	Facts       []string
	Warnings    []PreviewWarning
	Fingerprint string
	Choices     []parts.Option
}

// PreviewWarning is one thing worth knowing.
type PreviewWarning struct {
	Tone parts.Tone
	Text string
}

// PreviewEndpoint is an endpoint that may ask the authority.
type PreviewEndpoint struct {
	Name   string
	Ticked bool
	Hint   string
}

// Authority is the page of one authority.
type Authority struct {
	ID           string
	Name         parts.Input
	Title        string
	Tags         []TagItem
	ReadOnly     bool
	Command      bool // made by a command, ends with it
	Certificates []AuthorityCertificate
	UsedBy       []Link
	Clients      string
	Delete       parts.Input // asks to type the name where clients depend on it
	AskName      bool
	Would        *Rehearsal     // what its removal would change; nil: not asked
	Periods      []parts.Option // how far back is looked for that
	Error        string
	Revocation   AuthorityRevocation
}

// AuthorityRevocation is what an authority says about certificates that were taken back, and how that is doing.
type AuthorityRevocation struct {
	Label     string // its mode
	Means     string // what that means
	Sources   []RevocationSource
	Missing   []string     // CAs without a fresh list, where the mode is hard
	TakenBack string       // how many were taken back here; empty: none
	Taken     []parts.Fact // those, or the newest of them
	Fetches   bool         // there are addresses
	Problem   string       // with the whole of what was typed
	Open      bool         // something is wrong with what was typed

	Mode, URLs, OCSP, Upload parts.Input
	Modes                    []parts.Option
}

// RevocationSource is a file, an upload or an address of revocation lists, or a responder.
type RevocationSource struct {
	Name    string // hostile text
	Digest  string // of what was given and can be removed; empty: it cannot
	Looked  string // when it was fetched, and will be
	Problem string
	Tone    parts.Tone // of the problem
	Lists   [][]parts.Fact
}

// AuthorityCertificate is one certificate on it.
type AuthorityCertificate struct {
	Item        parts.ChainItem
	Fingerprint string // hex
	Colons      string // as openssl prints it
	Role        termination.Role
	CanChange   bool
	Facts       []parts.Fact
}
