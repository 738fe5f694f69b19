package server

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/views"
)

// settingsRoutes lists the routes of the settings pages.
func (s *Server) settingsRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/settings", handler: s.settingsPage},
		{method: http.MethodPost, path: "/settings/appearance", handler: s.saveAppearance},
	}
}

func (s *Server) settingsPage(c echo.Context) error {
	return s.render(c, http.StatusOK, views.SettingsPage(s.view(c, "Settings"), views.Settings{Appearance: appearanceOf(c.Request())}))
}

// saveAppearance keeps what one browser wants in cookies, so that a page arrives in its colours.
func (s *Server) saveAppearance(c echo.Context) error {
	theme := c.FormValue("theme")
	if theme != "light" && theme != "dark" {
		theme = ""
	}
	c.SetCookie(appearanceCookie(cookieTheme, theme))
	c.SetCookie(appearanceCookie(cookieDense, when(c.FormValue("dense") == "on", "on")))
	c.SetCookie(appearanceCookie(cookieKeys, when(c.FormValue("keys") != "on", "off")))
	c.SetCookie(appearanceCookie(cookieZone, when(c.FormValue("zone") == "utc", "utc")))
	s.say(c, "ok", "Appearance saved for this browser.")
	return s.redirect(c, "/settings")
}

// appearanceCookie keeps value for a year; an empty one removes the cookie.
func appearanceCookie(name, value string) *http.Cookie {
	c := &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(365 * 24 * time.Hour / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

func when(b bool, s string) string {
	if b {
		return s
	}
	return ""
}

// partsRoutes lists the page that shows every part, for development.
func (s *Server) partsRoutes() []route {
	if !s.opts.Parts {
		return nil
	}
	return []route{{method: http.MethodGet, path: "/settings/parts", handler: func(c echo.Context) error {
		return s.render(c, http.StatusOK, views.PartsPage(s.view(c, "Parts")))
	}}}
}
