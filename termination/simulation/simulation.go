package simulation

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/verify"
)

// Side is a configuration with what is known of blocked and revoked certificates under it.
type Side struct {
	Config     *termination.Config
	Revocation *revocation.Registry // nil: only what the configuration itself says
}

// Options say what is compared.
type Options struct {
	Current, Proposed Side
	Budget            time.Duration    // how long to judge before returning what there is; 0: [DefaultBudget]
	Now               func() time.Time // for the budget; nil: time.Now
}

// DefaultBudget is how long a simulation may take: somebody waits for a page.
const DefaultBudget = 2 * time.Second

// Change is what becomes of a client.
type Change string

// The changes, in the order in which a person wants to read them.
const (
	Loses    Change = "loses"     // has entry, and would be refused
	Gains    Change = "gains"     // is refused, and would come in
	Unknown  Change = "unknown"   // nothing can be said; Why tells the reason
	StaysOut Change = "stays_out" // is refused now, and would be
	StaysIn  Change = "stays_in"  // has entry, and would have
)

// changes lists them in that order.
func changes() []Change { return []Change{Loses, Gains, Unknown, StaysOut, StaysIn} }

// Why nothing can be said of a client.
type Why string

// The causes.
const (
	WhySealed   Why = "sealed"    // it passed through: the service behind decides
	WhyBroken   Why = "broken"    // its handshakes ended before its certificate was looked at
	WhyNoChain  Why = "no_chain"  // what it presented is not kept any more
	WhyNotAsked Why = "not_asked" // nobody asked it for a certificate, and the proposal would
	WhyRequest  Why = "request"   // the expression asks for the request, which is not recorded
	WhyTime     Why = "time"      // the budget was used up before its turn
)

// Words says it in half a sentence, after "cannot be said: ".
func (w Why) Words() string {
	switch w {
	case WhySealed:
		return "its TLS was not opened here, the service behind decides"
	case WhyBroken:
		return "its handshakes ended before its certificate was looked at"
	case WhyNoChain:
		return "the certificates that it presented are not kept any more"
	case WhyNotAsked:
		return "it was never asked for a certificate; report only asks, and lets in all the same"
	case WhyRequest:
		return "the expression asks for the request, which is not recorded"
	case WhyTime:
		return "there was no time left to look"
	}
	return ""
}

// Entry is how far a client gets.
type Entry int

// The ways in.
const (
	Out    Entry = iota
	Partly       // TLS lets it in, but HTTP refuses it on the paths of the endpoint's own policy
	Inside
)

// Client is what becomes of one client at one endpoint.
type Client struct {
	EndpointID string
	Endpoint   string // name in the proposal, else as recorded
	Name       termination.ClientName
	Address    netip.Addr // of its newest handshake
	JA4        string
	Handshake  string // ID of the handshake that was judged
	First      time.Time
	Last       time.Time
	Handshakes int64

	Change Change
	Why    Why                // with Unknown
	Had    Entry              // as recorded
	Was    termination.Reason // why it was refused, or would have been, as recorded
	Is     Entry              // by the configuration of now
	Would  Entry              // by the proposal
	Reason termination.Reason // why the proposal refuses it
	// Rule is the rule of the proposal that decided; empty: none did. Detail is the first failed check in words.
	Rule   string
	Detail string
	// Silent: it showed no certificate, maybe because the CAs that were named to it did not include its own.
	Silent bool
}

// Shown reports whether the client ever showed a certificate.
func (c *Client) Shown() bool { return c.Name.Fingerprint != termination.Fingerprint{} }

// Result is what a simulation found.
type Result struct {
	Clients    []Client // who loses first, then who gains; each newest first
	Counts     map[Change]int
	Handshakes int64 // that the clients stand for
	Judgements int
	Partial    bool // the budget ended it
}

// Names of those of one change, at most n.
func (r *Result) Names(c Change, n int) []string {
	var out []string
	for i := range r.Clients {
		if r.Clients[i].Change != c {
			continue
		}
		if len(out) == n {
			break
		}
		out = append(out, r.Clients[i].Label())
	}
	return out
}

// Label is what a person may call the client; hostile text.
func (c *Client) Label() string {
	switch {
	case c.Name.Name != "":
		return c.Name.Name
	case c.Shown():
		return c.Name.Fingerprint.Short()
	case c.Address.IsValid():
		return c.Address.String()
	}
	return "unknown"
}

