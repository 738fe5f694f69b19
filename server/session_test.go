package server

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/store"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 22, 14, 58, 7, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestLinkSignsInOnce(t *testing.T) {
	f := start(t, nil)
	token := f.link()
	for range 3 { // a preview of a chat program, or a curious person
		got := f.get("/?t=" + token)
		if got.status != http.StatusOK || !strings.Contains(got.body, `<button class="solid" type="submit">Sign in</button>`) || !strings.Contains(got.body, `value="rhea"`) {
			t.Fatalf("the link: status %d: %s", got.status, got.body)
		}
		if len(got.header.Values("Set-Cookie")) > 0 {
			t.Fatal("opening the link sets a cookie")
		}
	}
	got := f.post("/sign-in", url.Values{"t": {token}, "who": {" rhea "}})
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "/" {
		t.Fatalf("sign-in: status %d: %s", got.status, got.body)
	}
	cookie, err := http.ParseSetCookie(got.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if cookie.Name != SessionCookie || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge != int(sessionAbsolute/time.Second) {
		t.Errorf("the cookie is %s", got.header.Get("Set-Cookie"))
	}
	if len(cookie.Value) < 43 || strings.Contains(token, cookie.Value) {
		t.Errorf("the cookie's value %q is short, or the link's", cookie.Value)
	}
	if page := f.get("/settings"); page.status != http.StatusOK {
		t.Errorf("after the sign-in: status %d", page.status)
	}
	// A second browser with the same link.
	f.client = newClient(t)
	if again := f.post("/sign-in", url.Values{"t": {token}, "who": {"ben"}}); again.status != http.StatusForbidden || len(again.header.Values("Set-Cookie")) > 0 {
		t.Errorf("the link again: status %d", again.status)
	}
	if again := f.get("/?t=" + token); again.status != http.StatusForbidden || !strings.Contains(again.body, "countersign login") {
		t.Errorf("the link opened again: status %d: %s", again.status, again.body)
	}
	entries, err := f.store.Audit(t.Context(), store.AuditQuery{Kind: store.KindSession})
	if err != nil || len(entries) != 1 || entries[0].Actor.Name != "rhea" {
		t.Errorf("audit log: %+v, %v", entries, err)
	}
}

func TestLinkEnds(t *testing.T) {
	c := newClock()
	f := start(t, func(o *Options) { o.Clock = c.Now })
	token := f.link()
	c.add(linkLife - time.Second)
	if got := f.get("/?t=" + token); got.status != http.StatusOK {
		t.Errorf("a second before its end: status %d", got.status)
	}
	c.add(time.Second)
	if got := f.get("/?t=" + token); got.status != http.StatusForbidden {
		t.Errorf("at its end: status %d", got.status)
	}
	if got := f.post("/sign-in", url.Values{"t": {token}, "who": {"rhea"}}); got.status != http.StatusForbidden {
		t.Errorf("used at its end: status %d", got.status)
	}
}

func TestSessionsEnd(t *testing.T) {
	c := newClock()
	f := signedIn(t, func(o *Options) { o.Clock = c.Now })
	c.add(sessionIdle - time.Second)
	if got := f.get("/settings"); got.status != http.StatusOK {
		t.Errorf("a second before a day without a request: status %d", got.status)
	}
	c.add(sessionIdle)
	if got := f.get("/settings"); got.status != http.StatusUnauthorized {
		t.Errorf("after a day without a request: status %d", got.status)
	}
	f.client = newClient(t)
	f.signIn("rhea")
	for spent := time.Duration(0); spent < sessionAbsolute-time.Hour; spent += time.Hour {
		c.add(time.Hour)
		if got := f.get("/settings"); spent+time.Hour < sessionAbsolute && got.status != http.StatusOK {
			t.Fatalf("busy for %v: status %d", spent, got.status)
		}
	}
	c.add(time.Hour)
	if got := f.get("/settings"); got.status != http.StatusUnauthorized {
		t.Errorf("after a week: status %d", got.status)
	}
}

func TestSignOut(t *testing.T) {
	f := signedIn(t, nil)
	stolen := f.cookie()
	got := f.post("/sign-out", url.Values{})
	if got.status != http.StatusSeeOther || !strings.Contains(got.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("status %d, cookie %q", got.status, got.header.Get("Set-Cookie"))
	}
	req := f.request(http.MethodGet, "/settings", nil, "")
	req.AddCookie(stolen)
	if got := f.do(req); got.status != http.StatusUnauthorized {
		t.Errorf("with the old cookie: status %d", got.status)
	}
}

func (f *fixture) cookie() *http.Cookie {
	f.t.Helper()
	u, err := url.Parse(f.URL())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range f.client.Jar.Cookies(u) {
		if c.Name == SessionCookie {
			return c
		}
	}
	f.t.Fatal("there is no session cookie")
	return nil
}

