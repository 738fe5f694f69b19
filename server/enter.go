package server

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// enter stands before the handler of each route: it bounds the body, checks its type, finds out who asks, and demands
// the form's token for what a page changes.
func (s *Server) enter(r route) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Set(keyRoute, r)
			req := c.Request()
			limit := r.body
			if limit == 0 {
				limit = defaultBody
			}
			if safeMethod(r.method) {
				limit = 0
			}
			req.Body = http.MaxBytesReader(c.Response().Writer, req.Body, limit)
			if err := s.identify(c, r); err != nil {
				return err
			}
			if safeMethod(r.method) {
				return next(c)
			}
			if err := checkContentType(r, req); err != nil {
				return err
			}
			if r.kind == kindPage {
				if err := parseForm(req, limit); err != nil {
					return err
				}
			}
			if r.kind == kindPage && r.access != open {
				if err := checkToken(c); err != nil {
					return err
				}
			}
			return next(c)
		}
	}
}

// keyRoute is where the route of a request stands in its context.
const keyRoute = "countersign.route"

// identify finds the session or the token of a request and refuses what it does not allow.
func (s *Server) identify(c echo.Context, r route) error {
	if token := bearer(c.Request()); token != "" && r.access == needToken {
		who, err := s.findToken(c.Request().Context(), token)
		if err != nil {
			return err
		}
		if who == nil {
			return &Problem{Status: http.StatusUnauthorized, Code: "token", Title: "That token is not known here", Advice: "Make one with: countersign token create NAME --scope read."}
		}
		if !who.scope.Includes(r.scope) {
			return &Problem{Status: http.StatusForbidden, Code: "scope", Title: "That token may not do this", Detail: "It has the scope " + string(who.scope) + ", this needs " + string(r.scope) + "."}
		}
		c.Set(keyUser, who)
		return nil
	}
	who, err := s.findSession(c)
	if err != nil {
		return err
	}
	if who != nil {
		c.Set(keyUser, who)
		return nil
	}
	if r.access == open {
		return nil
	}
	if r.kind == kindSocket {
		return &Problem{Status: http.StatusForbidden, Code: "sign_in", Title: "Sign in first"}
	}
	if r.kind == kindPage && r.method == http.MethodGet && !isFragment(c.Request()) {
		return &Problem{Status: http.StatusUnauthorized, Code: "sign_in", Title: "Sign in first", Advice: "Open the link that the gateway printed when it started. For a fresh one, run: countersign login", Href: "/sign-in", Link: "How to sign in"}
	}
	return &Problem{Status: http.StatusUnauthorized, Code: "sign_in", Title: "Sign in first", Advice: "Open a sign-in link (countersign login), or send a bearer token.", Href: "/sign-in", Link: "How to sign in"}
}

// checkContentType refuses bodies that a foreign page could send without being asked first: forms and text/plain count
// as simple requests (Fetch standard, "CORS-safelisted request-header"), JSON does not.
func checkContentType(r route, req *http.Request) error {
	if req.ContentLength == 0 {
		return nil
	}
	wanted := r.types
	if wanted == nil && r.kind == kindPage {
		wanted = []string{"application/x-www-form-urlencoded", "multipart/form-data"}
	} else if wanted == nil {
		wanted = []string{"application/json"}
	}
	t, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(wanted, t) {
		return &Problem{
			Status: http.StatusUnsupportedMediaType, Code: "content_type", Title: "The body has a content type that is not taken here",
			Detail: fmt.Sprintf("It is %q; taken is %s.", req.Header.Get("Content-Type"), strings.Join(wanted, " or ")),
		}
	}
	return nil
}

// parseForm reads the body of a form whole: it is bounded, so nothing needs a file.
func parseForm(req *http.Request, limit int64) error {
	err := req.ParseForm() // ParseMultipartForm alone would hide its error where the form is not multipart
	if err == nil {
		err = req.ParseMultipartForm(limit)
	}
	if err == nil || errors.Is(err, http.ErrNotMultipart) {
		return nil
	}
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		return err
	}
	return &Problem{Status: http.StatusBadRequest, Code: "form", Title: "The form could not be read", Detail: err.Error()}
}

// checkToken compares the token of a form with that of the session. A request with a bearer token does not come here:
// no browser adds one by itself.
func checkToken(c echo.Context) error {
	who := userOf(c)
	got := c.Request().Header.Get("X-CSRF-Token")
	if got == "" {
		got = c.FormValue("csrf")
	}
	if who == nil || who.csrf == "" || subtle.ConstantTimeCompare([]byte(got), []byte(who.csrf)) != 1 {
		return &Problem{Status: http.StatusForbidden, Code: "csrf", Title: "This form is not from the current session, and was not carried out", Advice: "Go back, load the page again, and repeat it."}
	}
	return nil
}

func kindOf(c echo.Context) kind {
	if r, ok := c.Get(keyRoute).(route); ok {
		return r.kind
	}
	path := c.Request().URL.Path
	if len(path) >= len(apiPrefix) && path[:len(apiPrefix)] == apiPrefix {
		return kindAPI
	}
	return kindPage
}
