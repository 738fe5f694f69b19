package proxy

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"countersign/termination"
	"countersign/termination/credential"
	"countersign/termination/expression"
	"countersign/termination/rate"
	"countersign/termination/upstream"
	"countersign/termination/verify"
)

// DefaultPatience is long, since services may think about an answer; what is quiet after its header is not bounded.
const DefaultPatience = 5 * time.Minute

// Options are what a proxy needs besides its table.
type Options struct {
	Log         *slog.Logger     // nil: discards
	Now         func() time.Time // nil: time.Now
	Dial        DialFunc         // nil: net.Dialer
	DialTimeout time.Duration    // of upstreams that have none of their own; 0: upstream.DefaultConnectTimeout
	// Patience bounds how long an upstream without a timeout of its own may take to begin its answer, and how long an
	// HTTP/1.1 client may be silent in the middle of a request body; 0: DefaultPatience.
	Patience time.Duration
	// Portal answers where the upstream is the built-in portal; nil: nobody does.
	Portal http.Handler
	// Rate bounds the requests of identities; nil: nothing does.
	Rate *rate.Limiter
}

// Proxy serves the requests of all connections. It serves nothing until Swap.
type Proxy struct {
	options Options
	pages   *pages
	buffers bufferPool
	targets *upstream.Set
	checker *credential.Checker
	current atomic.Pointer[snapshot]

	mu     sync.Mutex // serialises Swap and Close
	closed bool
}

// snapshot is a table with the upstreams it needs. It is immutable.
type snapshot struct {
	table      *Table
	services   map[upstream.Key]*service
	transports map[*upstream.Target]*transport
}

// New returns a proxy that answers 503 until its first Swap.
func New(o Options) *Proxy {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	p := &Proxy{options: o, pages: newPages(), checker: credential.New(credential.Options{Now: o.Now})}
	p.targets = upstream.NewSet(upstream.Options{Dial: o.Dial, Now: o.Now, Log: o.Log, ConnectTimeout: o.DialTimeout})
	p.current.Store(emptySnapshot())
	return p
}

// Swap serves t from now on. Upstreams that are in both tables keep their connections; idle ones of the others close,
// and so do theirs that are in use, once they are not.
func (p *Proxy) Swap(t *Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	before := p.current.Load()
	next := p.useUpstreams(t, before)
	p.current.Store(next)
	for target, transport := range before.transports {
		if next.transports[target] == nil {
			transport.closeIdle()
		}
	}
}

// Close closes the idle connections to upstreams and ends their checks. Requests must have ended, and none is served afterwards.
func (p *Proxy) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	last := p.current.Swap(emptySnapshot())
	for _, transport := range last.transports {
		transport.closeIdle()
	}
	p.targets.Close()
}

func emptySnapshot() *snapshot {
	t, _ := NewTable() // fails only for two sites with one name
	return &snapshot{table: t}
}

// exchange is one request on its way through.
type exchange struct {
	proxy  *Proxy
	state  *snapshot
	conn   *Conn
	site   *Site  // of the request's host, and unless the connection came by a fallback, of the connection
	target target // what the client asked for
	route  Route
	asked  expression.Request
	client verify.Judgement // what the policy in force for this request makes of the client

	proof *termination.Credential // that let the request in besides the certificate, or instead of it; nil: none

	// While it is forwarded:
	to        *service
	at        *upstream.Target // where the request went last
	incoming  *http.Request
	forwarded forwarded    // by a proxy that is believed
	body      *requestBody // nil without a body
	patience  *patience
	tunnels   atomic.Bool // it became a WebSocket
}

// ServeHTTP carries one request. Its steps are those of the package comment; each ends the request or lets it pass.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer p.recover(r)
	c := ConnFrom(r.Context())
	if c == nil {
		p.options.Log.Error("a request without a connection was refused", "remote", r.RemoteAddr)
		p.pages.refuse(w, r, nil, refusal{status: http.StatusInternalServerError, detail: "The gateway does not know this connection."})
		return
	}
	c.requests.Add(1)
	if !r.ProtoAtLeast(1, 1) {
		// One with a Transfer-Encoding, which net/http ignores here, must be the last (RFC 9112, section 6.1).
		w.Header().Set("Connection", "close")
	}
	x := &exchange{proxy: p, state: p.current.Load(), conn: c}
	for _, step := range [...]func(*http.Request) *refusal{x.readHead, x.findHost, x.findSite, x.checkSize, x.admit, x.findRoute, x.authorize, x.pace, x.prove} {
		if no := step(r); no != nil {
			x.refuse(w, r, *no)
			return
		}
	}
	if c.draining.Load() {
		w.Header().Set("Connection", "close") // HTTP/2: GOAWAY
	}
	if x.route.to.Scheme == termination.UpstreamBuiltin {
		x.serveBuiltin(w, r)
		return
	}
	x.serveUpstream(w, r)
}

