package server

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

// expiryRows is how many things of a kind the page names.
const expiryRows = 50

// expiryPage says what ends when, and whom to tell.
func (s *Server) expiryPage(c echo.Context) error {
	p, ctx, config := s.view(c, "What ends when"), c.Request().Context(), s.current()
	v := views.Expiry{Tabs: clientTabs("/expiry")}
	alerts, err := s.store.ClientAlerts(ctx, p.Now)
	if err != nil {
		return err
	}
	v.Alerts = clientAlertItems(p, alerts, expiryAlertRows)
	if more := len(alerts) - len(v.Alerts); more > 0 {
		v.More = format.Count(more, "more alert is", "more alerts are") + " in the API, at /api/v1/clients/alerts."
	}
	var texts []string
	for _, a := range alerts[:min(len(alerts), alertTexts)] {
		texts = append(texts, a.OwnerText(p.Now))
	}
	v.All = strings.Join(texts, "\n----------------------------------------\n\n")

	cas := views.ExpiryGroup{ID: "expiry-cas", Title: "CAs", None: "No CA is trusted.", More: &views.Link{Label: "Trust a CA", Href: "/authorities"}}
	for i := range config.Authorities {
		a := &config.Authorities[i]
		for _, ca := range a.Certificates {
			item := expiryItem(p, ca.Certificate.NotBefore, ca.Certificate.NotAfter)
			item.Name, item.Href, item.Note = format.Cut(titleOf(ca.Certificate), 120), "/authorities/"+a.ID, "of "+a.Name
			cas.Items = append(cas.Items, item)
		}
	}
	lists := views.ExpiryGroup{ID: "expiry-lists", Title: "Revocation lists", None: "No CA has a revocation list.", More: &views.Link{Label: "Give a CA its list", Href: "/authorities"}}
	for _, status := range s.gateway.RevocationStatus() {
		for _, source := range status.Sources {
			for _, l := range source.Lists {
				if l.NextUpdate.IsZero() {
					continue
				}
				item := expiryItem(p, l.ThisUpdate, l.NextUpdate)
				item.Name, item.Href, item.Note = format.Cut(l.Issuer, 120), "/authorities", "of "+status.Authority
				if a := config.Authority(status.Authority); a != nil {
					item.Href = "/authorities/" + a.ID
				}
				if source.Fetched {
					item.Note += ", fetched by itself"
				}
				lists.Items = append(lists.Items, item)
			}
		}
	}
	servers := views.ExpiryGroup{ID: "expiry-servers", Title: "Server certificates", None: "There is none.", More: &views.Link{Label: "Make an endpoint", Href: "/endpoints/new"}}
	known, err := s.serverCertificates(ctx)
	if err != nil {
		return err
	}
	for _, l := range known {
		item := expiryItem(p, l.cert.NotBefore, l.cert.NotAfter)
		item.Name, item.Href = format.Cut(l.name, 120), "/certificates/"+termination.FingerprintOf(l.cert).String()
		var notes []string
		for _, tag := range l.source {
			notes = append(notes, tag.Text)
		}
		item.Note = strings.Join(notes, ", ")
		servers.Items = append(servers.Items, item)
	}
	clients, err := s.expiringClients(c, p)
	if err != nil {
		return err
	}
	for _, g := range []views.ExpiryGroup{cas, lists, servers} {
		slices.SortStableFunc(g.Items, func(a, b views.ExpiryItem) int { return cmp.Compare(a.Life.Until.Unix(), b.Life.Until.Unix()) })
		g.Items = g.Items[:min(len(g.Items), expiryRows)]
		if len(g.Items) > 0 {
			g.More = nil // it is the next step where there is nothing
		}
		v.Groups = append(v.Groups, g)
	}
	v.Groups = append(v.Groups, clients)
	return s.render(c, http.StatusOK, views.ExpiryPage(p, v))
}

// expiringClients are the active clients, by the end of their certificates.
func (s *Server) expiringClients(c echo.Context, p views.Page) (views.ExpiryGroup, error) {
	g := views.ExpiryGroup{ID: "expiry-clients", Title: "Certificates of clients", None: "No client was let in within 30 days.", More: &views.Link{Label: "All clients seen", Href: "/clients"}}
	found, err := s.store.ActiveClients(c.Request().Context(), p.Now, expiryRows)
	for _, client := range found {
		item := expiryItem(p, client.NotBefore, client.NotAfter)
		item.Name, item.Href, item.Note = format.Cut(clientName(client), 120), clientHref(client.Fingerprint), "let in last "+p.Relative(client.LastIn)
		g.Items = append(g.Items, item)
	}
	return g, err
}

func expiryItem(p views.Page, from, until time.Time) views.ExpiryItem {
	return views.ExpiryItem{Life: parts.Life{From: from, Until: until, Now: p.Now}, Ends: p.Moment(until), Left: p.Left(from, until), Tone: parts.LifeTone(from, until, p.Now)}
}
