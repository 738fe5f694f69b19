package server

import (
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/views"
	"countersign/views/format"
)

// view fills in the frame of a page.
func (s *Server) view(c echo.Context, title string, modules ...string) views.Page {
	a := appearanceOf(c.Request())
	p := views.Page{
		Clock:      format.Clock{Now: s.now(), Zone: time.Local},
		Title:      title,
		Appearance: a,
		Assets:     views.Assets{URL: s.assets.URL, Sprite: s.assets.Sprite()},
		Modules:    modules,
	}
	if a.UTC {
		p.Zone = time.UTC
	}
	who := userOf(c)
	if who == nil {
		return p
	}
	p.User, p.CSRF = who.name, who.csrf
	p.Said = s.takeSaid(who)
	p.Nav, p.Settings = s.nav(c.Request().URL.Path)
	p.Status = views.Status{Version: s.opts.Version, Store: format.Bytes(s.storeSize()), Keep: s.keepWords(c.Request().Context())}
	if at := s.address.Load(); at != nil {
		p.Status.Address = at.String()
	}
	return p
}

// nav is the rail: only what is built stands on it.
func (s *Server) nav(path string) (items []views.NavItem, settings views.NavItem) {
	all := []views.NavItem{
		{Label: "Live", Href: "/live", Key: "l"},
		{Label: "Endpoints", Href: "/endpoints", Key: "e"},
		{Label: "Trust", Href: "/authorities", Key: "t"},
		{Label: "Certificates", Href: "/certificates", Key: "c"},
	}
	for _, n := range all {
		if s.has(n.Href) {
			n.Current = within(path, n.Href) || n.Href == "/live" && (path == "/" || within(path, "/handshakes"))
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
	if !s.has("/live") || !s.seen.Load() {
		return s.welcomePage(c)
	}
	return c.Redirect(http.StatusSeeOther, "/live")
}

// cookies of the appearance
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
