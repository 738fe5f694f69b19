package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

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

// TestServerSentEvents: each event passes when it is sent, not when more has come.
func TestServerSentEvents(t *testing.T) {
	everyWay(t, func(t *testing.T, h2 bool, to func(*termination.Endpoint)) {
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", "http://unused.invalid", to))
		ctx, leave := context.WithCancel(context.Background())
		defer leave()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+f.address.String()+"/?events=3", nil)
		r.Host = "public.test"
		res, err := f.client(clientOptions{h2: h2, serverName: "public.test"}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		events := bufio.NewReader(res.Body) // the stream stays open behind the third
		for i := range 3 {
			for _, want := range []string{fmt.Sprintf("id: %d\n", i), fmt.Sprintf("data: event %d\n", i), "\n"} {
				if line, err := events.ReadString('\n'); err != nil || line != want {
					t.Fatalf("read %q, %v, want %q", line, err, want)
				}
			}
		}
	})
}

// TestKnownLengthIsNotHeldBack: an answer whose length is known but which comes in parts is not held back for the rest.
func TestKnownLengthIsNotHeldBack(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f := newFront(t, frontOptions{})
		finish := make(chan struct{})
		up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			<-finish
			_, _ = io.WriteString(w, "b")
		}))
		f.apply(f.endpoint("public.test", up.URL))
		r, _ := http.NewRequest(http.MethodGet, "https://"+f.address.String()+"/", nil)
		r.Host = "public.test"
		res, err := f.client(clientOptions{h2: h2, serverName: "public.test"}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		one := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, one); err != nil || one[0] != 'a' {
			t.Fatalf("read %q, %v", one, err)
		}
		close(finish)
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "b" {
			t.Errorf("read %q, %v", rest, err)
		}
	})
}

func TestWebSocket(t *testing.T) {
	f := newFront(t, frontOptions{})
	kinds := upstreams(t)
	for _, name := range []string{"http", "https"} {
		t.Run(name, func(t *testing.T) {
			f.apply(f.endpoint("public.test", "http://unused.invalid", kinds[name], mode(termination.ModeRequire)))
			ws := f.websocket(clientOptions{serverName: "public.test", cert: f.clients.Client("alice")}, "/socket?x")
			for _, message := range []string{"one", strings.Repeat("two", 100_000), ""} {
				if err := ws.WriteMessage(websocket.BinaryMessage, []byte(message)); err != nil {
					t.Fatal(err)
				}
				kind, got, err := ws.ReadMessage()
				if err != nil || kind != websocket.BinaryMessage || string(got) != message {
					t.Fatalf("%d bytes came back as %d bytes, %v", len(message), len(got), err)
				}
			}
			if err := ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye"), time.Now().Add(patient)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("the close frame came back as %v", err)
			}
		})
	}
	t.Run("h2c", func(t *testing.T) {
		f.apply(f.endpoint("public.test", "http://unused.invalid", kinds["h2c"]))
		a := f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/", "Connection", "Upgrade", "Upgrade", "websocket",
			"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		wantRefused(t, a, http.StatusNotImplemented, "")
	})
	t.Run("refused", func(t *testing.T) {
		f.apply(f.endpoint("public.test", "http://unused.invalid", kinds["http"], mode(termination.ModeRequire)))
		dialer := websocket.Dialer{TLSClientConfig: f.tlsConfig(clientOptions{serverName: "public.test"})}
		_, res, err := dialer.Dial("wss://"+f.address.String()+"/", http.Header{"Host": {"public.test"}}) //nolint:bodyclose // the library has read it
		if err == nil || res == nil || res.StatusCode != 403 {
			t.Errorf("the upgrade was answered with %v, %v", res, err)
		}
	})
}

