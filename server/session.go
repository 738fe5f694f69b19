package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"countersign/store"
	"countersign/views"
	"countersign/views/format"
)

// SessionCookie is the name of the dashboard's cookie. Cookies ignore ports, so browsers also send it to endpoints on
// the same host name: the proxy removes it before a request goes upstream.
const SessionCookie = "countersign_session"

const (
	linkLife        = 10 * time.Minute   // a one-time link that nobody used
	sessionIdle     = 24 * time.Hour     // a session without any request
	sessionAbsolute = 7 * 24 * time.Hour // a session, however busy
	maxWho          = 64                 // characters of a name
	signInBurst     = 10                 // failed sign-ins before the next one has to wait
	signInPause     = 2 * time.Second    // what each further one costs
)

// Ways in which a change is made, for the audit log.
const (
	viaDashboard = "dashboard"
	viaAPI       = "api"
)

// user is who makes a request.
type user struct {
	name  string
	via   string
	id    string // of the session; empty for an API token
	csrf  string // likewise
	scope store.Scope
}

const keyUser = "countersign.user"

// userOf returns who makes the request, or nil.
func userOf(c echo.Context) *user {
	u, _ := c.Get(keyUser).(*user)
	return u
}

// actorOf names who makes the request, for the audit log.
func actorOf(c echo.Context) store.Actor {
	if u := userOf(c); u != nil {
		return store.Actor{Name: u.name, Via: u.via}
	}
	return store.Actor{}
}

// SignInLink makes a link that signs in once within ten minutes. Listen must have been called.
func (s *Server) SignInLink(ctx context.Context) (string, error) {
	token, err := s.store.CreateLink(ctx, linkLife)
	if err != nil {
		return "", err
	}
	return s.URL() + "/?t=" + token, nil
}

// attempts slows failed sign-ins down: after a burst each one takes its time to be forgotten, and while the burst is
// used up nobody can try. What is guarded has 256 random bits, so this only keeps the noise down.
type attempts struct {
	mu     sync.Mutex
	failed float64
	since  time.Time
}

// blocked reports whether an attempt must wait.
func (a *attempts) blocked(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(now)
	return a.failed > signInBurst-1
}

func (a *attempts) fail(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(now)
	a.failed++
}

func (a *attempts) forget(now time.Time) {
	a.failed = max(0, a.failed-max(0, now.Sub(a.since).Seconds())/signInPause.Seconds())
	a.since = now
}

// signInPage shows a button for a good link: opening it uses nothing up.
func (s *Server) signInPage(c echo.Context) error {
	if userOf(c) != nil {
		return s.redirect(c, "/")
	}
	token := c.QueryParam("t")
	if token == "" {
		return s.render(c, http.StatusOK, views.SignIn(s.view(c, "Sign in"), views.SignInForm{}))
	}
	return s.withLink(c, s.store.CheckLink, token, func() error {
		return s.render(c, http.StatusOK, views.SignIn(s.view(c, "Sign in"), views.SignInForm{Token: token, Who: s.opts.User}))
	})
}

// signIn uses a link up and begins a session.
func (s *Server) signIn(c echo.Context) error {
	token, name := c.FormValue("t"), strings.TrimSpace(c.FormValue("who"))
	if problem := checkWho(name); problem != "" {
		return s.withLink(c, s.store.CheckLink, token, func() error {
			return s.render(c, http.StatusUnprocessableEntity, views.SignIn(s.view(c, "Sign in"), views.SignInForm{Token: token, Who: name, Error: problem}))
		})
	}
	return s.withLink(c, s.store.UseLink, token, func() error {
		_, secret, err := s.store.CreateSession(c.Request().Context(), name, viaDashboard, sessionIdle, sessionAbsolute)
		if err != nil {
			return err
		}
		c.SetCookie(sessionCookie(secret, int(sessionAbsolute/time.Second)))
		return s.redirect(c, "/")
	})
}

// withLink goes on if the link's token is good, and answers otherwise.
func (s *Server) withLink(c echo.Context, check func(context.Context, string) error, token string, then func() error) error {
	if s.attempts.blocked(s.now()) {
		return &Problem{Status: http.StatusTooManyRequests, Code: "slow_down", Title: "Too many failed sign-ins", Advice: "Wait a few seconds, then use a fresh link: countersign login."}
	}
	err := check(c.Request().Context(), token)
	if errors.Is(err, store.ErrNoLink) {
		s.attempts.fail(s.now())
		return s.render(c, http.StatusForbidden, views.SignIn(s.view(c, "Sign in"), views.SignInForm{Problem: "That link was used already, or is older than ten minutes."}))
	}
	if err != nil {
		return err
	}
	return then()
}

func checkWho(name string) string {
	switch {
	case name == "":
		return "Give a name: it stands in the audit log beside what you change."
	case utf8.RuneCountInString(name) > maxWho:
		return "Give a shorter name, of at most 64 characters."
	case format.Visible(name) != name:
		return "Give a name of letters, digits and signs that can be seen."
	}
	return ""
}

func sessionCookie(value string, age int) *http.Cookie {
	// Not Secure: the dashboard speaks plain HTTP on loopback, and not every browser takes a Secure cookie from there.
	return &http.Cookie{Name: SessionCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// signOut ends this session.
func (s *Server) signOut(c echo.Context) error {
	if err := s.store.EndSession(c.Request().Context(), userOf(c).id); err != nil {
		return err
	}
	c.SetCookie(sessionCookie("", -1))
	return s.redirect(c, "/sign-in")
}

// findSession returns who the cookie of a request belongs to, or nil.
func (s *Server) findSession(c echo.Context) (*user, error) {
	cookie, err := c.Cookie(SessionCookie)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // nobody is signed in
	}
	v, err := s.store.Session(c.Request().Context(), cookie.Value)
	if errors.Is(err, store.ErrNoSession) {
		return nil, nil //nolint:nilnil // nobody is signed in
	}
	if err != nil {
		return nil, err
	}
	return &user{name: v.Name, via: viaDashboard, id: v.ID, csrf: v.CSRF, scope: store.ScopeAdmin}, nil
}

// findToken returns whom a bearer token belongs to, or nil.
func (s *Server) findToken(ctx context.Context, secret string) (*user, error) {
	t, err := s.store.Token(ctx, secret)
	if errors.Is(err, store.ErrNoToken) {
		return nil, nil //nolint:nilnil // not a token of ours
	}
	if err != nil {
		return nil, err
	}
	return &user{name: t.Name, via: viaAPI, scope: t.Scope}, nil
}

// stillGood reports whether the session or token that let a long request in is still good.
func (s *Server) stillGood(ctx context.Context, r *http.Request) bool {
	if token := bearer(r); token != "" {
		t, err := s.store.Token(ctx, token)
		return err == nil && t.Scope.Includes(store.ScopeRead)
	}
	cookie, err := r.Cookie(SessionCookie)
	if err != nil {
		return false
	}
	_, err = s.store.Session(ctx, cookie.Value)
	return err == nil
}

func hasBearer(r *http.Request) bool { return bearer(r) != "" }

// bearer returns the token of an Authorization header (RFC 6750, section 2.1), or "".
func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
