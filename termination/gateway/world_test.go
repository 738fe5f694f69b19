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
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			serve := func(tb testing.TB, w *tlstest.World) tlstest.Target { return serveWorld(start(tb.(*testing.T)), w) }
			served := tlstest.Serve(t, serve)
			for _, attack := range tlstest.Attacks(public) {
				t.Run(attack.Name, func(t *testing.T) {
					var got []string
					if attack.Changes {
						got = attack.Run(t, serve)
					} else {
						got = attack.At(t, served)
					}
					if len(got) > 0 {
						t.Errorf("got in by %q", got)
					}
				})
			}
		})
	}
}

// serveWorld makes a gateway serve the World of the attacks.
func serveWorld(r *rig, w *tlstest.World) tlstest.Target {
	t := r.t
	r.serverCA = w.ServerCA
	r.trust("staff", w.ClientCA)
	r.trust("clients", w.ClientCA)
	r.trust("partners", w.PartnerCA)
	port := freePort(t)
	pinned := func(certs ...*tlstest.Cert) func(*termination.Endpoint) {
		return func(e *termination.Endpoint) {
			e.ClientAuth = termination.ClientAuth{Mode: termination.ModeRequire, OnLoss: termination.OnLossClose}
			for _, c := range certs {
				e.ClientAuth.Pins = append(e.ClientAuth.Pins, termination.Pin{Fingerprint: termination.FingerprintOf(c.X509)})
			}
		}
	}
	add := func(host string, change func(*termination.Endpoint)) {
		r.endpoint(host, port, w.Upstream(host).URL, func(e *termination.Endpoint) {
			e.Host = host
			e.ForwardIdentity = []termination.IdentityFormat{
				termination.IdentityNginx, termination.IdentityXFCC, termination.IdentityRFC9440, termination.IdentityTraefik, termination.IdentityALB,
			}
			e.ForwardHeaders = []termination.ForwardHeader{
				{Name: "X-Team", Value: `client.subject.common_name`}, {Name: "X-SSL-Client-S-DN", Value: `client.pem == "" ? "" : client.fingerprint`},
			}
			change(e)
		})
	}
	add(tlstest.OpenName, func(e *termination.Endpoint) {
		strict := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"clients"}, Announce: true, OnLoss: termination.OnLossClose}
		e.Routes = []termination.Route{{Path: tlstest.PrivatePath, ClientAuth: &strict}}
	})
	add(tlstest.StaffName, require("staff"))
	add(tlstest.VaultName, pinned(w.Bob, w.Carol))
	add(tlstest.DeskName, func(e *termination.Endpoint) {
		require("clients", "partners")(e)
		e.ClientAuth.Rules = []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{CN: "bob", Authority: "clients"}}}
	})
	add(tlstest.LobbyName, mode(termination.ModeRequest, "clients"))
	r.apply()
	try := func(change func(*termination.Config)) { // refusing a change is an answer
		next := *r.config
		next.Revision++
		change(&next)
		if err := r.gateway.Apply(context.Background(), &next); err == nil {
			r.config = &next
			r.runAgents()
		}
	}
	return tlstest.Target{
		Addr:   address(port),
		Losses: r.losses(w, pinned),
		Orphan: func() {
			try(func(c *termination.Config) {
				c.Authorities = append([]termination.Authority(nil), c.Authorities...)
				c.Authorities[0].Certificates = nil
			})
		},
		Double: func() {
			try(func(c *termination.Config) {
				second := *c.Endpoint(tlstest.StaffName)
				second.ID, second.Name = "ep_second", "second"
				second.ClientAuth = termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose}
				c.Endpoints = append([]termination.Endpoint{second}, c.Endpoints...)
			})
		},
		Hurry: func() {
			limits := r.config.Limits
			limits.HandshakeTimeout = tlstest.HandshakeTime
			next := *r.config
			next.Limits = limits
			r.config = &next
			r.apply()
		},
	}
}
