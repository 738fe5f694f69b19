package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// graceTime is how long connections may take to end by themselves after a signal to stop.
const graceTime = 10 * time.Second

// serveOptions are the flags of serve.
type serveOptions struct {
	config, data, dashboard string
	noDemo, noBrowser       bool
}

func (p *program) serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use: "serve", Short: "Run the gateway: listeners, dashboard, store", Args: noArguments,
		Long: `Run the gateway: listeners, dashboard, store.

The first start in an empty data directory, without --config, makes a demo: a local CA that can sign for this machine
alone, an endpoint that demands a certificate from it, and a client certificate for you.

SIGHUP reads the configuration file again, as does a change of it or of a file that it names. SIGINT and SIGTERM stop
accepting, let what is in flight end within ten seconds, and then end; a second one ends at once.

The private keys in the store are opened by a key file of mode 0600; $COUNTERSIGN_PASSPHRASE protects that file in addition.`,
		RunE: func(c *cobra.Command, _ []string) error { return p.serve(c.Context(), o) },
	}
	dataFlag(c, &o.data)
	c.Flags().StringVar(&o.config, "config", "", "configuration `file`, countersign.yaml")
	c.Flags().StringVar(&o.dashboard, "dashboard", "", "`address` of the dashboard, on loopback (default 127.0.0.1:7443, or the next free port)")
	c.Flags().BoolVar(&o.noDemo, "no-demo", false, "make no demo at the first start")
	c.Flags().BoolVar(&o.noBrowser, "no-browser", false, "do not open the browser")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // it exists: see above
	return c
}

// serve runs the gateway until a signal ends it.
func (p *program) serve(ctx context.Context, o serveOptions) error {
	dir, err := p.dataDirectory(o.data)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(p.err, nil))
	options := appOptions{
		Data: dir, Config: o.config, Dashboard: o.dashboard, NoDemo: o.noDemo, Passphrase: p.passphrase(), Version: p.version,
		Out: p.out, Log: log, demoPort: defaultDemoPort,
	}
	if out, ok := p.out.(*os.File); ok && !o.noBrowser && isTerminal(out) {
		options.Browse = openBrowser
	}
	// Taken before the start, so that no signal finds the program half way.
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(stop)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)

	a := newApp(options)
	if stopped, err := startUnlessStopped(ctx, a, stop); err != nil || stopped {
		return err
	}
	failure := p.wait(ctx, a, stop, again)
	fmt.Fprintln(p.err, "stopping; Ctrl-C again ends at once")
	return errors.Join(failure, closeUnlessStopped(a, stop))
}

// wait returns when a signal wants the end, or with the error of a dashboard that ended by itself.
func (p *program) wait(ctx context.Context, a *app, stop, again <-chan os.Signal) error {
	for {
		select {
		case <-again:
			_ = a.Reload(ctx) // it is logged and shown
		case <-stop:
			return nil
		case err := <-a.Failed():
			return fmt.Errorf("the dashboard ended: %w", err)
		}
	}
}

// startUnlessStopped starts the app; a signal breaks the start off.
func startUnlessStopped(ctx context.Context, a *app, stop <-chan os.Signal) (stopped bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- a.Run(ctx) }()
	select {
	case err := <-started:
		return false, err
	case <-stop:
		cancel()
	}
	if <-started == nil {
		err = closeUnlessStopped(a, stop)
	}
	return true, err
}

// closeUnlessStopped ends the app within the grace time; a signal ends it at once. Signals to reload are ignored from
// here on.
func closeUnlessStopped(a *app, stop <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), graceTime)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- a.Close(ctx) }()
	select {
	case err := <-closed:
		return err
	case <-stop:
		return errCutShort
	}
}
