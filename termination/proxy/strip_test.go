package proxy

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// forgedNames are names of headers by which some service somewhere would believe a client.
func forgedNames() []string {
	return []string{
		"X-Client-Verify", "X-Client-CN", "X-Client-DN", "X-Client-Issuer-DN", "X-Client-Serial", "X-Client-Fingerprint", "X-Client-Cert",
		"X-Client-Cert-Present", "X-Client-Cert-Chain-Verified", "X-Client-IP",
		"X-SSL-Client-Verify", "X-SSL-Client-S-DN", "X-SSL-Client-I-DN", "X-SSL-Client-Serial", "X-SSL-Client-Fingerprint", "X-SSL-Client-Cert", "X-SSL-CERT",
		"X_SSL_Client_Verify", "x-ssl_client.verify", "X.SSL.Client.Verify", "X_Client_Verify", "x_client-cn", "X-CLIENT-VERIFY", "X!Client~Verify",
		"SSL-Client-Verify", "SSL_CLIENT_CERT", "ssl-client-subject-dn", "Ssl-Client-Issuer-Dn", "SSL_CLIENT_S_DN_CN",
		"Client-Cert", "Client-Cert-Chain", "client_cert", "CLIENT.CERT", "Client-Certificate",
		"X-Forwarded-Client-Cert", "x_forwarded_client_cert", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info",
		"X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Subject", "X-Amzn-Mtls-Clientcert-Leaf",
		"Cf-Client-Cert-Der-Base64", "CF-Client-Cert-Sha256", "Cf-Cert-Verified", "Cf-Cert-Subject-Dn", "CF-Connecting-IP", "True-Client-IP",
		"CloudFront-Viewer-Cert-Subject", "CloudFront-Viewer-Cert-Sha256", "CloudFront-Viewer-Address",
		"X-Envoy-Internal", "X-Envoy-Peer-Metadata", "X-Envoy-External-Address",
		"X-ARR-ClientCert", "WL-Proxy-Client-Cert", "$WSCC", "X-ClientCert", "X-TLS-Client-CN", "X-MTLS-Subject",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-User", "X-Forwarded-Prefix", "X_Forwarded_For", "Forwarded", "X-Forwarded", "X-Real-IP", "X_Real_IP",
		"X-Original-URL", "X-Rewrite-URL", "X-Original-Forwarded-For", "X-Cluster-Client-IP", "Fastly-Client-IP",
		"Proxy", "X-Countersign-Identity",
	}
}

func TestIdentityHeaderNames(t *testing.T) {
	for _, name := range forgedNames() {
		for _, spelled := range []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", ".")} {
			if !identityHeader(spelled) {
				t.Errorf("%s would pass", spelled)
			}
		}
	}
	for _, name := range []string{
		"Accept", "Authorization", "Cookie", "User-Agent", "X-Request-Id", "Traceparent", "X-Clients", "Client-Id", "X-Api-Key", "Sec-WebSocket-Key",
		"Content-Type", "Sec-Ch-Ua", "Proxy-Status", "Cfg", "X-Real", "SSLish", "", "Ws", "X-Amzn-Trace-Id", "Grpc-Timeout", "Te",
	} {
		if identityHeader(name) {
			t.Errorf("%q would be removed", name)
		}
	}
}

// FuzzIdentityHeader: no spelling that a service cannot tell from a forged name passes, and stripping removes exactly
// what is an identity header.
func FuzzIdentityHeader(f *testing.F) {
	for _, name := range forgedNames() {
		f.Add(name, "-", "a=1; countersign_session=x")
	}
	f.Add("Accept", "_", "countersign_=; b=2")
	f.Fuzz(func(t *testing.T, name, separator, cookie string) {
		h := http.Header{name: {"1"}, "Cookie": {cookie}, "Accept": {"*/*"}}
		bad := identityHeader(name)
		// As CGI would see it.
		cgi := func(s string) string {
			return strings.Map(func(r rune) rune {
				switch {
				case r >= 'a' && r <= 'z':
					return r - 'a' + 'A'
				case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
					return r
				}
				return '_'
			}, s)
		}
		if ascii(name) && identityHeader(cgi(name)) != bad {
			t.Fatalf("%q and %q are treated differently", name, cgi(name))
		}
		strip(h, nil)
		if _, there := h[name]; there && bad {
			t.Fatalf("%q passed", name)
		}
		if !bad && !slices.Contains([]string{"Cookie", "Host", "Upgrade"}, name) && h[name] == nil {
			t.Fatalf("%q was removed", name)
		}
		for _, line := range h["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				if strings.HasPrefix(strings.TrimSpace(pair), "countersign_") {
					t.Fatalf("%q became %q", cookie, line)
				}
			}
		}
	})
}

