package server

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// clientRows is how many clients stand on one page.
	clientRows = 100
	// clientAlertRows is how many alerts stand above the list.
	clientAlertRows = 3
	// expiryAlertRows is how many alerts stand on the page of what ends when.
	expiryAlertRows = 100
	// alertTexts is how many texts to owners the text for all holds.
	alertTexts = 200
)

// clientRoutes lists the routes of the clients that were seen.
func (s *Server) clientRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/clients", handler: s.clientsPage},
		{method: http.MethodGet, path: "/clients/:fingerprint", handler: s.clientPage},
		{method: http.MethodGet, path: "/expiry", handler: s.expiryPage},
	}
}

// clientTabs are the pages about clients.
func clientTabs(current string) []parts.Tab {
	tabs := []parts.Tab{{Label: "With a name", Href: "/identities"}, {Label: "Seen", Href: "/clients"}, {Label: "Blocked", Href: "/blocked"}, {Label: "What ends when", Href: "/expiry"}}
	for i := range tabs {
		tabs[i].Current = tabs[i].Href == current
	}
	return tabs
}

func clientHref(f termination.Fingerprint) string { return "/clients/" + f.String() }

// clientStateLabel names a state on its chip.
func clientStateLabel(s store.ClientState) string {
	switch s {
	case store.ClientsAll:
		return "All"
	case store.ClientsIn:
		return "In"
	case store.ClientsRefused:
		return "Refused since"
	case store.ClientsStrangers:
		return "Never verified"
	case store.ClientsNew:
		return "New"
	case store.ClientsEnding:
		return "Ends soon"
	case store.ClientsEnded:
		return "Ended"
	case store.ClientsWeak:
		return "Weak"
	case store.ClientsPublic:
		return "Public CA"
	case store.ClientsLegacy:
		return "Odd use"
	case store.ClientsNoPQ:
		return "No post-quantum"
	}
	return string(s)
}

func (s *Server) clientsPage(c echo.Context) error {
	const longest = 200
	p, ctx := s.view(c, "Clients seen"), c.Request().Context()
	q := store.ClientQuery{Text: strings.TrimSpace(c.QueryParam("q")), Limit: clientRows}
	if len(q.Text) > longest {
		q.Text = strings.ToValidUTF8(q.Text[:longest], "")
	}
	for _, state := range store.ClientStates() {
		if string(state) == c.QueryParam("state") {
			q.State = state
		}
	}
	if from, err := strconv.Atoi(c.QueryParam("from")); err == nil && from > 0 {
		q.From = min(from, store.MostStrangers+store.MostVerified)
	}
	page, err := s.store.Clients(ctx, q)
	if err == nil && len(page.Clients) == 0 && q.From > 0 { // what is no place in the list is its beginning
		q.From = 0
		page, err = s.store.Clients(ctx, q)
	}
	if err != nil {
		return err
	}
	v := views.Clients{Tabs: clientTabs("/clients"), Query: q.Text, State: string(q.State), Known: page.Known > 0, Since: p.Moment(page.Since)}
	for _, state := range store.ClientStates() {
		n := page.Counts[state]
		if n == 0 && state != store.ClientsAll && state != q.State {
			continue
		}
		v.States = append(v.States, views.StateChip{Label: clientStateLabel(state), Count: format.Int(n), Href: listHref("/clients", 0, "q", q.Text, "state", string(state)), Current: state == q.State})
	}
	if len(page.Clients) == 0 {
		v.None = "No client fits."
	}
	for _, client := range page.Clients {
		v.Items = append(v.Items, clientItem(p, client))
	}
	v.Rows = rowsFrom(q.From, clientRows, int(page.Total), func(from int) string { return listHref("/clients", from, "q", q.Text, "state", string(q.State)) })
	alerts, err := s.store.ClientAlerts(ctx, p.Now)
	if err != nil {
		return err
	}
	v.Alerts = clientAlertItems(p, alerts, clientAlertRows)
	if more := len(alerts) - len(v.Alerts); more > 0 {
		v.More = format.Count(more, "more alert", "more alerts")
	}
	return s.render(c, http.StatusOK, views.ClientsPage(p, v))
}

