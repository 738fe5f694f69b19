package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
)

// findHandshake reads a record, with an explanation even where none was due when it was made.
func (s *Server) findHandshake(c echo.Context) (store.Record, error) {
	r, err := s.store.Handshake(c.Request().Context(), c.Param("id")+c.Param("ref"))
	if err != nil {
		var missing store.NotFoundError
		if errors.As(err, &missing) {
			return r, &Problem{
				Status: http.StatusNotFound, Code: "not_found", Title: "That handshake is not stored here",
				Detail: c.Param("id") + c.Param("ref"), Advice: "It is older than the history, or was never stored. A new one takes up to half a second to get there.", Href: "/live", Link: "Newest handshakes",
			}
		}
		return r, err
	}
	s.explain(r)
	return r, nil
}

// explain fills in what is said of a record where nothing was due when it was made. Of a client that came in and whose
// connection then ended for a reason, it says what to do about that.
func (s *Server) explain(r store.Record) {
	switch {
	case s.opts.Gateway == nil:
	case r.End != nil && r.End.Reason != "":
		s.opts.Gateway.ExplainEnd(r.Handshake, *r.End)
	case r.Handshake.Verdict.Explanation.Sentence == "":
		s.opts.Gateway.Explain(r.Handshake)
	}
}

// handshakePage shows everything about one handshake: alone, or as the drawer beside the list.
func (s *Server) handshakePage(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	p := s.view(c, "Handshake")
	v, err := views.HandshakeOf(p.Clock, r.Handshake, r.End)
	if err != nil {
		return fmt.Errorf("show handshake: %w", err)
	}
	s.linkEndpoint(&v, r.Handshake)
	v.Marked, v.CSRF = r.Mark, p.CSRF
	if again, err := s.store.Repeats(c.Request().Context(), r.Handshake); err != nil {
		s.log.Warn("how often a handshake was repeated is not known", "id", r.Handshake.ID, "error", err)
	} else {
		v.AddRepeats(p.Clock, again.Count, again.First, again.JA4)
	}
	if isFragment(c.Request()) {
		return s.render(c, http.StatusOK, views.HandshakeDrawer(v))
	}
	p.Title = v.Sentence
	return s.render(c, http.StatusOK, views.HandshakePage(p, v))
}

// linkEndpoint leads to the endpoint by its ID: its name may have changed since, or be that of another one now.
func (s *Server) linkEndpoint(v *views.Handshake, h *termination.Handshake) {
	known := slices.ContainsFunc(s.current().Endpoints, func(e termination.Endpoint) bool { return e.ID == h.EndpointID })
	if h.EndpointID == "" || !known || !s.has("/endpoints/:name") {
		return
	}
	v.EndpointHref = "/endpoints/" + h.EndpointID
	for i := range v.Fixes {
		if v.Fixes[i].Action == "/endpoints/"+url.PathEscape(h.Endpoint) {
			v.Fixes[i].Action = v.EndpointHref
		}
	}
}

// handshakeChain downloads what the client presented.
func (s *Server) handshakeChain(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+r.Handshake.ID+`.pem"`)
	return c.Blob(http.StatusOK, "application/x-pem-file", views.ChainPEM(r.Handshake.Presented))
}

// handshakeRecord downloads the record.
func (s *Server) handshakeRecord(c echo.Context) error {
	r, err := s.findHandshake(c)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+r.Handshake.ID+`.json"`)
	text, err := json.MarshalIndent(struct {
		*termination.Handshake
		End *termination.ConnectionEnd `json:"end,omitempty"`
	}{r.Handshake, r.End}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the record as JSON: %w", err)
	}
	return c.JSONBlob(http.StatusOK, append(format.JSON(text), '\n'))
}
