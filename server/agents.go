package server

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// agentRows is how many agents stand on one page.
	agentRows = 100
	// invitationRows is how many invitations stand below them; the API lists all.
	invitationRows = 50
	// alonePlaces is how many endpoints without an agent are named.
	alonePlaces = 8
)

// agentRoutes lists the routes of the pages of agents.
func (s *Server) agentRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/agents", handler: s.agentsPage},
		{method: http.MethodGet, path: "/agents/invite", handler: s.invitePage},
		{method: http.MethodPost, path: "/agents/invite", handler: s.makeInvitation},
		{method: http.MethodGet, path: "/agents/invitations/:id", handler: s.invitationPage},
		{method: http.MethodPost, path: "/agents/invitations/:id/withdraw", handler: s.withdrawInvitation},
		{method: http.MethodGet, path: "/agents/:id/remove", handler: s.removeAgentPage},
		{method: http.MethodPost, path: "/agents/:id/remove", handler: s.removeAgent},
	}
}

// agentsQuery chooses rows of the list.
type agentsQuery struct {
	endpoint string // name; empty: all
	state    string // "online", "offline"; empty: all
	from     int
}

func (q agentsQuery) href() string {
	return listHref("/agents", q.from, "endpoint", q.endpoint, "state", q.state)
}

// agentsPage lists the agents, or answers a script with the part that moves.
func (s *Server) agentsPage(c echo.Context) error {
	ctx := c.Request().Context()
	config, status := s.current(), s.gateway.Status()
	q := agentsQuery{state: c.QueryParam("state")}
	if q.state != "online" && q.state != "offline" {
		q.state = ""
	}
	endpointID := ""
	if ref := c.QueryParam("endpoint"); ref != "" {
		e := findEndpointIn(config, ref)
		if e == nil {
			p := notFound("endpoint", ref)
			p.Href, p.Link = "/agents", "All agents"
			return p
		}
		q.endpoint, endpointID = e.Name, e.ID
	}
	stored, err := s.store.Agents(ctx, endpointID)
	if err != nil {
		return err
	}
	all := api.DescribeAgents(config, stored, status.Agents)
	q.from = pageStart(c.QueryParam("from"), len(inAgentState(all, q.state)))
	if isFragment(c.Request()) {
		// Without the frame, which takes what was said to this session for the next page.
		p := views.Page{Clock: s.clock(c), CSRF: userOf(c).csrf}
		return s.render(c, http.StatusOK, views.AgentsList(p, s.agentsView(p, config, status, all, q)))
	}
	p := s.view(c, "Agents", "refresh.js")
	p.Keys = append(p.Keys, views.Key{Keys: []string{"n"}, Does: "invite an agent"})
	v := s.agentsView(p, config, status, all, q)
	invitations, err := s.store.Invitations(ctx)
	if err != nil {
		return err
	}
	for _, i := range invitations {
		if len(v.Invitations) < invitationRows && (endpointID == "" || i.EndpointID == endpointID) {
			v.Invitations = append(v.Invitations, s.invitationItem(p, i))
		}
	}
	return s.render(c, http.StatusOK, views.AgentsPage(p, v))
}

// inAgentState keeps the agents that are online, or those that are not.
func inAgentState(all []api.Agent, state string) []api.Agent {
	online := 0 // they come first
	for online < len(all) && all[online].Online != nil {
		online++
	}
	switch state {
	case "online":
		return all[:online]
	case "offline":
		return all[online:]
	}
	return all
}

func (s *Server) agentsView(p views.Page, config *termination.Config, status gateway.Status, all []api.Agent, q agentsQuery) views.Agents {
	v := views.Agents{Of: q.endpoint, Refresh: q.href(), Problem: s.agentProblem(status)}
	for i := range config.Endpoints {
		v.CanInvite = v.CanInvite || config.Endpoints[i].TerminateAt == termination.AtAgent
	}
	if !v.CanInvite {
		v.Example = s.agentExample()
	}
	if v.Problem == "" {
		v.Alone, v.AloneMore = alone(config, status, q.endpoint)
	}
	if len(all) == 0 {
		v.Alone, v.AloneMore = nil, 0 // the page says nothing else
		return v
	}
	list := inAgentState(all, q.state)
	for _, state := range []struct{ value, label string }{{"", "All"}, {"online", "Online"}, {"offline", "Offline"}} {
		chip := agentsQuery{endpoint: q.endpoint, state: state.value}
		v.States = append(v.States, views.StateChip{
			Label: state.label, Count: format.Int(len(inAgentState(all, state.value))), Href: chip.href(), Current: q.state == state.value,
		})
	}
	if len(list) == 0 {
		v.None = map[string]string{"online": "None is online right now.", "offline": "All are online."}[q.state]
	}
	for i := range list[q.from:min(q.from+agentRows, len(list))] {
		v.Items = append(v.Items, agentItem(p.Clock, config, &list[q.from+i]))
	}
	v.Rows = rowsFrom(q.from, agentRows, len(list), func(from int) string { return agentsQuery{q.endpoint, q.state, from}.href() })
	return v
}

