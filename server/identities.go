package server

import (
	"cmp"
	"crypto/x509"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
	"countersign/views/parts"
)

const (
	// identityRows is how many clients stand on one page.
	identityRows = 100
	// identityPlaces is how many endpoints of a client the list names.
	identityPlaces = 3
)

// identityRoutes lists the routes of the page of clients.
func (s *Server) identityRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/identities", handler: s.identitiesPage},
		{method: http.MethodPost, path: "/identities", body: uploadBody, handler: s.createIdentity},
		{method: http.MethodGet, path: "/identities/new", handler: s.newIdentityPage},
		{method: http.MethodGet, path: "/identities/invite", handler: s.inviteClientPage},
		{method: http.MethodPost, path: "/identities/invite", handler: s.inviteClient},
		{method: http.MethodPost, path: "/identities/invitations/:id/withdraw", handler: s.withdrawRegistration},
		{method: http.MethodGet, path: "/identities/:name", handler: s.identityPage},
		{method: http.MethodPost, path: "/identities/:name/certificates", body: uploadBody, handler: s.addIdentityCertificate},
		{method: http.MethodPost, path: "/identities/:name/certificates/remove", handler: s.removeIdentityCertificate},
		{method: http.MethodPost, path: "/identities/:name/settings", handler: s.saveIdentity},
		{method: http.MethodPost, path: "/identities/:name/block", handler: s.blockIdentity(true)},
		{method: http.MethodPost, path: "/identities/:name/unblock", handler: s.blockIdentity(false)},
		{method: http.MethodPost, path: "/identities/:name/delete", handler: s.deleteIdentity},
	}
}

// identityPath is the address of an identity's page. Those whose names are also pages go by their ID.
func identityPath(i *termination.Identity) string {
	if i.Name == "new" || i.Name == "invite" || i.Name == "invitations" {
		return "/identities/" + i.ID
	}
	return "/identities/" + url.PathEscape(i.Name)
}

// identityState is how an identity is, as chips and tags name it.
type identityState string

const (
	identityInUse   identityState = "in_use"
	identityUnseen  identityState = "never_seen"
	identityEnding  identityState = "ends_soon"
	identityEnded   identityState = "ended"
	identityBlocked identityState = "blocked"
)

// chips are the states in the order of the page, with their labels and tags.
func identityChips() []struct {
	state identityState
	label string
	tone  parts.Tone
	mark  string
	tag   string
} {
	return []struct {
		state identityState
		label string
		tone  parts.Tone
		mark  string
		tag   string
	}{
		{"", "All", "", "", ""},
		{identityInUse, "In use", parts.OK, "●", "in use"},
		{identityUnseen, "Never seen", parts.Plain, "○", "never seen"},
		{identityEnding, "Ends soon", parts.Warn, "!", "ends soon"},
		{identityEnded, "Ended", parts.Bad, "✕", "ended"},
		{identityBlocked, "Blocked", parts.Bad, "✕", "blocked"},
	}
}

// identityStateOf says how an identity is. What needs somebody to act goes before what does not: blocked, ended, ends soon.
func identityStateOf(i *termination.Identity, last store.IdentitySighting, now time.Time) identityState {
	cert := lastingCertificate(i)
	switch {
	case i.Blocked:
		return identityBlocked
	case cert != nil && now.After(cert.NotAfter) && datesKnown(i):
		return identityEnded
	case cert != nil && parts.LifeTone(cert.NotBefore, cert.NotAfter, now) != parts.OK && datesKnown(i):
		return identityEnding
	case last.Last.IsZero():
		return identityUnseen
	}
	return identityInUse
}

// lastingCertificate is the certificate that ends last: until then the client comes in.
func lastingCertificate(i *termination.Identity) *x509.Certificate {
	var last *x509.Certificate
	for _, c := range i.Certificates {
		if last == nil || c.NotAfter.After(last.NotAfter) {
			last = c
		}
	}
	return last
}

// datesKnown reports whether everything that an identity is known by is a certificate whose dates are known.
func datesKnown(i *termination.Identity) bool {
	return len(i.Matches) == 0 && len(i.Pins) == len(i.Certificates)
}

