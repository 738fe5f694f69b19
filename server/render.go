package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"
)

// compressFrom is the size in bytes from which an answer is compressed.
const compressFrom = 1024

// render builds the whole component before it answers, so that a failure half way becomes an error page and never
// half a page.
func (s *Server) render(c echo.Context, status int, component templ.Component) error {
	var page bytes.Buffer
	if err := component.Render(c.Request().Context(), &page); err != nil {
		return fmt.Errorf("render page: %w", err)
	}
	return s.blob(c, status, "text/html; charset=utf-8", page.Bytes())
}

// blob answers with data, compressed where the client takes that.
func (s *Server) blob(c echo.Context, status int, mediaType string, data []byte) error {
	h := c.Response().Header()
	h.Add("Vary", "Accept-Encoding")
	if len(data) < compressFrom || !acceptsGzip(c.Request()) {
		return c.Blob(status, mediaType, data)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("compress answer: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress answer: %w", err)
	}
	h.Set("Content-Encoding", "gzip")
	return c.Blob(status, mediaType, z.Bytes())
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3): gzip counts when it is named and not with q=0.
func acceptsGzip(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(value, ",") {
			coding, params, _ := strings.Cut(item, ";")
			if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				continue
			}
			q := strings.ReplaceAll(strings.ToLower(params), " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

// isFragment reports whether a script asks for a part of a page.
func isFragment(r *http.Request) bool {
	return r.Header.Get("HX-Request") == "true" && r.Header.Get("HX-Boosted") == ""
}

// redirect sends the browser to another page after a form was carried out.
func (s *Server) redirect(c echo.Context, path string) error {
	if isFragment(c.Request()) {
		c.Response().Header().Set("HX-Redirect", path)
		return c.NoContent(http.StatusNoContent)
	}
	return c.Redirect(http.StatusSeeOther, path)
}

// indentJSON brings a document into a form for people; what is no JSON stays as it is.
func indentJSON(doc []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", "  "); err != nil {
		return string(doc)
	}
	return b.String()
}
