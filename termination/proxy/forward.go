package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"countersign/termination"
	"countersign/termination/upstream"
)

// flushInterval bounds how long a part of an answer whose length is known waits for the next one. What is streamed goes
// on at once.
const flushInterval = 20 * time.Millisecond

const copyBuffer = 32 << 10

// bufferPool implements httputil.BufferPool.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }

// reverseProxy is what forwards to an upstream. The exchange is in the request's context.
func (p *Proxy) reverseProxy(s *service) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     s,
		BufferPool:    &p.buffers,
		FlushInterval: flushInterval,
		ErrorLog:      slog.NewLogLogger(p.options.Log.Handler(), slog.LevelDebug),
		Rewrite: func(r *httputil.ProxyRequest) {
			exchangeFrom(r.In.Context()).rewrite(r)
		},
		ModifyResponse: func(res *http.Response) error {
			exchangeFrom(res.Request.Context()).answered(res)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			exchangeFrom(r.Context()).failed(w, r, err)
		},
	}
}

type exchangeKey struct{}

func exchangeFrom(ctx context.Context) *exchange {
	return ctx.Value(exchangeKey{}).(*exchange) // serveUpstream put it there
}

// serveUpstream forwards the request.
func (x *exchange) serveUpstream(w http.ResponseWriter, r *http.Request) {
	x.to = x.state.services[x.route.upstream]
	if x.to == nil {
		x.refuse(w, r, refusal{status: http.StatusBadGateway, detail: "The service behind is not known."})
		return
	}
	x.keepForwarded(r.Header)
	strip(r.Header, x.site.own)
	if x.route.Also.Strip {
		delete(r.Header, "Authorization")
	}
	if !mayUpgrade(r) {
		delete(r.Header, "Upgrade")
	}
	if r.Header["Upgrade"] != nil && !x.to.tunnels() {
		x.refuse(w, r, refusal{status: http.StatusNotImplemented, detail: "The service behind speaks HTTP/2 only, which cannot carry this WebSocket."})
		return
	}
	x.incoming = r
	x.patience = newPatience(r, cmp.Or(x.to.policy.ResponseTimeout, x.proxy.options.Patience))
	defer x.patience.end()
	defer x.enter()()
	r = r.WithContext(context.WithValue(x.patience.context, exchangeKey{}, x))
	if r.Body != nil && r.Body != http.NoBody {
		x.body = newRequestBody(w, r, x)
		r.Body = x.body
	}
	defer x.goTo(nil)
	x.to.forward.ServeHTTP(w, r)
}

// mayUpgrade reports whether a request can become a tunnel: HTTP/1.0 has none (RFC 9110, section 7.8), and a WebSocket
// begins with a GET (RFC 6455, section 4.1), which has no body that could be taken for the tunnel's first bytes.
func mayUpgrade(r *http.Request) bool {
	return r.ProtoAtLeast(1, 1) && r.Method == http.MethodGet && r.ContentLength == 0
}

// rewrite completes the request for the upstream. It runs after headers that the client named in Connection were
// removed, so none of ours can be.
func (x *exchange) rewrite(r *httputil.ProxyRequest) {
	to := x.target
	if x.route.Strip {
		to = to.below(x.route.Path)
	}
	r.Out.URL = &url.URL{
		Scheme: x.to.scheme, Path: to.path, // the host follows with the choice of the target
		Opaque:   to.raw, // is written as it stands, where Path would be escaped anew
		RawQuery: to.query, ForceQuery: to.hasQuery,
	}
	x.setForwarded(r.Out.Header)
	x.setIdentity(r.Out.Header)
	if x.body != nil {
		r.Out.Trailer = x.body.trailer
		if len(r.Out.Trailer) > 0 {
			r.Out.ContentLength = -1 // only a chunked body has trailers in HTTP/1.1
		}
	}
}

