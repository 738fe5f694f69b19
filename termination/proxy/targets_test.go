package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/proxyproto"
	"countersign/termination/tlstest"
	"countersign/termination/upstream"
)

// behind gives an endpoint these targets and this policy.
func behind(policy termination.UpstreamPolicy, urls ...string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		u, err := termination.ParseUpstreams(urls)
		if err != nil {
			panic(err)
		}
		u.Policy = policy
		e.Upstream = u
	}
}

func post(body io.Reader) func(*http.Request) {
	return func(r *http.Request) {
		r.Method, r.Body = http.MethodPost, io.NopCloser(body)
		r.ContentLength = -1
	}
}

// TestNextTarget: what could not be connected to is tried at the next target, whatever the request, since nothing of it
// was sent. The record names the one that answered.
func TestNextTarget(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		dead, alive := tlstest.Refusing(t), tlstest.HTTP(t)
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{}, "http://"+dead.Addr, alive.URL)))
		client := f.client(clientOptions{h2: h2, serverName: "public.test"})
		for range 3 {
			a := f.get(client, "public.test", "/", post(strings.NewReader("the body")))
			wantStatus(t, a, 200)
			if got := echo(t, a); string(got.Body) != "the body" || got.Method != http.MethodPost {
				t.Errorf("the upstream saw %+v", got)
			}
		}
		f.noNote(termination.ReasonUpstreamDown)
		status := f.proxy.Upstreams(f.proxy.current.Load().table.byID["ep_public.test"].Endpoint.Upstream)
		if status[0].Healthy || !status[1].Healthy || status[0].InUse+status[1].InUse != 0 {
			t.Errorf("%+v", status)
		}
	})
}

// TestAllTargetsDown: the client gets one answer, and the record names the last that was tried.
func TestAllTargetsDown(t *testing.T) {
	one, two := tlstest.Refusing(t), tlstest.Refusing(t)
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{}, "http://"+one.Addr, "http://"+two.Addr)))
	client := f.client(clientOptions{serverName: "public.test"})
	for range 2 {
		wantRefused(t, f.get(client, "public.test", "/", post(strings.NewReader("x"))), 502, "")
	}
	f.waitNote(termination.ReasonUpstreamDown)
}

// dying is a service that answers so many requests on each connection, reads one more, and breaks off.
func dying(t *testing.T, answers int) (up *tlstest.Upstream, requests *atomic.Int64) {
	requests = new(atomic.Int64)
	up = tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		reader := bufio.NewReader(conn)
		for i := range answers + 1 {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			requests.Add(1)
			if i < answers {
				fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		}
	})
	return up, requests
}

// TestSentOnce: a request that may have reached a target is never sent again, unless it changes nothing, has no body, and
// the connection was a kept one.
func TestSentOnce(t *testing.T) {
	for _, c := range []struct {
		method string
		body   string
		again  bool
	}{
		{http.MethodGet, "", true},
		{http.MethodHead, "", true},
		{http.MethodOptions, "", true},
		{http.MethodPost, "", false},
		{http.MethodPost, "x", false},
		{http.MethodPut, "", false},
		{http.MethodPut, "x", false},
		{http.MethodDelete, "", false},
		{http.MethodPatch, "x", false},
	} {
		t.Run(c.method+" "+c.body, func(t *testing.T) {
			up, requests := dying(t, 1)
			other := tlstest.HTTP(t)
			f := newFront(t, frontOptions{})
			ask := func(change func(*http.Request)) int {
				a := f.get(f.client(clientOptions{serverName: "public.test"}), "public.test", "/", change)
				return a.StatusCode
			}
			f.apply(f.endpoint("public.test", "http://"+up.Addr))
			if got := ask(func(*http.Request) {}); got != 204 { // a connection that is kept
				t.Fatalf("answered %d", got)
			}
			change := func(r *http.Request) {
				r.Method = c.method
				if c.body != "" {
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))
				}
			}
			want, sent := 502, int64(2)
			if c.again {
				want, sent = 204, 3 // once more, on a new connection
			}
			if got := ask(change); got != want || requests.Load() != sent {
				t.Errorf("on a kept connection: answered %d after %d requests, want %d after %d", got, requests.Load(), want, sent)
			}
			// On a new connection nothing is sent twice, and nothing goes to another target.
			up, requests = dying(t, 0)
			f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{}, "http://"+up.Addr, other.URL)))
			if got := ask(change); got != 502 || requests.Load() != 1 || other.Requests() != 0 {
				t.Errorf("on a new connection: answered %d after %d and %d requests", got, requests.Load(), other.Requests())
			}
		})
	}
}

