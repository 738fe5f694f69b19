package metrics

import (
	"crypto/x509"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/live"
	"countersign/termination/live/livetest"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
	"countersign/termination/tunnel"
	"countersign/termination/upstream"
)

var update = flag.Bool("update", false, "write golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// everything is a gateway in which each metric has something to tell.
func everything(now func() time.Time) (*Metrics, *termination.Config) {
	ca := tlstest.NewCA(tlstest.CN("Devices"))
	own := tlstest.SelfSigned(tlstest.CN("meter"))
	config := &termination.Config{
		Authorities: []termination.Authority{{Name: "devices", Certificates: []termination.CACertificate{{Certificate: ca.X509}}}},
		Endpoints:   []termination.Endpoint{{Name: "shop"}},
		Identities:  []termination.Identity{{Name: "meter", Certificates: []*x509.Certificate{own.X509}}},
	}
	m := New(Options{
		Version: "v1.2.3", Now: now,
		Config: func() *termination.Config { return config },
		Gateway: func() gateway.Status {
			return gateway.Status{
				Revision: 7, Agents: []tunnel.AgentStatus{{Endpoint: "shop", Dropped: 1}}, TurnedAway: map[gateway.Limit]int64{gateway.LimitHalfOpen: 2},
				Endpoints: []gateway.EndpointStatus{
					{Name: "shop", State: gateway.StateListening, Connections: 3, Leaves: []*x509.Certificate{own.X509, own.X509}, Upstreams: []upstream.TargetStatus{{Target: "tcp://db:1"}, {Target: "tcp://db:1"}}},
					{Name: "off", State: gateway.StateStopped},
				},
			}
		},
		Revocation: func() []revocation.Status {
			return []revocation.Status{{Authority: "devices", Sources: []revocation.SourceStatus{{Lists: []revocation.ListStatus{{InForce: true, FreshUntil: now().Add(time.Hour)}}}, {Problem: "gone"}}}}
		},
		Telemetry: func() []Signal { return []Signal{{Name: "traces", Sent: 1}} },
		Seen: func() []SeenClient {
			return []SeenClient{{Fingerprint: termination.FingerprintOf(own.X509), Ends: now().Add(time.Hour)}}
		},
		Feed: func() live.Status { return live.Status{Missed: 1, Lost: 2, Subscribers: 3, Dropped: 4} },
	})
	h := livetest.Handshake(0, now())
	h.Stages = termination.Stages{Hello: time.Millisecond, Reply: time.Millisecond, Wait: time.Millisecond, Check: time.Millisecond}
	h.Endpoint, h.Upstream = "shop", &termination.UpstreamResult{Address: "db:1", Connect: time.Millisecond}
	m.Observe(h)
	m.ObserveEnd(&termination.ConnectionEnd{Endpoint: "shop", BytesIn: 10, BytesOut: 20, Requests: 2, ClosedBy: termination.ClosedByClient, Upstream: &termination.UpstreamResult{Error: "refused"}})
	return m, config
}

func TestNames(t *testing.T) {
	m, _ := everything(time.Now)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "countersign_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		got.WriteString(f.GetName() + "{" + strings.Join(labels, ",") + "} " + strings.ToLower(f.GetType().String()) + "\n")
	}
	golden := filepath.Join("testdata", "names.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got.String() != string(want) {
		t.Errorf("names have changed: dashboards and alerts go by them (-update writes them anew)\n%s%v", got.String(), err)
	}
}

// TestScrapeSpeaksWhatIsAsked: text for people, protobuf with native histograms for Prometheus.
func TestScrapeSpeaksWhatIsAsked(t *testing.T) {
	m, _ := everything(time.Now)
	ask := func(accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, r)
		return w
	}
	text := ask("text/plain").Body.String()
	for _, line := range []string{
		`countersign_handshakes_total{endpoint="shop",outcome="verified",post_quantum="true",reason="",resumed="false",version="1.3"} 1`,
		`countersign_connection_sent_bytes_total{endpoint="shop"} 20`,
		`countersign_upstream_connect_failures_total{endpoint="shop"} 1`,
		`countersign_upstream_up{endpoint="shop",target="tcp://db:1"} 0`,
		`countersign_crl_sources_failing{authority="devices"} 1`,
		`countersign_build_info{go_version="`,
		`go_goroutines `, `process_open_fds `,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %s", line)
		}
	}
	if strings.Contains(text, `endpoint_up{endpoint="off"}`) {
		t.Error("an endpoint that is switched off counts as down")
	}
	if w := ask("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"); !strings.HasPrefix(w.Header().Get("Content-Type"), "application/vnd.google.protobuf") {
		t.Errorf("protobuf was asked for, and %s came", w.Header().Get("Content-Type"))
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasSuffix(f.GetName(), "_duration_seconds") && strings.HasPrefix(f.GetName(), "countersign_") {
			if h := f.GetMetric()[0].GetHistogram(); len(h.GetPositiveSpan()) == 0 || len(h.GetBucket()) == 0 {
				t.Errorf("%s is not both a native and a classic histogram", f.GetName())
			}
		}
	}
}

