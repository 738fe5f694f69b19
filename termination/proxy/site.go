package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"countersign/termination"
	"countersign/termination/credential"
	"countersign/termination/upstream"
	"countersign/termination/verify"
)

// Site is an endpoint as the proxy sees it. It is immutable.
type Site struct {
	Endpoint *termination.Endpoint
	Policy   *verify.Policy // nil where TLS does not end here
	Routes   []Route        // the longest path first

	policies []*verify.Policy // Policy and those of the routes that differ from it
	tls      termination.TLSPolicy
	limits   termination.Limits
	upstream upstream.Key
	own      ownHeaders  // the names of headers
	headers  []ownHeader // likewise
}

// Route is a path under a site with its own policy or upstream.
type Route struct {
	Path   string         // as in termination.Route
	Policy *verify.Policy // the site's where the route has none of its own
	Also   termination.Also
	Strip  bool // the upstream sees the target without Path

	to       termination.Upstream
	upstream upstream.Key
}

// NewSite makes a site of an endpoint. The policy is the endpoint's own, compiled, and nil where TLS does not end here;
// those of the routes are compiled from config within scope.
func NewSite(config *termination.Config, e *termination.Endpoint, policy *verify.Policy, scope verify.Scope) (*Site, error) {
	s := &Site{Endpoint: e, Policy: policy, upstream: upstream.KeyOf(e.Upstream), tls: e.TLSPolicy(), limits: config.Limits}
	if !s.http() {
		_, err := compileHeaders(e, config.Limits) // for an agent's: whoever changes them learns here what is wrong
		return s, err
	}
	if policy == nil {
		return nil, fmt.Errorf("endpoint %q has no client policy", e.Name)
	}
	s.policies = []*verify.Policy{policy}
	var err error
	if s.headers, err = compileHeaders(e, config.Limits); err != nil {
		return nil, err
	}
	for _, h := range e.ForwardHeaders {
		if s.own == nil {
			s.own = ownHeaders{}
		}
		s.own[termination.HeaderSpelling(h.Name)] = true
	}
	for i := range e.Routes {
		r := &e.Routes[i]
		route := Route{Path: r.Path, Policy: policy, Also: e.AlsoFor(r), Strip: r.StripPrefix, to: e.Upstream, upstream: s.upstream}
		if r.Upstream != nil {
			route.to, route.upstream = *r.Upstream, upstream.KeyOf(*r.Upstream)
		}
		if r.ClientAuth != nil || r.Also != nil {
			p, err := verify.Compile(config, e.PolicyFor(r), scope)
			if err != nil {
				return nil, fmt.Errorf("route %s: %w", r.Path, err)
			}
			route.Policy = p
			if !slices.ContainsFunc(s.policies, func(q *verify.Policy) bool { return q.Hash() == p.Hash() }) {
				s.policies = append(s.policies, p)
			}
		}
		s.Routes = append(s.Routes, route)
	}
	slices.SortStableFunc(s.Routes, func(a, b Route) int { return cmp.Compare(len(b.Path), len(a.Path)) })
	return s, nil
}

// http reports whether requests are served here: the name of any other endpoint only ever gets 421.
func (s *Site) http() bool {
	return s.Endpoint.Scheme == termination.SchemeHTTPS && s.Endpoint.TerminateAt == termination.AtEdge
}

// route finds the route of an unescaped path: whole segments match, the longest wins. Without one, the site itself is
// the route.
func (s *Site) route(path string) Route {
	for _, r := range s.Routes {
		if under(path, r.Path) {
			return r
		}
	}
	return Route{Policy: s.Policy, Also: s.Endpoint.Also, to: s.Endpoint.Upstream, upstream: s.upstream}
}

// under reports whether path is prefix or below it; "/apikeys" is not below "/api".
func under(path, prefix string) bool {
	if prefix == "/" {
		return true
	}
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// upstreams calls f for each upstream that requests of the site may go to.
func (s *Site) upstreams(f func(termination.Upstream)) {
	if !s.http() {
		return
	}
	f(s.Endpoint.Upstream)
	for _, r := range s.Routes {
		f(r.to)
	}
}

// Table holds the sites of one revision of the configuration. It is immutable.
type Table struct {
	names       map[netip.AddrPort]*Names[*Site]
	byID        map[string]*Site
	credentials *credential.Set
}

// NewTable makes a table of sites. Every enabled endpoint belongs in it, also those that are no https endpoints: their
// names then belong to somebody. Two sites with one name on one address are an error.
func NewTable(sites ...*Site) (*Table, error) {
	t := &Table{names: map[netip.AddrPort]*Names[*Site]{}, byID: map[string]*Site{}}
	t.UseCredentials(&termination.Config{})
	for _, s := range sites {
		if err := t.add(s); err != nil {
			return nil, fmt.Errorf("endpoint %q: %w", s.Endpoint.Name, err)
		}
	}
	return t, nil
}

// UseCredentials makes the credentials of a configuration count. It is called before the table is in use; without it, none
// does.
func (t *Table) UseCredentials(config *termination.Config) { t.credentials = credential.NewSet(config) }

func (t *Table) add(s *Site) error {
	e := s.Endpoint
	if _, taken := t.byID[e.ID]; taken {
		return fmt.Errorf("the ID %q is used twice", e.ID)
	}
	t.byID[e.ID] = s
	names, ok := t.names[e.Address()]
	if !ok {
		names = NewNames[*Site]()
		t.names[e.Address()] = names
	}
	if e.Fallback() {
		return names.SetFallback(s)
	}
	for _, n := range e.ServerNames() {
		if err := names.Add(n, s); err != nil {
			return err
		}
	}
	return nil
}

// Lookup finds the site of a server name as a peer wrote it, on the listener of that configured address.
func (t *Table) Lookup(listen netip.AddrPort, name string) (*Site, Match) {
	names := t.names[listen]
	if names == nil {
		return nil, MatchNone
	}
	return names.Lookup(name)
}

// Site returns the site of an endpoint, or nil.
func (t *Table) Site(endpointID string) *Site { return t.byID[endpointID] }
