package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/termination"
)

// answer lets errors.go answer err on a route of a kind.
func (f *fixture) answer(k kind, err error, change func(*http.Request)) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/x", nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	c := echo.New().NewContext(r, w)
	c.Set(keyRoute, route{kind: k})
	f.fail(err, c)
	return w
}

func TestProblemOf(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{notFound("endpoint", "api"), 404, "not_found"},
		{fmt.Errorf("read: %w", notFound("endpoint", "api")), 404, "not_found"},
		{fmt.Errorf("read: %w", store.NotFoundError{Kind: "endpoint", Name: "api"}), 404, "not_found"},
		{store.AmbiguousError{Kind: "endpoint", Prefix: "ep_0"}, 409, "ambiguous"},
		{store.NameTakenError{Kind: "endpoint", Name: "api"}, 409, "name_taken"},
		{store.InUseError{Kind: "authority", Name: "devices", By: []string{`endpoint "api"`}}, 409, "in_use"},
		{store.ReadOnlyError{Kind: "endpoint", Name: "api"}, 409, "read_only"},
		{store.DeclaredTwiceError{Kind: "endpoint", Name: "api"}, 409, "declared_twice"},
		{store.TextError{Field: "name", Problem: "holds a NUL"}, 422, "invalid"},
		{fmt.Errorf("change: %w", termination.ValidationError{{Kind: "endpoint", Name: "api", Field: "url", Problem: "is empty", Advice: "give one"}}), 422, "invalid"},
		{&http.MaxBytesError{Limit: 7}, 413, "too_large"},
		{echo.ErrNotFound, 404, "not_found"},
		{echo.ErrMethodNotAllowed, 405, "method_not_allowed"},
		{echo.NewHTTPError(http.StatusBadGateway, "secret words"), 502, "bad_gateway"},
		{fmt.Errorf("read: %w", context.Canceled), 499, "gone"},
		{errors.New("SELECT secret FROM keys"), 500, "internal"},
	} {
		p := problemOf(c.err)
		if p.Status != c.status || p.Code != c.code || p.Title == "" {
			t.Errorf("%v: %d %q %q", c.err, p.Status, p.Code, p.Title)
		}
		if strings.Contains(p.Title+p.Detail+p.Advice, "secret") {
			t.Errorf("%v: its words come through: %+v", c.err, p)
		}
	}
}

// TestInternalErrorsStayInside: what a person or a program sees of an internal error is an id, and that is in the log.
func TestInternalErrorsStayInside(t *testing.T) {
	f := start(t, nil)
	secret := errors.New("open /srv/store.key: SELECT sealed FROM keys: panic")
	for _, k := range []kind{kindPage, kindAPI, kindSocket, kindFile, kindHealth} {
		got := f.answer(k, fmt.Errorf("read the endpoint: %w", secret), nil)
		body := got.Body.String()
		if got.Code != http.StatusInternalServerError || strings.Contains(body, "store.key") || strings.Contains(body, "SELECT") {
			t.Errorf("kind %d: status %d: %s", k, got.Code, body)
		}
		id := regexp.MustCompile(`err_[0-9A-Z]{26}`).FindString(body)
		if k == kindFile || k == kindHealth {
			continue
		}
		if id == "" || !strings.Contains(f.log.String(), id) {
			t.Errorf("kind %d: the id %q is not in the log", k, id)
		}
	}
	if !strings.Contains(f.log.String(), "SELECT sealed") {
		t.Error("the log does not say what happened")
	}
}

func TestErrorsByKind(t *testing.T) {
	f := start(t, nil)
	err := &Problem{Status: 409, Code: "in_use", Title: "It is <b>in use</b>", Detail: "by \x1b[31mapi", Advice: "Take it out there.", Fields: []FieldProblem{{Name: "name", Problem: "is taken"}}}

	page := f.answer(kindPage, err, nil)
	if page.Code != 409 || !strings.HasPrefix(page.Header().Get("Content-Type"), "text/html") || !strings.Contains(page.Body.String(), "<!doctype html>") || !strings.Contains(page.Body.String(), "It is &lt;b&gt;in use") || strings.Contains(page.Body.String(), "\x1b") {
		t.Errorf("page: %d %s", page.Code, page.Body)
	}
	part := f.answer(kindPage, err, func(r *http.Request) { r.Header.Set("Hx-Request", "true") })
	if part.Code != 409 || strings.Contains(part.Body.String(), "<html") || !strings.Contains(part.Body.String(), `role="alert"`) {
		t.Errorf("part of a page: %d %s", part.Code, part.Body)
	}
	for _, k := range []kind{kindAPI, kindSocket} {
		doc := f.answer(k, err, nil)
		var got struct {
			Type, Title, Detail, Code, Advice string
			Status                            int
			Errors                            []FieldProblem
		}
		if e := json.Unmarshal(doc.Body.Bytes(), &got); e != nil {
			t.Fatal(e)
		}
		if doc.Code != 409 || got.Status != 409 || doc.Header().Get("Content-Type") != "application/problem+json" || got.Type != "about:blank" || got.Title != "It is <b>in use</b>" || got.Code != "in_use" || len(got.Errors) != 1 || strings.Contains(doc.Body.String(), "\x1b") {
			t.Errorf("kind %d: %d %s", k, doc.Code, doc.Body)
		}
	}
	if file := f.answer(kindFile, echo.ErrNotFound, nil); file.Code != 404 || !strings.HasPrefix(file.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("file: %d %s", file.Code, file.Body)
	}
	if head := f.answer(kindPage, err, func(r *http.Request) { r.Method = http.MethodHead }); head.Code != 409 || head.Body.Len() > 0 {
		t.Errorf("HEAD: %d %s", head.Code, head.Body)
	}
}