// agentProblem says why no agent can connect; empty when nothing is wrong.
func (s *Server) agentProblem(status gateway.Status) string {
	for _, p := range *s.problems.Load() {
		if p.Kind == store.KindAgentCA || p.Kind == "agents" {
			return p.Text
		}
	}
	return status.AgentListener
}

// alone returns endpoints that run and that no agent serves, as many as fit and how many more there are.
func alone(config *termination.Config, status gateway.Status, of string) (list []views.AlonePlace, more int) {
	served := map[string]bool{}
	for _, a := range status.Agents {
		served[a.EndpointID] = served[a.EndpointID] || a.Ready()
	}
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if e.TerminateAt != termination.AtAgent || !e.Enabled || served[e.ID] || of != "" && of != e.Name {
			continue
		}
		if len(list) == alonePlaces {
			more++
			continue
		}
		list = append(list, views.AlonePlace{Name: e.Name, Href: endpointPath(e), Invite: "/agents/invite?" + url.Values{"endpoint": {e.Name}}.Encode()})
	}
	return list, more
}

// agentItem is one row of the list.
func agentItem(clock format.Clock, config *termination.Config, a *api.Agent) views.AgentItem {
	item := views.AgentItem{
		ID: a.ID, Short: shortID(a.ID), Name: a.Name, Endpoint: views.Link{Label: a.Endpoint, Href: "/endpoints"}, Version: a.Version, Address: a.Address,
		Remove: "/agents/" + url.PathEscape(a.ID) + "/remove",
		Tone:   parts.Plain, Mark: "○", State: "offline",
	}
	if e := findEndpointIn(config, a.EndpointID); e != nil {
		item.Endpoint.Href = endpointPath(e)
	}
	if a.Online == nil {
		item.Since, item.Exact = "never online", "joined "+clock.Exact(a.Joined)
		if a.LastSeen != nil {
			item.Since, item.Exact = "seen "+clock.Relative(*a.LastSeen), clock.Exact(*a.LastSeen)
		}
		item.Policy = "joined " + clock.Date(a.Joined)
		return item
	}
	o := a.Online
	item.Since, item.Exact = "for "+format.Span(clock.Now.Sub(o.Since)), "since "+clock.Exact(o.Since)
	item.Now = format.Count(o.Connections, "connection", "connections")
	if o.RoundTripMS > 0 {
		item.Now += " · " + strconv.FormatFloat(o.RoundTripMS, 'f', 1, 64) + " ms away"
	}
	switch {
	case o.Problem != "":
		item.Tone, item.Mark, item.State, item.Problem = parts.Bad, "✕", "cannot serve", o.Problem
	case !o.Ready:
		item.Tone, item.Mark, item.State = parts.Warn, "!", "getting the policy"
	default:
		item.Tone, item.Mark, item.State = parts.OK, "●", "online"
	}
	switch {
	case o.Revision == 0:
		item.Policy, item.Lagging = "no policy yet", true
	case o.Revision < config.Revision:
		item.Policy, item.Lagging = "revision "+format.Int(o.Revision)+", "+format.Int(config.Revision)+" is on its way", true
	default:
		item.Policy = "revision " + format.Int(o.Revision) + ", in force"
	}
	if o.Dropped > 0 {
		item.Policy += ", " + format.Int(o.Dropped) + " handshakes not reported"
	}
	return item
}

// shortID shows as much of an ID as tells two apart at a glance: the end is random.
func shortID(id string) string {
	prefix, rest, ok := strings.Cut(id, "_")
	if !ok || len(rest) <= 6 {
		return id
	}
	return prefix + "_…" + rest[len(rest)-6:]
}

