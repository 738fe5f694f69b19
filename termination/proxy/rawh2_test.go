package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawH2 speaks HTTP/2 frame by frame, so that it can say what no client library would.
type rawH2 struct {
	t      testing.TB
	conn   *tls.Conn
	framer *http2.Framer
	fields bytes.Buffer
	encode *hpack.Encoder
	next   uint32

	goAway bool
}

func (f *front) rawH2(o clientOptions) *rawH2 {
	f.t.Helper()
	o.h2 = true
	c := &rawH2{t: f.t, conn: f.dial(o), next: 1}
	c.framer = http2.NewFramer(c.conn, c.conn)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.AllowIllegalWrites = true
	c.encode = hpack.NewEncoder(&c.fields)
	if _, err := io.WriteString(c.conn, http2.ClientPreface); err != nil {
		f.t.Fatal(err)
	}
	c.must(c.framer.WriteSettings())
	return c
}

func (c *rawH2) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawH2) block(fields []string) []byte {
	c.fields.Reset()
	for i := 0; i < len(fields); i += 2 {
		c.must(c.encode.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return c.fields.Bytes()
}

// open sends a HEADERS frame with these names and values on a new stream.
func (c *rawH2) open(endStream bool, fields ...string) uint32 {
	c.t.Helper()
	id := c.next
	c.next += 2
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(fields), EndHeaders: true, EndStream: endStream}))
	return id
}

// trailers ends a stream with a second HEADERS frame.
func (c *rawH2) trailers(id uint32, fields ...string) {
	c.t.Helper()
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(fields), EndHeaders: true, EndStream: true}))
}

// answer reads the answer on a stream. A reset stream has the status 0 and the error code as its body.
func (c *rawH2) answer(id uint32) answer {
	c.t.Helper()
	a := answer{Response: &http.Response{Proto: "HTTP/2.0", Header: http.Header{}, Trailer: http.Header{}}}
	var body strings.Builder
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.t.Fatalf("read the answer on stream %d: %v", id, err)
		}
		if _, ok := frame.(*http2.GoAwayFrame); ok {
			c.goAway = true
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			c.must(c.framer.WriteSettingsAck())
		}
		if frame.Header().StreamID != id {
			continue
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			c.readFields(&a, frame)
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			body.Write(frame.Data())
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			a.body = fmt.Sprint(frame.ErrCode)
			return a
		}
		if ended {
			a.body = body.String()
			return a
		}
	}
}

// waitGoAway reads until the server says that it takes no further request.
func (c *rawH2) waitGoAway() {
	c.t.Helper()
	for !c.goAway {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.t.Fatalf("no GOAWAY came: %v", err)
		}
		_, c.goAway = frame.(*http2.GoAwayFrame)
	}
}

func (c *rawH2) readFields(a *answer, frame *http2.MetaHeadersFrame) {
	to := a.Header
	if a.StatusCode >= 200 {
		to = a.Trailer
	}
	for _, field := range frame.Fields {
		if field.Name == ":status" {
			a.Status = field.Value
			a.StatusCode, _ = strconv.Atoi(field.Value)
			continue
		}
		to.Add(field.Name, field.Value)
	}
}

// ask sends a GET that no client library has a say in, over a connection of its own.
func (f *front) ask(h2 bool, o clientOptions, host, target string, header ...string) answer {
	f.t.Helper()
	if !h2 {
		var request strings.Builder
		fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\n", target, host)
		for i := 0; i < len(header); i += 2 {
			fmt.Fprintf(&request, "%s: %s\r\n", header[i], header[i+1])
		}
		return f.raw(o, request.String()+"\r\n")
	}
	c := f.rawH2(o)
	fields := []string{":method", "GET", ":scheme", "https", ":authority", host, ":path", target}
	for i := 0; i < len(header); i += 2 {
		fields = append(fields, strings.ToLower(header[i]), header[i+1])
	}
	return c.answer(c.open(true, fields...))
}
