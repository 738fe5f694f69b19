package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// upstreams are the kinds of services that HTTP is spoken to.
func upstreams(t *testing.T) map[string]func(*termination.Endpoint) {
	ca := tlstest.NewCA()
	https := tlstest.HTTPS(t, &tls.Config{Certificates: []tls.Certificate{ca.Server("service.internal").TLS()}})
	h2c, plain := tlstest.H2C(t), tlstest.HTTP(t)
	return map[string]func(*termination.Endpoint){
		"http": func(e *termination.Endpoint) {
			e.Upstream = termination.Upstream{Scheme: termination.UpstreamHTTP, Address: plain.Addr}
		},
		"h2c": func(e *termination.Endpoint) {
			e.Upstream = termination.Upstream{Scheme: termination.UpstreamH2C, Address: h2c.Addr}
		},
		"https": func(e *termination.Endpoint) {
			e.Upstream = termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: https.Addr}
			e.Upstream.TLS.Roots = append(e.Upstream.TLS.Roots, ca.X509)
			e.Upstream.TLS.ServerName = "service.internal"
		},
	}
}

// everyWay runs a test with each protocol in front and behind.
func everyWay(t *testing.T, test func(t *testing.T, h2 bool, to func(*termination.Endpoint))) {
	for name, to := range upstreams(t) {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) { test(t, h2, to) })
		})
	}
}

func TestForward(t *testing.T) {
	everyWay(t, func(t *testing.T, h2 bool, to func(*termination.Endpoint)) {
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", "http://unused.invalid", to))
		client := f.client(clientOptions{h2: h2, serverName: "public.test"})
		a := f.get(client, "public.test", "/a%20b?c=d&header=X-Back:yes&header=X-Back:twice", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodPut, io.NopCloser(strings.NewReader("body")), 4
			r.Header.Set("Accept-Encoding", "br")
		})
		wantStatus(t, a, 200)
		seen := echo(t, a)
		if seen.Method != "PUT" || seen.URI != "/a%20b?c=d&header=X-Back:yes&header=X-Back:twice" || seen.Host != "public.test" || string(seen.Body) != "body" || seen.ContentLength != 4 {
			t.Errorf("the upstream saw %+v", seen)
		}
		if got := seen.Header.Get("Accept-Encoding"); got != "br" {
			t.Errorf("Accept-Encoding: %q", got)
		}
		if got := a.Header["X-Back"]; fmt.Sprint(got) != "[yes twice]" {
			t.Errorf("X-Back: %q", got)
		}
		if n := f.waitNote(""); n.Upstream == nil || n.Upstream.Connect <= 0 || n.Upstream.Error != "" {
			t.Errorf("noted %+v", n)
		}
		f.noNote(termination.ReasonUpstreamDown)
		if got := f.only().http.Requests(); got != 1 {
			t.Errorf("%d requests were counted", got)
		}
	})
}

func TestStatusAndHead(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL))
		client := f.client(clientOptions{h2: h2, serverName: "public.test"})
		for _, status := range []int{200, 201, 302, 304, 404, 418, 500, 503} {
			wantStatus(t, f.get(client, "public.test", fmt.Sprintf("/?status=%d", status)), status)
		}
		a := f.get(client, "public.test", "/?size=1000", func(r *http.Request) { r.Method = http.MethodHead })
		if a.StatusCode != 200 || a.ContentLength != 1000 || a.body != "" {
			t.Errorf("HEAD answered %v, length %d", a, a.ContentLength)
		}
	})
}

// TestTrailers: trailers pass both ways, also where HTTP/2 meets HTTP/1.1.
func TestTrailers(t *testing.T) {
	everyWay(t, func(t *testing.T, h2 bool, to func(*termination.Endpoint)) {
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", "http://unused.invalid", to))
		a := f.get(f.client(clientOptions{h2: h2, serverName: "public.test"}), "public.test", "/?trailer=the+end", func(r *http.Request) {
			r.Method, r.ContentLength = http.MethodPost, -1
			r.Trailer = http.Header{"X-Sum": nil}
			r.Body = &trailing{Reader: strings.NewReader("body"), end: func() { r.Trailer.Set("X-Sum", "42") }}
		})
		wantStatus(t, a, 200)
		if got := a.Trailer.Get("Echo-Trailer"); got != "the end" {
			t.Errorf("the client got the trailers %v", a.Trailer)
		}
		if got := echo(t, a).Trailer.Get("X-Sum"); got != "42" {
			t.Errorf("the upstream got the trailers %v", echo(t, a).Trailer)
		}
	})
}

