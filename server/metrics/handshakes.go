package metrics

import (
	"crypto/tls"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"countersign/termination"
)

const (
	// nativeFactor makes a bucket of a native histogram at most a tenth wider than the one before.
	nativeFactor = 1.1
	// nativeBuckets bounds the buckets of one native histogram; above it they get wider.
	nativeBuckets = 100
	// nativeReset is how long a histogram keeps its buckets before it may begin anew instead of widening them.
	nativeReset = time.Hour
	// keepRemoved is how long the series of an endpoint that was removed stay, so that the last of them are scraped.
	keepRemoved = 15 * time.Minute
	// other stands for what is in no table of ours.
	other = "other"
)

// counted holds what is counted of handshakes and of connections.
type counted struct {
	handshakes *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	stages     *prometheus.HistogramVec
	ends       *prometheus.CounterVec
	received   *prometheus.CounterVec
	sent       *prometheus.CounterVec
	requests   *prometheus.CounterVec
	connect    *prometheus.HistogramVec
	failures   *prometheus.CounterVec

	outcomes map[termination.Outcome]bool
	reasons  map[termination.Reason]bool

	seen    sync.Map // names of endpoints that have series
	mu      sync.Mutex
	removed map[string]time.Time // of these, those that are in the configuration no more, and since when
}

// durations returns the classic buckets: a handshake takes a millisecond of work, a round trip or two of waiting, and at most
// the handshake timeout.
func durations() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

func newCounted() *counted {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: durations(), NativeHistogramBucketFactor: nativeFactor,
			NativeHistogramMaxBucketNumber: nativeBuckets, NativeHistogramMinResetDuration: nativeReset,
		}, labels)
	}
	c := &counted{
		handshakes: counter("countersign_handshakes_total", "Handshakes, by how they ended. Proofs that the gateway makes itself are left out.", "endpoint", "outcome", "reason", "version", "resumed", "post_quantum"),
		duration:   histogram("countersign_handshake_duration_seconds", "From accept to the end of the handshake.", "endpoint", "outcome"),
		stages:     histogram("countersign_handshake_stage_duration_seconds", "Stages of handshakes: hello (until the ClientHello was read), reply, wait (network and client), check.", "endpoint", "stage"),
		ends:       counter("countersign_connections_closed_total", "Connections that were let in and have ended, by who closed them and what went wrong after TLS.", "endpoint", "closed_by", "reason"),
		received:   counter("countersign_connection_received_bytes_total", "Bytes from clients, counted when their connection ends.", "endpoint"),
		sent:       counter("countersign_connection_sent_bytes_total", "Bytes to clients, counted when their connection ends.", "endpoint"),
		requests:   counter("countersign_requests_total", "HTTP requests, counted when their connection ends.", "endpoint"),
		connect:    histogram("countersign_upstream_connect_duration_seconds", "Connecting to the service behind; of HTTP, at the first request of a client's connection.", "endpoint"),
		failures:   counter("countersign_upstream_connect_failures_total", "Connections to the service behind that could not be had.", "endpoint"),
		outcomes:   map[termination.Outcome]bool{}, reasons: map[termination.Reason]bool{"": true},
		removed: map[string]time.Time{},
	}
	for _, o := range termination.Outcomes() {
		c.outcomes[o] = true
	}
	for _, r := range termination.Reasons() {
		c.reasons[r.Code] = true
	}
	return c
}

func (c *counted) collectors() []prometheus.Collector {
	return []prometheus.Collector{c.handshakes, c.duration, c.stages, c.ends, c.received, c.sent, c.requests, c.connect, c.failures}
}

// vectors are all that have the label endpoint.
func (c *counted) vectors() []interface{ DeletePartialMatch(prometheus.Labels) int } {
	return []interface{ DeletePartialMatch(prometheus.Labels) int }{
		c.handshakes, c.duration, c.stages, c.ends, c.received, c.sent, c.requests, c.connect, c.failures,
	}
}

