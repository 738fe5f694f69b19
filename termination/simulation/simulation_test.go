package simulation_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/simulation"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// world is a configuration with one endpoint that trusts the authority devices, and what visits it.
type world struct {
	config             *termination.Config
	devices, strangers *tlstest.Cert
	at                 time.Time
}

func newWorld() *world {
	w := &world{devices: tlstest.NewCA(tlstest.CN("Devices")), strangers: tlstest.NewCA(tlstest.CN("Strangers")), at: time.Now().Add(-10 * time.Minute)}
	w.config = &termination.Config{
		Revision: 1, Limits: termination.DefaultLimits(),
		Authorities: []termination.Authority{anchorOf("ca_1", "devices", w.devices), anchorOf("ca_2", "strangers", w.strangers)},
		Endpoints: []termination.Endpoint{{
			ID: "ep_1", Name: "api", Enabled: true, Scheme: termination.SchemeHTTPS, Host: "api.localhost", Port: 8443,
			Listen: netip.MustParseAddr("127.0.0.1"), TerminateAt: termination.AtEdge, ClientAuth: require("devices"),
			Upstream: termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
		}},
	}
	return w
}

func anchorOf(id, name string, ca *tlstest.Cert) termination.Authority {
	return termination.Authority{ID: id, Name: name, Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}}}
}

func require(authorities ...string) termination.ClientAuth {
	return termination.ClientAuth{Mode: termination.ModeRequire, Authorities: authorities, Announce: true, OnLoss: termination.OnLossClose}
}

// with is the configuration with another policy.
func (w *world) with(change func(*termination.Config, *termination.ClientAuth)) *termination.Config {
	next := *w.config
	next.Endpoints = append([]termination.Endpoint(nil), w.config.Endpoints...)
	next.Authorities = append([]termination.Authority(nil), w.config.Authorities...)
	change(&next, &next.Endpoints[0].ClientAuth)
	return &next
}

// visit is what became of a client, as it would be recorded.
func (w *world) visit(name string, outcome termination.Outcome, reason termination.Reason, chain ...*x509.Certificate) termination.Visits {
	v := termination.Visits{
		EndpointID: "ep_1", Endpoint: "api", ServerName: "api.localhost", Outcome: outcome, Reason: reason, Count: 3,
		First: w.at.Add(-time.Minute), Last: w.at, Handshake: "hs_" + name, Mode: termination.ModeRequire, Presented: chain,
		Address: netip.MustParseAddr("10.1.2.3"), JA4: "ja4_" + name,
	}
	if len(chain) > 0 {
		v.Client = verify.BestName(chain[0])
	}
	return v
}

func run(t *testing.T, w *world, proposed *termination.Config, visits ...termination.Visits) *simulation.Result {
	t.Helper()
	return simulation.Run(context.Background(), visits, simulation.Options{
		Current: simulation.Side{Config: w.config}, Proposed: simulation.Side{Config: proposed}, Budget: time.Minute,
	})
}

const (
	verified = termination.OutcomeVerified
	open     = termination.OutcomeOpen
	refused  = termination.OutcomeRefused
)

