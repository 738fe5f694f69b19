package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// newEndpointPage asks for a new endpoint, its defaults filled in.
func (s *Server) newEndpointPage(c echo.Context) error {
	in := newInput()
	if all := s.current().Endpoints; len(all) > 0 && all[0].Port != 0 {
		in.port = strconv.Itoa(int(all[0].Port)) // it is ours already, and names may share it
	}
	return s.showEndpointForm(c, http.StatusOK, nil, &in, fieldProblems{}, nil)
}

// createEndpoint makes an endpoint of the form, tries its upstream, or adds a row of routes, as the button said.
func (s *Server) createEndpoint(c echo.Context) error {
	in := readInput(c.Request().PostForm)
	return s.submitEndpoint(c, nil, &in)
}

// endpointSettingsPage shows the same fields of an endpoint that is there.
func (s *Server) endpointSettingsPage(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	in := inputOf(e)
	return s.showEndpointForm(c, http.StatusOK, e, &in, fieldProblems{}, nil)
}

func (s *Server) saveEndpointSettings(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	in := readInput(c.Request().PostForm)
	return s.submitEndpoint(c, e, &in)
}

// submitEndpoint does what the pressed button says with the form of a new endpoint (e is nil) or of e.
func (s *Server) submitEndpoint(c echo.Context, e *termination.Endpoint, in *endpointInput) error {
	wrong := fieldProblems{}
	var before termination.Endpoint
	if e != nil {
		before = *e
	} else {
		before.Enabled, before.Origin = true, termination.OriginDashboard
	}
	if in.policy.checks.arrange(c.FormValue("do")) {
		return s.showEndpointForm(c, http.StatusOK, e, in, wrong, nil)
	}
	switch c.FormValue("do") {
	case "row":
		if len(in.routes) < maxRouteRows {
			in.routes = append(in.routes, routeInput{inherit: true})
		}
		if len(in.routes) == 1 {
			in.routes = append(in.routes, routeInput{inherit: true}) // beside the one that is always there
		}
		return s.showEndpointForm(c, http.StatusOK, e, in, wrong, nil)
	case "try":
		wanted := in.endpoint(before, wrong)
		if wrong.of("upstream") != "" || wrong.of("upstream_ca") != "" {
			return s.showEndpointForm(c, http.StatusUnprocessableEntity, e, in, fieldProblems{"upstream": wrong["upstream"], "upstream_ca": wrong["upstream_ca"]}, nil)
		}
		tried := tryUpstream(c.Request().Context(), &wanted)
		return s.showEndpointForm(c, http.StatusOK, e, in, fieldProblems{}, &tried)
	}
	wanted := in.endpoint(before, wrong)
	if wanted.TerminateAt != termination.AtUpstream {
		s.checkTrust(wanted.ClientAuth, wrong)
	}
	offer := s.localCAFor(&wanted)
	if offer != nil && !in.makeCA {
		wrong.add("make_ca", offer.why)
	}
	if len(wrong) > 0 {
		return s.showEndpointForm(c, http.StatusUnprocessableEntity, e, in, wrong, nil)
	}
	if e != nil && offer == nil && c.FormValue("do") == "simulate" {
		would, err := s.wouldChange(c, func(tx *store.Tx) error { return tx.UpdateEndpoint(wanted) })
		if err == nil {
			return s.showEndpointForm(c, http.StatusOK, e, in, wrong, nil, would)
		}
		if wrong.understood(err, wanted.Name) {
			return s.showEndpointForm(c, http.StatusUnprocessableEntity, e, in, wrong, nil)
		}
		return err
	}
	err := s.storeEndpoint(c, e, wanted, offer)
	if err != nil {
		if wrong.understood(err, wanted.Name) {
			return s.showEndpointForm(c, http.StatusUnprocessableEntity, e, in, wrong, nil)
		}
		return err
	}
	if e == nil {
		s.say(c, "ok", wanted.Name+" is made. Its handshakes show here; the commands to try it stand on its page.")
		return s.redirect(c, liveLink(endpointFilter(wanted.Name), "", ""))
	}
	s.say(c, "ok", wanted.Name+" is saved.")
	return s.redirect(c, endpointPath(&wanted))
}

// checkTrust says what to choose where a policy would let nobody in.
func (s *Server) checkTrust(a termination.ClientAuth, wrong fieldProblems) {
	effective := s.current().Effective(a)
	if a.Mode.Verifies() && len(effective.Authorities) == 0 && len(effective.Pins) == 0 {
		wrong.add(map[bool]string{true: "authorities", false: "mode"}[len(s.current().Authorities) > 0], "nobody could come in: choose a trusted CA, give a pin, or let in anyone")
	}
}

