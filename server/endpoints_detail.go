package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/verify"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// endpointPage shows where an endpoint's TLS ends, who may come in, how to try it, and what it presents.
func (s *Server) endpointPage(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	return s.showEndpoint(c, http.StatusOK, e, endpointShown{})
}

// endpointShown is what a form of the page was answered with.
type endpointShown struct {
	policy    *policyInput  // as typed; nil: as it is
	wrong     fieldProblems // with it
	moveError string        // why TLS cannot end elsewhere
	try       tryInput      // whom to try, as typed
	judged    *views.Judged
	would     *views.Rehearsal // what the policy would change; nil: not asked
}

// clientsPeriod is how far back the clients of an authority are counted.
const clientsPeriod = 24 * time.Hour

func (s *Server) showEndpoint(c echo.Context, status int, e *termination.Endpoint, shown endpointShown) error {
	ctx := c.Request().Context()
	p := s.view(c, e.Name)
	head, err := s.headOf(ctx, p, e)
	if err != nil {
		return err
	}
	clients, err := s.store.AuthorityClients(ctx, s.now().Add(-clientsPeriod))
	if err != nil {
		return err
	}
	config, gate := s.current(), s.endpointStatuses()[e.ID]
	if shown.policy == nil {
		in := policyInputOf(e.ClientAuth)
		in.checks.offer(c.QueryParam("rule"))
		shown.policy = &in
	}
	v := views.EndpointDetail{
		Head: head, Upstream: e.Upstream.String(), Sealed: e.TerminateAt == termination.AtUpstream,
		Ends: s.modeRows(e), MoveError: shown.moveError,
		Policy: s.policyForm(p, shown.policy, config, clients, shown.wrong), Exact: exactWords(config, e, gate),
		Besides: alsoWords(e.Also), Judged: shown.judged, Proof: s.proofShown(p, e), TryForm: s.tryForm(s.recentHandshakes(c, p, e, shown.try.handshake), &shown.try), Presents: s.presents(p.Clock, e, gate), ACME: s.endpointACME(p.Clock, e), Try: s.tryIt(e, gate),
		CanIssue: s.has("/certificates/issue"), CanTrust: s.has("/authorities"),
	}
	v.Rules, v.RulesSince = s.ruleLines(p, e, config)
	if v.Sealed {
		v.Seen = views.SealedPart{Names: e.ServerNames(), Keys: config.CertificatesFor(e)}
	}
	if v.Told, err = s.toldBy(ctx, e); err != nil {
		return err
	}
	if v.Days, v.Hours, err = trends(p, func(step store.TrendStep) ([]store.TrendBar, error) { return s.store.EndpointTrend(ctx, e.ID, step) }); err != nil {
		return err
	}
	v.Targets = targetLines(p.Clock, gate)
	if v.Agents, err = s.endpointAgents(c, p, e); err != nil {
		return err
	}
	v.PolicyProblems, v.Would, v.Periods = shown.wrong[""], shown.would, periodOptions(c.FormValue("period"))
	for _, w := range s.warnings(p.Clock, e, gate) {
		if w.Tone != parts.Plain {
			v.Warnings = append(v.Warnings, w)
		}
	}
	for _, r := range e.Routes {
		v.Routes = append(v.Routes, routeLine(r, config))
	}
	return s.render(c, status, views.EndpointPage(p, v))
}

func routeLine(r termination.Route, config *termination.Config) views.RouteLine {
	line := views.RouteLine{Path: r.Path, Policy: "as the endpoint", Upstream: "as the endpoint"}
	if r.ClientAuth != nil {
		line.Policy = modeWords(config.Effective(*r.ClientAuth))
	}
	if r.Also != nil {
		line.Policy += "; " + cmp.Or(alsoWords(*r.Also), "demands nothing besides")
	}
	if r.Upstream != nil {
		line.Upstream = r.Upstream.String()
	}
	return line
}

// modeRows are the places where TLS can end, each drawn as this endpoint would look with it.
func (s *Server) modeRows(e *termination.Endpoint) []views.ModeRow {
	rows := []views.ModeRow{
		{Value: string(termination.AtEdge), Label: "Edge", Small: "we open it", Parties: []string{"Edge", "Upstream"}},
		{Value: string(termination.AtAgent), Label: "Agent", Small: "beside your service", Parties: []string{"Edge", "Agent", "Upstream"}},
		{Value: string(termination.AtUpstream), Label: "Upstream", Small: "never opened here", Parties: []string{"Edge", "Upstream"}},
	}
	for i := range rows {
		at := termination.TerminateAt(rows[i].Value)
		rows[i].Readers = readers(e, at)
		if at == e.TerminateAt {
			rows[i].Current, rows[i].Path = true, parts.PathOf(e)
			continue
		}
		moved, changes := movedTo(e, at)
		rows[i].Path, rows[i].Changes = parts.PathOf(&moved), changes
	}
	return rows
}

