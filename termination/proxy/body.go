package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// errNoAnswer ends a request whose upstream takes too long to begin its answer.
var errNoAnswer = errors.New("no answer began in time")

// patience bounds how long an upstream may do nothing about a request before it begins to answer. The time in which it
// is the client that lets us wait for more of the body does not count.
type patience struct {
	context context.Context // the request's, with an end of its own
	cancel  context.CancelCauseFunc
	limit   time.Duration

	mu    sync.Mutex
	timer *time.Timer // nil once the answer has begun
}

// newPatience starts to wait for the answer to r. With gRPC there is no limit: a stream may send its headers as late as
// its first message, and clients set deadlines of their own.
func newPatience(r *http.Request, limit time.Duration) *patience {
	p := &patience{limit: limit}
	p.context, p.cancel = context.WithCancelCause(r.Context())
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		p.timer = time.AfterFunc(limit, func() { p.cancel(errNoAnswer) })
	}
	return p
}

// hold stops the clock while the client is waited for.
func (p *patience) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
}

// resume starts the clock anew.
func (p *patience) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Reset(p.limit)
	}
}

// over stops the clock for good: the answer has begun.
func (p *patience) over() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// end releases what the request held.
func (p *patience) end() {
	p.over()
	p.cancel(nil)
}

// requestBody is the body of a request on its way to the upstream.
type requestBody struct {
	io.ReadCloser
	x       *exchange
	from    http.Header // trailers as the client sends them, complete at the end of the body
	trailer http.Header // those that pass on, likewise

	taken   int64        // bytes so far
	whole   atomic.Bool  // it was read to its end
	reading sync.Mutex   // held while the client is read from
	failed  atomic.Int32 // the status for a client that broke off; 0: it did not

	deadlines *http.ResponseController // of HTTP/1.1; in HTTP/2 a silent stream is no threat to its connection
}

func newRequestBody(w http.ResponseWriter, r *http.Request, x *exchange) *requestBody {
	b := &requestBody{ReadCloser: r.Body, x: x}
	if r.ProtoMajor == 1 {
		b.deadlines = http.NewResponseController(w)
		_ = b.deadlines.EnableFullDuplex() // else the first byte of the answer would end the body; HTTP/1.1 always can
	}
	for name := range r.Trailer {
		if x.forwardsTrailer(r.Header, name) {
			if b.trailer == nil {
				b.from, b.trailer = r.Trailer, http.Header{}
			}
			b.trailer[name] = nil
		}
	}
	return b
}

// forwardsTrailer reports whether a trailer of the client passes on. What a proxy may not merge into the headers, and
// what may not pass as a header, does not pass as a trailer either (RFC 9110, section 6.5.1).
func (x *exchange) forwardsTrailer(h http.Header, name string) bool {
	if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidTrailerHeader(name) || x.site.own.forged(name) {
		return false
	}
	return name != "Cookie" && !httpguts.HeaderValuesContainsToken(h["Connection"], name)
}

// Read implements io.Reader, in the goroutine of the transport. At the end of the body it hands on the trailers.
func (b *requestBody) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.x.patience.hold()
	if b.deadlines != nil {
		_ = b.deadlines.SetReadDeadline(time.Now().Add(b.x.proxy.options.Patience)) // if it cannot be set, the read fails
	}
	n, err := b.ReadCloser.Read(p)
	b.x.patience.resume()
	if !b.count(n) {
		b.failed.Store(http.StatusRequestEntityTooLarge)
		return 0, errBodyTooLarge
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.whole.Store(true)
		if b.deadlines != nil {
			_ = b.deadlines.SetReadDeadline(time.Time{}) // the answer may take longer
		}
		for name := range b.trailer {
			b.trailer[name] = b.from[name]
		}
	case errors.Is(err, os.ErrDeadlineExceeded): // it stays: net/http would read on, to find the next request
		b.failed.Store(http.StatusRequestTimeout)
	default:
		b.failed.Store(http.StatusBadRequest)
	}
	return n, err
}

// brokenOff returns the status for a client that broke off its body, and 0 if it did not. Where the request has ended,
// it waits for a read that is on its way, which then ends too: it may be what ended the request.
func (b *requestBody) brokenOff(ended bool) int {
	if b == nil {
		return 0
	}
	if ended {
		b.reading.Lock()
		defer b.reading.Unlock()
	}
	return int(b.failed.Load())
}

// responseBody is the body of an answer on its way to the client.
type responseBody struct {
	io.ReadCloser
	x *exchange
}

// Read implements io.Reader. An answer that breaks off while the client is still there is the upstream's failure.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.x.incoming.Context().Err() == nil && b.x.body.brokenOff(false) == 0 {
		b.x.upstreamDown(err)
	}
	return n, err
}
