package server

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"countersign/termination"
)

// markRoutes lists the route of the form that marks a handshake.
func (s *Server) markRoutes() []route {
	return []route{{method: http.MethodPost, path: "/handshakes/:id/mark", handler: s.markHandshake}}
}

// markHandshake gives a handshake a shape, or with an empty one takes it away.
func (s *Server) markHandshake(c echo.Context) error {
	id, err := s.store.SetMark(c.Request().Context(), actorOf(c), c.Param("id"), termination.Mark(c.FormValue("mark")))
	if err != nil {
		return err
	}
	return s.redirect(c, markedPage(c.Request(), id))
}

// markedPage is where whoever marked comes back to: the list with the drawer open, or the page of the handshake.
func markedPage(r *http.Request, id string) string {
	from, err := url.Parse(r.Referer())
	if err != nil || from.Path != "/live" {
		return "/handshakes/" + id
	}
	page := url.URL{Path: "/live", RawQuery: from.Query().Encode(), Fragment: id}
	return page.String()
}
