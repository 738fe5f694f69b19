package store

import (
	"context"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// populateMore adds, besides "api", an endpoint "plain" that trusts another authority, and one that inherits the
// defaults.
func populateMore(t testing.TB, s *Store) {
	t.Helper()
	populate(t, s)
	ca := tlstest.NewCA()
	change(t, s, func(tx *Tx) error {
		if _, err := tx.CreateAuthority(authority("partners", ca)); err != nil {
			return err
		}
		if _, err := tx.CreateCertificate(certificate("wide", ca.Server("plain.example")), SourceUpload); err != nil {
			return err
		}
		plain := endpoint("plain", "wide", "partners")
		plain.ClientAuth.Inherit = false
		if _, err := tx.CreateEndpoint(plain); err != nil {
			return err
		}
		_, err := tx.CreateEndpoint(endpoint("heir", "wide", "partners"))
		return err
	})
}

// TestUnreadableRowsCloseWhatTheyConcern spoils one thing after the other behind the store's back. Only what needs it
// may be affected, and that must let nobody in.
func TestUnreadableRowsCloseWhatTheyConcern(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  []string
		closed []string // endpoints that must let nobody in
		says   string
	}{
		"settings are no JSON":         {[]string{"UPDATE endpoints SET settings = '{' WHERE name = 'api'"}, []string{"api"}, "settings cannot be read"},
		"settings of a newer version":  {[]string{"UPDATE endpoints SET settings_version = 2 WHERE name = 'api'"}, []string{"api"}, "version 2"},
		"an unknown setting":           {[]string{`UPDATE endpoints SET settings = json_set(settings, '$.clientAuth.charm', 'refuse') WHERE name = 'api'`}, []string{"api"}, "unknown field"},
		"an unknown mode":              {[]string{`UPDATE endpoints SET settings = json_set(settings, '$.clientAuth.mode', 'whatever') WHERE name = 'api'`}, []string{"api"}, "is unknown"},
		"a broken pin":                 {[]string{`UPDATE endpoints SET settings = json_set(settings, '$.clientAuth.pins', json('["xyz"]')) WHERE name = 'api'`}, []string{"api"}, "pin cannot be read"},
		"something after the settings": {[]string{"UPDATE endpoints SET settings = settings || '{}' WHERE name = 'api'"}, []string{"api"}, "after the document"},
		"a place to terminate at":      {[]string{"UPDATE endpoints SET terminate_at = 'cloud' WHERE name = 'api'"}, []string{"api"}, "is unknown"},
		"an interface":                 {[]string{"UPDATE endpoints SET listen = 'eth0' WHERE name = 'api'"}, []string{"api"}, "interface"},
		"a scheme":                     {[]string{"UPDATE endpoints SET scheme = 'gopher' WHERE name = 'api'"}, []string{"api"}, "scheme"},
		"no authority left":            {[]string{"DELETE FROM endpoint_authorities WHERE endpoint_id = (SELECT id FROM endpoints WHERE name = 'api')"}, []string{"api"}, "nobody could enter"},
		"an authority without rows":    {[]string{"DELETE FROM authority_certificates WHERE authority_id = (SELECT id FROM authorities WHERE name = 'devices')"}, []string{"api"}, "anchor"},
		"an authority that is garbage": {[]string{"UPDATE authority_certificates SET der = x'3000' WHERE authority_id = (SELECT id FROM authorities WHERE name = 'devices')"}, []string{"api"}, "cannot be read"},
		"an authority that was swapped": {
			[]string{"UPDATE authority_certificates SET der = (SELECT der FROM authority_certificates a JOIN authorities ON id = authority_id WHERE name = 'partners') WHERE authority_id = (SELECT id FROM authorities WHERE name = 'devices')"},
			[]string{"api"},
			"not the one that was stored",
		},
		"an unknown role":          {[]string{"UPDATE authority_certificates SET role = 'king' WHERE authority_id = (SELECT id FROM authorities WHERE name = 'devices')"}, []string{"api"}, "unknown role"},
		"a chain that is garbage":  {[]string{"UPDATE certificates SET chain = x'00' WHERE name = 'site'"}, []string{"api"}, "chain cannot be read"},
		"an empty chain":           {[]string{"UPDATE certificates SET chain = x'' WHERE name = 'site'"}, []string{"api"}, "chain cannot be read"},
		"a key that is garbage":    {[]string{"UPDATE certificates SET sealed_key = x'00' WHERE name = 'site'"}, []string{"api"}, "open sealed private key"},
		"an authority of defaults": {[]string{"INSERT INTO settings VALUES ('default pins', 'dashboard', '[]', 0)", "INSERT INTO default_authorities SELECT 'dashboard', 0, id FROM authorities WHERE name = 'devices'", "UPDATE authority_certificates SET der = x'00' WHERE authority_id = (SELECT id FROM authorities WHERE name = 'devices')"}, []string{"api", "heir"}, "inherits from the defaults"},
		"limits":                   {[]string{"INSERT INTO settings VALUES ('limits', 'dashboard', '{}', 0)"}, nil, "default limits"},
		"a local CA":               {[]string{"INSERT INTO local_cas SELECT authority_id, fingerprint, x'00', 0, 0 FROM authority_certificates JOIN authorities ON id = authority_id WHERE name = 'devices'"}, nil, "issues nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newStore(t)
			populateMore(t, s)
			before := load(t, s)
			raw(t, s.config.path, test.spoil...)
			config, problems, err := s.Load(context.Background())
			if err != nil {
				t.Fatalf("load: %v", err)
			}
			var text []string
			for _, p := range problems {
				text = append(text, p.Error())
			}
			if !strings.Contains(strings.Join(text, "\n"), test.says) {
				t.Errorf("nobody is told %q: %v", test.says, text)
			}
			checkClosed(t, before, config, test.closed)

			// A restart comes up the same way, and other changes still work.
			dir := s.Dir()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openIn(t, dir, testOptions(c))
			if len(s.Warnings()) == 0 {
				t.Error("the start warns of nothing")
			}
			config, problems, err = s.Change(context.Background(), rhea, func(tx *Tx) error {
				e, err := tx.Endpoint("plain")
				if err != nil {
					return err
				}
				e.Aliases = []string{"more.example"}
				return tx.UpdateEndpoint(e)
			}, nil)
			if err != nil || len(problems) != len(text) {
				t.Fatalf("a change elsewhere: %v, %v", problems, err)
			}
			checkClosed(t, before, config, test.closed)
		})
	}
}

