package proxy

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// TestSwapUnderLoad flips the policy while requests run on shared connections. Each request is served or refused as one
// of the two tables says, and after the last change as that one says.
func TestSwapUnderLoad(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	open := f.table(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), onLoss(termination.OnLossLeave)))
	shut := f.table(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), trusting("partners"), onLoss(termination.OnLossLeave)))
	f.proxy.Swap(open)
	alice := f.clients.Client("alice")
	var clients []*http.Client
	for _, h2 := range []bool{false, true} {
		clients = append(clients, f.client(clientOptions{h2: h2, serverName: "public.test", cert: alice}))
	}
	for _, c := range clients {
		wantStatus(t, f.get(c, "public.test", "/"), 200)
	}

	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for range 50 {
				a, err := f.try(clients[i%2], "public.test", "/")
				if err != nil {
					t.Error(err)
				} else if a.StatusCode != 200 && a.StatusCode != 403 {
					t.Errorf("answered %v", a)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		f.proxy.Swap(open)
		f.proxy.Swap(shut)
	}
	for _, c := range clients {
		wantRefused(t, f.get(c, "public.test", "/"), 403, "invalid")
	}
	f.proxy.Swap(open)
	for _, c := range clients {
		wantStatus(t, f.get(c, "public.test", "/"), 200)
	}
}

// TestJudgementsAreBounded: a connection that outlives many policies does not remember them all.
func TestJudgementsAreBounded(t *testing.T) {
	f := newFront(t, frontOptions{})
	c := NewConn(ConnOptions{Handshake: &termination.Handshake{}})
	for i := range 3 * judgementsKept {
		table := f.table(f.endpoint("public.test", "whoami", mode(termination.ModeRequire), func(e *termination.Endpoint) {
			e.ClientAuth.Pins = []termination.Pin{{Fingerprint: termination.Fingerprint{byte(i), 1}}}
		}))
		if c.judge(table.Site("ep_public.test").Policy, f.proxy.options.Now()).In {
			t.Fatal("nobody was let in")
		}
	}
	if n := len(c.judged); n > judgementsKept {
		t.Errorf("%d judgements are kept", n)
	}
}

// TestTableRefuses: what would let chance decide is no table.
func TestTableRefuses(t *testing.T) {
	f := newFront(t, frontOptions{})
	site := func(host, id string) *Site {
		e := f.endpoint(host, "whoami")
		e.ID = id
		return f.table(e).Site(id)
	}
	for name, sites := range map[string][]*Site{
		"one name twice": {site("a.test", "ep_1"), site("a.test", "ep_2")},
		"one ID twice":   {site("a.test", "ep_1"), site("b.test", "ep_1")},
		"two fallbacks":  {site("", "ep_1"), site("", "ep_2")},
	} {
		if _, err := NewTable(sites...); err == nil {
			t.Errorf("%s is a table", name)
		}
	}
	e := f.endpoint("a.test", "whoami", mode(termination.ModeRequire))
	if _, err := NewSite(&termination.Config{}, &e, nil, verify.Scope{}); err == nil {
		t.Error("an endpoint without a policy is a site")
	}
	e = f.endpoint("a.test", "whoami", route("/r", termination.ModeRequire))
	if _, err := NewSite(&termination.Config{}, &e, f.table(f.endpoint("b.test", "whoami")).Site("ep_b.test").Policy, verify.Scope{}); err == nil {
		t.Error("a route that trusts an unknown authority is served")
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, h2 := range []bool{false, true} {
		b.Run(fmt.Sprintf("h%d", map[bool]int{false: 1, true: 2}[h2]), func(b *testing.B) {
			f := newFront(b, frontOptions{})
			up := tlstest.HTTPHandler(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
			f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), forwardNginx, route("/api", "")))
			client := f.client(clientOptions{h2: h2, serverName: "public.test", cert: f.clients.Client("alice")})
			b.ReportAllocs()
			for b.Loop() {
				if a := f.get(client, "public.test", "/api/x"); a.StatusCode != 204 {
					b.Fatal(a)
				}
			}
		})
	}
}

// BenchmarkDecision is what the proxy itself adds to a request: everything up to forwarding it.
func BenchmarkDecision(b *testing.B) {
	f := newFront(b, frontOptions{})
	f.apply(f.endpoint("public.test", "whoami", mode(termination.ModeRequire), route("/api", "")))
	alice := f.clients.Client("alice")
	c := NewConn(ConnOptions{Listen: f.address, Handshake: &termination.Handshake{
		EndpointID: "ep_public.test", Presented: alice.Chain(), Hello: &termination.ClientHello{ServerName: "public.test"},
		Chosen: &termination.Negotiated{Version: tls.VersionTLS13, ALPN: "h2"},
	}})
	r, err := http.NewRequest(http.MethodGet, "https://public.test/api/v1/things?x=y", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.RequestURI, r.ProtoMajor = "/api/v1/things?x=y", 1
	header := http.Header{
		"Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "User-Agent": {"curl/8"}, "Cookie": {"a=1; b=2"}, "Content-Type": {"application/json"},
		"X-Request-Id": {"1"}, "Authorization": {"Bearer x"}, "Traceparent": {"00-x"},
	}
	b.ReportAllocs()
	for b.Loop() {
		x := &exchange{proxy: f.proxy, state: f.proxy.current.Load(), conn: c}
		for _, step := range [...]func(*http.Request) *refusal{x.findHost, x.findSite, x.admit, x.findRoute, x.authorize} {
			if no := step(r); no != nil {
				b.Fatal(no)
			}
		}
		strip(header, nil)
	}
}