// TestWebSocketEndsWithItsClient: when the client's connection ends, so does the upstream's.
func TestWebSocketEndsWithItsClient(t *testing.T) {
	f := newFront(t, frontOptions{})
	left := make(chan struct{})
	up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(io.Discard, r)
		close(left)
	})
	f.apply(f.endpoint("public.test", "http://"+up.Addr))
	conn := f.dial(clientOptions{serverName: "public.test"})
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: public.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // there is none
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("answered %v, %v", res, err)
	}
	_ = f.only().raw.Close()
	wait(t, left, "the upstream's connection to end")
}

// TestUpstreamSwitchesUnasked: an upstream must not take a connection over that did not ask for it.
func TestUpstreamSwitchesUnasked(t *testing.T) {
	f := newFront(t, frontOptions{})
	up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
		}
	})
	f.apply(f.endpoint("public.test", "http://"+up.Addr))
	wantRefused(t, f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/"), 502, "")
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

// TestUpstreamFails: whatever the upstream does wrong is answered, noted and explained, and never blamed on the client.
func TestUpstreamFails(t *testing.T) {
	ca := tlstest.NewCA()
	foreign := tlstest.HTTPS(t, &tls.Config{Certificates: []tls.Certificate{tlstest.NewCA().Server("service.internal").TLS()}})
	wrongName := tlstest.HTTPS(t, &tls.Config{Certificates: []tls.Certificate{ca.Server("other.internal").TLS()}})
	https := func(address string) termination.Upstream {
		u := termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: address}
		u.TLS.Roots, u.TLS.ServerName = append(u.TLS.Roots, ca.X509), "service.internal"
		return u
	}
	plain := func(address string) termination.Upstream {
		return termination.Upstream{Scheme: termination.UpstreamHTTP, Address: address}
	}
	garbage := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) { fmt.Fprint(conn, "220 mail ready\r\n") })
	bigHeader := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Big", strings.Repeat("x", maxResponseHeader+1000))
	}))
	for _, c := range []struct {
		name   string
		to     termination.Upstream
		status int
		detail string
	}{
		{"nobody listens", plain(tlstest.Refusing(t).Addr), 502, "Cannot connect to http://"},
		{"name does not resolve", plain("does-not-exist.invalid:80"), 502, "Cannot connect to http://does-not-exist.invalid:80"},
		{"resets", plain(tlstest.Resetting(t).Addr), 502, "broke off"},
		{"speaks something else", plain(garbage.Addr), 502, "broke off"},
		{"header too large", plain(bigHeader.Addr), 502, "broke off"},
		{"unknown CA", https(foreign.Addr), 502, "The certificate of https://"},
		{"wrong name", https(wrongName.Addr), 502, "The certificate of https://"},
		{"no TLS", https(tlstest.HTTP(t).Addr), 502, "broke off"},
		{"no HTTP/2", termination.Upstream{Scheme: termination.UpstreamH2C, Address: tlstest.HTTP(t).Addr}, 502, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f := newFront(t, frontOptions{})
				f.apply(f.endpoint("public.test", "http://unused.invalid", func(e *termination.Endpoint) { e.Upstream = c.to }))
				a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/")
				wantRefused(t, a, c.status, "")
				if strings.Contains(a.body, c.to.Address) || strings.Contains(a.body, "x509") {
					t.Errorf("the client learns too much: %s", a.body)
				}
				n := f.waitNote(termination.ReasonUpstreamDown)
				if !strings.Contains(n.Detail, c.detail) || n.Upstream == nil || n.Upstream.Error == "" || n.Upstream.Address != c.to.String() {
					t.Errorf("noted %+v, %+v", n, n.Upstream)
				}
			})
		})
	}
}

