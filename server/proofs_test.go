package server

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live"
	"countersign/termination/proof"
	"countersign/termination/tlstest"
)

// withProvable adds an endpoint that demands a certificate of the local CA.
func (f *fixture) withProvable(name string) {
	f.t.Helper()
	f.mutate(func(tx *store.Tx) error {
		_, err := tx.CreateEndpoint(termination.Endpoint{
			Name: name, Enabled: true, Scheme: "https", Host: name + ".localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: freeTCPPort(f.t), TerminateAt: termination.AtEdge,
			Upstream:   termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{f.current().LocalCAs[0].Name}, Announce: true, OnLoss: termination.OnLossClose},
		})
		return err
	})
}

func TestProofOnThePage(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withProvable("shop")
	page := f.get("/endpoints/shop").body
	if !strings.Contains(page, "Proof it holds") || !strings.Contains(page, "Run it") || strings.Contains(page, "proof.json") {
		t.Error("before a proof the page offers none, or shows one")
	}
	if r := f.get("/endpoints/shop/proof.json"); r.status != http.StatusNotFound {
		t.Errorf("no proof as a file: status %d", r.status)
	}
	if r := f.post("/endpoints/shop/proof", url.Values{}); r.status != http.StatusSeeOther || r.header.Get("Location") != "/endpoints/shop#proof" {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	page = f.get("/endpoints/shop").body
	for _, s := range []string{"It holds", "Client of a trusted CA", "alert 116 certificate_required", "alert 48 unknown_ca", "alert 45 certificate_expired", "TLS 1.2 and no more", "Raise it", "Run again", "/handshakes/hs_"} {
		if !strings.Contains(page, s) {
			t.Errorf("the page lacks %q", s)
		}
	}
	var report proof.Report
	r := f.get("/endpoints/shop/proof.json")
	if err := json.Unmarshal([]byte(r.body), &report); err != nil || report.Result != proof.Holds || len(report.Lines) != 7 || report.Revision != f.current().Revision || !strings.Contains(r.header.Get("Content-Disposition"), "shop-proof.json") {
		t.Errorf("%+v, %v", report, err)
	}
	if n := f.hub.Counts(0, live.AllEndpoints).Total(); n != 0 {
		t.Errorf("%d handshakes are counted", n)
	}
	// Each line leads to its handshake, once that is stored.
	tlstest.Eventually(t, "the handshake is stored", func() bool { return f.get("/handshakes/"+report.Lines[0].Handshake).status == http.StatusOK })

	f.mutate(func(tx *store.Tx) error {
		e, err := tx.Endpoint("shop")
		if err != nil {
			return err
		}
		e.ClientAuth.Mode = termination.ModeOptional
		return tx.UpdateEndpoint(e)
	})
	if page := f.get("/endpoints/shop").body; !strings.Contains(page, "has changed since") {
		t.Error("a proof of another policy is shown as if it were of this one")
	}
	if f.proofs.active {
		t.Error("it is proven by itself, which was not asked for")
	}
	f.post("/endpoints/shop/stop", url.Values{})
	if r := f.post("/endpoints/shop/proof", url.Values{}); r.status != http.StatusConflict || !strings.Contains(r.body, "Start it first") {
		t.Errorf("a stopped endpoint: status %d", r.status)
	}
}

// What contradicts is red and first, and says what it should be.
func TestContradictionIsShownFirst(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withProvable("shop")
	f.contradict("shop")
	page := f.get("/endpoints/shop").body
	list := page[strings.Index(page, `<ul class="proof">`):]
	first := list[:strings.Index(list, "</li>")]
	if !strings.Contains(page, "It does not hold") || !strings.Contains(first, `class="bad"`) || !strings.Contains(first, "should be refused") || strings.Contains(page, "<img src=x") {
		t.Errorf("the first line is %s", first)
	}
}

// contradict keeps a report as of an endpoint that lets everyone in, with text of a stranger in it.
func (f *fixture) contradict(name string) {
	e := f.current().Endpoint(name)
	f.proofs.mu.Lock()
	defer f.proofs.mu.Unlock()
	f.proofs.last[e.ID] = proven{of: proofSubject{endpoint: *e, policy: f.endpointStatuses()[e.ID].PolicyHash}, report: &proof.Report{
		EndpointID: e.ID, Endpoint: e.Name, Result: proof.Contradicts, Time: time.Now(), Revision: 3, Lines: []proof.Line{
			{Try: proof.TryStranger, Tried: "Certificate from an unknown CA", Expected: "refused", Happened: "let in", Result: proof.Contradicts, Detail: "TLS 1.3, X25519MLKEM768", Handshake: "hs_1"},
			{Try: proof.TryNone, Tried: "No certificate", Expected: "refused", Result: proof.Failed, Detail: "the connection broke: <img src=x onerror=alert(1)>\u202e"},
			{Try: proof.TryTrusted, Tried: "Client of a trusted CA", Expected: "let in", Happened: "let in", Result: proof.Holds, Detail: "TLS 1.3, X25519MLKEM768"},
			{Try: proof.TryExpired, Tried: "Trusted CA, ended a minute ago", Result: proof.NotShown, Detail: "cannot be shown: no key of a trusted CA is here"},
		},
	}}
}

func TestAPIProves(t *testing.T) {
	f := start(t, nil)
	f.withLocalCA(true)
	f.withProvable("shop")
	var report proof.Report
	if status := f.as(store.ScopeOperate).call(http.MethodPost, "/endpoints/shop/proof", nil, &report); status != http.StatusOK || report.Result != proof.Holds || report.Endpoint != "shop" {
		t.Errorf("status %d: %+v", status, report)
	}
	var p problem
	if status := f.as(store.ScopeRead).call(http.MethodPost, "/endpoints/shop/proof", nil, &p); status != http.StatusForbidden {
		t.Errorf("a token that may only read: status %d, %+v", status, p)
	}
	admin := f.as(store.ScopeAdmin)
	if status := admin.call(http.MethodPost, "/endpoints/nobody/proof", nil, &p); status != http.StatusNotFound {
		t.Errorf("an unknown endpoint: status %d, %+v", status, p)
	}
	admin.call(http.MethodPost, "/endpoints/shop/stop", nil, nil)
	if status := admin.call(http.MethodPost, "/endpoints/shop/proof", nil, &p); status != http.StatusConflict || p.Code != "stopped" {
		t.Errorf("a stopped endpoint: status %d, %+v", status, p)
	}
}

// What answers at an address that the gateway could not open is a stranger: nothing is sent there, and nothing is said of it.
func TestStrangersAreNotProven(t *testing.T) {
	f := start(t, nil)
	f.withLocalCA(true)
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	var met atomic.Bool
	go func() {
		if conn, err := stranger.Accept(); err == nil {
			met.Store(true)
			_ = conn.Close()
		}
	}()
	f.mutate(func(tx *store.Tx) error {
		_, err := tx.CreateEndpoint(termination.Endpoint{
			Name: "taken", Enabled: true, Scheme: "https", Host: "taken.localhost", Listen: netip.MustParseAddr("127.0.0.1"),
			Port: netip.MustParseAddrPort(stranger.Addr().String()).Port(), TerminateAt: termination.AtEdge,
			Upstream: termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami}, ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
		})
		return err
	})
	var p problem
	if status := f.as(store.ScopeOperate).call(http.MethodPost, "/endpoints/taken/proof", nil, &p); status != http.StatusConflict || p.Code != "not_listening" || !strings.Contains(p.Detail, "annot listen on 127.0.0.1:") {
		t.Errorf("status %d, %+v", status, p)
	}
	if met.Load() {
		t.Error("the gateway connected to a stranger")
	}
}