func TestWhatBecomesOfAClient(t *testing.T) {
	w := newWorld()
	alice, eve := w.devices.Client("alice").Chain(), w.strangers.Client("eve").Chain()
	then := w.devices.Client("then", tlstest.Valid(w.at.Add(-24*time.Hour), w.at.Add(time.Minute))).Chain() // ended since
	late := w.devices.Client("late", tlstest.Valid(w.at.Add(-24*time.Hour), w.at.Add(-time.Minute))).Chain()
	asked := func(v termination.Visits, mode termination.Mode) termination.Visits { v.Mode = mode; return v }
	reported := func(v termination.Visits) termination.Visits { v.WouldRefuse, v.ReportOnly = true, true; return v }
	cut := func(v termination.Visits) termination.Visits { v.Cut, v.Presented = true, nil; return v }
	same := func(*termination.Config, *termination.ClientAuth) {}
	swap := func(_ *termination.Config, a *termination.ClientAuth) { a.Authorities = []string{"strangers"} }
	both := func(_ *termination.Config, a *termination.ClientAuth) {
		a.Authorities = []string{"devices", "strangers"}
	}
	optional := func(_ *termination.Config, a *termination.ClientAuth) { a.Mode = termination.ModeOptional }
	off := func(_ *termination.Config, a *termination.ClientAuth) {
		*a = termination.ClientAuth{Mode: termination.ModeOff}
	}
	report := func(_ *termination.Config, a *termination.ClientAuth) { a.ReportOnly = true }
	for name, c := range map[string]struct {
		visit  termination.Visits
		now    func(*termination.Config, *termination.ClientAuth) // the policy of now; nil: devices are required
		change func(*termination.Config, *termination.ClientAuth)
		want   simulation.Change
		why    simulation.Why
		reason termination.Reason
	}{
		"nothing changes for who is in":           {visit: w.visit("a", verified, "", alice...), change: same, want: simulation.StaysIn},
		"nothing changes for who is out":          {visit: w.visit("a", refused, termination.ReasonCAUnknown, eve...), change: same, want: simulation.StaysOut, reason: termination.ReasonCAUnknown},
		"another CA lets in":                      {visit: w.visit("a", refused, termination.ReasonCAUnknown, eve...), change: both, want: simulation.Gains},
		"another CA instead shuts out":            {visit: w.visit("a", verified, "", alice...), change: swap, want: simulation.Loses, reason: termination.ReasonCAUnknown},
		"dates count as of then, for who came in": {visit: w.visit("a", verified, "", then...), change: both, want: simulation.StaysIn},
		"dates count as of then, for who did not": {visit: w.visit("a", refused, termination.ReasonCertExpired, late...), change: both, want: simulation.StaysOut, reason: termination.ReasonCertExpired},
		"who has none may come in":                {visit: w.visit("a", refused, termination.ReasonCertMissing), change: optional, want: simulation.Gains},
		"who has none stays out":                  {visit: w.visit("a", refused, termination.ReasonCertMissing), change: both, want: simulation.StaysOut, reason: termination.ReasonCertMissing},
		"everyone comes in":                       {visit: w.visit("a", refused, termination.ReasonCAUnknown, eve...), change: off, want: simulation.Gains},
		"report only lets in":                     {visit: w.visit("a", refused, termination.ReasonCAUnknown, eve...), change: report, want: simulation.Gains},
		"enforcing shuts out who only was reported": {
			visit: reported(w.visit("a", open, termination.ReasonCAUnknown, eve...)), now: report, change: func(_ *termination.Config, a *termination.ClientAuth) { a.ReportOnly = false },
			want: simulation.Loses, reason: termination.ReasonCAUnknown,
		},
		"enforcing shuts out who never showed one": {
			visit: reported(w.visit("a", open, termination.ReasonCertMissing)), now: report, change: func(_ *termination.Config, a *termination.ClientAuth) { a.ReportOnly = false },
			want: simulation.Loses, reason: termination.ReasonCertMissing,
		},
		"enforcing keeps who passes": {
			visit: w.visit("a", verified, "", alice...), now: report, change: func(_ *termination.Config, a *termination.ClientAuth) { a.ReportOnly = false }, want: simulation.StaysIn,
		},
		"a rule shuts out": {
			visit: w.visit("a", verified, "", alice...), change: func(_ *termination.Config, a *termination.ClientAuth) {
				a.Rules = []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{CN: "bob"}}}
			}, want: simulation.Loses, reason: termination.ReasonPolicyDenied,
		},
		"a pin lets in": {
			visit: w.visit("a", refused, termination.ReasonCAUnknown, eve...), change: func(_ *termination.Config, a *termination.ClientAuth) {
				a.Pins = []termination.Pin{{Fingerprint: termination.FingerprintOf(eve[0])}}
			}, want: simulation.Gains,
		},
		"a block shuts out": {
			visit: w.visit("a", verified, "", alice...), change: func(c *termination.Config, _ *termination.ClientAuth) {
				c.Blocked = []termination.Block{{ID: "bl_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(alice[0])}}}
			}, want: simulation.Loses, reason: termination.ReasonBlocked,
		},
		"an authority that goes takes its clients along": {
			visit: w.visit("a", verified, "", alice...), now: both, change: swap, want: simulation.Loses, reason: termination.ReasonCAUnknown,
		},
		"the key was not proven":            {visit: w.visit("a", refused, termination.ReasonKeyProof, alice...), change: off, want: simulation.StaysOut, reason: termination.ReasonKeyProof},
		"it was sealed":                     {visit: w.visit("a", termination.OutcomePassed, ""), change: off, want: simulation.Unknown, why: simulation.WhySealed},
		"it broke off":                      {visit: w.visit("a", termination.OutcomeBrokenOff, termination.ReasonTimeout), change: off, want: simulation.Unknown, why: simulation.WhyBroken},
		"the client refused us":             {visit: w.visit("a", termination.OutcomeClientRefused, termination.ReasonClientRefusedUs), change: off, want: simulation.Unknown, why: simulation.WhyBroken},
		"an old version of TLS":             {visit: w.visit("a", refused, termination.ReasonVersionLow), change: off, want: simulation.Unknown, why: simulation.WhyBroken},
		"its chain is gone":                 {visit: cut(w.visit("a", verified, "", alice...)), change: swap, want: simulation.Unknown, why: simulation.WhyNoChain},
		"it was never asked":                {visit: asked(w.visit("a", open, ""), termination.ModeOff), now: off, change: func(_ *termination.Config, a *termination.ClientAuth) { *a = require("devices") }, want: simulation.Unknown, why: simulation.WhyNotAsked},
		"it was never asked and is not now": {visit: asked(w.visit("a", open, ""), termination.ModeOff), now: off, change: off, want: simulation.StaysIn},
		"a policy that nobody can read": {
			visit: w.visit("a", verified, "", alice...), change: func(_ *termination.Config, a *termination.ClientAuth) { a.Authorities = []string{"gone"} },
			want: simulation.Loses, reason: termination.ReasonPolicyUnreadable,
		},
		"an expression that needs the request": {
			visit: w.visit("a", verified, "", alice...), change: func(_ *termination.Config, a *termination.ClientAuth) { a.When = `req.path == "/"` },
			want: simulation.Unknown, why: simulation.WhyRequest,
		},
		"an expression that needs no request": {
			visit: w.visit("a", verified, "", alice...), change: func(_ *termination.Config, a *termination.ClientAuth) { a.When = `client.subject.common_name == "bob"` },
			want: simulation.Loses, reason: termination.ReasonPolicyDenied,
		},
		"an endpoint that goes":      {visit: w.visit("a", verified, "", alice...), change: func(c *termination.Config, _ *termination.ClientAuth) { c.Endpoints = nil }, want: simulation.Loses, reason: termination.ReasonNameUnknown},
		"an endpoint that is closed": {visit: w.visit("a", verified, "", alice...), change: func(c *termination.Config, _ *termination.ClientAuth) { c.Endpoints[0].Enabled = false }, want: simulation.Loses, reason: termination.ReasonNameUnknown},
		"TLS that moves into the service": {
			visit: w.visit("a", verified, "", alice...), change: func(c *termination.Config, _ *termination.ClientAuth) {
				c.Endpoints[0].TerminateAt = termination.AtUpstream
			},
			want: simulation.Unknown, why: simulation.WhySealed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			here := *w
			if c.now != nil {
				here.config = w.with(c.now)
			}
			r := run(t, &here, here.with(c.change), c.visit)
			if len(r.Clients) != 1 || r.Counts[c.want] != 1 {
				t.Fatalf("got %+v of %v", r.Clients, r.Counts)
			}
			if got := r.Clients[0]; got.Change != c.want || got.Why != c.why || c.want != simulation.Unknown && got.Reason != c.reason {
				t.Errorf("got %s, why %q, reason %q; want %s, %q, %q", got.Change, got.Why, got.Reason, c.want, c.why, c.reason)
			}
			if c.why != "" && c.why.Words() == "" {
				t.Error("nobody says why")
			}
		})
	}
}

