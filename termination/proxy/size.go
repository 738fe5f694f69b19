package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"countersign/termination"
)

// headerRoom is how many times the limit on headers net/http is given: its own answer to a larger header is no problem
// document, so ours must come first.
const headerRoom = 2

// errBodyTooLarge ends a request whose body turns out to be larger than the limit.
var errBodyTooLarge = errors.New("the body is larger than the limit")

// checkSize refuses what is larger than the limits say, before anything of it reaches an upstream.
func (x *exchange) checkSize(r *http.Request) *refusal {
	limits := x.site.limits
	if limits.Header > 0 && headerSize(r) > limits.Header {
		x.tooLarge("a header", limits.Header)
		return &refusal{status: http.StatusRequestHeaderFieldsTooLarge, reason: termination.ReasonRequestTooLarge, detail: "The request's header is larger than this gateway takes."}
	}
	if limits.Body > 0 && r.ContentLength > limits.Body {
		x.tooLarge("a body", int(limits.Body))
		return bodyTooLarge(r)
	}
	return nil
}

// tooLarge notes what was larger than a limit, in bytes.
func (x *exchange) tooLarge(what string, limit int) {
	x.conn.note(Note{Reason: termination.ReasonRequestTooLarge, Detail: fmt.Sprintf("A request came with %s of more than %d bytes, and was refused.", what, limit)})
}

// bodyTooLarge ends the connection of HTTP/1.1, on which the rest of the body is still to come.
func bodyTooLarge(r *http.Request) *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, reason: termination.ReasonRequestTooLarge, detail: "The request's body is larger than this gateway takes.", close: r.ProtoMajor == 1}
}

// headerSize is the size of a request's head as HTTP/1.1 writes it, in bytes.
func headerSize(r *http.Request) int {
	const line = len(": \r\n")
	n := len(r.Method) + len(r.RequestURI) + len("  HTTP/1.1\r\nHost: \r\n\r\n") + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + line + len(v)
		}
	}
	return n
}

// unread reports whether HTTP/1.1 has some of the body still to come, so that net/http will end the connection.
func (b *requestBody) unread() bool {
	return b != nil && b.deadlines != nil && !b.whole.Load()
}

// count counts what was read of the body, and reports whether that is within the limit.
func (b *requestBody) count(n int) bool {
	b.taken += int64(n)
	limit := b.x.site.limits.Body
	return limit == 0 || b.taken <= limit
}
