package verify_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/revocation"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// registry is a small gateway with identities: a partner's CA beside ours, and devices that sign themselves.
type registry struct {
	t               *testing.T
	cfg             *termination.Config
	ours, theirs    *tlstest.Cert
	meter, old, own *tlstest.Cert
	known           *revocation.Registry
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{
		t: t, ours: ca("Ours", "Us"), theirs: ca("Theirs", "Them"), known: revocation.New(revocation.Options{}),
		meter: tlstest.SelfSigned(tlstest.CN("meter"), years),
		old:   tlstest.SelfSigned(tlstest.CN("old meter"), tlstest.Valid(noon.Add(-30*day), noon.Add(-time.Hour))),
	}
	r.own = r.ours.Client("own", tlstest.URI("spiffe://prod/billing"), years)
	r.cfg = config(authority("ours", r.ours), authority("theirs", r.theirs))
	r.cfg.Identities = []termination.Identity{
		{ID: "id_meter", Name: "meter", Pins: []termination.Pin{pinOf(r.meter), pinOf(r.old)}, Endpoints: []string{"readings"}},
		{ID: "id_billing", Name: "billing", Matches: []termination.Subject{{Authority: "ours", URI: "spiffe://prod/billing"}}, Endpoints: []string{"api"}},
		{ID: "id_prod", Name: "production", Matches: []termination.Subject{{Authority: "ours", URI: "spiffe://prod/*"}}},
		{ID: "id_laptop", Name: "laptop", Matches: []termination.Subject{{Authority: "ours", DNS: "Laptop.Example.com", O: "Us"}}},
	}
	return r
}

func pinOf(c *tlstest.Cert) termination.Pin {
	return termination.Pin{Fingerprint: termination.FingerprintOf(c.X509)}
}

func (r *registry) at(endpoint string, auth termination.ClientAuth) *verify.Policy {
	r.t.Helper()
	if auth.Mode == "" {
		auth.Mode = termination.ModeRequire
	}
	p, err := verify.Compile(r.cfg, auth, verify.Scope{Endpoint: endpoint, Revocation: r.known})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *registry) judge(p *verify.Policy, c *tlstest.Cert) verify.Judgement {
	return p.Judge(verify.Showing(c.Chain()...), noon)
}

// TestIdentityIsTheCredential: a certificate that signed itself comes in where its identity says, and nowhere else,
// whatever else is trusted there; the reason says so first.
func TestIdentityIsTheCredential(t *testing.T) {
	r := newRegistry(t)
	j := r.judge(r.at("readings", termination.ClientAuth{}), r.meter)
	if !j.In || !j.Verified || j.Identity == nil || j.Identity.Name != "meter" || j.Pin != pinOf(r.meter).String() {
		t.Fatalf("at its own endpoint: %+v", j)
	}
	pinned := trust("ours")
	pinned.Pins = []termination.Pin{pinOf(r.meter)}
	request := trust("ours")
	request.Mode = termination.ModeRequest
	for name, tt := range map[string]struct {
		auth   termination.ClientAuth
		client *tlstest.Cert
		in     bool
	}{
		"nothing else vouches for it":    {trust("ours"), r.meter, false},
		"only pins are trusted":          {termination.ClientAuth{Pins: []termination.Pin{pinOf(r.own)}}, r.meter, false},
		"the endpoint pins it":           {pinned, r.meter, false},
		"everybody may come in":          {request, r.meter, true},
		"it has ended besides":           {trust("ours"), r.old, false},
		"an authority vouches for names": {trust("ours"), r.own, false},
	} {
		t.Run(name, func(t *testing.T) {
			j := r.judge(r.at("elsewhere", tt.auth), tt.client)
			if j.In != tt.in || j.Verified || j.Identity != nil || j.Known == nil || j.Reason != termination.ReasonIdentityElsewhere {
				t.Errorf("%+v", j)
			}
		})
	}
}

