package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

func (s *Server) clientPage(c echo.Context) error {
	ctx := c.Request().Context()
	client, err := s.store.Client(ctx, fingerprintParam(c))
	if err != nil {
		return err
	}
	p := s.view(c, format.Cut(clientName(client), 80))
	f := client.Fingerprint
	v := views.Client{
		Title: format.Cut(clientName(client), 200), Tabs: clientTabs(""), Tags: clientTags(p, client), Unproven: client.Proven == "",
		Live: "/live?" + url.Values{"f": {"fp:" + f.String()}}.Encode(), Block: "/blocked/new?certificate=" + f.String(),
		Life: parts.Life{From: client.NotBefore, Until: client.NotAfter, Now: p.Now},
		From: p.Moment(client.NotBefore), Until: p.Moment(client.NotAfter) + " · " + p.Left(client.NotBefore, client.NotAfter),
		Facts: clientFacts(p, client),
	}
	v.Tone, v.Mark, v.State = clientTag(client)
	v.Lead = fmt.Sprintf("First seen %s, last %s", p.Relative(client.First), p.Relative(client.Last))
	if client.Endpoint != "" {
		v.Lead += " at " + client.Endpoint
	}
	v.Lead += fmt.Sprintf(" from %s. %s verified, %s open, %s passed through sealed, %s failed.", client.Address,
		format.Int(client.Verified), format.Int(client.Open), format.Int(client.Passed), format.Int(client.Failed))
	s.clientLinks(client, &v)
	known, err := s.knownCertificates(ctx)
	if err != nil {
		return err
	}
	if known[f] != nil {
		v.Page = "/certificates/" + f.String()
	}
	for _, n := range termination.AllClientNotes() {
		if client.Notes&n.Note != 0 {
			v.Notes = append(v.Notes, views.ClientNote{Label: n.Label, Sentence: n.Sentence})
		}
	}
	alerts, err := s.store.AlertsOf(ctx, f, p.Now)
	if err != nil {
		return err
	}
	v.Alerts = clientAlertItems(p, alerts, clientAlertRows)
	if v.Days, v.Hours, err = trends(p, func(step store.TrendStep) ([]store.TrendBar, error) { return s.store.ClientTrend(ctx, f, step) }); err != nil {
		return err
	}
	if v.Lists, err = s.clientLists(ctx, p, client); err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.ClientPage(p, v))
}

// clientLinks says where to go on from a client.
func (s *Server) clientLinks(client store.Client, v *views.Client) {
	config, f := s.current(), client.Fingerprint
	for i := range config.Identities {
		identity := &config.Identities[i]
		if identity.Name == client.Identity && client.Identity != "" || slices.Contains(identity.Pins, termination.Pin{Fingerprint: f}) {
			v.Identity = &views.Link{Label: identity.Name, Href: identityPath(identity)}
		}
	}
	if v.Identity == nil && client.Proven != "" {
		v.Name = "/identities/new?handshake=" + url.QueryEscape(client.Proven)
	}
	for i := range config.Blocked {
		if b := &config.Blocked[i]; b.Pin != nil && !b.Pin.Key && b.Pin.Fingerprint == f {
			v.Blocked = &views.Link{Label: "Blocked", Href: "/blocked/" + b.ID}
		}
	}
}

func clientFacts(p views.Page, c store.Client) []parts.Fact {
	facts := []parts.Fact{
		{Name: "SHA-256", Value: format.Fingerprint(c.Fingerprint)}, {Name: "Name", Value: orNone(c.Full)}, {Name: "Issued by", Value: orNone(c.Issuer)},
	}
	if c.Authority != "" {
		facts = append(facts, parts.Fact{Name: "Trusted by", Value: c.Authority})
	}
	facts = append(facts, parts.Fact{Name: "First seen", Value: p.Exact(c.First)}, parts.Fact{Name: "Last seen", Value: p.Exact(c.Last)})
	if !c.FirstIn.IsZero() {
		facts = append(facts, parts.Fact{Name: "First let in", Value: p.Exact(c.FirstIn)}, parts.Fact{Name: "Last let in", Value: p.Exact(c.LastIn)})
	}
	if c.HelloKnown {
		pq := "not offered in its last ClientHello"
		if c.PostQuantum {
			pq = "offered in its last ClientHello"
		}
		facts = append(facts, parts.Fact{Name: "Post-quantum", Value: pq})
	}
	return facts
}

