package main

import (
	"context"
	"time"

	"countersign/server"
	"countersign/server/metrics"
	"countersign/server/otlp"
	"countersign/store/declared"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/revocation"
)

// beginToObserve makes what is told of each handshake beside the history and those who watch. It needs the store and the file.
func (a *app) beginToObserve(ctx context.Context) error {
	var t declared.Telemetry
	if a.file != nil {
		t = a.file.last.Telemetry
	}
	if otlp.Wanted(t.Endpoint, a.options.Getenv) {
		if t.Endpoint == "" {
			t.Share, t.Lines = 1, true
		}
		var err error
		a.exporter, err = otlp.New(ctx, otlp.Options{
			Endpoint: t.Endpoint, Headers: t.Headers, Roots: t.Roots, Share: t.Share, Lines: t.Lines, Version: a.options.Version, Node: a.store.Node(), Log: a.log,
		})
		if err != nil {
			return err
		}
		a.log = a.exporter.Logger(a.log)
	}
	if w := a.options.LogWords.handshakes; w == "failed" || w == "all" {
		a.told = newHandshakeLog(a.log, w == "all")
	}
	a.notices = server.NewNotices(server.NoticeOptions{
		Store: a.current.Load, Log: a.log,
		Config:     func() *termination.Config { return a.gateway.Config() },
		Gateway:    func() gateway.Status { return a.gateway.Status() },
		Revocation: func() []revocation.Status { return a.gateway.RevocationStatus() },
	})
	a.metrics = metrics.New(metrics.Options{
		Version:    a.options.Version,
		Config:     func() *termination.Config { return a.gateway.Config() },
		Gateway:    func() gateway.Status { return a.gateway.Status() },
		Revocation: func() []revocation.Status { return a.gateway.RevocationStatus() },
		Feed:       func() live.Status { return a.hub.Status() },
		Telemetry:  a.telemetryStatus,
		Seen:       a.seenClients,
	})
	return nil
}

// observe is told each handshake once, by the hub. It must not wait.
func (a *app) observe(h *termination.Handshake) {
	a.metrics.Observe(h)
	a.notices.Observe(h)
	if a.told != nil {
		a.told.observe(h)
	}
	if a.exporter != nil {
		a.exporter.Observe(h)
	}
}

// endObserving ends what beginToObserve began, once the hub has ended.
func (a *app) endObserving(ctx context.Context) {
	if a.notices != nil {
		a.notices.Close(ctx)
	}
	if a.told != nil {
		a.told.close(ctx)
	}
	if a.exporter != nil {
		a.exporter.Close(ctx)
	}
}

// mostSeenClients is how many certificates a scrape is told of.
const mostSeenClients = 1000

// seenClients asks the store at every scrape. Without an answer the gauges are left out.
func (a *app) seenClients() []metrics.SeenClient {
	s := a.current.Load()
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	clients, err := s.ActiveClients(ctx, time.Now(), mostSeenClients)
	if err != nil {
		a.log.Warn("the ends of clients' certificates are missing in the metrics", "error", err)
		return nil
	}
	out := make([]metrics.SeenClient, 0, len(clients))
	for _, c := range clients {
		out = append(out, metrics.SeenClient{Fingerprint: c.Fingerprint, Ends: c.NotAfter})
	}
	return out
}

func (a *app) telemetryStatus() []metrics.Signal {
	if a.exporter == nil {
		return nil
	}
	var out []metrics.Signal
	for _, s := range a.exporter.Status() {
		out = append(out, metrics.Signal(s))
	}
	return out
}

// applied tells whoever goes by the configuration that it is in force.
func (a *app) applied(c *termination.Config) {
	a.acme.Load().Apply(c)
	a.metrics.Configured(c)
}