// movedTo is the endpoint with TLS ending elsewhere, and what that changes, in words.
func movedTo(e *termination.Endpoint, at termination.TerminateAt) (termination.Endpoint, []string) {
	moved := *e
	moved.TerminateAt = at
	var changes []string
	say := func(text string) { changes = append(changes, text) }
	if at == termination.AtUpstream {
		seal(e, &moved, say)
		return moved, changes
	}
	where := "here"
	if at == termination.AtAgent {
		where = "in the agent"
	}
	if e.TerminateAt == termination.AtUpstream {
		if moved.Upstream.Scheme == termination.UpstreamTCP {
			moved.Upstream.Scheme = termination.UpstreamTLS
			say("TLS is opened " + where + " and sealed again to " + moved.Upstream.String() + ", which is verified against the system's CAs. Another CA, or plain bytes: in Settings.")
		}
		say("Anyone may come in until a policy is chosen here. The service does not see client certificates any more.")
	}
	if at == termination.AtEdge {
		say("Clients see a certificate of ours. The local CA makes one, unless another is chosen in Settings.")
		return moved, changes
	}
	if len(e.Certificates) > 0 {
		say("Our certificates have no say any more: the agent holds its own certificate and key.")
	}
	moved.Certificates = nil
	say("Clients are refused with agent_offline until an agent is online. It needs an invitation, and dials out to us: no port has to be opened beside the service.")
	say("We read the server name only. The agent checks clients by the policy here, and Live shows what it saw.")
	return moved, changes
}

// seal takes from an endpoint what has no place where TLS ends in the service.
func seal(e, moved *termination.Endpoint, say func(string)) {
	moved.Scheme = termination.SchemeTLS
	if moved.Upstream.Scheme != termination.UpstreamBuiltin {
		moved.Upstream = termination.Upstream{Scheme: termination.UpstreamTCP, Address: e.Upstream.Address, More: e.Upstream.More}
		say("Sealed bytes go to " + moved.Upstream.String() + " as they are. It has to speak TLS there, with a certificate of its own.")
	}
	if e.ClientAuth.Mode != termination.ModeOff {
		say("The client policy (" + lowerFirst(modeWords(e.ClientAuth)) + ") is dropped. The service has to check its clients.")
	}
	moved.ClientAuth = termination.ClientAuth{Mode: termination.ModeOff, Inherit: e.ClientAuth.Inherit, Announce: e.ClientAuth.Announce, OnLoss: e.ClientAuth.OnLoss}
	if len(e.Routes) > 0 {
		say(format.Count(len(e.Routes), "route is", "routes are") + " dropped: paths cannot be seen.")
	}
	if len(e.ForwardIdentity)+len(e.ForwardHeaders) > 0 {
		say("The headers that tell the service who the client is are dropped: nothing can be added to sealed traffic.")
	}
	if len(e.Certificates) > 0 || e.MinVersion != 0 || e.MaxVersion != 0 || e.Preset != "" || len(e.Suites) > 0 || len(e.ALPN) > 0 {
		say("Our certificates and TLS settings have no say any more.")
	}
	if e.StartTLS != termination.StartTLSNone {
		say("Clients have to begin with TLS at once: the service's request for TLS would come before the server name.")
	}
	say("Live shows the server name and what the hello offers, not who the client is.")
	moved.Routes, moved.ForwardIdentity, moved.Certificates, moved.MinVersion, moved.MaxVersion = nil, nil, nil, 0, 0
	moved.ForwardHeaders = nil
	moved.Preset, moved.Suites, moved.ALPN, moved.StartTLS = "", nil, nil, termination.StartTLSNone
}