func TestNameAtSignIn(t *testing.T) {
	f := start(t, nil)
	token := f.link()
	for _, name := range []string{"", "   ", strings.Repeat("ż", 65), "a\x00b", "rh\u202eea", "two\nlines", "\xff"} {
		got := f.post("/sign-in", url.Values{"t": {token}, "who": {name}})
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `id="f-who-error"`) || !strings.Contains(got.body, token) {
			t.Errorf("%q: status %d", name, got.status)
		}
	}
	if got := f.post("/sign-in", url.Values{"t": {token}, "who": {strings.Repeat("ż", 64)}}); got.status != http.StatusSeeOther {
		t.Errorf("a name of 64 letters, with the same link: status %d", got.status)
	}
}

// TestFailedSignInsAreSlowed: after ten failures nobody can try for a while, and then one can again.
func TestFailedSignInsAreSlowed(t *testing.T) {
	c := newClock()
	f := start(t, func(o *Options) { o.Clock = c.Now })
	good := f.link()
	for i := range signInBurst {
		path := "/?t=guess"
		got := f.get(path)
		if i%2 == 0 {
			got = f.post("/sign-in", url.Values{"t": {"guess"}, "who": {"x"}})
		}
		if i < signInBurst/2-1 && got.status != http.StatusForbidden {
			t.Fatalf("attempt %d: status %d", i, got.status)
		}
	}
	for range 100 {
		got := f.post("/sign-in", url.Values{"t": {good}, "who": {"rhea"}})
		if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
			t.Fatalf("while slowed: status %d", got.status)
		}
	}
	c.add(2 * signInPause) // attempts that were turned away do not make it longer
	if got := f.post("/sign-in", url.Values{"t": {good}, "who": {"rhea"}}); got.status != http.StatusSeeOther {
		t.Errorf("after a pause: status %d: %s", got.status, got.body)
	}
}

func TestAttemptsSurviveAClockThatGoesBack(t *testing.T) {
	var a attempts
	now := time.Unix(1e9, 0)
	for range 3 * signInBurst {
		a.fail(now)
		now = now.Add(-time.Hour)
	}
	if !a.blocked(now) {
		t.Error("a clock that goes back forgets failures")
	}
	if a.blocked(now.Add(time.Hour)) {
		t.Error("failures are never forgotten")
	}
}

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "Bearer": "", "Bearer ": "", "Bearer x": "x", "bearer x": "x", "BEARER  x ": "x", "Basic x": "", "Bearerx": "", "Token x": "",
	} {
		r := &http.Request{Header: http.Header{"Authorization": {header}}}
		if got := bearer(r); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

// TestSessionsPage signs another browser out, then everybody.
func TestSessionsPage(t *testing.T) {
	f := signedIn(t, nil)
	other := *f
	other.client = newClient(t)
	other.signIn("ben")
	page := f.get("/settings/sessions")
	if !strings.Contains(page.body, "ben") || !strings.Contains(page.body, "this one") {
		t.Errorf("the page of sessions: %s", page.body)
	}
	list, err := f.store.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.Name == "ben" {
			f.post("/settings/sessions/"+v.ID+"/end", url.Values{})
		}
	}
	if got := other.get("/settings"); got.status != http.StatusUnauthorized {
		t.Errorf("ben after he was signed out: status %d", got.status)
	}
	if page := f.get("/settings/sessions"); page.status != http.StatusOK || !strings.Contains(page.body, "Signed out.") {
		t.Errorf("rhea: status %d", page.status)
	}
	if got := f.post("/settings/sessions/end", url.Values{}); got.header.Get("Location") != "/sign-in" {
		t.Errorf("after all were signed out: status %d", got.status)
	}
	if got := f.get("/settings"); got.status != http.StatusUnauthorized {
		t.Errorf("rhea after all were signed out: status %d", got.status)
	}
}

// TestSaidIsForOneSession: what was done is told once, to whom it was done by.
func TestSaidIsForOneSession(t *testing.T) {
	f := signedIn(t, nil)
	other := *f
	other.client = newClient(t)
	other.signIn("ben")
	f.post("/settings/appearance", url.Values{"theme": {"dark"}, "keys": {"on"}})
	if page := other.get("/settings"); strings.Contains(page.body, "Appearance saved") {
		t.Error("another session was told")
	}
	if page := f.get("/settings"); !strings.Contains(page.body, "Appearance saved") || !strings.Contains(page.body, `data-theme="dark"`) {
		t.Error("the session was not told, or has no theme")
	}
	if page := f.get("/settings"); strings.Contains(page.body, "Appearance saved") {
		t.Error("it was told twice")
	}
}
