package store

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestUpstreamsComeBackAsTheyWentIn has every field of how TLS and upstreams are spoken.
func TestUpstreamsComeBackAsTheyWentIn(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := openIn(t, dir, testOptions(c))
	root := tlstest.NewCA()
	own := root.Client("gateway")
	policy := termination.UpstreamPolicy{
		Balance: termination.BalanceLeastConnections, Health: "/healthz", HealthInterval: 3 * time.Second, ConnectTimeout: time.Second,
		ResponseTimeout: time.Minute, Host: termination.HostUpstream, ProxyProtocol: termination.ProxyProtocolV2,
	}
	want := endpoint("api", "site", "devices")
	want.Preset, want.Suites, want.ALPN = termination.PresetIntermediate, termination.SecureSuites()[:2], []string{"http/1.1"}
	want.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	want.Upstream = termination.Upstream{
		Scheme: termination.UpstreamHTTPS, Address: "127.0.0.1:9443", More: []string{"127.0.0.1:9444"}, Policy: policy,
		TLS: termination.UpstreamTLSConfig{Certificate: "own"},
	}
	pin := termination.Pin{Fingerprint: termination.FingerprintOf(own.X509), Key: true}
	want.ClientAuth.Rules = []termination.Rule{
		{Effect: termination.EffectRefuse, Subject: termination.Subject{URI: "spiffe://test/*", Authority: "devices"}},
		{Effect: termination.EffectAllow, Subject: termination.Subject{Pin: &pin}},
		{Effect: termination.EffectAllow},
	}
	want.ClientAuth.Hygiene = termination.Hygiene{WeakKey: termination.LevelWarn, MissingSAN: termination.LevelRefuse}
	want.ClientAuth.ReportOnly = true
	want.VerboseRefusals = true
	want.Routes = []termination.Route{{
		Path: "/a", StripPrefix: true,
		Upstream: &termination.Upstream{Scheme: termination.UpstreamUnix, Address: "/run/app.sock", Policy: termination.UpstreamPolicy{ConnectTimeout: time.Second}},
	}, {
		Path:     "/b",
		Upstream: &termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: "127.0.0.1:9", TLS: termination.UpstreamTLSConfig{Certificate: "own"}},
	}}
	postgres := endpoint("db", "site", "devices")
	postgres.Scheme, postgres.Host, postgres.Port = termination.SchemeTLS, "db.example", 8444
	postgres.ForwardIdentity = nil
	postgres.StartTLS, postgres.Upstream = termination.StartTLSPostgres, termination.Upstream{Scheme: termination.UpstreamUnix, Address: "/run/postgresql/.s.PGSQL.5432"}
	agents := termination.Agents{Listen: netip.MustParseAddrPort("127.0.0.1:7000"), StalePolicy: 5 * time.Second, Hosts: []string{"gw.example:7000"}}
	limits := termination.DefaultLimits()
	limits.Body = 1 << 20
	change(t, s, func(tx *Tx) error {
		if _, err := tx.CreateAuthority(authority("devices", root)); err != nil {
			return err
		}
		for name, leaf := range map[string]*tlstest.Cert{"site": root.Server("api.example"), "own": own} {
			if _, err := tx.CreateCertificate(certificate(name, leaf), SourceUpload); err != nil {
				return err
			}
		}
		if err := tx.SetLimits(limits); err != nil {
			return err
		}
		if err := tx.SetAgents(agents); err != nil {
			return err
		}
		var err error
		if want, err = tx.CreateEndpoint(want); err != nil {
			return err
		}
		postgres, err = tx.CreateEndpoint(postgres)
		return err
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir, testOptions(c))
	config := load(t, s)
	got := *config.Endpoint("api")
	for _, u := range []*termination.Upstream{&got.Upstream, got.Routes[1].Upstream} {
		if u.TLS.Client == nil || !samePublicKey(u.TLS.Client.Key.Public(), own.Key.Public()) || !u.TLS.Client.Chain[0].Equal(own.X509) {
			t.Errorf("our own certificate came back as %+v", u.TLS.Client)
		}
		u.TLS.Client = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("endpoint\n got %+v\nwant %+v", got, want)
	}
	if got := *config.Endpoint("db"); !reflect.DeepEqual(got, postgres) {
		t.Errorf("endpoint\n got %+v\nwant %+v", got, postgres)
	}
	if !reflect.DeepEqual(config.Agents, agents) || config.Limits != limits {
		t.Errorf("agents came back as %+v, limits as %+v", config.Agents, config.Limits)
	}

	refused := refuse(t, s, func(tx *Tx) error { return tx.DeleteCertificate("own") })
	if !is[InUseError](refused) || !strings.Contains(refused.Error(), `endpoint "api"`) {
		t.Errorf("a certificate that an upstream is to see can be deleted: %v", refused)
	}
	config = change(t, s, func(tx *Tx) error {
		c, err := tx.Certificate("own")
		c.Name = "gateway"
		if err != nil {
			return err
		}
		return tx.UpdateCertificate(c)
	})
	if u := config.Endpoint("api").Upstream; u.TLS.Certificate != "gateway" || u.TLS.Client == nil {
		t.Errorf("the new name of our certificate did not carry through: %q", u.TLS.Certificate)
	}
}

func TestUnknownCertificateTowardsAnUpstream(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	err := refuse(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint("api")
		if err != nil {
			return err
		}
		e.Upstream.TLS.Certificate = "nobody"
		return tx.UpdateEndpoint(e)
	})
	if err == nil || !strings.Contains(err.Error(), `upstream_tls: there is no certificate "nobody"`) {
		t.Errorf("got %v", err)
	}
}

func TestAgentsThatCannotBeRead(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	raw(t, s.config.path, `INSERT INTO settings VALUES ('agents', 'dashboard', '{"listen": "everywhere", "stalePolicy": "1m"}', 0)`)
	config, problems, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if config.Agents.Listen.IsValid() || !slices.ContainsFunc(problems, func(p Problem) bool { return p.Kind == "agents" && strings.Contains(p.Text, "no agent can connect") }) {
		t.Errorf("agents connect at %s; problems %v", config.Agents.Listen, problems)
	}
}
