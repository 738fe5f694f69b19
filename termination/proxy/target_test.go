package proxy

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestReadPath(t *testing.T) {
	for raw, want := range map[string]string{
		"/":                   "/",
		"/api":                "/api",
		"/api/":               "/api/",
		"/%61pi":              "/api",
		"/a%20b":              "/a b",
		"/100%25":             "/100%",
		"/50%25off":           "/50%off",
		"/%C3%A9":             "/é",
		"/é":                  "/é",
		"/%E9":                "/\xe9", // Latin-1
		"/.well-known/x":      "/.well-known/x",
		"/...":                "/...",
		"/a.b":                "/a.b",
		"/a:b@c!$&'()*+,=~_-": "/a:b@c!$&'()*+,=~_-",
		"/{x}|y[z]":           "/{x}|y[z]",
		"/%2520":              "/%20",
	} {
		got, err := readPath(raw)
		if err != nil || got != want {
			t.Errorf("readPath(%q) = %q, %v, want %q", raw, got, err, want)
		}
	}
}

// ambiguousPaths are paths that two programs may read differently.
func ambiguousPaths() []string {
	return []string{
		"/public/../api", "/public/..", "/..", "/../api", "/public/./api", "/.", "/./api",
		"//api", "/public//api", "/api//", "//",
		"/public/%2e%2e/api", "/public/%2E%2e/api", "/public/.%2e/api", "/%2e/api", "/a%2eb",
		"/public%2fapi", "/public%2Fapi", "/%2f", "/public%2f..%2fapi",
		`/public\api`, `/public\..\api`, "/public%5capi", "/public%5C..%5capi",
		"/public;x/api", "/api;", "/api;/x", "/;/api", "/public/..;/api", "/api%3bx",
		"/api%00", "/api%0a", "/api%0d%0a", "/api%09", "/api%1f", "/api%7f",
		"/api%", "/api%2", "/api%zz", "/api%u002f",
		"/public%252fapi", "/public/%252e%252e/api", "/public%25252fapi", "/%25%32%65", "/%2525252e", "/api%253b", "/api%2500", "/%255c", "/a%" + strings.Repeat("25", 10_000),
		"/%c0%af", "/%c0%ae%c0%ae/api", "/%C1%9C", "/%e0%80%af", "/%f0%80%80%af",
		"/public/%e0%80%ae/api",
	}
}

func TestAmbiguousPath(t *testing.T) {
	for _, raw := range ambiguousPaths() {
		if got, err := readPath(raw); err == nil {
			t.Errorf("readPath(%q) = %q", raw, got)
		}
	}
}

// routedEndpoint has a public and two protected paths. Its upstream thinks as most services do: it cleans paths.
func routedEndpoint(f *front, up *tlstest.Upstream) termination.Endpoint {
	return f.endpoint("public.test", up.URL, mode(termination.ModeRequire), route("/public", termination.ModeOff), route("/", termination.ModeRequire))
}

// TestPathBypass asks for protected paths in ways that might look public.
func TestPathBypass(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(routedEndpoint(f, up))
		for _, target := range append(ambiguousPaths(),
			"/public/../api?q", "/public/%2e%2e/api?q", "//public", "*", "/public#/../api", "/public?#", "public", "/public/\xff") {
			a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", target)
			if a.StatusCode != http.StatusBadRequest && a.body != "PROTOCOL_ERROR" {
				t.Errorf("%q: answered %v, want 400", target, a)
			}
		}
		for _, target := range []string{"/api", "/apiary", "/publicity", "/public%20", "/Public", "/%70rivate", "/", "/?/public", "/x/public"} {
			wantRefused(t, f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", target), http.StatusForbidden, "missing")
		}
		if up.Accepted() != 0 {
			t.Error("the upstream was contacted")
		}
		// And what passes is what was asked for.
		for _, target := range []string{
			"/public", "/public/", "/%70ublic", "/public/a%20b", "/public/%C3%A9", "/public/é", "/public/{x}|[y]^`\"<z>", "/public/100%25",
			"/public?", "/public?a=1;b=2&c=%zz", "/public/x?/../y//z", "/public/a:b@c!$&'()*+,=~_-",
		} {
			a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", target)
			wantStatus(t, a, 200)
			if got := echo(t, a).URI; got != target {
				t.Errorf("%q reached the upstream as %q", target, got)
			}
		}
	})
}

