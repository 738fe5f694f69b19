package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/upstream"
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc = upstream.DialFunc

// service is an upstream with the connections to its targets.
type service struct {
	name       string // for people
	scheme     string // of URLs
	policy     termination.UpstreamPolicy
	targets    *upstream.Service
	transports map[*upstream.Target]*transport
	websocket  bool // whether one can be carried
	forward    *httputil.ReverseProxy
}

// useUpstreams makes the services that a table needs. Targets that are in both tables keep their connections.
func (p *Proxy) useUpstreams(t *Table, before *snapshot) *snapshot {
	var wanted []termination.Upstream
	for _, s := range t.byID {
		s.upstreams(func(u termination.Upstream) { wanted = append(wanted, u) })
	}
	found := p.targets.Use(wanted)
	next := &snapshot{table: t, services: map[upstream.Key]*service{}, transports: map[*upstream.Target]*transport{}}
	for _, u := range wanted {
		key := upstream.KeyOf(u)
		if found[key] == nil || next.services[key] != nil {
			continue
		}
		for _, target := range found[key].Targets() {
			switch {
			case next.transports[target] != nil:
			case before.transports[target] != nil:
				next.transports[target] = before.transports[target]
			default:
				next.transports[target] = p.newTransport(target, nil)
			}
		}
		next.services[key] = before.services[key]
		if s := next.services[key]; s == nil || s.targets != found[key] {
			next.services[key] = p.newService(u, found[key], next.transports)
		}
	}
	return next
}

func (p *Proxy) newService(u termination.Upstream, targets *upstream.Service, transports map[*upstream.Target]*transport) *service {
	s := &service{name: u.String(), policy: u.Policy, targets: targets, transports: map[*upstream.Target]*transport{}}
	for _, t := range targets.Targets() {
		s.transports[t] = transports[t]
		// HTTP/2 has another way to open a WebSocket (RFC 8441), which net/http does not speak as a client.
		s.websocket = transports[t].main.Protocols.HTTP1()
		s.scheme = t.URLScheme()
	}
	s.forward = p.reverseProxy(s)
	return s
}

func (s *service) tunnels() bool { return s.websocket }

// RoundTrip implements http.RoundTripper: it sends the request to the best target, and to the next one when no
// connection could be had. What was sent is never sent again here; net/http does that for requests without a body that
// change nothing, when a kept connection turns out to be closed (RFC 9110, section 9.2.2).
func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeFrom(r.Context())
	choice := s.targets.Choose()
	var held *heldBody
	if choice.More() && len(s.transports) > 1 {
		held = hold(r)
	}
	for {
		t := choice.Next()
		x.goTo(t)
		r.URL.Host = t.Host()
		if s.policy.Host == termination.HostUpstream {
			r.Host = t.Host()
		}
		res, err := x.transport(t).roundTrip(r)
		if err == nil || !notSent(err) || held.begun() || !choice.More() || r.Context().Err() != nil {
			if err != nil && held != nil {
				_ = held.ReadCloser.Close() // as every RoundTripper does
			}
			return res, err
		}
		again := *r // the transport before may still look at its own
		address := *r.URL
		again.URL = &address
		r = &again
	}
}

func notSent(err error) bool {
	var dial *upstream.DialError
	return errors.As(err, &dial)
}

// heldBody is the body of a request that may have to go to another target: until something was read of it, closing does
// nothing.
type heldBody struct {
	io.ReadCloser
	read atomic.Bool
}

// hold returns nil for a request without a body.
func hold(r *http.Request) *heldBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &heldBody{ReadCloser: r.Body}
	r.Body = b
	return b
}

func (b *heldBody) begun() bool { return b != nil && b.read.Load() }

// Read implements io.Reader.
func (b *heldBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

// Close implements io.Closer.
func (b *heldBody) Close() error {
	if !b.read.Load() {
		return nil
	}
	return b.ReadCloser.Close()
}

// goTo counts the request at a target, and no longer at the one before. With nil it has ended.
func (x *exchange) goTo(t *upstream.Target) {
	if x.at != nil {
		x.at.End()
	}
	if x.at = t; t != nil {
		t.Begin()
	}
}

// targetName is the name of where the request went.
func (x *exchange) targetName() string {
	if x.at == nil {
		return x.to.name
	}
	return x.at.Name()
}

// transport holds the connections to one target.
type transport struct {
	main    *http.Transport
	upgrade *http.Transport // for WebSockets, where ALPN could choose HTTP/2, which cannot carry them; nil: main
}

func (p *Proxy) newTransport(t *upstream.Target, header []byte) *transport {
	out := &transport{main: t.NewTransport(p.dialer(t, t.Dial, header))}
	if t.Secured() {
		out.upgrade = t.NewTransport(p.dialer(t, t.DialHTTP1, header))
	}
	return out
}

func (t *transport) roundTrip(r *http.Request) (*http.Response, error) {
	if t.upgrade != nil && r.Header["Upgrade"] != nil {
		return t.upgrade.RoundTrip(r)
	}
	return t.main.RoundTrip(r)
}

func (t *transport) closeIdle() {
	t.main.CloseIdleConnections()
	if t.upgrade != nil {
		t.upgrade.CloseIdleConnections()
	}
}

// dialTarget is one of the ways to dial a target.
type dialTarget func(context.Context, []byte) (net.Conn, time.Duration, error)

// dialer dials a target, and tells the connection that it dials for how long it took.
func (p *Proxy) dialer(t *upstream.Target, dial dialTarget, header []byte) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, took, err := dial(ctx, header)
		if err != nil {
			return nil, err
		}
		if c := ConnFrom(ctx); c != nil {
			c.noteReached(t.Name(), took)
		}
		return conn, nil
	}
}

// noteReached reports the first upstream that the connection reached.
func (c *Conn) noteReached(name string, took time.Duration) {
	if c.reached.CompareAndSwap(false, true) {
		c.note(Note{Upstream: &termination.UpstreamResult{Address: name, Connect: took}})
	}
}

// failureText says in one sentence what went wrong with an upstream, for the operator.
func failureText(name string, err error) string {
	var dial *upstream.DialError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &verification):
		return fmt.Sprintf("The certificate of %s is not accepted: %v.", name, verification.Err)
	case errors.As(err, &dial) && dial.InTLS:
		return fmt.Sprintf("Cannot secure the connection to %s after %s: %v.", name, dial.Took.Round(time.Millisecond), dial.Err)
	case errors.As(err, &dial):
		return fmt.Sprintf("Cannot connect to %s after %s: %v.", name, dial.Took.Round(time.Millisecond), dial.Err)
	case isTimeout(err):
		return fmt.Sprintf("%s did not answer in time: %v.", name, err)
	default:
		return fmt.Sprintf("%s broke off: %v.", name, err)
	}
}

// clientAddress is the address of a client as headers tell it: without zone, and IPv4 as IPv4.
func clientAddress(a netip.AddrPort) string { return a.Addr().Unmap().WithZone("").String() }

// Upstreams tells how the targets of an upstream in use are doing.
func (p *Proxy) Upstreams(u termination.Upstream) []upstream.TargetStatus {
	s := p.current.Load().services[upstream.KeyOf(u)]
	if s == nil {
		return nil
	}
	return s.targets.Status()
}
