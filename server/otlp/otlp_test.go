package otlp

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes what is told, over HTTP.
type collector struct {
	*httptest.Server
	answer func(http.ResponseWriter, *http.Request) bool // nil, or false: takes it

	mu     sync.Mutex
	traces []*collectortrace.ExportTraceServiceRequest
	logs   []*collectorlogs.ExportLogsServiceRequest
	asked  int
	header http.Header
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) serve(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	text, err := io.ReadAll(body)
	c.mu.Lock()
	c.asked++
	c.header = r.Header
	c.mu.Unlock()
	if c.answer != nil && c.answer(w, r) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.URL.Path {
	case "/v1/traces":
		m := &collectortrace.ExportTraceServiceRequest{}
		err = errors.Join(err, proto.Unmarshal(text, m))
		c.traces = append(c.traces, m)
	case "/v1/logs":
		m := &collectorlogs.ExportLogsServiceRequest{}
		err = errors.Join(err, proto.Unmarshal(text, m))
		c.logs = append(c.logs, m)
	default:
		err = errors.New("asked for " + r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collector) spans() (all []*tracepb.Span) {
	for _, m := range c.traces {
		for _, r := range m.GetResourceSpans() {
			for _, s := range r.GetScopeSpans() {
				all = append(all, s.GetSpans()...)
			}
		}
	}
	return all
}

func attributesOf(all []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range all {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[a.GetKey()] = v.StringValue
		case *common.AnyValue_BoolValue:
			m[a.GetKey()] = map[bool]string{true: "true", false: "false"}[v.BoolValue]
		default:
			m[a.GetKey()] = a.GetValue().String()
		}
	}
	return m
}

func newExporter(t *testing.T, o Options) (*Exporter, *strings.Builder) {
	t.Helper()
	said := &strings.Builder{}
	o.Log = slog.New(slog.NewTextHandler(said, nil))
	e, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e, said
}

// refused is a handshake that failed, of a client that sends hostile texts.
func refused() *termination.Handshake {
	h := livetest.Handshake(8, time.Now())
	h.ID = termination.NewID(termination.PrefixHandshake, h.Time)
	h.Stages = termination.Stages{Hello: time.Millisecond, Reply: time.Millisecond, Wait: -1, Check: time.Hour}
	h.Hello.ServerName = "a\xff\x1b[31m" + strings.Repeat("x", 1000)
	h.Presented = append(h.Presented, tlstest.NewCA().Client("rhea").X509)
	return h
}

// TestHandshakeBecomesATrace: a real collector reads it, finds the stages, the words of the conventions, and the ID of the record.
func TestHandshakeBecomesATrace(t *testing.T) {
	c := newCollector(t)
	e, _ := newExporter(t, Options{Endpoint: c.URL, Headers: map[string]string{"api-key": "secret"}, Share: 1, Lines: true, Version: "v1", Node: "node_1"})
	h := refused()
	e.Observe(h)
	proof := livetest.Handshake(8, time.Now())
	proof.Proof = true
	e.Observe(proof)
	log := slog.New(e.Handler(slog.NewTextHandler(io.Discard, nil)))
	log.With("endpoint", "shop").WithGroup("g").Warn("a handshake failed", "n", 1, "why", "\xff")
	log.Warn("one", "handshake", h.ID)
	log.Debug("not at this level")
	e.Close(t.Context())

	spans := c.spans()
	if len(spans) != 4 {
		t.Fatalf("%d spans", len(spans))
	}
	var root *tracepb.Span
	names := map[string]bool{}
	for _, s := range spans {
		names[s.GetName()] = true
		if len(s.GetParentSpanId()) == 0 {
			root = s
		}
		if s.GetEndTimeUnixNano() > uint64(h.Time.Add(h.Duration).UnixNano()) || s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() {
			t.Errorf("%s reaches beyond the handshake", s.GetName())
		}
	}
	if !names["hello"] || !names["reply"] || !names["check"] || names["wait"] {
		t.Errorf("stages: %v", names)
	}
	want, _ := traceID(h.ID)
	if root == nil || hex.EncodeToString(root.GetTraceId()) != want.String() || root.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Fatalf("root span %v", root)
	}
	got := attributesOf(root.GetAttributes())
	for key, value := range map[string]string{
		"countersign.handshake": h.ID, "countersign.reason": "cert_expired", "error.type": "cert_expired", "tls.protocol.version": "1.3", "tls.curve": "X25519MLKEM768",
		"network.transport": "tcp", "client.address": h.Peer.Addr().String(), "tls.established": "false", "tls.resumed": "false", "tls.client.subject": h.Presented[0].Subject.String(),
	} {
		if got[key] != value {
			t.Errorf("%s is %q, not %q", key, got[key], value)
		}
	}
	if name := got["server.address"]; len(name) > maxText || !strings.HasPrefix(name, "a��[31m") {
		t.Errorf("the server name is %q", name)
	}
	about := attributesOf(c.traces[0].GetResourceSpans()[0].GetResource().GetAttributes())
	if about["service.name"] != "countersign" || about["service.version"] != "v1" || about["service.instance.id"] != "node_1" {
		t.Errorf("resource: %v", about)
	}
	if c.header.Get("api-key") != "secret" {
		t.Error("the headers did not go with it")
	}

	lines := c.logs[0].GetResourceLogs()[0].GetScopeLogs()[0].GetLogRecords()
	if len(lines) != 2 || lines[0].GetBody().GetStringValue() != "a handshake failed" || lines[0].GetSeverityText() != "WARN" {
		t.Fatalf("lines: %v", lines)
	}
	if a := attributesOf(lines[0].GetAttributes()); a["endpoint"] != "shop" || a["g.why"] != "�" {
		t.Errorf("attributes of a line: %v", a)
	}
	if hex.EncodeToString(lines[1].GetTraceId()) != want.String() {
		t.Error("a line about a handshake does not lead to its trace")
	}
}