// TestTargetThatIsNoPath is about CONNECT, "*" and, in HTTP/2, a path that would end the request line of HTTP/1.1.
func TestTargetThatIsNoPath(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	o := clientOptions{serverName: "public.test"}
	for _, line := range []string{
		"CONNECT public.test:443 HTTP/1.1", "CONNECT /x HTTP/1.1", "OPTIONS * HTTP/1.1", "GET * HTTP/1.1", "GET x HTTP/1.1",
		"GET /a b HTTP/1.1", "GET /a\x01 HTTP/1.1", "GET /a\x7f HTTP/1.1", "GET /a?\x0b HTTP/1.1",
	} {
		wantStatus(t, f.raw(o, line+"\r\nHost: public.test\r\n\r\n"), 400)
	}
	for _, fields := range [][]string{
		{":method", "GET", ":path", "/a b"},
		{":method", "GET", ":path", "/x HTTP/1.1\r\nX-Client-Verify: SUCCESS\r\n\r\n"},
		{":method", "GET", ":path", "/a?b c"},
		{":method", "GET", ":path", "/a\x7f"},
		{":method", "OPTIONS", ":path", "*"},
		{":method", "GET", ":path", "*"},
		{":method", "GET", ":path", ""},
		{":method", "GET", ":path", "https://public.test/"},
	} {
		conn := f.rawH2(o)
		a := conn.answer(conn.Open(true, append(fields, ":scheme", "https", ":authority", "public.test")...))
		if a.StatusCode != 400 && a.StatusCode != 0 {
			t.Errorf("%q answered %v, want 400", fields, a)
		}
	}
	conn := f.rawH2(o)
	if a := conn.answer(conn.Open(true, ":method", "CONNECT", ":authority", "public.test")); a.StatusCode != 400 {
		t.Errorf("CONNECT answered %v", a)
	}
}

// FuzzReadTarget: whatever is accepted means the same to everybody.
func FuzzReadTarget(f *testing.F) {
	for _, p := range append(ambiguousPaths(), "/", "/api", "/a%20b", "/é?x", "/100%25", "https://h/x", "/%2525", "/a?b#c") {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			return
		}
		got, err := readTarget(&http.Request{Method: http.MethodGet, RequestURI: uri, URL: u, Host: u.Host, ProtoMajor: 1})
		if err != nil {
			return
		}
		if !utf8.ValidString(got.raw) || strings.ContainsAny(got.raw, " \r\n\t#?") || !strings.HasPrefix(got.raw, "/") {
			t.Fatalf("%q would be forwarded as %q", uri, got.raw)
		}
		// The standard library reads the forwarded path as we do, from either form.
		again, err := url.ParseRequestURI(got.raw)
		if err != nil || again.Path != got.path {
			t.Fatalf("%q: we read %q, net/url %q, %v", got.raw, got.path, again.Path, err)
		}
		// Cleaning changes nothing, so who cleans and who does not agree; nor does unescaping again and then cleaning.
		for p := got.path; ; {
			if clean := path.Clean(p); clean != p && clean+"/" != p {
				t.Fatalf("%q: %q is clean as %q", uri, p, clean)
			}
			if strings.Count(p, "/") != strings.Count(got.raw, "/") || strings.ContainsAny(p, "\\;\x00\r\n") {
				t.Fatalf("%q has other segments than %q", p, got.raw)
			}
			next, err := url.PathUnescape(p)
			if err != nil || next == p {
				break
			}
			p = next
		}
		// Resolving it as a reference, as clients and some frameworks do, changes nothing either.
		base := &url.URL{Scheme: "https", Host: "h", Path: "/base/x"}
		if resolved := base.ResolveReference(again); resolved.Path != got.path {
			t.Fatalf("%q resolves to %q", got.raw, resolved.Path)
		}
		// What is written to the upstream is what was matched.
		out := &url.URL{Scheme: "http", Host: "h", Path: got.path, Opaque: got.raw, RawQuery: got.query, ForceQuery: got.hasQuery}
		want := got.raw
		if got.hasQuery {
			want += "?" + got.query
		}
		if out.RequestURI() != want || (strings.HasPrefix(uri, "/") && want != uri) {
			t.Fatalf("%q would be written as %q", uri, out.RequestURI())
		}
	})
}

func TestRoutes(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	s := f.table(f.endpoint("public.test", up.URL, route("/api", ""), route("/api/v1", ""), route("/x/y", ""))).Site("ep_public.test")
	for path, want := range map[string]string{
		"/": "", "/api": "/api", "/api/": "/api", "/api/v": "/api", "/api/v1": "/api/v1", "/api/v1/": "/api/v1", "/api/v1/x": "/api/v1",
		"/api/v10": "/api", "/apikeys": "", "/x": "", "/x/y": "/x/y", "/x/y/z": "/x/y", "/x/yz": "", "/API": "",
	} {
		if got := s.route(path).Path; got != want {
			t.Errorf("%s goes by the route %q, want %q", path, got, want)
		}
	}
	root := f.table(f.endpoint("public.test", up.URL, route("/", ""), route("/a", ""))).Site("ep_public.test")
	for path, want := range map[string]string{"/": "/", "/b": "/", "/a": "/a", "/ab": "/"} {
		if got := root.route(path).Path; got != want {
			t.Errorf("%s goes by the route %q, want %q", path, got, want)
		}
	}
}
