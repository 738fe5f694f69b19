package gateway_test

import (
	"slices"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// losses are the changes by which a client loses what it had in the World of the attacks.
func (r *rig) losses(w *tlstest.World, pinned func(...*tlstest.Cert) func(*termination.Endpoint)) []tlstest.Loss {
	var before *termination.Config
	configure := func(change func(*termination.Config)) {
		next := *r.config
		next.Endpoints = slices.Clone(next.Endpoints)
		next.Authorities = slices.Clone(next.Authorities)
		change(&next)
		r.config = &next
		r.apply()
	}
	undo := func() {
		old := *before
		old.Revision = r.config.Revision
		r.config = &old
		r.apply()
	}
	loss := func(name, endpoint string, as *tlstest.Cert, change func(*termination.Config)) tlstest.Loss {
		return tlstest.Loss{Name: name, Endpoint: endpoint, As: as, Undo: undo, Apply: func() {
			before = r.config
			configure(change)
		}}
	}
	staff := func(name string, change func(*termination.Endpoint)) tlstest.Loss {
		return loss(name, tlstest.StaffName, w.Alice, func(c *termination.Config) { change(c.Endpoint(tlstest.StaffName)) })
	}
	alice := termination.Pin{Fingerprint: termination.FingerprintOf(w.Alice.X509)}
	enforced := loss("report only, enforced", tlstest.StaffName, w.Alice, func(c *termination.Config) { c.Endpoint(tlstest.StaffName).ClientAuth.ReportOnly = false })
	apply := enforced.Apply
	enforced.Prepare = func() {
		before = r.config
		configure(func(c *termination.Config) {
			e := c.Endpoint(tlstest.StaffName)
			pinned(w.Bob)(e)
			e.ClientAuth.ReportOnly = true
		})
	}
	enforced.Apply = func() {
		first := before
		apply()
		before = first
	}
	blocked := loss("blocked", tlstest.StaffName, w.Alice, func(c *termination.Config) {
		c.Blocked = []termination.Block{{ID: "bl_alice", Pin: &alice, Why: "a test"}}
	})
	revoked := loss("revoked by us", tlstest.StaffName, w.Alice, func(c *termination.Config) {
		c.Authorities[0].Revocation.Revoked = []termination.RevokedCertificate{{Serial: termination.SerialOf(w.Alice.X509), Time: w.Alice.X509.NotBefore}}
	})
	listed := loss("on a CRL", tlstest.StaffName, w.Alice, func(c *termination.Config) {
		c.Authorities[0].Revocation.CRLs = []termination.CRL{{Source: "clients.crl", DER: w.ClientCA.CRL(tlstest.Revoking(w.Alice))}}
	})
	blocked.Spares, revoked.Spares, listed.Spares = true, true, true
	return []tlstest.Loss{
		staff("only bob's pin", pinned(w.Bob)),
		staff("another authority", require("partners")),
		staff("a rule", func(e *termination.Endpoint) {
			e.ClientAuth.Rules = []termination.Rule{{Effect: termination.EffectRefuse, Subject: termination.Subject{CN: "alice", Authority: "staff"}}, {Effect: termination.EffectAllow}}
		}),
		staff("an expression", func(e *termination.Endpoint) { e.ClientAuth.When = `client.subject.common_name != "alice"` }),
		blocked,
		revoked,
		listed,
		loss("its authority is another CA", tlstest.StaffName, w.Alice, func(c *termination.Config) {
			c.Authorities[0].Certificates = []termination.CACertificate{{Certificate: w.PartnerCA.X509, Role: termination.RoleAnchor}}
		}),
		loss("no pin any more", tlstest.VaultName, w.Carol, func(c *termination.Config) { pinned(w.Bob)(c.Endpoint(tlstest.VaultName)) }),
		loss("a certificate is demanded", tlstest.OpenName, nil, func(c *termination.Config) {
			e := c.Endpoint(tlstest.OpenName)
			require("staff")(e)
			e.Routes = nil
		}),
		enforced,
	}
}
