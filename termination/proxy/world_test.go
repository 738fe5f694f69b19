package proxy

import (
	"slices"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestAttacks runs the attacks on what happens after the handshake. Each gets in at a naive server: see the tests of
// tlstest. Here the handshake lets everyone in, so that only the proxy stands between.
func TestAttacks(t *testing.T) {
	ours := []tlstest.Flaw{tlstest.RoutesByHost, tlstest.ComparesHostRaw, tlstest.RawPrefix, tlstest.BelievesHeaders, tlstest.JudgesOnce, tlstest.PinAnywhere}
	for _, attack := range tlstest.Attacks(nil) {
		if !slices.ContainsFunc(attack.Flaws, func(f tlstest.Flaw) bool { return slices.Contains(ours, f) }) {
			continue
		}
		t.Run(attack.Name, func(t *testing.T) {
			if got := attack.Run(t, serveWorld); len(got) > 0 {
				t.Errorf("got in by %q", got)
			}
		})
	}
}

// serveWorld serves the World of the attacks.
func serveWorld(t testing.TB, w *tlstest.World) tlstest.Target {
	f := newFront(t, frontOptions{clients: w.ClientCA})
	pinned := func(e *termination.Endpoint) {
		e.ClientAuth.Mode, e.ClientAuth.Authorities = termination.ModeRequire, nil
		e.ClientAuth.Pins = []termination.Pin{{Fingerprint: termination.FingerprintOf(w.Bob.X509)}}
	}
	serve := func(staff func(*termination.Endpoint)) {
		f.apply(
			f.endpoint(tlstest.OpenName, w.Open.URL, route(tlstest.PrivatePath, termination.ModeRequire), forwardNginx),
			f.endpoint(tlstest.StaffName, w.Staff.URL, staff, forwardNginx),
			f.endpoint(tlstest.VaultName, w.Vault.URL, pinned, forwardNginx),
		)
	}
	serve(mode(termination.ModeRequire))
	return tlstest.Target{
		Addr:    f.address.String(),
		Tighten: func() { serve(pinned) },
		Orphan:  func() {},
	}
}
