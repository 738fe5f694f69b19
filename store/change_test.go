package store

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestNewStoreIsEmptyAndKeepsItsNode(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := openIn(t, dir, testOptions(c))
	config := load(t, s)
	if config.Revision != 0 || len(config.Authorities)+len(config.Certificates)+len(config.Endpoints) != 0 {
		t.Fatalf("a new store holds something: %+v", config)
	}
	if config.Limits != termination.DefaultLimits() {
		t.Errorf("limits of a new store: %+v", config.Limits)
	}
	if !strings.HasPrefix(config.Node, "node_") {
		t.Errorf("node %q", config.Node)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if again := openIn(t, dir, testOptions(c)); again.Node() != config.Node {
		t.Errorf("node changed from %s to %s", config.Node, again.Node())
	}
}

// TestConfigurationComesBackAsItWentIn uses every field that a configuration has.
func TestConfigurationComesBackAsItWentIn(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := openIn(t, dir, testOptions(c))
	root, partner := tlstest.NewCA(), tlstest.NewCA()
	between := root.Intermediate()
	site := root.Server("api.example")
	want := endpoint("api", "site", "devices", "partners")
	want.Aliases = []string{"*.api.example", "other.example"}
	want.Certificates = []string{"site", termination.CertificateLocal}
	want.MinVersion, want.MaxVersion = 0x0303, 0x0304
	want.Upstream = termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: "127.0.0.1:9443", TLS: termination.UpstreamTLSConfig{ServerName: "inner.example"}}
	want.Upstream.TLS.Roots = root.Chain()
	want.ClientAuth.MaxDepth = 3
	want.ClientAuth.Pins = []termination.Pin{{Fingerprint: termination.FingerprintOf(site.X509)}, {Fingerprint: termination.KeyFingerprintOf(site.X509), Key: true}}
	routePolicy := termination.ClientAuth{Mode: termination.ModeOptional, Authorities: []string{"partners"}, OnLoss: termination.OnLossDrain}
	want.Routes = []termination.Route{
		{Path: "/z", ClientAuth: &routePolicy},
		{Path: "/a", Upstream: &termination.Upstream{Scheme: termination.UpstreamH2C, Address: "127.0.0.1:9000"}},
	}
	limits := termination.DefaultLimits()
	limits.HalfOpenPerAddress = 7
	defaults := termination.Defaults{Authorities: []string{"partners"}, Pins: []termination.Pin{{Fingerprint: termination.Fingerprint{1, 2, 3}}}}
	var created termination.Config
	change(t, s, func(tx *Tx) error {
		devices, err := tx.CreateAuthority(authority("devices", root, between))
		if err != nil {
			return err
		}
		partners, err := tx.CreateAuthority(authority("partners", partner))
		if err != nil {
			return err
		}
		created.Authorities = []termination.Authority{devices, partners}
		cert, err := tx.CreateCertificate(certificate("site", site), SourceUpload)
		if err != nil {
			return err
		}
		created.Certificates = []termination.Certificate{cert}
		if want, err = tx.CreateEndpoint(want); err != nil {
			return err
		}
		return errors.Join(
			tx.CreateLocalCA("devices", root.Key, true),
			tx.SetLimits(limits),
			tx.SetDefaults(defaults),
		)
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir, testOptions(c))
	got := load(t, s)
	if !reflect.DeepEqual(got.Endpoints, []termination.Endpoint{want}) {
		t.Errorf("endpoint\n got %+v\nwant %+v", got.Endpoints, want)
	}
	for _, a := range created.Authorities {
		if b := got.Authority(a.Name); b == nil || !reflect.DeepEqual(describeAuthority(*b), describeAuthority(a)) || b.ID != a.ID || b.Origin != termination.OriginDashboard {
			t.Errorf("authority %s came back as %+v", a.Name, b)
		}
	}
	if len(got.Certificates) != 1 || !samePublicKey(got.Certificates[0].Key.Public(), site.Key.Public()) || got.Certificates[0].Leaf().Subject.String() != site.X509.Subject.String() {
		t.Errorf("certificate came back as %+v", got.Certificates)
	}
	if len(got.LocalCAs) != 1 || got.LocalCAs[0].Name != "devices" || !samePublicKey(got.LocalCAs[0].Key.Public(), root.Key.Public()) {
		t.Errorf("local CA came back as %+v", got.LocalCAs)
	}
	if got.Limits != limits {
		t.Errorf("limits came back as %+v", got.Limits)
	}
	if !reflect.DeepEqual(got.Defaults, defaults) {
		t.Errorf("defaults came back as %+v", got.Defaults)
	}
	if got.Revision != 1 {
		t.Errorf("revision %d after one change", got.Revision)
	}
}

func TestRenamesCarryThrough(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	config := change(t, s, func(tx *Tx) error {
		a, err := tx.Authority("devices")
		if err != nil {
			return err
		}
		a.Name = "phones"
		if err := tx.UpdateAuthority(a); err != nil {
			return err
		}
		c, err := tx.Certificate("site")
		if err != nil {
			return err
		}
		c.Name = "web"
		return tx.UpdateCertificate(c)
	})
	e := config.Endpoint("api")
	if !slices.Equal(e.ClientAuth.Authorities, []string{"phones"}) || !slices.Equal(e.Certificates, []string{"web"}) {
		t.Errorf("the endpoint refers to %v and %v", e.ClientAuth.Authorities, e.Certificates)
	}
	if config.Certificate("web").Key == nil {
		t.Error("the key was lost with the old name")
	}
}

func TestRefusedChanges(t *testing.T) {
	ca := tlstest.NewCA()
	for name, test := range map[string]struct {
		mutate func(*Tx) error
		want   error
	}{
		"authority name taken": {
			func(tx *Tx) error { _, err := tx.CreateAuthority(authority("devices", ca)); return err },
			NameTakenError{Kind: KindAuthority, Name: "devices"},
		},
		"certificate name taken": {
			func(tx *Tx) error {
				_, err := tx.CreateCertificate(certificate("site", ca.Server("x.example")), SourceUpload)
				return err
			},
			NameTakenError{Kind: KindCertificate, Name: "site"},
		},
		"endpoint name taken": {
			func(tx *Tx) error { _, err := tx.CreateEndpoint(endpoint("api", "site", "devices")); return err },
			NameTakenError{Kind: KindEndpoint, Name: "api"},
		},
		"authority in use": {
			func(tx *Tx) error { return tx.DeleteAuthority("devices") },
			InUseError{Kind: KindAuthority, Name: "devices", By: []string{`endpoint "api"`}},
		},
		"certificate in use": {
			func(tx *Tx) error { return tx.DeleteCertificate("site") },
			InUseError{Kind: KindCertificate, Name: "site", By: []string{`endpoint "api"`}},
		},
		"unknown authority": {
			func(tx *Tx) error { return tx.DeleteAuthority("nobody") },
			NotFoundError{Kind: KindAuthority, Name: "nobody"},
		},
		"unknown certificate": {
			func(tx *Tx) error { return tx.UpdateCertificate(termination.Certificate{ID: "crt_0"}) },
			NotFoundError{Kind: KindCertificate, Name: "crt_0"},
		},
		"unknown endpoint": {
			func(tx *Tx) error { return tx.DeleteEndpoint("nothing") },
			NotFoundError{Kind: KindEndpoint, Name: "nothing"},
		},
		"unknown local CA": {
			func(tx *Tx) error { return tx.DeleteLocalCA("devices") },
			NotFoundError{Kind: KindLocalCA, Name: "devices"},
		},
		"file's own": {
			func(tx *Tx) error {
				a := authority("declared", ca)
				a.Origin = termination.OriginFile
				_, err := tx.CreateAuthority(a)
				return err
			},
			ReadOnlyError{Kind: KindAuthority, Name: "declared"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStore(t)
			populate(t, s)
			if err := refuse(t, s, test.mutate); !reflect.DeepEqual(err, test.want) {
				t.Errorf("got %v\nwant %v", err, test.want)
			}
		})
	}
}

func TestInvalidChangesAreFieldErrors(t *testing.T) {
	ca, other := tlstest.NewCA(), tlstest.NewCA()
	for name, test := range map[string]struct {
		mutate func(*Tx) error
		field  string
	}{
		"unknown authority":   {func(tx *Tx) error { _, err := tx.CreateEndpoint(endpoint("x", "site", "nobody")); return err }, "client_auth.authorities"},
		"unknown certificate": {func(tx *Tx) error { _, err := tx.CreateEndpoint(endpoint("x", "none", "devices")); return err }, "certificates"},
		"bad name":            {func(tx *Tx) error { _, err := tx.CreateEndpoint(endpoint("-x", "site", "devices")); return err }, "name"},
		"hostile name": {func(tx *Tx) error {
			_, err := tx.CreateAuthority(authority("a'; DROP TABLE authorities; --", ca))
			return err
		}, "name"},
		"name with NUL":          {func(tx *Tx) error { _, err := tx.CreateAuthority(authority("a\x00b", ca)); return err }, "name"},
		"same certificate twice": {func(tx *Tx) error { _, err := tx.CreateAuthority(authority("x", ca, ca)); return err }, "pem"},
		"no anchor":              {func(tx *Tx) error { _, err := tx.CreateAuthority(termination.Authority{Name: "x"}); return err }, "anchors"},
		"key of another": {func(tx *Tx) error {
			c := certificate("x", ca.Server("x.example"))
			c.Key = other.Key
			_, err := tx.CreateCertificate(c, SourceUpload)
			return err
		}, "key_file"},
		"certificate without key": {func(tx *Tx) error {
			c := certificate("x", ca.Server("x.example"))
			c.Key = nil
			_, err := tx.CreateCertificate(c, SourceUpload)
			return err
		}, "cert_file"},
		"name of another endpoint": {func(tx *Tx) error {
			e := endpoint("x", "site", "devices")
			e.Host = "api.example"
			_, err := tx.CreateEndpoint(e)
			return err
		}, "url"},
		"no address": {func(tx *Tx) error {
			e := endpoint("x", "site", "devices")
			e.Listen = termination.Endpoint{}.Listen
			_, err := tx.CreateEndpoint(e)
			return err
		}, ""},
		"two routes of one path": {func(tx *Tx) error {
			e := endpoint("x", "site", "devices")
			e.Routes = []termination.Route{{Path: "/a", ClientAuth: &e.ClientAuth}, {Path: "/a", ClientAuth: &e.ClientAuth}}
			_, err := tx.CreateEndpoint(e)
			return err
		}, "routes.path"},
		"upstream that is not UTF-8": {func(tx *Tx) error {
			e := endpoint("x", "site", "devices")
			e.Upstream.Address = "\xff.example:80"
			_, err := tx.CreateEndpoint(e)
			return err
		}, "upstream"},
		"route's server name with NUL": {func(tx *Tx) error {
			e := endpoint("x", "site", "devices")
			u := e.Upstream
			u.TLS.ServerName = "a\x00b"
			e.Routes = []termination.Route{{Path: "/a", Upstream: &u}}
			_, err := tx.CreateEndpoint(e)
			return err
		}, "routes.upstream_tls.server_name"},
		"local CA with a key of nobody": {func(tx *Tx) error { return tx.CreateLocalCA("devices", other.Key, false) }, "key"},
		"no limit":                      {func(tx *Tx) error { return tx.SetLimits(termination.Limits{}) }, "handshake_timeout"},
		"no history":                    {func(tx *Tx) error { return tx.SetHistory(HistorySettings{}) }, "keep"},
		"defaults of nobody":            {func(tx *Tx) error { return tx.SetDefaults(termination.Defaults{Authorities: []string{"nobody"}}) }, "client_auth.authorities"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStore(t)
			populate(t, s)
			err := refuse(t, s, test.mutate)
			fields, ok := errors.AsType[termination.ValidationError](err)
			if !ok || fields[0].Field != test.field {
				t.Errorf("want an error at %q, got %v", test.field, err)
			}
		})
	}
}

