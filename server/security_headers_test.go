package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"countersign/store"
)

// TestHeadersOfEveryResponse looks at pages, files, refusals and errors alike.
func TestHeadersOfEveryResponse(t *testing.T) {
	f := signedIn(t, nil)
	check := func(what string, got reply) {
		t.Helper()
		for name, want := range map[string]string{
			"Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		} {
			if values := got.header.Values(name); len(values) != 1 || values[0] != want {
				t.Errorf("%s: %s is %q", what, name, values)
			}
		}
		if cache := got.header.Get("Cache-Control"); cache != "no-store" && what != "a file" {
			t.Errorf("%s: Cache-Control is %q", what, cache)
		}
		for _, name := range []string{"Access-Control-Allow-Origin", "Server", "X-Powered-By"} {
			if v := got.header.Get(name); v != "" {
				t.Errorf("%s: %s is %q", what, name, v)
			}
		}
	}
	for _, r := range f.list {
		if r.kind == kindSocket || r.path == "/settings/sessions/end" || r.path == "/sign-out" {
			continue // the first switches protocols, the others would end the test's own session
		}
		check(r.method+" "+r.path, f.send(r, func(*http.Request) {}))
		check(r.method+" "+r.path+" (foreign)", f.send(r, func(req *http.Request) { req.Host = "evil.example" }))
	}
	check("a missing page", f.get("/nowhere"))
	check("a missing operation", f.get("/api/v1/nowhere"))
	check("a wrong method", f.do(f.request(http.MethodDelete, "/settings", nil, "")))
	check("a file", f.get(f.assets.URL("app.css")))
}

func TestStaticFiles(t *testing.T) {
	f := start(t, nil)
	for _, name := range f.assets.Names() {
		plain := f.get(f.assets.URL(name))
		if plain.status != http.StatusOK || plain.header.Get("Cache-Control") != "public, max-age=31536000, immutable" || plain.header.Get("Content-Encoding") != "" {
			t.Errorf("%s: status %d, headers %v", name, plain.status, plain.header)
		}
		req := f.request(http.MethodGet, f.assets.URL(name), nil, "")
		req.Header.Set("Accept-Encoding", "br, gzip")
		if packed := f.do(req); packed.status != http.StatusOK || len(packed.body) >= len(plain.body) || packed.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s compressed: status %d, %d of %d bytes, encoding %q", name, packed.status, len(packed.body), len(plain.body), packed.header.Get("Content-Encoding"))
		}
	}
	for _, path := range []string{"/static/", "/static/app.css", "/static/0/app.css", "/static/../server.go", strings.Replace(f.assets.URL("app.css"), "app.css", "..%2fdoc.go", 1)} {
		if got := f.get(path); got.status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	if got := f.get("/favicon.ico"); got.header.Get("Location") != f.assets.URL("favicon.svg") {
		t.Errorf("/favicon.ico leads to %q", got.header.Get("Location"))
	}
}

func TestOffLoopbackIsRefused(t *testing.T) {
	st, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	for _, listen := range []string{"0.0.0.0:7443", "[::]:7443", ":7443", "192.168.1.5:7443", "10.0.0.1:0", "example.com:7443", "127.0.0.1.example:1", "localhost.example:1", "0:7443", "", "127.0.0.1", "169.254.0.1:80"} {
		_, err := New(Options{Store: st, Listen: listen})
		if err == nil {
			t.Errorf("%q was accepted", listen)
		} else if !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%q: %v does not say what to do", listen, err)
		}
	}
	for _, listen := range []string{"127.0.0.1:0", "127.5.5.5:0", "[::1]:0", "localhost:0"} {
		if err := checkLoopback(listen); err != nil {
			t.Errorf("%q was refused: %v", listen, err)
		}
	}
}

func TestFixedHosts(t *testing.T) {
	got, err := fixedHosts(netip.MustParseAddrPort("127.0.0.1:7443"), []string{"Gate.Example", "bücher.example", "other.example:80", "10.0.0.7", "[fd00::1]:99"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"10.0.0.7:7443", "127.0.0.1:7443", "[::1]:7443", "[fd00::1]:99", "gate.example:7443", "localhost:7443", "other.example", "other.example:80", "xn--bcher-kva.example:7443",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"", "*", "*.example", "a b", "http://gate.example", "gate.example/x", "gate..example", "gate.example:x:y"} {
		if got, err := fixedHosts(netip.MustParseAddrPort("127.0.0.1:7443"), []string{bad}); err == nil {
			t.Errorf("%q was taken: %q", bad, got)
		}
	}
	at80, err := fixedHosts(netip.MustParseAddrPort("127.0.0.1:80"), nil)
	if err != nil || !slices.Contains(at80, "localhost") || !slices.Contains(at80, "127.0.0.1") {
		t.Errorf("on port 80, browsers leave it out: %q, %v", at80, err)
	}
}
