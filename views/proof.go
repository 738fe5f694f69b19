package views

import "countersign/views/parts"

// Proof is the panel about real handshakes that the gateway made with an endpoint.
type Proof struct {
	Action     string
	Possible   bool   // it runs
	Sealed     bool   // TLS ends in the service
	Export     string // empty: it was not proven yet
	When       string
	Exact      string
	Revision   uint64
	Stale      bool // the endpoint has changed since
	Handshakes int
	Tone       parts.Tone
	Headline   string
	Lines      []ProofLine
}

// ProofLine is one thing that was tried.
type ProofLine struct {
	Tone     parts.Tone
	Mark     string
	Tried    string
	Happened string
	Expected string // where something else happened
	Detail   string // may hold text from a service
	Href     string // of the handshake; empty: none was recorded
	Raise    string // where the lowest version is raised
}
