package proxy

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// hostCase is a Host asked for over a connection that was made with another server name.
type hostCase struct {
	name       string
	serverName string
	host       string
	status     int
}

func hostCases() []hostCase {
	return []hostCase{
		{"own name", "public.test", "public.test", 200},
		{"own name, other case", "public.test", "PuBlic.Test", 200},
		{"own name, trailing dot", "public.test", "public.test.", 200},
		{"own name, port", "public.test", "public.test:8443", 200},
		{"own name, dot and port", "public.test", "public.test.:8443", 200},
		{"own name, empty port", "public.test", "public.test:", 200},
		{"protected name", "public.test", "private.test", 421},
		{"protected name, other case", "public.test", "PRIVATE.test", 421},
		{"protected name, trailing dot", "public.test", "private.test.", 421},
		{"protected name, port", "public.test", "private.test:443", 421},
		{"protected name, foreign port", "public.test", "private.test:1", 421},
		{"protected wildcard", "public.test", "a.wild.test", 421},
		{"within one wildcard", "a.wild.test", "b.wild.test", 200},
		{"below a wildcard", "a.wild.test", "b.a.wild.test", 421},
		{"parent of a wildcard", "a.wild.test", "wild.test", 421},
		{"the wildcard itself", "a.wild.test", "*.wild.test", 400},
		{"from wildcard to exact", "a.wild.test", "private.test", 421},
		{"exact name under a wildcard", "a.wild.test", "own.wild.test", 421},
		{"name of a tls endpoint", "public.test", "raw.test", 421},
		{"name of a passthrough endpoint", "public.test", "sealed.test", 421},
		{"unknown name", "public.test", "unknown.test", 421},
		{"IPv4", "public.test", "127.0.0.1", 421},
		{"IPv4 and port", "public.test", "127.0.0.1:8443", 421},
		{"IPv6", "public.test", "[::1]", 421},
		{"IPv6 and port", "public.test", "[::1]:8443", 421},
		{"empty label", "public.test", "private..test", 400},
		{"two names", "public.test", "public.test,private.test", 400},
	}
}

func hostEndpoints(f *front, up *tlstest.Upstream) []termination.Endpoint {
	return []termination.Endpoint{
		f.endpoint("public.test", up.URL),
		f.endpoint("private.test", up.URL, mode(termination.ModeRequire)),
		f.endpoint("wild.test.example", up.URL, func(e *termination.Endpoint) { e.Aliases = []string{"*.wild.test"} }),
		f.endpoint("own.wild.test", up.URL, mode(termination.ModeRequire)),
		f.endpoint("raw.test", up.URL, func(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS }),
		f.endpoint("sealed.test", up.URL, func(e *termination.Endpoint) {
			e.Scheme, e.TerminateAt = termination.SchemeTLS, termination.AtUpstream
		}),
	}
}

// TestHostOfAnotherEndpoint is domain fronting (CVE-2026-48491): a connection made to a public endpoint asks for a
// protected one.
func TestHostOfAnotherEndpoint(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		for _, c := range hostCases() {
			t.Run(c.name, func(t *testing.T) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.apply(hostEndpoints(f, up)...)
				a := f.ask(h2, clientOptions{serverName: c.serverName}, c.host, "/")
				wantStatus(t, a, c.status)
				if c.status == 200 {
					if got := echo(t, a).Host; got != c.host {
						t.Errorf("the upstream saw the host %q, want %q", got, c.host)
					}
					f.noNote(termination.ReasonHostMismatch)
					return
				}
				wantRefused(t, a, c.status, "")
				if up.Accepted() != 0 {
					t.Error("the upstream was contacted")
				}
				if c.status == http.StatusMisdirectedRequest {
					f.waitNote(termination.ReasonHostMismatch)
				}
			})
		}
	})
}

// TestAbsoluteTarget follows RFC 9112, section 3.2.2: the host of an absolute target counts, and the upstream gets no
// other.
func TestAbsoluteTarget(t *testing.T) {
	for _, c := range []struct {
		name, target, host string
		status             int
		seen               string // by the upstream
	}{
		{"own", "https://public.test/a", "public.test", 200, "/a"},
		{"no path", "https://public.test", "public.test", 200, "/"},
		{"only a query", "https://public.test?q", "public.test", 200, "/?q"},
		{"another in Host", "https://public.test/a", "private.test", 200, "/a"},
		{"another in the target", "https://private.test/a", "public.test", 421, ""},
		{"user", "https://public.test@private.test/a", "public.test", 421, ""},
		{"user of our own", "https://x@public.test/a", "public.test", 400, ""},
		{"http", "http://public.test/a", "public.test", 400, ""},
		{"opaque", "https:public.test/a", "public.test", 400, ""},
		{"no host", "https:///a", "public.test", 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
			f.apply(hostEndpoints(f, up)...)
			a := f.ask(false, clientOptions{serverName: "public.test"}, c.host, c.target)
			wantStatus(t, a, c.status)
			if c.status != 200 {
				if up.Accepted() != 0 {
					t.Error("the upstream was contacted")
				}
				return
			}
			if e := echo(t, a); e.Host != "public.test" || e.URI != c.seen {
				t.Errorf("the upstream saw %s of %s, want %s of public.test", e.URI, e.Host, c.seen)
			}
		})
	}
}