// Run simulates the proposal over visits. They may be in any order, and of endpoints that are in neither configuration:
// nothing can be said of those. It ends early with what it has when ctx or the budget does.
func Run(ctx context.Context, visits []termination.Visits, o Options) *Result {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	budget := o.Budget
	if budget <= 0 {
		budget = DefaultBudget
	}
	r := run{current: newSide(o.Current), proposed: newSide(o.Proposed), judged: map[judgedKey]judged{}}
	until := now().Add(budget)
	order := newestFirst(visits)
	clients := map[clientKey]*tally{}
	for i, at := range order {
		v := &visits[at]
		if !r.partial && i%64 == 0 && (ctx.Err() != nil || now().After(until)) {
			r.partial = true
		}
		key := clientKey{v.EndpointID, v.ClientKey()}
		t := clients[key]
		if t == nil {
			t = &tally{}
			clients[key] = t
		}
		t.add(v, r.visit(v))
	}
	return r.result(clients)
}

func newestFirst(visits []termination.Visits) []int {
	order := make([]int, len(visits))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return visits[b].Last.Compare(visits[a].Last) })
	return order
}

type clientKey struct{ endpoint, client string }

// tally collects the visits of one client at one endpoint.
type tally struct {
	client Client
	names  map[string]bool // server names whose newest visit has been taken in
}

// add takes visits in, newest first. Of each server name the newest that says something counts, and of several names the
// one with the weightiest change.
func (t *tally) add(v *termination.Visits, c Client) {
	handshakes, first, last := t.client.Handshakes+v.Count, v.First, v.Last
	if t.names == nil {
		t.client, t.names = c, map[string]bool{}
	} else {
		if t.client.First.Before(first) {
			first = t.client.First
		}
		last = t.client.Last
		says := c.Why != WhyBroken
		if says && !t.names[v.ServerName] && (t.client.Why == WhyBroken || weight(c.Change) < weight(t.client.Change)) {
			t.client = c
		}
	}
	if c.Why != WhyBroken && len(t.names) < maxNames {
		t.names[v.ServerName] = true
	}
	t.client.Handshakes, t.client.First, t.client.Last = handshakes, first, last
}

// maxNames bounds the server names that are remembered of one client: names are what a client says.
const maxNames = 100

func weight(c Change) int { return slices.Index(changes(), c) }

func (r *run) result(clients map[clientKey]*tally) *Result {
	out := &Result{Clients: make([]Client, 0, len(clients)), Counts: map[Change]int{}, Judgements: r.judgements, Partial: r.partial}
	for _, t := range clients {
		out.Clients = append(out.Clients, t.client)
		out.Counts[t.client.Change]++
		out.Handshakes += t.client.Handshakes
	}
	slices.SortFunc(out.Clients, func(a, b Client) int {
		return cmp.Or(
			cmp.Compare(weight(a.Change), weight(b.Change)), b.Last.Compare(a.Last),
			strings.Compare(a.Endpoint, b.Endpoint), strings.Compare(a.Handshake, b.Handshake),
		)
	})
	return out
}

// side is a configuration whose endpoints are compiled when they are first asked for.
type side struct {
	Side
	identities *verify.Identities
	endpoints  map[string]*endpoint // by ID
}

// endpoint is an endpoint ready to judge.
type endpoint struct {
	*termination.Endpoint
	own    *verify.Policy
	routes []*verify.Policy
	broken bool // its policy cannot be compiled
}

func newSide(s Side) *side {
	if s.Revocation == nil && s.Config != nil {
		s.Revocation = revocation.New(revocation.Options{})
		s.Revocation.Apply(s.Config)
	}
	return &side{Side: s, endpoints: map[string]*endpoint{}}
}

// endpoint returns nil where there is none of that ID.
func (s *side) endpoint(id string) *endpoint {
	if e, known := s.endpoints[id]; known {
		return e
	}
	var out *endpoint
	for i := range s.Config.Endpoints {
		if s.Config.Endpoints[i].ID == id {
			out = s.compile(&s.Config.Endpoints[i])
		}
	}
	s.endpoints[id] = out
	return out
}

func (s *side) compile(e *termination.Endpoint) *endpoint {
	out := &endpoint{Endpoint: e}
	if e.TerminateAt == termination.AtUpstream {
		return out
	}
	if s.identities == nil {
		s.identities = verify.NewIdentities(s.Config)
	}
	scope := verify.Scope{Endpoint: e.Name, Identities: s.identities, Revocation: s.Revocation}
	var err error
	if out.own, err = verify.Compile(s.Config, e.ClientAuth, scope); err != nil {
		out.broken = true
		return out
	}
	for _, route := range e.Routes {
		if route.ClientAuth == nil {
			continue
		}
		p, err := verify.Compile(s.Config, *route.ClientAuth, scope)
		if err != nil {
			out.broken = true
			return out
		}
		out.routes = append(out.routes, p)
	}
	return out
}