func (s *Server) identitiesPage(c echo.Context) error {
	p := s.view(c, "Clients")
	p.Keys = append(p.Keys, views.Key{Keys: []string{"n"}, Does: "register a client"})
	ctx, config := c.Request().Context(), s.current()
	last, err := s.store.LastSightings(ctx)
	if err != nil {
		return err
	}
	text, chosen := strings.TrimSpace(c.QueryParam("q")), identityState("")
	for _, chip := range identityChips() {
		if chip.state == identityState(c.QueryParam("state")) {
			chosen = chip.state
		}
	}
	found := findIdentities(config, text)
	counts := map[identityState]int{"": len(found)}
	var list []*termination.Identity
	for _, i := range found {
		state := identityStateOf(i, last[i.ID], p.Now)
		counts[state]++
		if chosen == "" || chosen == state {
			list = append(list, i)
		}
	}
	v := views.Identities{Tabs: clientTabs("/identities"), Query: text, State: string(chosen), Any: len(config.Identities) > 0}
	for _, chip := range identityChips() {
		v.States = append(v.States, views.StateChip{
			Label: chip.label, Count: format.Int(counts[chip.state]), Href: listHref("/identities", 0, "q", text, "state", string(chip.state)), Current: chosen == chip.state,
		})
	}
	if len(list) == 0 {
		v.None = "No client fits."
	}
	from := pageStart(c.QueryParam("from"), len(list))
	for _, i := range list[from:min(from+identityRows, len(list))] {
		v.Items = append(v.Items, identityItem(p, config, i, last[i.ID]))
	}
	v.Rows = rowsFrom(from, identityRows, len(list), func(from int) string { return listHref("/identities", from, "q", text, "state", string(chosen)) })
	if v.Invitations, err = s.registrationItems(ctx, p); err != nil {
		return err
	}
	return s.render(c, http.StatusOK, views.IdentitiesPage(p, v))
}

// findIdentities returns the identities whose name, ID, endpoint or fingerprint fits, by name.
func findIdentities(config *termination.Config, text string) []*termination.Identity {
	text = strings.ToLower(text)
	digits := strings.TrimPrefix(strings.ReplaceAll(text, ":", ""), "spki")
	hex := len(digits) >= 4 && strings.Trim(digits, "0123456789abcdef") == ""
	var out []*termination.Identity
	for n := range config.Identities {
		i := &config.Identities[n]
		fits := text == "" || strings.Contains(strings.ToLower(i.Name), text) || strings.ToLower(i.ID) == text ||
			slices.ContainsFunc(i.Endpoints, func(e string) bool { return strings.ToLower(e) == text })
		if !fits && hex {
			fits = slices.ContainsFunc(i.Pins, func(p termination.Pin) bool { return strings.HasPrefix(p.Fingerprint.String(), digits) })
		}
		if fits {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b *termination.Identity) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), strings.Compare(a.Name, b.Name))
	})
	return out
}

func identityItem(p views.Page, config *termination.Config, i *termination.Identity, last store.IdentitySighting) views.IdentityItem {
	item := views.IdentityItem{Name: i.Name, Href: identityPath(i), Known: knownBy(i), Anywhere: len(i.Endpoints) == 0}
	state := identityStateOf(i, last, p.Now)
	item.Tone, item.Mark, item.State = identityTag(state)
	item.Tags = identityTags(i)
	item.Endpoints, item.More = endpointLinks(config, i.Endpoints, identityPlaces)
	if last.Last.IsZero() && state != identityUnseen {
		item.Seen = "never seen"
	} else if !last.Last.IsZero() {
		item.Seen, item.SeenExact = "seen "+p.Relative(last.Last), p.Exact(last.Last)
		item.Where = last.Endpoint + ", " + last.Address
	}
	if cert := lastingCertificate(i); cert != nil {
		item.Life = parts.Life{From: cert.NotBefore, Until: cert.NotAfter, Now: p.Now}
		item.LifeText = p.Left(cert.NotBefore, cert.NotAfter)
	}
	return item
}

func identityTag(state identityState) (parts.Tone, string, string) {
	for _, chip := range identityChips() {
		if chip.state == state {
			return chip.tone, chip.mark, chip.tag
		}
	}
	return parts.Plain, "", ""
}

func identityTags(i *termination.Identity) []views.TagItem {
	var tags []views.TagItem
	if i.Rate.Limited() {
		tags = append(tags, views.TagItem{Text: i.Rate.String()})
	}
	if i.Origin == termination.OriginFile {
		tags = append(tags, views.TagItem{Text: "from the file"})
	}
	return tags
}

// knownBy says by what an identity is known, in a few words.
func knownBy(i *termination.Identity) string {
	var words []string
	if n := len(i.Pins); n > 0 {
		words = append(words, format.Count(n, "pin", "pins"))
	}
	if n := len(i.Matches); n > 0 {
		words = append(words, format.Count(n, "match by name", "matches by name"))
	}
	if len(words) == 0 {
		return "nothing yet"
	}
	return strings.Join(words, ", ")
}

// findIdentity returns the identity of a page's address, by ID or name.
func (s *Server) findIdentity(c echo.Context) (*termination.Identity, error) {
	ref, err := url.PathUnescape(c.Param("name"))
	if err != nil {
		ref = c.Param("name")
	}
	config := s.current()
	for n := range config.Identities {
		if i := &config.Identities[n]; i.ID == ref || i.Name == ref {
			return i, nil
		}
	}
	p := notFound(store.KindIdentity, ref)
	p.Href, p.Link = "/identities", "All clients"
	return nil, p
}
