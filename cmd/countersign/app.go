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
	"syscall"
	"time"

	"countersign/server"
	"countersign/store"
	"countersign/termination/acme"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/servercert"
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
	Log        *slog.Logger // gets everything else
	// Browse opens a link in a browser. Nil: none is opened.
	Browse func(ctx context.Context, dir, link string) error

	// demoPort is where the search for the demo's port begins; 0 takes any free one.
	demoPort uint16
}

// app is the program that `serve` runs. Run starts it and Close ends it; tests do so within their process.
type app struct {
	options appOptions
	log     *slog.Logger

	store   *store.Store
	hub     *live.Hub
	acme    *acme.Manager
	gateway *gateway.Gateway
	server  *server.Server
	control *server.Control
	demo    *demo // nil: there is none
	file    *file // nil: no configuration file was given

	failed chan error // gets the error of the dashboard, should it end by itself
	stop   context.CancelFunc
	tended sync.WaitGroup
}

func newApp(o appOptions) *app {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &app{options: o, log: o.Log, failed: make(chan error, 1), stop: func() {}}
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

func (a *app) start(ctx context.Context) error {
	o := a.options
	listen, hosts := o.Dashboard, []string(nil)
	if err := checkDashboard(listen); err != nil {
		return err
	}
	if o.Config != "" {
		// Read first: a file that is refused leaves nothing behind.
		a.file = &file{app: a, path: o.Config}
		d, err := a.file.read()
		if err != nil {
			return fmt.Errorf("the configuration file is refused, and nothing was applied:\n%w", err)
		}
		hosts = d.Dashboard.Hosts
		if listen == "" {
			listen = d.Dashboard.Listen
		}
	}
	first, err := isEmpty(o.Data)
	if err != nil {
		return err
	}
	if a.store, err = store.Open(ctx, o.Data, store.Options{Passphrase: o.Passphrase, Log: a.log}); err != nil {
		return err
	}
	a.hub = live.New(live.Options{FirstSeq: a.store.NextSeq(), Sink: a.store.WriteHistory, Log: a.log})
	obtained := servercert.NewObtained()
	a.acme = acme.New(acme.Options{Storage: a.store.ACMEState(), Obtained: obtained, Log: a.log})
	a.gateway = gateway.New(gateway.Options{
		Hub: a.hub, Log: a.log, Registry: server.AgentRegistry(a.store), Obtained: obtained, Applied: a.acme.Apply,
	})
	if err := a.openDemo(ctx, first && !o.NoDemo && o.Config == ""); err != nil {
		return err
	}
	if err := a.openServer(ctx, listen, hosts); err != nil {
		return err
	}
	if a.control, err = a.server.OpenControl(ctx); err != nil {
		return err
	}
	return a.begin(ctx)
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

// openServer builds the dashboard, puts the configuration into force, and listens.
func (a *app) openServer(ctx context.Context, listen string, hosts []string) error {
	if listen == "" {
		port, err := freePort(ctx, defaultDashboardPort)
		if err != nil {
			return fmt.Errorf("%w of the dashboard: %w; choose another with --dashboard", errAddress, err)
		}
		listen = netip.AddrPortFrom(loopback(), port).String()
	}
	var err error
	a.server, err = server.New(server.Options{
		Store: a.store, Hub: a.hub, Gateway: a.gateway, ACME: a.acme, Log: a.log, Listen: listen, Hosts: hosts,
		Version: a.options.Version, User: userName(), Demo: a.demo.shown(),
	})
	if err != nil {
		return fmt.Errorf("build the dashboard: %w", err)
	}
	if err := a.load(ctx); err != nil {
		return err
	}
	if err := a.moveDemo(ctx); err != nil {
		return err
	}
	l, err := a.server.Listen(ctx)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w of the dashboard, %s: another program uses it; stop that one, or choose another address with --dashboard", errAddress, listen)
	}
	if err != nil {
		return fmt.Errorf("%w of the dashboard, %s: %w; choose another with --dashboard", errAddress, listen, err)
	}
	go func() { a.failed <- a.server.Serve(l) }()
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

// begin prints the lines of the start, opens the browser, and looks after things from now on.
func (a *app) begin(ctx context.Context) error {
	link, err := a.server.SignInLink(ctx)
	if err != nil {
		return fmt.Errorf("make a sign-in link: %w", err)
	}
	fmt.Fprintf(a.options.Out, "  dashboard  %s        (one-time link: a button, then a cookie)\n", link)
	if command := a.demo.command(); command != "" {
		fmt.Fprintf(a.options.Out, "  try it     %s\n", command)
	}
	fmt.Fprintln(a.options.Out, "  stop       Ctrl-C")
	for _, e := range a.gateway.Status().Endpoints {
		if e.State == gateway.StateFailed {
			a.log.Error("an endpoint does not work", "endpoint", e.Name, "problem", e.Problem)
		}
	}
	if a.options.Browse != nil {
		// A link of its own: the printed one stays good.
		if link, err = a.server.SignInLink(ctx); err == nil {
			err = a.options.Browse(ctx, a.store.Dir(), link)
		}
		if err != nil {
			a.log.Warn("the browser could not be opened; open the link by hand", "error", err)
		}
	}
	tending, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	if a.file != nil {
		if err := a.file.watch(); err != nil {
			a.log.Warn("changes of the configuration file will not be noticed; send SIGHUP after a change", "error", err)
		}
	}
	a.tended.Go(func() { a.tend(tending) })
	return nil
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
			a.gateway.Retry(ctx)
			a.file.remind()
			a.demo.renew(ctx, a)
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
	return a.file.reload(ctx)
}

// Failed gets an error when the dashboard ends by itself.
func (a *app) Failed() <-chan error { return a.failed }

// Close stops accepting, lets what is in flight end until ctx is done, and ends the rest. It is called once. What Run
// did not get to is left out.
func (a *app) Close(ctx context.Context) error {
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
	if a.gateway != nil {
		end("close the gateway", a.gateway.Close)
	}
	if a.acme != nil {
		end("stop obtaining certificates", func(context.Context) error { a.acme.Close(); return nil })
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
	if a.store != nil {
		removeRedirect(a.store.Dir())
		errs = append(errs, a.store.Close())
	}
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