// Alike handshakes are judged once, however many there are, and the newest one of a client decides.
func TestAlikeHandshakesAreJudgedOnce(t *testing.T) {
	w := newWorld()
	alice := w.devices.Client("alice").Chain()
	old := w.visit("old", refused, termination.ReasonCAUnknown, alice...) // before its CA was trusted
	old.Last, old.First = w.at.Add(-time.Minute), w.at.Add(-2*time.Minute)
	var visits []termination.Visits
	for range 100 {
		visits = append(visits, w.visit("new", verified, "", alice...), old)
	}
	broken := w.visit("broken", termination.OutcomeBrokenOff, termination.ReasonTimeout, alice...)
	broken.Last = w.at.Add(time.Minute)
	visits = append(visits, broken)
	r := run(t, w, w.with(func(_ *termination.Config, a *termination.ClientAuth) { a.Authorities = []string{"strangers"} }), visits...)
	if len(r.Clients) != 1 || r.Judgements != 2 {
		t.Fatalf("%d clients, %d judgements", len(r.Clients), r.Judgements)
	}
	c := r.Clients[0]
	if c.Change != simulation.Loses || c.Handshake != "hs_new" || c.Handshakes != 603 || !c.First.Equal(old.First) || !c.Last.Equal(broken.Last) {
		t.Errorf("got %+v", c)
	}
}

