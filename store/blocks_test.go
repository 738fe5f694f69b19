package store

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func blocked(t testing.TB, s *Store, b termination.Block) termination.Block {
	t.Helper()
	var out termination.Block
	change(t, s, func(tx *Tx) (err error) {
		out, err = tx.Block(b)
		return err
	})
	return out
}

func TestBlocks(t *testing.T) {
	s, clock := newStore(t)
	populate(t, s)
	laptop := tlstest.NewCA().Client("laptop")
	pin := pinOf(laptop)
	one := blocked(t, s, termination.Block{Pin: &pin, Why: "laptop lost"})
	clock.Add(time.Minute)
	two := blocked(t, s, termination.Block{Serial: "1f3a", Authority: "devices"})
	if one.By == "" || !two.Since.After(one.Since) || two.ID == one.ID {
		t.Errorf("%+v and %+v", one, two)
	}
	s = openIn(t, closeIn(t, s), testOptions(clock))
	config := load(t, s)
	if len(config.Blocked) != 2 || config.Blocked[0].Why != "laptop lost" || config.Blocked[0].By != one.By || config.Blocked[0].String() != pin.String() {
		t.Fatalf("loaded %+v", config.Blocked)
	}
	if config.Blocked[1].String() != "serial 1f3a of devices" {
		t.Errorf("loaded %+v", config.Blocked[1])
	}
	change(t, s, func(tx *Tx) error {
		a, err := tx.Authority("devices")
		if err != nil {
			return err
		}
		a.Name = "machines"
		return tx.UpdateAuthority(a)
	})
	if got := load(t, s).Blocked[1].Authority; got != "machines" {
		t.Errorf("after the authority was renamed, the block is of %q", got)
	}
	config = change(t, s, func(tx *Tx) error { return tx.Unblock(one.ID) })
	if len(config.Blocked) != 1 || config.Blocked[0].ID != two.ID {
		t.Errorf("left are %+v", config.Blocked)
	}
	entries, err := s.Audit(context.Background(), AuditQuery{Kind: KindBlock})
	if err != nil || len(entries) != 3 || entries[0].Action != ActionDelete || entries[2].Action != ActionCreate || !strings.Contains(string(entries[2].After), "laptop lost") {
		t.Errorf("audit %+v, %v", entries, err)
	}
}

func fromOrigin(list []termination.Block, o termination.Origin) []termination.Block {
	return slices.DeleteFunc(slices.Clone(list), func(b termination.Block) bool { return b.Origin != o })
}

