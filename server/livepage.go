package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/clienterror"
	"countersign/views"
	"countersign/views/format"
)

const liveRows = 200

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

// liveAddress is the whole state of the Live page, which stands in its address.
type liveAddress struct {
	filter string   // as typed
	terms  []string // of the filter, in their canonical form; none when it was not understood
	parsed termination.Filter
	period pulsePeriod
}

// readLiveAddress takes the filter from one or several parameters: without script, what is typed comes beside the terms
// that stand already.
func (s *Server) readLiveAddress(c echo.Context) (liveAddress, error) {
	a := liveAddress{filter: strings.TrimSpace(strings.Join(c.QueryParams()["f"], " ")), period: periodNamed(c.QueryParam("since"))}
	var err error
	a.parsed, err = termination.ParseFilter(a.filter, s.now())
	for _, t := range a.parsed.Terms {
		a.terms = append(a.terms, t.String())
	}
	return a, err
}

// link is the address with other terms.
func (a liveAddress) link(terms []string, more ...string) string {
	since := a.period.name
	if since == pulsePeriods()[0].name {
		since = "" // the usual one
	}
	return listHref("/live", 0, append([]string{"f", strings.Join(terms, " "), "since", since}, more...)...)
}

// toggled returns the terms with one in the place of those of its key, or without it where it stands.
func (a liveAddress) toggled(term, key string) []string {
	var kept []string
	on := false
	for _, t := range a.terms {
		on = on || t == term
		if !strings.HasPrefix(t, key) {
			kept = append(kept, t)
		}
	}
	if !on && term != "" {
		kept = append(kept, term)
	}
	return kept
}

// livePage shows the newest handshakes that the filter selects; script makes the list move.
func (s *Server) livePage(c echo.Context) error {
	at, wrong := s.readLiveAddress(c)
	if wrong == nil && len(c.QueryParams()["f"]) > 1 {
		return s.redirect(c, at.link(at.terms))
	}
	p := s.view(c, "Live", "live.js", "notices.js")
	p.Keys = views.LiveKeys()
	ctx := c.Request().Context()
	v := views.Live{Filter: at.filter, Segments: segments(at), LastSeq: s.hub.Status().Seq, Clear: at.link(nil)}
	v.Saved = s.savedLinks(c, at.filter)
	var err error
	if wrong != nil {
		// The page comes all the same, with what was typed and why it was not understood.
		v.FilterError = wrong.Error()
		v.Printed = printedLines(at)
		empty := liveAddress{period: at.period}
		if v.Pulse, err = s.pulse(ctx, p.Clock, empty); err != nil {
			return err
		}
		return s.render(c, http.StatusUnprocessableEntity, views.LivePage(p, v))
	}
	for i, t := range at.terms {
		others := slices.Delete(slices.Clone(at.terms), i, i+1)
		v.Chips = append(v.Chips, views.Chip{Text: t, Href: at.link(others)})
	}
	if v.Pulse, err = s.pulse(ctx, p.Clock, at); err != nil {
		return err
	}
	query := store.HistoryQuery{Filter: at.parsed, Limit: liveRows, Patience: rowsPatience}
	if query.Before, err = readCursor(c.QueryParam("before")); err != nil {
		return err
	}
	v.Save = saveLink(at.filter, v.Saved)
	page, err := s.store.Handshakes(ctx, query)
	if err != nil {
		return fmt.Errorf("read handshakes for the page: %w", err)
	}
	for _, r := range page.Records {
		row := views.RowOf(p.Clock, r.Handshake)
		row.Marked = r.Mark
		v.Rows = append(v.Rows, row)
	}
	if page.Next != 0 {
		v.Cursor = cursorOf(page.Next)
		v.Older = at.link(at.terms, "before", v.Cursor)
	}
	if !page.Searched.IsZero() && len(page.Records) < liveRows {
		v.Searched = p.Moment(page.Searched)
	}
	if len(v.Rows) == 0 && len(at.terms) > 0 {
		v.Printed = printedLines(at)
		if v.Since, v.Hidden, err = s.hiddenSince(ctx, p.Clock, page.Searched); err != nil {
			return err
		}
	}
	history, err := s.store.History(ctx)
	if err != nil {
		return err
	}
	v.Keep = format.ShortSpan(history.Keep) + " is deleted"
	if history.KeepFailures != history.Keep {
		v.Keep += ", a failure older than " + format.ShortSpan(history.KeepFailures)
	}
	return s.render(c, http.StatusOK, views.LivePage(p, v))
}

// printedLines reads a filter as what it may be instead: the error line of a client, pasted where handshakes are looked for.
func printedLines(at liveAddress) []views.Printed {
	var out []views.Printed
	for _, r := range clienterror.Read(at.filter) {
		if f := r.Filter(); f != "" {
			out = append(out, views.Printed{Meaning: r.Meaning, Href: at.link([]string{f})})
		}
	}
	return out
}

// hiddenSince says how many handshakes a filter that matches nothing hides, from a time on or of all that are kept.
func (s *Server) hiddenSince(ctx context.Context, clock format.Clock, searched time.Time) (since, hidden string, err error) {
	status, err := s.store.Status(ctx)
	if err != nil {
		return "", "", err
	}
	from := status.Oldest
	if searched.After(from) {
		from = searched
	}
	if from.IsZero() {
		return "", "", nil
	}
	all := termination.Filter{Terms: []termination.FilterTerm{{Key: termination.FilterSince, Values: []termination.FilterValue{{Time: from}}}}}
	n, counted, err := s.store.CountHandshakes(ctx, store.HistoryQuery{Filter: all, Patience: factsPatience})
	if err != nil {
		return "", "", err
	}
	hidden = format.Int(n)
	if !counted.IsZero() {
		hidden = "More than " + hidden
	}
	return clock.Moment(from), hidden, nil
}

// livePulse is the part of the page that counters fill, alone.
func (s *Server) livePulse(c echo.Context) error {
	at, err := s.readLiveAddress(c)
	if err != nil {
		var wrong *termination.FilterError
		if errors.As(err, &wrong) {
			return &Problem{Status: http.StatusUnprocessableEntity, Code: "filter", Title: "The filter cannot be read", Detail: wrong.Error(), Href: "/live", Link: "Without a filter"}
		}
		return err
	}
	v, err := s.pulse(c.Request().Context(), s.clock(c), at)
	if err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.LivePulse(v))
}

// liveLink is the address of the page with a filter and another parameter, for links from other pages.
func liveLink(filter, key, value string) string {
	return listHref("/live", 0, "f", filter, key, value)
}

// segments are the choices beside the filter.
func segments(at liveAddress) []views.Segment {
	choices := []struct{ label, term string }{
		{"All", ""}, {"Verified", "outcome:verified"}, {"Failed", "outcome:failed"}, {"Passed through", "outcome:passed"},
	}
	var out []views.Segment
	chosen := slices.IndexFunc(at.terms, func(t string) bool { return strings.HasPrefix(t, "outcome:") })
	for _, ch := range choices {
		seg := views.Segment{Label: ch.label, Failed: ch.term == "outcome:failed"}
		seg.Current = ch.term == "" && chosen < 0 || chosen >= 0 && at.terms[chosen] == ch.term
		seg.Href = at.link(at.toggled(ch.term, "outcome:"))
		if seg.Current {
			seg.Href = at.link(at.terms)
		}
		out = append(out, seg)
	}
	return out
}