// setForwarded tells the upstream where the request came from. What the client said about that was removed.
func (x *exchange) setForwarded(h http.Header) {
	address := clientAddress(x.conn.Handshake.Peer)
	host := x.incoming.Host
	node := address
	if strings.Contains(node, ":") {
		node = `"[` + node + `]"` // RFC 7239, section 6
	}
	set := func(name, value string) { h[name] = []string{value} }
	set("Forwarded", "for="+node+`;host="`+host+`";proto=https`)
	path := address
	if x.forwarded.by != "" {
		path = x.forwarded.by + ", " + address
	}
	set("X-Forwarded-For", path)
	set("X-Forwarded-Host", cmp.Or(x.forwarded.host, host))
	set("X-Forwarded-Proto", cmp.Or(x.forwarded.proto, "https"))
	if x.route.Strip {
		set("X-Forwarded-Prefix", x.route.Path)
	}
	set("X-Forwarded-Port", strconv.Itoa(int(x.conn.Listen.Port())))
	set("X-Real-Ip", address)
}

// answered is called when the upstream has begun to answer.
func (x *exchange) answered(res *http.Response) {
	x.patience.over()
	x.at.Answers()
	x.conn.noteReached(x.at.Name(), 0) // over a connection that was open already
	stripSetCookies(res.Header)
	if x.conn.draining.Load() && res.StatusCode != http.StatusSwitchingProtocols { // since this request began
		res.Header.Set("Connection", "close") // HTTP/2: GOAWAY
	}
	if len(res.Trailer) > 0 && x.incoming.ProtoMajor == 1 {
		res.Header.Del("Content-Length") // only a chunked body has trailers in HTTP/1.1
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body = &responseBody{ReadCloser: res.Body, x: x}
	} else if tunnel, ok := res.Body.(io.ReadWriteCloser); ok {
		x.tunnels.Store(true)
		res.Body = newUpstreamTunnel(tunnel, x)
	}
}

// failed is called when there is no answer of the upstream to pass on.
func (x *exchange) failed(w http.ResponseWriter, r *http.Request, err error) {
	left := x.incoming.Context().Err() != nil
	switch status := x.body.brokenOff(left); status {
	case 0:
	case http.StatusRequestEntityTooLarge:
		x.tooLarge("a body", int(x.site.limits.Body))
		x.refuse(w, x.incoming, *bodyTooLarge(x.incoming))
		return
	default:
		x.refuse(w, x.incoming, refusal{status: status, detail: "The request's body broke off.", close: true})
		return
	}
	if left || context.Cause(r.Context()) == errLost { //nolint:errorlint // it is never wrapped
		panic(http.ErrAbortHandler) // there is nobody to answer, and nobody to blame
	}
	if context.Cause(r.Context()) == errNoAnswer { //nolint:errorlint // it is never wrapped
		err = errNoAnswer
	}
	x.upstreamDown(err)
	if x.at != nil && !notSent(err) {
		x.at.Broke(err)
	}
	no := refusal{status: http.StatusBadGateway, reason: termination.ReasonUpstreamDown, detail: "The service behind this endpoint does not answer.", close: x.body.unread()}
	if isTimeout(err) {
		no.status, no.detail = http.StatusGatewayTimeout, "The service behind this endpoint did not answer in time."
	}
	x.refuse(w, x.incoming, no)
}

// upstreamDown notes that the upstream failed this request.
func (x *exchange) upstreamDown(err error) {
	result := &termination.UpstreamResult{Address: x.targetName(), Error: err.Error()}
	var dial *upstream.DialError
	if errors.As(err, &dial) {
		result.Connect = dial.Took
	}
	x.conn.note(Note{Reason: termination.ReasonUpstreamDown, Detail: failureText(x.targetName(), err), Upstream: result})
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, errNoAnswer) || errors.As(err, &timeout) && timeout.Timeout()
}

func (x *exchange) refuse(w http.ResponseWriter, r *http.Request, no refusal) {
	if x.verbose() {
		no.advice = adviceFor(no.reason, x.conn.Handshake.Presented, x.proxy.options.Now())
	}
	x.proxy.pages.refuse(w, r, x.conn, no)
}
