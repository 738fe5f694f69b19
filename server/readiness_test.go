package server

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/views/format"
)

// reporting is an endpoint that only reports, and four clients that came to it.
type reporting struct {
	*fixture
	roots              *x509.CertPool
	port               uint16
	devices, strangers *tlstest.Cert
}

const hostileName = `<img src=x onerror=window.pwned=1>`

func newReporting(t *testing.T) *reporting {
	f := signedIn(t, nil)
	r := &reporting{
		fixture: f, roots: x509.NewCertPool(), port: freeTCPPort(t),
		devices: tlstest.NewCA(tlstest.CN("Devices")), strangers: tlstest.NewCA(tlstest.CN("Strangers")),
	}
	r.roots.AddCert(f.withLocalCA(true).Certificate)
	f.withAuthority("devices", r.devices)
	f.withAuthority("strangers", r.strangers)
	f.mutate(func(tx *store.Tx) error {
		_, err := tx.CreateEndpoint(termination.Endpoint{
			Name: "api", Enabled: true, Scheme: termination.SchemeHTTPS, Host: "api.localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: r.port,
			TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, ReportOnly: true, Announce: true, Inherit: true, OnLoss: termination.OnLossClose},
		})
		return err
	})
	for _, c := range []*tlstest.Cert{r.devices.Client("alice"), r.strangers.Client("eve"), r.strangers.Client(hostileName), nil} {
		if err := r.visit(c); err != nil {
			t.Fatal(err)
		}
	}
	r.stored(4)
	return r
}

