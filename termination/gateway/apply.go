package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"countersign/termination"
	"countersign/termination/expression"
	"countersign/termination/servercert"
)

// Prepare compiles a configuration without serving it, so that a change can be refused before it is stored.
func (g *Gateway) Prepare(config *termination.Config) error {
	if err := validate(config); err != nil {
		return err
	}
	_, err := g.compile(config, g.table.Load())
	return err
}

// validate refuses what could not be served exactly as it is written, expressions included.
func validate(config *termination.Config) error {
	if err := config.Validate(); err != nil {
		return err
	}
	return expression.Validate(config)
}

// Apply serves config from now on, as a whole or not at all. New handshakes meet it at once; live connections are judged
// again, and what it would no longer admit is ended as on_loss says. What did not change keeps its listener, its session
// tickets and its connections. A port that cannot be opened is a status of its endpoints, not an error: see Status.
func (g *Gateway) Apply(ctx context.Context, config *termination.Config) error {
	if err := validate(config); err != nil {
		return fmt.Errorf("apply revision %d: %w", config.Revision, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.left {
		return ErrClosed
	}
	next, err := g.compile(config, g.table.Load())
	if err != nil {
		return fmt.Errorf("apply revision %d: %w", config.Revision, err)
	}
	opened := g.openListeners(ctx, next)
	g.publish(next)
	g.startAccepting(opened) // not before: a client would meet a table without its endpoint
	g.closeListeners(next)
	g.judgeSoon()
	if g.applied != nil {
		g.applied(config)
	}
	return nil
}

// publish makes a table the current one.
func (g *Gateway) publish(next *table) {
	for _, e := range next.byID {
		if e.terminator != nil {
			e.terminator.Rename(e.policy, e.routes)
		}
	}
	var presented []servercert.Chain
	for _, e := range next.byID {
		presented = append(presented, e.chains...)
	}
	g.stapler.Watch(presented, issuers(next.config))
	limits := next.config.Limits
	g.slots.limits.Store(&limits)
	g.useFront(limits)
	g.useServices(next)
	g.revocation.Apply(next.config)
	g.rate.Apply(next.config)
	// First HTTP, then the handshakes: a connection never meets an HTTP side that does not know its endpoint yet.
	g.proxy.Swap(next.sites)
	g.table.Store(next)
	if g.agents != nil {
		g.agents.Apply(next.config)
	}
}

// openListeners opens what is wanted and not open yet, and notes the error of each address that could not be.
func (g *Gateway) openListeners(ctx context.Context, next *table) (opened []*listener) {
	next.listening = map[netip.AddrPort]error{}
	if g.detached {
		return nil
	}
	opened = g.inherit(ctx)
	for address, l := range g.retiring {
		if next.covers(address) && l.revive() { // else it would keep its clients from the one that covers it
			delete(g.retiring, address)
			g.listeners[address] = l
			g.revived = append(g.revived, l)
		}
	}
	for address := range next.sockets() {
		if _, open := g.listeners[address]; open {
			continue
		}
		if l := g.retiring[address]; l != nil && l.revive() {
			delete(g.retiring, address)
			g.listeners[address] = l
			g.revived = append(g.revived, l)
			continue
		}
		l, err := g.listen(ctx, address)
		if errors.Is(err, syscall.EADDRINUSE) && g.makeWay(address, next) {
			l, err = g.listen(ctx, address)
		}
		if err != nil {
			g.cannotListen(next, address, err)
			continue
		}
		g.listeners[address] = l
		opened = append(opened, l)
	}
	return opened
}

// inherit takes the sockets of the process before, wanted or not: somebody may wait there.
func (g *Gateway) inherit(ctx context.Context) (opened []*listener) {
	for _, name := range g.sockets.Inherited(SocketUse) {
		address, err := netip.ParseAddrPort(name)
		if err != nil || g.listeners[address] != nil {
			continue
		}
		l, err := g.listen(ctx, address)
		if err != nil {
			g.log.Error("a listener of the process before is lost", "address", name, "error", err)
			continue
		}
		g.listeners[address] = l
		opened = append(opened, l)
	}
	return opened
}

// makeWay closes at once what is in the way of an address and not wanted any more: a listener on all interfaces and one
// on a single interface of the same port, on systems that do not let both be open. It reports whether there was any.
func (g *Gateway) makeWay(address netip.AddrPort, next *table) (made bool) {
	wanted := next.sockets()
	for _, listeners := range []map[netip.AddrPort]*listener{g.listeners, g.retiring} {
		for other, l := range listeners {
			if other.Port() == address.Port() && !wanted[other] {
				l.leave()
				delete(listeners, other)
				made = true
			}
		}
	}
	return made
}

// cannotListen notes the error for every address that depends on the socket. It is logged once, however often it is
// tried again.
func (g *Gateway) cannotListen(next *table, address netip.AddrPort, err error) {
	if known := g.table.Load().listening[address]; known == nil || known.Error() != err.Error() {
		g.log.Error("cannot listen", "address", address.String(), "error", err)
	}
	if next.agentsAt(address) {
		next.listening[address] = err
	}
	for a := range next.routes {
		if a == address || covers(address, a) {
			next.listening[a] = err
		}
	}
}

// closeListeners retires what is no longer wanted. What another one covers by now may stay: it has the clients already.
func (g *Gateway) closeListeners(next *table) {
	for address, l := range g.retiring {
		if l.isClosed() {
			delete(g.retiring, address)
		}
	}
	wanted := next.sockets()
	for address, l := range g.listeners {
		if wanted[address] || next.covers(address) {
			continue
		}
		l.retire()
		delete(g.listeners, address)
		g.retiring[address] = l
	}
}

// Retry opens the addresses that could not be opened when the configuration was applied, as when another program has
// let go of the port since.
func (g *Gateway) Retry(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	current := g.table.Load()
	if g.closed || g.left || len(current.listening) == 0 {
		return
	}
	next := *current
	opened := g.openListeners(ctx, &next)
	g.table.Store(&next)
	g.startAccepting(opened)
}
