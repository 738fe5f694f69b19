package gateway

import (
	"crypto/x509"
	"net/netip"
	"slices"

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

// signForAgent issues a server certificate of the local CA for an agent's own key.
func (g *Gateway) signForAgent(config *termination.Config, e *termination.Endpoint, csr []byte) ([]*x509.Certificate, error) {
	names := e.ServerNames()
	ca, err := issuerFor(config.LocalCAs, names)
	if err != nil {
		return nil, err
	}
	return localca.SignServer(ca, csr, names, g.now(), localCertDays)
}
