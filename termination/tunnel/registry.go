package tunnel

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"countersign/termination"
)

// Registry is what the gateway must be told about agents, and what it tells about them. The store implements it. Its
// methods are called by many goroutines, never with a lock of the gateway held, and may take their time; ctx bounds it.
type Registry interface {
	// Redeem uses up the invitation with this hash of its secret, and stores the agent, both or neither. a comes with
	// everything that is known of the agent: ID, Name, Key, Created, Version, Address, and in EndpointID the endpoint
	// that the agent asked for, or nothing when it leaves that to the invitation. The answer is a with the invitation's
	// EndpointID.
	//
	// An invitation lets in one agent, once, whatever goes on at the same time. The errors are [ErrInvitationUnknown],
	// [ErrInvitationUsed], [ErrInvitationExpired], and [ErrInvitationElsewhere] where a.EndpointID is another endpoint
	// than the invitation's, which then stays unused; any other error means that the store failed and nothing was used.
	Redeem(ctx context.Context, secret [sha256.Size]byte, a termination.Agent) (termination.Agent, error)

	// Agent returns the agent with that ID, as it is now. The error is [ErrAgentUnknown], or [ErrAgentRemoved]; any
	// other means that the store failed. It is asked whenever an agent connects, after every [gateway.Gateway.Apply],
	// and from time to time: so an agent is cut off by marking it as removed and applying the configuration again.
	Agent(ctx context.Context, id string) (termination.Agent, error)

	// Expects reports whether an agent of this endpoint has joined, and may come: then clients wait a moment for it after
	// the gateway was started.
	Expects(ctx context.Context, endpointID string) (bool, error)

	// Seen notes that an agent is, or was until now, online: its Seen, Version, Name and Address. It is called when an
	// agent comes and goes, and once a minute in between. An agent that is no longer there is no error.
	Seen(ctx context.Context, a termination.Agent) error
}

// Errors of a Registry. Their texts go to whoever runs the agent.
var (
	ErrInvitationUnknown = errors.New("the gateway does not know this invitation: it was withdrawn, or is another gateway's; make a new one with `countersign agent invite ENDPOINT` or on the gateway's page of agents")
	ErrInvitationUsed    = errors.New("this invitation was used already, and lets in one agent once; make a new one with `countersign agent invite ENDPOINT` or on the gateway's page of agents")
	ErrInvitationExpired = errors.New("this invitation has expired; make a new one with `countersign agent invite ENDPOINT` or on the gateway's page of agents")
	// ErrInvitationElsewhere keeps one endpoint's agent from serving another's name.
	ErrInvitationElsewhere = errors.New("this invitation is for another endpoint; give that one with --endpoint, or make an invitation for the endpoint you mean")
	ErrAgentUnknown        = errors.New("the gateway does not know this agent; let it join again with a new invitation: `countersign agent invite ENDPOINT` makes one, and --data names an empty directory for it")
	ErrAgentRemoved        = errors.New("this agent was removed on the gateway and may not come back; let it join again with a new invitation and an empty --data directory, if that is wanted")
)

// AgentStatus is an agent that is online right now.
type AgentStatus struct {
	ID          string
	Name        string // hostile text
	EndpointID  string
	Endpoint    string // its name; empty when the configuration has it no more
	Since       time.Time
	Version     string // of its program; hostile text
	Address     string // that it comes from
	Connections int    // of clients, given to it and not over
	Revision    uint64 // of the policy that it confirmed last; 0: none yet, so it gets no clients
	Problem     string // why it cannot serve, in its own words; hostile text; empty: it can
	RoundTrip   time.Duration
	Dropped     uint64 // records of handshakes that it could not report
}

// Ready reports whether clients are given to the agent.
func (s AgentStatus) Ready() bool { return s.Revision > 0 && s.Problem == "" }