// recover keeps the process alive and the client without an answer when a request panics. net/http would do so too,
// but tell nobody at a level that is read.
func (p *Proxy) recover(r *http.Request) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler: // compared as net/http compares it
		panic(v)
	default:
		p.options.Log.Error("panic in a request", "method", r.Method, "panic", v, "stack", string(debug.Stack()))
		panic(http.ErrAbortHandler)
	}
}

// readHead refuses what net/http lets pass in HTTP/2 and HTTP/1.1 has no words for.
func (x *exchange) readHead(r *http.Request) *refusal {
	if !httpguts.ValidHeaderFieldName(r.Method) { // it is a token too (RFC 9110, section 9.1)
		return &refusal{status: http.StatusBadRequest, detail: "The request's method is not a token."}
	}
	// Of several net/http takes the first, and one that is no number for 0 (RFC 9113, section 8.1.1).
	if l := r.Header["Content-Length"]; len(l) > 1 || len(l) == 1 && (l[0] == "" || strings.Trim(l[0], "0123456789") != "") {
		return &refusal{status: http.StatusBadRequest, detail: "The request's length is not a number."}
	}
	return nil
}

// findHost finds the site of the host that the request names.
func (x *exchange) findHost(r *http.Request) *refusal {
	host, err := requestHost(r)
	if err != nil {
		return &refusal{status: http.StatusBadRequest, detail: err.Error()}
	}
	at := x.conn.Listen
	if own := x.own(); own != nil && x.conn.cameTo(own.Endpoint) {
		at = own.Endpoint.Address() // the listener may have grown or shrunk around the connection
	}
	x.site, _ = x.state.table.Lookup(at, host)
	return nil
}

// own is the site of the connection's endpoint; nil: there is none any more.
func (x *exchange) own() *Site { return x.state.table.Site(x.conn.Handshake.EndpointID) }

// badRequest is what is wrong with a request, in a sentence for the client.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// requestHost returns the one host that a request names, as it was written. The error is a badRequest.
func requestHost(r *http.Request) (string, error) {
	if r.Host == "" {
		return "", badRequest("The request names no host; send a Host header.")
	}
	if _, err := NormalizePeerName(r.Host); err != nil || strings.IndexFunc(r.Host, notASCII) >= 0 {
		return "", badRequest("The request's host is not a host name.")
	}
	// In HTTP/1.1, net/http follows RFC 9112, section 3.2.2: the host of an absolute request target replaces the header.
	// In HTTP/2, it lets a Host beside :authority pass, and an upstream might believe that one (RFC 9113, section 8.3.1).
	for _, h := range r.Header["Host"] {
		if !strings.EqualFold(h, r.Host) {
			return "", badRequest("The request names two different hosts.")
		}
	}
	return r.Host, nil
}

func notASCII(r rune) bool { return r >= utf8.RuneSelf }

// findSite compares the site of the host with that of the connection.
func (x *exchange) findSite(r *http.Request) *refusal {
	own := x.own()
	switch {
	case own == nil || !own.http() || !x.conn.cameTo(own.Endpoint):
		// The endpoint of the connection is gone, or is no longer what the client was let in to.
	case x.site == nil || !x.site.http():
	case x.site == own:
		return nil
	case own.Endpoint.Fallback() && !x.conn.hadName():
		return x.enterOther()
	}
	x.conn.note(Note{
		Reason: termination.ReasonHostMismatch,
		Detail: fmt.Sprintf("A request asked for the host %.300q, which this connection, made to %s, does not serve.", r.Host, madeTo(x.conn)),
	})
	return &refusal{
		status: http.StatusMisdirectedRequest, reason: termination.ReasonHostMismatch,
		detail: "This connection does not serve that host. Open a new connection with the host's name in the TLS handshake (SNI).",
	}
}

func madeTo(c *Conn) string {
	if c.hadName() {
		return fmt.Sprintf("%.300q", c.Handshake.Hello.ServerName)
	}
	return "no server name"
}

// enterOther lets a connection without SNI, which came in by a fallback, into another endpoint when it meets that
// endpoint's policy: client certificate, and what TLS agreed on.
func (x *exchange) enterOther() *refusal {
	e := x.site.Endpoint
	if reason := x.site.tls.Objection(x.conn.Handshake.Chosen); reason != "" {
		return x.forbid(verify.Judgement{Reason: reason}, "the endpoint "+e.Name)
	}
	if !x.site.admits(x.conn, x.proxy.options.Now()) {
		return x.forbid(x.conn.judge(x.site.Policy, x.proxy.options.Now()), "the endpoint "+e.Name)
	}
	return nil
}

