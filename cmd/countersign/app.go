package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"countersign/server"
	"countersign/server/metrics"
	"countersign/server/otlp"
	"countersign/store"
	"countersign/termination/acme"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/servercert"
	"countersign/termination/sockets"
)

// The addresses of a gateway that was told nothing. They move to the next free port when they are taken; addresses that
// somebody wrote down never do.
const (
	defaultDashboardPort = 7443
	defaultDemoPort      = 8443
)

const (
	// tendEvery is how often the app looks after what goes wrong by itself: ports that were taken, certificates that end.
	tendEvery = 5 * time.Second
	// endTime bounds what must end quickly once connections are gone: the history's last batch.
	endTime = 5 * time.Second
	// browserTime is how long a browser has to read the file that leads it to the dashboard.
	browserTime = time.Minute
)

// appOptions say what to run.
type appOptions struct {
	Data       string // directory
	Config     string // path of the configuration file; empty: none
	Dashboard  string // host:port; empty: the file's, else the default
	NoDemo     bool
	Passphrase string
	Version    string
	Out        io.Writer    // gets the lines of the start
	Log        *slog.Logger // gets everything else; nil: LogTo does
	LogTo      io.Writer    // nil: nothing is logged
	LogWords   logWords     // how, before what the configuration file says
	Prove      bool         // endpoints after each change, in the background
	// Browse opens a link in a browser. Nil: none is opened.
	Browse func(ctx context.Context, dir, link string) error

	// Program and Args start the program again, for an upgrade. Empty: it cannot be upgraded.
	Program string
	Args    []string
	// Getenv tells whether this process takes over from another. Nil: it does not.
	Getenv func(string) string

	// demoPort is where the search for the demo's port begins; 0 takes any free one.
	demoPort uint16
}

// app is the program that `serve` runs. Run starts it and Close ends it; tests do so within their process.
type app struct {
	options appOptions
	log     *slog.Logger

	sockets *sockets.Set
	store   *store.Store
	pen     *pen
	hub     *live.Hub
	gateway *gateway.Gateway
	server  *server.Server
	control *server.Control
	demo    *demo // nil: there is none
	file    *file // nil: no configuration file was given

	current  atomic.Pointer[store.Store] // store, for whoever outlives it
	acme     atomic.Pointer[acme.Manager]
	portal   *server.Portal
	obtained *servercert.Obtained
	metrics  *metrics.Metrics
	told     *handshakeLog // nil: no line for handshakes
	notices  *server.Notices
	exporter *otlp.Exporter // nil: no collector is told anything

	listen    string       // address of the dashboard, as it was asked for
	hosts     []string     // that the dashboard answers to
	dashboard net.Listener // open, and not served yet

	failed chan error // gets the error of the dashboard, should it end by itself
	stop   context.CancelFunc
	tended sync.WaitGroup

	heir      *heir         // nil: this process took nothing over
	hold      chan struct{} // closed when clients are this process's own
	upgrading sync.Mutex    // held during an upgrade
	successor *handover     // nil: no other process has taken over
	replaced  chan struct{} // closed when one has
	life      context.Context
	endLife   context.CancelFunc
	handed    sync.WaitGroup // what an upgrade has running
}

