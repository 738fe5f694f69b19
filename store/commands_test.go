package store

import (
	"context"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// What a command makes is its own: nobody else changes it or leans on it, it goes as a whole, and it does not outlive the
// process that served it.
func TestObjectsOfCommands(t *testing.T) {
	s, c := newStore(t)
	populate(t, s)
	ca := tlstest.NewCA()
	trust, site := authority("own", ca), certificate("own", ca.Server("own.example"))
	var made Command
	create := func(tx *Tx) (err error) {
		made, err = tx.CreateCommand(Command{Endpoint: endpoint("own", "own", "own"), Authority: &trust, Certificate: &site})
		return err
	}
	config := change(t, s, create)
	for _, o := range []termination.Origin{config.Endpoint("own").Origin, config.Authority("own").Origin, config.Certificate("own").Origin} {
		if o != termination.OriginCommand {
			t.Errorf("an origin is %q", o)
		}
	}
	for name, mutate := range map[string]func(*Tx) error{
		"delete endpoint":    func(tx *Tx) error { return tx.DeleteEndpoint("own") },
		"delete authority":   func(tx *Tx) error { return tx.DeleteAuthority("own") },
		"delete certificate": func(tx *Tx) error { return tx.DeleteCertificate("own") },
		"stop": func(tx *Tx) error {
			e, err := tx.Endpoint("own")
			if err != nil {
				return err
			}
			e.Enabled, e.Origin = false, termination.OriginDashboard
			return tx.UpdateEndpoint(e)
		},
		"make one": func(tx *Tx) error {
			e := endpoint("other", "own")
			e.Origin = termination.OriginCommand
			_, err := tx.CreateEndpoint(e)
			return err
		},
		"file": func(tx *Tx) error {
			return tx.ReplaceDeclared(Declared{Endpoints: []termination.Endpoint{endpoint("own", "site", "devices")}})
		},
	} {
		err := refuse(t, s, mutate)
		if !is[ReadOnlyError](err) && name != "file" {
			t.Errorf("%s: %v", name, err)
		}
		if name == "file" && !is[DeclaredTwiceError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, mutate := range map[string]func(*Tx) error{
		"authority":   func(tx *Tx) error { _, err := tx.CreateEndpoint(endpoint("leaning", "site", "own")); return err },
		"certificate": func(tx *Tx) error { _, err := tx.CreateEndpoint(endpoint("leaning", "own", "devices")); return err },
		"defaults":    func(tx *Tx) error { return tx.SetDefaults(termination.Defaults{Authorities: []string{"own"}}) },
	} {
		if err := refuse(t, s, mutate); !is[termination.ValidationError](err) {
			t.Errorf("something leans on the %s: %v", name, err)
		}
	}
	config = change(t, s, func(tx *Tx) error { return tx.DeleteCommand(made) })
	if config.Endpoint("own") != nil || config.Authority("own") != nil || config.Certificate("own") != nil {
		t.Error("something is left")
	}
	if again := change(t, s, func(tx *Tx) error { return tx.DeleteCommand(made) }); again.Revision != config.Revision {
		t.Error("removing it twice changes something")
	}

	// A process that was killed has removed nothing.
	change(t, s, create)
	dir := s.Dir()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir, testOptions(c))
	after, _, err := s.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if after.Endpoint("own") != nil || after.Authority("own") != nil || after.Certificate("own") != nil || after.Endpoint("api") == nil {
		t.Errorf("after a restart: %+v", after.Endpoints)
	}
	if entries := audit(t, s, AuditQuery{ObjectID: made.Endpoint.ID}); len(entries) != 2 || entries[0].Action != ActionDelete {
		t.Errorf("audit: %+v", entries)
	}
}
