package views

import "countersign/views/parts"

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
