package views

// PolicyThen is the endpoint of a handshake as it was configured at that time.
type PolicyThen struct {
	ID           string // of the handshake
	Endpoint     string // its name at that time
	EndpointHref string // empty: it is gone
	When, Exact  string
	Revision     uint64
	Since        string // when it was made so
	By           string
	Text         string           // in the words of the configuration file
	Changes      []EndpointChange // since then, newest first
}