// TestUpstreamIsSlow: dialling and waiting for an answer are bounded; a POST is never sent twice.
func TestUpstreamIsSlow(t *testing.T) {
	t.Run("dial", func(t *testing.T) {
		f := newFront(t, frontOptions{proxy: Options{
			DialTimeout: time.Nanosecond, // it is over before anything can happen
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
			},
		}})
		f.apply(f.endpoint("public.test", "http://192.0.2.1:80"))
		wantRefused(t, f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/"), 504, "")
		if n := f.waitNote(termination.ReasonUpstreamDown); !strings.Contains(n.Detail, "Cannot connect to http://192.0.2.1:80 after") {
			t.Errorf("noted %q", n.Detail)
		}
	})
	for _, body := range []string{"", "body"} {
		t.Run("answer, body "+body, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{proxy: Options{Patience: 20 * time.Millisecond}}), tlstest.Silent(t)
				f.apply(f.endpoint("public.test", "http://"+up.Addr))
				a := f.get(f.client(clientOptions{h2: h2, serverName: "public.test"}), "public.test", "/", func(r *http.Request) {
					r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader(body)), int64(len(body))
				})
				wantRefused(t, a, 504, "")
				f.waitNote(termination.ReasonUpstreamDown)
				if up.Accepted() != 1 {
					t.Errorf("dialled %d times", up.Accepted())
				}
			})
		})
	}
	t.Run("resets a POST", func(t *testing.T) {
		f, up := newFront(t, frontOptions{}), tlstest.Resetting(t)
		f.apply(f.endpoint("public.test", "http://"+up.Addr))
		a := f.get(f.client(clientOptions{serverName: "public.test"}), "public.test", "/", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("body")), 4
		})
		wantStatus(t, a, 502)
		if up.Accepted() != 1 {
			t.Errorf("dialled %d times", up.Accepted())
		}
	})
}

// TestPatienceIsNotForStreams: gRPC sends its header as late as its first message, and a client that is slow with its
// body does not use up the upstream's time.
func TestPatienceIsNotForStreams(t *testing.T) {
	t.Run("gRPC", func(t *testing.T) {
		clock := newPatience(&http.Request{Header: http.Header{"Content-Type": {"application/grpc+proto"}}}, time.Nanosecond)
		defer clock.end()
		if clock.timer != nil {
			t.Error("the clock runs")
		}
	})
	t.Run("body", func(t *testing.T) {
		clock := newPatience(&http.Request{}, time.Hour)
		defer clock.end()
		clock.hold()
		clock.timer.Reset(time.Hour) // it was stopped, so it can be started
		clock.over()
		clock.resume()
		if clock.timer != nil {
			t.Error("the clock runs on after the answer has begun")
		}
	})
}

// TestUpstreamBreaksOffInTheMiddle: the client must not take half an answer for a whole one.
func TestUpstreamBreaksOffInTheMiddle(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		for _, head := range []string{"Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
			f := newFront(t, frontOptions{})
			up := tlstest.ServeTCP(t, func(_ context.Context, conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n"+head)
				}
			})
			f.apply(f.endpoint("public.test", "http://"+up.Addr))
			a, err := f.try(f.client(clientOptions{h2: h2, serverName: "public.test"}), "public.test", "/")
			if err == nil {
				t.Errorf("answered %v without an error", a)
			}
			f.waitNote(termination.ReasonUpstreamDown)
		}
	})
}

// TestClientLeaves: a client that goes away is not the upstream's failure, and the upstream learns of it.
func TestClientLeaves(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f := newFront(t, frontOptions{})
		arrived, left := make(chan struct{}), make(chan struct{})
		up := tlstest.HTTPHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			close(left)
		}))
		f.apply(f.endpoint("public.test", up.URL))
		ctx, leave := context.WithCancel(context.Background())
		client := f.client(clientOptions{h2: h2, serverName: "public.test"})
		done := make(chan error, 1)
		go func() {
			_, err := f.try(client, "public.test", "/", func(r *http.Request) { *r = *r.WithContext(ctx) })
			done <- err
		}()
		wait(t, arrived, "the request")
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the client got %v", err)
		}
		wait(t, left, "the upstream to learn that the client has left")
		f.noNote(termination.ReasonUpstreamDown)
	})
}