func (r *reporting) visit(c *tlstest.Cert) error {
	status, _, err := visit(r.t, r.roots, "api.localhost", r.port, c)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

// stored waits until so many handshakes are in the history.
func (f *fixture) stored(n int64) {
	f.t.Helper()
	deadline := time.After(30 * time.Second)
	for tick := time.Tick(10 * time.Millisecond); ; {
		got, _, err := f.store.CountHandshakes(f.t.Context(), store.HistoryQuery{})
		if err != nil {
			f.t.Fatal(err)
		}
		if got >= n {
			return
		}
		select {
		case <-tick:
		case <-deadline:
			f.t.Fatalf("%d handshakes are stored, want %d", got, n)
		}
	}
}

func TestReadinessAndEnforcing(t *testing.T) {
	r := newReporting(t)
	page := r.get("/endpoints/api/readiness")
	wantAll(t, page, 200, "1 of 4 clients would get in. 2 would be refused. 1 never showed a certificate.", "reported only", "alice", "eve",
		"&lt;img src=x", "Enforce the policy", "Why they would be refused", "never showed a certificate")
	if strings.Contains(page.body, "<img src=x") {
		t.Error("a client's name became markup")
	}
	if got := r.get("/endpoints/api/readiness?show=refused"); strings.Contains(mainOf(got.body), ">alice<") || !strings.Contains(got.body, "eve") {
		t.Errorf("those who would be refused: %s", mainOf(got.body))
	}
	wantAll(t, r.get("/endpoints/api"), 200, "report only: everyone comes in", "Nobody is refused")
	wantAll(t, r.get("/live?f=is%3Awould_refuse"), 200, "let in, would be refused")

	var ready api.Readiness
	if status := r.as(store.ScopeRead).call(http.MethodGet, "/endpoints/api/readiness?period=1h", nil, &ready); status != 200 || ready.In != 1 || ready.Refused != 2 || ready.Never != 1 ||
		!ready.ReportOnly || ready.Reasons[string(termination.ReasonCAUnknown)] != 2 || !ready.Complete {
		t.Errorf("the API says %d %+v", status, ready)
	}

	// It asks before it is done, and says whom it meets.
	before := r.current().Revision
	wantAll(t, r.get("/endpoints/api/enforce"), 200, "Enforce the policy of api?", "3 would lose entry", "eve", "judged again", "Enforce it now")
	if r.current().Revision != before {
		t.Error("looking has changed something")
	}
	wantAll(t, r.post("/endpoints/api/enforce", url.Values{"report_only": {"maybe"}}), http.StatusBadRequest)
	wantAll(t, r.post("/endpoints/api/enforce", url.Values{"report_only": {"off"}}), http.StatusSeeOther)
	if err := r.visit(r.strangers.Client("eve")); err == nil {
		t.Error("a stranger came in after the policy was enforced")
	}
	if err := r.visit(r.devices.Client("bob")); err != nil {
		t.Errorf("who passes: %v", err)
	}
	r.stored(6)
	wantAll(t, r.get("/endpoints/api/readiness"), 200, "The policy is <b>enforced</b>", "Only report it again", "2 of 6 clients would get in")
	// And back.
	wantAll(t, r.get("/endpoints/api/enforce"), 200, "Only report the policy of api?", "everyone comes in", "Let everyone in")
	wantAll(t, r.post("/endpoints/api/enforce", url.Values{"report_only": {"on"}}), http.StatusSeeOther)
	if err := r.visit(nil); err != nil {
		t.Errorf("nobody is refused any more, but: %v", err)
	}
}

func TestWhatWouldChange(t *testing.T) {
	r := newReporting(t)
	r.mutate(func(tx *store.Tx) error { return reportOnly(tx, r.current().Endpoint("api").ID, false) })
	if err := r.visit(r.strangers.Client("mallory")); err == nil {
		t.Fatal("a stranger came in")
	}
	r.stored(5)
	revision := r.current().Revision

	form := url.Values{"mode": {"require"}, "authorities": {"strangers"}, "announce": {"on"}, "on_loss": {"close"}, "do": {"simulate"}, "period": {"1h"}}
	page := r.post("/endpoints/api/policy", form)
	wantAll(t, page, 200, "Not applied yet.", "Of 5 clients in the last hour, 1 would lose entry, 3 would gain entry, 1 would stay outside.", "alice", "mallory", "until now:", "See what would change")
	if !strings.Contains(page.body, `value="strangers" checked`) {
		t.Error("what was chosen is not kept in the form")
	}
	form.Set("authorities", "devices")
	wantAll(t, r.post("/endpoints/api/policy", form), 200, "Not applied yet. ", "It would change nothing about who may come in.")
	form.Del("authorities")
	wantAll(t, r.post("/endpoints/api/policy", form), http.StatusUnprocessableEntity, "nobody could come in")

	settings := formOf(t, r.get("/endpoints/api/settings").body, "/endpoints/api/settings")
	settings.Set("do", "simulate")
	settings.Set("mode", "optional")
	wantAll(t, r.post("/endpoints/api/settings", settings), 200, "Not applied yet.", "would gain entry")

	// Trust: a CA that comes, and one that goes.
	third := tlstest.NewCA(tlstest.CN("Strangers"))
	upload := url.Values{"pem": {string(third.PEM())}, "name": {"third"}, "endpoint": {"api"}, "do": {"simulate"}, "source": {"pasted"}}
	wantAll(t, r.post("/authorities", upload), 200, "Not applied yet.", "nobody would gain or lose entry", "third")
	devices := r.current().Authority("devices")
	wantAll(t, r.get("/authorities/"+devices.ID), 200, "See what would change")
	wantAll(t, r.get("/authorities/"+devices.ID+"?do=simulate&period=1h"), 200, "1 would lose entry", "alice")
	if r.current().Revision != revision || r.current().Authority("third") != nil {
		t.Error("looking has changed something")
	}

	// An identity that goes: its pin was all that let its client in.
	pinned := r.strangers.Client("pinned")
	r.mutate(func(tx *store.Tx) error {
		_, err := tx.CreateIdentity(termination.Identity{Name: "pinned", Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(pinned.X509)}}, Endpoints: []string{"api"}})
		return err
	})
	if err := r.visit(pinned); err != nil {
		t.Fatal(err)
	}
	r.stored(6)
	wantAll(t, r.post("/identities/pinned/delete", url.Values{"do": {"simulate"}, "period": {"1h"}}), 200, "1 would lose entry", "pinned")
	if r.current().Identities == nil {
		t.Error("looking has removed the identity")
	}
	revision = r.current().Revision

	var found api.Simulation
	admin := r.as(store.ScopeAdmin)
	body := map[string]any{"period": "1h", "client_auth": map[string]any{"mode": "require", "authorities": []string{"strangers"}}}
	if status := admin.call(http.MethodPost, "/endpoints/api/simulate", body, &found); status != 200 || found.Loses != 1 || found.Gains != 3 || !found.Complete || len(found.Clients) != 6 {
		t.Errorf("the API says %d %+v", status, found)
	}
	if status := admin.call(http.MethodGet, "/authorities/devices/removal?period=1h", nil, &found); status != 200 || found.Loses != 1 {
		t.Errorf("the API says %d %+v of a removal", status, found)
	}
	var refused problem
	body["client_auth"] = map[string]any{"mode": "require", "authorities": []string{"nobody"}}
	if status := admin.call(http.MethodPost, "/endpoints/api/simulate", body, &refused); status != http.StatusUnprocessableEntity {
		t.Errorf("a policy that cannot be: %d %+v", status, refused)
	}
	if status := r.as(store.ScopeRead).call(http.MethodPost, "/endpoints/api/simulate", body, nil); status != http.StatusForbidden {
		t.Errorf("with a token that may only read: %d", status)
	}
	if r.current().Revision != revision {
		t.Error("the API has changed something")
	}
}

