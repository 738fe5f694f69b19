package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/proxy"
	"countersign/termination/tunnel"
)

// Options are what a gateway needs besides its configuration.
type Options struct {
	Hub  Recorder         // takes the records of handshakes
	Log  *slog.Logger     // nil: discards
	Now  func() time.Time // nil: time.Now
	Dial proxyDial        // nil: net.Dialer; for tests
	// Detached: no listener is opened, and connections come by Take alone.
	Detached bool
	// Registry knows the agents. Nil: none can connect.
	Registry tunnel.Registry
}

// proxyDial opens connections to upstreams.
type proxyDial func(ctx context.Context, network, address string) (net.Conn, error)

// Gateway runs the listeners and the connections behind them.
type Gateway struct {
	hub      Recorder
	log      *slog.Logger
	now      func() time.Time
	dial     proxyDial
	detached bool
	table    atomic.Pointer[table]
	slots    slots
	live     sessions
	local    localCerts
	probes   probes

	agents *tunnel.Server // nil: detached
	proxy  *proxy.Proxy
	front  atomic.Pointer[front]

	mu        sync.Mutex // serialises Apply and Close
	fronts    []*front   // all that may still have connections
	listeners map[netip.AddrPort]*listener
	closed    bool
	ended     chan struct{} // closed when Close has ended everything

	conns   sync.WaitGroup // goroutines of connections
	workers sync.WaitGroup // goroutines of the gateway itself
	stop    context.CancelFunc
	stopped context.Context
}

// ErrClosed is returned by Apply after Close.
var ErrClosed = errors.New("the gateway is closed")

// New returns a gateway that serves nothing until Apply.
func New(o Options) *Gateway {
	g := &Gateway{hub: o.Hub, log: o.Log, now: o.Now, dial: o.Dial, detached: o.Detached, listeners: map[netip.AddrPort]*listener{}, ended: make(chan struct{})}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.dial == nil {
		g.dial = (&net.Dialer{}).DialContext
	}
	g.stopped, g.stop = context.WithCancel(context.Background())
	limits := termination.DefaultLimits()
	g.slots.limits.Store(&limits)
	g.table.Store(emptyTable())
	g.live.open = map[*session]struct{}{}
	g.proxy = proxy.New(proxy.Options{Log: g.log, Now: g.now, Dial: proxy.DialFunc(g.dial)})
	g.useFront(limits)
	g.workers.Go(g.renewLocalCertificates)
	if !g.detached {
		g.agents = tunnel.NewServer(tunnel.ServerOptions{Registry: o.Registry, Sign: g.signForAgent, Log: g.log, Now: g.now})
	}
	return g
}

// Close stops listening, lets connections end by themselves until ctx is done, then ends them. It returns when every
// goroutine of the gateway has ended. The error is ctx's when connections had to be cut.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		select {
		case <-g.ended:
			return nil
		default:
		}
		select {
		case <-g.ended:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for the gateway to close: %w", context.Cause(ctx))
		}
	}
	defer close(g.ended)
	g.closed = true
	for _, l := range g.listeners {
		l.close()
	}
	fronts := g.fronts
	g.mu.Unlock()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for _, f := range fronts {
			_ = f.server.Shutdown(ctx) // its error is ctx's, which is looked at below
		}
		g.conns.Wait()
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = fmt.Errorf("close the gateway: connections were cut: %w", context.Cause(ctx))
	}
	g.stop()
	g.live.closeAll(termination.ClosedByGateway)
	for _, f := range fronts {
		_ = f.server.Close() // it has nothing left to say
	}
	<-drained
	if g.agents != nil {
		g.agents.Close() // not before: it carried connections
	}
	g.proxy.Close()
	g.workers.Wait()
	return err
}
