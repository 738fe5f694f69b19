package views

import "countersign/views/parts"

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
