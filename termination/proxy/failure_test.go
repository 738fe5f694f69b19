package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/upstream"
)

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
		w.Header().Set("X-Big", strings.Repeat("x", upstream.MaxResponseHeader+1000))
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
		{"no TLS", https(tlstest.HTTP(t).Addr), 502, "Cannot secure the connection to https://"},
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