func TestControlProves(t *testing.T) {
	f, _, client := controlled(t, filepath.Join(t.TempDir(), "data"))
	f.withLocalCA(true)
	f.withProvable("shop")
	report, err := client.Prove(t.Context(), "shop")
	if err != nil || report.Result != proof.Holds || report.Count(proof.Holds) != 7 {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := client.Prove(t.Context(), "no such/one"); err == nil || !strings.Contains(err.Error(), "no such/one") {
		t.Errorf("an unknown endpoint: %v", err)
	}
}

// After a change the endpoints are proven that it concerns, and no other; what is gone is forgotten.
func TestChangesAreProven(t *testing.T) {
	f := start(t, func(o *Options) { o.ProveChanges = true })
	f.withLocalCA(true)
	f.withProvable("shop")
	f.withProvable("bank")
	last := func(name string) *proof.Report {
		report, stale := f.lastProof(f.current().Endpoint(name))
		if stale {
			return nil
		}
		return report
	}
	tlstest.Eventually(t, "both are proven", func() bool { return last("shop") != nil && last("bank") != nil })
	bank := last("bank")
	change := func(mode termination.Mode) {
		f.mutate(func(tx *store.Tx) error {
			e, err := tx.Endpoint("shop")
			if err != nil {
				return err
			}
			e.ClientAuth.Mode = mode
			return tx.UpdateEndpoint(e)
		})
	}
	for _, mode := range []termination.Mode{termination.ModeOptional, termination.ModeRequire, termination.ModeRequireAny} {
		change(mode)
	}
	tlstest.Eventually(t, "the change is proven", func() bool { r := last("shop"); return r != nil && r.Mode == termination.ModeRequireAny })
	if r := last("shop"); r.Result != proof.Holds {
		t.Errorf("%+v", r)
	}
	if last("bank") != bank {
		t.Error("an endpoint was proven again that did not change")
	}
	shop := f.current().Endpoint("shop").ID
	f.mutate(func(tx *store.Tx) error { return tx.DeleteEndpoint("shop") })
	tlstest.Eventually(t, "the proof is forgotten", func() bool {
		f.proofs.mu.Lock()
		defer f.proofs.mu.Unlock()
		return len(f.proofs.last) == 1 && !f.proofs.active
	})
	if _, known := f.proofs.last[shop]; known {
		t.Error("the wrong proof is forgotten")
	}
	if n := f.hub.Counts(0, live.AllEndpoints).Total(); n != 0 {
		t.Errorf("%d handshakes are counted", n)
	}
}

func TestProofsAreBounded(t *testing.T) {
	p := newProofs()
	for range sameEndpoint + 1 { // one that runs, one that waits
		if !p.enter("a") {
			t.Fatal("too few of one endpoint")
		}
	}
	if p.enter("a") {
		t.Error("proofs of one endpoint queue without end")
	}
	n := sameEndpoint + 1
	for ; p.enter(string(rune('b' + n))); n++ {
		if n > 100 {
			t.Fatal("proofs queue without end")
		}
	}
	if n != maxProofQueue || cap(p.slots) != maxProofs {
		t.Errorf("%d wait", n)
	}
	p.leave("a")
	if !p.enter("a") {
		t.Error("a place was not given back")
	}
	p.end()
}
