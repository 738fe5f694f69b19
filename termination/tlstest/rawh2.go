package tlstest

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

// RawH2 speaks HTTP/2 frame by frame, so that it can say what no client library
// would. It opens no window: what it does not ask for does not come.
type RawH2 struct {
	Conn   *tls.Conn
	Framer *http2.Framer
	Next   uint32 // the stream that Open takes next
	GoAway bool   // the server takes no further request

	t      testing.TB
	fields bytes.Buffer
	encode *hpack.Encoder
}

// NewRawH2 begins HTTP/2 on a connection, with these settings.
func NewRawH2(t testing.TB, conn *tls.Conn, settings ...http2.Setting) *RawH2 {
	t.Helper()
	c := &RawH2{t: t, Conn: conn, Next: 1, Framer: http2.NewFramer(conn, conn)}
	c.Framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.Framer.AllowIllegalWrites = true
	c.encode = hpack.NewEncoder(&c.fields)
	_, err := io.WriteString(conn, http2.ClientPreface)
	c.Must(err)
	c.Must(c.Framer.WriteSettings(settings...))
	return c
}

// Must fails the test on an error.
func (c *RawH2) Must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// Block encodes names and values. The next call overwrites it.
func (c *RawH2) Block(fields ...string) []byte {
	c.fields.Reset()
	for i := 0; i < len(fields); i += 2 {
		c.Must(c.encode.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return c.fields.Bytes()
}

// Open sends a HEADERS frame with these names and values on a new stream.
func (c *RawH2) Open(endStream bool, fields ...string) uint32 {
	c.t.Helper()
	id := c.Next
	c.Next += 2
	c.Must(c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.Block(fields...), EndHeaders: true, EndStream: endStream}))
	return id
}

// Trailers ends a stream with a second HEADERS frame.
func (c *RawH2) Trailers(id uint32, fields ...string) {
	c.t.Helper()
	c.Must(c.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.Block(fields...), EndHeaders: true, EndStream: true}))
}

// Answer reads the answer on a stream, and its body. A reset stream has the
// status that came before, or 0, and the error code as its body.
func (c *RawH2) Answer(id uint32) (*http.Response, string) {
	c.t.Helper()
	res := &http.Response{Proto: "HTTP/2.0", Header: http.Header{}, Trailer: http.Header{}}
	var body strings.Builder
	for {
		frame, err := c.Framer.ReadFrame()
		if err != nil {
			c.t.Fatalf("read the answer on stream %d: %v", id, err)
		}
		if _, ok := frame.(*http2.GoAwayFrame); ok {
			c.GoAway = true
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			c.Must(c.Framer.WriteSettingsAck())
		}
		if frame.Header().StreamID != id {
			continue
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			readFields(res, frame)
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			body.Write(frame.Data())
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			return res, fmt.Sprint(frame.ErrCode)
		}
		if ended {
			return res, body.String()
		}
	}
}

// WaitGoAway reads until the server says that it takes no further request.
func (c *RawH2) WaitGoAway() {
	c.t.Helper()
	for !c.GoAway {
		frame, err := c.Framer.ReadFrame()
		if err != nil {
			c.t.Fatalf("no GOAWAY came: %v", err)
		}
		_, c.GoAway = frame.(*http2.GoAwayFrame)
	}
}

func readFields(res *http.Response, frame *http2.MetaHeadersFrame) {
	to := res.Header
	if res.StatusCode >= 200 {
		to = res.Trailer
	}
	for _, field := range frame.Fields {
		if field.Name == ":status" {
			res.Status = field.Value
			res.StatusCode, _ = strconv.Atoi(field.Value)
			continue
		}
		to.Add(field.Name, field.Value)
	}
}
