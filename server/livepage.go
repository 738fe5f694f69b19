package server

import (
	"encoding/json"
	"errors"
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
	"countersign/termination/live"
	"countersign/views"
	"countersign/views/format"
)

const (
	pulsePeriod = 2 * time.Minute
	whyPeriod   = 15 * time.Minute
	whyShown    = 6 // reasons at most
	liveRows    = 200
)

// liveRoutes lists the routes of the Live page and of a handshake's own page.
func (s *Server) liveRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/live", handler: s.livePage},
		{method: http.MethodGet, path: "/live/pulse", handler: s.livePulse},
		{method: http.MethodGet, path: "/handshakes/:id", handler: s.handshakePage},
		{method: http.MethodGet, path: "/handshakes/:id/policy", handler: s.policyThenPage},
		{method: http.MethodGet, path: "/handshakes/:id/chain.pem", handler: s.handshakeChain},
		{method: http.MethodGet, path: "/handshakes/:id/record.json", handler: s.handshakeRecord},
	}
}

// livePage shows the newest handshakes that the filter selects; script makes the list move.
func (s *Server) livePage(c echo.Context) error {
	p := s.view(c, "Live", "live.js")
	p.Keys = views.LiveKeys()
	text := c.QueryParam("f")
	v := views.Live{Filter: text, Pulse: s.pulse(text), Segments: segments(text), LastSeq: s.hub.Status().Seq}
	v.Saved = s.savedLinks(c, text)
	status := http.StatusOK
	filter, err := termination.ParseFilter(text, s.now())
	if err != nil {
		// The page comes all the same, with what was typed and why it was not understood.
		v.FilterError, status = err.Error(), http.StatusUnprocessableEntity
		return s.render(c, status, views.LivePage(p, v))
	}
	query := store.HistoryQuery{Filter: filter, Limit: liveRows}
	if before := c.QueryParam("before"); before != "" {
		if query.Before, err = strconv.ParseUint(before, 10, 64); err != nil {
			return &Problem{Status: http.StatusBadRequest, Code: "cursor", Title: "That link to older handshakes is damaged", Href: "/live", Link: "Newest handshakes"}
		}
	}
	v.Save = saveLink(text, v.Saved)
	page, err := s.store.Handshakes(c.Request().Context(), query)
	if err != nil {
		return fmt.Errorf("read handshakes for the page: %w", err)
	}
	for _, r := range page.Records {
		v.Rows = append(v.Rows, views.RowOf(p.Clock, r.Handshake))
	}
	if page.Next != 0 {
		v.Older = liveLink(text, "before", strconv.FormatUint(page.Next, 10))
	}
	if !page.Searched.IsZero() {
		v.Searched = p.Moment(page.Searched)
	}
	v.Keep = p.Status.Keep
	return s.render(c, status, views.LivePage(p, v))
}

// livePulse is the part of the page that counters fill, alone.
func (s *Server) livePulse(c echo.Context) error {
	return s.render(c, http.StatusOK, views.LivePulse(s.pulse(c.QueryParam("f"))))
}

// liveLink is the address of the page with a filter and another parameter.
func liveLink(filter, key, value string) string {
	q := url.Values{}
	if filter != "" {
		q.Set("f", filter)
	}
	if value != "" {
		q.Set(key, value)
	}
	if len(q) == 0 {
		return "/live"
	}
	return "/live?" + q.Encode()
}

// pulse sums up the last minutes. Everything in it comes from counters.
func (s *Server) pulse(filter string) views.Pulse {
	now := s.hub.Counts(pulsePeriod, live.AllEndpoints)
	v := views.Pulse{Total: now.Total(), Demands: s.demandsCertificates()}
	if v.Total > 0 {
		v.Verified = format.Percent(now.Verified, v.Total)
		v.Failing = s.hub.FailingClients(pulsePeriod, live.AllEndpoints)
		v.Facts = strings.Join(pulseFacts(now), " · ")
	}
	// Counters begin with the process: what was before stands in the list only.
	v.Period = "15 min"
	if age := s.now().Sub(s.started); age < whyPeriod {
		v.Period = "since the start"
		v.Young = max(0, int((pulsePeriod - age).Seconds()))
	}
	longer := s.hub.Counts(whyPeriod, live.AllEndpoints)
	v.Why, v.Failed = why(longer.Reasons, filter), countWords(longer.Failed())
	return v
}

func countWords(n uint64) string {
	if n == 0 {
		return ""
	}
	return format.Int(n)
}

func pulseFacts(c live.Counts) []string {
	rate := float64(c.Total()) / pulsePeriod.Seconds()
	facts := []string{"last 2 minutes", format.Int(c.Total()) + map[bool]string{true: " handshake", false: " handshakes"}[c.Total() == 1]}
	if rate >= 0.1 {
		facts = append(facts, strconv.FormatFloat(rate, 'f', 1, 64)+" per second")
	}
	if c.P50 > 0 {
		facts = append(facts, "p50 "+format.Duration(c.P50), "p95 "+format.Duration(c.P95))
	}
	if c.KeyExchanges > 0 {
		facts = append(facts, format.Percent(c.PostQuantum, c.KeyExchanges)+" post-quantum key exchange")
	}
	return facts
}

func (s *Server) demandsCertificates() bool {
	return slices.ContainsFunc(s.current().Endpoints, func(e termination.Endpoint) bool { return e.ClientAuth.Mode.DemandsCertificate() })
}

