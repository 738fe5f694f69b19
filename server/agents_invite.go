package server

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// inviteInput is the form of an invitation: what was typed, understood or not.
type inviteInput struct{ endpoint, expires, gateways string }

func (s *Server) invitePage(c echo.Context) error {
	return s.showInvite(c, http.StatusOK, inviteInput{endpoint: c.QueryParam("endpoint"), expires: "1h"}, fieldProblems{})
}

// showInvite renders the form with what was typed and what is wrong with it.
func (s *Server) showInvite(c echo.Context, status int, in inviteInput, wrong fieldProblems) error {
	config := s.current()
	f := views.AgentInvite{
		Endpoint: parts.Input{Name: "endpoint", Label: "To serve", Error: wrong.of("endpoint")},
		Expires:  parts.Input{Name: "expires", Label: "Good for", Hint: "Until then it can be used, once.", Error: wrong.of("expires")},
		Lives:    options(in.expires, "15m", "15 minutes", "1h", "an hour", "24h", "a day", "168h", "a week"),
		Gateways: parts.Input{
			Name: "gateways", Label: "Addresses, in the order in which they are tried", Value: in.gateways, Error: wrong.of("gateway"), Placeholder: "gw.example.com:7444",
			Hint: "host:port, with commas between them. Empty: " + defaultGateways(config.Agents) + ".",
		},
		Problems: wrong[""], Open: in.gateways != "" || wrong.of("gateway") != "",
	}
	for i := range config.Endpoints {
		e := &config.Endpoints[i]
		if e.TerminateAt == termination.AtAgent {
			f.Endpoints = append(f.Endpoints, parts.Option{Value: e.Name, Label: e.Name + ", " + e.URL(), Selected: e.Name == in.endpoint})
		}
	}
	if len(f.Endpoints) == 0 {
		f.Example = s.agentExample()
	}
	return s.render(c, status, views.AgentInvitePage(s.view(c, "Invite an agent"), f))
}

// defaultGateways says what an invitation carries when nothing is typed.
func defaultGateways(agents termination.Agents) string {
	if !agents.Listen.IsValid() {
		return "none, for agents.listen is off"
	}
	list, err := gatewaysFor(agents, nil, machineAddresses)
	if err != nil {
		return "what agents.hosts says"
	}
	return strings.Join(list, ", ")
}

// makeInvitation answers with the command itself, not with a redirect: its token is shown once and kept nowhere.
func (s *Server) makeInvitation(c echo.Context) error {
	in := inviteInput{endpoint: strings.TrimSpace(c.FormValue("endpoint")), expires: c.FormValue("expires"), gateways: strings.TrimSpace(c.FormValue("gateways"))}
	if c.FormValue("example") != "" {
		name, err := s.makeAgentExample(c)
		if err != nil {
			return err
		}
		in = inviteInput{endpoint: name}
	}
	wrong := fieldProblems{}
	life, err := api.ParseLife(in.expires)
	var made api.NewInvitation
	if err == nil {
		made, err = s.Invite(c.Request().Context(), actorOf(c), api.InviteRequest{Endpoint: in.endpoint, Life: life, Gateways: words(in.gateways)})
	}
	var invalid termination.ValidationError
	var missing store.NotFoundError
	switch {
	case errors.As(err, &missing):
		wrong.add("endpoint", missing.Error()+"; choose one that is there")
	case errors.As(err, &invalid):
		for _, f := range invalid {
			text := f.Problem
			if f.Advice != "" {
				text += "; " + f.Advice
			}
			if f.Kind != store.KindInvitation {
				f.Field = ""
			}
			wrong.add(f.Field, text)
		}
	case err != nil:
		return err
	}
	if err != nil {
		return s.showInvite(c, http.StatusUnprocessableEntity, in, wrong)
	}
	return s.showInvited(c, made.Invitation, &made)
}

// invitationPage is what an invitation looks like later: without its token.
func (s *Server) invitationPage(c echo.Context) error {
	list, err := s.store.Invitations(c.Request().Context())
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.ID != c.Param("id") {
			continue
		}
		found := api.InvitationOf(i, s.now())
		if isFragment(c.Request()) {
			waiting, err := s.waiting(c, views.Page{Clock: s.clock(c)}, found)
			if err != nil {
				return err
			}
			return s.render(c, http.StatusOK, views.AgentWaitingPart(waiting))
		}
		return s.showInvited(c, found, nil)
	}
	p := notFound("invitation", c.Param("id"))
	p.Advice, p.Href, p.Link = "It was withdrawn, or is older than a week.", "/agents/invite", "Make another"
	return p
}