func (s *Server) invitationItem(p views.Page, i store.Invitation) views.InvitationItem {
	item := views.InvitationItem{
		ID: i.ID, Endpoint: views.Link{Label: i.Endpoint, Href: "/endpoints"}, Made: p.Relative(i.Created), By: i.By,
		When: "ends " + p.Relative(i.Expires), Exact: p.Exact(i.Expires),
	}
	if e := findEndpointIn(s.current(), i.EndpointID); e != nil {
		item.Endpoint.Href = endpointPath(e)
	}
	switch {
	case !i.Used.IsZero():
		item.Mark, item.State, item.When, item.Exact = "✓", "used", p.Relative(i.Used), p.Exact(i.Used)
	case i.Open(p.Now):
		item.Tone, item.Mark, item.State = parts.Sealed, "○", "open"
		item.Withdraw = "/agents/invitations/" + url.PathEscape(i.ID) + "/withdraw"
	default:
		item.Mark, item.State, item.When = "✕", "expired", p.Relative(i.Expires)
	}
	return item
}

// agentOf finds the agent of a request, with what is known of it now.
func (s *Server) agentOf(c echo.Context) (*api.Agent, error) {
	stored, err := s.store.Agent(c.Request().Context(), c.Param("id"))
	var removed store.AgentRemovedError
	if errors.As(err, &removed) {
		err = store.NotFoundError{Kind: store.KindAgent, Name: c.Param("id")}
	}
	if err != nil {
		return nil, err
	}
	all := api.DescribeAgents(s.current(), []termination.Agent{stored}, s.gateway.Status().Agents)
	return &all[0], nil
}

func (s *Server) removeAgentPage(c echo.Context) error {
	a, err := s.agentOf(c)
	if err != nil {
		return err
	}
	p := s.view(c, "Remove an agent")
	item := agentItem(p.Clock, s.current(), a)
	v := views.AgentRemove{Agent: item, Affected: affectedBy(a, s.gateway.Status())}
	v.Facts = []parts.Fact{
		{Name: "Serves", Value: a.Endpoint},
		{Name: "State", Value: item.State, Note: item.Since},
		{Name: "Joined", Value: p.Moment(a.Joined)},
		{Name: "Comes from", Value: a.Address},
		{Name: "Program", Value: a.Version},
		{Name: "Its key", Value: a.Key.String()},
		{Name: "ID", Value: a.ID},
	}
	return s.render(c, http.StatusOK, views.AgentRemovePage(p, v))
}

// affectedBy says what the removal of an agent means for others.
func affectedBy(a *api.Agent, status gateway.Status) []string {
	others := 0
	for _, o := range status.Agents {
		if o.EndpointID == a.EndpointID && o.ID != a.ID && o.Ready() {
			others++
		}
	}
	var out []string
	if a.Online != nil && a.Online.Connections > 0 {
		out = append(out, format.Count(a.Online.Connections, "connection goes", "connections go")+" through it now, and will be cut off.")
	}
	switch {
	case others > 0:
		out = append(out, format.Count(others, "other agent serves ", "other agents serve ")+a.Endpoint+" and takes what comes next.")
	case a.Online != nil && a.Online.Ready:
		out = append(out, "No other agent is online for "+a.Endpoint+": every client is refused from then on, until one is.")
	default:
		out = append(out, "Nobody is served by it now.")
	}
	return append(out, "It may not come back. To bring it back, invite it again.")
}

func (s *Server) removeAgent(c echo.Context) error {
	a, err := s.agentOf(c)
	if err != nil {
		return err
	}
	if _, err := s.change(c, func(tx *store.Tx) error { return tx.RemoveAgent(a.ID) }); err != nil {
		return err
	}
	s.say(c, "ok", a.Name+" is removed and cut off. It may not come back.")
	return s.redirect(c, "/agents")
}

// endpointAgents are the agents of one endpoint, for its page; nil where its TLS ends elsewhere.
func (s *Server) endpointAgents(c echo.Context, p views.Page, e *termination.Endpoint) (*views.EndpointAgents, error) {
	if e.TerminateAt != termination.AtAgent {
		return nil, nil //nolint:nilnil // there is nothing to show
	}
	stored, err := s.store.Agents(c.Request().Context(), e.ID)
	if err != nil {
		return nil, err
	}
	config, status := s.current(), s.gateway.Status()
	all := api.DescribeAgents(config, stored, status.Agents)
	online := inAgentState(all, "online")
	v := &views.EndpointAgents{
		Offline: len(all) - len(online), All: agentsQuery{endpoint: e.Name}.href(), Invite: "/agents/invite?" + url.Values{"endpoint": {e.Name}}.Encode(),
		Command: "countersign agent invite " + shellQuote(e.Name), Problem: s.agentProblem(status), Running: e.Enabled,
	}
	for i := range online[:min(len(online), alonePlaces)] {
		v.Online = append(v.Online, agentItem(p.Clock, config, &online[i]))
	}
	v.More = len(online) - len(v.Online)
	return v, nil
}