// storeEndpoint saves an endpoint, and the local CA that it needs first, in one change.
func (s *Server) storeEndpoint(c echo.Context, e *termination.Endpoint, wanted termination.Endpoint, offer *caOffer) error {
	_, err := s.change(c, func(tx *store.Tx) error {
		if offer != nil {
			if err := offer.create(tx); err != nil {
				return err
			}
		}
		if e == nil {
			_, err := tx.CreateEndpoint(wanted)
			return err
		}
		return tx.UpdateEndpoint(wanted)
	})
	return err
}

// caOffer is a local CA that would have to be made for an endpoint's certificate.
type caOffer struct {
	name        string
	constrained bool
	why         string
}

// localCAFor returns what is missing for the local certificate of an endpoint, or nil when nothing is.
func (s *Server) localCAFor(e *termination.Endpoint) *caOffer {
	local := len(e.Certificates) == 0
	for _, name := range e.Certificates {
		local = local || name == termination.CertificateLocal
	}
	names := e.ServerNames()
	if e.TerminateAt != termination.AtEdge || !local || len(names) == 0 {
		return nil
	}
	config := s.current()
	var limit error
	for i := range config.LocalCAs {
		err := localca.MayIssue(&config.LocalCAs[i], names)
		var constraint *localca.ConstraintError
		if err == nil || !errors.As(err, &constraint) {
			return nil // what nobody could sign, the fields say
		}
		limit = err
	}
	if limit == nil {
		return &caOffer{name: freeAuthorityName(config, "Local CA"), constrained: withinLocalhost(names), why: "there is no local CA to make the server certificate; make one below, or choose an uploaded certificate"}
	}
	return &caOffer{name: freeAuthorityName(config, "Local CA for every name"), why: limit.Error()}
}

// withinLocalhost reports whether a CA that is limited to localhost could sign all names.
func withinLocalhost(names []string) bool {
	for _, name := range names {
		if !isLocalhost(name) {
			return false
		}
	}
	return true
}

func freeAuthorityName(config *termination.Config, name string) string {
	for n := 2; config.Authority(name) != nil; n++ {
		if config.Authority(name+" "+strconv.Itoa(n)) == nil {
			return name + " " + strconv.Itoa(n)
		}
	}
	return name
}

// create makes the CA and an authority that holds it. Nobody trusts that authority until it is chosen.
func (o *caOffer) create(tx *store.Tx) error {
	ca, err := localca.Create(localca.Options{Name: o.name, Constrained: o.constrained, Now: tx.Now()})
	if err != nil {
		return err
	}
	_, err = tx.CreateAuthority(termination.Authority{
		Name: o.name, Origin: termination.OriginDashboard,
		Certificates: []termination.CACertificate{{Certificate: ca.Certificate, Role: termination.RoleAnchor}},
	})
	if err != nil {
		return err
	}
	return tx.CreateLocalCA(o.name, ca.Key, o.constrained)
}

// showEndpointForm renders the form of a new endpoint, or of e.
func (s *Server) showEndpointForm(c echo.Context, status int, e *termination.Endpoint, in *endpointInput, wrong fieldProblems, tried *views.Tried, would ...*views.Rehearsal) error {
	title := "New endpoint"
	if e != nil {
		title = e.Name + ", settings"
	}
	p := s.view(c, title)
	f := s.endpointForm(p, in, wrong)
	f.Action, f.Tried = "/endpoints", tried
	if e == nil {
		return s.render(c, status, views.EndpointNewPage(p, f))
	}
	f.Periods = periodOptions(c.FormValue("period"))
	if len(would) > 0 {
		f.Would = would[0]
	}
	f.Edit, f.Action, f.ReadOnly = true, endpointPath(e)+"/settings", e.Origin.Fixed()
	head, err := s.headOf(c.Request().Context(), p, e)
	if err != nil {
		return err
	}
	return s.render(c, status, views.EndpointSettingsPage(p, head, f))
}

// headOf is the head of an endpoint's own pages.
func (s *Server) headOf(ctx context.Context, p views.Page, e *termination.Endpoint) (views.EndpointHead, error) {
	stops, err := s.stops(ctx, e.ID, []*termination.Endpoint{e})
	if err != nil {
		return views.EndpointHead{}, err
	}
	return s.endpointHead(p, e, s.endpointStatuses()[e.ID], stops[e.ID]), nil
}

