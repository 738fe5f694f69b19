package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"countersign/server"
)

// openRim opens what stands on the store and around the gateway: the dashboard, which serveDashboard serves, and the
// control socket. It puts the configuration into force.
func (a *app) openRim(ctx context.Context) error {
	chosen, err := a.chooseAddress(ctx)
	if err != nil {
		return err
	}
	a.server, err = server.New(server.Options{
		Store: a.store, Hub: a.hub, Gateway: a.gateway, ACME: a.acme.Load(), Log: a.log, Listen: a.listen, Hosts: a.hosts, Sockets: a.sockets,
		Metrics: a.metrics.Handler(), Notices: a.notices, Version: a.options.Version, Portal: a.portal, User: userName(), Demo: a.demo.shown(), Upgrade: a.Upgrade, ProveChanges: a.options.Prove,
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
	a.dashboard, err = a.server.ListenAt(ctx, a.listen)
	for tries := 0; chosen && errors.Is(err, syscall.EADDRINUSE) && tries < maxChoices; tries++ {
		// Another program, perhaps one of ours that starts too, was quicker at the port that was free a moment ago.
		a.listen = ""
		if _, err = a.chooseAddress(ctx); err != nil {
			return err
		}
		a.dashboard, err = a.server.ListenAt(ctx, a.listen)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w of the dashboard, %s: another program uses it; stop that one, or choose another address with --dashboard", errAddress, a.listen)
	}
	if err != nil {
		return fmt.Errorf("%w of the dashboard, %s: %w; choose another with --dashboard", errAddress, a.listen, err)
	}
	a.control, err = a.server.OpenControl(ctx)
	return err
}

// maxChoices bounds how often a free port is looked for.
const maxChoices = 20

// chooseAddress chooses where the dashboard listens, if nobody did: where it was in the process before, else at the next
// free port. It reports whether it chose a port that was free a moment ago.
func (a *app) chooseAddress(ctx context.Context) (bool, error) {
	if a.listen != "" {
		return false, nil
	}
	if inherited := a.sockets.Inherited(server.SocketUse); len(inherited) > 0 {
		a.listen = inherited[0]
		return false, nil
	}
	port, err := freePort(ctx, defaultDashboardPort)
	if err != nil {
		return false, fmt.Errorf("%w of the dashboard: %w; choose another with --dashboard", errAddress, err)
	}
	a.listen = netip.AddrPortFrom(loopback(), port).String()
	return true, nil
}

func (a *app) serveDashboard() {
	l, s := a.dashboard, a.server
	a.dashboard = nil
	go func() {
		if err := s.Serve(l); err != nil {
			a.failed <- err
		}
	}()
}

// closeRim ends what needs the store: nobody changes anything or looks at anything any more, as far as requests end
// before ctx does. The control socket is left to others; its requests go on.
func (a *app) closeRim(ctx context.Context) {
	a.stop()
	a.tended.Wait()
	if a.file != nil {
		a.file.close()
	}
	if c := a.control; c != nil {
		a.control = nil
		c.Leave()
		a.handed.Go(func() { _ = c.Close(context.WithoutCancel(ctx)) }) // an upgrade that it asked for is bounded
	}
	if a.dashboard != nil {
		_ = a.dashboard.Close()
		a.dashboard = nil
	}
	if a.server != nil {
		if err := a.server.Shutdown(ctx); err != nil {
			a.log.Warn("not every request to the dashboard ended by itself", "error", err)
		}
		a.server = nil
	}
}