// A client that comes by several names loses entry if it does by one of them; clients without a certificate are told apart
// by address and software.
func TestClientsAreToldApart(t *testing.T) {
	w := newWorld()
	alice := w.devices.Client("alice").Chain()
	other := w.visit("b", verified, "", alice...)
	other.ServerName = "other.localhost"
	one, two := w.visit("x", refused, termination.ReasonCertMissing), w.visit("y", refused, termination.ReasonCertMissing)
	r := run(t, w, w.config, w.visit("a", verified, "", alice...), other, one, two)
	if len(r.Clients) != 3 || r.Counts[simulation.StaysIn] != 1 || r.Counts[simulation.StaysOut] != 2 || r.Handshakes != 12 {
		t.Errorf("got %+v", r)
	}
	if c := r.Clients[0]; !c.Silent || c.Shown() {
		t.Errorf("a client that may have kept its certificate back: %+v", c)
	}
}

// Where routes have policies of their own, TLS lets in what the laxest does, and HTTP refuses the rest: both are told apart.
func TestRoutes(t *testing.T) {
	w := newWorld()
	w.config.Endpoints[0].Routes = []termination.Route{{Path: "/open", ClientAuth: &termination.ClientAuth{Mode: termination.ModeOff}}}
	alice, eve := w.devices.Client("alice").Chain(), w.strangers.Client("eve").Chain()
	r := run(t, w, w.with(func(_ *termination.Config, a *termination.ClientAuth) { a.Authorities = []string{"strangers"} }),
		w.visit("a", verified, "", alice...), w.visit("e", open, termination.ReasonCAUnknown, eve...))
	if r.Counts[simulation.Loses] != 1 || r.Counts[simulation.Gains] != 1 {
		t.Fatalf("got %+v", r.Clients)
	}
	if c := r.Clients[0]; c.Had != simulation.Inside || c.Would != simulation.Partly || c.Reason != termination.ReasonCAUnknown {
		t.Errorf("who loses: %+v", c)
	}
	if c := r.Clients[1]; c.Had != simulation.Partly || c.Would != simulation.Inside {
		t.Errorf("who gains: %+v", c)
	}
}

