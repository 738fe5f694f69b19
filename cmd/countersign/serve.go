package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// defaultGrace is how long connections may take to end by themselves after a signal to stop.
const defaultGrace = 10 * time.Second

// serveOptions are the flags of serve.
type serveOptions struct {
	config, data, dashboard string
	noDemo, noBrowser       bool
	grace                   time.Duration
	log                     logWords
}

func (p *program) serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use: "serve", Short: "Run the gateway: listeners, dashboard, store", Args: noArguments,
		Long: `Run the gateway: listeners, dashboard, store.

The first start in an empty data directory, without --config, makes a demo: a local CA that can sign for this machine
alone, an endpoint that demands a certificate from it, and a client certificate for you.

SIGHUP reads the configuration file again, as does a change of it or of a file that it names. SIGINT and SIGTERM stop
accepting, let what is in flight end within the grace time, and then end; a second one ends at once. SIGUSR2 replaces the
program while it runs: see countersign upgrade.

The private keys in the store are opened by a key file of mode 0600; $COUNTERSIGN_PASSPHRASE protects that file in addition.`,
		RunE: func(c *cobra.Command, _ []string) error { return p.serve(c.Context(), o) },
	}
	dataFlag(c, &o.data)
	c.Flags().StringVar(&o.config, "config", "", "configuration `file`, countersign.yaml")
	c.Flags().StringVar(&o.dashboard, "dashboard", "", "`address` of the dashboard, on loopback (default 127.0.0.1:7443, or the next free port)")
	c.Flags().DurationVar(&o.grace, "grace", defaultGrace, "how `long` connections may take to end by themselves when the gateway stops")
	c.Flags().StringVar(&o.log.level, "log-level", "", "write lines of this `level` and above: debug, info, warn or error (default: the file's, else info)")
	c.Flags().StringVar(&o.log.format, "log-format", "", "write the log as text or json (default: the file's, else text)")
	c.Flags().BoolVar(&o.noDemo, "no-demo", false, "make no demo at the first start")
	c.Flags().BoolVar(&o.noBrowser, "no-browser", false, "do not open the browser")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // it exists: see above
	return c
}

// serve runs the gateway until a signal ends it.
func (p *program) serve(ctx context.Context, o serveOptions) error {
	if o.grace < 0 {
		return fmt.Errorf("%w: --grace cannot be negative", errUsage)
	}
	if err := o.log.check(); err != nil {
		return err
	}
	dir, err := p.dataDirectory(o.data)
	if err != nil {
		return err
	}
	options := appOptions{
		Data: dir, Config: o.config, Dashboard: o.dashboard, NoDemo: o.noDemo, Prove: true, Passphrase: p.passphrase(), Version: p.version,
		Out: p.out, LogTo: p.err, LogWords: o.log, Program: p.path, Args: p.args, Getenv: p.getenv, demoPort: defaultDemoPort,
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

	upgrade := make(chan os.Signal, 1)
	signal.Notify(upgrade, upgradeSignal())
	defer signal.Stop(upgrade)

	a := newApp(options)
	if stopped, err := startUnlessStopped(ctx, a, stop, o.grace); err != nil || stopped {
		return err
	}
	p.notifyManager(stateReady)
	failure := p.wait(ctx, a, stop, again, upgrade)
	if a.successor == nil {
		p.notifyManager(stateStopping)
		fmt.Fprintln(p.err, "stopping; Ctrl-C again ends at once")
	}
	return errors.Join(failure, closeUnlessStopped(a, stop, o.grace))
}

// wait returns when a signal wants the end, when another process has taken over, or with the error of a dashboard that
// ended by itself.
func (p *program) wait(ctx context.Context, a *app, stop, again, upgrade <-chan os.Signal) error {
	for {
		select {
		case <-again:
			_ = a.Reload(ctx) // it is logged and shown
		case <-upgrade:
			a.handed.Go(func() { _, _ = a.Upgrade(ctx, upgradePatience) }) // it is logged
		case <-a.Replaced():
			p.notifyManager(stateReplaced(a.successor.process.Process.Pid))
			return nil
		case <-stop:
			return nil
		case err := <-a.Failed():
			return fmt.Errorf("the dashboard ended: %w", err)
		}
	}
}

// startUnlessStopped starts the app; a signal breaks the start off.
func startUnlessStopped(ctx context.Context, a *app, stop <-chan os.Signal, grace time.Duration) (stopped bool, err error) {
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
		err = closeUnlessStopped(a, stop, grace)
	}
	return true, err
}

// closeUnlessStopped ends the app within the grace time; a signal ends it at once. Signals to reload are ignored from
// here on.
func closeUnlessStopped(a *app, stop <-chan os.Signal, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
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
