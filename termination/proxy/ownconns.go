package proxy

import (
	"sync"

	"countersign/termination"
	"countersign/termination/upstream"
)

// mostOwn bounds the targets to which one client keeps connections of its own.
const mostOwn = 64

// ownConns are connections to targets that belong to one client: a PROXY header that names it went ahead on them.
type ownConns struct {
	mu    sync.Mutex
	open  map[ownKey]*transport
	ended bool
}

// ownKey also holds what the header says about the client, which may differ between endpoints and routes.
type ownKey struct {
	target   *upstream.Target
	verified bool
}

// transport returns the connections to a target that the request may use: shared ones, unless the target is told whose
// they are.
func (x *exchange) transport(t *upstream.Target) *transport {
	version := x.to.policy.ProxyProtocol
	if version == termination.ProxyProtocolNone {
		return x.to.transports[t]
	}
	own := &x.conn.own
	key := ownKey{target: t, verified: x.asserted()}
	own.mu.Lock()
	defer own.mu.Unlock()
	if known := own.open[key]; known != nil {
		return known
	}
	made := x.proxy.newTransport(t, upstream.PROXYHeader(version, x.conn.Handshake, key.verified, x.conn.Shown))
	if own.ended {
		made.main.DisableKeepAlives = true
		return made
	}
	if own.open == nil || len(own.open) >= mostOwn {
		own.closeIdle()
		own.open = map[ownKey]*transport{}
	}
	own.open[key] = made
	return made
}

func (o *ownConns) closeIdle() {
	for _, t := range o.open {
		t.closeIdle()
	}
}

// end closes what the client kept open, and lets nothing be kept any more.
func (o *ownConns) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.closeIdle()
	o.open = nil
}