// admit judges the connection again by the policy of this moment: it may have changed since the handshake.
func (x *exchange) admit(*http.Request) *refusal {
	own := x.state.table.Site(x.conn.Handshake.EndpointID)
	now := x.proxy.options.Now()
	judgement := verify.Judgement{Reason: own.tls.Objection(x.conn.Handshake.Chosen)}
	if judgement.Reason == "" {
		if own.admits(x.conn, now) {
			return nil
		}
		judgement = x.conn.judge(own.Policy, now)
	}
	no := x.forbid(judgement, "the endpoint "+own.Endpoint.Name)
	if own.Policy.OnLoss() != termination.OnLossLeave {
		no.close = true
		x.conn.lost(judgement)
	}
	return no
}

// findRoute reads the path and finds its route.
func (x *exchange) findRoute(r *http.Request) *refusal {
	var err error
	if x.target, err = readTarget(r); err != nil {
		return &refusal{status: http.StatusBadRequest, detail: err.Error()}
	}
	x.route = x.site.route(x.target.path)
	return nil
}

// authorize judges the client by the policy that holds for the path.
func (x *exchange) authorize(r *http.Request) *refusal {
	x.judge(r)
	if x.client.In || x.route.Also.StandsIn() && replaceable(x.client.Reason) {
		return nil
	}
	return x.forbid(x.client, x.where())
}

// where names what a request asked for, for the operator.
func (x *exchange) where() string {
	if x.route.Path != "" {
		return "the route " + x.route.Path + " of the endpoint " + x.site.Endpoint.Name
	}
	return "the endpoint " + x.site.Endpoint.Name
}

// pace refuses the requests of an identity that come faster than it may.
func (x *exchange) pace(*http.Request) *refusal {
	if x.client.ReportOnly {
		return nil
	}
	wait := x.proxy.options.Rate.Take(x.client.Identity)
	if wait == 0 {
		return nil
	}
	x.conn.note(Note{
		Reason: termination.ReasonRateLimited,
		Detail: fmt.Sprintf("A request was refused: the identity %s sends more than its rate of %s allows.", x.client.Identity.Name, x.client.Identity.Rate),
	})
	return &refusal{
		status: http.StatusTooManyRequests, code: codeRateLimited, retryAfter: wait,
		detail: "This client sends more requests than it may. Wait, and send them more slowly.",
	}
}

// judge says what the policy of the route makes of the client: that of the connection, completed by the request where the
// policy's expression asks for it.
func (x *exchange) judge(r *http.Request) {
	host, _ := NormalizePeerName(r.Host) // it was read before
	x.asked = expression.Request{Method: r.Method, Path: x.target.path, Host: host}
	var undecided bool
	x.client, undecided = x.judgedBy(x.route.Policy)
	if undecided && x.client.WouldRefuse {
		x.conn.note(Note{
			Reason: x.client.Reason,
			Detail: fmt.Sprintf("A request came in although the policy says no, since it only reports: %s.", x.client.Reason),
		})
	}
}

// judgedBy is what a policy makes of the client and its request, and whether the request was looked at for that.
func (x *exchange) judgedBy(p *verify.Policy) (j verify.Judgement, undecided bool) {
	now := x.proxy.options.Now()
	j = x.conn.judge(p, now)
	if !j.Undecided {
		return j, false
	}
	return p.JudgeRequest(j, x.conn.client(), x.asked, now), true
}

// forbid is the refusal of a client that a policy does not let in. The client learns no more than the kind of reason.
func (x *exchange) forbid(j verify.Judgement, where string) *refusal {
	reason := termination.ReasonPolicyDenied
	if j.Reason == termination.ReasonExpressionError {
		reason = j.Reason // the operator's turn, not the client's
	}
	x.conn.note(Note{
		Reason: reason,
		Detail: fmt.Sprintf("A request was refused by %s: %s.", where, j.Reason),
	})
	return forbidden(j.Reason)
}

func (x *exchange) serveBuiltin(w http.ResponseWriter, r *http.Request) {
	switch {
	case x.route.to.Address == termination.BuiltinWhoami:
		x.whoami(w, r)
		return
	case x.route.to.Address == termination.BuiltinPortal && x.proxy.options.Portal != nil:
		x.proxy.options.Portal.ServeHTTP(w, r)
		return
	}
	x.refuse(w, r, refusal{status: http.StatusBadGateway, detail: "The service behind is not known."})
}
