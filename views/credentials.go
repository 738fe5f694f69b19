package views

import "countersign/views/parts"

// Credentials is what the page of tokens and passwords shows.
type Credentials struct {
	Any       bool // there is one at all
	Demanding bool // an endpoint demands one
	Query     string
	State     string
	States    []StateChip
	Items     []CredentialItem // of this page
	None      string           // why there are no items; empty: there are
	Rows      Rows
}

// CredentialItem is one credential of the list.
type CredentialItem struct {
	ID           string
	Name         string
	Kind         string // in words, with the user
	Everywhere   bool
	Endpoints    []Link
	More         int    // how many endpoints are not named
	Bound        string // to which certificate; empty: to none
	Tone         parts.Tone
	Mark         string
	State        string
	Used         string
	UsedExact    string
	Expires      string // empty: never
	ExpiresExact string
	Blocked      bool
	File         bool   // the configuration file declares it
	Path         string // of its actions
}

// CredentialForm is the form of a new one.
type CredentialForm struct {
	Problems   []string
	Name       parts.Input
	Kind       parts.Input
	Kinds      []parts.Option
	User       parts.Input
	Password   parts.Input
	Endpoints  []parts.Option
	Wrong      string // with the endpoints
	Identity   parts.Input
	Identities []parts.Option
	Pin        parts.Input
	Expires    parts.Input
	Open       bool // the fold of what binds it
}

// CredentialMade shows a secret once.
type CredentialMade struct {
	Name    string
	What    string // the token, or the password
	Secret  string // empty: whoever made it knows it
	User    string
	Command string
	Useless bool // no endpoint demands one yet
	Href    string
}