func TestTwoHosts(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		status int
	}{
		{"the same", []string{":authority", "public.test", "host", "public.test"}, 200},
		{"another", []string{":authority", "public.test", "host", "private.test"}, 400},
		{"one of two", []string{":authority", "public.test", "host", "public.test", "host", "private.test"}, 400},
		{"other spelling", []string{":authority", "public.test", "host", "PUBLIC.test"}, 200},
		{"none but Host", []string{"host", "public.test"}, 200},
		{"Host of another", []string{"host", "private.test"}, 421},
		{"none", nil, 400},
		{"not ASCII", []string{":authority", "públic.test"}, 400},
		{"quotes in a zone", []string{":authority", `[fe80::1%";x]`}, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
			f.apply(hostEndpoints(f, up)...)
			conn := f.rawH2(clientOptions{serverName: "public.test"})
			fields := []string{":method", "GET", ":scheme", "https", ":path", "/"}
			for i := 0; i < len(c.fields); i += 2 { // pseudo-headers come first
				if strings.HasPrefix(c.fields[i], ":") {
					fields = append(fields, c.fields[i], c.fields[i+1])
				}
			}
			for i := 0; i < len(c.fields); i += 2 {
				if !strings.HasPrefix(c.fields[i], ":") {
					fields = append(fields, c.fields[i], c.fields[i+1])
				}
			}
			a := conn.answer(conn.Open(true, fields...))
			wantStatus(t, a, c.status)
			if c.status == 200 && echo(t, a).Host != "public.test" {
				t.Errorf("the upstream saw the host %q", echo(t, a).Host)
			}
			if c.status != 200 && up.Accepted() != 0 {
				t.Error("the upstream was contacted")
			}
		})
	}
}

func TestHostMissing(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(hostEndpoints(f, up)...)
	for _, request := range []string{
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: public.test\r\nHost: public.test\r\n\r\n",
	} {
		wantStatus(t, f.raw(clientOptions{serverName: "public.test"}, request), 400)
	}
	if up.Accepted() != 0 {
		t.Error("the upstream was contacted")
	}
}

// TestFallback is about connections without a server name: they may reach another endpoint, but only by meeting its
// policy.
func TestFallback(t *testing.T) {
	const none = "127.0.0.1" // is not sent in a ClientHello
	both(t, func(t *testing.T, h2 bool) {
		for _, c := range []struct {
			name       string
			serverName string
			host       string
			cert       func(*front) *tlstest.Cert
			tls12      bool
			status     int
			code       string
		}{
			{"IP literal", none, "127.0.0.1", nil, false, 200, ""},
			{"IPv6 literal", none, "[::1]:8443", nil, false, 200, ""},
			{"unknown name", none, "unknown.test", nil, false, 200, ""},
			{"unknown name in both", "open.test", "open.test", nil, false, 200, ""},
			{"unknown name, then IP literal", "open.test", "127.0.0.1", nil, false, 200, ""},
			{"no certificate", none, "private.test", nil, false, 403, "missing"},
			{"the right certificate", none, "private.test", func(f *front) *tlstest.Cert { return f.clients.Client("alice") }, false, 200, ""},
			{"a wrong certificate", none, "private.test", func(f *front) *tlstest.Cert { return f.others.Client("alice") }, false, 403, "invalid"},
			{"the right certificate, TLS too old", none, "strict.test", func(f *front) *tlstest.Cert { return f.clients.Client("alice") }, true, 403, "not_allowed"},
			{"the right certificate and TLS", none, "strict.test", func(f *front) *tlstest.Cert { return f.clients.Client("alice") }, false, 200, ""},
			{"not HTTP", none, "raw.test", nil, false, 421, ""},
			{"a server name, then another host", "open.test", "private.test", func(f *front) *tlstest.Cert { return f.clients.Client("alice") }, false, 421, ""},
			{"another endpoint, then the fallback", "private.test", "127.0.0.1", func(f *front) *tlstest.Cert { return f.clients.Client("alice") }, false, 421, ""},
			{"not a name", none, "a..b", nil, false, 400, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.apply(
					f.endpoint("", up.URL),
					f.endpoint("private.test", up.URL, mode(termination.ModeRequire)),
					f.endpoint("strict.test", up.URL, mode(termination.ModeRequire), func(e *termination.Endpoint) { e.MinVersion = tls.VersionTLS13 }),
					f.endpoint("raw.test", up.URL, func(e *termination.Endpoint) { e.Scheme = termination.SchemeTLS }),
				)
				o := clientOptions{serverName: c.serverName}
				if c.cert != nil {
					o.cert = c.cert(f)
				}
				if c.tls12 {
					o.maxVersion = tls.VersionTLS12
				}
				a := f.ask(h2, o, c.host, "/")
				if c.status == 200 {
					wantStatus(t, a, 200)
					return
				}
				wantRefused(t, a, c.status, c.code)
				if up.Accepted() != 0 {
					t.Error("the upstream was contacted")
				}
			})
		}
	})
}
