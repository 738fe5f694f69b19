package store

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func tokenOf(name string, digit int) termination.Credential {
	return termination.Credential{Name: name, Kind: termination.ProofBearer, Hash: fmt.Sprintf("sha256:%064x", digit)}
}

const somePassword = "$2y$10$k1sE0GQzYlV2b3pXyW9Zu.GJmbE7W0k4z5q6r7s8t9uavbwcxdyez"

func TestCredentials(t *testing.T) {
	s, clock := newStore(t)
	populateMore(t, s)
	client := tlstest.NewCA().Client("billing")
	create(t, s, termination.Identity{Name: "billing", Pins: []termination.Pin{pinOf(client)}})
	pin := pinOf(client)
	ci, ann, free := tokenOf("ci", 1), termination.Credential{Name: "ann", Kind: termination.ProofBasic, User: "ann", Hash: somePassword}, tokenOf("free", 2)
	ci.Endpoints, ci.Pin, ci.Expires = []string{"api", "plain"}, &pin, clock.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	ann.Identity = "billing"
	change(t, s, func(tx *Tx) error {
		for _, c := range []*termination.Credential{&ci, &ann, &free} {
			made, err := tx.CreateCredential(*c)
			if err != nil {
				return err
			}
			*c = made
		}
		return nil
	})
	s = openIn(t, closeIn(t, s), testOptions(clock))
	got := load(t, s)
	want := []termination.Credential{ann, ci, free}
	for i := range got.Credentials {
		got.Credentials[i].Expires = got.Credentials[i].Expires.UTC()
		if want[i].Expires.IsZero() {
			got.Credentials[i].Expires = time.Time{}
		}
	}
	if !reflect.DeepEqual(got.Credentials, want) {
		t.Errorf("loaded %+v\nwant %+v", got.Credentials, want)
	}

	// Names of endpoints and identities carry through; the secret stays where none is given.
	config := change(t, s, func(tx *Tx) error {
		e, err := tx.Endpoint("api")
		if err != nil {
			return err
		}
		e.Name = "api 2"
		if err := tx.UpdateEndpoint(e); err != nil {
			return err
		}
		i, err := tx.Identity("billing")
		if err != nil {
			return err
		}
		i.Name = "invoices"
		if err := tx.UpdateIdentity(i); err != nil {
			return err
		}
		c := ci
		c.Endpoints, c.Hash, c.Name = []string{"api 2"}, "", "ci 2"
		if err := tx.UpdateCredential(c); err != nil {
			return err
		}
		return tx.BlockCredential("free", true)
	})
	for _, c := range config.Credentials {
		switch c.Name {
		case "ci 2":
			if c.Hash != ci.Hash || c.Endpoints[0] != "api 2" || len(c.Endpoints) != 1 {
				t.Errorf("%+v", c)
			}
		case "ann":
			if c.Identity != "invoices" {
				t.Errorf("%+v", c)
			}
		case "free":
			if !c.Blocked {
				t.Errorf("%+v", c)
			}
		}
	}

	// What a credential needs cannot go.
	for what, remove := range map[string]func(*Tx) error{
		`credential "ci 2"`: func(tx *Tx) error { return tx.DeleteEndpoint("api 2") },
		`credential "ann"`:  func(tx *Tx) error { return tx.DeleteIdentity("invoices") },
	} {
		if err := refuse(t, s, remove); !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}

	at := clock.Now().Truncate(time.Millisecond)
	if err := s.CredentialsUsed(context.Background(), map[string]time.Time{ci.ID: at, "cred_gone": at}); err != nil {
		t.Fatal(err)
	}
	if err := s.CredentialsUsed(context.Background(), map[string]time.Time{ci.ID: at.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	uses, err := s.CredentialUses(context.Background())
	if err != nil || !uses[ci.ID].Used.Equal(at) || uses[ci.ID].By != "rhea" || !uses[ann.ID].Used.IsZero() {
		t.Errorf("uses %+v, %v", uses, err)
	}

	change(t, s, func(tx *Tx) error { return tx.DeleteCredential("ci 2") })
	entries := audit(t, s, AuditQuery{Kind: KindCredential})
	if len(entries) != 6 {
		t.Errorf("%d audited", len(entries))
	}
	for _, e := range entries {
		if text := string(e.Before) + string(e.After); strings.Contains(text, "sha256:") || strings.Contains(text, "$2y$") {
			t.Errorf("a hash is in the audit log: %s", text)
		}
	}
}

func TestCredentialsAreRefused(t *testing.T) {
	s, _ := newStore(t)
	populateMore(t, s)
	change(t, s, func(tx *Tx) error {
		_, err := tx.CreateCredential(tokenOf("ci", 1))
		return err
	})
	for want, c := range map[string]termination.Credential{
		"NameTakenError":           tokenOf("ci", 2),
		"the same token":           tokenOf("other", 1),
		"64 lower-case hex digits": {Name: "x", Kind: termination.ProofBearer, Hash: "s3cret"},
		"no endpoint":              {Name: "x", Kind: termination.ProofBearer, Hash: tokenOf("", 3).Hash, Endpoints: []string{"nowhere"}},
		"no identity":              {Name: "x", Kind: termination.ProofBearer, Hash: tokenOf("", 3).Hash, Identity: "nobody"},
		"one of bcrypt":            {Name: "x", Kind: termination.ProofBasic, User: "x", Hash: "hunter2"},
		"1 to 128 bytes":           {Name: "x", Kind: termination.ProofBasic, Hash: somePassword},
	} {
		err := refuse(t, s, func(tx *Tx) error {
			_, err := tx.CreateCredential(c)
			return err
		})
		if !strings.Contains(fmt.Sprintf("%T %v", err, err), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A credential that cannot be read counts nowhere, least of all everywhere; an endpoint that has no other lets nobody in.
func TestUnreadableCredential(t *testing.T) {
	for what, damage := range map[string]string{
		"pin":       "UPDATE credentials SET pin = 'broken'",
		"hash":      "UPDATE credentials SET hash = 'broken'",
		"endpoints": "DELETE FROM credential_endpoints",
	} {
		t.Run(what, func(t *testing.T) {
			s, clock := newStore(t)
			populateMore(t, s)
			change(t, s, func(tx *Tx) error {
				c := tokenOf("ci", 1)
				c.Endpoints = []string{"api"}
				if _, err := tx.CreateCredential(c); err != nil {
					return err
				}
				e, err := tx.Endpoint("api")
				if err != nil {
					return err
				}
				e.Also.AllOf = []termination.ProofKind{termination.ProofBearer}
				return tx.UpdateEndpoint(e)
			})
			if _, err := s.config.writer.Exec(damage); err != nil {
				t.Fatal(err)
			}
			s = openIn(t, closeIn(t, s), testOptions(clock))
			config, problems, err := s.Load(context.Background())
			if err != nil || len(config.Credentials) != 0 || len(problems) != 2 {
				t.Fatalf("%d credentials, problems %v, %v", len(config.Credentials), problems, err)
			}
			if e := config.Endpoint("api"); e.ClientAuth.Mode != termination.ModeRequire || len(e.ClientAuth.Pins) != 1 {
				t.Errorf("the endpoint is open: %+v", e)
			}
			if config.Endpoint("plain").ClientAuth.Pins != nil {
				t.Error("another endpoint is closed")
			}
			// Everything else can be changed, and the damage mended.
			_, _, err = s.Change(context.Background(), rhea, func(tx *Tx) error { return tx.UpdateCredential(withID(t, tx, "ci")) }, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, problems, err = s.Load(context.Background()); err != nil || len(problems) > 0 {
				t.Errorf("after it was mended: %v, %v", problems, err)
			}
		})
	}
}

func withID(t *testing.T, tx *Tx, name string) termination.Credential {
	t.Helper()
	before, err := tx.Credential(name)
	if err != nil {
		t.Fatal(err)
	}
	c := tokenOf(name, 7)
	c.ID, c.Endpoints = before.ID, []string{"api"}
	return c
}
