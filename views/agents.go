package views

import "countersign/views/parts"

// Agents is what the page of agents shows.
type Agents struct {
	Problem     string       // why no agent can connect; empty: nothing is wrong
	Alone       []AlonePlace // endpoints that nobody serves
	AloneMore   int          // how many more there are than fit
	States      []StateChip  // empty: there are no agents
	Of          string       // the one endpoint whose agents are shown; empty: all
	Items       []AgentItem  // of this page
	None        string       // why there are no items, where there are agents; empty: there are, or there are none at all
	Rows        Rows
	CanInvite   bool          // an endpoint's TLS ends at an agent
	Example     *AgentExample // where none does
	Invitations []InvitationItem
	Refresh     string // address of this list
}

// AlonePlace is an endpoint whose clients are refused for want of an agent.
type AlonePlace struct {
	Name   string
	Href   string
	Invite string
}

// AgentItem is one agent of the list.
type AgentItem struct {
	ID       string
	Short    string // of the ID
	Name     string // hostile text
	Endpoint Link   // what it serves
	Tone     parts.Tone
	Mark     string // the shape that says the same as the tone
	State    string
	Since    string // how long it has been so
	Exact    string // the same as a moment
	Problem  string // in the agent's own words; hostile text; empty: none
	Now      string // connections and round trip; empty: it is not online
	Policy   string // which revision it confirmed
	Lagging  bool   // not the one in force
	Version  string // hostile text
	Address  string // hostile text
	Remove   string // address of the question
}

// AgentExample is a first endpoint at an agent.
type AgentExample struct{ Host, Port, Upstream string }

// InvitationItem is one invitation of the list.
type InvitationItem struct {
	ID       string
	Endpoint Link
	Tone     parts.Tone
	Mark     string
	State    string
	When     string // when it ends or ended
	Exact    string
	Made     string
	By       string // hostile text
	Withdraw string // address; empty: it is not open
}

// AgentInvite is the form of an invitation.
type AgentInvite struct {
	Endpoint  parts.Input
	Endpoints []parts.Option
	Expires   parts.Input
	Lives     []parts.Option
	Gateways  parts.Input
	Open      bool     // the fold of the gateway's addresses
	Problems  []string // what belongs to no field
	Example   *AgentExample
}

// AgentInvited is what follows an invitation.
type AgentInvited struct {
	Endpoint string
	Href     string // of the endpoint
	Command  string // empty: it was shown before
	Facts    []parts.Fact
	Note     string // what to know about the addresses; empty: nothing
	NoCA     string // why an agent without a certificate of its own gets none; empty: it gets one
	Upstream string
	Waiting  AgentWaiting
}

// AgentWaiting is what became of an invitation.
type AgentWaiting struct {
	Tone    parts.Tone
	Mark    string
	State   string
	Text    string // what to do; hostile text
	Done    bool   // an agent came by it
	Refresh string // address of this
}

// AgentRemove asks before an agent is cut off.
type AgentRemove struct {
	Agent    AgentItem
	Facts    []parts.Fact
	Affected []string
}

// EndpointAgents are the agents of one endpoint, on its page.
type EndpointAgents struct {
	Online  []AgentItem
	More    int    // how many more are online than fit
	Offline int    // how many are not
	All     string // address of the list of all
	Invite  string // address of the form
	Command string // that invites from a terminal
	Problem string // why no agent can connect; empty: nothing is wrong
	Running bool   // the endpoint is not stopped
}
