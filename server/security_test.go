package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"countersign/store"
)

// concrete fills the parameters of a route's path.
func concrete(r route) string {
	parts := strings.Split(r.path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") || p == "*" {
			parts[i] = "x"
		}
	}
	return strings.Join(parts, "/")
}

// port returns the port that the dashboard listens on.
func (f *fixture) port() string { return fmt.Sprint(f.address.Load().Port()) }

// send makes a request of any kind; body and media type fit the route.
func (f *fixture) send(r route, change func(*http.Request)) reply {
	f.t.Helper()
	var body io.Reader
	mediaType := ""
	if !safeMethod(r.method) {
		switch {
		case r.kind == kindPage:
			body, mediaType = strings.NewReader(url.Values{"csrf": {f.csrf}}.Encode()), "application/x-www-form-urlencoded"
		case r.types != nil:
			body, mediaType = strings.NewReader("x"), r.types[0]
		default:
			body, mediaType = strings.NewReader("{}"), "application/json"
		}
	}
	req := f.request(r.method, concrete(r), body, mediaType)
	if !safeMethod(r.method) {
		req.Header.Set("Origin", f.URL())
	}
	if r.kind == kindSocket {
		asSocket(req)
		req.Header.Set("Origin", f.URL())
	}
	change(req)
	return f.do(req)
}

func asSocket(r *http.Request) {
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-Websocket-Version", "13")
	r.Header.Set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

// TestRouteList checks the list itself: no route may stand there twice, or without what the rules need.
func TestRouteList(t *testing.T) {
	f := start(t, nil)
	seen := map[string]bool{}
	asks := []string{"POST /api/v1/explain"} // has a body, and changes nothing
	for _, r := range f.list {
		name := r.method + " " + r.path
		if seen[name] {
			t.Errorf("%s stands in the list twice", name)
		}
		seen[name] = true
		if r.handler == nil {
			t.Errorf("%s has no handler", name)
		}
		if r.access == needToken && !r.scope.Includes(store.ScopeRead) {
			t.Errorf("%s takes tokens, but of no scope", name)
		}
		if r.kind == kindAPI && !safeMethod(r.method) && r.scope == store.ScopeRead && !slices.Contains(asks, name) {
			t.Errorf("%s changes something, and takes tokens that may only read", name)
		}
		if api := strings.HasPrefix(r.path, apiPrefix); api != (r.kind == kindAPI || r.kind == kindSocket) {
			t.Errorf("%s: its path and its kind do not agree", name)
		}
	}
	opened := []string{"GET /healthz", "GET /readyz", "GET /static/*", "GET /favicon.ico", "GET /sign-in", "POST /sign-in", "GET /"}
	for _, r := range f.list {
		if name := r.method + " " + r.path; r.access == open && !slices.Contains(opened, name) {
			t.Errorf("%s is open to everybody", name)
		}
	}
}

// TestWrongHostIsRefused plays DNS rebinding against every route: a name of the attacker's that leads to loopback.
func TestWrongHostIsRefused(t *testing.T) {
	f := signedIn(t, func(o *Options) { o.Hosts = []string{"gate.example"} })
	port := f.port()
	wrong := []string{
		"evil.example", "evil.example:" + port, "localhost.attacker.com", "localhost.attacker.com:" + port, "127.0.0.1.attacker.com:" + port,
		"127.0.0.1", "localhost", "127.0.0.1:1", "localhost:443", "localhost.:" + port, "[::1]", "[::ffff:127.0.0.1]:" + port, "127.1:" + port,
		"0.0.0.0:" + port, "127.0.0.2:" + port, "gate.example", "a.gate.example:" + port, "gate.example.:" + port, "2130706433:" + port,
	}
	for _, r := range f.list {
		for _, host := range wrong {
			for _, origin := range []string{"", "http://" + host} {
				got := f.send(r, func(req *http.Request) {
					req.Host = host
					if origin != "" {
						req.Header.Set("Origin", origin)
					}
				})
				if got.status != http.StatusForbidden {
					t.Errorf("%s %s with Host %q and Origin %q: status %d", r.method, r.path, host, origin, got.status)
				}
			}
		}
	}
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port, "gate.example:" + port} {
		req := f.request(http.MethodGet, "/healthz", nil, "")
		req.Host = host
		if got := f.do(req); got.status != http.StatusOK {
			t.Errorf("with its own name %q: status %d", host, got.status)
		}
	}
}