// TestSpread: requests of one client connection go round, or to where the fewest are under way.
func TestSpread(t *testing.T) {
	one, two := tlstest.HTTP(t), tlstest.HTTP(t)
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{}, one.URL, two.URL)))
	client := f.client(clientOptions{h2: true, serverName: "public.test"})
	for range 10 {
		wantStatus(t, f.get(client, "public.test", "/"), 200)
	}
	if one.Requests() != 5 || two.Requests() != 5 {
		t.Errorf("%d and %d requests", one.Requests(), two.Requests())
	}
	f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{Balance: termination.BalanceLeastConnections}, one.URL, two.URL)))
	ctx, leave := context.WithCancel(t.Context())
	var hanging sync.WaitGroup
	hanging.Go(func() {
		_, _ = f.try(client, "public.test", "/?hang=1", func(r *http.Request) { *r = *r.WithContext(ctx) })
	})
	status := func() []upstream.TargetStatus {
		return f.proxy.Upstreams(f.proxy.current.Load().table.byID["ep_public.test"].Endpoint.Upstream)
	}
	tlstest.Eventually(t, "the request that hangs", func() bool { return one.Requests()+two.Requests() == 11 })
	busy, idle := one, two
	if status()[1].InUse == 1 {
		busy, idle = two, one
	}
	before := busy.Requests()
	for range 4 {
		wantStatus(t, f.get(client, "public.test", "/"), 200)
	}
	if busy.Requests() != before || idle.Requests() != 9 {
		t.Errorf("%d more requests to the busy one, %d to the other", busy.Requests()-before, idle.Requests())
	}
	leave()
	hanging.Wait()
	tlstest.Eventually(t, "the request to end", func() bool { return status()[0].InUse+status()[1].InUse == 0 })
}

func TestHostOfUpstream(t *testing.T) {
	up := tlstest.HTTP(t)
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{Host: termination.HostUpstream}, up.URL)))
	both(t, func(t *testing.T, h2 bool) {
		got := echo(t, f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/"))
		if got.Host != up.Addr || got.Header.Get("X-Forwarded-Host") != "public.test" {
			t.Errorf("host %q, X-Forwarded-Host %q", got.Host, got.Header.Get("X-Forwarded-Host"))
		}
	})
}

func TestUnixSocketHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: tlstest.EchoHandler(), ReadHeaderTimeout: patient}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "unix:"+path))
	both(t, func(t *testing.T, h2 bool) {
		got := echo(t, f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/a?b"))
		if got.Host != "public.test" || got.URI != "/a?b" || got.Proto != "HTTP/1.1" {
			t.Errorf("the upstream saw %+v", got)
		}
	})
}

