package views

import "countersign/views/parts"

// Blocked is the page of what is blocked by hand.
type Blocked struct {
	Tabs    []parts.Tab
	Items   []BlockItem
	Rows    Rows
	Problem []string // blocks that cannot be read
}

// BlockItem is one row of the list, and the head of a page.
type BlockItem struct {
	ID     string
	Href   string
	What   string // "Certificate", "Key" or "Serial number"
	Value  string
	Client string // as it was seen last; hostile text; empty: not known
	Why    string // hostile text
	When   string
	Exact  string
	By     string
	File   bool // the configuration file blocks it
}

// BlockForm asks what of a client is to be blocked, and why.
type BlockForm struct {
	From     parts.Fact // whom it is about; empty: whoever is typed in
	Hidden   string     // reference of the certificate
	What     parts.Input
	Choices  []parts.Option
	Pin      parts.Input
	Serial   parts.Input
	Issuer   parts.Input
	Issuers  []parts.Option
	Why      parts.Input
	Back     string
	Problems []string
	Unproven bool // the client has not shown that it has the key
}

// Block is the page of one block, with what it has led to.
type Block struct {
	BlockItem
	Events  []BlockEvent // oldest first
	Cut     string       // how many connections were closed, in words
	Refused string       // likewise
	Partly  string       // what was not searched
	Refresh string
}

// BlockEvent is one thing that the block has done.
type BlockEvent struct {
	When   string
	Exact  string
	Text   string
	Detail string // hostile text
	Href   string // of the handshake
	Tone   parts.Tone
	Mark   string
}
