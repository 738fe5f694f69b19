package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/server/api"
	"countersign/static"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/acme"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/sockets"
	"countersign/views"
)

// SocketUse is what the dashboard's listening socket is called in its [sockets.Set].
const SocketUse = "dashboard"

// Options are what a dashboard needs.
type Options struct {
	Store   *store.Store
	Hub     *live.Hub                                        // nil: no live feed
	Gateway *gateway.Gateway                                 // nil: nothing is served, only the configuration is kept
	ACME    *acme.Manager                                    // nil: no certificate is obtained
	Prepare func(*termination.Config) error                  // compiles without serving; nil: nothing to compile
	Apply   func(context.Context, *termination.Config) error // the gateway's; nil: nothing is served
	Log     *slog.Logger                                     // nil: discards
	Clock   func() time.Time                                 // nil: time.Now
	Listen  string                                           // host:port on loopback; port 0 takes a free one
	Sockets *sockets.Set                                     // opens that address, or takes over its socket; nil: a set of its own
	Upgrade Upgrade                                          // replaces the running program; nil: it cannot
	Hosts   []string                                         // more names that the dashboard answers to
	Notices *Notices                                         // whom to tell; nil: nobody is
	Metrics http.Handler                                     // answers scrapes; nil: there is nothing to scrape
	Version string
	Portal  *Portal // answers invited clients, behind the gateway; nil: nobody is invited
	User    string  // suggested name at sign-in
	Demo    *Demo   // what the first start made; nil: nothing
	Parts   bool    // serve /settings/parts, for development
	// ProveChanges has each endpoint proven in the background after it was changed.
	ProveChanges bool
}

// Server is the dashboard and the API.
type Server struct {
	opts    Options
	store   *store.Store
	hub     *live.Hub
	gateway *gateway.Gateway
	sockets *liveSocket
	log     *slog.Logger
	now     func() time.Time
	assets  *static.Assets
	list    []route
	// operations of the JSON API, which the control socket answers some of too.
	operations *api.API
	handler    http.Handler

	attempts attempts
	said     said
	proofs   *proofs
	// simulations holds a place for each that runs.
	simulations chan struct{}
	// exports holds a place for each that runs.
	exports chan struct{}
	// explanations holds a place for each that runs.
	explanations chan struct{}
	applying     sync.Mutex                      // from the beginning of a change until it is in force
	problems     atomic.Pointer[[]store.Problem] // of the configuration in force
	address      atomic.Pointer[netip.AddrPort]  // set when it listens
	allowed      atomic.Pointer[[]string]        // values of Host
	ready        atomic.Bool
	started      time.Time
	http         *http.Server
}

// New builds the dashboard. It refuses an address off loopback.
func New(o Options) (*Server, error) {
	if err := checkLoopback(o.Listen); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Sockets == nil {
		o.Sockets = sockets.New()
	}
	assets, err := static.Load()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, store: o.Store, hub: o.Hub, gateway: o.Gateway, log: o.Log, now: o.Clock,
		assets: assets, started: o.Clock(), sockets: newLiveSocket(o.Hub),
	}
	s.proofs = newProofs()
	if o.Portal != nil {
		o.Portal.server.Store(s)
	}
	s.simulations = make(chan struct{}, mostSimulations)
	s.exports = make(chan struct{}, mostExports)
	s.explanations = make(chan struct{}, mostExplanations)
	s.said.bySession = map[string][]views.Said{}
	s.problems.Store(&[]store.Problem{})
	s.allowed.Store(&[]string{})
	s.operations = s.newOperations()
	s.list = s.routes()

	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.fail
	e.Use(s.recoverPanics)
	s.register(e)
	s.handler = s.secure(e)
	s.http = &http.Server{
		Handler: s.handler, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
	return s, nil
}

// Listen opens the dashboard's address. Addresses of names other than localhost were refused by New.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	return s.ListenAt(ctx, s.opts.Listen)
}

// ListenAt opens another address in its place, as when somebody was quicker at the one that was chosen.
func (s *Server) ListenAt(ctx context.Context, listen string) (net.Listener, error) {
	l, err := s.opts.Sockets.Listen(ctx, SocketUse, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("open the dashboard's address: %w", err)
	}
	address := l.Addr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // a TCP listener
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	if !address.Addr().IsLoopback() {
		// A name may resolve to anything; what counts is where it really listens.
		_ = l.Close()
		return nil, checkLoopback(address.String())
	}
	hosts, err := fixedHosts(address, s.opts.Hosts)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	s.address.Store(&address)
	s.allowed.Store(&hosts)
	return l, nil
}

// Serve answers on l, which Listen made, until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	s.ready.Store(true)
	if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the dashboard: %w", err)
	}
	return nil
}

// Shutdown finishes the requests in flight, as far as ctx allows, and closes the rest.
func (s *Server) Shutdown(ctx context.Context) error {
	s.ready.Store(false)
	s.proofs.end()
	s.keepCredentialUses(ctx)
	err := s.sockets.shutdown(ctx)
	if herr := s.http.Shutdown(ctx); herr != nil {
		_ = s.http.Close()
		err = errors.Join(err, fmt.Errorf("finish the requests in flight: %w", herr))
	}
	if err != nil {
		return fmt.Errorf("stop the dashboard: %w", err)
	}
	return nil
}

// URL returns the address of the first page, without a final slash; empty before Listen.
func (s *Server) URL() string {
	a := s.address.Load()
	if a == nil {
		return ""
	}
	return "http://" + a.String()
}

func (s *Server) hosts() []string { return *s.allowed.Load() }

// recoverPanics turns a panic in a handler into an internal error.
func (s *Server) recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if v := recover(); v != nil {
				if e, ok := v.(error); ok && errors.Is(e, http.ErrAbortHandler) {
					panic(v)
				}
				err = fmt.Errorf("panic in a handler: %v", v)
				s.log.Error("panic", "value", v, "stack", stack())
			}
		}()
		return next(c)
	}
}

func (s *Server) healthz(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }

func (s *Server) readyz(c echo.Context) error {
	if !s.ready.Load() {
		return c.String(http.StatusServiceUnavailable, "not ready\n")
	}
	return c.String(http.StatusOK, "ok\n")
}

// liveStream hands the request over to the live socket.
func (s *Server) liveStream(c echo.Context) error {
	r := c.Request()
	s.sockets.serve(c.Response(), r, liveVisitor{
		hosts: s.hosts(), bearer: hasBearer(r),
		still: func(ctx context.Context) bool { return s.stillGood(ctx, r) },
	})
	return nil
}

func (s *Server) staticFile(c echo.Context) error {
	asset, ok := s.assets.Get(c.Param("*"))
	if !ok {
		return echo.ErrNotFound
	}
	h := c.Response().Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Add("Vary", "Accept-Encoding")
	if asset.Gzipped != nil && acceptsGzip(c.Request()) {
		h.Set("Content-Encoding", "gzip")
		return c.Blob(http.StatusOK, asset.Type, asset.Gzipped)
	}
	return c.Blob(http.StatusOK, asset.Type, asset.Data)
}

func (s *Server) favicon(c echo.Context) error {
	return c.Redirect(http.StatusSeeOther, s.assets.URL("favicon.svg"))
}