// TestLabelsAreBounded: what agents or another version report, and what no table knows, is "other"; what is no UTF-8 is left out, without a panic.
func TestLabelsAreBounded(t *testing.T) {
	m, _ := everything(time.Now)
	for i := range 50 {
		h := livetest.Handshake(0, time.Now())
		h.Endpoint = "shop"
		h.Verdict.Outcome, h.Verdict.Reason = termination.Outcome(strings.Repeat("x", i)), termination.Reason(strings.Repeat("y", i+1))
		h.Chosen.Version = uint16(0x7000 + i)
		h.Hello.ServerName, h.Client.Name = strings.Repeat("n", i), strings.Repeat("c", i)
		m.Observe(h)
		m.ObserveEnd(&termination.ConnectionEnd{Endpoint: "shop", ClosedBy: termination.ClosedBy(strings.Repeat("z", i)), Reason: h.Verdict.Reason})
	}
	if n := testutil.CollectAndCount(m.counted.handshakes); n != 2 {
		t.Errorf("%d series", n)
	}
	if n := testutil.CollectAndCount(m.counted.ends); n != 2 {
		t.Errorf("%d series of ends", n)
	}
	bad := livetest.Handshake(0, time.Now())
	bad.Endpoint = "\xff"
	m.Observe(bad)
	if n := testutil.CollectAndCount(m.counted.handshakes); n != 2 {
		t.Errorf("%d series after a name that is no UTF-8", n)
	}
}

// TestNothingIsLost: the feed is full, and every handshake counts; what the gateway does itself does not.
func TestNothingIsLost(t *testing.T) {
	m, _ := everything(time.Now)
	block := make(chan struct{})
	first := sync.OnceFunc(func() { <-block })
	hub := live.New(live.Options{Queue: 8, Observe: func(h *termination.Handshake) { first(); m.Observe(h) }, ObserveEnd: m.ObserveEnd})
	go hub.Publish(livetest.Handshake(0, time.Now()))
	const publishers, each = 8, 500
	var all sync.WaitGroup
	for range publishers {
		all.Go(func() {
			for i := range each {
				h := livetest.Handshake(i, time.Now())
				h.Proof = i%100 == 1
				hub.Publish(h)
				hub.Complete(termination.ConnectionEnd{ID: h.ID, Endpoint: "erp", BytesIn: 1})
			}
		})
	}
	close(block)
	all.Wait()
	if hub.Status().Missed == 0 {
		t.Error("nothing was missed: the test proves nothing")
	}
	if err := hub.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := total(t, m.counted.handshakes)
	if want := float64(publishers*(each-each/100) + 2); got != want {
		t.Errorf("%v handshakes are counted, not %v", got, want)
	}
	if got := testutil.ToFloat64(m.counted.received.WithLabelValues("erp")); got != publishers*each {
		t.Errorf("%v bytes are counted", got)
	}
}

func total(t *testing.T, c prometheus.Collector) (sum float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

// TestRemovedEndpointsAreForgotten: their series stay for a quarter of an hour, and then go; those of the others stay.
func TestRemovedEndpointsAreForgotten(t *testing.T) {
	now := time.Now()
	m, config := everything(func() time.Time { return now })
	strange := livetest.Handshake(0, now)
	strange.Endpoint = ""
	m.Observe(strange)
	all := func() int { return testutil.CollectAndCount(m.counted.handshakes) }
	m.Configured(config)
	config.Endpoints = nil
	m.Configured(config)
	now = now.Add(keepRemoved - time.Second)
	m.Configured(config)
	if all() != 2 {
		t.Error("the series of an endpoint that was just removed are gone")
	}
	now = now.Add(time.Second)
	m.Configured(config)
	if all() != 1 || testutil.CollectAndCount(m.counted.duration) != 1 {
		t.Error("the series of an endpoint that was removed long ago are still there")
	}
	if names := slices.Collect(func(yield func(string) bool) {
		m.counted.seen.Range(func(k, _ any) bool { return yield(k.(string)) })
	}); len(names) != 1 {
		t.Errorf("remembered: %q", names)
	}
}

func BenchmarkObserve(b *testing.B) {
	m, _ := everything(time.Now)
	h := livetest.Handshake(0, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(h)
	}
}