func TestBlocksThatAreRefused(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	pin := pinOf(tlstest.NewCA().Client("laptop"))
	first := blocked(t, s, termination.Block{Pin: &pin})
	fromFile := Declared{Blocked: []termination.Block{{Serial: "aa", Authority: "devices"}}}
	change(t, s, func(tx *Tx) error { return tx.ReplaceDeclared(fromFile) })
	declared := fromOrigin(load(t, s).Blocked, termination.OriginFile)[0]
	for name, test := range map[string]struct {
		f    func(*Tx) error
		says string
	}{
		"twice":             {func(tx *Tx) error { _, err := tx.Block(termination.Block{Pin: &pin, Why: "again"}); return err }, "blocked already"},
		"nothing":           {func(tx *Tx) error { _, err := tx.Block(termination.Block{Why: "x"}); return err }, "does not say what"},
		"both":              {func(tx *Tx) error { _, err := tx.Block(termination.Block{Pin: &pin, Serial: "1"}); return err }, "one of them"},
		"no authority":      {func(tx *Tx) error { _, err := tx.Block(termination.Block{Serial: "1"}); return err }, "says nothing without"},
		"unknown authority": {func(tx *Tx) error { _, err := tx.Block(termination.Block{Serial: "1", Authority: "x"}); return err }, "no authority"},
		"serial with zeros": {func(tx *Tx) error {
			_, err := tx.Block(termination.Block{Serial: "01", Authority: "devices"})
			return err
		}, "plain form"},
		"hostile why": {func(tx *Tx) error { _, err := tx.Block(termination.Block{Pin: &pin, Why: "a\nb"}); return err }, "control characters"},
		"long why": {func(tx *Tx) error {
			_, err := tx.Block(termination.Block{Pin: &pin, Why: strings.Repeat("x", 257)})
			return err
		}, "longer than"},
		"unknown":          {func(tx *Tx) error { return tx.Unblock("blk_x") }, "no block"},
		"none":             {func(tx *Tx) error { return tx.Unblock("") }, "no block"},
		"of the file":      {func(tx *Tx) error { return tx.Unblock(declared.ID) }, "configuration file"},
		"its authority":    {func(tx *Tx) error { return tx.DeleteAuthority("devices") }, "by serial number"},
		"revoke elsewhere": {func(tx *Tx) error { return tx.Revoke("devices", "1f", "") }, "its key is not here"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := s.Change(context.Background(), Actor{Name: "rhea", Via: "dashboard"}, test.f, nil)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
	if got := load(t, s).Blocked; len(got) != 2 || fromOrigin(got, termination.OriginDashboard)[0].ID != first.ID {
		t.Errorf("afterwards %+v", got)
	}
	// What stays in the file keeps its time, what leaves it is gone, and what the dashboard blocks is left alone.
	second := termination.Block{Pin: &pin, Why: "in the file, too"}
	change(t, s, func(tx *Tx) error {
		return tx.ReplaceDeclared(Declared{Blocked: []termination.Block{{Serial: "aa", Authority: "devices"}, second}})
	})
	got := fromOrigin(load(t, s).Blocked, termination.OriginFile)
	if len(got) != 2 || !slices.ContainsFunc(got, func(b termination.Block) bool { return b.ID == declared.ID }) {
		t.Errorf("%+v", got)
	}
	change(t, s, func(tx *Tx) error { return tx.ReplaceDeclared(Declared{}) })
	if got := load(t, s).Blocked; len(got) != 1 || got[0].ID != first.ID {
		t.Errorf("%+v", got)
	}
}

// A block that cannot be read must not vanish silently: endpoints that ask for certificates let nobody in.
func TestUnreadableBlockClosesWhatAsks(t *testing.T) {
	for name, spoil := range map[string]string{
		"pin":       "UPDATE blocks SET pin = 'xyz' WHERE pin IS NOT NULL",
		"serial":    "UPDATE blocks SET serial = 'zz' WHERE serial IS NOT NULL",
		"why":       "UPDATE blocks SET why = char(10)",
		"authority": "UPDATE authority_certificates SET der = x'00' WHERE authority_id = (SELECT authority_id FROM blocks WHERE serial IS NOT NULL)",
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStore(t)
			populateMore(t, s)
			change(t, s, func(tx *Tx) error {
				open := endpoint("open", "wide", "partners")
				open.ClientAuth = termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose}
				_, err := tx.CreateEndpoint(open)
				return err
			})
			pin := pinOf(tlstest.NewCA().Client("laptop"))
			one := blocked(t, s, termination.Block{Pin: &pin})
			two := blocked(t, s, termination.Block{Serial: "1f", Authority: "devices"})
			if _, err := s.config.writer.Exec(spoil); err != nil {
				t.Fatal(err)
			}
			config, problems, err := s.Load(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range config.Endpoints {
				shut := e.ClientAuth.Mode == termination.ModeRequire && len(e.ClientAuth.Pins) == 1 && len(e.ClientAuth.Authorities) == 0
				if shut != (e.Name != "open") {
					t.Errorf("%s is closed: %v", e.Name, shut)
				}
			}
			said := false
			for _, p := range problems {
				said = said || p.Kind == KindBlock
			}
			if !said {
				t.Errorf("problems %v", problems)
			}
			if name == "authority" {
				return
			}
			s.remember(problems)
			config = change(t, s, func(tx *Tx) error {
				for _, id := range []string{one.ID, two.ID} {
					if err := tx.Unblock(id); err != nil {
						return err
					}
				}
				return nil
			})
			for _, e := range config.Endpoints {
				if e.Name == "api" && len(e.ClientAuth.Authorities) == 0 {
					t.Error("still closed after the block was removed")
				}
			}
		})
	}
}

func TestRevoked(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	ca := tlstest.NewCA(tlstest.CN("Local"))
	change(t, s, func(tx *Tx) error {
		if _, err := tx.CreateAuthority(authority("local", ca)); err != nil {
			return err
		}
		return tx.CreateLocalCA("local", ca.Key, false)
	})
	before := load(t, s).Revision
	config := change(t, s, func(tx *Tx) error { return tx.Revoke("local", "0A:1F", "key lost") })
	revoked := config.Authority("local").Revocation.Revoked
	if len(revoked) != 1 || revoked[0].Serial != "a1f" || revoked[0].Reason != "key lost" || revoked[0].Time.IsZero() || config.Revision != before+1 {
		t.Fatalf("%+v at revision %d", revoked, config.Revision)
	}
	if again := change(t, s, func(tx *Tx) error { return tx.Revoke("local", "a1f", "another reason") }); again.Revision != config.Revision {
		t.Error("revoking twice made a change")
	}
	// Another name or certificate of the authority takes nothing back.
	config = change(t, s, func(tx *Tx) error {
		a, err := tx.Authority("local")
		if err != nil {
			return err
		}
		a.Name = "ours"
		return tx.UpdateAuthority(a)
	})
	if len(config.Authority("ours").Revocation.Revoked) != 1 {
		t.Error("a new name takes back what was revoked")
	}
	// What cannot be read takes the authority out of use.
	if _, err := s.config.writer.Exec("UPDATE revoked_certificates SET serial = 'zz'"); err != nil {
		t.Fatal(err)
	}
	config, problems, err := s.Load(context.Background())
	if err != nil || len(problems) == 0 || config.Authority("ours") != nil {
		t.Errorf("%v, %v, %+v", err, problems, config.Authority("ours"))
	}
}
