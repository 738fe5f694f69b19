package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
)

// policyThenPage shows the endpoint of a handshake as it was configured at that time, and what was changed since.
func (s *Server) policyThenPage(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	h := r.Handshake
	nothing := &Problem{
		Status: http.StatusNotFound, Code: "not_found", Title: "The policy of that time is not known",
		Detail: h.Endpoint, Advice: "The audit log keeps what was saved. It does not go back that far, or no endpoint was found for this handshake.",
		Href: "/handshakes/" + h.ID, Link: "The handshake",
	}
	if h.EndpointID == "" {
		return nothing
	}
	then, err := s.store.EndpointAsOf(c.Request().Context(), h.EndpointID, h.Revision)
	var missing store.NotFoundError
	switch {
	case errors.As(err, &missing):
		return nothing
	case err != nil:
		return err
	}
	text, _, err := endpointYAML(&then.Endpoint)
	if err != nil {
		return fmt.Errorf("write an earlier endpoint as text: %w", err)
	}
	p := s.view(c, "Policy as of then")
	v := views.PolicyThen{
		ID: h.ID, Endpoint: then.Endpoint.Name, When: p.Moment(h.Time), Exact: p.Exact(h.Time), Revision: h.Revision,
		Since: p.Moment(then.Since), By: then.By.Name, Text: text,
	}
	for _, entry := range then.Changes {
		v.Changes = append(v.Changes, changeOf(p, entry))
	}
	endpoints := s.current().Endpoints
	if i := slices.IndexFunc(endpoints, func(e termination.Endpoint) bool { return e.ID == h.EndpointID }); i >= 0 {
		v.EndpointHref = endpointPath(&endpoints[i])
	}
	return s.render(c, http.StatusOK, views.PolicyThenPage(p, v))
}
