package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"

	"countersign/termination"
	"countersign/termination/proxy"
	"countersign/termination/terminate"
	"countersign/termination/verify"
)

// front is an HTTP server that takes over connections of https endpoints after their handshake.
type front struct {
	limits termination.Limits
	server *http.Server
	ready  *readyConns
}

// useFront makes sure that new connections are served within these limits. An http.Server cannot change its limits, so
// other ones mean another server; the one before goes on with the connections that it has.
func (g *Gateway) useFront(limits termination.Limits) {
	if f := g.front.Load(); f != nil && sameHTTPLimits(f.limits, limits) {
		return
	}
	for _, f := range g.fronts { // limits that come back find their server again
		if sameHTTPLimits(f.limits, limits) {
			g.front.Store(f)
			return
		}
	}
	g.fronts = append(g.fronts, g.newFront(limits))
}

// lastFront takes over from all others when the gateway closes: of each connection that still comes it serves what the
// client has asked for first.
func (g *Gateway) lastFront() *front {
	f := g.newFront(g.front.Load().limits)
	f.server.SetKeepAlivesEnabled(false)
	return f
}

// newFront starts a server and gives it the connections from now on.
func (g *Gateway) newFront(limits termination.Limits) *front {
	f := &front{limits: limits, ready: newReadyConns()}
	f.server = proxy.NewServer(g.proxy, proxy.ServerOptions{
		Limits: limits,
		Log:    g.log,
		Conn:   func(c net.Conn) *proxy.Conn { return sessionOf(c).http },
	})
	g.workers.Go(func() { _ = f.server.Serve(f.ready) }) // its only error is that it was closed
	g.front.Store(f)
	return f
}

func sameHTTPLimits(a, b termination.Limits) bool {
	return a.HandshakeTimeout == b.HandshakeTimeout && a.IdleTimeout == b.IdleTimeout && a.Header == b.Header
}

// sessionOf finds the session of a connection that handToHTTP has handed over.
func sessionOf(c net.Conn) *session {
	return c.(*tls.Conn).NetConn().(*terminate.Conn).Value.(*session)
}

// handToHTTP gives a finished TLS connection to the HTTP server, which from here on owns it.
func (c *client) handToHTTP(s *session, result terminate.Result) {
	g := c.gateway
	s.http = proxy.NewConn(proxy.ConnOptions{
		Handshake: s.record,
		Shown:     s.conn.Presented(),
		Listen:    c.endpoint.Address(),
		Visit:     c.endpoint.countVisit(s.record),
		Note:      s.note,
		Close:     func() { s.cut(termination.ClosedByPolicy) },
		Lost: func(j verify.Judgement) {
			why := lossOf(j)
			s.lost.CompareAndSwap(nil, &why)
			s.endedBy(termination.ClosedByPolicy)
		},
	})
	s.conn.Value = s
	g.conns.Add(1)
	s.conn.OnClose(func() {
		if s.conn.PeerClosed() || saidGoodbye(result.Conn) {
			s.endedBy(termination.ClosedByClient)
		}
		s.http.Ended()
		g.finish(s, c.leftForName(s, s.noted(s.http.Requests())))
		s.slot.release()
		g.conns.Done()
	})
	c.handed = true
	g.live.add(s)
	c.publish()
	c.judgeLate(s)
	for f := g.front.Load(); !f.ready.offer(result.Conn); {
		next := g.front.Load()
		if next == f { // nobody serves any more
			_ = result.Conn.Close()
			return
		}
		f = next
	}
}

// leftForName notes that a client most likely left because of our certificate's name: some, curl among them, compare
// it only after the handshake, and then go without an alert and without a request.
func (c *client) leftForName(s *session, end termination.ConnectionEnd) termination.ConnectionEnd {
	who := s.closedBy.Load()
	asked := c.record.Hello.ServerName
	if end.Requests > 0 || end.Reason != "" || who == nil || *who != termination.ClosedByClient || asked == "" {
		return end
	}
	for _, leaf := range c.endpoint.chooser.Leaves() {
		if leaf.VerifyHostname(asked) == nil {
			return end
		}
	}
	end.Reason = termination.ReasonClientLeft
	end.Detail = "It closed after the handshake without a request, and our certificate does not have the name that it asked for."
	return end
}

// saidGoodbye reports whether the client's close_notify was read on a connection that is closed below TLS: only
// crypto/tls has seen it, and says so as long as it is asked.
func saidGoodbye(c *tls.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return err == io.EOF //nolint:errorlint // as crypto/tls returns it
}

// countVisit counts the clients that were verified at an endpoint; others, and our own proofs, are not counted.
func (e *endpoint) countVisit(rec *termination.Handshake) int64 {
	if rec.Proof || rec.Verdict.Outcome != termination.OutcomeVerified {
		return 0
	}
	return e.visits.Add(1)
}

// note takes what happened on an HTTP connection after its handshake.
func (s *session) note(n proxy.Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.Upstream != nil && (s.after.Upstream == nil || n.Upstream.Error != "") {
		s.after.Upstream = n.Upstream
	}
	if n.Reason != "" {
		s.after.Reason, s.after.Detail = n.Reason, n.Detail
	}
}

// noted returns what was noted, for the end of the record.
func (s *session) noted(requests int64) termination.ConnectionEnd {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.after
	end.Requests = requests
	return end
}

// readyConns is a net.Listener whose connections have their TLS handshake behind them.
type readyConns struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newReadyConns() *readyConns {
	return &readyConns{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// offer hands a connection over, unless nobody serves here any more.
func (r *readyConns) offer(c net.Conn) bool {
	select {
	case r.conns <- c:
		return true
	case <-r.closed:
		return false
	}
}

// Accept implements net.Listener.
func (r *readyConns) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (r *readyConns) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

// Addr implements net.Listener; the connections have their own addresses.
func (r *readyConns) Addr() net.Addr { return &net.TCPAddr{} }
