package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views/format"
)

// Bounds of an export. Memory is bounded by the page: nothing else of an export is held.
const (
	exportPage    = 500       // records in memory
	exportRows    = 1_000_000 // of one export
	exportTime    = 10 * time.Minute
	exportStalled = 30 * time.Second // for one page to be taken by the client
	mostExports   = 4                // at a time
)

// exportRoutes lists the routes of what leaves the dashboard as a file.
func (s *Server) exportRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/live/export.csv", handler: s.exportAs("csv")},
		{method: http.MethodGet, path: "/live/export.jsonl", handler: s.exportAs("jsonl")},
		{method: http.MethodGet, path: "/handshakes/:id/bundle.zip", handler: s.handshakeBundle},
		{method: http.MethodGet, path: "/api/v1/handshakes/export", kind: kindAPI, access: needToken, scope: store.ScopeRead, handler: func(c echo.Context) error { return s.exportAs(c.QueryParam("format"))(c) }},
		{method: http.MethodGet, path: "/api/v1/handshakes/:ref/bundle.zip", kind: kindAPI, access: needToken, scope: store.ScopeRead, handler: s.handshakeBundle},
	}
}

// exportEnd is the last line of an export. An export without one broke off on its way.
type exportEnd struct {
	Handshakes int        `json:"handshakes"`
	Complete   bool       `json:"complete"`                 // everything that is stored and that the filter selects
	Searched   *time.Time `json:"searched_until,omitempty"` // down to which time; left out: to the end
	Next       string     `json:"before,omitempty"`         // give it as before to go on
	Says       string     `json:"says"`                     // the same in a sentence
}

// exportFormat writes records in one of the formats.
type exportFormat struct {
	mediaType, extension string
	head                 string // before the records
	record               func(store.Record) ([]byte, error)
	end                  func(exportEnd) ([]byte, error)
}

func exportFormatOf(name string) (exportFormat, error) {
	switch name {
	case "csv":
		return csvExport(), nil
	case "jsonl", "":
		return jsonlExport(), nil
	}
	return exportFormat{}, &Problem{Status: http.StatusUnprocessableEntity, Code: "invalid", Title: "There is no such format", Detail: name, Advice: "Use csv or jsonl.", Fields: []FieldProblem{{Name: "format", Problem: "use csv or jsonl"}}}
}

// exportAs streams what the filter selects, newest first, page by page. Whoever goes away ends the search.
func (s *Server) exportAs(name string) echo.HandlerFunc {
	return func(c echo.Context) error {
		f, err := exportFormatOf(name)
		if err != nil {
			return err
		}
		query := store.HistoryQuery{Limit: exportPage}
		if query.Filter, err = termination.ParseFilter(c.QueryParam("f"), s.now()); err != nil {
			return &Problem{Status: http.StatusUnprocessableEntity, Code: "invalid", Title: "The filter is not understood, so nothing was exported", Detail: err.Error(), Href: "/live", Link: "Newest handshakes", Fields: []FieldProblem{{Name: "f", Problem: err.Error()}}}
		}
		if query.Before, err = readCursor(c.QueryParam("before")); err != nil {
			return err
		}
		select {
		case s.exports <- struct{}{}:
			defer func() { <-s.exports }()
		default:
			return &Problem{Status: http.StatusTooManyRequests, Code: "busy", Title: fmt.Sprintf("%d exports are under way already", mostExports), Advice: "Try again when one of them has ended."}
		}
		h := c.Response().Header()
		h.Set("Content-Type", f.mediaType)
		h.Set("Content-Disposition", `attachment; filename="handshakes-`+s.now().UTC().Format("20060102T150405Z")+f.extension+`"`)
		return s.export(c, f, query)
	}
}

func (s *Server) export(c echo.Context, f exportFormat, query store.HistoryQuery) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), exportTime)
	defer cancel()
	w := c.Response()
	connection := http.NewResponseController(w)
	// The server's deadlines are for short requests: this one has its own, which goes on with each page. The one for reading
	// would end the request's context in the middle.
	_ = connection.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	var end exportEnd
	buffer := []byte(f.head)
	for {
		page, err := s.store.Handshakes(ctx, query)
		if err != nil {
			if c.Request().Context().Err() != nil {
				return nil // the client has gone
			}
			return s.endExport(w, f, end, query, "cut off: the history could not be read further; "+s.exportFailure(ctx, err))
		}
		for _, r := range page.Records {
			line, err := f.record(r)
			if err != nil {
				return fmt.Errorf("export a handshake: %w", err)
			}
			buffer = append(buffer, line...)
		}
		end.Handshakes += len(page.Records)
		_ = connection.SetWriteDeadline(time.Now().Add(exportStalled))
		if _, err := w.Write(buffer); err != nil {
			return nil // the client has gone, or takes nothing
		}
		_ = connection.Flush()
		buffer = buffer[:0]
		query.Before = page.Next
		if !page.Searched.IsZero() {
			end.Searched = &page.Searched
		}
		switch {
		case page.Next == 0:
			end.Complete, end.Searched = true, nil
			return s.endExport(w, f, end, query, "complete: everything that is stored and that the filter selects")
		case end.Handshakes >= exportRows:
			return s.endExport(w, f, end, query, "cut off: an export has at most "+format.Int(exportRows)+" handshakes")
		case !s.ready.Load():
			return s.endExport(w, f, end, query, "cut off: the gateway was stopping")
		}
	}
}

func (s *Server) exportFailure(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "an export takes at most " + exportTime.String()
	}
	s.log.Error("an export broke off", "error", err)
	return "the log tells more"
}

// endExport writes the last line, which says whether this is all.
func (s *Server) endExport(w io.Writer, f exportFormat, end exportEnd, query store.HistoryQuery, says string) error {
	end.Says = says
	if query.Before != 0 && !end.Complete {
		end.Next = cursorOf(query.Before)
	}
	line, err := f.end(end)
	if err != nil {
		return fmt.Errorf("end an export: %w", err)
	}
	_, _ = w.Write(line)
	return nil
}
