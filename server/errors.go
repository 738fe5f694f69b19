package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
	"countersign/views"
	"countersign/views/format"
)

// Problem is an error with an answer: what is wrong, in words for the person or program that asked. Handlers return
// it, or any other error; this file alone turns errors into a status, a page or a problem document, and a line in the
// log.
type Problem struct {
	Status int    // HTTP status; 0 means 500
	Code   string // stable, for programs, such as "not_found"
	Title  string // what failed, in one sentence without a full stop
	Detail string // why; may hold hostile text
	Advice string // what to do
	Href   string // a page that helps
	Link   string // its label
	Fields []FieldProblem
	Err    error // the cause, for the log only
}

// FieldProblem is what is wrong with one field of a form or of a JSON body.
type FieldProblem struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
}

func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	if p.Err != nil {
		s += ": " + p.Err.Error()
	}
	return s
}

func (p *Problem) Unwrap() error { return p.Err }

// notFound says that there is no such thing; kind as in "endpoint".
func notFound(kind, name string) *Problem {
	return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: fmt.Sprintf("There is no %s %q", kind, name), Advice: "It may have been renamed or deleted."}
}

// problemOf finds the answer to an error. What it does not know is internal: its words stay in the log.
func problemOf(err error) *Problem {
	var p *Problem
	var he *echo.HTTPError
	var tooBig *http.MaxBytesError
	var invalid termination.ValidationError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooBig):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Title: "That is more than fits", Detail: fmt.Sprintf("At most %d bytes are read here.", tooBig.Limit), Advice: "Send less, or a smaller file.", Err: err}
	case errors.As(err, &invalid):
		p := &Problem{Status: http.StatusUnprocessableEntity, Code: "invalid", Title: "This could not be served as it is written, so nothing was changed", Detail: invalid.Error(), Err: err}
		for _, f := range invalid {
			p.Fields = append(p.Fields, FieldProblem{Name: f.Field, Problem: f.Error()})
		}
		return p
	case errors.As(err, &he):
		return httpProblem(he)
	case errors.Is(err, context.Canceled):
		return &Problem{Status: 499, Code: "gone", Title: "The client went away", Err: err}
	}
	if p := storeProblem(err); p != nil {
		return p
	}
	return &Problem{Status: http.StatusInternalServerError, Code: "internal", Title: "Something failed here", Advice: "Nothing was changed unless the page says so. The log tells more.", Err: err}
}

// storeProblem finds the answer to an error of the store that a person can mend; nil for any other.
func storeProblem(err error) *Problem {
	var missing store.NotFoundError
	var ambiguous store.AmbiguousError
	var taken store.NameTakenError
	var used store.InUseError
	var readOnly store.ReadOnlyError
	var twice store.DeclaredTwiceError
	var text store.TextError
	p := &Problem{Err: err}
	switch {
	case errors.As(err, &missing):
		return notFound(missing.Kind, missing.Name)
	case errors.As(err, &ambiguous):
		p.Status, p.Code, p.Title, p.Detail = http.StatusConflict, "ambiguous", "More than one fits", ambiguous.Error()
	case errors.As(err, &taken):
		p.Status, p.Code, p.Title, p.Detail = http.StatusConflict, "name_taken", "That name is taken, so nothing was changed", taken.Error()
		p.Fields = []FieldProblem{{Name: "name", Problem: taken.Error()}}
	case errors.As(err, &used):
		p.Status, p.Code, p.Title, p.Detail = http.StatusConflict, "in_use", "It is in use, so nothing was changed", used.Error()
	case errors.As(err, &readOnly):
		p.Status, p.Code, p.Title, p.Detail = http.StatusConflict, "read_only", "It can only be changed where it comes from", readOnly.Error()
	case errors.As(err, &twice):
		p.Status, p.Code, p.Title, p.Detail = http.StatusConflict, "declared_twice", "It is declared twice, so nothing was changed", twice.Error()
	case errors.As(err, &text):
		p.Status, p.Code, p.Title, p.Detail = http.StatusUnprocessableEntity, "invalid", "A text cannot be stored, so nothing was changed", text.Error()
	default:
		return nil
	}
	return p
}

