package store

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// withPortal is a store with an endpoint that serves invitations.
func withPortal(t testing.TB) (*Store, *clock, string) {
	t.Helper()
	s, c := newStore(t)
	populate(t, s)
	var id string
	change(t, s, func(tx *Tx) error {
		e := endpoint("portal", "site")
		e.Host, e.ForwardIdentity = "portal.example", nil
		e.ClientAuth = termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose}
		e.Upstream = termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinPortal}
		made, err := tx.CreateEndpoint(e)
		id = made.ID
		return err
	})
	return s, c, id
}

func inviteClient(t testing.TB, s *Store, r Registration) (Registration, string) {
	t.Helper()
	made, secret, err := s.CreateRegistration(context.Background(), rhea, r, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

func redeem(s *Store, secret, portal string, cert *x509.Certificate) (*termination.Config, error) {
	config, _, err := s.Change(context.Background(), Actor{Name: "invitation", Via: "portal"}, func(tx *Tx) error {
		_, err := tx.UseRegistration(secret, portal, cert)
		return err
	}, nil)
	return config, err
}

func TestRegistration(t *testing.T) {
	s, clock, portal := withPortal(t)
	made, secret := inviteClient(t, s, Registration{Portal: "portal", Name: "billing", Endpoints: []string{"api"}, CA: "devices"})
	if got, err := s.Registration(context.Background(), secret, portal); err != nil || got.Name != "billing" || got.Endpoints[0] != "api" || got.CA != "devices" {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "x", secret[:len(secret)-1], secret + "x", strings.Repeat("x", 5000)} {
		if _, err := s.Registration(context.Background(), bad, portal); !errors.Is(err, ErrRegistrationUnknown) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if _, err := s.Registration(context.Background(), secret, "ep_other"); !errors.Is(err, ErrRegistrationUnknown) {
		t.Errorf("at another endpoint: %v", err)
	}
	// A change that is refused leaves it as it was.
	first, second := tlstest.SelfSigned(tlstest.CN("first")), tlstest.SelfSigned(tlstest.CN("second"))
	other := create(t, s, termination.Identity{Name: "other", Pins: []termination.Pin{pinOf(second)}})
	if _, err := redeem(s, secret, portal, second.X509); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a certificate of another: %v", err)
	}
	// Of many at once one gets in.
	var all sync.WaitGroup
	var mu sync.Mutex
	var won int
	for range 8 {
		all.Go(func() {
			_, err := redeem(s, secret, portal, tlstest.SelfSigned(tlstest.FreshKey()).X509)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, ErrRegistrationUsed) {
				t.Errorf("lost by %v", err)
			}
		})
	}
	all.Wait()
	if won != 1 {
		t.Errorf("%d came in by one invitation", won)
	}
	c := load(t, s)
	if i := c.Identity("billing"); i == nil || len(i.Certificates) != 1 || i.Endpoints[0] != "api" || i.Origin != termination.OriginDashboard {
		t.Errorf("registered %+v", i)
	}
	// For an identity that is there, a certificate is added.
	clock.Add(time.Second)
	_, secret = inviteClient(t, s, Registration{Portal: "portal", IdentityID: other.ID})
	if c, err := redeem(s, secret, portal, first.X509); err != nil || len(c.Identity("other").Pins) != 2 {
		t.Errorf("added: %v", err)
	}
	list, err := s.Registrations(context.Background())
	if err != nil || len(list) != 2 || list[0].Used.IsZero() || list[0].Fingerprint != termination.FingerprintOf(first.X509) {
		t.Errorf("list %+v, %v", list, err)
	}
	if n := bytesOnDisk(t, s.dir, []byte(secret)); n != 0 {
		t.Errorf("the secret stands %d times on the disk", n)
	}
	if entries := audit(t, s, AuditQuery{Kind: KindRegistration}); len(entries) != 2 || entries[1].ObjectID != made.ID || strings.Contains(string(entries[0].After), secret) {
		t.Errorf("audited %+v", entries)
	}

	_, secret = inviteClient(t, s, Registration{Portal: "portal", Name: "late"})
	clock.Add(2 * time.Hour)
	if _, err := redeem(s, secret, portal, first.X509); !errors.Is(err, ErrRegistrationExpired) {
		t.Errorf("late: %v", err)
	}
	withdrawn, secret := inviteClient(t, s, Registration{Portal: "portal", Name: "withdrawn"})
	if err := s.WithdrawRegistration(context.Background(), rhea, withdrawn.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := redeem(s, secret, portal, first.X509); !errors.Is(err, ErrRegistrationUnknown) {
		t.Errorf("withdrawn: %v", err)
	}
	if err := s.WithdrawRegistration(context.Background(), rhea, made.ID); !is[NotFoundError](err) {
		t.Errorf("a used one is withdrawn: %v", err)
	}
	// What an invitation is for may have gone.
	_, secret = inviteClient(t, s, Registration{Portal: "portal", Name: "taken meanwhile"})
	create(t, s, termination.Identity{Name: "taken meanwhile"})
	if _, err := redeem(s, secret, portal, tlstest.SelfSigned(tlstest.FreshKey()).X509); !errors.Is(err, ErrRegistrationStale) {
		t.Errorf("taken meanwhile: %v", err)
	}
	_, secret = inviteClient(t, s, Registration{Portal: "portal", Name: "nowhere", Endpoints: []string{"api"}})
	change(t, s, func(tx *Tx) error {
		if err := tx.DeleteIdentity("billing"); err != nil {
			return err
		}
		return tx.DeleteEndpoint("api")
	})
	if _, err := redeem(s, secret, portal, tlstest.SelfSigned(tlstest.FreshKey()).X509); !errors.Is(err, ErrRegistrationStale) {
		t.Errorf("its endpoint is gone: %v", err)
	}
}

func TestRegistrationsAreRefused(t *testing.T) {
	s, _, _ := withPortal(t)
	change(t, s, func(tx *Tx) error {
		return tx.ReplaceDeclared(Declared{Identities: []termination.Identity{{Name: "of the file", Pins: []termination.Pin{{Fingerprint: termination.Fingerprint{1}}}}}})
	})
	create(t, s, termination.Identity{Name: "there"})
	for name, tt := range map[string]struct {
		ask  Registration
		life time.Duration
		says string
	}{
		"too short":             {Registration{Portal: "portal", Name: "a"}, time.Second, "from a minute"},
		"too long":              {Registration{Portal: "portal", Name: "a"}, 31 * 24 * time.Hour, "to 30 days"},
		"no portal":             {Registration{Portal: "api", Name: "a"}, time.Hour, "does not serve invitations"},
		"an unknown portal":     {Registration{Portal: "x", Name: "a"}, time.Hour, "no endpoint"},
		"a bad name":            {Registration{Portal: "portal", Name: "../a"}, time.Hour, "letters"},
		"a name that is taken":  {Registration{Portal: "portal", Name: "there"}, time.Hour, "another identity"},
		"an unknown identity":   {Registration{Portal: "portal", IdentityID: "id_x"}, time.Hour, "no identity"},
		"an identity of a file": {Registration{Portal: "portal", IdentityID: "of the file"}, time.Hour, "configuration file"},
		"an unknown endpoint":   {Registration{Portal: "portal", Name: "a", Endpoints: []string{"x"}}, time.Hour, "no endpoint"},
		"an unknown CA":         {Registration{Portal: "portal", Name: "a", CA: "x"}, time.Hour, "no authority"},
	} {
		if _, _, err := s.CreateRegistration(context.Background(), rhea, tt.ask, tt.life); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