// withClients writes handshakes of n clients that showed no certificate.
func (f *fixture) withClients(e *termination.Endpoint, n int) {
	f.t.Helper()
	var b termination.HistoryBatch
	first := f.store.NextSeq() + 1_000_000
	for i := range n {
		at := time.Now().Add(-time.Duration(i) * time.Millisecond)
		b.Handshakes = append(b.Handshakes, &termination.Handshake{
			ID: termination.NewID(termination.PrefixHandshake, at), Seq: first + uint64(i), Time: at, EndpointID: e.ID, Endpoint: e.Name, Mode: termination.ModeRequire,
			Peer:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 4711),
			Hello: &termination.ClientHello{ServerName: e.Host, JA4: "t13d1516h2_8daaf6152771_02713d6af862"},
			Verdict: termination.Verdict{
				Outcome: termination.OutcomeOpen, Reason: termination.ReasonCertMissing, Beat: termination.BeatEstablished, WouldRefuse: true, ReportOnly: true,
			},
		})
	}
	if err := f.store.WriteHistory(b); err != nil {
		f.t.Fatal(err)
	}
}

func TestReadinessOfTenThousand(t *testing.T) {
	r := newReporting(t)
	r.withClients(r.current().Endpoint("api"), 10_000)
	page := r.get("/endpoints/api/readiness?show=none&page=3")
	if n := strings.Count(page.body, `scope="row"`); n > readinessPage+10 {
		t.Errorf("%d rows on one page", n)
	}
	wantAll(t, page, 200, "201 to 300 of ", "Newer", "Older", "10.9.")
	// A slow machine may not get to the end in time, and then has to say so.
	if !strings.Contains(page.body, "are left out") && !strings.Contains(page.body, "Time was up") && !strings.Contains(page.body, "too long") {
		wantAll(t, page, 200, "201 to 300 of "+format.Int(10_001))
	}
}

func TestReadinessWithoutClients(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), "mode", "off", "authorities", "")), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/shop/readiness"), 200, "Nobody came in the last 24 hours.", "Nobody is asked for a certificate here", "None in the last 24 hours.")
	wantAll(t, f.get("/endpoints/shop/enforce"), http.StatusSeeOther)
	wantAll(t, f.post("/endpoints/shop/enforce", url.Values{"report_only": {"on"}}), http.StatusBadRequest)
	wantAll(t, f.get("/endpoints/none/readiness"), 404)
}