// TestUnknownPaths: the kind of an error for a path that no route has goes by the path.
func TestUnknownPaths(t *testing.T) {
	f := start(t, nil)
	if got := f.get("/nowhere"); got.status != http.StatusNotFound || !strings.Contains(got.body, "There is no such page") {
		t.Errorf("page: %d %s", got.status, got.body)
	}
	if got := f.get("/api/v1/nowhere"); got.status != http.StatusNotFound || got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("API: %d %s", got.status, got.body)
	}
	if body := f.get("/nowhere").body; strings.Contains(body, f.opts.Version) || strings.Contains(body, "<nav") {
		t.Error("a stranger is told what runs here")
	}
	f.signIn("rhea")
	if body := f.get("/nowhere").body; !strings.Contains(body, `<nav aria-label="Main">`) {
		t.Error("whoever is signed in has no rail")
	}
}

// TestPanicsBecomeErrors: a handler that panics is an internal error with its stack in the log.
func TestPanicsBecomeErrors(t *testing.T) {
	f := start(t, nil)
	c := echo.New().NewContext(httptest.NewRequest(http.MethodGet, "/x", nil), httptest.NewRecorder())
	err := f.recoverPanics(func(echo.Context) error { panic("index out of range") })(c)
	if problemOf(err).Code != "internal" || !strings.Contains(f.log.String(), "errors_test.go") {
		t.Errorf("%v; log: %s", err, f.log.String())
	}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // the very value
			t.Errorf("an abort became %v", v)
		}
	}()
	_ = f.recoverPanics(func(echo.Context) error { panic(http.ErrAbortHandler) })(c)
}

// TestRenderIsAllOrNothing: a component that fails half way leaves no half page.
func TestRenderIsAllOrNothing(t *testing.T) {
	f := start(t, nil)
	w := httptest.NewRecorder()
	c := echo.New().NewContext(httptest.NewRequest(http.MethodGet, "/x", nil), w)
	half := templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, "<p>half"); err != nil {
			return err
		}
		return errors.New("broken")
	})
	if err := f.render(c, http.StatusOK, half); err == nil || w.Body.Len() > 0 {
		t.Errorf("%v, %q", err, w.Body)
	}
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.000": false, "gzip;q=0.001": true, "deflate, br": false, "xgzip": false,
	} {
		r := &http.Request{Header: http.Header{"Accept-Encoding": {header}}}
		if got := acceptsGzip(r); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// TestPagesAreSmall holds the compressed pages of the shell to the budget.
func TestPagesAreSmall(t *testing.T) {
	f := signedIn(t, func(o *Options) { o.Demo = exampleDemo(t) })
	for _, path := range []string{"/welcome", "/settings", "/settings/tokens", "/settings/sessions", "/audit"} {
		req := f.request(http.MethodGet, path, nil, "")
		req.Header.Set("Accept-Encoding", "gzip")
		got := f.do(req)
		if got.status != http.StatusOK || got.header.Get("Content-Encoding") != "gzip" || len(got.body) > 30<<10 {
			t.Errorf("%s: status %d, encoding %q, %d bytes", path, got.status, got.header.Get("Content-Encoding"), len(got.body))
		}
	}
}

func TestIndentJSON(t *testing.T) {
	if got := indentJSON([]byte(`{"a":1}`)); got != "{\n  \"a\": 1\n}" {
		t.Errorf("%q", got)
	}
	if got := indentJSON([]byte("no JSON")); got != "no JSON" {
		t.Errorf("%q", got)
	}
	if got := indentJSON(nil); got != "" {
		t.Errorf("%q", got)
	}
	if bytes.Contains([]byte(indentJSON([]byte(`"\u001b"`))), []byte{0x1b}) {
		t.Error("an escape came through")
	}
}
