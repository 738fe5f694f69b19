package server

import (
	"cmp"
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
	"countersign/termination/simulation"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// readinessPage is how many clients stand on one page of the report.
const readinessPage = 100

// The lists of the report.
const (
	readyAll     = ""
	readyIn      = "in"
	readyRefused = "refused"
	readyNone    = "none"
	readyUnknown = "unknown"
)

// readyState says to which list a client belongs.
func readyState(c *simulation.Client) string {
	switch {
	case c.Change == simulation.Unknown:
		return readyUnknown
	case c.Would == simulation.Inside:
		return readyIn
	case !c.Shown():
		return readyNone
	}
	return readyRefused
}

// readiness judges the clients of an endpoint as if its policy were enforced.
func (s *Server) readiness(c echo.Context, e *termination.Endpoint, span time.Duration) (*simulated, error) {
	enforced := simulation.ReportOnly(s.current(), e.ID, false)
	return s.simulate(c.Request().Context(), enforced, []string{e.ID}, s.now().Add(-span))
}

// readinessReport shows who would get in, who would be refused and why, and who never showed a certificate.
func (s *Server) readinessReport(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	period, words, span := periodOf(c.QueryParam("period"))
	r, err := s.readiness(c, e, span)
	if err != nil {
		return err
	}
	p := s.view(c, e.Name+", readiness")
	head, err := s.headOf(c.Request().Context(), p, e)
	if err != nil {
		return err
	}
	v := views.Readiness{Head: head, Asks: asks(e), ReportOnly: e.ClientAuth.ReportOnly && e.ClientAuth.Mode.Asks(), Notes: r.notes(p)}
	if v.ReportOnly {
		v.LiveHref = liveLink(endpointFilter(e.Name)+" is:"+termination.FilterWouldRefuse, "", "")
	}
	counts := map[string]int{}
	for i := range r.Clients {
		counts[readyState(&r.Clients[i])]++
	}
	v.Sentence, v.Tone = readySentence(counts, words), parts.OK
	show := c.QueryParam("show")
	here := endpointPath(e) + "/readiness"
	link := func(period, show string, page int) string {
		q := url.Values{"period": {period}}
		if show != "" {
			q.Set("show", show)
		}
		if page > 1 {
			q.Set("page", strconv.Itoa(page))
		}
		return here + "?" + q.Encode()
	}
	for _, b := range lookBack() {
		label := b.words
		if b.span == time.Hour {
			label = "1 hour"
		}
		v.Periods = append(v.Periods, parts.Tab{Label: label, Href: link(b.value, show, 1), Current: b.value == period})
	}
	for _, t := range []struct{ key, label string }{
		{readyAll, "All"}, {readyRefused, "Would be refused"}, {readyNone, "Never showed a certificate"}, {readyIn, "Would get in"}, {readyUnknown, "Cannot be said"},
	} {
		n := counts[t.key]
		if t.key == readyAll {
			n = len(r.Clients)
		}
		v.States = append(v.States, parts.Tab{Label: t.label, Href: link(period, t.key, 1), Count: format.Int(n), Current: show == t.key})
	}
	v.Reasons = readyReasons(p, r.Clients)
	listed := slices.Clone(r.Clients)
	if show != readyAll {
		listed = slices.DeleteFunc(listed, func(c simulation.Client) bool { return readyState(&c) != show })
	}
	slices.SortStableFunc(listed, func(a, b simulation.Client) int { return b.Last.Compare(a.Last) })
	number, _ := strconv.Atoi(c.QueryParam("page"))
	number = max(1, min(number, (len(listed)+readinessPage-1)/readinessPage))
	from, to := min((number-1)*readinessPage, len(listed)), min(number*readinessPage, len(listed))
	for i := from; i < to; i++ {
		v.Clients = append(v.Clients, readyClient(p, &listed[i]))
	}
	v.Empty = "None in the last " + words + "."
	v.Pages = fmt.Sprintf("%s to %s of %s", format.Int(from+1), format.Int(to), format.Int(len(listed)))
	if number > 1 {
		v.Last = link(period, show, number-1)
	}
	if to < len(listed) {
		v.Next = link(period, show, number+1)
	}
	return s.render(c, http.StatusOK, views.ReadinessPage(p, v))
}

// asks reports whether an endpoint, or one of its routes, asks for certificates.
func asks(e *termination.Endpoint) bool {
	return e.TerminateAt != termination.AtUpstream && (e.ClientAuth.Mode.Asks() ||
		slices.ContainsFunc(e.Routes, func(r termination.Route) bool { return r.ClientAuth != nil && r.ClientAuth.Mode.Asks() }))
}

// readySentence is the report in a sentence or two. Clients of whom nothing can be said are no part of the sum.
func readySentence(counts map[string]int, period string) string {
	total := counts[readyIn] + counts[readyRefused] + counts[readyNone]
	if total == 0 {
		if counts[readyUnknown] > 0 {
			return fmt.Sprintf("Nothing can be said yet of the %s of the last %s.", format.Count(counts[readyUnknown], "client", "clients"), period)
		}
		return "Nobody came in the last " + period + "."
	}
	text := fmt.Sprintf("%s of %s would get in.", format.Int(counts[readyIn]), format.Count(total, "client", "clients"))
	if counts[readyIn] == total {
		text = fmt.Sprintf("All of %s would get in.", format.Count(total, "client", "clients"))
		if total == 1 {
			text = "The one client of the last " + period + " would get in."
		}
	}
	if n := counts[readyRefused]; n > 0 {
		text += " " + format.Int(n) + " would be refused."
	}
	if n := counts[readyNone]; n > 0 {
		text += " " + format.Int(n) + " never showed a certificate."
	}
	return text
}

func readyReasons(p views.Page, clients []simulation.Client) []views.ReadinessReason {
	type cause struct {
		count int
		last  *simulation.Client
	}
	by := map[termination.Reason]*cause{}
	var order []termination.Reason
	for i := range clients {
		c := &clients[i]
		if state := readyState(c); state != readyRefused && state != readyNone {
			continue
		}
		if by[c.Reason] == nil {
			by[c.Reason] = &cause{}
			order = append(order, c.Reason)
		}
		k := by[c.Reason]
		k.count++
		if k.last == nil || c.Last.After(k.last.Last) {
			k.last = c
		}
	}
	slices.SortFunc(order, func(a, b termination.Reason) int {
		return cmp.Or(cmp.Compare(by[b].count, by[a].count), cmp.Compare(a, b))
	})
	out := make([]views.ReadinessReason, 0, len(order))
	for _, r := range order {
		info, _ := r.Info()
		k := by[r]
		out = append(out, views.ReadinessReason{
			Title: views.FailureTitle(r), Fix: info.Fix, Clients: format.Int(k.count), Seen: p.Relative(k.last.Last), Exact: p.Exact(k.last.Last),
			Href: "/handshakes/" + url.PathEscape(k.last.Handshake),
		})
	}
	return out
}

func readyClient(p views.Page, c *simulation.Client) views.ReadinessClient {
	v := views.ReadinessClient{
		Name: c.Label(), Beside: c.Address.String(), Href: "/handshakes/" + url.PathEscape(c.Handshake),
		First: p.Relative(c.First), Last: p.Relative(c.Last), Exact: p.Exact(c.Last), Visits: format.Int(c.Handshakes), Detail: c.Detail,
	}
	if !c.Shown() {
		v.Beside = c.JA4
	} else if c.Name.Full != "" && c.Name.Full != c.Name.Name {
		v.Beside = c.Name.Full
	}
	switch readyState(c) {
	case readyIn:
		v.Tone, v.Mark, v.State = parts.OK, "✓", "gets in"
	case readyNone:
		v.Tone, v.Mark, v.State = parts.Bad, "✕", "never showed a certificate"
	case readyUnknown:
		v.Tone, v.Mark, v.State, v.Detail = parts.Plain, "?", "cannot be said", c.Why.Words()
	default:
		v.Tone, v.Mark, v.State = parts.Bad, "✕", lowerFirst(views.FailureTitle(c.Reason))
		if c.Would == simulation.Partly {
			v.Tone, v.State = parts.Warn, v.State+": 403 where no route lets it in"
		}
	}
	return v
}

// enforcePage asks before a policy is enforced, or only reported again.
func (s *Server) enforcePage(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	if !asks(e) {
		return s.redirect(c, endpointPath(e)+"/readiness")
	}
	p := s.view(c, "Enforce "+e.Name)
	head, err := s.headOf(c.Request().Context(), p, e)
	if err != nil {
		return err
	}
	v := views.Enforcing{Head: head, Enforce: e.ClientAuth.ReportOnly}
	v.Would, err = s.rehearsal(c.Request().Context(), p, simulation.ReportOnly(s.current(), e.ID, !v.Enforce), c.QueryParam("period"))
	if err != nil {
		return err
	}
	if v.Enforce {
		v.Sentence = "From then on, clients that the policy refuses stay outside, and the service is told who the others are."
		v.Points = []string{
			"Open connections are judged again within a second; who may not be here " + lossWords(e.ClientAuth.OnLoss) + ". " + upperFirst(format.Count(head.Connections, "connection is", "connections are")) + " open now.",
			"It can be undone at once, on the same page.",
		}
	} else {
		v.Sentence = "From then on everyone comes in but who is blocked, whatever certificate they show or do not show, and the service is told nobody’s identity."
		v.Points = []string{"Who would have been refused, and why, is recorded and stands in the readiness report."}
	}
	return s.render(c, http.StatusOK, views.EnforcePage(p, v))
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func lossWords(o termination.OnLoss) string {
	switch o {
	case termination.OnLossDrain:
		return "may finish the request in flight"
	case termination.OnLossLeave:
		return "keeps the connection, but further requests are refused"
	default:
		return "is cut off"
	}
}

// enforceEndpoint does it, for the policy of the endpoint and those of its routes.
func (s *Server) enforceEndpoint(c echo.Context) error {
	e, err := s.findEndpoint(c)
	if err != nil {
		return err
	}
	word := c.FormValue("report_only")
	if word != "on" && word != "off" || !asks(e) {
		return &Problem{Status: http.StatusBadRequest, Code: "form", Title: "That form is damaged"}
	}
	report := word == "on"
	if _, err := s.change(c, func(tx *store.Tx) error { return reportOnly(tx, e.ID, report) }); err != nil {
		return err
	}
	if report {
		s.say(c, "ok", "The policy of "+e.Name+" is only reported now. Everyone comes in.")
	} else {
		s.say(c, "ok", "The policy of "+e.Name+" is enforced now. Open connections were judged again.")
	}
	return s.redirect(c, endpointPath(e)+"/readiness")
}

func reportOnly(tx *store.Tx, id string, report bool) error {
	e, err := tx.Endpoint(id)
	if err != nil {
		return err
	}
	e.ClientAuth.ReportOnly = report && e.ClientAuth.Mode.Asks()
	for i := range e.Routes {
		if own := e.Routes[i].ClientAuth; own != nil {
			changed := *own
			changed.ReportOnly = report && own.Mode.Asks()
			e.Routes[i].ClientAuth = &changed
		}
	}
	return tx.UpdateEndpoint(e)
}