// TestForeignOriginIsRefused sends to every route what a page of another site could, with the session's cookie and even
// with the token of its forms.
func TestForeignOriginIsRefused(t *testing.T) {
	f := signedIn(t, nil)
	before := f.traces()
	foreign := map[string]func(http.Header){
		"another site":         func(h http.Header) { h.Set("Origin", "http://evil.example") },
		"null":                 func(h http.Header) { h.Set("Origin", "null") },
		"another port":         func(h http.Header) { h.Set("Origin", "http://127.0.0.1:1") },
		"another scheme":       func(h http.Header) { h.Set("Origin", "https://127.0.0.1:"+f.port()) },
		"another of our names": func(h http.Header) { h.Set("Origin", "http://localhost:"+f.port()) },
		"a longer one":         func(h http.Header) { h.Set("Origin", f.URL()+".evil.example") },
		"with a path":          func(h http.Header) { h.Set("Origin", f.URL()+"/") },
		"two":                  func(h http.Header) { h.Set("Origin", f.URL()); h.Add("Origin", "http://evil.example") },
		"empty":                func(h http.Header) { h.Set("Origin", "") },
		"fetch metadata":       func(h http.Header) { h.Del("Origin"); h.Set("Sec-Fetch-Site", "cross-site") },
		"another port's page":  func(h http.Header) { h.Set("Sec-Fetch-Site", "same-site") },
		"none at all":          func(h http.Header) { h.Del("Origin") },
	}
	for _, r := range f.list {
		for name, change := range foreign {
			if safeMethod(r.method) && r.kind != kindSocket {
				continue
			}
			if r.kind == kindSocket && strings.HasPrefix(name, "another port's") {
				continue // browsers send no fetch metadata that CrossOriginProtection would look at with a GET
			}
			got := f.send(r, func(req *http.Request) { change(req.Header) })
			if got.status != http.StatusForbidden {
				t.Errorf("%s %s, origin %s: status %d", r.method, r.path, name, got.status)
			}
		}
	}
	if after := f.traces(); after != before {
		t.Errorf("something was changed: %s, before %s", after, before)
	}
	if got := f.get("/settings"); got.status != http.StatusOK {
		t.Errorf("the session is gone: status %d", got.status)
	}
}

// TestForeignOriginOfReads: a read that names a foreign origin is refused too, although its answer could not be read.
func TestForeignOriginOfReads(t *testing.T) {
	f := signedIn(t, nil)
	for _, r := range f.list {
		if !safeMethod(r.method) {
			continue
		}
		for _, origin := range []string{"http://evil.example", "null"} {
			if got := f.send(r, func(req *http.Request) { req.Header.Set("Origin", origin) }); got.status != http.StatusForbidden {
				t.Errorf("%s %s, origin %s: status %d", r.method, r.path, origin, got.status)
			}
		}
	}
}

