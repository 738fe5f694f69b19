package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/proxy"
	"countersign/termination/rate"
	"countersign/termination/revocation"
	"countersign/termination/servercert"
	"countersign/termination/sockets"
	"countersign/termination/staple"
	"countersign/termination/tunnel"
	"countersign/termination/upstream"
	"countersign/termination/verify"
)

// Options are what a gateway needs besides its configuration.
type Options struct {
	Hub  Recorder         // takes the records of handshakes
	Log  *slog.Logger     // nil: discards
	Now  func() time.Time // nil: time.Now
	Dial proxyDial        // nil: net.Dialer; for tests
	// Sockets opens the listeners, and knows those of the process before. Nil: a set of its own.
	Sockets *sockets.Set
	// Hold, until it is closed, lets clients wait instead of accepting them. Nil: they are accepted at once.
	Hold <-chan struct{}
	// Detached: no listener is opened, and connections come by Take alone.
	Detached bool
	// Registry knows the agents. Nil: none can connect.
	Registry tunnel.Registry
	// Obtained holds certificates that are obtained from a CA while the gateway serves. Nil: there are none.
	Obtained *servercert.Obtained
	// Portal answers requests of endpoints whose upstream is the built-in portal. Nil: they get 502.
	Portal http.Handler
	// Lists keeps revocation lists that were fetched over a restart. Nil: nothing does.
	Lists revocation.Keeper
	// Applied is told each configuration once it is in force, in their order. It must not wait. Nil: nobody is.
	Applied func(*termination.Config)
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
	sockets  *sockets.Set
	hold     <-chan struct{}
	obtained *servercert.Obtained // nil: nothing is obtained
	stapler  *staple.Stapler

	revocation *revocation.Registry
	changes    chan struct{} // holds a notice that live connections have to be judged again
	rate       *rate.Limiter
	applied    func(*termination.Config)
	table      atomic.Pointer[table]
	slots      slots
	live       sessions
	ruleHits   ruleHits
	seen       verify.Seen // CA certificates that clients have sent lately, for explanations
	local      localCerts
	probes     probes

	agents   *tunnel.Server // nil: detached
	services *upstream.Set  // of raw bytes; HTTP has its own
	proxy    *proxy.Proxy
	front    atomic.Pointer[front]

	mu        sync.Mutex // serialises Apply and Close
	fronts    []*front   // all that may still have connections
	listeners map[netip.AddrPort]*listener
	retiring  map[netip.AddrPort]*listener // not wanted any more; some still accept who had begun to connect
	revived   []*listener                  // wanted again, and about to accept new clients
	left      bool                         // by Leave
	closed    bool
	ended     chan struct{} // closed when Close has ended everything

	arriving atomic.Int64 // connections that are neither in nor out yet

	conns   sync.WaitGroup // goroutines of connections
	workers sync.WaitGroup // goroutines of the gateway itself
	stop    context.CancelFunc
	stopped context.Context
}

// ErrClosed is returned by Apply after Close.
var ErrClosed = errors.New("the gateway is closed")

// New returns a gateway that serves nothing until Apply.
func New(o Options) *Gateway {
	g := &Gateway{
		hub: o.Hub, log: o.Log, now: o.Now, dial: o.Dial, detached: o.Detached, sockets: o.Sockets, hold: o.Hold,
		obtained: o.Obtained, applied: o.Applied,
		listeners: map[netip.AddrPort]*listener{}, retiring: map[netip.AddrPort]*listener{}, ended: make(chan struct{}),
		changes: make(chan struct{}, 1),
	}
	if g.sockets == nil {
		g.sockets = sockets.New()
	}
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
	g.rate = rate.New(g.now)
	g.proxy = proxy.New(proxy.Options{Log: g.log, Now: g.now, Dial: proxy.DialFunc(g.dial), Rate: g.rate, Portal: o.Portal})
	g.services = upstream.NewSet(upstream.Options{Dial: upstream.DialFunc(g.dial), Now: g.now, Log: g.log})
	g.useFront(limits)
	g.stapler = staple.New(staple.Options{Log: g.log, Now: g.now})
	g.revocation = revocation.New(revocation.Options{Now: g.now, Log: g.log, Keep: o.Lists, Given: g.detached, Changed: g.revocationChanged})
	g.workers.Go(g.renewCertificates)
	g.workers.Go(g.keepJudging)
	if !g.detached {
		g.agents = tunnel.NewServer(tunnel.ServerOptions{
			Registry: o.Registry, Sign: g.signForAgent, Lists: g.fetchedLists, Log: g.log, Now: g.now,
		})
	}
	return g
}
