package gateway

import (
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"countersign/termination"
)

const (
	// spliceChunk is how much the kernel moves between two TCP connections before we hear of it. The connections must
	// not be wrapped, or every byte would come through this process. It is small enough that a slow reader takes one
	// within the idle time.
	spliceChunk = 256 << 10
	// idleLooks is how often within the idle time we ask whether the kernel has moved less than that.
	idleLooks = 4
	// smallBuffer is what a connection holds while it waits; most of them do nothing but that.
	smallBuffer = 1 << 10
	// busyTime is how long after the last bytes a connection keeps its large buffer.
	busyTime = time.Second
)

// end is one end of a splice: a connection whose write side can be closed alone.
type end = Conn

// spliced tells what passed.
type spliced struct {
	fromClient, fromUpstream int64
	first                    termination.ClosedBy // who ended first
}

// splice carries bytes both ways until both directions have ended. When one direction ends, only that direction is
// closed, so that half-closed protocols work. A reset ends both. A connection on which nothing was carried in either
// direction for the idle time is cut.
func splice(client, upstream end, idle time.Duration) spliced {
	s := newSplicing(client, upstream, idle)
	defer s.stop()
	var inbound int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		inbound = s.carry(upstream, client)
	}()
	outbound := s.carry(client, upstream)
	<-done
	return spliced{fromClient: inbound, fromUpstream: outbound, first: *s.first.Load()}
}

// splicing is a splice under way. Idle is judged for both directions together and apart from their reads and writes:
// where each side waits for the other to read, none of them would ever return.
type splicing struct {
	client, upstream end
	idle             time.Duration
	start            time.Time
	active           atomic.Int64 // when bytes last moved, since start: wall clocks jump
	over             atomic.Bool
	first            atomic.Pointer[termination.ClosedBy]
	timer            *time.Timer
}

// newSplicing starts to watch for idleness; stop ends that.
func newSplicing(client, upstream end, idle time.Duration) *splicing {
	s := newPatientSplicing(client, upstream)
	s.watchIdle(idle)
	return s
}

// newPatientSplicing leaves it to others to tell what is idle.
func newPatientSplicing(client, upstream end) *splicing {
	s := &splicing{client: client, upstream: upstream, start: time.Now()}
	s.timer = time.AfterFunc(math.MaxInt64, s.checkIdle)
	return s
}

// watchIdle watches for idleness from now on. It is called once.
func (s *splicing) watchIdle(idle time.Duration) {
	s.idle = idle
	s.moved()
	s.timer.Reset(idle)
}

func (s *splicing) stop() {
	s.over.Store(true)
	s.timer.Stop()
}

func (s *splicing) moved() { s.active.Store(int64(time.Since(s.start))) }

func (s *splicing) checkIdle() {
	if s.over.Load() {
		return
	}
	if left := s.idle - (time.Since(s.start) - time.Duration(s.active.Load())); left > 0 {
		s.timer.Reset(left)
		return
	}
	s.ended(termination.ClosedByGateway)
	s.abort()
}

// ended notes who ended the connection; the first who says so is right.
func (s *splicing) ended(who termination.ClosedBy) { s.first.CompareAndSwap(nil, &who) }

// abort ends both connections at once.
func (s *splicing) abort() {
	if c, ok := s.client.(*tls.Conn); ok {
		_ = c.NetConn().Close() // no close_notify; what was sent before still arrives
	} else {
		_ = s.client.Close()
	}
	abandon(s.upstream)
}

// abandon closes a connection so that its peer cannot take what it got for the whole: inside TLS without close_notify
// (RFC 8446, section 6.1), otherwise with a reset. Else an attacker who cuts the client's stream would cut a message.
func abandon(c net.Conn) {
	switch c := c.(type) {
	case *tls.Conn:
		_ = c.NetConn().Close()
		return
	case *net.TCPConn:
		_ = c.SetLinger(0)
	case interface{ Reset() error }:
		_ = c.Reset()
	}
	_ = c.Close()
}

// carry copies one direction and returns the number of bytes.
func (s *splicing) carry(to, from end) int64 {
	n, err := s.copy(to, from)
	switch {
	case err == nil:
		s.ended(s.party(from))
		_ = to.CloseWrite() // the peer may be gone already
		return n
	case errors.Is(err, net.ErrClosed):
		s.ended(termination.ClosedByGateway) // who closed it has said so before, if it was another
	case errors.Is(err, errWrite), errors.Is(err, syscall.EPIPE):
		s.ended(s.party(to))
	default:
		s.ended(s.party(from))
	}
	s.abort() // nobody is there to read the rest
	return n
}

func (s *splicing) party(e end) termination.ClosedBy {
	if e == s.client {
		return termination.ClosedByClient
	}
	return termination.ClosedByUpstream
}

// copy returns nil at the end of the stream.
func (s *splicing) copy(to, from end) (int64, error) {
	if in, ok := from.(*net.TCPConn); ok {
		if out, ok := to.(*net.TCPConn); ok {
			return s.copyInKernel(out, in)
		}
	}
	return s.copyHere(to, from)
}

// copyInKernel sets read deadlines only to be told in time that bytes have moved.
func (s *splicing) copyInKernel(to, from *net.TCPConn) (total int64, err error) {
	for {
		_ = from.SetReadDeadline(time.Now().Add(s.idle / idleLooks)) // fails only on a closed connection, and then so does the copy
		n, err := io.Copy(to, &io.LimitedReader{R: from, N: spliceChunk})
		total += n
		if n > 0 {
			s.moved()
		}
		switch {
		case err == nil && n == spliceChunk, errors.Is(err, os.ErrDeadlineExceeded):
		default:
			return total, err
		}
	}
}

// errWrite tells a failed write from a failed read.
var errWrite = errors.New("write")

// copyHere copies what passes between TLS and TCP, with a small buffer while there is little to copy.
func (s *splicing) copyHere(to, from end) (total int64, err error) {
	small := make([]byte, smallBuffer)
	buf := small
	var large *[]byte
	defer func() {
		if large != nil {
			copyBuffers.Put(large)
		}
	}()
	for {
		n, err := from.Read(buf)
		if n > 0 {
			s.moved()
			if _, werr := to.Write(buf[:n]); werr != nil {
				return total, errors.Join(errWrite, werr)
			}
			s.moved()
			total += int64(n)
		}
		switch {
		case err == io.EOF: //nolint:errorlint // readers return it as it is; wrapped it is no clean end
			return total, nil
		case large != nil && errors.Is(err, os.ErrDeadlineExceeded):
			copyBuffers.Put(large)
			large, buf = nil, small
			_ = from.SetReadDeadline(time.Time{})
		case err != nil:
			return total, err
		case large == nil && n == len(buf): // more is coming than fits
			large = copyBuffers.Get().(*[]byte)
			buf = *large
			_ = from.SetReadDeadline(time.Now().Add(busyTime))
		case large != nil:
			_ = from.SetReadDeadline(time.Now().Add(busyTime))
		}
	}
}

// copyBuffers hold what passes between TLS and TCP. A buffer carries bytes of one connection after the other, each
// time no more than were just read.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }} //nolint:gochecknoglobals // a pool