// clientName is the best name of a client; hostile text.
func clientName(c store.Client) string {
	for _, name := range []string{c.Name, c.Full} {
		if name != "" {
			return name
		}
	}
	return "unknown"
}

// clientTag says how a client is.
func clientTag(c store.Client) (parts.Tone, string, string) {
	switch {
	case c.Outcome == termination.OutcomePassed && c.FirstIn.IsZero():
		return parts.Sealed, "○", "passed through, unproven"
	case c.FirstIn.IsZero() && c.Outcome.In():
		return parts.Plain, "○", "open, never verified"
	case c.FirstIn.IsZero():
		return parts.Bad, "✕", "never verified"
	case c.Outcome.In():
		return parts.OK, "●", "in"
	case c.Outcome == termination.OutcomeRefused:
		return parts.Bad, "✕", "refused since"
	}
	return parts.Bad, "✕", "failed last"
}

func clientTags(p views.Page, c store.Client) []views.TagItem {
	var tags []views.TagItem
	switch {
	case !p.Now.Before(c.NotAfter):
		tags = append(tags, views.TagItem{Tone: parts.Bad, Text: "ended"})
	case parts.LifeTone(c.NotBefore, c.NotAfter, p.Now) != parts.OK && !p.Now.Before(c.NotBefore):
		tags = append(tags, views.TagItem{Tone: parts.LifeTone(c.NotBefore, c.NotAfter, p.Now), Text: "ends soon"})
	}
	if !c.FirstIn.IsZero() && p.Now.Sub(c.FirstIn) < day {
		tags = append(tags, views.TagItem{Tone: parts.Sealed, Text: "new"})
	}
	for _, n := range termination.AllClientNotes() {
		if c.Notes&n.Note != 0 && (n.Note != termination.NotePublicCA || c.Notes&termination.NoteUsageEnds == 0) {
			tags = append(tags, views.TagItem{Tone: parts.Warn, Text: n.Label})
		}
	}
	if c.HelloKnown && !c.PostQuantum {
		tags = append(tags, views.TagItem{Text: "no post-quantum"})
	}
	return tags
}

func clientItem(p views.Page, c store.Client) views.ClientItem {
	item := views.ClientItem{
		Name: format.Cut(clientName(c), 120), Href: clientHref(c.Fingerprint), Short: format.ShortFingerprint(c.Fingerprint), Issuer: format.Cut(c.Issuer, 120),
		Tags: clientTags(p, c), Where: c.Endpoint, Seen: p.Relative(c.Last), SeenExact: p.Exact(c.Last),
		Counts: format.Int(c.Verified+c.Open+c.Passed) + " in, " + format.Int(c.Failed) + " failed",
		Life:   parts.Life{From: c.NotBefore, Until: c.NotAfter, Now: p.Now}, LifeText: p.Date(c.NotAfter) + " · " + p.Left(c.NotBefore, c.NotAfter),
	}
	item.Tone, item.Mark, item.State = clientTag(c)
	return item
}

func clientAlertItems(p views.Page, alerts []store.ClientAlert, most int) []views.ClientAlertItem {
	var out []views.ClientAlertItem
	for i, a := range alerts[:min(len(alerts), most)] {
		item := views.ClientAlertItem{Tone: parts.Warn, Mark: "!", Href: clientHref(a.Client.Fingerprint), ID: fmt.Sprintf("owner-%d", i), Sentence: a.Sentence(p.Now), ToOwner: a.OwnerText(p.Now)}
		if a.Urgent {
			item.Tone, item.Mark = parts.Bad, "✕"
		}
		switch a.Kind {
		case store.AlertEnded:
			item.Label = "ended"
		case store.AlertEnding:
			item.Label = "ends soon"
		case store.AlertUsageEnds:
			item.Label = "loses client use"
		case store.AlertSoftware:
			item.Label = "other software"
		}
		out = append(out, item)
	}
	return out
}
