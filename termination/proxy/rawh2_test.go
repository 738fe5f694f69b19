package proxy

import (
	"fmt"
	"strings"

	"countersign/termination/tlstest"
)

// rawH2 is a connection on which HTTP/2 is spoken frame by frame.
type rawH2 struct{ *tlstest.RawH2 }

func (f *front) rawH2(o clientOptions) rawH2 {
	f.t.Helper()
	o.h2 = true
	return rawH2{tlstest.NewRawH2(f.t, f.dial(o))}
}

// answer reads the answer on a stream. A reset stream has the status 0 and the error code as its body.
func (c rawH2) answer(id uint32) answer {
	res, body := c.Answer(id) //nolint:bodyclose // it was read
	return answer{res, body}
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
	return c.answer(c.Open(true, fields...))
}
