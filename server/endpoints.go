package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/localca"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// endpointBody is the largest form about an endpoint, in bytes: it may hold a CA, or a client's certificate.
const endpointBody = 1 << 20

// endpointRoutes lists the routes of the Endpoints pages.
func (s *Server) endpointRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/endpoints", handler: s.endpointsPage},
		{method: http.MethodPost, path: "/endpoints", body: endpointBody, handler: s.createEndpoint},
		{method: http.MethodGet, path: "/endpoints/new", handler: s.newEndpointPage},
		{method: http.MethodGet, path: "/endpoints/:name", handler: s.endpointPage},
		{method: http.MethodGet, path: "/endpoints/:name/settings", handler: s.endpointSettingsPage},
		{method: http.MethodPost, path: "/endpoints/:name/settings", body: endpointBody, handler: s.saveEndpointSettings},
		{method: http.MethodGet, path: "/endpoints/:name/readiness", handler: s.readinessReport},
		{method: http.MethodGet, path: "/endpoints/:name/enforce", handler: s.enforcePage},
		{method: http.MethodPost, path: "/endpoints/:name/enforce", handler: s.enforceEndpoint},
		{method: http.MethodGet, path: "/endpoints/:name/config", handler: s.endpointConfigPage},
		{method: http.MethodGet, path: "/endpoints/:name/history", handler: s.endpointHistoryPage},
		{method: http.MethodGet, path: "/endpoints/:name/ca.pem", handler: s.endpointCA},
		{method: http.MethodPost, path: "/endpoints/:name/mode", handler: s.moveEndpoint},
		{method: http.MethodPost, path: "/endpoints/:name/policy", body: endpointBody, handler: s.saveEndpointPolicy},
		{method: http.MethodPost, path: "/endpoints/:name/judge", body: endpointBody, handler: s.judgeCertificate},
		{method: http.MethodPost, path: "/endpoints/:name/proof", handler: s.proveEndpoint},
		{method: http.MethodGet, path: "/endpoints/:name/proof.json", handler: s.endpointProof},
		{method: http.MethodPost, path: "/endpoints/:name/start", handler: s.startEndpoint},
		{method: http.MethodPost, path: "/endpoints/:name/stop", handler: s.stopEndpoint},
		{method: http.MethodGet, path: "/endpoints/:name/delete", handler: s.deleteEndpointPage},
		{method: http.MethodPost, path: "/endpoints/:name/delete", handler: s.deleteEndpoint},
	}
}

// endpointPath is where the page of an endpoint stands. The one name that a page of ours has is led to by its ID.
func endpointPath(e *termination.Endpoint) string {
	if e.Name == "new" {
		return "/endpoints/" + e.ID
	}
	return "/endpoints/" + url.PathEscape(e.Name)
}

// findEndpoint returns the endpoint of a request, by name or ID, as it is in force. It must not be changed.
func (s *Server) findEndpoint(c echo.Context) (*termination.Endpoint, error) {
	ref := c.Param("name")
	config := s.current()
	if e := config.Endpoint(ref); e != nil {
		return e, nil
	}
	for i := range config.Endpoints {
		if config.Endpoints[i].ID == ref {
			return &config.Endpoints[i], nil
		}
	}
	p := notFound("endpoint", ref)
	p.Href, p.Link = "/endpoints", "All endpoints"
	return nil, p
}

// endpointStatuses are the endpoints as they are right now, by ID.
func (s *Server) endpointStatuses() map[string]gateway.EndpointStatus {
	out := map[string]gateway.EndpointStatus{}
	for _, v := range s.gateway.Status().Endpoints {
		out[v.ID] = v
	}
	return out
}