func ascii(s string) bool { return strings.IndexFunc(s, notASCII) < 0 }

func TestCookies(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a=1", "a=1"},
		{"a=1; b=2", "a=1; b=2"},
		{"countersign_session=x", ""},
		{"countersign_session=x; a=1", "a=1"},
		{"a=1; countersign_session=x", "a=1"},
		{"a=1; countersign_session=x; b=2", "a=1; b=2"},
		{"a=1;countersign_csrf=x;b=2", "a=1;b=2"},
		{"Countersign_Session=x; a=\"q;r\"", "a=\"q;r\""},
		{"__Host-countersign_session=x; __Secure-countersign_session=y; __Host-a=1", "__Host-a=1"},
		{"__Host-Http-countersign_session=x", ""},
		{"a=countersign_session", "a=countersign_session"},
		{"my_countersign_session=1", "my_countersign_session=1"},
		{"countersign=1; countersign_", "countersign=1"},
		{"  countersign_session =x ; a=1", "a=1"},
		{"a==;; b", "a==;; b"},
	} {
		h := http.Header{"Cookie": {c.in}}
		stripCookies(h)
		if got := strings.Join(h["Cookie"], "|"); got != c.want {
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
	h := http.Header{"Cookie": {"a=1", "countersign_session=x", "b=2"}}
	stripCookies(h)
	if !slices.Equal(h["Cookie"], []string{"a=1", "b=2"}) {
		t.Errorf("left %q", h["Cookie"])
	}
}

// TestForgedHeaders sends every known identity header to endpoints that do and do not forward identity themselves.
func TestForgedHeaders(t *testing.T) {
	for _, forwards := range []bool{false, true} {
		t.Run(fmt.Sprint("forwards=", forwards), func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				e := f.endpoint("public.test", up.URL)
				if forwards {
					forwardNginx(&e)
				}
				f.apply(e)
				header := []string{"X-Harmless", "yes"}
				for _, name := range forgedNames() {
					header = append(header, name, "FORGED", name, "FORGED again")
				}
				header = append(header, "Connection-Of-Mine", "yes")
				a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/", header...)
				wantStatus(t, a, 200)
				seen := echo(t, a).Header
				checkForged(t, seen)
				if seen.Get("X-Harmless") != "yes" || seen.Get("Connection-Of-Mine") != "yes" {
					t.Errorf("harmless headers are missing in %v", seen)
				}
				if want := map[bool]string{true: "NONE"}[forwards]; seen.Get("X-Client-Verify") != want {
					t.Errorf("X-Client-Verify: %q, want %q", seen.Get("X-Client-Verify"), want)
				}
			})
		})
	}
}

// checkForged fails the test if anything that the client said about itself is there.
func checkForged(t *testing.T, h http.Header) {
	t.Helper()
	for name, values := range h {
		for _, v := range values {
			if strings.Contains(v, "FORGED") {
				t.Errorf("%s: %s reached the upstream", name, v)
			}
		}
	}
}

// TestHopByHopTrick names our headers in Connection, so that a proxy removes them as hop-by-hop.
func TestHopByHopTrick(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), forwardNginx))
	o := clientOptions{serverName: "public.test", cert: f.clients.Client("alice")}
	a := f.ask(false, o, "public.test", "/",
		"Connection", "X-Client-Verify, X-Client-CN, x-client-cert, X-Forwarded-For, X-Forwarded-Proto, Forwarded, X-Real-IP, close", "X-Client-CN", "FORGED")
	wantStatus(t, a, 200)
	seen := echo(t, a).Header
	checkForged(t, seen)
	for name, want := range map[string]string{"X-Client-Verify": "SUCCESS", "X-Client-Cn": "alice", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Real-Ip": "127.0.0.1"} {
		if got := seen.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if seen.Get("X-Client-Cert") == "" || seen.Get("Forwarded") == "" {
		t.Errorf("missing in %v", seen)
	}
}