// TestIdentityStandsInForTheIssuerAlone: what a pin does not replace still counts, and is the reason.
func TestIdentityStandsInForTheIssuerAlone(t *testing.T) {
	r := newRegistry(t)
	p := r.at("readings", termination.ClientAuth{})
	if j := r.judge(p, r.old); j.In || j.Reason != termination.ReasonCertExpired || j.Identity != nil || j.Known == nil {
		t.Errorf("ended: %+v", j)
	}
	issuing := tlstest.SelfSigned(tlstest.CN("issuing meter"), tlstest.CATrue(), years)
	r.cfg.Identities[0].Pins = append(r.cfg.Identities[0].Pins, pinOf(issuing))
	p = r.at("readings", termination.ClientAuth{})
	child := issuing.Client("child", years)
	if j := p.Judge(verify.Showing(child.X509, issuing.X509), noon); j.In || j.Identity != nil || j.Known != nil {
		t.Errorf("P6: what a registered CA signed comes in: %+v", j)
	}
	if j := p.Judge(verify.Showing(tlstest.SelfSigned(tlstest.CN("stranger"), years).X509, r.meter.X509), noon); j.In || j.Known != nil {
		t.Errorf("P5: the certificate that was sent along opens the door: %+v", j)
	}
}

// TestNamesCountUnderTheirAuthority is P41: a partner's CA mints our names.
func TestNamesCountUnderTheirAuthority(t *testing.T) {
	r := newRegistry(t)
	forged := r.theirs.Client("forged", tlstest.URI("spiffe://prod/billing"), years)
	for _, tt := range []struct {
		client   *tlstest.Cert
		identity string
	}{
		{r.own, "billing"},
		{forged, ""},
		{r.ours.Client("other", tlstest.URI("spiffe://prod/other"), years), "production"},
		{r.ours.Client("no laptop", tlstest.DNS("laptop.example.com"), years), ""},
		{r.ours.Client("laptop", tlstest.DNS("LAPTOP.example.com"), tlstest.Org("Us"), years), "laptop"},
	} {
		j := r.judge(r.at("api", trust("ours", "theirs")), tt.client)
		if name := nameOf(j.Identity); !j.Verified || name != tt.identity {
			t.Errorf("%s: identity %q, want %q; %+v", tt.client.X509.Subject, name, tt.identity, j)
		}
	}
	// An identity that names an endpoint needs no rule there; others do.
	auth := trust("ours")
	auth.Rules = []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{CN: "nobody", Authority: "ours"}}}
	if j := r.judge(r.at("api", auth), r.own); !j.In {
		t.Errorf("registered: %+v", j)
	}
	if j := r.judge(r.at("api", auth), r.ours.Client("x", tlstest.URI("spiffe://prod/other"), years)); j.In || j.Reason != termination.ReasonPolicyDenied {
		t.Errorf("not registered: %+v", j)
	}
}

func nameOf(i *termination.Identity) string {
	if i == nil {
		return ""
	}
	return i.Name
}

// TestBlockedIdentity: a block is in force with the registry, for policies that were compiled before too, in every mode,
// and costs nobody the tickets.
func TestBlockedIdentity(t *testing.T) {
	r := newRegistry(t)
	request := trust("ours")
	request.Mode = termination.ModeRequest
	policies := map[*verify.Policy]*tlstest.Cert{
		r.at("readings", termination.ClientAuth{}): r.meter, r.at("api", trust("ours")): r.own,
		r.at("readings", request): r.old, // not verified, but known
	}
	blocked := *r.cfg
	blocked.Identities = slices.Clone(r.cfg.Identities)
	blocked.Identities[0].Blocked, blocked.Identities[1].Blocked = true, true
	hash := r.at("readings", termination.ClientAuth{}).Hash()
	r.known.Apply(r.cfg)
	before := r.known.Snapshot().Generation()
	r.known.Apply(&blocked)
	if r.known.Snapshot().Generation() <= before {
		t.Error("the generation stayed")
	}
	for p, c := range policies {
		if j := r.judge(p, c); j.In || j.Reason != termination.ReasonBlocked {
			t.Errorf("%s: %+v", c.X509.Subject, j)
		}
	}
	r.known.Apply(r.cfg)
	for p, c := range policies {
		if j := r.judge(p, c); !j.In {
			t.Errorf("unblocked %s: %+v", c.X509.Subject, j)
		}
	}
	r.cfg = &blocked
	if r.at("readings", termination.ClientAuth{}).Hash() != hash {
		t.Error("a block costs everybody the tickets")
	}
}

