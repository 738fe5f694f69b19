package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"countersign/termination"
)

// DefaultConnectTimeout bounds how long connecting may take, TLS included.
const DefaultConnectTimeout = 5 * time.Second

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Target is one address of a service.
type Target struct {
	name    string // as in the configuration
	network string
	address string
	scheme  termination.UpstreamScheme
	policy  termination.UpstreamPolicy
	timeout time.Duration
	tls     *tls.Config // nil: without TLS
	tlsOld  *tls.Config // the same for HTTP/1.1 alone
	dial    DialFunc
	now     func() time.Time
	log     *slog.Logger
	inUse   atomic.Int64
	health  health
	stop    context.CancelFunc // ends its checks
}

// DialError is a connection to a target that could not be had. Nothing of the client was sent.
type DialError struct {
	Target string
	Took   time.Duration
	InTLS  bool // the connection was there, and TLS failed on it
	Err    error
}

// Error says what failed, without the target.
func (e *DialError) Error() string {
	if e.InTLS {
		return "the upstream's TLS handshake failed: " + e.Err.Error()
	}
	return "cannot connect to the upstream: " + e.Err.Error()
}

func (e *DialError) Unwrap() error { return e.Err }

func (s *Set) newTarget(u termination.Upstream, address string) *Target {
	one := termination.Upstream{Scheme: u.Scheme, Address: address}
	t := &Target{
		name: one.String(), network: "tcp", address: address, scheme: u.Scheme, policy: u.Policy, timeout: u.Policy.ConnectTimeout,
		dial: s.options.Dial, now: s.options.Now, log: s.options.Log, stop: func() {},
	}
	t.health.since = t.now()
	if u.Scheme == termination.UpstreamUnix {
		t.network = "unix"
	}
	if t.timeout == 0 {
		t.timeout = s.options.ConnectTimeout
	}
	if secured(u.Scheme) {
		t.tls, t.tlsOld = tlsConfig(u, address), tlsConfig(u, address)
		t.tlsOld.NextProtos = []string{"http/1.1"}
	}
	return t
}

// Name is the target as it stands in the configuration.
func (t *Target) Name() string { return t.name }

// Secured reports whether TLS is spoken to the target.
func (t *Target) Secured() bool { return t.tls != nil }

// Host is the target as a Host header names it.
func (t *Target) Host() string {
	switch t.scheme {
	case termination.UpstreamUnix:
		return "localhost"
	case termination.UpstreamHTTP, termination.UpstreamH2C:
		return strings.TrimSuffix(t.address, ":80")
	case termination.UpstreamHTTPS:
		return strings.TrimSuffix(t.address, ":443")
	default:
		return t.address
	}
}

// Begin counts a request, or a connection of raw bytes, that goes to the target; End takes it back.
func (t *Target) Begin() { t.inUse.Add(1) }

// End takes Begin back.
func (t *Target) End() { t.inUse.Add(-1) }

// Dial connects within the connect timeout. header is the PROXY header that goes first; where the upstream expects one
// and there is none, one goes that tells nothing. An https or tls target is always verified, and the connection is then a
// *tls.Conn. The error is a *DialError, and takes the target out for a while unless ctx ended.
func (t *Target) Dial(ctx context.Context, header []byte) (net.Conn, time.Duration, error) {
	return t.dialWith(ctx, header, t.tls)
}

// DialHTTP1 is Dial, and offers no HTTP/2 in TLS.
func (t *Target) DialHTTP1(ctx context.Context, header []byte) (net.Conn, time.Duration, error) {
	return t.dialWith(ctx, header, t.tlsOld)
}

func (t *Target) dialWith(ctx context.Context, header []byte, config *tls.Config) (net.Conn, time.Duration, error) {
	began := time.Now()
	conn, inTLS, err := t.connect(ctx, header, config)
	took := time.Since(began)
	if err == nil {
		t.reached()
		return conn, took, nil
	}
	failed := &DialError{Target: t.name, Took: took, InTLS: inTLS, Err: err}
	if ctx.Err() == nil {
		t.change(func(now time.Time) { t.health.failedLocked(now, failed) })
	}
	return nil, took, failed
}

// connect does what Dial does, and remembers nothing.
func (t *Target) connect(ctx context.Context, header []byte, config *tls.Config) (conn net.Conn, inTLS bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	conn, err = t.dial(ctx, t.network, t.address)
	if err != nil {
		return nil, false, err
	}
	if len(header) > 0 {
		deadline, _ := ctx.Deadline()
		_ = conn.SetWriteDeadline(deadline) // fails only on a closed connection, and then so does the write
		if _, err := conn.Write(header); err != nil {
			_ = conn.Close()
			return nil, false, fmt.Errorf("send the PROXY header: %w", err)
		}
		_ = conn.SetWriteDeadline(time.Time{})
	}
	if config == nil {
		return conn, false, nil
	}
	inside := tls.Client(conn, config)
	if err := inside.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, true, err
	}
	return inside, true, nil
}

// reached tells that the target has accepted a connection.
func (t *Target) reached() {
	if !t.health.marked.Load() {
		return
	}
	t.change(func(time.Time) {
		if h := &t.health; !h.mute {
			h.failures, h.until = 0, time.Time{}
		}
	})
}

// Answers tells that the target has answered a request.
func (t *Target) Answers() {
	if !t.health.marked.Load() {
		return
	}
	t.change(func(time.Time) {
		h := &t.health
		h.failures, h.broken, h.mute, h.until = 0, 0, false, time.Time{}
	})
}

// Broke tells that the target broke a connection off before it began to answer. It is out only after several in a row.
func (t *Target) Broke(err error) {
	t.change(func(now time.Time) {
		h := &t.health
		if h.broken++; h.broken >= mostBroken || h.mute {
			h.broken, h.mute = 0, true
			h.failedLocked(now, err)
			return
		}
		h.noteLocked(now, err)
	})
}

func (t *Target) change(f func(now time.Time)) {
	now := t.now()
	changed, well := t.health.change(now, func() { f(now) })
	switch {
	case !changed:
	case well:
		t.log.Info("an upstream answers again", "target", t.name)
	default:
		t.log.Warn("an upstream does not answer", "target", t.name, "error", t.health.text())
	}
}

func (h *health) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastError
}

// TargetStatus is a target as it is right now.
type TargetStatus struct {
	Target      string // as in the configuration
	Healthy     bool   // no failure is known that was not followed by a success
	Since       time.Time
	LastError   string // empty: none since the target is known
	LastErrorAt time.Time
	InUse       int64 // requests, or connections of raw bytes, that are under way
}

// Status tells how the target is doing.
func (t *Target) Status() TargetStatus {
	h := &t.health
	h.mu.Lock()
	defer h.mu.Unlock()
	return TargetStatus{
		Target: t.name, Healthy: h.wellLocked(), Since: h.since, LastError: h.lastError, LastErrorAt: h.lastErrorAt, InUse: t.inUse.Load(),
	}
}

// Result is what a record says of an upstream to which no connection could be had.
func Result(u termination.Upstream, err error) termination.UpstreamResult {
	out := termination.UpstreamResult{Address: u.String(), Error: err.Error()}
	var dial *DialError
	if errors.As(err, &dial) {
		out.Address, out.Connect = dial.Target, dial.Took
	}
	return out
}
