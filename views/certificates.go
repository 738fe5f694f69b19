package views

import "countersign/views/parts"

// Certificates is the list of server or of client certificates, with what can be added beside it.
type Certificates struct {
	Client   bool // the tab of client certificates
	Tabs     []parts.Tab
	States   []StateChip
	Items    []CertificateItem
	Rows     Rows
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