// TestIdentitiesInTheHash: what decides here is in the hash, what is elsewhere is not; the key tells both.
func TestIdentitiesInTheHash(t *testing.T) {
	r := newRegistry(t)
	rules := trust("ours")
	rules.Rules = []termination.Rule{{Effect: termination.EffectRefuse, Subject: termination.Subject{Identity: "production"}}}
	change := func(f func([]termination.Identity)) *registry {
		c := *r
		cfg := *r.cfg
		cfg.Identities = slices.Clone(cfg.Identities)
		f(cfg.Identities)
		c.cfg = &cfg
		return &c
	}
	here, spoken := r.at("readings", termination.ClientAuth{}), r.at("readings", rules)
	for name, tt := range map[string]struct {
		change       func([]termination.Identity)
		here, spoken bool // whether the hash stays
		key          bool
	}{
		"nothing":              {func([]termination.Identity) {}, true, true, true},
		"another's endpoint":   {func(l []termination.Identity) { l[1].Endpoints = []string{"other"} }, true, true, false},
		"another's match":      {func(l []termination.Identity) { l[3].Matches = l[1].Matches }, true, true, false},
		"a new one elsewhere":  {func(l []termination.Identity) { l[3] = termination.Identity{Name: "n", Pins: l[0].Pins[:1]} }, true, true, false},
		"its name":             {func(l []termination.Identity) { l[0].Name = "renamed" }, true, true, false},
		"its rate":             {func(l []termination.Identity) { l[0].Rate.Count = 3 }, true, true, true},
		"its pins":             {func(l []termination.Identity) { l[0].Pins = l[0].Pins[:1] }, false, false, false},
		"another comes here":   {func(l []termination.Identity) { l[1].Endpoints = []string{"readings"} }, false, false, false},
		"whom a rule names":    {func(l []termination.Identity) { l[2].Matches = l[1].Matches }, true, false, false},
		"the name in the rule": {func(l []termination.Identity) { l[2].Name = "renamed" }, true, false, false},
	} {
		c := change(tt.change)
		h, s := c.at("readings", termination.ClientAuth{}), c.at("readings", rules)
		if same := h.Hash() == here.Hash(); same != tt.here {
			t.Errorf("%s: same hash %v", name, same)
		}
		if same := s.Hash() == spoken.Hash(); same != tt.spoken {
			t.Errorf("%s, with a rule: same hash %v", name, same)
		}
		if same := h.IdentitiesKey() == here.IdentitiesKey(); same != tt.key {
			t.Errorf("%s: same key %v", name, same)
		}
	}
}

// TestManyIdentities: a client is found among ten thousand by what its certificate says, not by looking at each.
func TestManyIdentities(t *testing.T) {
	r := newRegistry(t)
	for i := range 10_000 {
		identity := termination.Identity{Name: fmt.Sprintf("device %d", i), Endpoints: []string{"api"}}
		if i%2 == 0 {
			identity.Pins = []termination.Pin{{Fingerprint: termination.Fingerprint{byte(i), byte(i >> 8), 1}}}
		} else {
			identity.Matches = []termination.Subject{{Authority: "ours", CN: identity.Name}}
		}
		r.cfg.Identities = append(r.cfg.Identities, identity)
	}
	p := r.at("api", trust("ours"))
	if j := r.judge(p, r.ours.Client("device 7777", years)); nameOf(j.Identity) != "device 7777" {
		t.Errorf("%+v", j)
	}
	if j := r.judge(p, r.meter); j.Reason != termination.ReasonIdentityElsewhere {
		t.Errorf("%+v", j)
	}
}

func BenchmarkTenThousandIdentities(b *testing.B) {
	cfg := config(authority("ours", ca("Ours", "Us")))
	for i := range 10_000 {
		cfg.Identities = append(cfg.Identities, termination.Identity{
			Name: fmt.Sprintf("device %d", i), Endpoints: []string{"api"},
			Pins: []termination.Pin{{Fingerprint: termination.Fingerprint{byte(i), byte(i >> 8), 1}}},
		})
	}
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			verify.NewIdentities(cfg)
		}
	})
	b.Run("policy", func(b *testing.B) {
		scope := verify.Scope{Endpoint: "other", Identities: verify.NewIdentities(cfg)}
		for b.Loop() {
			if _, err := verify.Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"ours"}}, scope); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func trust(names ...string) termination.ClientAuth {
	return termination.ClientAuth{Authorities: names, Announce: true}
}
