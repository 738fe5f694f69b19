package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/revocation"
)

// Options are where the metrics come from. Each function is called at a scrape, and may be nil: then what it would tell is left out.
type Options struct {
	Version    string
	Config     func() *termination.Config
	Gateway    func() gateway.Status
	Revocation func() []revocation.Status
	Feed       func() live.Status
	Telemetry  func() []Signal
	// Seen returns the client certificates that came in lately, those that end first first.
	Seen func() []SeenClient
	Now  func() time.Time // nil: time.Now
}

// SeenClient is a certificate that came in.
type SeenClient struct {
	Fingerprint termination.Fingerprint
	Ends        time.Time
}

// Signal is how one kind of telemetry is doing, since the start.
type Signal struct {
	Name                  string // traces or logs
	Sent, Failed, Dropped uint64
}

// Metrics are the metrics of one gateway, in a registry of their own.
type Metrics struct {
	counted  *counted
	registry *prometheus.Registry
	now      func() time.Time
}

const (
	// mostScrapes is how many may be answered at a time.
	mostScrapes = 4
	// scrapeTime bounds one.
	scrapeTime = 10 * time.Second
)

// New makes the metrics of a gateway.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Metrics{counted: newCounted(), registry: prometheus.NewRegistry(), now: o.Now}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "countersign_build_info", Help: "Always 1; the labels tell the version.", ConstLabels: prometheus.Labels{"version": o.Version, "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, newState(o), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.counted.collectors()...)
	return m
}

// Observe counts a handshake: see [live.Options].
func (m *Metrics) Observe(h *termination.Handshake) { m.counted.observe(h) }

// ObserveEnd counts what a connection carried: see [live.Options].
func (m *Metrics) ObserveEnd(e *termination.ConnectionEnd) { m.counted.observeEnd(e) }

// Configured drops the series of endpoints that have been gone for a while.
func (m *Metrics) Configured(config *termination.Config) { m.counted.forget(config, m.now()) }

// Handler answers scrapes in the format that the scraper asks for: text, OpenMetrics, or protobuf, which alone carries native
// histograms.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: mostScrapes, Timeout: scrapeTime,
	})
}
