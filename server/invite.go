package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
)

// DefaultInvitation is how long an invitation is good when nobody says otherwise: long enough to walk over to another
// machine.
const DefaultInvitation = time.Hour

// maxGateways bounds the addresses in one invitation.
const maxGateways = 8

// Invite makes an invitation for one agent, and the agents' CA with the first.
func (s *Server) Invite(ctx context.Context, actor store.Actor, ask api.InviteRequest) (api.NewInvitation, error) {
	config := s.current()
	e := findEndpointIn(config, ask.Endpoint)
	if e == nil {
		return api.NewInvitation{}, store.NotFoundError{Kind: store.KindEndpoint, Name: ask.Endpoint}
	}
	if !config.Agents.Listen.IsValid() {
		return api.NewInvitation{}, invalidInvitation("endpoint", "no agent can connect to this gateway", "give agents.listen an address in the configuration file")
	}
	gateways, err := gatewaysFor(config.Agents, ask.Gateways, machineAddresses)
	if err != nil {
		return api.NewInvitation{}, err
	}
	if ask.Life == 0 {
		ask.Life = DefaultInvitation
	}
	if ca := config.Agents.CA; e.TerminateAt == termination.AtAgent && (ca == nil || !s.now().Before(ca.Certificate.NotAfter)) {
		if config, err = s.makeAgentCA(ctx, actor); err != nil {
			return api.NewInvitation{}, err
		}
	}
	token := termination.JoinToken{Gateways: gateways, Endpoint: e.Name, Secret: termination.NewJoinSecret()}
	invitation, err := s.store.CreateInvitation(ctx, actor, e.ID, token.Hash(), ask.Life)
	if err != nil {
		return api.NewInvitation{}, err
	}
	token.CA = termination.FingerprintOf(config.Agents.CA.Certificate)
	return api.NewInvitation{
		Invitation: api.InvitationOf(invitation, s.now()), Token: token.String(), Gateways: gateways,
		Command: agentCommand(e, token.String()), Note: reachNote(gateways),
	}, nil
}

// makeAgentCA makes the CA of agents, unless somebody else did so just now.
func (s *Server) makeAgentCA(ctx context.Context, actor store.Actor) (*termination.Config, error) {
	ca, err := localca.CreateAgentCA(s.now())
	if err != nil {
		return nil, err
	}
	config, err := s.Change(ctx, actor, func(tx *store.Tx) error { return tx.PutAgentCA(ca) })
	if err != nil {
		return nil, err
	}
	if config.Agents.CA == nil { // it was stored and read in one transaction
		return nil, fmt.Errorf("make the agents' CA: it is not in revision %d", config.Revision)
	}
	return config, nil
}

func findEndpointIn(config *termination.Config, ref string) *termination.Endpoint {
	if e := config.Endpoint(ref); e != nil {
		return e
	}
	for i := range config.Endpoints {
		if config.Endpoints[i].ID == ref {
			return &config.Endpoints[i]
		}
	}
	return nil
}

func invalidInvitation(field, problem, advice string) error {
	return termination.ValidationError{{Kind: store.KindInvitation, Field: field, Problem: problem, Advice: advice}}
}

// gatewaysFor returns the addresses that go into an invitation: those that were asked for; else the configured names and
// then the listener's own address, in the order in which an agent tries them. A wrong one costs an agent time, never
// trust: whoever answers has to prove itself by the pin.
func gatewaysFor(agents termination.Agents, asked []string, machine func() []netip.Addr) ([]string, error) {
	port := strconv.Itoa(int(agents.Listen.Port()))
	var out []string
	add := func(s string) error {
		host, p, err := splitGateway(s, port)
		if err != nil {
			return invalidInvitation("gateway", err.Error(), "write it as in gw.example.com:"+port)
		}
		if address := net.JoinHostPort(host, p); len(out) < maxGateways && !slices.Contains(out, address) {
			out = append(out, address)
		}
		return nil
	}
	if len(asked) > maxGateways {
		return nil, invalidInvitation("gateway", fmt.Sprintf("%d addresses are too many", len(asked)), fmt.Sprintf("name %d at most", maxGateways))
	}
	for _, list := range [][]string{asked, agents.Hosts} {
		for _, s := range list {
			if err := add(s); err != nil {
				return nil, err
			}
		}
		if len(asked) > 0 {
			return out, nil
		}
	}
	own := []netip.Addr{agents.Listen.Addr()}
	if own[0].IsUnspecified() {
		own = nil
		if len(agents.Hosts) == 0 {
			own = machine()
		}
		own = append(own, netip.AddrFrom4([4]byte{127, 0, 0, 1})) // for agents on this machine
	}
	for _, a := range own {
		if err := add(netip.AddrPortFrom(a, agents.Listen.Port()).String()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// splitGateway reads host:port, or a host alone, which gets the port of the listener.
func splitGateway(s, port string) (host, p string, err error) {
	s = strings.TrimSpace(s)
	host, p, err = net.SplitHostPort(s)
	if err != nil {
		host, p = strings.Trim(s, "[]"), port
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q has no port from 1 to 65535", s)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" || a.IsUnspecified() {
			return "", "", fmt.Errorf("%q is no address that an agent can reach", s)
		}
		return a.String(), p, nil
	}
	name, err := termination.NormalizeName(host)
	if err != nil || strings.Contains(name, "*") {
		return "", "", fmt.Errorf("%q is no host and port", s)
	}
	return name, p, nil
}

// machineAddresses are some addresses under which other machines may reach this one.
func machineAddresses() []netip.Addr {
	const most = 4
	var out []netip.Addr
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the invitation goes without
	}
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().IsGlobalUnicast() && len(out) < most {
			out = append(out, ip.Unmap())
		}
	}
	return out
}

// reachNote says so where no address in an invitation can be reached from another machine.
func reachNote(gateways []string) string {
	for _, g := range gateways {
		host, _, err := net.SplitHostPort(g)
		if err != nil {
			return ""
		}
		if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
			return ""
		}
	}
	return "Agents are listened for on this machine alone, so the agent has to run here too. For other machines give agents.listen an address that they reach, in the configuration file, and invite again."
}

// agentCommand is the command that starts an agent, whole. The token stands in the environment: what stands in arguments,
// other users of the machine can read.
func agentCommand(e *termination.Endpoint, token string) string {
	services := e.Upstream.Texts()
	if e.Upstream.Scheme == "" { // not said here: one to be corrected
		services = []string{"http://127.0.0.1:3000"}
		if e.Scheme == termination.SchemeTLS {
			services = []string{"tcp://127.0.0.1:3000"}
		}
	}
	command := "COUNTERSIGN_TOKEN=" + token + " \\\n  countersign agent --endpoint " + shellQuote(e.Name)
	for _, service := range services {
		command += " --upstream " + shellQuote(service)
	}
	return command
}