// endpointForm puts what was typed and what is wrong with it into fields.
func (s *Server) endpointForm(p views.Page, in *endpointInput, wrong fieldProblems) views.EndpointForm {
	config := s.current()
	f := views.EndpointForm{
		Problems: wrong[""],
		Name:     parts.Input{Name: "name", Label: "Name here", Hint: "What this endpoint is called in lists and filters. Empty: the first word of its server name.", Value: in.name, Error: wrong.of("name"), Words: true},
		Host:     parts.Input{Name: "host", Label: "Listen for", Value: in.host, Error: wrong.of("host"), Placeholder: "every other name"},
		Port:     parts.Input{Name: "port", Label: "on port", Value: in.port, Error: wrong.of("port")},
		Upstream: parts.Input{Name: "upstream", Label: "send to", Value: in.upstream, Error: wrong.of("upstream"), Placeholder: "http://127.0.0.1:3000, or whoami"},
		Aliases:  parts.Input{Name: "aliases", Label: "More server names", Hint: "One a line; *. stands for one label.", Value: in.aliases, Error: wrong.of("aliases"), Rows: 2},
		Listen:   parts.Input{Name: "listen", Label: "Interface", Hint: "127.0.0.1: this machine only. 0.0.0.0: all.", Value: in.listen, Error: wrong.of("listen")},
		UpstreamCA: parts.Input{
			Name: "upstream_ca", Label: "CA of an https or tls upstream, PEM", Hint: "Empty: the system's. The upstream is always verified.", Value: in.upstreamCA, Error: wrong.of("upstream_ca"), Rows: 3,
		},
		UpstreamName:      parts.Input{Name: "upstream_name", Label: "Server name that the upstream has to prove", Hint: "Empty: the host of its address.", Value: in.upstreamName},
		Scheme:            options(in.scheme, "https", "HTTP", "tls", "any bytes"),
		At:                options(in.at, "edge", "the edge, here", "agent", "an agent beside the service", "upstream", "the upstream, never here"),
		AtError:           wrong.of("at"),
		TLS:               tlsForm(&in.tls, wrong),
		Behind:            s.behindForm(&in.behind, wrong),
		Also:              alsoForm(&in.also, wrong),
		CertificatesError: wrong.of("certificates"), RoutesError: wrong.of("routes"),
		OfferCA: wrong.of("make_ca"), MakeCA: in.makeCA,
		Policy: s.policyForm(p, &in.policy, config, nil, wrong),
	}
	if len(config.LocalCAs) > 0 || in.makeCA {
		f.Certificates = append(f.Certificates, tick(termination.CertificateLocal, "made by the local CA", in.certificates))
	}
	if config.ACME.Directory != "" {
		f.Certificates = append(f.Certificates, tick(termination.CertificateACME, "obtained through ACME, from "+directoryHost(config.ACME.Directory), in.certificates))
	}
	for i := range config.Certificates {
		cert := &config.Certificates[i]
		f.Certificates = append(f.Certificates, tick(cert.Name, p.Left(cert.Leaf().NotBefore, cert.Leaf().NotAfter), in.certificates))
	}
	f.MoreOpen = wrong.anyOf("aliases", "listen", "certificates")
	f.TLS.Open = wrong.anyOf("min_version", "preset", "suites", "alpn", "starttls", "proxy_from")
	f.Behind.Open = wrong.anyOf("upstream_ca", "upstream_policy", "health", "health_interval", "connect_timeout", "response_timeout", "upstream_proxy", "upstream_cert")
	f.RoutesOpen = wrong.of("routes") != "" || len(in.routes) > 1 || len(in.routes) == 1 && !in.routes[0].empty()
	rows := in.routes
	if len(rows) == 0 {
		rows = []routeInput{{inherit: true}}
	}
	for i, row := range rows {
		f.Routes = append(f.Routes, routeForm(i, row))
	}
	return f
}

// anyOf reports whether something is wrong with one of the fields.
func (p fieldProblems) anyOf(fields ...string) bool {
	for _, f := range fields {
		if len(p[f]) > 0 {
			return true
		}
	}
	return false
}

// options are choices, given as values and labels in turn.
func options(chosen string, pairs ...string) []parts.Option {
	var out []parts.Option
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, parts.Option{Value: pairs[i], Label: pairs[i+1], Selected: pairs[i] == chosen})
	}
	return out
}

func tick(value, note string, ticked []string) views.Tick {
	t := views.Tick{Value: value, Note: note}
	for _, v := range ticked {
		t.Ticked = t.Ticked || v == value
	}
	return t
}

