package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"countersign/termination"
	"countersign/termination/proxy"
	"countersign/termination/servercert"
	"countersign/termination/terminate"
	"countersign/termination/upstream"
	"countersign/termination/verify"
)

// table is one revision of the configuration, compiled. It is immutable.
type table struct {
	config *termination.Config
	routes map[netip.AddrPort]*proxy.Names[*endpoint] // by configured listening address
	byID   map[string]*endpoint
	closed map[netip.AddrPort]*proxy.Names[*endpoint] // those that are switched off: their names belong to nobody else
	search *verify.Search
	sites  *proxy.Table

	identities *verify.Identities

	postgres map[netip.AddrPort]bool // addresses of endpoints that have starttls: postgres

	balancers map[netip.AddrPort][]netip.Prefix // who sends PROXY headers to a configured listening address
	listening map[netip.AddrPort]error          // why an address could not be opened
}

// endpoint is an endpoint with everything that its connections need.
type endpoint struct {
	*termination.Endpoint
	policy      *verify.Policy
	agentPolicy *verify.Policy        // what its agents decide by; here only its hash counts
	routes      []*verify.Policy      // of routes that have their own
	terminator  *terminate.Terminator // nil where TLS ends in the upstream
	tlsKey      string                // what the terminator depends on
	chooser     *servercert.Chooser   // this table's own: a handshake keeps to the certificates that it began with
	chains      []servercert.Chain    // what the chooser began with
	visits      *atomic.Int64         // verified clients since the start
	service     *upstream.Service     // of raw bytes, once the table is in force
	problem     string                // why nobody can enter; empty: all is well
}

func emptyTable() *table {
	config := &termination.Config{Limits: termination.DefaultLimits()}
	return &table{config: config, search: verify.NewSearch(config), identities: verify.NewIdentities(config)}
}

// compile builds the table of a configuration. What did not change is taken over from the table before: terminators,
// so that their session tickets stay valid, and certificates.
func (g *Gateway) compile(config *termination.Config, before *table) (*table, error) {
	t := &table{
		config: config,
		routes: map[netip.AddrPort]*proxy.Names[*endpoint]{},
		closed: map[netip.AddrPort]*proxy.Names[*endpoint]{},
		byID:   map[string]*endpoint{},
		search: verify.NewSearch(config).WithSeen(&g.seen),

		postgres: map[netip.AddrPort]bool{},
	}
	t.identities = verify.NewIdentities(config)
	var sites []*proxy.Site
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if !e.Enabled {
			site, err := t.close(config, e)
			if err != nil {
				return nil, fmt.Errorf("close endpoint %q: %w", e.Name, err)
			}
			sites = append(sites, site)
			continue
		}
		scope := verify.Scope{Endpoint: e.Name, Identities: t.identities, Revocation: g.revocation}
		compiled, err := g.compileEndpoint(config, e, before.byID[e.ID], scope)
		if err != nil {
			return nil, fmt.Errorf("compile endpoint %q: %w", e.Name, err)
		}
		if err := t.add(compiled); err != nil {
			return nil, fmt.Errorf("route endpoint %q: %w", e.Name, err)
		}
		site, err := proxy.NewSite(config, e, compiled.policy, scope)
		if err != nil {
			return nil, fmt.Errorf("serve endpoint %q: %w", e.Name, err)
		}
		sites = append(sites, site)
	}
	var err error
	if t.sites, err = proxy.NewTable(sites...); err != nil {
		return nil, err
	}
	t.sites.UseCredentials(config)
	return t, nil
}

// route finds the endpoint of a server name as the client sent it: exact, wildcard, fallback, or none. A name that is
// no name is treated as unknown, never as missing. A client that came to a listener on all interfaces also reaches the
// endpoints of the interface that it came by; of two that match alike, the one of the interface answers.
func (t *table) route(listener, local netip.AddrPort, serverName string) *endpoint {
	var found *endpoint
	best := proxy.MatchNone
	for _, address := range reached(listener, local) {
		for _, names := range [...]*proxy.Names[*endpoint]{t.routes[address], t.closed[address]} {
			if names == nil {
				continue
			}
			e, match := names.Lookup(serverName)
			if match != proxy.MatchNone && (best == proxy.MatchNone || match < best) { // exact is the least
				found, best = e, match
			}
		}
	}
	return found
}

