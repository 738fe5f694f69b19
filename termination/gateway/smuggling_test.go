package gateway_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"countersign/termination"
)

// A client that wants two parsers to see different requests sends this behind its first one. Where the first is refused,
// nobody may come to read it.
const lastRequest = "GET /last HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n"

// smuggling are bytes after "POST /one HTTP/1.1" and Host, then the statuses of the answers, then what the upstream gets
// as whole requests. Refusals by net/http are plain 400s that end the connection; so do ours.
func smuggling() []struct{ name, bytes, statuses, upstream string } {
	const chunked = "Transfer-Encoding: chunked\r\n"
	const refused = "400"
	return []struct{ name, bytes, statuses, upstream string }{
		{"CL.TE", "Content-Length: 30\r\n" + chunked + "\r\n4\r\nbody\r\n0\r\n\r\n", "200 200", "POST /one body + GET /last"},
		{"TE.CL", chunked + "Content-Length: 4\r\n\r\n1d\r\nGET /smuggled HTTP/1.1\r\nX: y\r\n\r\n0\r\n\r\n", refused, ""},
		{"TE.CL, whole", chunked + "Content-Length: 4\r\n\r\n16\r\nGET /smuggled HTTP/1.1\r\n0\r\n\r\n", "200 200", "POST /one GET /smuggled HTTP/1.1 + GET /last"},
		{"TE twice", chunked + chunked + "\r\n0\r\n\r\n", "501", ""},
		{"TE, then another", chunked + "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", "501", ""},
		{"TE list", "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", "501", ""},
		{"TE list, other way", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "501", ""},
		{"TE xchunked", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501", ""},
		{"TE quoted", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "501", ""},
		{"TE with a vertical tab", "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", refused, ""},
		{"TE with a tab", "Transfer-Encoding:\tchunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "200 200", "POST /one body + GET /last"},
		{"TE in capitals", "TRANSFER-ENCODING: CHUNKED\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "200 200", "POST /one body + GET /last"},
		{"TE, space before the colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", refused, ""},
		{"TE with an underscore", "Transfer_Encoding: chunked\r\nContent-Length: 4\r\n\r\nbody", "200 200", "POST /one body + GET /last"},
		{"TE folded", "Transfer-Encoding:\r\n chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "200 200", "POST /one body + GET /last"},
		{"TE behind a bare LF", "X: y\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "200 200", "POST /one body + GET /last"},
		{"TE behind a bare CR", "X: y\rTransfer-Encoding: chunked\r\n\r\n", refused, ""},
		{"TE nominated", "Connection: Transfer-Encoding\r\n" + chunked + "\r\n4\r\nbody\r\n0\r\n\r\n", "200 200", "POST /one body + GET /last"},

		{"two different lengths", "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody", refused, ""},
		{"the same length twice", "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody", "200 200", "POST /one body + GET /last"},
		{"a list of lengths", "Content-Length: 4, 4\r\n\r\nbody", refused, ""},
		{"a length with a sign", "Content-Length: +4\r\n\r\nbody", refused, ""},
		{"a negative length", "Content-Length: -4\r\n\r\nbody", refused, ""},
		{"a length in hex", "Content-Length: 0x4\r\n\r\nbody", refused, ""},
		{"an empty length", "Content-Length:\r\n\r\n", refused, ""},
		{"a length too long", "Content-Length: 99999999999999999999\r\n\r\nbody", refused, ""},
		{"a length nominated", "Connection: Content-Length\r\nContent-Length: 4\r\n\r\nbody", "200 200", "POST /one body + GET /last"},
		{"a length with an underscore", "Content_Length: 4\r\n\r\n", "200 200", "POST /one + GET /last"},

		{"a chunk extension", chunked + "\r\n4;x=y\r\nbody\r\n0;z\r\n\r\n", "200 200", "POST /one body + GET /last"},
		{"a chunk extension with a bare LF", chunked + "\r\n4;x\nbody\r\n0\r\n\r\n", refused, ""},
		{"a chunk size in another base", chunked + "\r\n0x4\r\nbody\r\n0\r\n\r\n", refused, ""},
		{"a chunk size with a sign", chunked + "\r\n+4\r\nbody\r\n0\r\n\r\n", refused, ""},
		{"a chunk size too long", chunked + "\r\n00000000000000004\r\nbody\r\n0\r\n\r\n", refused, ""},
		{"a chunk longer than it says", chunked + "\r\n3\r\nbody\r\n0\r\n\r\n", refused, ""},
		{"a chunk that ends in LF", chunked + "\r\n4\r\nbody\n0\r\n\r\n", refused, ""},
		{"trailers that frame", chunked + "Trailer: Content-Length\r\n\r\n4\r\nbody\r\n0\r\nContent-Length: 9\r\n\r\n", refused, ""},
		{"trailers unannounced", chunked + "\r\n4\r\nbody\r\n0\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\r\n", "200 200", "POST /one body + GET /last"},

		{"a NUL in a value", "X: a\x00b\r\n\r\n", refused, ""},
		{"a DEL in a value", "X: a\x7fb\r\n\r\n", refused, ""},
		{"a space in a name", "X Y: z\r\n\r\n", refused, ""},
		{"a NUL in a name", "X\x00: z\r\n\r\n", refused, ""},
		{"an empty name", ": z\r\n\r\n", refused, ""},
		{"no colon", "X\r\n\r\n", refused, ""},
		{"a folded value", "X: a\r\n b\r\n\r\n", "200 200", "POST /one + GET /last"},
		{"another Host", "Host: b.localhost\r\n\r\n", refused, ""},
		{"Host nominated", "Connection: Host\r\n\r\n", "200 200", "POST /one + GET /last"},
		{"pipelined", "\r\nPUT /two HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 1\r\n\r\nx", "200 200 200", "POST /one + PUT /two x + GET /last"},
		{"pipelined to another host", "\r\nGET /two HTTP/1.1\r\nHost: b.localhost\r\n\r\n", "200 421 200", "POST /one + GET /last"},
		{"an unknown expectation", "Expect: miracles\r\n\r\n", "417", ""},
		{"an upgrade with a body", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody", "200 200", "POST /one body + GET /last"},
	}
}

// wholeRequests are like smuggling, with the request line.
func wholeRequests() []struct{ name, bytes, statuses, upstream string } {
	const host = "Host: a.localhost\r\n"
	return []struct{ name, bytes, statuses, upstream string }{
		{"a GET with a body", "GET /one HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody", "200 200", "GET /one body + GET /last"},
		{"HTTP/1.0 with TE", "POST /one HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", "200", "POST /one"},
		{"HTTP/1.0 with TE and a length", "POST /one HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nbody", "200", "POST /one body"},
		{"HTTP/1.0 with Upgrade", "GET /one HTTP/1.0\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "200", "GET /one"},
		{"HTTP/0.9", "GET /one\r\n", "400", ""},
		{"HTTP/2 in name", "GET /one HTTP/2.0\r\n" + host + "\r\n", "505", ""},
		{"HTTP/1.2", "GET /one HTTP/1.2\r\n" + host + "\r\n", "200 200", "GET /one + GET /last"},
		{"two spaces", "GET  /one HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"a tab", "GET\t/one HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"a method that is none", "G(T /one HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"bare LF throughout", "GET /one HTTP/1.1\nHost: a.localhost\n\n", "200 200", "GET /one + GET /last"},
		{"a folded first line", "GET /one HTTP/1.1\r\n X: y\r\n" + host + "\r\n", "400", ""},
		{"an absolute target beside another Host", "GET https://a.localhost/one HTTP/1.1\r\nHost: b.localhost\r\n\r\n", "200 200", "GET /one + GET /last"},
		{"an upgrade that is refused", "GET /one HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "200 200", "GET /one + GET /last"},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", ""},
	}
}

// Whatever a client sends, the upstream reads the requests that were judged, and no other.
func TestSmuggling(t *testing.T) {
	upstream := newRecorder(t)
	r, port, alice := strictRig(t, "http://"+upstream.Addr, nil)
	cases := wholeRequests()
	for _, c := range smuggling() {
		c.bytes = "POST /one HTTP/1.1\r\nHost: a.localhost\r\n" + c.bytes
		cases = append(cases, c)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conn := r.dial(port, "a.localhost", tls.VersionTLS13, alice)
			defer conn.Close()
			if _, err := io.WriteString(conn, c.bytes+lastRequest); err != nil {
				t.Fatal(err)
			}
			if got := statuses(t, conn); got != c.statuses {
				t.Errorf("answered %q, want %q", got, c.statuses)
			}
			if seen := upstream.take(t); seen != c.upstream {
				t.Errorf("the upstream got %q, want %q", seen, c.upstream)
			}
		})
	}
	for _, c := range cases {
		// What net/http refuses by itself is recorded all the same.
		end := r.end(r.next().ID)
		if end.Requests == 0 && end.Reason != termination.ReasonHTTPBroken || c.upstream != "" && end.Reason == termination.ReasonHTTPBroken {
			t.Errorf("%s: recorded %+v", c.name, end)
		}
	}
}

// statuses reads answers until the connection ends.
func statuses(t *testing.T, conn *tls.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	var out []string
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return strings.Join(out, " ")
		}
		out = append(out, res.Status[:3])
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

// What HTTP/2 can carry and HTTP/1.1 cannot does not reach an upstream that speaks HTTP/1.1.
func TestDowngrade(t *testing.T) {
	upstream := newRecorder(t)
	r, port, alice := strictRig(t, "http://"+upstream.Addr, nil)
	usual := func(more ...string) []string {
		return append([]string{":method", "POST", ":scheme", "https", ":authority", "a.localhost", ":path", "/one"}, more...)
	}
	with := func(name, value string, more ...string) []string {
		fields := usual(more...)
		for i := 0; i < len(fields); i += 2 {
			if fields[i] == name {
				fields[i+1] = value
			}
		}
		return fields
	}
	for _, c := range []struct {
		name     string
		fields   []string
		body     string
		upstream string // "": refused
	}{
		{"plain", usual(), "body", "POST /one body"},
		{"the length fits", usual("content-length", "4"), "body", "POST /one body"},
		{"too short a length", usual("content-length", "3"), "body", ""},
		{"too long a length", usual("content-length", "5"), "body", ""},
		{"two lengths", usual("content-length", "4", "content-length", "5"), "body", ""},
		{"a length with a sign", usual("content-length", "+4"), "body", ""},
		{"transfer-encoding", usual("transfer-encoding", "chunked"), "0\r\n\r\n", ""},
		{"transfer_encoding", usual("transfer_encoding", "chunked"), "body", "POST /one body"},
		{"connection", usual("connection", "close"), "body", ""},
		{"keep-alive", usual("keep-alive", "1"), "body", ""},
		{"proxy-connection", usual("proxy-connection", "close"), "body", ""},
		{"upgrade", usual("upgrade", "websocket"), "body", ""},
		{"te", usual("te", "gzip"), "body", ""},
		{"te trailers", usual("te", "trailers"), "body", "POST /one body"},
		{"CR LF in a value", usual("x", "a\r\ntransfer-encoding: chunked"), "body", ""},
		{"LF in a value", usual("x", "a\nb: c"), "body", ""},
		{"NUL in a value", usual("x", "a\x00b"), "body", ""},
		{"CR LF in a name", usual("x: y\r\nz", "a"), "body", ""},
		{"a colon in a name", usual("x:y", "a"), "body", ""},
		{"a space in a name", usual("x y", "a"), "body", ""},
		{"capitals in a name", usual("X-Y", "a"), "body", ""},
		{"an empty name", usual("", "a"), "body", ""},
		{"a method with a space", with(":method", "GET /smuggled HTTP/1.1\r\nX: y"), "body", ""},
		{"a method that is none", with(":method", "G(T"), "body", ""},
		{"a method with a space and a path", with(":method", "GET /smuggled"), "body", ""},
		{"an empty method", with(":method", ""), "body", ""},
		{"a path without a slash", with(":path", "one"), "body", ""},
		{"a path with a space", with(":path", "/one HTTP/1.1\r\nX: y"), "body", ""},
		{"an empty path", with(":path", ""), "body", ""},
		{"a path in absolute form", with(":path", "https://a.localhost/one"), "body", ""},
		{"a scheme with more in it", with(":scheme", "https://a.localhost/x?"), "body", ""},
		{"an authority with a path", with(":authority", "a.localhost/x"), "body", ""},
		{"an authority with a user", with(":authority", "x@a.localhost"), "body", ""},
		{"an authority with CR LF", with(":authority", "a.localhost\r\nX: y"), "body", ""},
		{"another host", usual("host", "b.localhost"), "body", ""},
		{"two paths", usual(":path", "/two"), "body", ""},
		{"a pseudo-header behind", usual("x", "y", ":path", "/two"), "body", ""},
		{"an unknown pseudo-header", append([]string{":smuggle", "x"}, usual()...), "body", ""},
		{"a status", append([]string{":status", "200"}, usual()...), "body", ""},
		{"extended CONNECT", with(":method", "CONNECT", ":protocol", "websocket"), "body", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := r.rawH2(port, "a.localhost", alice)
			defer conn.Conn.Close()
			status := conn.try(c.fields, c.body)
			if (status == 200) != (c.upstream != "") || status >= 500 {
				t.Errorf("answered %d", status)
			}
			if seen := upstream.take(t); seen != c.upstream {
				t.Errorf("the upstream got %q, want %q", seen, c.upstream)
			}
		})
	}
}

// try sends a request and returns the status of the answer; 0 if the stream or the connection ended instead.
func (c rawH2) try(fields []string, body string) int {
	id := c.Open(false, fields...)
	if c.Framer.WriteData(id, true, []byte(body)) != nil {
		return 0
	}
	for {
		frame, err := c.Framer.ReadFrame()
		if err != nil {
			return 0
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return 0
		case *http2.MetaHeadersFrame:
			status := 0
			for _, d := range frame.PseudoValue("status") {
				status = status*10 + int(d-'0')
			}
			return status
		}
	}
}