// clientLists are the tables of a client's page.
func (s *Server) clientLists(ctx context.Context, p views.Page, client store.Client) ([]views.ClientTraits, error) {
	traits, err := s.store.ClientTraits(ctx, client.Fingerprint)
	if err != nil {
		return nil, err
	}
	changes, err := s.store.SoftwareChanges(ctx, client.Fingerprint)
	if err != nil {
		return nil, err
	}
	config := s.current()
	fp := "fp:" + client.Fingerprint.String()
	live := func(key, value string) string {
		return "/live?" + url.Values{"f": {fp + " " + key + ":" + value}}.Encode()
	}
	row := func(t store.ClientTrait, value, href string) views.ClientTrait {
		return views.ClientTrait{Value: value, Href: href, First: p.Minute(t.First), Last: p.Minute(t.Last), In: format.Int(t.LetIn), Failed: format.Int(t.Failed)}
	}
	software := views.ClientTraits{ID: "software", Title: "Software", Of: "JA4"}
	for _, t := range traits.Software {
		r := row(t, t.Value, live("ja4", t.Value))
		for _, change := range changes {
			if change.After == t.Value {
				r.Note = "new software since " + p.Minute(change.Time)
			}
		}
		software.Rows = append(software.Rows, r)
	}
	addresses := views.ClientTraits{ID: "addresses", Title: "Addresses", Of: "From"}
	for _, t := range traits.Addresses {
		addresses.Rows = append(addresses.Rows, row(t, t.Value, live("ip", t.Value)))
	}
	endpoints := views.ClientTraits{ID: "endpoints", Title: "Endpoints", Of: "Endpoint"}
	for _, t := range traits.Endpoints {
		r := row(t, t.Label, "")
		for i := range config.Endpoints {
			if e := &config.Endpoints[i]; e.ID == t.Value {
				r.Value, r.Href = e.Name, endpointPath(e)
			}
		}
		endpoints.Rows = append(endpoints.Rows, r)
	}
	reasons := views.ClientTraits{ID: "reasons", Title: "Why it failed", Of: "Reason"}
	for _, t := range traits.Reasons {
		title := t.Value
		if info, ok := termination.Reason(t.Value).Info(); ok {
			title = info.Title
		}
		reasons.Rows = append(reasons.Rows, row(t, title, live("reason", t.Value)))
	}
	return slices.DeleteFunc([]views.ClientTraits{software, addresses, endpoints, reasons}, func(l views.ClientTraits) bool { return len(l.Rows) == 0 }), nil
}

// trends are how often something came in the last thirty days and two days.
func trends(p views.Page, read func(store.TrendStep) ([]store.TrendBar, error)) (days, hours views.Trend, err error) {
	bars, err := read(store.TrendDays)
	if err != nil {
		return days, hours, err
	}
	days = trendShown(bars, "days", "Last 30 days", "Day (UTC)", func(t time.Time) string { return t.UTC().Format(time.DateOnly) })
	if bars, err = read(store.TrendHours); err != nil {
		return days, hours, err
	}
	hours = trendShown(bars, "hours", "Last 48 hours", "Hour", p.Moment)
	return days, hours, nil
}

// trendShown draws bars: failed ones on top of those that were let in.
func trendShown(bars []store.TrendBar, id, title, of string, name func(time.Time) string) views.Trend {
	const width, height = 300.0, 38.0
	v := views.Trend{ID: id, Title: title, Of: of}
	var in, failed, most int64
	for _, b := range bars {
		in, failed, most = in+b.LetIn, failed+b.Failed, max(most, b.LetIn+b.Failed)
	}
	if most == 0 {
		v.Summary = "No handshakes."
		return v
	}
	v.Summary = fmt.Sprintf("%s let in, %s failed; at most %s in one bar.", format.Int(in), format.Int(failed), format.Int(most))
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
	step := width / float64(len(bars))
	for i, b := range bars {
		if b.LetIn+b.Failed == 0 {
			continue
		}
		bar := func(n int64, bottom float64) (views.ChartBar, float64) {
			h := max(height*float64(n)/float64(most), 1)
			return views.ChartBar{X: number(float64(i)*step + 1), Y: number(bottom - h), Width: number(step - 2), Height: number(h)}, bottom - h
		}
		bottom := 39.0
		var drawn views.ChartBar
		if b.LetIn > 0 {
			drawn, bottom = bar(b.LetIn, bottom)
			v.In = append(v.In, drawn)
		}
		if b.Failed > 0 {
			drawn, _ = bar(b.Failed, bottom)
			v.Failed = append(v.Failed, drawn)
		}
		v.Rows = append([]views.ChartRow{{Day: name(b.Time), Handshakes: format.Int(b.LetIn), Requests: format.Int(b.Failed)}}, v.Rows...)
	}
	return v
}