// What is blocked today counts for handshakes of yesterday.
func TestRevocationOfToday(t *testing.T) {
	w := newWorld()
	alice := w.devices.Client("alice").Chain()
	known := revocation.New(revocation.Options{})
	known.Apply(w.with(func(c *termination.Config, _ *termination.ClientAuth) {
		c.Blocked = []termination.Block{{ID: "bl_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(alice[0])}}}
	}))
	r := simulation.Run(context.Background(), []termination.Visits{w.visit("a", verified, "", alice...)}, simulation.Options{
		Current: simulation.Side{Config: w.config, Revocation: known}, Proposed: simulation.Side{Config: w.config, Revocation: known},
	})
	if c := r.Clients[0]; c.Change != simulation.StaysOut || c.Had != simulation.Inside || c.Reason != termination.ReasonBlocked {
		t.Errorf("got %+v", c)
	}
}

// When the time is up, what was not looked at is said to be unknown, and nothing is invented.
func TestBudget(t *testing.T) {
	w := newWorld()
	var visits []termination.Visits
	for i := range 200 {
		v := w.visit(fmt.Sprint(i), verified, "", w.devices.Client(fmt.Sprint("c", i)).Chain()...)
		v.Last = w.at.Add(-time.Duration(i) * time.Second)
		visits = append(visits, v)
	}
	now := w.at
	r := simulation.Run(context.Background(), visits, simulation.Options{
		Current: simulation.Side{Config: w.config}, Proposed: simulation.Side{Config: w.config},
		Budget: 90 * time.Second, Now: func() time.Time { now = now.Add(time.Minute); return now },
	})
	if !r.Partial || r.Counts[simulation.StaysIn] != 64 || r.Counts[simulation.Unknown] != 136 {
		t.Errorf("partial %v, %v", r.Partial, r.Counts)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := simulation.Run(ctx, visits, simulation.Options{Current: simulation.Side{Config: w.config}, Proposed: simulation.Side{Config: w.config}}); !r.Partial || r.Counts[simulation.StaysIn] != 0 {
		t.Errorf("went on after its end: %v", r.Counts)
	}
}

func TestNames(t *testing.T) {
	w := newWorld()
	r := run(t, w, w.config, w.visit("a", verified, "", w.devices.Client("alice").Chain()...), w.visit("b", refused, termination.ReasonCertMissing))
	if got := strings.Join(append(r.Names(simulation.StaysIn, 5), r.Names(simulation.StaysOut, 5)...), " "); got != "alice 10.1.2.3" {
		t.Errorf("got %q", got)
	}
	if got := r.Names(simulation.StaysIn, 0); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// BenchmarkMillion simulates a policy over a million handshakes of 5,000 clients, as the history puts them together.
func BenchmarkMillion(b *testing.B) {
	w := newWorld()
	visits := make([]termination.Visits, 0, 5000)
	for i := range 5000 {
		v := w.visit(fmt.Sprint(i), verified, "", w.devices.Client(fmt.Sprint("client-", i)).Chain()...)
		v.Count = 200
		visits = append(visits, v)
	}
	proposed := w.with(func(_ *termination.Config, a *termination.ClientAuth) { a.Authorities = []string{"strangers"} })
	b.ResetTimer()
	for range b.N {
		r := simulation.Run(context.Background(), visits, simulation.Options{
			Current: simulation.Side{Config: w.config}, Proposed: simulation.Side{Config: proposed}, Budget: time.Minute,
		})
		if r.Handshakes != 1_000_000 || r.Counts[simulation.Loses] != 5000 || r.Judgements != 10000 {
			b.Fatalf("%d handshakes, %v, %d judgements", r.Handshakes, r.Counts, r.Judgements)
		}
	}
}