// reached are the configured addresses whose endpoints a connection can reach, nearest first.
func reached(listener, local netip.AddrPort) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, 4)
	for _, address := range [...]netip.AddrPort{
		local, listener,
		netip.AddrPortFrom(netip.IPv4Unspecified(), listener.Port()), netip.AddrPortFrom(netip.IPv6Unspecified(), listener.Port()),
	} {
		if address == local || address == listener || covers(address, local) {
			out = append(out, address)
		}
	}
	return out
}

// noteBalancers notes who sends PROXY headers to an endpoint's address.
func (t *table) noteBalancers(e *endpoint) {
	if len(e.ProxyProtocol) == 0 {
		return
	}
	if t.balancers == nil {
		t.balancers = map[netip.AddrPort][]netip.Prefix{}
	}
	t.balancers[e.Address()] = e.ProxyProtocol
}

// answersPostgres reports whether an endpoint that a connection can reach has starttls: postgres. The client asks before
// it says whom it wants, so all endpoints of an address have to do with one answer.
func (t *table) answersPostgres(listener, local netip.AddrPort) bool {
	return slices.ContainsFunc(reached(listener, local), func(a netip.AddrPort) bool { return t.postgres[a] })
}

// close keeps the names of an endpoint that is switched off, so that its clients do not end up at a wildcard or a
// fallback, which may be laxer. It opens no socket for them. A fallback that is switched off leaves nothing behind.
func (t *table) close(config *termination.Config, e *termination.Endpoint) (*proxy.Site, error) {
	if !e.Fallback() {
		if err := enter(t.closed, &endpoint{Endpoint: e}); err != nil {
			return nil, err
		}
	}
	// To HTTP it is an endpoint whose requests are not served here: its name gets 421 on other connections.
	sealed := *e
	sealed.TerminateAt = termination.AtUpstream
	if e.Fallback() {
		sealed.Port = 0 // of no listener
	}
	return proxy.NewSite(config, &sealed, nil, verify.Scope{})
}

// covers reports whether a listener on all interfaces takes the connections of another address too. That of IPv6 takes
// IPv4 as well.
func covers(all, address netip.AddrPort) bool {
	return all != address && all.Port() == address.Port() && all.Addr().IsUnspecified() &&
		(all.Addr().Is6() || address.Addr().Is4())
}

// sockets are the addresses to listen on: those of the endpoints, without the ones that another covers.
func (t *table) sockets() map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	if t.agentsWanted() {
		out[t.config.Agents.Listen] = true
	}
	for address := range t.routes {
		if !t.covers(address) {
			out[address] = true
		}
	}
	return out
}

// covers reports whether an endpoint listens on all interfaces, an address among them.
func (t *table) covers(address netip.AddrPort) bool {
	for other := range t.routes {
		if covers(other, address) {
			return true
		}
	}
	return false
}

// add enters an endpoint under all its names, or as the fallback of its address.
func (t *table) add(e *endpoint) error {
	t.byID[e.ID] = e
	t.noteBalancers(e)
	if e.StartTLS == termination.StartTLSPostgres {
		t.postgres[e.Address()] = true
	}
	return enter(t.routes, e)
}