// lowerFirst is a phrase as it stands within a sentence.
func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// moveEndpoint changes where an endpoint's TLS ends.
func (s *Server) moveEndpoint(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	at := termination.TerminateAt(c.FormValue("at"))
	if at != termination.AtEdge && at != termination.AtAgent && at != termination.AtUpstream {
		return s.showEndpoint(c, http.StatusUnprocessableEntity, e, endpointShown{moveError: "Choose edge, agent or upstream."})
	}
	if at == e.TerminateAt {
		return s.redirect(c, endpointPath(e))
	}
	moved, _ := movedTo(e, at)
	problem := ""
	if moved.Upstream.Scheme == termination.UpstreamBuiltin && at != termination.AtEdge {
		problem = "The built-in " + moved.Upstream.Address + " runs inside this process. Name a service of your own in Settings first."
	} else if offer := s.localCAFor(&moved); offer != nil {
		problem = "Our certificate cannot be made: " + offer.why + "."
	}
	if problem == "" {
		_, err = s.change(c, func(tx *store.Tx) error { return tx.UpdateEndpoint(moved) })
		wrong := fieldProblems{}
		if err != nil && !wrong.understood(err, e.Name) {
			return err
		}
		if err != nil {
			problem = err.Error()
		}
	}
	if problem != "" {
		return s.showEndpoint(c, http.StatusUnprocessableEntity, e, endpointShown{moveError: problem})
	}
	s.say(c, "ok", "TLS of "+e.Name+" ends at the "+string(at)+" now.")
	return s.redirect(c, endpointPath(e))
}

// readers says who can read what where TLS ends at that place: the edge, the agent where there is one, and the upstream.
func readers(e *termination.Endpoint, at termination.TerminateAt) []views.Reader {
	checks := "yes, not asked for"
	switch {
	case e.ClientAuth.Mode.Verifies():
		checks = "yes, and checks it"
	case e.ClientAuth.Mode.Asks():
		checks = "yes, unchecked"
	}
	told := "no"
	if len(e.ForwardIdentity)+len(e.ForwardHeaders) > 0 {
		told = "as headers"
	}
	row := func(what string, who ...string) views.Reader { return views.Reader{What: what, Who: who} }
	const (
		hello, certificate, bodies, key = "Server name, JA4, sizes", "Client certificate", "Requests and bodies", "Server private key"
	)
	switch at {
	case termination.AtUpstream:
		return []views.Reader{row(hello, "yes", "yes"), row(certificate, "no, with TLS 1.3", "yes"), row(bodies, "no", "yes"), row(key, "no", "held there")}
	case termination.AtAgent:
		return []views.Reader{row(hello, "yes", "yes", "no"), row(certificate, "as the agent reports", checks, told), row(bodies, "no", "yes", "yes"), row(key, "no", "held there", "no")}
	default:
		return []views.Reader{row(hello, "yes", "no"), row(certificate, checks, told), row(bodies, "yes", "yes"), row(key, "held here", "no")}
	}
}

// exactWords says how exact the alerts of refusals are, and why.
func exactWords(config *termination.Config, e *termination.Endpoint, status gateway.EndpointStatus) string {
	if e.TerminateAt == termination.AtUpstream || !e.Enabled {
		return ""
	}
	const vague = "Whoever is refused gets the alert bad_certificate, whatever the reason, since "
	own := slices.ContainsFunc(e.Routes, func(r termination.Route) bool { return r.ClientAuth != nil || r.Also != nil && r.Also.StandsIn() })
	exact := status.Exact
	if e.TerminateAt == termination.AtAgent && !own {
		// The agent judges, by the same rule, and the gateway has no policy of its own for it.
		p, err := verify.Compile(config, e.PolicyFor(nil), verify.Scope{Endpoint: e.Name})
		exact = err == nil && p.Exact()
	}
	switch a := e.ClientAuth; {
	case e.ClientAuth.ReportOnly:
		return "Nobody is refused: the policy is reported only. Who would be, stands under Readiness."
	case e.Also.StandsIn() && a.Mode.Asks():
		return "TLS asks for a certificate and lets everyone in, since another proof may stand in for it: HTTP decides, and answers 401 or 403."
	case a.Soft:
		return "TLS asks for a certificate and lets everyone in, and HTTP refuses with 403 and the reason. The service never sees such a request."
	case exact:
		return "Whoever is refused gets the exact TLS alert, such as unknown_ca or certificate_expired."
	case !a.Mode.Verifies() && !own:
		return "Nobody is refused for what stands in a certificate."
	case own:
		return vague + "routes have policies of their own: there HTTP decides, with 403."
	case !a.Announce:
		return vague + "the trusted CAs are not announced."
	case len(config.Effective(a).Pins) > 0:
		return vague + "pins are checked after the handshake's own rules."
	case a.Hygiene.Complete() != termination.Hygiene{}.Complete():
		return vague + "its hygiene is not the default: our own verification decides, which knows its levels."
	case slices.ContainsFunc(config.Identities, func(i termination.Identity) bool { return len(i.Pins) > 0 && i.Knows(e.Name) }):
		return vague + "registered clients are known by their pins, which are checked after the handshake's own rules."
	}
	return vague + "our own verification decides, for instance on limits of directory names that a CA sets."
}