// trailing calls end at the end of a body.
type trailing struct {
	io.Reader
	end func()
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.end()
	}
	return n, err
}

func (b *trailing) Close() error { return nil }

// TestBigBodies sends megabytes both ways at once.
func TestBigBodies(t *testing.T) {
	const size = 24 << 20
	both(t, func(t *testing.T, h2 bool) {
		f := newFront(t, frontOptions{})
		up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.Copy(w, r.Body)
		}))
		f.apply(f.endpoint("public.test", up.URL))
		sent, got := sha256.New(), sha256.New()
		r, _ := http.NewRequest(http.MethodPost, "https://"+f.address.String()+"/", io.TeeReader(io.LimitReader(rand.Reader, size), sent))
		r.Host = "public.test"
		res, err := f.client(clientOptions{h2: h2, serverName: "public.test"}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n, err := io.Copy(got, res.Body)
		if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
			t.Errorf("%d of %d bytes came back, %v", n, size, err)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	everyWay(t, func(t *testing.T, h2 bool, to func(*termination.Endpoint)) {
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", "http://unused.invalid", to))
		client := f.client(clientOptions{h2: h2, serverName: "public.test"})
		client.Transport.(*http.Transport).ExpectContinueTimeout = patient // the body waits for the 100
		a := f.get(client, "public.test", "/", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("body")), 4
			r.Header.Set("Expect", "100-continue")
		})
		wantStatus(t, a, 200)
		if got := echo(t, a).Body; string(got) != "body" {
			t.Errorf("the upstream got the body %q", got)
		}
	})
}

// TestExpectContinueRefused: a body that the upstream does not want is never sent.
func TestExpectContinueRefused(t *testing.T) {
	f := newFront(t, frontOptions{})
	up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	}))
	f.apply(f.endpoint("public.test", up.URL))
	a := f.raw(clientOptions{serverName: "public.test"}, "POST / HTTP/1.1\r\nHost: public.test\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
	wantStatus(t, a, http.StatusRequestEntityTooLarge)
}

func TestInformationalAnswers(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f := newFront(t, frontOptions{})
		up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "late")
		}))
		f.apply(f.endpoint("public.test", up.URL))
		var hints []string
		a := f.get(f.client(clientOptions{h2: h2, serverName: "public.test"}), "public.test", "/", func(r *http.Request) {
			*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					hints = append(hints, fmt.Sprint(code, h.Get("Link")))
					return nil
				},
			}))
		})
		if fmt.Sprint(hints) != "[103</style.css>; rel=preload]" || a.body != "late" || a.Header.Get("Link") != "" {
			t.Errorf("hints %q, then %v", hints, a)
		}
	})
}

// TestSwapKeepsUpstreams: idle connections to an upstream outlive a change that leaves it alone, and end with the
// upstream.
func TestSwapKeepsUpstreams(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	client := f.client(clientOptions{serverName: "public.test"})
	for range 5 {
		f.apply(f.endpoint("public.test", up.URL), f.endpoint("new.test", up.URL))
		wantStatus(t, f.get(client, "public.test", "/"), 200)
	}
	if up.Accepted() != 1 {
		t.Errorf("%d connections, want one", up.Accepted())
	}
	closed := make(chan struct{})
	other := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			_, _ = r.ReadByte()
			close(closed)
		}
	})
	f.apply(f.endpoint("public.test", "http://"+other.Addr))
	wantStatus(t, f.get(client, "public.test", "/"), 204)
	f.apply(f.endpoint("public.test", up.URL))
	wait(t, closed, "the idle connection to the former upstream to close")
}
