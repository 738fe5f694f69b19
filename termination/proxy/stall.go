package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"countersign/termination"
)

// boundStalls bounds how long a client may let a part of an answer wait: at most what is copied at a time, so that one
// that reads slowly is not taken for one that does not read. Without it, an HTTP/1.1 client that never reads would hold
// its connection, and the upstream's, for ever; an HTTP/2 client could do so with each stream by opening no window
// (CVE-2019-9517).
func boundStalls(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := newBoundedWriter(w, r, limit)
		defer b.done()
		next.ServeHTTP(b, r)
	})
}

// boundedWriter is a response whose writes end in time.
type boundedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	request context.Context
	conn    *Conn // nil: a request without one, which is answered all the same
	limit   time.Duration
	always  bool // HTTP/1.1: the deadline is that of the connection, and costs nothing
	pending bool // something was written that was not flushed

	mu    sync.Mutex // the response must not be touched once its handler has returned
	timer *time.Timer
	over  bool
}

func newBoundedWriter(w http.ResponseWriter, r *http.Request, limit time.Duration) *boundedWriter {
	b := &boundedWriter{
		ResponseWriter: w, control: http.NewResponseController(w), request: r.Context(), conn: ConnFrom(r.Context()), limit: limit,
	}
	if b.always = r.ProtoMajor == 1; b.always {
		_ = b.control.SetWriteDeadline(time.Time{}) // that of the request before; it fails only where there is none
	}
	b.timer = time.AfterFunc(limit, b.stalled)
	b.timer.Stop()
	return b
}

// Unwrap lets an http.ResponseController find what is not ours.
func (b *boundedWriter) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// WriteHeader implements http.ResponseWriter. Informational answers are written at once.
func (b *boundedWriter) WriteHeader(status int) {
	b.timer.Reset(b.limit)
	defer b.timer.Stop()
	b.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (b *boundedWriter) Write(p []byte) (int, error) {
	b.timer.Reset(b.limit)
	defer b.timer.Stop()
	b.pending = true
	return b.ResponseWriter.Write(p)
}

// FlushError is what an http.ResponseController flushes with.
func (b *boundedWriter) FlushError() error {
	b.timer.Reset(b.limit)
	defer b.timer.Stop()
	b.pending = false
	return b.control.Flush()
}

// stalled ends a write that waits too long: in HTTP/1.1 the connection with it, in HTTP/2 the stream.
func (b *boundedWriter) stalled() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.conn.noteStall(b.limit)
	_ = b.control.SetWriteDeadline(time.Now().Add(-time.Second)) // it fails only where nothing can be waited for
}

// done is called when the handler returns. What is left in buffers, a few kilobytes, is written after that, under a last
// deadline. A stream that was reset needs none, and would keep it.
func (b *boundedWriter) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer.Stop()
	if !b.over && (b.always || b.pending && b.request.Err() == nil) {
		_ = b.control.SetWriteDeadline(time.Now().Add(min(b.limit, clientWriteTimeout))) // likewise
	}
	b.over = true
}

// Hijack implements http.Hijacker, for a WebSocket.
func (b *boundedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := b.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	t := &clientTunnel{Conn: nc, early: rw.Reader, conn: b.conn, limit: b.limit}
	return t, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(t)), nil
}

// noteStall notes that the client takes nothing.
func (c *Conn) noteStall(limit time.Duration) {
	if c != nil {
		c.note(Note{Reason: termination.ReasonTimeout, Detail: fmt.Sprintf("The client read nothing of an answer for %s.", limit)})
	}
}

// clientTunnel is the client's side of a WebSocket.
type clientTunnel struct {
	net.Conn
	early *bufio.Reader // what the client sent before it knew whether it may; net/http has read it already
	conn  *Conn
	limit time.Duration
}

// Read implements io.Reader.
func (t *clientTunnel) Read(p []byte) (int, error) {
	if n := t.early.Buffered(); n > 0 {
		return t.early.Read(p[:min(n, len(p))])
	}
	return t.Conn.Read(p)
}

// Write implements io.Writer. It ends when the client takes too little for too long.
func (t *clientTunnel) Write(p []byte) (int, error) {
	_ = t.SetWriteDeadline(time.Now().Add(t.limit)) // it fails only on a closed connection, and then so does the write
	n, err := t.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.conn.noteStall(t.limit)
	}
	return n, err
}

// CloseWrite tells the client that nothing more comes.
func (t *clientTunnel) CloseWrite() error { return closeWrite(t.Conn) }

func closeWrite(of any) error {
	if half, ok := of.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported // and the other direction ends too
}

// upstreamTunnel is the upstream's side of a WebSocket. Its connection has no deadlines: it is that of a transport.
type upstreamTunnel struct {
	io.ReadWriteCloser
	x     *exchange
	limit time.Duration
	timer *time.Timer
}

// errNotTaken ends a WebSocket whose upstream does not read.
var errNotTaken = errors.New("it read nothing of a WebSocket in time")

func newUpstreamTunnel(to io.ReadWriteCloser, x *exchange) *upstreamTunnel {
	t := &upstreamTunnel{ReadWriteCloser: to, x: x, limit: x.proxy.options.Patience}
	t.timer = time.AfterFunc(t.limit, func() {
		x.upstreamDown(errNotTaken)
		_ = to.Close()
	})
	t.timer.Stop()
	return t
}

// Write implements io.Writer.
func (t *upstreamTunnel) Write(p []byte) (int, error) {
	t.timer.Reset(t.limit)
	defer t.timer.Stop()
	return t.ReadWriteCloser.Write(p)
}

// CloseWrite tells the upstream that nothing more comes.
func (t *upstreamTunnel) CloseWrite() error { return closeWrite(t.ReadWriteCloser) }