func httpProblem(he *echo.HTTPError) *Problem {
	p := &Problem{Status: he.Code, Code: strings.ToLower(strings.ReplaceAll(http.StatusText(he.Code), " ", "_")), Title: http.StatusText(he.Code), Err: he}
	switch he.Code {
	case http.StatusNotFound:
		p.Title = "There is no such page"
		p.Advice = "The address may be mistyped, or belong to another version."
	case http.StatusMethodNotAllowed:
		p.Title = "That cannot be done here"
	}
	if he.Code >= 500 {
		p.Title = "Something failed here"
	}
	return p
}

// fail answers a request with an error. It is echo's error handler.
func (s *Server) fail(err error, c echo.Context) {
	if c.Response().Committed {
		s.log.Warn("an answer broke off", "path", c.Request().URL.Path, "error", err)
		return
	}
	if kindOf(c) == kindPage && userOf(c) == nil {
		// A path without a route did not pass enter; whoever is signed in keeps the rail.
		if u, err := s.findSession(c); err == nil && u != nil {
			c.Set(keyUser, u)
		}
	}
	p := problemOf(err)
	status := p.Status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	id := ""
	if status >= 500 {
		id = termination.NewID("err", s.now())
		s.log.Error("a request failed", "id", id, "method", c.Request().Method, "path", c.Request().URL.Path, "error", err)
	}
	if ferr := s.answerProblem(c, status, p, id); ferr != nil {
		s.log.Error("an error could not be answered", "id", id, "error", ferr)
	}
}

func (s *Server) answerProblem(c echo.Context, status int, p *Problem, id string) error {
	if c.Request().Method == http.MethodHead {
		return c.NoContent(status)
	}
	if status == http.StatusTooManyRequests {
		c.Response().Header().Set("Retry-After", "5")
	}
	switch kindOf(c) {
	case kindPage:
		f := views.Failure{Status: status, Title: p.Title, Detail: p.Detail, Advice: p.Advice, ID: id, Href: p.Href, Link: p.Link}
		if isFragment(c.Request()) {
			return s.render(c, status, views.ErrorFragment(f))
		}
		return s.render(c, status, views.Error(s.view(c, p.Title), f))
	case kindAPI, kindSocket:
		return writeProblem(c.Response(), status, p, id)
	default:
		return c.String(status, p.Title+"\n")
	}
}

// refuse answers before any route is known: a short text for people, a problem document for the API.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, p *Problem) {
	if strings.HasPrefix(r.URL.Path, apiPrefix) {
		if err := writeProblem(w, p.Status, p, ""); err != nil {
			s.log.Warn("a refusal could not be sent", "error", err)
		}
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(p.Status)
	_, _ = fmt.Fprintf(w, "%s.\n%s\n%s\n", p.Title, p.Detail, p.Advice)
}

// document is a problem document (RFC 9457).
type document struct {
	Type     string         `json:"type"`
	Title    string         `json:"title"`
	Status   int            `json:"status"`
	Detail   string         `json:"detail,omitempty"`
	Instance string         `json:"instance,omitempty"`
	Code     string         `json:"code"`
	Advice   string         `json:"advice,omitempty"`
	Errors   []FieldProblem `json:"errors,omitempty"`
}

func problemDocument(status int, p *Problem, id string) document {
	return document{
		Type: "about:blank", Title: p.Title, Status: status, Detail: p.Detail, Instance: id, Code: p.Code, Advice: p.Advice, Errors: p.Fields,
	}
}

// writeProblem writes a problem document.
func writeProblem(w http.ResponseWriter, status int, p *Problem, id string) error {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	text, err := json.Marshal(problemDocument(status, p, id))
	if err == nil {
		_, err = w.Write(append(format.JSON(text), '\n'))
	}
	if err != nil {
		return fmt.Errorf("write problem document: %w", err)
	}
	return nil
}
