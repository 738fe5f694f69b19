package server

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
)

// withTold stores an endpoint that tells its service who comes.
func (f *fixture) withTold(change func(*termination.Endpoint)) {
	f.t.Helper()
	ca := tlstest.NewCA(tlstest.CN("Acme Root R1"))
	f.withAuthority("devices", ca)
	f.withLocalCA(true)
	e := termination.Endpoint{
		Name: "told", Enabled: true, Scheme: termination.SchemeHTTPS, Host: "told.localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: freeTCPPort(f.t), TerminateAt: termination.AtEdge,
		Upstream:        termination.Upstream{Scheme: termination.UpstreamHTTP, Address: "127.0.0.1:3000"},
		ClientAuth:      termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Announce: true, OnLoss: termination.OnLossClose},
		ForwardIdentity: []termination.IdentityFormat{termination.IdentityNginx, termination.IdentityXFCC},
		ForwardHeaders:  []termination.ForwardHeader{{Name: "X-Team", Value: `client.subject.organizational_unit[0]`}, {Name: "X-Path", Value: `req.path`}},
	}
	if change != nil {
		change(&e)
	}
	f.mutate(func(tx *store.Tx) error { _, err := tx.CreateEndpoint(e); return err })
	stored := f.current().Endpoint("told")
	for _, out := range []termination.Outcome{termination.OutcomeVerified, termination.OutcomeRefused} { // the one in front, and a later one that does not count
		leaf := ca.Client("<img src=x>", tlstest.OrgUnit("billing"))
		if out == termination.OutcomeRefused {
			leaf = ca.Client("mallory")
		}
		h := livetest.Handshake(0, time.Now())
		h.ID, h.EndpointID, h.Endpoint, h.Verdict = termination.NewID(termination.PrefixHandshake, time.Now()), stored.ID, stored.Name, termination.Verdict{Outcome: out, Beat: termination.BeatEstablished}
		h.Presented, h.Path, h.Client = leaf.Chain(), append(leaf.Chain(), ca.X509), termination.ClientName{Name: leaf.X509.Subject.CommonName, Authority: "devices"}
		f.opts.Hub.Publish(h)
		tlstest.Eventually(f.t, "the handshake is stored", func() bool { return f.get("/handshakes/"+h.ID).status == http.StatusOK })
	}
}

// TestWhatTheServiceIsTold: the page shows the headers by the example of the client that came in last.
func TestWhatTheServiceIsTold(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	f.withTold(nil)
	body := f.get("/endpoints/told").body
	for _, want := range []string{
		"What the service is told", "X-Client-Verify: SUCCESS", `X-Client-DN: CN=\&lt;img src=x\&gt;,OU=billing`, "X-Forwarded-Client-Cert: Hash=", "… (", "X-Team: billing", "X-Path: /",
		"Only of clients that were verified",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(body, "<img src=x") || strings.Contains(body, "CN=mallory") {
		t.Error("a stranger's text is markup, or of one who was refused")
	}
}

func TestWhatTheServiceIsNotTold(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	f.withTold(func(e *termination.Endpoint) { e.ClientAuth.ReportOnly = true })
	if body := f.get("/endpoints/told").body; !strings.Contains(body, "Nobody’s identity") || !strings.Contains(body, "X-Client-Verify: NONE") || strings.Contains(body, "X-Client-DN:") || strings.Contains(body, "X-Team:") {
		t.Errorf("under report only it says %.300s", body[strings.Index(body, "What the service is told"):])
	}
	if body := f.get("/endpoints/told").body; strings.Contains(body, "Hash=") {
		t.Error("the service would be told a hash")
	}
}

// TestHeaderOfOnesOwnInTheForm: what does not compile, or may not be a header, is said at the box, and nothing is saved.
func TestHeaderOfOnesOwnInTheForm(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	f.withTold(nil)
	for text, want := range map[string]string{
		"X-Team: client.subjekt":                   "nothing here is called client.subjekt",
		"Host: client.subject.common_name":         "belongs to the request itself",
		"X-Client-CN: client.subject.common_name":  "set by the header set nginx",
		"x_path: req.path\nX-Path: req.path":       "set by another line",
		"X-Number: 1 + 1":                          "not a text",
		"Countersign-Identity: client.fingerprint": "kept for the gateway",
	} {
		page := f.get("/endpoints/told/settings")
		form := formOf(t, page.body, "/endpoints/told/settings")
		form.Set("forward_headers", text)
		got := f.post("/endpoints/told/settings", form)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, want) {
			t.Errorf("%q: status %d, does not say %q", text, got.status, want)
		}
	}
	if h := f.current().Endpoint("told").ForwardHeaders; len(h) != 2 {
		t.Errorf("saved %+v", h)
	}
}

func TestToldInTheBrowser(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	f.withTold(nil)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	b.open(f.URL() + "/endpoints/told#told")
	b.axe("what the service is told")
	b.picture("endpoint-told-light")
	b.size(390, 844)
	b.open(f.URL() + "/endpoints/told#told")
	if over := b.sideways(); over > 0 {
		t.Errorf("a header makes the page %d pixels wider than its window", over)
	}
	b.picture("endpoint-told-narrow")
}
