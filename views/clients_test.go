package views

import (
	"time"

	"github.com/a-h/templ"

	"countersign/views/parts"
)

// clientPages is every page of clients that were seen, in every state.
func clientPages() map[string]templ.Component {
	life := parts.Life{From: frozen().Add(-90 * 24 * time.Hour), Until: frozen().Add(5 * 24 * time.Hour), Now: frozen()}
	tabs := []parts.Tab{{Label: "With a name", Href: "/identities"}, {Label: "Seen", Href: "/clients", Current: true}}
	alert := ClientAlertItem{Tone: parts.Bad, Mark: "✕", Label: "ended", Sentence: hostile, Href: "/clients/ab", ID: "owner-0", ToOwner: "Client certificate of <b>"}
	item := ClientItem{
		Name: hostile, Href: "/clients/ab", Short: "AB:CD…", Issuer: hostile, Tone: parts.OK, Mark: "●", State: "in", Tags: []TagItem{{Tone: parts.Warn, Text: "weak key"}},
		Where: hostile, Counts: "12 in, 3 failed", Seen: "2 hours ago", SeenExact: "2026-11-22 12:58:07.912 UTC", Life: life, LifeText: "27 Nov · 5 days left",
	}
	trend := Trend{
		ID: "days", Title: "Last 30 days", Summary: "12 let in, 3 failed; at most 5 in one bar.", Of: "Day (UTC)", In: []ChartBar{{"1.0", "20.0", "8.0", "19.0"}},
		Failed: []ChartBar{{"1.0", "1.0", "8.0", "19.0"}}, Rows: []ChartRow{{"2026-11-22", "12", "3"}},
	}
	client := Client{
		Title: hostile, Tone: parts.Bad, Mark: "✕", State: "refused since", Tags: item.Tags, Lead: "Seen at " + hostile, Unproven: true, Live: "/live?f=fp%3Aab", Name: "/identities/new?handshake=hs_1",
		Block: "/blocked/new?certificate=ab", Notes: []ClientNote{{"weak key", "Its key is too weak."}}, Alerts: []ClientAlertItem{alert}, Life: life, From: "24 Aug", Until: "27 Nov",
		Facts: []parts.Fact{{Name: "Issued by", Value: hostile}}, Days: trend, Hours: Trend{ID: "hours", Title: "Last 48 hours", Summary: "No handshakes."},
		Lists: []ClientTraits{{ID: "software", Title: "Software", Of: "JA4", Rows: []ClientTrait{{Value: hostile, Href: "/live?f=x", Note: "new software since 14:02", First: "1 Nov", Last: "14:02", In: "12", Failed: "3"}, {Value: "t13d"}}}},
	}
	known := client
	known.Unproven, known.Identity, known.Name, known.Blocked, known.Page = false, &Link{Label: "billing", Href: "/identities/billing"}, "", &Link{Label: "Blocked", Href: "/blocked/blk_1"}, "/certificates/ab"
	ends := ExpiryItem{Name: hostile, Href: "/authorities/ca_1", Note: hostile, Life: life, Ends: "27 Nov", Left: "5 days left", Tone: parts.Bad}
	p := examplePage("Clients seen")
	return map[string]templ.Component{
		"clients-empty": ClientsPage(p, Clients{Tabs: tabs, Since: "22 Nov 14:00 UTC"}),
		"clients": ClientsPage(p, Clients{
			Tabs: tabs, Since: "22 Nov 14:00 UTC", Known: true, Query: "<b>\"7", State: "weak", States: []StateChip{{Label: "All", Count: "10 000", Href: "/clients"}, {Label: "Weak", Count: "1", Href: "/clients?state=weak", Current: true}},
			Items: []ClientItem{item}, Alerts: []ClientAlertItem{alert}, More: "7 more alerts", Rows: Rows{Shown: "101 to 200 of 10 000", Earlier: "/clients", Later: "/clients?from=200"},
		}),
		"clients-none":  ClientsPage(p, Clients{Tabs: tabs, Known: true, None: "No client fits."}),
		"client-seen":   ClientPage(p, client),
		"client-known":  ClientPage(p, known),
		"expiry-empty":  ExpiryPage(p, Expiry{Tabs: tabs, Groups: []ExpiryGroup{{ID: "expiry-cas", Title: "CAs", None: "No CA is trusted."}}}),
		"expiry":        ExpiryPage(p, Expiry{Tabs: tabs, Alerts: []ClientAlertItem{alert}, All: "Client certificate of <b>", More: "3 more alerts.", Groups: []ExpiryGroup{{ID: "expiry-cas", Title: "CAs", Items: []ExpiryItem{ends}, More: &Link{Label: "All", Href: "/clients"}}}}),
		"endpoint-days": trendSection(trend),
	}
}
