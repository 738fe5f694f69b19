package gateway

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/proxy"
	"countersign/termination/terminate"
	"countersign/termination/verify"
)

// session is one live connection that was let in.
type session struct {
	record    *termination.Handshake // not to be read by others before it is published
	since     time.Time              // when it was let in
	slot      *slot
	raw       net.Conn // below everything; closing it ends the connection
	conn      *terminate.Conn
	client    verify.Client
	http      *proxy.Conn // of https endpoints
	onLoss    termination.OnLoss
	admission verify.Judgement // that let it in
	closedBy  atomic.Pointer[termination.ClosedBy]
	lost      atomic.Pointer[loss] // why it is no longer admitted; the first reason counts
	until     time.Time            // after which it has to be judged again; zero: no date decides. Guarded by sessions

	over atomic.Bool // its end was published

	mu       sync.Mutex
	after    termination.ConnectionEnd // what HTTP noted so far
	upstream net.Conn                  // of raw bytes
	isCut    bool
}

// endedBy notes who ends the connection; the first who says so is right.
func (s *session) endedBy(who termination.ClosedBy) { s.closedBy.CompareAndSwap(nil, &who) }

// cut ends the connection at once.
func (s *session) cut(who termination.ClosedBy) {
	s.endedBy(who)
	s.mu.Lock()
	s.isCut = true
	upstream := s.upstream
	s.mu.Unlock()
	_ = s.raw.Close() // there is nobody to tell
	if upstream != nil {
		abandon(upstream) // one that does not read would hold the connection
	}
}

// reach notes the upstream, which ends with the session.
func (s *session) reach(upstream net.Conn) {
	s.mu.Lock()
	s.upstream = upstream
	isCut := s.isCut
	s.mu.Unlock()
	if isCut {
		abandon(upstream)
	}
}

// sessions are all live connections.
type sessions struct {
	mu       sync.Mutex
	open     map[*session]struct{}
	earliest time.Time // no until of an open one is before it; zero: none is
}

func (l *sessions) add(s *session) {
	l.mu.Lock()
	l.open[s] = struct{}{}
	l.mu.Unlock()
}

func (l *sessions) remove(s *session) {
	l.mu.Lock()
	delete(l.open, s)
	l.mu.Unlock()
}

// watch notes until when a live connection is admitted as far as dates go; zero: for ever.
func (l *sessions) watch(s *session, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.until = until
	l.hasten(until)
}

// hasten notes a date. The lock is held.
func (l *sessions) hasten(until time.Time) {
	if !until.IsZero() && (l.earliest.IsZero() || until.Before(l.earliest)) {
		l.earliest = until
	}
}

// ended returns the live connections whose dates are over. It looks at all of them only when the earliest date is.
func (l *sessions) ended(now time.Time) (out []*session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.earliest.IsZero() || !now.After(l.earliest) {
		return nil
	}
	l.earliest = time.Time{}
	for s := range l.open {
		if !s.until.IsZero() && now.After(s.until) {
			out = append(out, s)
			s.until = time.Time{} // whoever judges it sets another, if it may stay
			continue
		}
		l.hasten(s.until)
	}
	return out
}

// all returns the live connections of this moment, so that they can be looked at without the lock.
func (l *sessions) all() []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*session, 0, len(l.open))
	for s := range l.open {
		out = append(out, s)
	}
	return out
}

func (l *sessions) closeAll(who termination.ClosedBy) {
	for _, s := range l.all() {
		s.cut(who)
	}
}

// countByEndpoint returns the number of live connections of each endpoint, by ID.
func (l *sessions) countByEndpoint() map[string]int {
	counts := map[string]int{}
	for _, s := range l.all() {
		counts[s.record.EndpointID]++
	}
	return counts
}
