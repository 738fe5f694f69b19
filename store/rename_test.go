package store

import (
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestRulesFollowARenamedAuthority: rules say the name of an authority, and a rename must not leave them behind.
func TestRulesFollowARenamedAuthority(t *testing.T) {
	s := openIn(t, t.TempDir(), testOptions(newClock()))
	root, other := tlstest.NewCA(), tlstest.NewCA()
	refuse := func(a string) []termination.Rule {
		return []termination.Rule{{Effect: termination.EffectRefuse, Subject: termination.Subject{CN: "x", Authority: a}}, {Effect: termination.EffectAllow}}
	}
	e := endpoint("api", "site", "devices")
	e.ClientAuth.Rules = refuse("devices")
	own := e.ClientAuth
	own.Authorities, own.Rules = []string{"other"}, refuse("other")
	e.Routes = append(e.Routes, termination.Route{Path: "/r", ClientAuth: &own})
	var devices termination.Authority
	change(t, s, func(tx *Tx) (err error) {
		if devices, err = tx.CreateAuthority(authority("devices", root)); err != nil {
			return err
		}
		if _, err = tx.CreateAuthority(authority("other", other)); err != nil {
			return err
		}
		if _, err = tx.CreateCertificate(certificate("site", root.Server("api.example")), SourceUpload); err != nil {
			return err
		}
		if err = tx.SetDefaults(termination.Defaults{Rules: refuse("devices")[:1]}); err != nil {
			return err
		}
		_, err = tx.CreateEndpoint(e)
		return err
	})
	devices.Name = "machines"
	config := change(t, s, func(tx *Tx) error { return tx.UpdateAuthority(devices) })
	got := config.Endpoint("api")
	route := got.Routes[len(got.Routes)-1].ClientAuth.Rules[0].Subject.Authority
	for what, is := range map[string]string{
		"endpoint": got.ClientAuth.Rules[0].Subject.Authority, "defaults": config.Defaults.Rules[0].Subject.Authority,
	} {
		if is != "machines" {
			t.Errorf("the rule of the %s speaks of %q", what, is)
		}
	}
	if route != "other" || got.ClientAuth.Authorities[0] != "machines" {
		t.Errorf("route's rule: %q; authorities: %q", route, got.ClientAuth.Authorities)
	}
}