// TestShare: failures are always told, of the rest as many as was asked for.
func TestShare(t *testing.T) {
	c := newCollector(t)
	e, _ := newExporter(t, Options{Endpoint: c.URL, Share: 0.25})
	for range 100 {
		e.Observe(livetest.Handshake(0, time.Now()))
	}
	for range 10 {
		e.Observe(livetest.Handshake(8, time.Now()))
	}
	e.Close(t.Context())
	in, failed := 0, 0
	for _, s := range c.spans() {
		switch {
		case len(s.GetParentSpanId()) > 0:
		case s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR:
			failed++
		default:
			in++
		}
	}
	if in != 25 || failed != 10 {
		t.Errorf("%d that came in and %d failures are told", in, failed)
	}
	if s := e.Status(); len(s) != 1 || s[0].Sent != 35 || s[0].Dropped != 0 || s[0].Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// TestCollectorAway: nobody waits for a collector that does not answer; what is lost is counted, and said once.
func TestCollectorAway(t *testing.T) {
	c := newCollector(t)
	c.answer = func(w http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	}
	e, said := newExporter(t, Options{Endpoint: c.URL, Share: 1})
	began := time.Now()
	const n = 3 * waiting
	h := livetest.Handshake(0, began)
	for range n {
		e.Observe(h)
	}
	if took := time.Since(began); took > requestTime/2 {
		t.Errorf("observing took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	e.Close(ctx)
	s := e.Status()[0]
	if s.Dropped+s.Failed+s.Sent != n || s.Dropped < n/2 || s.Failed == 0 {
		t.Errorf("%+v", s)
	}
	if strings.Count(said.String(), "does not take") != 1 {
		t.Errorf("said: %s", said)
	}
}

// TestRedirectIsNotFollowed: the headers may hold a secret, which is for nobody else.
func TestRedirectIsNotFollowed(t *testing.T) {
	other := newCollector(t)
	c := newCollector(t)
	c.answer = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	}
	e, said := newExporter(t, Options{Endpoint: c.URL, Headers: map[string]string{"api-key": "secret"}, Share: 1})
	e.Observe(refused())
	e.Close(t.Context())
	if other.asked != 0 || e.Status()[0].Failed != 1 {
		t.Errorf("asked the other %d times, %+v", other.asked, e.Status())
	}
	if strings.Contains(said.String(), "secret") {
		t.Error("a header stands in the log")
	}
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		endpoint string
		env      map[string]string
		want     bool
	}{
		{"", nil, false},
		{"http://c", nil, true},
		{"", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, true},
		{"http://c", map[string]string{"OTEL_SDK_DISABLED": "TRUE"}, false},
	} {
		if got := Wanted(c.endpoint, func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestTraceID(t *testing.T) {
	if id, ok := traceID("hs_01ARZ3NDEKTSV4RRFFQ69G5FAV"); !ok || id.String() != "01563e3ab5d3d6764c61efb99302bd5b" {
		t.Errorf("%s, %v", id, ok)
	}
	for _, bad := range []string{"", "hs_", "hs_1", "hs_01ARZ3NDEKTSV4RRFFQ69G5FAU", "hs_00000000000000000000000000", strings.Repeat("é", 13)} {
		if _, ok := traceID(bad); ok {
			t.Errorf("%q is taken for a ULID", bad)
		}
	}
}