// why lists the most frequent reasons, each a toggle of the filter.
func why(counts map[termination.Reason]uint64, filter string) []views.Why {
	var out []views.Why
	var most uint64
	for reason, n := range counts {
		most = max(most, n)
		out = append(out, views.Why{Reason: reason, Title: views.FailureTitle(reason), Count: n})
	}
	slices.SortFunc(out, func(a, b views.Why) int {
		if a.Count != b.Count {
			return int(b.Count) - int(a.Count) //nolint:gosec // counts of fifteen minutes
		}
		return strings.Compare(string(a.Reason), string(b.Reason))
	})
	out = out[:min(len(out), whyShown)]
	for i := range out {
		term := "reason:" + string(out[i].Reason)
		out[i].Share = strconv.FormatFloat(float64(out[i].Count)*100/float64(most), 'f', 1, 64) + "%"
		out[i].On = slices.Contains(strings.Fields(filter), term)
		out[i].Href = liveLink(toggle(filter, term, "reason:"), "", "")
	}
	return out
}

// toggle puts a term into a filter in the place of those with its key, or takes it out where it stands.
func toggle(filter, term, key string) string {
	var kept []string
	on := false
	for _, word := range strings.Fields(filter) {
		if word == term {
			on = true
		}
		if !strings.HasPrefix(word, key) {
			kept = append(kept, word)
		}
	}
	if !on && term != "" {
		kept = append(kept, term)
	}
	return strings.Join(kept, " ")
}

// segments are the choices beside the filter.
func segments(filter string) []views.Segment {
	choices := []struct{ label, term string }{
		{"All", ""}, {"Verified", "outcome:verified"}, {"Failed", "outcome:failed"}, {"Passed through", "outcome:passed"},
	}
	var out []views.Segment
	words := strings.Fields(filter)
	chosen := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "outcome:") })
	for _, ch := range choices {
		seg := views.Segment{Label: ch.label}
		seg.Current = ch.term == "" && chosen < 0 || chosen >= 0 && words[chosen] == ch.term
		with := toggle(filter, ch.term, "outcome:")
		if seg.Current {
			with = filter
		}
		seg.Href = liveLink(with, "", "")
		seg.Failed = ch.term == "outcome:failed"
		out = append(out, seg)
	}
	return out
}

// findHandshake reads a record, with an explanation even where none was due when it was made.
func (s *Server) findHandshake(c echo.Context) (store.Record, error) {
	r, err := s.store.Handshake(c.Request().Context(), c.Param("id")+c.Param("ref"))
	if err != nil {
		var missing store.NotFoundError
		if errors.As(err, &missing) {
			return r, &Problem{
				Status: http.StatusNotFound, Code: "not_found", Title: "That handshake is not stored here",
				Detail: c.Param("id") + c.Param("ref"), Advice: "It is older than the history, or was never stored. A new one takes up to half a second to get there.", Href: "/live", Link: "Newest handshakes",
			}
		}
		return r, err
	}
	switch {
	case s.opts.Gateway == nil:
	case r.End != nil && r.End.Reason != "": // it came in; what to do is about what happened then
		s.opts.Gateway.ExplainEnd(r.Handshake, *r.End)
	case r.Handshake.Verdict.Explanation.Sentence == "":
		s.opts.Gateway.Explain(r.Handshake)
	}
	return r, nil
}

// handshakePage shows everything about one handshake: alone, or as the drawer beside the list.
func (s *Server) handshakePage(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	p := s.view(c, "Handshake")
	v, err := views.HandshakeOf(p.Clock, r.Handshake, r.End)
	if err != nil {
		return fmt.Errorf("show handshake: %w", err)
	}
	s.linkEndpoint(&v, r.Handshake)
	if isFragment(c.Request()) {
		return s.render(c, http.StatusOK, views.HandshakeDrawer(v))
	}
	p.Title = v.Sentence
	return s.render(c, http.StatusOK, views.HandshakePage(p, v))
}

// linkEndpoint leads to the endpoint by its ID: its name may have changed since, or be that of another one now.
func (s *Server) linkEndpoint(v *views.Handshake, h *termination.Handshake) {
	known := slices.ContainsFunc(s.current().Endpoints, func(e termination.Endpoint) bool { return e.ID == h.EndpointID })
	if h.EndpointID == "" || !known || !s.has("/endpoints/:name") {
		return
	}
	v.EndpointHref = "/endpoints/" + h.EndpointID
	for i := range v.Fixes {
		if v.Fixes[i].Action == "/endpoints/"+url.PathEscape(h.Endpoint) {
			v.Fixes[i].Action = v.EndpointHref
		}
	}
}

// handshakeChain downloads what the client presented.
func (s *Server) handshakeChain(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+r.Handshake.ID+`.pem"`)
	return c.Blob(http.StatusOK, "application/x-pem-file", views.ChainPEM(r.Handshake.Presented))
}

// handshakeRecord downloads the record.
func (s *Server) handshakeRecord(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+r.Handshake.ID+`.json"`)
	text, err := json.MarshalIndent(struct {
		*termination.Handshake
		End *termination.ConnectionEnd `json:"end,omitempty"`
	}{r.Handshake, r.End}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the record as JSON: %w", err)
	}
	return c.JSONBlob(http.StatusOK, append(format.JSON(text), '\n'))
}