// observe counts a handshake. It is called from many goroutines, and does not wait.
func (c *counted) observe(h *termination.Handshake) {
	if h.Proof {
		return
	}
	c.note(h.Endpoint)
	outcome := string(h.Verdict.Outcome)
	if !c.outcomes[h.Verdict.Outcome] {
		outcome = other
	}
	version, resumed, postQuantum := "", "", ""
	if n := h.Chosen; n != nil {
		version, resumed = versionLabel(n.Version), strconv.FormatBool(n.Resumed)
		if n.Group != 0 || n.PostQuantum {
			postQuantum = strconv.FormatBool(n.PostQuantum)
		}
	}
	add(c.handshakes, 1, h.Endpoint, outcome, c.reason(h.Verdict.Reason), version, resumed, postQuantum)
	take(c.duration, h.Duration, h.Endpoint, outcome)
	for _, s := range []struct {
		name string
		took time.Duration
	}{{"hello", h.Stages.Hello}, {"reply", h.Stages.Reply}, {"wait", h.Stages.Wait}, {"check", h.Stages.Check}} {
		if s.took >= 0 {
			take(c.stages, s.took, h.Endpoint, s.name)
		}
	}
	c.upstream(h.Endpoint, h.Upstream)
}

// observeEnd counts what a connection carried.
func (c *counted) observeEnd(e *termination.ConnectionEnd) {
	if e.Endpoint == "" {
		return // the gateway's own
	}
	c.note(e.Endpoint)
	by := e.ClosedBy
	if !slices.Contains([]termination.ClosedBy{termination.ClosedByClient, termination.ClosedByUpstream, termination.ClosedByGateway, termination.ClosedByPolicy}, by) {
		by = other
	}
	add(c.ends, 1, e.Endpoint, string(by), c.reason(e.Reason))
	add(c.received, e.BytesIn, e.Endpoint)
	add(c.sent, e.BytesOut, e.Endpoint)
	add(c.requests, e.Requests, e.Endpoint)
	c.upstream(e.Endpoint, e.Upstream)
}

func (c *counted) upstream(endpoint string, u *termination.UpstreamResult) {
	switch {
	case u == nil || u.Address == "" && u.Error == "":
	case u.Error != "":
		add(c.failures, 1, endpoint)
	default:
		take(c.connect, u.Connect, endpoint)
	}
}

func (c *counted) reason(r termination.Reason) string {
	if !c.reasons[r] {
		return other
	}
	return string(r)
}

// add counts. A label that the library refuses is not counted: that is better than to panic where handshakes pass.
func add(v *prometheus.CounterVec, n int64, labels ...string) {
	if m, err := v.GetMetricWithLabelValues(labels...); err == nil {
		m.Add(float64(max(n, 0)))
	}
}

func take(v *prometheus.HistogramVec, d time.Duration, labels ...string) {
	if m, err := v.GetMetricWithLabelValues(labels...); err == nil {
		m.Observe(d.Seconds())
	}
}

func versionLabel(v uint16) string {
	switch v {
	case 0:
		return ""
	case tls.VersionTLS10:
		return "1.0"
	case tls.VersionTLS11:
		return "1.1"
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return other
}

// note remembers that an endpoint has series.
func (c *counted) note(endpoint string) {
	if _, known := c.seen.Load(endpoint); !known {
		c.seen.Store(endpoint, nil)
	}
}

// forget drops the series of endpoints that have not been in the configuration for a while.
func (c *counted) forget(config *termination.Config, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[string]bool{"": true} // handshakes that led to none
	for i := range config.Endpoints {
		wanted[config.Endpoints[i].Name] = true
	}
	c.seen.Range(func(key, _ any) bool {
		name, _ := key.(string)
		since, gone := c.removed[name]
		switch {
		case wanted[name]:
			delete(c.removed, name)
		case !gone:
			c.removed[name] = now
		case now.Sub(since) >= keepRemoved:
			for _, v := range c.vectors() {
				v.DeletePartialMatch(prometheus.Labels{"endpoint": name})
			}
			c.seen.Delete(name)
			delete(c.removed, name)
		}
		return true
	})
}
