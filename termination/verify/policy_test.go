package verify_test

import (
	"slices"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

func TestCompileFailsClosed(t *testing.T) {
	ca := tlstest.NewCA()
	leaf := ca.Client("a")
	unread := termination.Authority{Name: "devices", Certificates: []termination.CACertificate{{Role: termination.RoleAnchor}}}
	roleless := authority("devices", ca)
	roleless.Certificates[0].Role = "owner"
	for _, tt := range []struct {
		name string
		cfg  *termination.Config
		auth termination.ClientAuth
	}{
		{"require with nothing", config(), termination.ClientAuth{Mode: termination.ModeRequire}},
		{"optional with nothing", config(), termination.ClientAuth{Mode: termination.ModeOptional}},
		{"an authority that is gone", config(), termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}},
		{"an authority that is gone, in a mode that lets in", config(), termination.ClientAuth{Mode: termination.ModeRequest, Authorities: []string{"devices"}}},
		{"an authority without anchor", config(termination.Authority{Name: "devices"}), termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}},
		{"an authority that cannot be read", config(unread), termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}},
		{"an anchor that is no CA", config(authority("devices", leaf)), termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}},
		{"an unknown role", config(roleless), termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}},
		{"an unknown mode", config(authority("devices", ca)), termination.ClientAuth{Mode: "maybe", Authorities: []string{"devices"}}},
		{"no mode", config(authority("devices", ca)), termination.ClientAuth{Authorities: []string{"devices"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if p, err := verify.Compile(tt.cfg, tt.auth, verify.Scope{}); err == nil || p != nil {
				t.Errorf("compiled to %v", p)
			}
		})
	}
}

func TestInheritedTrust(t *testing.T) {
	ca := tlstest.NewCA()
	cfg := config(authority("devices", ca))
	cfg.Defaults.Authorities = []string{"devices"}
	alice := ca.Client("alice").Chain()
	if p := compile(t, cfg, termination.ClientAuth{Mode: termination.ModeRequire, Inherit: true}); !p.Judge(verify.Client{Presented: alice}, alice[0].NotBefore).In {
		t.Error("the inherited authority is not trusted")
	}
	if _, err := verify.Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire}, verify.Scope{}); err == nil {
		t.Error("a policy that inherits nothing compiled")
	}
}

func TestHash(t *testing.T) {
	a, b := tlstest.NewCA(), tlstest.NewCA()
	helper := a.Intermediate()
	pin, err := termination.ParsePin(b.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	key := termination.Pin{Fingerprint: pin.Fingerprint, Key: true}
	cfg := config(authority("a", a), authority("b", b), authority("a with helper", a, helper), authority("renamed", a))
	bigger := config(cfg.Authorities...)
	bigger.Limits.Certificates++
	base := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"a", "b"}, Pins: []termination.Pin{pin, key}, Announce: true}
	with := func(change func(*termination.ClientAuth)) termination.ClientAuth {
		auth := base
		auth.Authorities, auth.Pins = slices.Clone(auth.Authorities), slices.Clone(auth.Pins)
		change(&auth)
		return auth
	}
	want := compile(t, cfg, base).Hash()
	if len(want) != 64 {
		t.Fatalf("hash %q", want)
	}
	for name, auth := range map[string]termination.ClientAuth{
		"again":          base,
		"another order":  with(func(c *termination.ClientAuth) { slices.Reverse(c.Authorities); slices.Reverse(c.Pins) }),
		"another name":   with(func(c *termination.ClientAuth) { c.Authorities[0] = "renamed" }),
		"default depth":  with(func(c *termination.ClientAuth) { c.MaxDepth = termination.DefaultMaxDepth }),
		"on loss":        with(func(c *termination.ClientAuth) { c.OnLoss = termination.OnLossLeave }),
		"listed doubly":  with(func(c *termination.ClientAuth) { c.Authorities = append(c.Authorities, "renamed") }),
		"inherits empty": with(func(c *termination.ClientAuth) { c.Inherit = true }),
	} {
		if got := compile(t, cfg, auth).Hash(); got != want {
			t.Errorf("%s: the hash changed", name)
		}
	}
	seen := map[string]string{want: "base"}
	differ := func(name, hash string) {
		if other, taken := seen[hash]; taken {
			t.Errorf("%s has the hash of %s", name, other)
		}
		seen[hash] = name
	}
	for name, auth := range map[string]termination.ClientAuth{
		"mode":         with(func(c *termination.ClientAuth) { c.Mode = termination.ModeOptional }),
		"an authority": with(func(c *termination.ClientAuth) { c.Authorities = c.Authorities[:1] }),
		"a helper":     with(func(c *termination.ClientAuth) { c.Authorities[0] = "a with helper" }),
		"a pin":        with(func(c *termination.ClientAuth) { c.Pins = c.Pins[:1] }),
		"the other":    with(func(c *termination.ClientAuth) { c.Pins = c.Pins[1:] }),
		"depth":        with(func(c *termination.ClientAuth) { c.MaxDepth = 2 }),
		"announce":     with(func(c *termination.ClientAuth) { c.Announce = false }),
	} {
		differ(name, compile(t, cfg, auth).Hash())
	}
	differ("a limit", compile(t, bigger, base).Hash())
}

func TestExactAndAnnounced(t *testing.T) {
	ca := tlstest.NewCA()
	helper := ca.Intermediate()
	pin, err := termination.ParsePin(ca.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(authority("devices", ca, helper))
	for _, tt := range []struct {
		name             string
		auth             termination.ClientAuth
		exact, announced bool
	}{
		{"require", termination.ClientAuth{Mode: termination.ModeRequire, Announce: true}, true, true},
		{"optional", termination.ClientAuth{Mode: termination.ModeOptional, Announce: true}, true, true},
		{"not announced", termination.ClientAuth{Mode: termination.ModeRequire}, false, false},
		{"with pins", termination.ClientAuth{Mode: termination.ModeRequire, Announce: true, Pins: []termination.Pin{pin}}, false, false},
		{"request", termination.ClientAuth{Mode: termination.ModeRequest, Announce: true}, false, false},
		{"require_any", termination.ClientAuth{Mode: termination.ModeRequireAny, Announce: true}, false, false},
		{"off", termination.ClientAuth{Mode: termination.ModeOff, Announce: true}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.auth.Authorities = []string{"devices"}
			p := compile(t, cfg, tt.auth)
			if p.Exact() != tt.exact {
				t.Errorf("exact: %v", p.Exact())
			}
			want := ca.Pool()
			want.AddCert(helper.X509)
			if !p.Pool().Equal(want) {
				t.Error("the pool does not hold anchor and helper")
			}
			if got := p.Announced(); got == nil || got.Equal(want) != tt.announced || !tt.announced && len(got.Subjects()) != 0 { //nolint:staticcheck // no system pool
				t.Errorf("announced: %v", got)
			}
		})
	}
}
