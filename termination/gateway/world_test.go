package gateway_test

import (
	"context"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// public is an authority that the system trusts, as far as this process goes.
var public *tlstest.Cert

// Each of these attacks gets in at a naive server: see the tests of tlstest.
func TestAttacks(t *testing.T) {
	for where, start := range map[string]func(*testing.T) *rig{"edge": newRig, "agent": newAgentRig} {
		for _, attack := range tlstest.Attacks(public) {
			t.Run(where+" "+attack.Name, func(t *testing.T) {
				serve := func(tb testing.TB, w *tlstest.World) tlstest.Target { return serveWorld(start(tb.(*testing.T)), w) }
				if got := attack.Run(t, serve); len(got) > 0 {
					t.Errorf("got in by %q", got)
				}
			})
		}
	}
}

// serveWorld makes a gateway serve the World of the attacks.
func serveWorld(r *rig, w *tlstest.World) tlstest.Target {
	t := r.t
	r.serverCA = w.ServerCA
	r.trust("staff", w.ClientCA)
	r.trust("clients", w.ClientCA)
	port := freePort(t)
	pinned := func(e *termination.Endpoint) {
		e.ClientAuth = termination.ClientAuth{
			Mode: termination.ModeRequire, OnLoss: termination.OnLossClose,
			Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(w.Bob.X509)}},
		}
	}
	add := func(host string, change func(*termination.Endpoint)) {
		r.endpoint(host, port, w.Upstream(host).URL, func(e *termination.Endpoint) {
			e.Host, e.ForwardIdentity = host, []termination.IdentityFormat{termination.IdentityNginx}
			change(e)
		})
	}
	add(tlstest.OpenName, func(e *termination.Endpoint) {
		strict := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"clients"}, Announce: true, OnLoss: termination.OnLossClose}
		e.Routes = []termination.Route{{Path: tlstest.PrivatePath, ClientAuth: &strict}}
	})
	add(tlstest.StaffName, require("staff"))
	add(tlstest.VaultName, pinned)
	r.apply()
	return tlstest.Target{
		Addr:    address(port),
		Tighten: func() { r.change(tlstest.StaffName, pinned) },
		Orphan: func() {
			next := *r.config
			next.Revision++
			next.Authorities = append([]termination.Authority(nil), next.Authorities...)
			next.Authorities[0].Certificates = nil
			// Refusing this is an answer; serving it to nobody is one too.
			if err := r.gateway.Apply(context.Background(), &next); err == nil {
				r.config = &next
				r.runAgents()
			}
		},
	}
}
