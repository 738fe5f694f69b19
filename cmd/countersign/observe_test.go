package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"countersign/store"
	"countersign/termination/tlstest"
)

// collected counts the spans that an OpenTelemetry collector was told, by reason.
type collected struct {
	mu      sync.Mutex
	reasons map[string]int
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var m collectortrace.ExportTraceServiceRequest
	if r.URL.Path == "/v1/traces" && err == nil {
		err = proto.Unmarshal(body, &m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range m.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				for _, a := range span.GetAttributes() {
					if a.GetKey() == "countersign.outcome" {
						c.reasons[a.GetValue().GetStringValue()]++
					}
				}
			}
		}
	}
}

// TestWhatIsToldOfHandshakes: real handshakes, good and bad, many at once, are in the metrics to the last one, in the log and at a collector.
func TestWhatIsToldOfHandshakes(t *testing.T) {
	collector := &collected{reasons: map[string]int{}}
	told := httptest.NewServer(collector)
	t.Cleanup(told.Close)
	s := newSite(t)
	s.write(fmt.Sprintf("log: {format: json, handshakes: failed}\ntelemetry: {otlp: {endpoint: %q, sample: 0.5}}\n%s", told.URL, s.config("one")))
	log := &buffer{}
	p := start(t, dataDir(t), func(o *appOptions) { o.Config, o.Log, o.LogTo = s.path, nil, log })

	stranger := tlstest.NewCA(tlstest.CN("evil\u202e\n\x1b[31m")).Client("mallory\u009b")
	clients := map[*tlstest.Cert]int{s.ca.Client("rhea"): 20, stranger: 10}
	var all sync.WaitGroup
	for cert, n := range clients {
		for range n {
			all.Go(func() {
				config := tlsConfig(s.ca, cert)
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &config.Certificates[0], nil } // whoever is named
				transport := &http.Transport{TLSClientConfig: config, DialContext: s.dial, DisableKeepAlives: true}
				c := &http.Client{Transport: transport, Timeout: deadline}
				if res, err := c.Get(fmt.Sprintf("https://one.test:%d/", s.port)); err == nil { // the client has a timeout
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			})
		}
	}
	all.Wait()
	scrape := func(token string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.server.URL()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	if status, text := scrape("cs_wrong"); status != http.StatusUnauthorized || strings.Contains(text, "countersign_") {
		t.Errorf("a scrape without a good token: status %d", status)
	}
	_, token, err := p.store.CreateToken(t.Context(), store.Actor{Name: "test", Via: "test"}, "prometheus", store.ScopeRead)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`countersign_handshakes_total{endpoint="one",outcome="verified",post_quantum="true",reason="",resumed="false",version="1.3"} 20`,
		`countersign_handshakes_total{endpoint="one",outcome="refused",post_quantum="true",reason="ca_unknown",resumed="false",version="1.3"} 10`,
		`countersign_handshake_duration_seconds_count{endpoint="one",outcome="verified"} 20`,
		`countersign_requests_total{endpoint="one"} 20`,
		`countersign_upstream_connect_duration_seconds_count{endpoint="one"} 20`,
		`countersign_endpoint_up{endpoint="one"} 1`,
	}
	for _, line := range want {
		eventually(t, line, func() bool {
			_, text := scrape(token)
			return strings.Contains(text, line+"\n")
		})
	}
	p.end() // tells the collector the rest

	if collector.reasons["verified"] != 10 || collector.reasons["refused"] != 10 {
		t.Errorf("the collector was told %v", collector.reasons)
	}
	lines := 0
	for line := range strings.Lines(log.String()) {
		var x struct{ Level, Msg, Handshake, Reason, Client string }
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatalf("a line of the log is no JSON: %q", line)
		}
		if strings.ContainsAny(line, "\u202e\x1b\u009b") {
			t.Errorf("a line would be obeyed by a terminal: %q", line)
		}
		if x.Msg == "handshake" {
			lines++
			if x.Level != "WARN" || x.Reason != "ca_unknown" || !strings.HasPrefix(x.Handshake, "hs_") {
				t.Errorf("line: %s", line)
			}
		}
	}
	if lines != 10 {
		t.Errorf("%d lines about handshakes", lines)
	}
}

func TestLogWordsAreChecked(t *testing.T) {
	for flag, advice := range map[string]string{"--log-level=loud": "use debug, info, warn or error", "--log-format=xml": "use text or json"} {
		if _, errs, code := run(t, nil, "serve", flag); code != exitUsage || !strings.Contains(errs, advice) {
			t.Errorf("%s: code %d, %s", flag, code, errs)
		}
	}
}