func checkClosed(t *testing.T, before, after *termination.Config, closed []string) {
	t.Helper()
	if err := after.Validate(); err != nil {
		t.Errorf("what was loaded is invalid: %v", err)
	}
	for _, was := range before.Endpoints {
		e := after.Endpoint(was.Name)
		if e == nil {
			t.Errorf("endpoint %s is gone; its names now lead elsewhere", was.Name)
			continue
		}
		if e.Host != was.Host || e.Port != was.Port {
			t.Errorf("endpoint %s does not keep its names", was.Name)
		}
		shut := false
		for _, name := range closed {
			shut = shut || name == was.Name
		}
		if !e.Enabled {
			t.Errorf("endpoint %s is disabled; its names now lead elsewhere", was.Name)
		}
		policy := e.ClientAuth
		nobody := policy.Mode == termination.ModeRequire && len(policy.Authorities) == 0 && !policy.Inherit &&
			len(policy.Pins) == 1 && policy.Pins[0] == termination.Pin{} && len(e.Routes) == 0
		if nobody != shut {
			t.Errorf("endpoint %s lets nobody in: %v, want %v: %+v", was.Name, nobody, shut, e)
		}
	}
}

func TestDisabledEndpointStaysDisabledWhenItCannotBeRead(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	raw(t, s.config.path, "UPDATE endpoints SET settings = '{', enabled = 0")
	config, problems, err := s.Load(context.Background())
	if err != nil || len(problems) != 1 || config.Endpoint("api").Enabled {
		t.Errorf("got %+v, %v, %v", config.Endpoint("api"), problems, err)
	}
}

func TestUnreadableEndpointIsRepairedOrDeleted(t *testing.T) {
	for name, repair := range map[string]func(tx *Tx) error{
		"repaired": func(tx *Tx) error {
			var id string
			if err := tx.sql.QueryRow("SELECT id FROM endpoints WHERE name = 'api'").Scan(&id); err != nil {
				return err
			}
			e := endpoint("api", "site", "devices")
			e.ID = id
			return tx.UpdateEndpoint(e)
		},
		"deleted": func(tx *Tx) error { return tx.DeleteEndpoint("api") },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newStore(t)
			populateMore(t, s)
			raw(t, s.config.path, "UPDATE endpoints SET settings = '{' WHERE name = 'api'")
			dir := s.Dir()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openIn(t, dir, testOptions(c))
			config := change(t, s, repair)
			if e := config.Endpoint("api"); e != nil && len(e.ClientAuth.Authorities) == 0 {
				t.Errorf("it is still closed: %+v", e)
			}
			if entries := audit(t, s, AuditQuery{Limit: 1}); !strings.Contains(string(entries[0].Before), "unreadable") {
				t.Errorf("the audit log does not say what was repaired: %s", entries[0].Before)
			}
		})
	}
}

func TestUnreadableAuthorityIsReplaced(t *testing.T) {
	s, c := newStore(t)
	populateMore(t, s)
	raw(t, s.config.path, "UPDATE authority_certificates SET der = x'00' WHERE authority_id = (SELECT id FROM authorities WHERE name = 'devices')")
	dir := s.Dir()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir, testOptions(c))
	config := change(t, s, func(tx *Tx) error {
		a, err := tx.Authority("devices")
		if err != nil {
			return err
		}
		a.Certificates = authority("devices", tlstest.NewCA()).Certificates
		return tx.UpdateAuthority(a)
	})
	if len(config.Endpoint("api").ClientAuth.Authorities) == 0 {
		t.Error("the endpoint is still closed")
	}
}