// saveEndpointPolicy changes who may come in.
func (s *Server) saveEndpointPolicy(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	in, wrong := readPolicyInput(c.Request().PostForm), fieldProblems{}
	if in.checks.arrange(c.FormValue("do")) {
		return s.showEndpoint(c, http.StatusOK, e, endpointShown{policy: &in})
	}
	if e.TerminateAt == termination.AtUpstream {
		wrong.add("", "Decided by the service behind. We cannot check what we do not open.")
	}
	policy := in.clientAuth(e.ClientAuth, wrong)
	s.checkTrust(policy, wrong)
	save := func(tx *store.Tx) error {
		stored, err := tx.Endpoint(e.ID)
		if err != nil {
			return err
		}
		stored.ClientAuth = policy
		return tx.UpdateEndpoint(stored)
	}
	if len(wrong) == 0 && c.FormValue("do") == "simulate" {
		would, err := s.wouldChange(c, save)
		if err == nil {
			return s.showEndpoint(c, http.StatusOK, e, endpointShown{policy: &in, would: would})
		}
		if !wrong.understood(err, e.Name) {
			return err
		}
	}
	if len(wrong) == 0 {
		_, err = s.change(c, save)
		if err != nil && !wrong.understood(err, e.Name) {
			return err
		}
	}
	if len(wrong) > 0 {
		return s.showEndpoint(c, http.StatusUnprocessableEntity, e, endpointShown{policy: &in, wrong: wrong})
	}
	s.say(c, "ok", "Who may come in is saved. Connections that lost their right were judged again.")
	return s.redirect(c, endpointPath(e))
}

// endpointHistoryPage says who changed what of an endpoint.
func (s *Server) endpointHistoryPage(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	entries, err := s.store.Audit(ctx, store.AuditQuery{Kind: store.KindEndpoint, ObjectID: e.ID, Limit: auditPageSize})
	if err != nil {
		return err
	}
	p := s.view(c, e.Name+", history")
	head, err := s.headOf(ctx, p, e)
	if err != nil {
		return err
	}
	var list []views.EndpointChange
	for _, entry := range entries {
		list = append(list, changeOf(p, entry))
	}
	return s.render(c, http.StatusOK, views.EndpointHistoryPage(p, head, list))
}

func changeOf(p views.Page, entry store.AuditEntry) views.EndpointChange {
	done, _ := auditWords(entry.Action, entry.Kind)
	return views.EndpointChange{
		When: p.Moment(entry.Time), Exact: p.Exact(entry.Time), Who: entry.Actor.Name, Via: entry.Actor.Via, Action: done,
		Revision: entry.Revision, Fields: changedFields(entry),
	}
}

// changedFields lists what an entry of the audit log changed, one level into the settings.
func changedFields(entry store.AuditEntry) []views.FieldChange {
	before, after := flatFields(entry.Before), flatFields(entry.After)
	if len(before) == 0 || len(after) == 0 {
		return nil
	}
	names := map[string]bool{}
	for _, m := range []map[string]string{before, after} {
		for name := range m {
			names[name] = true
		}
	}
	var out []views.FieldChange
	for name := range names {
		if before[name] != after[name] {
			out = append(out, views.FieldChange{Name: name, Before: format.Cut(before[name], 300), After: format.Cut(after[name], 300)})
		}
	}
	slices.SortFunc(out, func(a, b views.FieldChange) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func flatFields(doc json.RawMessage) map[string]string {
	var top map[string]json.RawMessage
	if json.Unmarshal(doc, &top) != nil {
		return nil
	}
	out := map[string]string{}
	flatten(out, "", top, 2)
	return out
}

// flatten writes the fields of an object, with those of objects within it under dotted names, so many levels deep.
func flatten(out map[string]string, prefix string, object map[string]json.RawMessage, levels int) {
	for name, value := range object {
		var inner map[string]json.RawMessage
		if name == "settings" && json.Unmarshal(value, &inner) == nil {
			flatten(out, prefix, inner, levels)
			continue
		}
		if levels > 0 && json.Unmarshal(value, &inner) == nil && inner != nil {
			flatten(out, prefix+name+".", inner, levels-1)
			continue
		}
		out[prefix+name] = strings.Trim(string(value), `"`)
	}
}

// endpointConfigPage shows an endpoint in the words of the configuration file.
func (s *Server) endpointConfigPage(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	p := s.view(c, e.Name+", configuration")
	head, err := s.headOf(c.Request().Context(), p, e)
	if err != nil {
		return err
	}
	text, files, err := endpointYAML(e)
	if err != nil {
		return fmt.Errorf("write endpoint as text: %w", err)
	}
	return s.render(c, http.StatusOK, views.EndpointConfigPage(p, head, text, files))
}