// policyForm puts a policy into fields. clients says how many clients each authority let in of late; nil: not asked.
func (s *Server) policyForm(p views.Page, in *policyInput, config *termination.Config, clients map[string]int64, wrong fieldProblems) views.PolicyForm {
	f := views.PolicyForm{
		Modes:            options(in.mode, "off", "Anyone", "optional", "Ask, accept without", "require", "Any trusted CA"),
		MoreModes:        options(in.mode, "request", "Ask, let everyone in: the service decides", "require_any", "Demand a certificate, let in whichever it is"),
		ModeError:        wrong.of("mode"),
		AuthoritiesError: wrong.of("authorities"),
		Pins:             parts.Input{Name: "pins", Label: "Pins", Hint: "SHA-256 of single certificates, or spki: and that of single keys; one a line.", Value: in.pins, Error: wrong.of("pins"), Rows: 2},
		MaxDepth:         parts.Input{Name: "max_depth", Label: "Longest chain", Hint: "CA certificates above the client's, the root counted. Empty: " + strconv.Itoa(termination.DefaultMaxDepth) + ".", Value: in.depth, Error: wrong.of("max_depth")},
		OnLoss:           parts.Input{Name: "on_loss", Label: "Who loses the right to be here", Error: wrong.of("on_loss")},
		OnLossChoices:    options(in.onLoss, "close", "is cut off now", "drain", "may finish the request", "leave", "stays, further requests are refused"),
		Inherit:          in.inherit, Announce: in.announce,
		Checks: checksForm(&in.checks, authorityNames(config), wrong),
	}
	if n := len(config.Defaults.Authorities) + len(config.Defaults.Pins); n > 0 {
		f.Defaults = format.Count(n, "one", "these")
		f.DefaultNames = append(f.DefaultNames, config.Defaults.Authorities...)
		if k := len(config.Defaults.Pins); k > 0 {
			f.DefaultNames = append(f.DefaultNames, format.Count(k, "pin", "pins"))
		}
	}
	for i := range config.Authorities {
		a := &config.Authorities[i]
		if a.Origin == termination.OriginCommand && !slices.Contains(in.authorities, a.Name) {
			continue // nothing else may lean on it
		}
		t := tick(a.Name, s.authorityNote(p, config, a), in.authorities)
		if clients != nil {
			t.Clients = format.Count(int(clients[a.Name]), "client", "clients") + " in 24 h"
		}
		f.Authorities = append(f.Authorities, t)
	}
	f.MoreOpen = wrong.anyOf("pins", "max_depth", "on_loss") || in.mode == string(termination.ModeRequest) || in.mode == string(termination.ModeRequireAny)
	return f
}

func authorityNames(config *termination.Config) []string {
	names := make([]string, len(config.Authorities))
	for i := range config.Authorities {
		names[i] = config.Authorities[i].Name
	}
	return names
}

// authorityNote says how long an authority's anchors live, and whether its key is here.
func (s *Server) authorityNote(p views.Page, config *termination.Config, a *termination.Authority) string {
	for i := range config.LocalCAs {
		if config.LocalCAs[i].Name == a.Name {
			return "its key is on this machine"
		}
	}
	anchors := a.Anchors()
	if len(anchors) == 0 {
		return "no anchor in it"
	}
	first := anchors[0]
	for _, c := range anchors {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	return p.Left(first.NotBefore, first.NotAfter)
}

func routeForm(i int, in routeInput) views.RouteForm {
	key := fmt.Sprintf("route%d_", i)
	return views.RouteForm{
		Number:       i + 1,
		Path:         parts.Input{Name: key + "path", Label: "Path", Value: in.path, Placeholder: "/admin"},
		Mode:         parts.Input{Name: key + "mode", Label: "Let in"},
		Modes:        options(in.mode, "", "as the endpoint does", "off", "anyone", "optional", "without, or a trusted CA", "require", "any trusted CA", "request", "everyone, asked", "require_any", "any certificate"),
		Authorities:  parts.Input{Name: key + "authorities", Label: "Trusted CAs, between commas", Value: in.authorities, Words: true},
		Upstream:     parts.Input{Name: key + "upstream", Label: "Upstream", Value: in.upstream, Placeholder: "the endpoint's"},
		UpstreamName: parts.Input{Name: key + "upstream_name", Label: "Server name of its upstream", Value: in.upstreamName},
		UpstreamCA:   parts.Input{Name: key + "upstream_ca", Label: "CA of its https upstream, PEM", Value: in.upstreamCA, Rows: 2},
		Inherit:      key + "inherit", Inherits: in.inherit, Strip: key + "strip", Strips: in.strip,
	}
}
