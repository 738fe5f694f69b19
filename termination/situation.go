package termination

// Situation is one way for a connection to fail that people meet, in the words in which they look for it. The list feeds
// the documentation. For each of them a test lets a real client fail, finds here what it said and what was explained,
// carries out the fix and sees the client come in.
type Situation struct {
	ID     string
	Reason Reason
	Title  string // what was wrong, in one line
	Sees   string // words of what the client's side shows; empty: nothing
	Says   string // words of the explanation
	Fix    string // words of the fix that the test carries out, from its text or its command
	Turn   Turn   // who carries it out
}

// Situations returns the whole list, in the order of the table of reasons where their owners keep to it. The caller owns
// the slice.
func Situations() []Situation {
	return append(openingSituations(), clientSituations()...)
}
