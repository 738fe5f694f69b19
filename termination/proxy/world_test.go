package proxy

import (
	"slices"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestAttacks runs the attacks on what happens after the handshake. Each gets in at a naive server: see the tests of
// tlstest. Here the handshake lets everyone in, so that only the proxy stands between.
func TestAttacks(t *testing.T) {
	ours := []tlstest.Flaw{
		tlstest.RoutesByHost, tlstest.ComparesHostRaw, tlstest.RawPrefix, tlstest.BelievesHeaders, tlstest.JudgesOnce, tlstest.PinAnywhere,
		tlstest.PinIssues, tlstest.AssertsUnverified, tlstest.GoDefaults, tlstest.NoBounds, tlstest.RulesByName, tlstest.TrustsPresented,
	}
	served := tlstest.Serve(t, serveWorld)
	for _, attack := range tlstest.Attacks(nil) {
		if !slices.ContainsFunc(attack.Flaws, func(f tlstest.Flaw) bool { return slices.Contains(ours, f) }) {
			continue
		}
		if strings.HasPrefix(attack.Name, "P40:") {
			continue // live connections are the gateway's; requests on them: TestPolicyTightened
		}
		t.Run(attack.Name, func(t *testing.T) {
			var got []string
			if attack.Changes {
				got = attack.Run(t, serveWorld)
			} else {
				got = attack.At(t, served)
			}
			if len(got) > 0 {
				t.Errorf("got in by %q", got)
			}
		})
	}
}

// serveWorld serves the World of the attacks.
func serveWorld(t testing.TB, w *tlstest.World) tlstest.Target {
	f := newFront(t, frontOptions{clients: w.ClientCA})
	f.others = w.PartnerCA
	pinned := func(certs ...*tlstest.Cert) func(*termination.Endpoint) {
		return func(e *termination.Endpoint) {
			e.ClientAuth.Mode, e.ClientAuth.Authorities = termination.ModeRequire, nil
			for _, c := range certs {
				e.ClientAuth.Pins = append(e.ClientAuth.Pins, termination.Pin{Fingerprint: termination.FingerprintOf(c.X509)})
			}
		}
	}
	desk := func(e *termination.Endpoint) {
		e.ClientAuth.Mode, e.ClientAuth.Authorities = termination.ModeRequire, []string{"devices", "partners"}
		e.ClientAuth.Rules = []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{CN: "bob", Authority: "devices"}}}
	}
	serve := func(staff func(*termination.Endpoint)) {
		f.apply(
			f.endpoint(tlstest.OpenName, w.Open.URL, route(tlstest.PrivatePath, termination.ModeRequire), forwardNginx),
			f.endpoint(tlstest.StaffName, w.Staff.URL, staff, forwardNginx),
			f.endpoint(tlstest.VaultName, w.Vault.URL, pinned(w.Bob, w.Carol), forwardNginx),
			f.endpoint(tlstest.DeskName, w.Desk.URL, desk, forwardNginx),
			f.endpoint(tlstest.LobbyName, w.Lobby.URL, mode(termination.ModeRequest), forwardNginx),
		)
	}
	serve(mode(termination.ModeRequire))
	return tlstest.Target{
		Addr:   f.address.String(),
		Orphan: func() {},
		Losses: []tlstest.Loss{{
			Name: "only bob's pin", Endpoint: tlstest.StaffName, As: w.Alice, Spares: true, // tickets are none of the proxy's business
			Apply: func() { serve(pinned(w.Bob)) }, Undo: func() { serve(mode(termination.ModeRequire)) },
		}},
	}
}