func newApp(o appOptions) *app {
	if o.Log == nil {
		o.Log = newLogger(o.LogTo, o.LogWords)
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	life, end := context.WithCancel(context.Background())
	return &app{
		portal:  &server.Portal{},
		options: o, log: o.Log, failed: make(chan error, 1), stop: func() {}, sockets: sockets.New(), pen: &pen{log: o.Log},
		obtained: servercert.NewObtained(), hold: make(chan struct{}), replaced: make(chan struct{}), life: life, endLife: end,
	}
}

// Run starts everything, and returns once it listens. After an error nothing is left running. ctx ends the start alone.
func (a *app) Run(ctx context.Context) error {
	if err := a.start(ctx); err != nil {
		// Nobody has connected yet, so there is nothing to wait for.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		_ = a.Close(ending) // the first error is the one that matters
		return err
	}
	return nil
}

func (a *app) start(ctx context.Context) (err error) {
	if a.heir, err = newHeir(a.options.Getenv, a.sockets); err != nil {
		return err
	}
	if err := a.prepare(ctx); err != nil {
		if a.heir != nil {
			a.heir.failed(err)
		}
		return err
	}
	close(a.hold)
	a.serveDashboard()
	if a.heir != nil {
		a.heir.accepting(a)
	} else {
		a.removeKept()
		if err := a.announce(ctx); err != nil {
			return err
		}
	}
	a.sayProblems()
	a.look(ctx)
	return nil
}

// prepare does everything up to the moment when clients are accepted.
func (a *app) prepare(ctx context.Context) error {
	o := a.options
	if err := a.readFile(); err != nil {
		return err
	}
	if a.heir != nil {
		if err := a.heir.ready(ctx, o.Version, o.Data); err != nil {
			return err
		}
	}
	first, err := isEmpty(o.Data)
	if err != nil {
		return err
	}
	if err := a.openStore(ctx); err != nil {
		return err
	}
	a.pen.use(a.store.WriteHistory)
	letIn, err := a.store.ClientsLetIn(ctx)
	if err != nil {
		return fmt.Errorf("read which clients were let in: %w", err)
	}
	if err := a.beginToObserve(ctx); err != nil {
		return err
	}
	a.hub = live.New(live.Options{
		FirstSeq: a.store.NextSeq(), Stored: a.store.StoredSeq(), LetIn: letIn, Sink: a.pen.write, Log: a.log, Observe: a.observe, ObserveEnd: a.metrics.ObserveEnd,
	})
	a.gateway = gateway.New(gateway.Options{
		Hub: a.hub, Log: a.log, Sockets: a.sockets, Hold: a.hold,
		Registry: server.AgentRegistry(a.current.Load), Obtained: a.obtained, Lists: server.RevocationLists(a.current.Load), Applied: a.applied,
		Portal: a.portal,
	})
	if err := a.gateway.RestoreRevocation(ctx); err != nil {
		a.log.Error("revocation lists that were fetched earlier are lost; they are fetched anew", "error", err)
	}
	if err := a.loadObtained(ctx); err != nil {
		return err
	}
	if err := a.openDemo(ctx, first && !o.NoDemo && o.Config == ""); err != nil {
		return err
	}
	if err := a.openRim(ctx); err != nil {
		return err
	}
	if a.heir != nil {
		return a.heir.prepared(ctx)
	}
	return nil
}

// readFile reads the configuration file, if there is one, before anything is made: a file that is refused leaves
// nothing behind.
func (a *app) readFile() error {
	o := a.options
	a.listen = o.Dashboard
	if err := checkDashboard(a.listen); err != nil {
		return err
	}
	if o.Config == "" {
		return nil
	}
	a.file = &file{app: a, path: o.Config}
	d, err := a.file.read()
	if err != nil {
		return fmt.Errorf("the configuration file is refused, and nothing was applied:\n%w", err)
	}
	a.useLogWords(d.Log)
	a.hosts = d.Dashboard.Hosts
	if a.listen == "" {
		a.listen = d.Dashboard.Listen
	}
	return nil
}

func (a *app) openStore(ctx context.Context) (err error) {
	a.store, err = store.Open(ctx, a.options.Data, store.Options{Passphrase: a.options.Passphrase, Log: a.log})
	if err != nil {
		return err
	}
	a.current.Store(a.store)
	a.acme.Store(acme.New(acme.Options{Storage: a.store.ACMEState(), Obtained: a.obtained, Log: a.log, Sockets: a.sockets}))
	return nil
}

// loadObtained brings the certificates that were obtained earlier, so that the first client is shown them already.
func (a *app) loadObtained(ctx context.Context) error {
	config, _, err := a.store.Load(ctx)
	if err != nil {
		return err
	}
	manager := a.acme.Load()
	manager.Apply(config)
	return manager.Settle(ctx)
}

// checkDashboard refuses an address given on the command line before anything is made. That of a configuration file was
// checked with the file.
func checkDashboard(listen string) error {
	if listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%w: --dashboard must be host:port, as in 127.0.0.1:7443, not %q", errUsage, listen)
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return fmt.Errorf("%w: --dashboard %s is off loopback, which would need TLS and a credential, and these are not in this version; use 127.0.0.1 and, from elsewhere, an SSH tunnel", errUsage, listen)
	}
	return nil
}

// load puts the configuration into force: what the store holds, with the configuration file's part replaced.
func (a *app) load(ctx context.Context) error {
	if a.file != nil {
		if err := a.file.apply(ctx); err != nil {
			return fmt.Errorf("the configuration file is refused, and nothing was applied:\n%w", err)
		}
		return nil
	}
	if err := a.server.Load(ctx); err != nil {
		return err
	}
	if n := declaredObjects(a.gateway.Config()); n > 0 {
		a.log.Warn("the configuration file that was used before is not given: what it declared stays in force and cannot be changed here. "+
			"Give it again with --config, or one that holds only: endpoints: []", "objects", n)
	}
	return nil
}

// announce prints the lines of the start, and opens the browser.
func (a *app) announce(ctx context.Context) error {
	link, err := a.server.SignInLink(ctx)
	if err != nil {
		return fmt.Errorf("make a sign-in link: %w", err)
	}
	fmt.Fprintf(a.options.Out, "  dashboard  %s        (one-time link: a button, then a cookie)\n", link)
	if command := a.demo.command(); command != "" {
		fmt.Fprintf(a.options.Out, "  try it     %s\n", command)
	}
	fmt.Fprintln(a.options.Out, "  stop       Ctrl-C")
	if a.options.Browse != nil {
		// A link of its own: the printed one stays good.
		if link, err = a.server.SignInLink(ctx); err == nil {
			err = a.options.Browse(ctx, a.store.Dir(), link)
		}
		if err != nil {
			a.log.Warn("the browser could not be opened; open the link by hand", "error", err)
		}
	}
	return nil
}

