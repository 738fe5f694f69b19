package store

import (
	"context"
	"crypto/x509"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func pinOf(c *tlstest.Cert) termination.Pin {
	return termination.Pin{Fingerprint: termination.FingerprintOf(c.X509)}
}

// registered is an identity with everything that one can have.
func registered(name string, c *tlstest.Cert, endpoints ...string) termination.Identity {
	i := termination.Identity{
		Name: name, Pins: []termination.Pin{pinOf(c), {Fingerprint: termination.KeyFingerprintOf(c.X509), Key: true}},
		Matches:   []termination.Subject{{Authority: "devices", URI: "spiffe://prod/" + name, O: "Us"}, {Authority: "devices", Serial: "1f3a"}},
		Endpoints: endpoints, Rate: termination.Rate{Count: 50, Per: time.Second, Burst: 100},
	}
	i.Certificates = append(i.Certificates, c.X509)
	i.Issuers = append(i.Issuers, c.Chain()[1:]...)
	return i
}

func create(t testing.TB, s *Store, i termination.Identity) termination.Identity {
	t.Helper()
	var out termination.Identity
	change(t, s, func(tx *Tx) (err error) {
		out, err = tx.CreateIdentity(i)
		return err
	})
	return out
}

func TestIdentities(t *testing.T) {
	s, clock := newStore(t)
	populateMore(t, s)
	ca := tlstest.NewCA(tlstest.CN("Elsewhere"))
	client := ca.Intermediate().Client("billing")
	made := create(t, s, registered("billing", client, "api", "plain"))
	same := func(c *termination.Config, want termination.Identity) {
		t.Helper()
		got := c.Identity(want.Name)
		if got == nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("loaded %+v\nwant %+v", got, want)
		}
	}
	same(load(t, s), made)
	again := openIn(t, closeIn(t, s), testOptions(clock))
	same(load(t, again), made)
	s = again

	// Names of endpoints, authorities and the identity itself carry through.
	clock.Add(time.Hour)
	config := change(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint("api")
		if err != nil {
			return err
		}
		e.Name = "api 2"
		e.ClientAuth.Rules = []termination.Rule{{Effect: termination.EffectRefuse, Subject: termination.Subject{Identity: "billing"}}}
		if err := tx.UpdateEndpoint(e); err != nil {
			return err
		}
		a, err := tx.Authority("devices")
		if err != nil {
			return err
		}
		a.Name = "devices 2"
		if err := tx.UpdateAuthority(a); err != nil {
			return err
		}
		i, err := tx.Identity("billing")
		if err != nil {
			return err
		}
		i.Name, i.Blocked, i.Rate = "invoices", true, termination.Rate{}
		i.Pins = append(i.Pins, termination.Pin{Fingerprint: termination.Fingerprint{9}})
		return tx.UpdateIdentity(i)
	})
	got := config.Identity("invoices")
	if got == nil || !got.Blocked || got.Rate.Limited() || got.Endpoints[0] != "api 2" || got.Matches[0].Authority != "devices 2" || got.ID != made.ID {
		t.Fatalf("after the renames: %+v", got)
	}
	if rule := config.Endpoint("api 2").ClientAuth.Rules[0]; rule.Subject.Identity != "invoices" {
		t.Errorf("the rule says %s", rule)
	}
	pins, err := s.IdentityPins(context.Background(), made.ID)
	if err != nil || len(pins) != 3 || pins[2].Added.Sub(pins[0].Added) != time.Hour {
		t.Errorf("pins %+v, %v", pins, err)
	}

	// What an identity needs cannot go.
	for what, remove := range map[string]func(*Tx) error{
		"endpoint":  func(tx *Tx) error { return tx.DeleteEndpoint("api 2") },
		"authority": func(tx *Tx) error { return tx.DeleteAuthority("devices 2") },
	} {
		if err := refuse(t, s, remove); !strings.Contains(err.Error(), `identity "invoices"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := refuse(t, s, func(tx *Tx) error { return tx.DeleteIdentity("invoices") }); !strings.Contains(err.Error(), `no identity "invoices"`) {
		t.Errorf("a rule speaks of it: %v", err)
	}
	change(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint("api 2")
		if err != nil {
			return err
		}
		e.ClientAuth.Rules = nil
		if err := tx.UpdateEndpoint(e); err != nil {
			return err
		}
		return tx.DeleteIdentity("invoices")
	})
	if c := load(t, s); len(c.Identities) != 0 {
		t.Errorf("left: %+v", c.Identities)
	}
	entries := audit(t, s, AuditQuery{Kind: KindIdentity})
	if len(entries) != 3 || entries[0].Action != ActionDelete || !strings.Contains(string(entries[1].After), `"blocked":true`) || !strings.Contains(string(entries[2].After), client.Fingerprint()) {
		t.Errorf("audited %+v", entries)
	}
}

// closeIn closes the store and returns its directory.
func closeIn(t testing.TB, s *Store) string {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.dir
}

func TestIdentitiesAreRefused(t *testing.T) {
	s, _ := newStore(t)
	populateMore(t, s)
	a, b := tlstest.SelfSigned(tlstest.CN("a")), tlstest.SelfSigned(tlstest.CN("b"))
	create(t, s, termination.Identity{Name: "a", Pins: []termination.Pin{pinOf(a)}, Endpoints: []string{"api"}})
	for name, tt := range map[string]struct {
		change func(*termination.Identity)
		says   string
	}{
		"a name that is taken":  {func(i *termination.Identity) { i.Name = "a" }, `another identity named "a"`},
		"a bad name":            {func(i *termination.Identity) { i.Name = "../b" }, "letters"},
		"a pin of another":      {func(i *termination.Identity) { i.Pins = []termination.Pin{pinOf(a)} }, `registered for the identity "a" already`},
		"an unknown endpoint":   {func(i *termination.Identity) { i.Endpoints = []string{"x"} }, `no endpoint "x"`},
		"an unknown authority":  {func(i *termination.Identity) { i.Matches = []termination.Subject{{Authority: "x", CN: "b"}} }, `no authority "x"`},
		"a match without names": {func(i *termination.Identity) { i.Matches = []termination.Subject{{Authority: "devices"}} }, "every client of devices"},
		"a burst alone":         {func(i *termination.Identity) { i.Rate.Burst = 3 }, "without a rate"},
	} {
		i := termination.Identity{Name: "b", Pins: []termination.Pin{pinOf(b)}}
		tt.change(&i)
		err := refuse(t, s, func(tx *Tx) error { _, err := tx.CreateIdentity(i); return err })
		if !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c := load(t, s); len(c.Identities) != 1 {
		t.Errorf("%d identities", len(c.Identities))
	}
}

// TestUnreadableIdentities: whom an identity would keep out is not known when it cannot be read, so nobody comes in by
// a certificate; where none is asked for, nothing changes.
func TestUnreadableIdentities(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil  string
		closed bool
		says   string
	}{
		"a pin":          {"UPDATE identity_pins SET pin = 'xyz'", true, "pin of it cannot be read"},
		"a match":        {"UPDATE identity_matches SET subject = '{'", true, "match of it cannot be read"},
		"an empty match": {"UPDATE identity_matches SET subject = '{}'", true, "every client"},
		"two of one pin": {"UPDATE identity_pins SET pin = (SELECT min(pin) FROM identity_pins)", true, "already"},
		"a certificate":  {"UPDATE identity_pins SET der = x'3000' WHERE der IS NOT NULL", false, "still known by the fingerprint"},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := newStore(t)
			populateMore(t, s)
			create(t, s, registered("billing", tlstest.SelfSigned(tlstest.CN("billing")), "api"))
			create(t, s, termination.Identity{Name: "other", Pins: []termination.Pin{{Fingerprint: termination.Fingerprint{1}}}, Endpoints: []string{"plain"}})
			change(t, s, func(tx *Tx) error {
				open := endpoint("open", "wide")
				open.Host, open.ClientAuth = "open.example", termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose}
				_, err := tx.CreateEndpoint(open)
				return err
			})
			dir := closeIn(t, s)
			raw(t, configurationKind().path(dir), tt.spoil)
			s = openIn(t, dir, testOptions(clock))
			c, problems, err := s.Load(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if len(problems) == 0 || !strings.Contains(fmt.Sprint(problems), tt.says) {
				t.Errorf("problems %v", problems)
			}
			for _, e := range c.Endpoints {
				closed := len(e.ClientAuth.Pins) == 1 && e.ClientAuth.Pins[0] == termination.Pin{}
				if closed != (tt.closed && e.Name != "open") {
					t.Errorf("%s is closed: %v", e.Name, closed)
				}
				for _, i := range c.Identities {
					if closed && i.Knows(e.Name) {
						t.Errorf("the identity %s still opens %s", i.Name, e.Name)
					}
				}
			}
			if i := c.Identity("other"); tt.closed && i != nil && len(i.Endpoints) == 0 {
				t.Error("an identity whose endpoint is closed may come in anywhere")
			}
			// It can be deleted, and then all is well again.
			change(t, s, func(tx *Tx) error {
				if err := tx.DeleteIdentity("other"); err != nil {
					return err
				}
				return tx.DeleteIdentity("billing")
			})
			if _, problems, err = s.Load(context.Background()); err != nil || len(problems) > 0 {
				t.Errorf("after it was deleted: %v, %v", problems, err)
			}
		})
	}
}

// TestDeclaredIdentities: a pin may move from one to another in one change, and what leaves the file leaves.
func TestDeclaredIdentities(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	a, b := termination.Pin{Fingerprint: termination.Fingerprint{1}}, termination.Pin{Fingerprint: termination.Fingerprint{2}}
	apply := func(identities ...termination.Identity) *termination.Config {
		t.Helper()
		return change(t, s, func(tx *Tx) error { return tx.ReplaceDeclared(Declared{Identities: identities}) })
	}
	c := apply(termination.Identity{Name: "a", Pins: []termination.Pin{a}, Endpoints: []string{"api"}}, termination.Identity{Name: "b", Pins: []termination.Pin{b}})
	first := c.Identity("a").ID
	c = apply(termination.Identity{Name: "b", Pins: []termination.Pin{a}}, termination.Identity{Name: "a", Pins: []termination.Pin{b}, Endpoints: []string{"api"}})
	if c.Identity("a").ID != first || c.Identity("a").Pins[0] != b || c.Identity("b").Pins[0] != a || c.Identity("a").Origin != termination.OriginFile {
		t.Errorf("after the swap: %+v", c.Identities)
	}
	if err := refuse(t, s, func(tx *Tx) error { return tx.DeleteIdentity("a") }); !is[ReadOnlyError](err) {
		t.Errorf("deleted by hand: %v", err)
	}
	c = apply(termination.Identity{Name: "c", Pins: []termination.Pin{a, b}})
	if len(c.Identities) != 1 || c.Identities[0].Name != "c" {
		t.Errorf("left: %+v", c.Identities)
	}
}

// TestManyIdentities: many are loaded with each change; what was parsed once is not parsed again.
func TestManyIdentities(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	client := tlstest.SelfSigned(tlstest.CN("one"))
	create(t, s, termination.Identity{Name: "one", Endpoints: []string{"api"}, Pins: []termination.Pin{pinOf(client)}, Certificates: []*x509.Certificate{client.X509}})
	raw(t, s.config.path,
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1999) INSERT INTO identities SELECT printf('id_%d', i), printf('device %d', i), 'dashboard', '', 0, 0, 0, 0 FROM n",
		"INSERT INTO identity_pins SELECT id, 0, printf('%064d', rowid), NULL, 0 FROM (SELECT id, row_number() OVER () AS rowid FROM identities WHERE name <> 'one')",
		"INSERT INTO identity_endpoints SELECT i.id, 0, e.id FROM identities i, endpoints e WHERE i.name <> 'one'")
	began := time.Now()
	c := load(t, s)
	t.Logf("loaded in %s", time.Since(began))
	if len(c.Identities) != 2_000 || !c.Identity("device 77").Knows("api") {
		t.Errorf("%d identities", len(c.Identities))
	}
	if before := c.Identity("one").Certificates[0]; load(t, s).Identity("one").Certificates[0] != before {
		t.Error("certificates are parsed anew with each load")
	}
}