func TestPrepareSeesTheOutcomeAndMayRefuse(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	vetoed := errors.New("this will not compile")
	_, _, err := s.Change(context.Background(), rhea,
		func(tx *Tx) error { return tx.DeleteEndpoint("api") },
		func(c *termination.Config) error {
			if len(c.Endpoints) != 0 || c.Revision != 2 {
				t.Errorf("prepare saw %d endpoints at revision %d", len(c.Endpoints), c.Revision)
			}
			return vetoed
		})
	if !errors.Is(err, vetoed) {
		t.Fatalf("got %v", err)
	}
	config := load(t, s)
	if config.Revision != 1 || config.Endpoint("api") == nil {
		t.Errorf("after a veto: revision %d, endpoints %v", config.Revision, config.Endpoints)
	}
	if entries := audit(t, s, AuditQuery{}); slices.ContainsFunc(entries, func(e AuditEntry) bool { return e.Action == ActionDelete }) {
		t.Error("a refused change is in the audit log")
	}
}

func TestNothingChangedKeepsTheRevision(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	prepared := false
	config, _, err := s.Change(context.Background(), rhea,
		func(tx *Tx) error {
			e, err := tx.Endpoint("api")
			if err != nil {
				return err
			}
			return tx.UpdateEndpoint(e)
		},
		func(*termination.Config) error { prepared = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if config.Revision != 1 || !prepared {
		t.Errorf("revision %d, prepared %v", config.Revision, prepared)
	}
}

func TestCertificateIsRenewedWithItsOldKeyOrANewOne(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	ca := tlstest.NewCA()
	renew := func(c *tlstest.Cert, key crypto.Signer) func(*Tx) error {
		return func(tx *Tx) error {
			old, err := tx.Certificate("site")
			if err != nil {
				return err
			}
			old.Chain, old.Key = c.Chain(), key
			return tx.UpdateCertificate(old)
		}
	}
	fresh := ca.Server("api.example")
	if err := refuse(t, s, renew(fresh, nil)); !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("a chain for another key without that key: %v", err)
	}
	config := change(t, s, renew(fresh, fresh.Key))
	if !samePublicKey(config.Certificate("site").Key.Public(), fresh.Key.Public()) {
		t.Error("the new key is not there")
	}
}

func TestLocalCAHoldsItsAuthority(t *testing.T) {
	s, _ := newStore(t)
	ca, other := tlstest.NewCA(), tlstest.NewCA()
	config := change(t, s, func(tx *Tx) error {
		if _, err := tx.CreateAuthority(authority("wide", other)); err != nil {
			return err
		}
		if _, err := tx.CreateAuthority(authority("local", ca)); err != nil {
			return err
		}
		return errors.Join(tx.CreateLocalCA("wide", other.Key, false), tx.CreateLocalCA("local", ca.Key, true))
	})
	if config.LocalCAs[0].Name != "local" {
		t.Error("the unconstrained CA is asked before the constrained one")
	}
	err := refuse(t, s, func(tx *Tx) error { return tx.DeleteAuthority("local") })
	if _, ok := errors.AsType[InUseError](err); !ok {
		t.Errorf("delete: %v", err)
	}
	err = refuse(t, s, func(tx *Tx) error {
		a, err := tx.Authority("local")
		if err != nil {
			return err
		}
		a.Certificates = authority("local", other).Certificates
		return tx.UpdateAuthority(a)
	})
	if _, ok := errors.AsType[InUseError](err); !ok {
		t.Errorf("take its certificate out: %v", err)
	}
	change(t, s, func(tx *Tx) error {
		return errors.Join(tx.DeleteLocalCA("local"), tx.DeleteAuthority("local"))
	})
	list, err := s.LocalCAs(context.Background())
	if err != nil || len(list) != 1 || list[0].Authority != "wide" || list[0].Constrained {
		t.Errorf("local CAs left: %+v, %v", list, err)
	}
}

func TestDefaultsHoldTheirAuthority(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	change(t, s, func(tx *Tx) error {
		if _, err := tx.CreateAuthority(authority("partners", tlstest.NewCA())); err != nil {
			return err
		}
		return tx.SetDefaults(termination.Defaults{Authorities: []string{"partners"}})
	})
	err := refuse(t, s, func(tx *Tx) error { return tx.DeleteAuthority("partners") })
	if e, ok := errors.AsType[InUseError](err); !ok || !slices.Equal(e.By, []string{"the defaults"}) {
		t.Errorf("got %v", err)
	}
}

func TestActorNeedsAName(t *testing.T) {
	s, _ := newStore(t)
	for _, actor := range []Actor{{}, {Name: "rhea"}, {Name: "rh\x00ea", Via: "api"}, {Name: "\xff", Via: "api"}, {Name: "a\u202eb", Via: "api"}, {Name: strings.Repeat("x", 300), Via: "api"}} {
		_, _, err := s.Change(context.Background(), actor, func(*Tx) error { t.Error("it ran"); return nil }, nil)
		if _, ok := errors.AsType[TextError](err); !ok {
			t.Errorf("%q: %v", actor, err)
		}
	}
}

func audit(t testing.TB, s *Store, q AuditQuery) []AuditEntry {
	t.Helper()
	entries, err := s.Audit(context.Background(), q)
	if err != nil {
		t.Fatalf("read audit log: %v", err)
	}
	return entries
}

func TestFullDiskRefusesAChangeWhole(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	for _, pages := range []int{1, 1 << 30} { // the lowest that it grants is what the file has
		if _, err := s.config.writer.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
		large := func(tx *Tx) error { return tx.PutSetting("large", strings.Repeat("x", 1<<20)) }
		if pages > 1 {
			change(t, s, large)
			continue
		}
		if err := refuse(t, s, large); !reflect.DeepEqual(err, DiskFullError{File: s.config.path}) {
			t.Errorf("got %v", err)
		}
		if load(t, s).Endpoint("api") == nil {
			t.Error("what was there is gone")
		}
	}
}

func TestDamageMetByALoadIsSaid(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	if _, err := s.config.writer.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.config.path, 4096); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Load(context.Background()); !is[DamagedError](err) {
		t.Errorf("load: %v", err)
	}
}
