package views

import "countersign/views/parts"

// Judged is what a policy says of a client, and how it came to that.
type Judged struct {
	Error     string // it could not be judged
	Draft     bool   // by a policy that is not saved
	Choose    bool   // whom, is still to be said
	Who       string // hostile text
	In        bool
	Undecided bool // HTTP decides, for each request
	By        string
	Reason    string
	Steps     []JudgedStep
	Notes     []string
	Routes    []JudgedRoute
}

// JudgedStep is one step of a judgement. All of it is hostile text.
type JudgedStep struct {
	What, Code, Text string
	State            string // ok, bad, or skip: it decided nothing
	More             []string
}

// JudgedRoute is the same under a route's own policy.
type JudgedRoute struct {
	Path      string
	Asked     bool // the path that was tried is its
	In        bool
	Undecided bool
	Why       string
}

// TryForm is the form that asks whom to try.
type TryForm struct {
	PEM, Address, Method, Path parts.Input
	Recent                     []parts.Option
	Identity                   *parts.Input // nil: there is none
	Identities                 []string
	Draft                      []Hidden // a policy that is not saved
	Again                      []Hidden // whom was tried, for the form of the policy
}

// Hidden is a field that nobody sees.
type Hidden struct{ Name, Value string }

// RuleLine is a rule with the number of clients that it decided about today.
type RuleLine struct {
	Text, Hits string
	Shared     bool // of the defaults
}
