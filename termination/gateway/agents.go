package gateway

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
)

// agentsWanted reports whether the listener for agents is to be open: it costs a port, so only while an endpoint has
// its TLS ended by agents.
func (t *table) agentsWanted() bool {
	a := t.config.Agents
	return a.Listen.IsValid() && a.CA != nil && slices.ContainsFunc(t.config.Endpoints, func(e termination.Endpoint) bool {
		return e.TerminateAt == termination.AtAgent
	})
}

// agentsAt reports whether an address is that of the listener for agents.
func (t *table) agentsAt(address netip.AddrPort) bool {
	return t.agentsWanted() && t.config.Agents.Listen == address
}

// agentListenerProblem says why no agent can connect, and what to do.
func (t *table) agentListenerProblem() string {
	a := t.config.Agents
	needed := slices.ContainsFunc(t.config.Endpoints, func(e termination.Endpoint) bool { return e.TerminateAt == termination.AtAgent })
	switch err := t.listening[a.Listen]; {
	case !needed:
		return ""
	case a.CA == nil:
		return "there is no CA for agents; restart the gateway, which makes one, and look at its log"
	case err != nil:
		return "cannot listen for agents on " + a.Listen.String() + ": " + err.Error() + "; " + listenAdvice(err)
	}
	return ""
}

const (
	// agentsReturn is how long after it took over from another process a gateway lets clients wait for agents: those
	// that were connected there are on their way.
	agentsReturn = 8 * time.Second
	agentsLooks  = 20 * time.Millisecond
	// agentsFinish is how long connections through agents may take to end before the agents are sent to another process.
	agentsFinish = 3 * time.Second
)

// awaitAgents waits a moment, and reports whether an agent may be back by then.
func (g *Gateway) awaitAgents(ctx context.Context) bool {
	since := g.takenOver.Load()
	if since == nil || time.Since(*since) > agentsReturn {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(agentsLooks):
		return true
	}
}

// sendAgentsAway ends the tunnels, so that agents connect to the process that has taken over. An agent has one tunnel, so
// that what passes through it ends.
func (g *Gateway) sendAgentsAway() {
	for since := time.Now(); (g.arriving.Load() > 0 || g.throughAgents()) && time.Since(since) < agentsFinish && g.stopped.Err() == nil; {
		select {
		case <-g.stopped.Done():
		case <-time.After(agentsLooks):
		}
	}
	g.agents.Close()
}

// throughAgents reports whether a connection passes through an agent.
func (g *Gateway) throughAgents() bool {
	return slices.ContainsFunc(g.live.all(), func(s *session) bool { return s.record.TerminateAt == termination.AtAgent })
}

// signForAgent issues a server certificate of the local CA for an agent's own key.
func (g *Gateway) signForAgent(config *termination.Config, e *termination.Endpoint, csr []byte) ([]*x509.Certificate, error) {
	names := e.ServerNames()
	ca, err := issuerFor(config.LocalCAs, names)
	if err != nil {
		return nil, err
	}
	return localca.SignServer(ca, csr, names, g.now(), localCertDays)
}