func (a *app) sayProblems() {
	for _, e := range a.gateway.Status().Endpoints {
		if e.State == gateway.StateFailed {
			a.log.Error("an endpoint does not work", "endpoint", e.Name, "problem", e.Problem)
		}
	}
}

// removeKept removes what an upgrade has left in the data directory whose program was killed.
func (a *app) removeKept() {
	if err := store.RemoveKept(a.options.Data); err != nil {
		a.log.Warn("a copy of the store from before an upgrade is left over; delete it", "error", err)
	}
}

// look begins to look after what changes outside.
func (a *app) look(ctx context.Context) {
	tending, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	if a.file != nil {
		if err := a.file.watch(); err != nil {
			a.log.Warn("changes of the configuration file will not be noticed; send SIGHUP after a change", "error", err)
		}
	}
	a.tended.Go(func() { a.tend(tending) })
}

// tend looks after what changes outside: files, ports, dates.
func (a *app) tend(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	browsed := time.NewTimer(browserTime)
	defer browsed.Stop()
	changed := a.file.changes()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			a.file.reloadIfChanged(ctx)
		case <-browsed.C:
			removeRedirect(a.store.Dir())
		case <-tick.C:
			a.sockets.CloseInherited() // by now whoever wants one has it
			a.gateway.Retry(ctx)
			a.file.remind()
			a.demo.renew(ctx, a)
			a.notices.Tend(ctx)
		}
	}
}

// Reload reads the configuration file again and applies it as a whole or not at all. What is wrong is logged and shown
// in the dashboard, and returned.
func (a *app) Reload(ctx context.Context) error {
	if a.file == nil {
		a.log.Warn("there is no configuration file to read again; name one with --config")
		return nil
	}
	if !a.upgrading.TryLock() {
		a.log.Info("the configuration file is not read again during an upgrade; the new program reads it")
		return nil
	}
	defer a.upgrading.Unlock()
	return a.file.reload(ctx)
}

// Replaced is closed once another process has taken over: see Upgrade.
func (a *app) Replaced() <-chan struct{} { return a.replaced }

// Failed gets an error when the dashboard ends by itself.
func (a *app) Failed() <-chan error { return a.failed }

// Close stops accepting, lets what is in flight end until ctx is done, and ends the rest. It is called once. What Run
// did not get to is left out.
func (a *app) Close(ctx context.Context) error {
	a.endLife() // breaks an upgrade off
	a.upgrading.Lock()
	defer a.upgrading.Unlock()
	a.stop()
	a.tended.Wait()
	var errs []error
	var parts sync.WaitGroup
	var mu sync.Mutex
	end := func(what string, f func(context.Context) error) {
		parts.Go(func() {
			if err := f(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	if a.file != nil {
		a.file.close()
	}
	if a.control != nil {
		end("close the control socket", a.control.Close)
	}
	if a.server != nil {
		end("close the dashboard", a.server.Shutdown)
	}
	if a.dashboard != nil {
		_ = a.dashboard.Close() // nobody served it yet
	}
	if a.gateway != nil {
		end("close the gateway", a.gateway.Close)
	}
	if m := a.acme.Load(); m != nil {
		end("stop obtaining certificates", func(context.Context) error { m.Close(); return nil })
	}
	parts.Wait()
	for _, err := range errs {
		// Time is up, and whoever was connected was cut off: that is what the grace time is for.
		a.log.Warn("not everything ended by itself", "error", err)
	}
	errs = nil
	// Connections are gone; the last of what they left is written down whatever the time.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if a.hub != nil {
		errs = append(errs, a.hub.Close(last))
	}
	a.endObserving(last)
	if a.store != nil && a.successor == nil {
		removeRedirect(a.store.Dir())
		errs = append(errs, a.store.Close())
	}
	if a.successor != nil {
		a.successor.close()
	}
	if a.heir != nil {
		a.heir.end()
	}
	a.sockets.CloseInherited()
	a.handed.Wait()
	return errors.Join(errs...)
}

// isEmpty reports whether dir is absent or holds nothing.
func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into the data directory: %w; choose another with --data", err)
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into the data directory: %w; choose another with --data", err)
	}
	return false, nil
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// freePort returns the first port from there on that nobody listens on at the loopback address; from 0, any.
func freePort(ctx context.Context, from uint16) (uint16, error) {
	const tries = 100
	var lc net.ListenConfig
	var err error
	for i := range uint16(tries) {
		var l net.Listener
		if l, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(loopback(), from+i).String()); err == nil {
			port := l.Addr().(*net.TCPAddr).AddrPort().Port() // of network tcp
			_ = l.Close()
			return port, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return 0, fmt.Errorf("find a free port from %d on: %w", from, err)
}
