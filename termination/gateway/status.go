package gateway

import (
	"crypto/x509"
	"errors"
	"syscall"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/staple"
	"countersign/termination/tunnel"
	"countersign/termination/upstream"
)

// EndpointState says whether an endpoint can be reached.
type EndpointState string

// The states of an endpoint.
const (
	StateListening EndpointState = "listening"
	StateStopped   EndpointState = "stopped" // switched off
	StateFailed    EndpointState = "failed"  // Problem says why
)

// EndpointStatus is an endpoint as it is right now.
type EndpointStatus struct {
	ID          string
	Name        string
	State       EndpointState
	Problem     string // what is wrong and what to do; empty when nothing is
	Connections int
	Exact       bool                // crypto/tls verifies first, so alerts are exact
	Leaves      []*x509.Certificate // what it presents, in order of preference
	Staples     []staple.Status     // of each leaf, in the same order
	PolicyHash  string
	Upstreams   []upstream.TargetStatus // the targets behind, those of routes included; none where an agent or a built-in is
	Agents      int                     // that are online and get its clients
}

// Status is the gateway as it is right now.
type Status struct {
	Revision    uint64
	Endpoints   []EndpointStatus // in the order of the configuration
	Connections int64
	HalfOpen    int64
	TurnedAway  map[Limit]int64      // since the start
	Agents      []tunnel.AgentStatus // that are online, in the order in which they came
	// AgentListener says why no agent can connect, and what to do; empty when all is well or no address is configured.
	AgentListener string
}

// Status tells how each endpoint is doing.
func (g *Gateway) Status() Status {
	t := g.table.Load()
	counts := g.live.countByEndpoint()
	s := Status{
		Revision: t.config.Revision, Connections: g.slots.total.Load(), HalfOpen: g.slots.halfOpen.Load(),
		TurnedAway: map[Limit]int64{},
	}
	for i, name := range limitNames() {
		s.TurnedAway[name] = g.slots.turned[i].Load()
	}
	s.AgentListener = t.agentListenerProblem()
	if g.agents != nil {
		s.Agents = g.agents.Agents()
	}
	ready := map[string]int{}
	for _, a := range s.Agents {
		if a.Ready() {
			ready[a.EndpointID]++
		}
	}
	for i := range t.config.Endpoints {
		e := &t.config.Endpoints[i]
		status := t.status(e, counts[e.ID])
		status.Agents = ready[e.ID]
		for _, leaf := range status.Leaves {
			status.Staples = append(status.Staples, g.stapler.Status(leaf))
		}
		if compiled := t.byID[e.ID]; compiled != nil {
			status.Upstreams = g.upstreams(compiled)
		}
		s.Endpoints = append(s.Endpoints, status)
	}
	return s
}

func (t *table) status(e *termination.Endpoint, connections int) EndpointStatus {
	s := EndpointStatus{ID: e.ID, Name: e.Name, State: StateListening, Connections: connections}
	compiled := t.byID[e.ID]
	if compiled == nil {
		s.State = StateStopped
		return s
	}
	if compiled.policy != nil {
		s.PolicyHash = compiled.policy.Hash()
		s.Leaves = compiled.chooser.Leaves()
	}
	if compiled.agentPolicy != nil {
		s.PolicyHash = compiled.agentPolicy.Hash()
	}
	if compiled.terminator != nil {
		s.Exact = compiled.terminator.Exact()
	}
	if compiled.problem != "" {
		s.State, s.Problem = StateFailed, compiled.problem
	}
	if err := t.listening[e.Address()]; err != nil {
		s.State = StateFailed
		s.Problem = "cannot listen on " + e.Address().String() + ": " + err.Error() + "; " + listenAdvice(err)
	}
	return s
}

// listenAdvice says what to do about an address that cannot be opened.
func listenAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no interface of this machine has that address; correct listen"
	case errors.Is(err, syscall.EACCES):
		return "the system does not let this user open it; choose a port above 1023, or allow it (setcap cap_net_bind_service=+ep on the program)"
	default:
		return "stop the program that uses the port, or choose another one"
	}
}

// Config is the configuration in force. It must not be changed.
func (g *Gateway) Config() *termination.Config { return g.table.Load().config }

// Explain fills in the explanation of a record, from what is known now. The record must be the caller's own copy.
func (g *Gateway) Explain(h *termination.Handshake) { g.table.Load().search.Explain(h, g.now()) }

// ExplainEnd is Explain for a connection that was let in and then ended for a reason: it explains that.
func (g *Gateway) ExplainEnd(h *termination.Handshake, end termination.ConnectionEnd) {
	g.table.Load().search.ExplainEnd(h, end, g.now())
}

// Revocation is what is known of blocked and revoked certificates, for whoever asks what would be.
func (g *Gateway) Revocation() *revocation.Registry { return g.revocation }

// CredentialUses returns when credentials were last used here, by ID, since the last call. Uses at agents are not among them.
func (g *Gateway) CredentialUses() map[string]time.Time { return g.proxy.CredentialUses() }
