package views

import "countersign/views/parts"

// Certificates is the list of server or of client certificates, with what can be added beside it.
type Certificates struct {
	Client   bool // the tab of client certificates
	Tabs     []parts.Tab
	States   []StateChip
	Items    []CertificateItem
	Shown    string // "1 to 100 of 12 345", where there are more than fit
	Earlier  string // address of the rows before these; empty: none
	Later    string
	Upload   CertificateUpload
	LocalCAs []LocalCAItem
	Make     LocalCAForm
	ACME     *ACME // nil: nothing is obtained
}

// ACME is what is obtained from a CA.
type ACME struct {
	From    string // the CA
	Problem string // of the listener for challenges
	Names   []ACMEName
}

// ACMEName is the certificate of one name that is obtained.
type ACMEName struct {
	Name      string
	Tone      parts.Tone
	State     string
	Error     string // in the CA's own words; hostile text
	Next      string // what happens when
	Ends      string // of the certificate that is there
	Href      string // of it
	Meanwhile string // who answers until it is there
	Retry     bool   // it can be tried now
}

// StateChip chooses certificates by what is left of their life.
type StateChip struct {
	Label   string
	Count   string
	Href    string
	Current bool
}

// CertificateItem is one certificate of the list.
type CertificateItem struct {
	Name     string // hostile text
	Href     string
	Names    string // what it is for, in one line; hostile text
	Issuer   string // hostile text
	Tags     []TagItem
	UsedBy   []Link
	Life     parts.Life
	LifeText string
}

// CertificateUpload is the form for a server certificate with its key. What was typed as a key never comes back.
type CertificateUpload struct {
	Replace string // ID of the certificate that it takes the place of; empty: a new one
	Name    parts.Input
	Cert    parts.Input
	Key     parts.Input
	// Passphrase of the key; what was typed never comes back.
	Passphrase parts.Input
	Error      string // of the form as a whole
	Button     string
}

// LocalCAItem is a CA whose key lives here.
type LocalCAItem struct {
	Name   string
	Href   string
	Issue  string // address of the form that issues from it
	Limits string // for whom it may sign
	Life   string
}

// LocalCAForm makes a local CA.
type LocalCAForm struct {
	Name        parts.Input
	Constrained bool
}

// Certificate is the page of one certificate.
type Certificate struct {
	Title   string // hostile text
	Tags    []TagItem
	Sub     string // one sentence about what it is
	Life    parts.Life
	From    string
	Until   string
	UsedBy  []Link
	Unused  string // what to say when nothing uses it
	Groups  []FactGroup
	Prints  []Print
	Chain   []parts.ChainItem
	PEM     string // addresses of the downloads
	AllPEM  string
	Again   string // address of the form that issues its like anew; empty: not issued here
	Kept    []KeptCertificate
	Block   string // address of the form that blocks it; empty: it is no client's
	Revoke  *Revocation
	Problem string // why the last action was not carried out
}

// Revocation is how a certificate that was issued here is taken back, or that it was.
type Revocation struct {
	Action string // address of the form; empty: it was taken back already
	Reason parts.Input
	Done   string // since when, and why; hostile text
}

// FactGroup is some facts under a head.
type FactGroup struct {
	Head  string
	Facts []parts.Fact
}

// Print is a fingerprint in one of its spellings.
type Print struct{ Name, Value string }

// KeptCertificate is a server certificate that is kept here with its key, under a name.
type KeptCertificate struct {
	ID       string
	Name     string
	ReadOnly bool
	Command  bool   // made by a command, ends with it
	InUse    string // by which endpoints; empty: by none
	Upload   CertificateUpload
}

// IssueForm asks for a certificate that a local CA is to issue.
type IssueForm struct {
	Name  parts.Input
	Kinds []parts.Option
	Days  []parts.Option
	DNS   parts.Input
	URI   parts.Input
	Email parts.Input
	CA    parts.Input
	CAs   []parts.Option // none: there is no local CA
	Ask   *AskForCA      // no local CA may sign this, or there is none
	Error string
}

// AskForCA asks whether to make a local CA on the way.
type AskForCA struct {
	Why    string
	Name   parts.Input
	Ticked bool
}

// IssuedNow is shown once, right after a certificate was issued.
type IssuedNow struct {
	Name     string // hostile text
	Title    string
	Client   bool
	CA       string
	CAHref   string
	MadeCA   bool
	Until    string
	Cut      bool   // it ends with its CA, before the days that were asked for
	Gone     string // when the files go
	Password string
	Files    []IssuedFile
	Try      []TryEndpoint
	Detail   string // address of the certificate's page
}

// IssuedFile is one file to download.
type IssuedFile struct {
	Name string
	Href string
	What string
	Key  bool // it holds the private key
}

// TryEndpoint is an endpoint that lets holders of the certificate in, with the commands that try it.
type TryEndpoint struct {
	ID    string
	Name  string
	PEM   string
	P12   string
	Notes []string
}