// traces is what any change would leave behind: the revision, the audit log, sessions and tokens.
func (f *fixture) traces() string {
	f.t.Helper()
	ctx := f.t.Context()
	entries, err := f.store.Audit(ctx, store.AuditQuery{Limit: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	sessions, err := f.store.Sessions(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	tokens, err := f.store.Tokens(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	config, _, err := f.store.Load(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	last := uint64(0)
	if len(entries) > 0 {
		last = entries[0].Seq
	}
	return fmt.Sprintf("revision %d, audit %d, %d sessions, %d tokens", config.Revision, last, len(sessions), len(tokens))
}

// TestNoChangeByGet asks every route with every safe method, and every changing route with GET: nothing may change.
func TestNoChangeByGet(t *testing.T) {
	f := signedIn(t, func(o *Options) { o.Demo = exampleDemo(t) })
	before := f.traces()
	for _, r := range f.list {
		if r.kind == kindSocket {
			continue
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			req := f.request(method, concrete(r)+"?csrf="+f.csrf+"&name=x&scope=admin&t=x&who=x", nil, "")
			got := f.do(req)
			if r.method != method && method == http.MethodGet && got.status < 300 && !f.listed(method, r.path) {
				t.Errorf("%s %s is answered with %d, although only %s is in the list", method, r.path, got.status, r.method)
			}
			if after := f.traces(); after != before {
				t.Fatalf("%s %s changed something: %s, before %s", method, r.path, after, before)
			}
		}
	}
}

func (f *fixture) listed(method, path string) bool {
	return slices.ContainsFunc(f.list, func(r route) bool { return r.method == method && (r.path == path || strings.Contains(r.path, ":")) })
}

// TestNobodyComesInWithoutASession asks every route that is not open, without a cookie, with a made-up one, and with a
// token where tokens do not count.
func TestNobodyComesInWithoutASession(t *testing.T) {
	f := start(t, nil)
	for _, r := range f.list {
		if r.access == open {
			continue
		}
		for name, change := range map[string]func(*http.Request){
			"nothing": func(*http.Request) {},
			"a made-up cookie": func(req *http.Request) {
				req.AddCookie(&http.Cookie{Name: SessionCookie, Value: strings.Repeat("A", 43)})
			},
			"an empty cookie": func(req *http.Request) { req.AddCookie(&http.Cookie{Name: SessionCookie}) },
			"a made-up token": func(req *http.Request) {
				req.Header.Set("Authorization", "Bearer countersign_"+strings.Repeat("A", 43))
			},
			"basic": func(req *http.Request) { req.SetBasicAuth("admin", "admin") },
		} {
			got := f.send(r, change)
			if got.status != http.StatusUnauthorized && got.status != http.StatusForbidden {
				t.Errorf("%s %s with %s: status %d", r.method, r.path, name, got.status)
			}
			if strings.Contains(got.body, f.store.Dir()) || strings.Contains(got.body, f.opts.Version) {
				t.Errorf("%s %s with %s tells what runs here: %s", r.method, r.path, name, got.body)
			}
		}
	}
}

// TestTokensAreForTheAPI: a bearer token, which browsers never send, opens the API up to its scope and no page.
func TestTokensAreForTheAPI(t *testing.T) {
	f := start(t, nil)
	secrets := map[store.Scope]string{}
	for _, scope := range []store.Scope{store.ScopeRead, store.ScopeOperate, store.ScopeAdmin} {
		_, secret, err := f.store.CreateToken(t.Context(), store.Actor{Name: "rhea", Via: "test"}, string(scope), scope)
		if err != nil {
			t.Fatal(err)
		}
		secrets[scope] = secret
	}
	for _, r := range f.list {
		if r.access == open || r.kind == kindSocket {
			continue
		}
		for scope, secret := range secrets {
			got := f.send(r, func(req *http.Request) {
				req.Header.Del("Origin")
				req.Header.Set("Authorization", "Bearer "+secret)
			})
			refused := got.status == http.StatusUnauthorized || got.status == http.StatusForbidden
			wanted := r.access != needToken || !scope.Includes(r.scope)
			if refused != wanted {
				t.Errorf("%s %s with a token of scope %s: status %d", r.method, r.path, scope, got.status)
			}
		}
	}
}

// TestFormsNeedTheirToken sends every form of a page without the session's token, and with another's.
func TestFormsNeedTheirToken(t *testing.T) {
	f := signedIn(t, nil)
	other := *f
	other.client = newClient(t)
	other.signIn("ben")
	before := f.traces()
	for _, r := range f.list {
		if safeMethod(r.method) || r.kind != kindPage || r.access == open {
			continue
		}
		for name, token := range map[string]string{"none": "", "another's": other.csrf, "a cut one": f.csrf[1:]} {
			got := f.post(concrete(r), url.Values{"csrf": {token}, "name": {"x"}, "scope": {"read"}})
			if got.status != http.StatusForbidden {
				t.Errorf("%s %s with the token: %s: status %d", r.method, r.path, name, got.status)
			}
		}
	}
	if after := f.traces(); after != before {
		t.Errorf("something was changed: %s, before %s", after, before)
	}
}

// TestContentTypes: what a foreign page can send without being asked first is no JSON, and no other type is a form.
func TestContentTypes(t *testing.T) {
	f := signedIn(t, nil)
	for _, r := range f.list {
		if safeMethod(r.method) || r.access == open {
			continue
		}
		types := []string{"text/plain", "text/plain; charset=application/json", "", "nonsense", "application/jsonp"}
		if r.kind == kindPage {
			types = append(types, "application/json")
		} else {
			types = append(types, "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
		}
		for _, mediaType := range types {
			req := f.request(r.method, concrete(r), strings.NewReader(`{"name":"x"}`), mediaType)
			req.Header.Set("Origin", f.URL())
			if got := f.do(req); got.status != http.StatusUnsupportedMediaType {
				t.Errorf("%s %s with the type %q: status %d", r.method, r.path, mediaType, got.status)
			}
		}
	}
}

// TestCheckContentType covers what no route may have yet.
func TestCheckContentType(t *testing.T) {
	for _, c := range []struct {
		r    route
		sent string
		ok   bool
	}{
		{route{kind: kindAPI}, "application/json", true},
		{route{kind: kindAPI}, "Application/JSON; charset=utf-8", true},
		{route{kind: kindAPI}, "text/plain", false},
		{route{kind: kindAPI}, "application/x-www-form-urlencoded", false},
		{route{kind: kindAPI}, "", false},
		{route{kind: kindAPI, types: []string{"application/x-pem-file"}}, "application/x-pem-file", true},
		{route{kind: kindAPI, types: []string{"application/x-pem-file"}}, "application/json", false},
		{route{kind: kindPage}, "multipart/form-data; boundary=x", true},
		{route{kind: kindPage}, "application/json", false},
	} {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://127.0.0.1/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c.sent)
		if err := checkContentType(c.r, req); (err == nil) != c.ok {
			t.Errorf("kind %d, types %v, sent %q: %v", c.r.kind, c.r.types, c.sent, err)
		}
	}
}

// TestBodiesAreBounded sends every route more than it reads.
func TestBodiesAreBounded(t *testing.T) {
	f := signedIn(t, nil)
	for _, r := range f.list {
		if safeMethod(r.method) {
			continue
		}
		limit := r.body
		if limit == 0 {
			limit = defaultBody
		}
		form := "csrf=" + f.csrf + "&t=x&name="
		mediaType := "application/x-www-form-urlencoded"
		if r.kind != kindPage {
			form, mediaType = `{"name":"`, "application/json"
		}
		if r.types != nil {
			mediaType = r.types[0]
		}
		body := form + strings.Repeat("x", int(limit)+1)
		req := f.request(r.method, concrete(r), strings.NewReader(body), mediaType)
		req.Header.Set("Origin", f.URL())
		got := f.do(req)
		if unread := r.kind != kindPage && got.status >= 400; got.status != http.StatusRequestEntityTooLarge && !unread {
			t.Errorf("%s %s with %d bytes: status %d", r.method, r.path, len(body), got.status)
		}
	}
}

// TestSocketNeedsOriginAndSession: a page of another site can open a WebSocket to loopback, and its browser sends the
// cookie along; so an absent Origin counts as a foreign one.
func TestSocketNeedsOriginAndSession(t *testing.T) {
	f := signedIn(t, nil)
	stranger := *f
	stranger.client = newClient(t)
	sockets := 0
	for _, r := range f.list {
		if r.kind != kindSocket {
			continue
		}
		sockets++
		for _, c := range []struct {
			name   string
			who    *fixture
			origin string
			status int
		}{
			{"no session", &stranger, f.URL(), http.StatusForbidden},
			{"foreign origin", f, "http://evil.example", http.StatusForbidden},
			{"null origin", f, "null", http.StatusForbidden},
			{"no origin", f, "", http.StatusForbidden},
			{"no origin and no session", &stranger, "", http.StatusForbidden},
			{"all well", f, f.URL(), http.StatusSwitchingProtocols},
		} {
			got := c.who.dialSocket(r, c.origin, "")
			if got != c.status {
				t.Errorf("%s, %s: status %d, not %d", r.path, c.name, got, c.status)
			}
		}
		_, secret, err := f.store.CreateToken(t.Context(), store.Actor{Name: "rhea", Via: "test"}, "watcher", store.ScopeRead)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			origin, token string
			status        int
		}{
			{"", secret, http.StatusSwitchingProtocols},
			{"http://evil.example", secret, http.StatusForbidden},
			{"", secret + "x", http.StatusUnauthorized},
		} {
			if got := stranger.dialSocket(r, c.origin, c.token); got != c.status {
				t.Errorf("%s with a token and origin %q: status %d, not %d", r.path, c.origin, got, c.status)
			}
		}
	}
	if sockets == 0 {
		t.Error("there is no socket in the list")
	}
}

// dialSocket asks for a WebSocket and hangs up at once.
func (f *fixture) dialSocket(r route, origin, token string) int {
	f.t.Helper()
	req := f.request(r.method, concrete(r), nil, "")
	asSocket(req)
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}
