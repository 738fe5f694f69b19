package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"countersign/views"
	"countersign/views/format"
)

// SessionCookie is the name of the dashboard's cookie. Cookies ignore ports, so browsers also send it to endpoints on
// the same host name: the proxy removes it before a request goes upstream.
const SessionCookie = "countersign_session"

const (
	linkLife        = 10 * time.Minute   // a one-time link that nobody used
	maxLinks        = 16                 // links that wait to be used
	sessionIdle     = 24 * time.Hour     // a session without any request
	sessionAbsolute = 7 * 24 * time.Hour // a session, however busy
	maxWho          = 64                 // characters of a name
	signInBurst     = 10                 // failed sign-ins before the next one has to wait
	signInPause     = 2 * time.Second    // what each further one costs
	keySession      = "countersign.session"
	keyRoute        = "countersign.route"
)

// session is who is signed in, for one request.
type session struct {
	who   string
	via   string // "dashboard" or "api"
	csrf  string // empty for API tokens
	id    string
	scope Scope
}

// sessionOf returns who is signed in, or nil.
func sessionOf(c echo.Context) *session {
	v, _ := c.Get(keySession).(*session)
	return v
}

// secret is a random value that is handed out once; only its hash is kept.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func hashSecret(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }

// csrfFor derives the token of a session's forms. It needs no store: whoever knows the cookie may know it.
func csrfFor(secret string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// links are the one-time sign-in links that wait to be used, by the hash of their secret.
type links struct {
	mu     sync.Mutex
	ends   map[[sha256.Size]byte]time.Time
	failed float64 // failed attempts that still count, see slow
	since  time.Time
}

// SignInLink makes a link that signs in once within ten minutes. When too many wait, the oldest stops working.
func (s *Server) SignInLink() string {
	secret := newSecret()
	l := &s.links
	l.mu.Lock()
	defer l.mu.Unlock()
	now := s.now()
	l.sweep(now)
	for len(l.ends) >= maxLinks {
		var oldest [sha256.Size]byte
		for h, end := range l.ends {
			if first, ok := l.ends[oldest]; !ok || end.Before(first) {
				oldest = h
			}
		}
		delete(l.ends, oldest)
	}
	l.ends[hashSecret(secret)] = now.Add(linkLife)
	return s.URL() + "/?t=" + secret
}

func (l *links) sweep(now time.Time) {
	for h, end := range l.ends {
		if !now.Before(end) {
			delete(l.ends, h)
		}
	}
}

// linkVerdict is what became of an attempt to use a link.
type linkVerdict int

const (
	linkGood linkVerdict = iota
	linkBad              // unknown, used up, or too old
	linkSlow             // too many failed attempts
)

// check looks a link up, in constant time for all that wait, and uses it up if use is set.
func (l *links) check(secret string, now time.Time, use bool) linkVerdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = max(0, l.failed-float64(now.Sub(l.since))/float64(signInPause))
	l.since = now
	if l.failed >= signInBurst {
		return linkSlow
	}
	l.sweep(now)
	want := hashSecret(secret)
	var found [sha256.Size]byte
	ok := 0
	for h := range l.ends {
		if subtle.ConstantTimeCompare(h[:], want[:]) == 1 {
			found, ok = h, 1
		}
	}
	if ok == 0 {
		l.failed++
		return linkBad
	}
	if use {
		delete(l.ends, found)
	}
	return linkGood
}

// signInPage shows a button for a good link: opening it uses nothing up.
func (s *Server) signInPage(c echo.Context) error {
	if sessionOf(c) != nil {
		return s.redirect(c, "/")
	}
	t := c.QueryParam("t")
	if t == "" {
		return s.render(c, http.StatusOK, views.SignIn(s.view(c, "Sign in"), views.SignInForm{}))
	}
	switch s.links.check(t, s.now(), false) {
	case linkGood:
		return s.render(c, http.StatusOK, views.SignIn(s.view(c, "Sign in"), views.SignInForm{Token: t, Who: s.opts.User}))
	case linkSlow:
		return tooManySignIns()
	}
	return s.render(c, http.StatusForbidden, views.SignIn(s.view(c, "Sign in"), views.SignInForm{Problem: linkGone}))
}

const linkGone = "That link was used already, is older than ten minutes, or belongs to an earlier start."

func tooManySignIns() *Problem {
	return &Problem{Status: http.StatusTooManyRequests, Code: "slow_down", Title: "Too many failed sign-ins", Advice: "Wait a few seconds, then use a fresh link: countersign login."}
}

// signIn uses a link up and begins a session.
func (s *Server) signIn(c echo.Context) error {
	t, who := c.FormValue("t"), strings.TrimSpace(c.FormValue("who"))
	if problem := checkWho(who); problem != "" {
		if v := s.links.check(t, s.now(), false); v == linkGood {
			return s.render(c, http.StatusUnprocessableEntity, views.SignIn(s.view(c, "Sign in"), views.SignInForm{Token: t, Who: who, Error: problem}))
		}
	}
	switch s.links.check(t, s.now(), true) {
	case linkSlow:
		return tooManySignIns()
	case linkBad:
		return s.render(c, http.StatusForbidden, views.SignIn(s.view(c, "Sign in"), views.SignInForm{Problem: linkGone}))
	}
	secret := newSecret()
	if err := s.beginSession(c.Request().Context(), secret, who); err != nil {
		return err
	}
	c.SetCookie(sessionCookie(secret, int(sessionAbsolute/time.Second)))
	return s.redirect(c, "/")
}

func checkWho(who string) string {
	switch {
	case who == "":
		return "Give a name: it stands in the audit log beside what you change."
	case utf8.RuneCountInString(who) > maxWho:
		return "At most 64 characters."
	case format.Visible(who) != who:
		return "Letters, digits and signs that can be seen, please."
	}
	return ""
}

func sessionCookie(value string, age int) *http.Cookie {
	// Not Secure: the dashboard speaks plain HTTP on loopback, and not every browser takes a Secure cookie from there.
	return &http.Cookie{Name: SessionCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// signOut ends this session.
func (s *Server) signOut(c echo.Context) error {
	if err := s.endSession(c.Request().Context(), sessionOf(c)); err != nil {
		return err
	}
	c.SetCookie(sessionCookie("", -1))
	return s.redirect(c, "/sign-in")
}

// who returns the name for the audit log.
func who(c echo.Context) string {
	if v := sessionOf(c); v != nil {
		return v.who
	}
	return ""
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