func enter(into map[netip.AddrPort]*proxy.Names[*endpoint], e *endpoint) error {
	names, ok := into[e.Address()]
	if !ok {
		names = proxy.NewNames[*endpoint]()
		into[e.Address()] = names
	}
	if e.Fallback() {
		return names.SetFallback(e)
	}
	for _, n := range e.ServerNames() {
		if err := names.Add(n, e); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gateway) compileEndpoint(config *termination.Config, e *termination.Endpoint, before *endpoint, scope verify.Scope) (*endpoint, error) {
	out := &endpoint{Endpoint: e, visits: new(atomic.Int64)}
	if before != nil {
		out.visits = before.visits
	}
	var err error
	if e.TerminateAt == termination.AtAgent {
		out.agentPolicy, err = verify.Compile(config, e.PolicyFor(nil), scope)
		return out, err
	}
	if e.TerminateAt != termination.AtEdge {
		return out, nil
	}
	if out.policy, err = verify.Compile(config, e.PolicyFor(nil), scope); err != nil {
		return nil, err
	}
	if out.routes, err = routePolicies(config, e, scope); err != nil {
		return nil, err
	}
	chains, problem := g.chains(config, e)
	out.chains, out.chooser, out.problem = chains, servercert.NewChooser(chains, g.now), problem
	out.tlsKey = tlsKey(e, out.policy, out.routes)
	if before != nil && before.tlsKey == out.tlsKey {
		out.terminator = before.terminator
		return out, nil
	}
	options := terminate.Options{Endpoint: e, Policy: out.policy, Routes: out.routes, Certificates: *out.certificates(), Now: g.now}
	if e.Scheme == termination.SchemeTLS {
		options.Rate = g.rate // requests are what counts in HTTP
	}
	out.terminator, err = terminate.New(options)
	return out, err
}

func (e *endpoint) certificates() *terminate.Certificates {
	return &terminate.Certificates{GetCertificate: e.chooser.GetCertificate, Leaves: e.chooser.Leaves}
}

func routePolicies(config *termination.Config, e *termination.Endpoint, scope verify.Scope) ([]*verify.Policy, error) {
	var out []*verify.Policy
	for i := range e.Routes {
		r := &e.Routes[i]
		if r.ClientAuth == nil && r.Also == nil {
			continue
		}
		p, err := verify.Compile(config, e.PolicyFor(r), scope)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Path, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// tlsKey names everything that decides what TLS asks for and who may enter. When it changes, so do the ticket keys.
func tlsKey(e *termination.Endpoint, own *verify.Policy, routes []*verify.Policy) string {
	var others []string
	for _, r := range routes {
		others = append(others, r.Hash())
	}
	slices.Sort(others)
	return strings.Join(append([]string{e.ID, string(e.Scheme), e.TLSPolicy().Key(), own.Hash()}, others...), " ")
}

// chains returns what an endpoint can present. A certificate that cannot be had closes the endpoint, not the gateway: the
// problem is why there is none at all.
func (g *Gateway) chains(config *termination.Config, e *termination.Endpoint) (chains []servercert.Chain, problem string) {
	names := e.Certificates
	if len(names) == 0 {
		names = []string{termination.CertificateLocal}
	}
	for _, name := range names {
		if name == termination.CertificateACME {
			obtained, all := g.obtainedFor(e)
			chains = append(chains, obtained...)
			if all {
				continue
			}
		}
		if name == termination.CertificateACME || name == termination.CertificateLocal {
			chain, err := g.local.chain(config.LocalCAs, e, g.now())
			if err != nil {
				problem = err.Error()
				continue
			}
			chains = append(chains, chain)
			continue
		}
		c := config.Certificate(name)
		chains = append(chains, servercert.Chain{Certificates: c.Chain, Key: c.Key})
	}
	if len(chains) > 0 {
		problem = "" // another certificate answers
	}
	for i := range chains {
		chains[i].Staple = g.stapler.Staple(chains[i].Certificates[0])
	}
	return chains, problem
}

// obtainedFor returns what was obtained for the names of an endpoint, and whether that is all of them. Until it is, the local
// CA answers for the rest.
func (g *Gateway) obtainedFor(e *termination.Endpoint) (chains []servercert.Chain, all bool) {
	if g.obtained == nil {
		return nil, false
	}
	all = true
	for _, name := range e.ServerNames() {
		chain, ok := g.obtained.Chain(name)
		if ok {
			chains = append(chains, chain)
		}
		all = all && ok
	}
	return chains, all
}