// showInvited shows an invitation, and with made, which is known once, its command.
func (s *Server) showInvited(c echo.Context, i api.Invitation, made *api.NewInvitation) error {
	p := s.view(c, "An invitation", "refresh.js")
	waiting, err := s.waiting(c, p, i)
	if err != nil {
		return err
	}
	v := views.AgentInvited{Endpoint: i.Endpoint, Href: "/endpoints", Waiting: waiting}
	v.Facts = []parts.Fact{
		{Name: "Serves", Value: i.Endpoint}, {Name: "Good until", Value: p.Moment(i.Expires), Note: "for one agent"}, {Name: "Made by", Value: i.By},
	}
	if e := findEndpointIn(s.current(), i.EndpointID); e != nil {
		v.Href, v.Upstream, v.NoCA = endpointPath(e), cmp.Or(e.Upstream.String(), "the service"), s.noCAFor(e)
	}
	if made != nil {
		v.Command, v.Note = made.Command, made.Note
		v.Facts = append(v.Facts, parts.Fact{Name: "Gateway", Value: strings.Join(made.Gateways, ", "), Note: when(len(made.Gateways) > 1, "tried in this order")})
		if ca := s.current().Agents.CA; ca != nil {
			v.Facts = append(v.Facts, parts.Fact{Name: "Its pin", Value: format.ShortFingerprint(termination.FingerprintOf(ca.Certificate)), Note: "of the CA that the gateway proves itself by"})
		}
	}
	return s.render(c, http.StatusOK, views.AgentInvitedPage(p, v))
}

// noCAFor says why an agent that brings no certificate gets none for an endpoint; empty when it gets one.
func (s *Server) noCAFor(e *termination.Endpoint) string {
	if s.signerFor(e) != nil {
		return ""
	}
	return "No local CA here may sign for " + strings.Join(e.ServerNames(), ", ") + ". Give the agent a certificate with --crt and --key, or make a local CA for every name under Certificates first."
}

// waiting says what became of an invitation.
func (s *Server) waiting(c echo.Context, p views.Page, i api.Invitation) (views.AgentWaiting, error) {
	w := views.AgentWaiting{Refresh: "/agents/invitations/" + url.PathEscape(i.ID)}
	switch i.State {
	case "open":
		w.Tone, w.Mark, w.State, w.Text = parts.Sealed, "○", "waiting for the agent", "The invitation ends "+p.Relative(i.Expires)+"."
		return w, nil
	case "expired":
		w.Tone, w.Mark, w.State, w.Text, w.Done = parts.Bad, "✕", "expired", "Nobody used it in time. Make another one.", true
		return w, nil
	}
	stored, err := s.store.Agent(c.Request().Context(), i.AgentID)
	var missing store.NotFoundError
	var removed store.AgentRemovedError
	if errors.As(err, &missing) || errors.As(err, &removed) {
		w.Mark, w.State, w.Text, w.Done = "○", "used", "The agent that came by it was removed since.", true
		return w, nil
	}
	if err != nil {
		return w, err
	}
	a := api.DescribeAgents(s.current(), []termination.Agent{stored}, s.gateway.Status().Agents)[0]
	item := agentItem(p.Clock, s.current(), &a)
	w.Tone, w.Mark, w.State = item.Tone, item.Mark, a.Name+" is "+item.State
	switch {
	case a.Online == nil:
		w.State, w.Text = a.Name+" has joined", "It is not online yet, or not any more: "+item.Since+"."
	case a.Online.Problem != "":
		w.State, w.Text = a.Name+" cannot serve", a.Online.Problem
	case !a.Online.Ready:
		w.State, w.Text = a.Name+" has joined", "It is getting the policy of "+a.Endpoint+"."
	default:
		w.Text, w.Done = "It serves "+a.Endpoint+" now, "+item.Policy+".", true
	}
	return w, nil
}

func (s *Server) withdrawInvitation(c echo.Context) error {
	if err := s.store.WithdrawInvitation(c.Request().Context(), actorOf(c), c.Param("id")); err != nil {
		return err
	}
	s.say(c, "ok", "The invitation is withdrawn. Whoever has its token cannot join with it.")
	return s.redirect(c, "/agents")
}

// agentExample is a first endpoint whose TLS ends at an agent.
func (s *Server) agentExample() *views.AgentExample {
	port := defaultPort
	if all := s.current().Endpoints; len(all) > 0 && all[0].Port != 0 {
		port = strconv.Itoa(int(all[0].Port))
	}
	return &views.AgentExample{Host: exampleAgentName + ".localhost", Port: port, Upstream: "http://127.0.0.1:3000"}
}

// exampleAgentName is the name of the first endpoint at an agent.
const exampleAgentName = "beside"

// makeAgentExample makes that endpoint, unless it is there already.
func (s *Server) makeAgentExample(c echo.Context) (string, error) {
	if s.current().Endpoint(exampleAgentName) != nil {
		return exampleAgentName, nil
	}
	x := s.agentExample()
	in := newInput()
	in.name, in.host, in.port, in.at, in.upstream = exampleAgentName, x.Host, x.Port, string(termination.AtAgent), x.Upstream
	in.policy.mode = string(termination.ModeOff)
	wrong := fieldProblems{}
	wanted := in.endpoint(termination.Endpoint{Enabled: true, Origin: termination.OriginDashboard}, wrong)
	if len(wrong) > 0 {
		return "", &Problem{Status: http.StatusUnprocessableEntity, Code: "invalid", Title: "The example could not be made", Advice: "Make an endpoint of your own.", Href: "/endpoints/new", Link: "New endpoint"}
	}
	return exampleAgentName, s.storeEndpoint(c, nil, wanted, nil)
}
