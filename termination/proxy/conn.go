package proxy

import (
	"context"
	"crypto/x509"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/verify"
)

// ConnOptions say what the proxy must know of a connection.
type ConnOptions struct {
	Handshake *termination.Handshake // its record, which nobody changes any more
	Shown     *x509.Certificate      // our certificate that the client saw; nil: not known, or a session was resumed
	Listen    netip.AddrPort         // the configured address of its listener, as in termination.Endpoint.Address
	Visit     int64                  // 1 for the first client of its endpoint, 2 for the next; 0: not counted
	Note      func(Note)             // takes what happens after the handshake, from any goroutine; nil: nobody listens
	Close     func()                 // ends the connection at once; used by Drain; nil: nobody can
	// Lost is told when a request ends the connection because the policy no longer admits its client; nil: nobody listens.
	Lost func(verify.Judgement)
}

// Note is something that happened on a connection after its handshake, for the end of its record.
type Note struct {
	Reason   termination.Reason // empty: nothing went wrong
	Detail   string             // one sentence
	Upstream *termination.UpstreamResult
}

// Conn is a connection that was let in. It is safe for concurrent use: HTTP/2 runs many requests on one.
type Conn struct {
	ConnOptions

	requests atomic.Int64
	reached  atomic.Bool // an upstream's connect time was noted
	draining atomic.Bool
	idle     atomic.Bool
	before   atomic.Int64 // the number of requests before what is read now, in HTTP/1.1; see Ended

	mu       sync.Mutex
	judged   map[judgedBy]verify.Judgement
	told     *told                  // for the last request; nil: nothing yet
	leftOut  string                 // what was noted last of headers that were not told
	inFlight map[*exchange]struct{} // that an upstream has got

	failures atomic.Int32 // tokens and passwords that were of no use

	own ownConns

	identityOnce sync.Once
	identity     identity
}

// judgedBy is what a judgement depends on.
type judgedBy struct {
	policy     string // hash
	identities string // key: not all that they decide is in the hash
	revocation uint64 // generation
}

// NewConn makes a Conn of a connection whose handshake is done.
func NewConn(o ConnOptions) *Conn {
	c := &Conn{ConnOptions: o}
	c.idle.Store(true)
	return c
}

type connKey struct{}

// WithConn returns a context that carries c to [Proxy.ServeHTTP], as http.Server.ConnContext does.
func WithConn(ctx context.Context, c *Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnFrom returns the connection that ctx carries, or nil.
func ConnFrom(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// Requests is the number of requests so far, refused ones included.
func (c *Conn) Requests() int64 { return c.requests.Load() }

// Drain lets requests in flight finish, accepts no further one, and then closes the connection. One without a request
// in flight, and one that was taken over by a WebSocket, closes at once.
func (c *Conn) Drain() {
	c.draining.Store(true)
	if c.idle.Load() {
		c.close()
	}
}

// drainGrace is how long a drained HTTP/2 connection stays open after its last stream: net/http calls it idle a moment
// before the last frames are written, and the client has to read them.
const drainGrace = time.Second

// setIdle is told by the server whether requests are in flight.
func (c *Conn) setIdle(idle bool) {
	c.idle.Store(idle)
	if !idle || !c.draining.Load() {
		return
	}
	if !c.http2() {
		c.close()
		return
	}
	time.AfterFunc(drainGrace, func() {
		if c.idle.Load() {
			c.close()
		}
	})
}

// http2 reports whether the connection speaks HTTP/2.
func (c *Conn) http2() bool { return c.Handshake.Chosen != nil && c.Handshake.Chosen.ALPN == "h2" }

// beginRequest is told by the server that something was read that should be a request.
func (c *Conn) beginRequest() { c.before.Store(c.requests.Load()) }

// Ended is called when the connection ends, before its record does. It notes when what was read last never became a
// request: net/http answers that itself, with a plain 400 or the like, and tells nobody.
func (c *Conn) Ended() {
	if !c.http2() && !c.idle.Load() && c.before.Load() == c.requests.Load() {
		c.note(Note{Reason: termination.ReasonHTTPBroken, Detail: "The client sent something that is not an HTTP request, or only a part of one."})
	}
}

func (c *Conn) close() {
	if c.Close != nil {
		c.Close()
	}
}

// lost tells that a request ends the connection, since its client is no longer admitted.
func (c *Conn) lost(j verify.Judgement) {
	if c.Lost != nil {
		c.Lost(j)
	}
}

// note passes n on, if somebody listens.
func (c *Conn) note(n Note) {
	if c.Note != nil {
		c.Note(n)
	}
}

// cameTo reports whether the connection was made to where an endpoint listens today.
func (c *Conn) cameTo(e *termination.Endpoint) bool {
	return e.Address() == c.Listen || e.ListensAt(c.Handshake.Local)
}

// hadName reports whether the client named a server in its ClientHello.
func (c *Conn) hadName() bool { return c.Handshake.Hello != nil && c.Handshake.Hello.ServerName != "" }

// client is what is known of the client of the connection.
func (c *Conn) client() verify.Client {
	h := c.Handshake
	client := verify.Client{Presented: h.Presented, Peer: h.Peer}
	if h.Hello != nil {
		client.ServerName = h.Hello.ServerName
	}
	if h.Chosen != nil {
		client.Version = h.Chosen.Version
	}
	return client
}

// judgementsKept bounds the judgements of one connection: policies come and go while it lives.
const judgementsKept = 32

// judge says what policy p makes of the presented chain. The answer is kept until the policy changes and with it the
// hash, or what is known of blocked and revoked certificates, or until a certificate ends: expiry ends what it let in.
// A policy that asks for the time is asked each time.
func (c *Conn) judge(p *verify.Policy, now time.Time) verify.Judgement {
	if p.Timed() {
		return p.Judge(c.client(), now)
	}
	by := judgedBy{p.Hash(), p.IdentitiesKey(), p.Generation()}
	c.mu.Lock()
	j, ok := c.judged[by]
	c.mu.Unlock()
	if ok && j.HoldsAt(now) {
		return j
	}
	j = p.Judge(c.client(), now)
	if len(j.Ask) > 0 { // an answer may come any moment
		p.AskLater(j.Ask)
		return j
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.judged) >= judgementsKept {
		clear(c.judged)
	}
	if c.judged == nil {
		c.judged = map[judgedBy]verify.Judgement{}
	}
	c.judged[by] = j
	return j
}

// admits reports whether the site lets the connection in: by its own policy, or by that of one of its routes, or because
// one of them is soft. It is the rule by which the handshake was judged.
func (s *Site) admits(c *Conn, now time.Time) bool {
	for _, p := range s.policies {
		if p.Soft() || c.judge(p, now).In {
			return true
		}
	}
	return false
}