// endpointsPage lists all endpoints. Counters and states come from memory, so that it stays quick with hundreds.
func (s *Server) endpointsPage(c echo.Context) error {
	p := s.view(c, "Endpoints")
	config, statuses := s.current(), s.endpointStatuses()
	list := make([]*termination.Endpoint, len(config.Endpoints))
	for i := range config.Endpoints {
		list[i] = &config.Endpoints[i]
	}
	slices.SortStableFunc(list, func(a, b *termination.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	stops, err := s.stops(c.Request().Context(), "", list)
	if err != nil {
		return err
	}
	v := views.Endpoints{Example: s.exampleForm()}
	for _, e := range list {
		row := views.EndpointRow{Head: s.endpointHead(p, e, statuses[e.ID], stops[e.ID])}
		row.Path = smallPath(e)
		row.Policy, row.Trust = policyWords(e, config)
		row.Upstream = e.Upstream.String()
		row.Certificate = presentedLine(p.Clock, e, statuses[e.ID])
		row.Warnings = s.warnings(p.Clock, e, statuses[e.ID])
		v.List = append(v.List, row)
	}
	return s.render(c, http.StatusOK, views.EndpointsPage(p, v))
}

// smallPath is the wire of an endpoint as the list draws it: without words.
func smallPath(e *termination.Endpoint) parts.Path {
	path := parts.PathOf(e)
	path.Width, path.Height = 260, 52
	const first, last = 26, 234
	for i := range path.X { // at equal distances
		path.X[i] = first + i*(last-first)/(len(path.X)-1)
	}
	path.Off = !e.Enabled
	return path
}

// stop says who stopped an endpoint, and when.
type stop struct {
	by string
	at time.Time
}

// maxStops is how many entries of the audit log are searched for who stopped what.
const maxStops = 300

// stops finds in the audit log who stopped the endpoints that do not run; objectID may limit the search to one.
func (s *Server) stops(ctx context.Context, objectID string, list []*termination.Endpoint) (map[string]stop, error) {
	out := map[string]stop{}
	if !slices.ContainsFunc(list, func(e *termination.Endpoint) bool { return !e.Enabled }) {
		return out, nil
	}
	entries, err := s.store.Audit(ctx, store.AuditQuery{Kind: store.KindEndpoint, ObjectID: objectID, Limit: maxStops})
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if _, known := out[entry.ObjectID]; known || !switchedOff(entry) {
			continue
		}
		out[entry.ObjectID] = stop{by: entry.Actor.Name, at: entry.Time}
	}
	return out, nil
}

// switchedOff reports whether an entry of the audit log is that of an endpoint that ran before it and did not after it.
func switchedOff(entry store.AuditEntry) bool {
	var before, after struct{ Enabled bool }
	if entry.Action != store.ActionUpdate || json.Unmarshal(entry.Before, &before) != nil || json.Unmarshal(entry.After, &after) != nil {
		return false
	}
	return before.Enabled && !after.Enabled
}

// endpointHead is what is said of an endpoint in the list and at the top of its own pages.
func (s *Server) endpointHead(p views.Page, e *termination.Endpoint, status gateway.EndpointStatus, stopped stop) views.EndpointHead {
	h := views.EndpointHead{
		Name: e.Name, Href: endpointPath(e), URL: e.URL(), Open: e.Scheme == termination.SchemeHTTPS && e.Host != "",
		ReadOnly: e.Origin.Fixed(), Demo: e.Origin == termination.OriginDemo, Command: e.Origin == termination.OriginCommand,
		LiveHref: liveLink(endpointFilter(e.Name), "", ""), FailedHref: liveLink(endpointFilter(e.Name)+" outcome:failed", "", ""),
		Connections: status.Connections,
	}
	switch {
	case !e.Enabled:
		h.Stopped, h.State, h.Mark, h.StateTone = true, "stopped", "○", parts.Plain
		if stopped.by != "" {
			h.StoppedBy, h.StoppedAt = stopped.by, p.Relative(stopped.at)
		}
	case status.State == gateway.StateListening:
		h.State, h.Mark, h.StateTone = "listening", "●", parts.OK
	default:
		h.State, h.Mark, h.StateTone, h.Problem = "not listening", "✕", parts.Bad, status.Problem
	}
	for _, problem := range *s.problems.Load() {
		if problem.Kind == store.KindEndpoint && problem.ID == e.ID {
			h.State, h.Mark, h.StateTone, h.Problem = "closed", "✕", parts.Bad, problem.Text
		}
	}
	series := s.hub.Series(int(whyPeriod/time.Second), e.ID)
	var bars []uint64
	for i, second := range series {
		if i%sparkStep == 0 {
			bars = append(bars, 0)
		}
		bars[len(bars)-1] += second.OK + second.Passed + second.Failed
		h.Failed += second.Failed
	}
	h.Spark = views.SparkOf(bars, sparkStep)
	if s.now().Sub(s.started) < whyPeriod {
		h.Counted = "since the start"
	}
	h.Rate = strconv.FormatFloat(s.hub.Rate(e.ID), 'f', 1, 64) + "/s"
	return h
}

// sparkStep is how many seconds one step of the small curve stands for.
const sparkStep = 30

// endpointFilter selects the handshakes of an endpoint.
func endpointFilter(name string) string {
	if strings.Contains(name, " ") {
		return `endpoint:"` + name + `"`
	}
	return "endpoint:" + name
}

// policyWords says who may come in, and by what that is decided.
func policyWords(e *termination.Endpoint, config *termination.Config) (who, by string) {
	if e.TerminateAt == termination.AtUpstream {
		return "Checked by the upstream", "we read the name only"
	}
	effective := config.Effective(e.ClientAuth)
	who = modeWords(effective)
	var counts []string
	if e.ClientAuth.Mode.Asks() {
		counts = counted(counts, len(effective.Authorities), "CA", "CAs")
		counts = counted(counts, len(effective.Pins), "pin", "pins")
	}
	counts = counted(counts, len(e.Routes), "route", "routes")
	if words := alsoWords(e.Also); words != "" {
		counts = append([]string{words}, counts...)
	}
	return who, strings.Join(counts, ", ")
}

func counted(list []string, n int, one, many string) []string {
	if n == 0 {
		return list
	}
	return append(list, format.Count(n, one, many))
}

// modeWords says whom a policy lets in, in words.
func modeWords(a termination.ClientAuth) string {
	if a.ReportOnly && a.Mode.Asks() {
		a.ReportOnly = false
		return modeWords(a) + ", reported only"
	}
	proof := "trusted CA"
	switch {
	case len(a.Pins) > 0 && len(a.Authorities) > 0:
		proof = "trusted CA or pin"
	case len(a.Pins) > 0:
		proof = "pinned certificate"
	}
	switch a.Mode {
	case termination.ModeOff, termination.ModeRequest:
		return "Anyone"
	case termination.ModeRequireAny:
		return "Any certificate"
	case termination.ModeOptional:
		return "No certificate, or " + proof
	case termination.ModeRequire:
		return strings.ToUpper(proof[:1]) + proof[1:]
	}
	return "Nobody"
}

// endsSoon is how long before its end an uploaded certificate is warned about.
const endsSoon = 30 * day

// warnings are what somebody who runs an endpoint should know, in words.
func (s *Server) warnings(clock format.Clock, e *termination.Endpoint, status gateway.EndpointStatus) []views.EndpointWarning {
	var out []views.EndpointWarning
	warn := func(tone parts.Tone, text string) { out = append(out, views.EndpointWarning{Tone: tone, Text: text}) }
	if e.TerminateAt == termination.AtAgent && e.Enabled && status.Agents == 0 {
		warn(parts.Bad, "no agent is online")
	}
	if e.TerminateAt != termination.AtUpstream && e.Enabled {
		for _, text := range laxer(e) {
			warn(parts.Warn, text)
		}
		if e.TLSPolicy().MinVersion < tls.VersionTLS13 {
			warn(parts.Plain, "TLS 1.2 allowed")
		}
	}
	for _, leaf := range status.Leaves {
		left := leaf.NotAfter.Sub(clock.Now)
		switch {
		case left <= 0:
			warn(parts.Bad, "its certificate has ended")
		case left < endsSoon && clock.Now.After(localca.DueAt(leaf)) && !s.renews(leaf):
			warn(parts.Warn, "its certificate ends in "+format.Span(left))
		}
	}
	for _, n := range s.endpointACME(clock, e) {
		if n.Tone == parts.Bad || n.Tone == parts.Warn {
			warn(n.Tone, n.Name+": certificate "+n.State)
		}
	}
	if names := s.current().UncoveredNames(e); len(names) > 0 && e.Enabled {
		warn(parts.Bad, "no certificate for "+strings.Join(names, ", "))
	}
	if tone, text := targetWarning(clock, status.Upstreams); text != "" {
		warn(tone, text)
	} else if n := s.hub.Counts(whyPeriod, e.ID).Notes[termination.ReasonUpstreamDown]; n > 0 {
		warn(parts.Bad, "upstream did not answer, "+format.Count(int(n), "time", "times")) //nolint:gosec // of fifteen minutes
	}
	return out
}

// laxer says where a policy lets in more than it seems to.
func laxer(e *termination.Endpoint) []string {
	var out []string
	mode := e.ClientAuth.Mode
	if e.ClientAuth.ReportOnly && mode.Asks() {
		out = append(out, "report only: everyone comes in, nobody's identity is told")
	}
	chosen := len(e.ClientAuth.Authorities) > 0 || len(e.ClientAuth.Pins) > 0
	switch {
	case e.Also.StandsIn():
		out = append(out, "a token or password may replace a certificate")
	case !e.Also.Empty() && !mode.DemandsCertificate():
		// Nobody comes in without a proof.
	case mode == termination.ModeOff:
		out = append(out, "anyone may come in")
	case mode == termination.ModeRequest && chosen:
		out = append(out, "anyone may come in, whatever CA is chosen")
	case mode == termination.ModeRequest:
		out = append(out, "anyone may come in; certificates are only passed on")
	case mode == termination.ModeRequireAny:
		out = append(out, "any certificate comes in, whoever signed it")
	case mode == termination.ModeOptional:
		out = append(out, "who shows no certificate comes in")
	}
	for _, r := range e.Routes {
		if r.ClientAuth != nil && strictness(r.ClientAuth.Mode) < strictness(mode) {
			out = append(out, r.Path+" is laxer than the rest")
		}
		if r.ClientAuth != nil && strictness(r.ClientAuth.Mode) > strictness(mode) && mode.Asks() {
			out = append(out, r.Path+" is stricter than the rest")
		}
		if r.Also != nil && r.Also.Empty() && !e.Also.Empty() {
			out = append(out, r.Path+" demands no token or password")
		}
	}
	return out
}

// strictness puts the modes into an order.
func strictness(m termination.Mode) int {
	return slices.Index([]termination.Mode{termination.ModeOff, termination.ModeRequest, termination.ModeOptional, termination.ModeRequireAny, termination.ModeRequire}, m)
}

// presentedLine says in a few words how long the server certificate lives.
func presentedLine(clock format.Clock, e *termination.Endpoint, status gateway.EndpointStatus) string {
	if e.TerminateAt == termination.AtUpstream {
		return "the service's own"
	}
	if e.TerminateAt == termination.AtAgent {
		return "the agent's own"
	}
	if len(status.Leaves) == 0 {
		return "–"
	}
	first := status.Leaves[0]
	for _, leaf := range status.Leaves {
		if leaf.NotAfter.Before(first.NotAfter) {
			first = leaf
		}
	}
	return clock.Left(first.NotBefore, first.NotAfter)
}

// exampleForm is a first endpoint that works as it stands.
func (s *Server) exampleForm() views.EndpointExample {
	config := s.current()
	v := views.EndpointExample{Name: "hello", Host: "hello.localhost", Port: defaultPort, Mode: string(termination.ModeOff)}
	v.MakeCA = len(config.LocalCAs) == 0
	if !v.MakeCA {
		v.Mode, v.Authority = string(termination.ModeRequire), config.LocalCAs[0].Name
	}
	return v
}

// defaultPort is suggested for a new endpoint: no privilege is needed to open it, and several names may share it.
const defaultPort = "8443"

// setEnabled starts or stops an endpoint.
func (s *Server) setEnabled(c echo.Context, enabled bool) (*termination.Endpoint, error) {
	e, err := s.findEndpoint(c)
	if err != nil {
		return nil, err
	}
	_, err = s.change(c, func(tx *store.Tx) error {
		stored, err := tx.Endpoint(e.ID)
		if err != nil {
			return err
		}
		stored.Enabled = enabled
		return tx.UpdateEndpoint(stored)
	})
	return e, err
}

func (s *Server) startEndpoint(c echo.Context) error {
	e, err := s.setEnabled(c, true)
	if err != nil {
		return err
	}
	if status := s.endpointStatuses()[e.ID]; status.State != gateway.StateListening {
		s.say(c, "bad", e.Name+" is started, but "+status.Problem)
	} else {
		s.say(c, "ok", e.Name+" is started.")
	}
	return s.redirect(c, endpointPath(e))
}

func (s *Server) stopEndpoint(c echo.Context) error {
	e, err := s.setEnabled(c, false)
	if err != nil {
		return err
	}
	s.say(c, "ok", e.Name+" is stopped. It takes no connections.")
	return s.redirect(c, endpointPath(e))
}

// deleteEndpointPage asks before an endpoint goes, and says who is on it.
func (s *Server) deleteEndpointPage(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	p := s.view(c, "Delete "+e.Name)
	head := s.endpointHead(p, e, s.endpointStatuses()[e.ID], stop{})
	return s.render(c, http.StatusOK, views.EndpointDeletePage(p, head))
}

func (s *Server) deleteEndpoint(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	if _, err := s.change(c, func(tx *store.Tx) error { return tx.DeleteEndpoint(e.ID) }); err != nil {
		return err
	}
	s.say(c, "ok", fmt.Sprintf("%s is deleted. Its handshakes stay in the history.", e.Name))
	return s.redirect(c, "/endpoints")
}