// TestStripPrefix: the upstream sees what is left of the target to the byte, and nothing but whole segments is taken.
func TestStripPrefix(t *testing.T) {
	stripped, site := tlstest.HTTP(t), tlstest.HTTP(t)
	f := newFront(t, frontOptions{})
	to, err := termination.ParseUpstream(stripped.URL)
	if err != nil {
		t.Fatal(err)
	}
	f.apply(f.endpoint("public.test", site.URL, func(e *termination.Endpoint) {
		e.Routes = []termination.Route{{Path: "/api/v1", StripPrefix: true, Upstream: &to}, {Path: "/all", Upstream: &to}}
	}))
	both(t, func(t *testing.T, h2 bool) {
		client := f.client(clientOptions{h2: h2, serverName: "public.test"})
		for _, c := range []struct{ asked, seen, prefix string }{
			{"/api/v1", "/", "/api/v1"},
			{"/api/v1/", "/", "/api/v1"},
			{"/api/v1?a=/api/v1", "/?a=/api/v1", "/api/v1"},
			{"/api/v1/x%20y/%c3%A9?q=%2f", "/x%20y/%c3%A9?q=%2f", "/api/v1"},
			{"/%61pi/v%31/x", "/x", "/api/v1"},
			{"/api/v1/api/v1/x", "/api/v1/x", "/api/v1"},
			{"/api/v10", "/api/v10", ""},
			{"/api/v", "/api/v", ""},
			{"/all/api/v1", "/all/api/v1", ""},
		} {
			got := echo(t, f.get(client, "public.test", c.asked, func(r *http.Request) {
				r.URL.Opaque = "//" + r.Host + c.asked
				if i := strings.IndexByte(c.asked, '?'); i >= 0 {
					r.URL.Opaque = "//" + r.Host + c.asked[:i]
				}
				r.Header.Set("X-Forwarded-Prefix", "/forged")
			}))
			if got.URI != c.seen || got.Header.Get("X-Forwarded-Prefix") != c.prefix {
				t.Errorf("%s: the upstream saw %s, prefix %q", c.asked, got.URI, got.Header.Get("X-Forwarded-Prefix"))
			}
		}
		if a := f.get(client, "public.test", "/api/v1/../x"); a.StatusCode != 400 {
			t.Errorf("answered %v", a)
		}
		if a := f.get(client, "public.test", "/api/v1/?status=302&header=Location:/x"); a.Header.Get("Location") != "/x" {
			t.Errorf("Location %q", a.Header.Get("Location"))
		}
	})
}

// within serves the endpoints under these limits.
func (f *front) within(limits termination.Limits, endpoints ...termination.Endpoint) {
	table := f.table(endpoints...)
	for _, s := range table.byID {
		s.limits = limits
	}
	f.proxy.Swap(table)
}

// TestBodyLimit: a body that says it is too large does not reach the upstream, one that turns out to be is cut there.
func TestBodyLimit(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		var whole atomic.Int64
		up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); err == nil {
				whole.Store(n)
				fmt.Fprint(w, n)
			}
		}))
		f := newFront(t, frontOptions{})
		limits := termination.DefaultLimits()
		limits.Body = 100 << 10
		f.within(limits, f.endpoint("public.test", up.URL))
		send := func(n int, sized bool) answer {
			client := f.client(clientOptions{h2: h2, serverName: "public.test"})
			return f.get(client, "public.test", "/", func(r *http.Request) {
				r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(bytes.NewReader(make([]byte, n))), -1
				if sized {
					r.ContentLength = int64(n)
					r.Header.Set("Expect", "100-continue") // else HTTP/1.1 breaks off while it sends
				}
			})
		}
		for _, sized := range []bool{true, false} {
			if a := send(100<<10, sized); a.StatusCode != 200 || a.body != "102400" {
				t.Errorf("at the limit: %v", a)
			}
			whole.Store(0)
			before := up.Requests()
			wantRefused(t, send(100<<10+1, sized), 413, "")
			if whole.Load() != 0 || sized && up.Requests() != before {
				t.Errorf("the upstream got it: %d", whole.Load())
			}
		}
		f.noNote(termination.ReasonUpstreamDown)
	})
}

func TestHeaderLimit(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		up := tlstest.HTTP(t)
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", up.URL))
		client := f.client(clientOptions{h2: h2, serverName: "public.test"})
		big := func(n int) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set("X-Big", strings.Repeat("x", n)) }
		}
		wantStatus(t, f.get(client, "public.test", "/", big(31<<10)), 200)
		wantRefused(t, f.get(client, "public.test", "/", big(33<<10)), 431, "")
		if up.Requests() != 1 {
			t.Errorf("%d requests reached the upstream", up.Requests())
		}
	})
}

