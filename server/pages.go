package server

import (
	"context"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/termination/live"
	"countersign/views"
	"countersign/views/format"
)

// view fills in the frame of a page.
func (s *Server) view(c echo.Context, title string, modules ...string) views.Page {
	a := appearanceOf(c.Request())
	p := views.Page{
		Clock:      s.clock(c),
		Title:      title,
		Appearance: a,
		Assets:     views.Assets{URL: s.assets.URL, Sprite: s.assets.Sprite()},
		Modules:    modules,
	}
	who := userOf(c)
	if who == nil {
		return p
	}
	p.User, p.CSRF = who.name, who.csrf
	p.Said = s.takeSaid(who)
	p.Nav, p.Settings = s.nav(c.Request().URL.Path)
	p.Status = s.status(c.Request().Context())
	return p
}

// clock is the moment of a request and the zone of its reader.
func (s *Server) clock(c echo.Context) format.Clock {
	if appearanceOf(c.Request()).UTC {
		return format.Clock{Now: s.now(), Zone: time.UTC}
	}
	return format.Clock{Now: s.now(), Zone: time.Local}
}

// status is the line at the bottom. What cannot be found out is left out: a page that tells about a failure needs its
// line too.
func (s *Server) status(ctx context.Context) views.Status {
	v := views.Status{Version: s.opts.Version}
	if at := s.address.Load(); at != nil {
		v.Address = at.String()
	}
	size, err := s.store.Status(ctx)
	if err != nil {
		s.log.Warn("the size of the store is not known", "error", err)
		return v
	}
	history, err := s.store.History(ctx)
	if err != nil {
		s.log.Warn("how long the history is kept is not known", "error", err)
		return v
	}
	v.Store, v.Keep = format.Bytes(size.ConfigurationBytes+size.HistoryBytes), format.ShortSpan(history.Keep)
	return v
}

// nav is the rail: only what is built stands on it.
func (s *Server) nav(path string) (items []views.NavItem, settings views.NavItem) {
	config := s.current()
	all := []views.NavItem{
		{Label: "Live", Href: "/live", Key: "l"},
		{Label: "Endpoints", Href: "/endpoints", Key: "e", Count: format.Int(len(config.Endpoints))},
		{Label: "Trust", Href: "/authorities", Key: "t", Count: format.Int(len(config.Authorities))},
		{Label: "Certificates", Href: "/certificates", Key: "c"},
		{Label: "Clients", Href: "/identities", Key: "i", Count: format.Int(len(config.Identities))},
		{Label: "Credentials", Href: "/credentials", Key: "p", Count: format.Int(len(config.Credentials))},
		{Label: "Agents", Href: "/agents", Key: "a"},
		{Label: "Explain", Href: "/explain", Key: "x"},
	}
	also := map[string][]string{"/identities": {"/clients", "/blocked", "/expiry"}, "/live": {"/handshakes"}}
	for _, n := range all {
		if s.has(n.Href) {
			n.Current = within(path, n.Href) || n.Href == "/live" && path == "/" || slices.ContainsFunc(also[n.Href], func(root string) bool { return within(path, root) })
			items = append(items, n)
		}
	}
	settings = views.NavItem{Label: "Settings", Href: "/settings", Key: "s"}
	settings.Current = within(path, "/settings") || within(path, "/audit") || within(path, "/welcome")
	return items, settings
}

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// firstPage is Live, or the first-run page while no handshake has ever been seen. With a link's secret it signs in.
func (s *Server) firstPage(c echo.Context) error {
	if userOf(c) == nil {
		return s.signInPage(c)
	}
	if c.QueryParam("t") != "" {
		return s.redirect(c, "/")
	}
	seen, err := s.anySeen(c.Request().Context())
	if err != nil {
		return err
	}
	if !seen || !s.has("/live") {
		return s.welcomePage(c)
	}
	return c.Redirect(http.StatusSeeOther, "/live")
}

// anySeen reports whether a handshake was ever seen. The history is behind the hub by half a second.
func (s *Server) anySeen(ctx context.Context) (bool, error) {
	if s.hub.Counts(0, live.AllEndpoints).Total() > 0 {
		return true, nil
	}
	return s.store.HasHandshakes(ctx)
}

// Cookies of the appearance.
const (
	cookieTheme = "countersign_theme"
	cookieDense = "countersign_dense"
	cookieKeys  = "countersign_keys"
	cookieZone  = "countersign_zone"
)

func appearanceOf(r *http.Request) views.Appearance {
	is := func(name, value string) bool {
		c, err := r.Cookie(name)
		return err == nil && c.Value == value
	}
	a := views.Appearance{Theme: "system", Dense: is(cookieDense, "on"), KeysOff: is(cookieKeys, "off"), UTC: is(cookieZone, "utc")}
	for _, theme := range []string{"light", "dark"} {
		if is(cookieTheme, theme) {
			a.Theme = theme
		}
	}
	return a
}

func stack() string { return string(debug.Stack()) }
