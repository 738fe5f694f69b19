package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"

	"countersign/termination"
	"countersign/termination/live"
)

const (
	waiting     = 4096 // handshakes, or lines, at most
	gather      = time.Second
	requestTime = 10 * time.Second
	// retryTime bounds how long one batch is tried again; meanwhile the others wait.
	retryTime = 15 * time.Second
)

// Options say where to tell what.
type Options struct {
	// Endpoint is the collector's address, as in http://127.0.0.1:4318. Empty: that of the environment.
	Endpoint string
	Headers  map[string]string
	Roots    *x509.CertPool // nil: the system's
	// Share is how many of the handshakes that were let in are told, from 0 to 1. Failures are always told.
	Share   float64
	Lines   bool // tell the lines of the log too
	Version string
	Node    string
	Log     *slog.Logger // hears when the collector goes away and comes back; must not lead here
}

// Wanted reports whether anything is to be told: an endpoint is configured, or the environment names one (OpenTelemetry
// Environment Variable Specification).
func Wanted(endpoint string, getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	return endpoint != "" || getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Exporter tells a collector. It runs until Close.
type Exporter struct {
	client *http.Client
	spans  *spans
	lines  *lines // nil: they are not told
	share  float64
	chosen atomic.Uint64 // counts handshakes that were let in, to take a share of them
}

// New makes an exporter. It does not connect yet.
func New(ctx context.Context, o Options) (*Exporter, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
		MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: requestTime,
	}
	e := &Exporter{share: o.Share, client: &http.Client{
		Transport: transport, Timeout: requestTime,
		// The headers may hold a secret that is for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "countersign"), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Node)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("telemetry: read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	traceOptions := []otlptracehttp.Option{
		otlptracehttp.WithHTTPClient(e.client), otlptracehttp.WithTimeout(requestTime),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: retryTime / 3, MaxElapsedTime: retryTime}),
	}
	logOptions := []otlploghttp.Option{
		otlploghttp.WithHTTPClient(e.client), otlploghttp.WithTimeout(requestTime),
		otlploghttp.WithRetry(otlploghttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: retryTime / 3, MaxElapsedTime: retryTime}),
	}
	if o.Endpoint != "" {
		base := strings.TrimSuffix(o.Endpoint, "/")
		traceOptions = append(traceOptions, otlptracehttp.WithEndpointURL(base+"/v1/traces"), otlptracehttp.WithHeaders(o.Headers))
		logOptions = append(logOptions, otlploghttp.WithEndpointURL(base+"/v1/logs"), otlploghttp.WithHeaders(o.Headers))
	}
	to, err := otlptracehttp.New(ctx, traceOptions...)
	if err != nil {
		return nil, fmt.Errorf("telemetry: traces: %w", err)
	}
	e.spans = newSpans(to, about, o.Log)
	if !o.Lines {
		return e, nil
	}
	logs, err := otlploghttp.New(ctx, logOptions...)
	if err != nil {
		e.spans.tap.Close(ctx)
		return nil, fmt.Errorf("telemetry: logs: %w", err)
	}
	e.lines = newLines(logs, about, o.Log)
	return e, nil
}

// Observe takes a handshake to be told. It never waits.
func (e *Exporter) Observe(h *termination.Handshake) {
	if h.Proof || h.Verdict.Outcome.In() && !e.take() {
		return
	}
	e.spans.tap.Put(h)
}

// take picks every n-th, so that the share is kept exactly.
func (e *Exporter) take() bool {
	n := float64(e.chosen.Add(1))
	return uint64(n*e.share) != uint64((n-1)*e.share)
}

// Close tells what waits, as far as ctx allows.
func (e *Exporter) Close(ctx context.Context) {
	e.spans.tap.Close(ctx)
	if e.lines != nil {
		e.lines.tap.Close(ctx)
	}
	e.client.CloseIdleConnections()
}

// Signal is how one kind of telemetry is doing.
type Signal struct {
	Name    string // traces or logs
	Sent    uint64 // handshakes, or lines
	Failed  uint64 // that the collector did not take
	Dropped uint64 // that there was no room for
}

// Status tells how the exporter is doing.
func (e *Exporter) Status() []Signal {
	all := []Signal{e.spans.doing.status("traces", e.spans.tap.Dropped())}
	if e.lines != nil {
		all = append(all, e.lines.doing.status("logs", e.lines.tap.Dropped()))
	}
	return all
}

// doing counts what becomes of batches, and says when that changes.
type doing struct {
	what    string
	log     *slog.Logger
	sent    atomic.Uint64
	failed  atomic.Uint64
	failing bool // of the tap's goroutine
}

func (d *doing) told(n int, err error) {
	if err != nil {
		d.failed.Add(uint64(n)) //nolint:gosec // a length
		if !d.failing {
			d.log.Warn("the telemetry collector does not take what it is told; handshakes go on as before", "what", d.what, "error", err)
		}
		d.failing = true
		return
	}
	d.sent.Add(uint64(n)) //nolint:gosec // a length
	if d.failing {
		d.log.Info("the telemetry collector takes what it is told again", "what", d.what, "lost", d.failed.Load())
	}
	d.failing = false
}

func (d *doing) status(name string, dropped uint64) Signal {
	return Signal{Name: name, Sent: d.sent.Load(), Failed: d.failed.Load(), Dropped: dropped}
}

func newTap[T any](take func(context.Context, []T)) *live.Tap[T] {
	return live.NewTap(waiting, gather, take)
}