// TestForwardedByAProxy: what a peer says in X-Forwarded headers is replaced, unless it sends PROXY headers here.
func TestForwardedByAProxy(t *testing.T) {
	up := tlstest.HTTP(t)
	for _, c := range []struct {
		name, listed            string
		forHeader, host, scheme string
	}{
		{"a client", "192.0.2.0/24", "127.0.0.1", "public.test", "https"},
		{"a listed proxy", "127.0.0.0/8", "203.0.113.9, 198.51.100.2, 127.0.0.1", "shop.example", "http"},
	} {
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", up.URL, func(e *termination.Endpoint) {
			e.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix(c.listed)}
		}))
		got := echo(t, f.get(f.client(clientOptions{serverName: "public.test"}), "public.test", "/", func(r *http.Request) {
			r.Header["X-Forwarded-For"] = []string{"203.0.113.9", "198.51.100.2"}
			r.Header.Set("X-Forwarded-Host", "shop.example")
			r.Header.Set("X-Forwarded-Proto", "http")
			r.Header.Set("X-Forwarded-Client-Cert", "forged")
			r.Header.Set("X_Forwarded_For", "forged")
		}))
		h := got.Header
		if h.Get("X-Forwarded-For") != c.forHeader || h.Get("X-Forwarded-Host") != c.host || h.Get("X-Forwarded-Proto") != c.scheme ||
			h.Get("X-Forwarded-Client-Cert") != "" || h[http.CanonicalHeaderKey("X_Forwarded_For")] != nil || h.Get("X-Real-Ip") != "127.0.0.1" {
			t.Errorf("%s: the upstream saw %v", c.name, h)
		}
	}
}

// proxied is an HTTP service behind connections that begin with a PROXY header. It answers with the header's source and
// counts connections.
func proxied(t *testing.T) (up *tlstest.Upstream, opened, closed *atomic.Int64) {
	opened, closed = new(atomic.Int64), new(atomic.Int64)
	up = tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		h, err := proxyproto.Read(conn)
		if err != nil {
			t.Errorf("no PROXY header came to the upstream: %v", err)
			return
		}
		opened.Add(1)
		defer closed.Add(1)
		buf := make([]byte, 64<<10)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			source := h.Source.String()
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(source), source)
		}
	})
	return up, opened, closed
}

// TestPROXYToHTTP: a connection that names a client carries no request of another, is kept as long as the client stays,
// and no longer.
func TestPROXYToHTTP(t *testing.T) {
	for _, version := range []termination.ProxyProtocol{termination.ProxyProtocolV1, termination.ProxyProtocolV2} {
		both(t, func(t *testing.T, h2 bool) {
			up, opened, closed := proxied(t)
			f := newFront(t, frontOptions{})
			f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{ProxyProtocol: version}, "http://"+up.Addr)))
			seen := map[string]bool{}
			for range 2 {
				client := f.client(clientOptions{h2: h2, serverName: "public.test"})
				one := f.get(client, "public.test", "/").body
				if two := f.get(client, "public.test", "/").body; two != one || seen[one] || !strings.HasPrefix(one, "127.0.0.1:") {
					t.Errorf("the upstream heard of %s, then %s", one, two)
				}
				seen[one] = true
				client.CloseIdleConnections()
			}
			if opened.Load() != 2 {
				t.Errorf("%d connections to the upstream for two clients", opened.Load())
			}
			tlstest.Eventually(t, "the connections of clients that left to close", func() bool { return closed.Load() == 2 })
		})
	}
}

// TestSilentTarget: one that takes connections and answers nothing costs a few requests their answer, which are not sent
// elsewhere, and is then left out.
func TestSilentTarget(t *testing.T) {
	silent, alive := tlstest.Silent(t), tlstest.HTTP(t)
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "http://unused.invalid", behind(termination.UpstreamPolicy{ResponseTimeout: 100 * time.Millisecond}, "http://"+silent.Addr, alive.URL)))
	client := f.client(clientOptions{serverName: "public.test"})
	status := func() upstream.TargetStatus {
		return f.proxy.Upstreams(f.proxy.current.Load().table.byID["ep_public.test"].Endpoint.Upstream)[0]
	}
	failed := 0
	for i := 0; status().Healthy && i < 20; i++ {
		if a := f.get(client, "public.test", "/"); a.StatusCode == 504 {
			failed++
		}
	}
	if failed != 3 || silent.Accepted() != 3 || status().LastError == "" {
		t.Errorf("%d requests failed on %d connections: %+v", failed, silent.Accepted(), status())
	}
	wantStatus(t, f.get(client, "public.test", "/"), 200)
}
