package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestNoConnection: a request whose connection nobody knows is an error, and never open.
func TestNoConnection(t *testing.T) {
	p := New(Options{})
	defer p.Close()
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://public.test/", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "does not know this connection") {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

// TestNothingIsServedBeforeSwapOrAfterClose: no table means no endpoint.
func TestNothingIsServedBeforeSwapOrAfterClose(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	client := f.client(clientOptions{serverName: "public.test"})
	wantStatus(t, f.get(client, "public.test", "/"), 200)
	f.proxy.Close()
	wantStatus(t, f.get(client, "public.test", "/"), 421)
	f.apply(f.endpoint("public.test", up.URL))
	wantStatus(t, f.get(client, "public.test", "/"), 421)
	if up.Requests() != 1 {
		t.Errorf("%d requests", up.Requests())
	}
}

func TestLimits(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	limits := termination.DefaultLimits()
	if f.server.ReadHeaderTimeout != limits.HandshakeTimeout || f.server.IdleTimeout != limits.IdleTimeout || f.server.MaxHeaderBytes != headerRoom*limits.Header {
		t.Errorf("the server has %+v", f.server)
	}
	big := strings.Repeat("x", 2*limits.Header)
	a := f.raw(clientOptions{serverName: "public.test"}, "GET / HTTP/1.1\r\nHost: public.test\r\nX-Big: "+big+"\r\n\r\n")
	wantStatus(t, a, http.StatusRequestHeaderFieldsTooLarge)

	c := f.rawH2(clientOptions{serverName: "public.test"})
	fields := []string{":method", "GET", ":scheme", "https", ":authority", "public.test", ":path", "/"}
	for i := range 2000 { // a few bytes each on the wire, since HPACK has seen them before
		fields = append(fields, "x-bomb", strings.Repeat("y", 100), "x-n", fmt.Sprint(i%3))
	}
	block := c.Block(fields...)
	c.Must(c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true}))
	if a := c.answer(1); a.StatusCode != http.StatusRequestHeaderFieldsTooLarge && a.StatusCode != 0 {
		t.Errorf("the header bomb was answered with %v", a)
	}
	if up.Accepted() != 0 {
		t.Error("the upstream was contacted")
	}
}

// TestRapidReset opens and resets streams as fast as it can (CVE-2023-44487): the server ends the connection or bounds
// what it starts, and serves others meanwhile.
func TestRapidReset(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	c := f.rawH2(clientOptions{serverName: "public.test"})
	go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
	const streams = 5000
	for range streams {
		id := c.Next
		c.Next += 2
		block := c.Block(":method", "GET", ":scheme", "https", ":authority", "public.test", ":path", "/?hang=1")
		if c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true}) != nil ||
			c.Framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // it was ended
		}
	}
	wantStatus(t, f.ask(true, clientOptions{serverName: "public.test"}, "public.test", "/"), 200)
	if got := up.Requests(); got > streams/2 {
		t.Errorf("%d requests reached the upstream", got)
	}
}

// TestManyStreams: more streams than are allowed at once are refused or wait, and all of a well-behaved client's end.
func TestManyStreams(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	client := f.client(clientOptions{h2: true, serverName: "public.test"})
	done := make(chan error, 2*maxStreams)
	for range 2 * maxStreams {
		go func() {
			a, err := f.try(client, "public.test", "/")
			if err == nil && a.StatusCode != 200 {
				err = fmt.Errorf("answered %v", a)
			}
			done <- err
		}()
	}
	for range 2 * maxStreams {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestRequestSmuggling: a request that two parsers would end at different places is refused, or ends where net/http says
// for both.
func TestRequestSmuggling(t *testing.T) {
	for _, head := range []string{
		"Content-Length: 4\r\nContent-Length: 5\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
		"Transfer-Encoding: xchunked\r\n",
		"Transfer-Encoding : chunked\r\n",
		"Content-Length: +4\r\n",
		"Content-Length: 0x4\r\n",
		" X: folded\r\n",
		"X\x00Y: 1\r\n",
		"X Y: 1\r\n",
	} {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL))
		a := f.raw(clientOptions{serverName: "public.test"}, "POST / HTTP/1.1\r\nHost: public.test\r\n"+head+"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: private.test\r\n\r\n")
		if a.StatusCode != 400 && a.StatusCode != 501 {
			t.Errorf("%q: answered %v", head, a)
		}
		if up.Requests() != 0 {
			t.Errorf("%q reached the upstream", head)
		}
	}
	// With both, chunked counts (RFC 9112, section 6.3), and the upstream gets one of them.
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL))
	conn := f.dial(clientOptions{serverName: "public.test"})
	fmt.Fprint(conn, "POST /one HTTP/1.1\r\nHost: public.test\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
	a := f.readAnswer(bufio.NewReader(conn))
	wantStatus(t, a, 200)
	if seen := echo(t, a); string(seen.Body) != "body" || seen.Header.Get("Content-Length") != "" {
		t.Errorf("the upstream saw %+v", seen)
	}
}

// TestPanic: a defect of ours ends one request, not the process.
func TestPanic(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL))
		broken := f.table(f.endpoint("broken.test", up.URL))
		broken.names[f.address].exact["broken.test"].policies = nil
		broken.byID["ep_broken.test"].policies = nil
		broken.byID["ep_broken.test"].Policy = nil
		f.proxy.Swap(broken)
		if _, err := f.try(f.client(clientOptions{h2: h2, serverName: "broken.test"}), "broken.test", "/"); err == nil {
			t.Error("a request was answered without a policy")
		}
		f.apply(f.endpoint("public.test", up.URL))
		wantStatus(t, f.get(f.client(clientOptions{h2: h2, serverName: "public.test"}), "public.test", "/"), 200)
	})
}
