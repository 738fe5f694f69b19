package server

import (
	"net/http"

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
	return s.redirect(c, "/handshakes/"+id)
}