func TestCookieOfDashboard(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL))
		a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/?header=Set-Cookie:countersign_session=evil&header=Set-Cookie:mine=1",
			"Cookie", "a=1; countersign_session=secret; b=2", "Cookie", "countersign_csrf=secret")
		seen := echo(t, a)
		if strings.Contains(a.body, "secret") {
			t.Errorf("the upstream saw %v", seen.Header["Cookie"])
		}
		if got := strings.Join(seen.Header["Cookie"], "; "); got != "a=1; b=2" {
			t.Errorf("the upstream saw the cookies %q", got)
		}
		if got := a.Header["Set-Cookie"]; !slices.Equal(got, []string{"mine=1"}) {
			t.Errorf("the client got the cookies %q", got)
		}
	})
}

// TestForwardedHeaders: what the client says about where it comes from is replaced.
func TestForwardedHeaders(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	a := f.ask(false, clientOptions{serverName: "public.test"}, "Public.test:8443", "/", "X-Forwarded-For", "FORGED", "X-Forwarded-For", "FORGED", "Forwarded", "for=FORGED")
	seen := echo(t, a)
	for name, want := range map[string]string{
		"Forwarded": `for=127.0.0.1;host="Public.test:8443";proto=https`, "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "Public.test:8443",
		"X-Forwarded-Proto": "https", "X-Forwarded-Port": fmt.Sprint(f.address.Port()), "X-Real-Ip": "127.0.0.1",
	} {
		if got := seen.Header[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestForgedTrailers: HTTP/1.1 and HTTP/2 carry headers behind the body, too.
func TestForgedTrailers(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL, forwardNginx))
		var a answer
		if h2 {
			c := f.rawH2(clientOptions{serverName: "public.test"})
			id := c.Open(false, ":method", "POST", ":scheme", "https", ":authority", "public.test", ":path", "/",
				"trailer", "x-client-verify, x-sum, x_ssl_client_verify, cookie")
			c.Must(c.Framer.WriteData(id, false, []byte("body")))
			c.Trailers(id, "x-client-verify", "FORGED", "x-sum", "42", "x_ssl_client_verify", "FORGED", "cookie", "FORGED", "x-unannounced", "FORGED", "client-cert", "FORGED")
			a = c.answer(id)
		} else {
			a = f.raw(clientOptions{serverName: "public.test"}, "POST / HTTP/1.1\r\nHost: public.test\r\nTransfer-Encoding: chunked\r\n"+
				"Trailer: X-Client-Verify, X-Sum, X_SSL_Client_Verify, Cookie\r\n\r\n4\r\nbody\r\n0\r\n"+
				"X-Client-Verify: FORGED\r\nX-Sum: 42\r\nX_SSL_Client_Verify: FORGED\r\nCookie: FORGED\r\nX-Unannounced: FORGED\r\nClient-Cert: FORGED\r\n\r\n")
		}
		wantStatus(t, a, 200)
		seen := echo(t, a)
		checkForged(t, seen.Header)
		checkForged(t, seen.Trailer)
		if seen.Trailer.Get("X-Sum") != "42" || string(seen.Body) != "body" {
			t.Errorf("the upstream saw the trailers %v and the body %q", seen.Trailer, seen.Body)
		}
		if got := seen.Header["X-Client-Verify"]; !slices.Equal(got, []string{"NONE"}) {
			t.Errorf("X-Client-Verify: %q", got)
		}
	})
}

// TestUpgradeToAnotherProtocol: an upstream that spoke h2c in a tunnel would take requests that nobody judged.
func TestUpgradeToAnotherProtocol(t *testing.T) {
	var up *tlstest.Upstream
	for _, token := range []string{"h2c", "websocket, h2c", "tcp", "TLS/1.0"} {
		f := newFront(t, frontOptions{})
		up = tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" || r.Header.Get("Http2-Settings") != "" {
				t.Errorf("the upstream was asked to upgrade to %q", r.Header.Get("Upgrade"))
			}
			_, _ = io.WriteString(w, "plain")
		}))
		f.apply(f.endpoint("public.test", up.URL))
		a := f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/",
			"Connection", "Upgrade, HTTP2-Settings", "Upgrade", token, "HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
		if a.StatusCode != 200 || a.body != "plain" {
			t.Errorf("%s: answered %v", token, a)
		}
	}
}
