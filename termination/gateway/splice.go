package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
)

// spliceChunk is how much is copied before the deadlines are moved on. Between two TCP connections the kernel moves a
// chunk without us; the connections must not be wrapped, or every byte would come through this process.
const spliceChunk = 4 << 20

// end is one end of a splice: a connection whose write side can be closed alone.
type end interface {
	net.Conn
	CloseWrite() error
}

// spliced tells what passed.
type spliced struct {
	fromClient, fromUpstream int64
	first                    termination.ClosedBy // who ended first
}

// splice carries bytes both ways until both directions have ended. When one direction ends, only that direction is
// closed, so that half-closed protocols work. A reset ends both. A connection on which nothing was carried in either
// direction for the idle time is cut.
func splice(client, upstream end, idle time.Duration, now func() time.Time) spliced {
	s := newSplicing(idle, now)
	var inbound int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		inbound = s.carry(upstream, client, termination.ClosedByClient)
	}()
	outbound := s.carry(client, upstream, termination.ClosedByUpstream)
	<-done
	return spliced{fromClient: inbound, fromUpstream: outbound, first: *s.first.Load()}
}

type splicing struct {
	idle   time.Duration
	now    func() time.Time
	active atomic.Int64 // when bytes last passed, in nanoseconds
	first  atomic.Pointer[termination.ClosedBy]
}

func newSplicing(idle time.Duration, now func() time.Time) *splicing {
	s := &splicing{idle: idle, now: now}
	s.active.Store(now().UnixNano())
	return s
}

func (s *splicing) ended(who termination.ClosedBy) { s.first.CompareAndSwap(nil, &who) }

// carry copies one direction and returns the number of bytes.
func (s *splicing) carry(to, from end, who termination.ClosedBy) int64 {
	var total int64
	for {
		_ = from.SetReadDeadline(s.now().Add(s.idle)) // fails only on a closed connection, and then so does the copy
		n, err := copyChunk(to, from)
		total += n
		if n > 0 {
			s.active.Store(s.now().UnixNano())
		}
		switch {
		case err == nil && n == spliceChunk:
			continue
		case err == nil:
			s.ended(who)
			_ = to.CloseWrite() // the peer may be gone already
			return total
		case errors.Is(err, os.ErrDeadlineExceeded) && s.now().Sub(time.Unix(0, s.active.Load())) < s.idle:
			continue // the other direction is alive
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.ended(termination.ClosedByGateway)
		default:
			s.ended(who)
		}
		// A reset, a broken pipe, or idle: nobody is there to read the rest.
		_ = to.Close()
		_ = from.Close()
		return total
	}
}

// copyChunk copies at most a chunk.
func copyChunk(to, from end) (int64, error) {
	limited := &io.LimitedReader{R: from, N: spliceChunk}
	if _, ok := from.(*net.TCPConn); ok {
		if _, ok := to.(*net.TCPConn); ok {
			return io.Copy(to, limited)
		}
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(writerOnly{to}, limited, *buf)
}

// copyBuffers hold what passes between TLS and TCP. A buffer carries bytes of one connection after the other, each
// time no more than were just read.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }} //nolint:gochecknoglobals // a pool

// writerOnly hides ReadFrom, which would allocate a buffer of its own.
type writerOnly struct{ io.Writer }
