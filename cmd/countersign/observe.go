package main

import (
	"countersign/server/metrics"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/revocation"
)

// measure makes the metrics. What they ask exists by the time of the first scrape.
func (a *app) measure() {
	a.metrics = metrics.New(metrics.Options{
		Version:    a.options.Version,
		Config:     func() *termination.Config { return a.gateway.Config() },
		Gateway:    func() gateway.Status { return a.gateway.Status() },
		Revocation: func() []revocation.Status { return a.gateway.RevocationStatus() },
		Feed:       func() live.Status { return a.hub.Status() },
	})
}

// applied tells whoever goes by the configuration that it is in force.
func (a *app) applied(c *termination.Config) {
	a.acme.Load().Apply(c)
	a.metrics.Configured(c)
}
