package server

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"countersign/store"
)

// metricsRoutes lists where Prometheus scrapes.
func (s *Server) metricsRoutes() []route {
	if s.opts.Metrics == nil {
		return nil
	}
	return []route{{
		method: http.MethodGet, path: "/metrics", kind: kindHealth, access: needToken, scope: store.ScopeRead,
		handler: echo.WrapHandler(s.opts.Metrics),
	}}
}