// TestClientBreaksOffItsBody: likewise in the middle of an upload.
func TestClientBreaksOffItsBody(t *testing.T) {
	for _, rest := range []string{"Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n"} {
		f := newFront(t, frontOptions{})
		ended := make(chan struct{})
		up := tlstest.HTTPHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			close(ended)
		}))
		f.apply(f.endpoint("public.test", up.URL))
		conn := f.dial(clientOptions{serverName: "public.test"})
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: public.test\r\n"+rest)
		if !strings.Contains(rest, "nonsense") {
			_ = conn.CloseWrite()
		}
		wantRefused(t, f.readAnswer(bufio.NewReader(conn)), 400, "")
		wait(t, ended, "the upstream's request to end")
		f.noNote(termination.ReasonUpstreamDown)
	}
}

// TestEarlyAnswer: an upstream may answer before it has read the body, and the client gets to know.
func TestEarlyAnswer(t *testing.T) {
	f := newFront(t, frontOptions{})
	up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "enough", http.StatusRequestEntityTooLarge)
	}))
	f.apply(f.endpoint("public.test", up.URL))
	a := f.raw(clientOptions{serverName: "public.test"}, "POST / HTTP/1.1\r\nHost: public.test\r\nContent-Length: 100000000\r\n\r\n"+strings.Repeat("x", 10_000))
	wantStatus(t, a, http.StatusRequestEntityTooLarge)
	f.noNote(termination.ReasonUpstreamDown)
}

// TestClientStallsItsBody: an HTTP/1.1 client that falls silent in the middle of a body is not waited for forever.
func TestClientStallsItsBody(t *testing.T) {
	f, up := newFront(t, frontOptions{proxy: Options{Patience: 50 * time.Millisecond}}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	a := f.raw(clientOptions{serverName: "public.test"}, "POST / HTTP/1.1\r\nHost: public.test\r\nContent-Length: 100\r\n\r\nhalf")
	wantRefused(t, a, http.StatusRequestTimeout, "")
	if !a.Close {
		t.Error("the connection goes on")
	}
	f.noNote(termination.ReasonUpstreamDown)
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

// TestNoProxyFromEnvironment: where upstreams are is said by the configuration alone.
func TestNoProxyFromEnvironment(t *testing.T) {
	p := New(Options{})
	if up := p.newUpstream(termination.Upstream{Scheme: termination.UpstreamHTTP, Address: "192.0.2.1:80"}); up.transport.Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}

func TestUpstreamKeys(t *testing.T) {
	one, two := tlstest.NewCA().X509, tlstest.NewCA().X509
	https := func(change func(*termination.Upstream)) termination.Upstream {
		u := termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: "a:443"}
		change(&u)
		return u
	}
	different := []termination.Upstream{
		{Scheme: termination.UpstreamHTTP, Address: "a:443"},
		{Scheme: termination.UpstreamH2C, Address: "a:443"},
		https(func(*termination.Upstream) {}),
		https(func(u *termination.Upstream) { u.Address = "b:443" }),
		https(func(u *termination.Upstream) { u.TLS.ServerName = "x" }),
		https(func(u *termination.Upstream) { u.TLS.Roots = append(u.TLS.Roots, one) }),
		https(func(u *termination.Upstream) { u.TLS.Roots = append(u.TLS.Roots, two) }),
		https(func(u *termination.Upstream) { u.TLS.Roots = append(u.TLS.Roots, one, two) }),
	}
	seen := map[upstreamKey]int{}
	for i, u := range different {
		if j, ok := seen[keyOf(u)]; ok {
			t.Errorf("%+v and %+v share their connections", different[j], u)
		}
		seen[keyOf(u)] = i
	}
	// A root that says nothing of itself means the system's, and that alone.
	if c := upstreamTLS(different[2]); c.RootCAs != nil || c.ServerName != "a" || c.InsecureSkipVerify {
		t.Errorf("%+v", c)
	}
}
