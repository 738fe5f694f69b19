package gateway_test

import (
	"crypto/x509"
	"slices"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func certificateStories() map[string]func(*scene) {
	const day = 24 * time.Hour
	now := time.Now()
	// A client that curl shows with its whole chain, and that comes in with one issued anew.
	reissued := func(request string, leaf func(*scene) *tlstest.Cert) func(*scene) {
		return func(s *scene) {
			alice := leaf(s)
			s.holds("client", alice)
			s.serves(require("devices"))
			s.fails(s.visits(nil, alice))
			s.reissued(request)
		}
	}
	below := func(change ...tlstest.Option) func(*scene) *tlstest.Cert {
		return func(s *scene) *tlstest.Cert { return s.devices.Client("alice", change...) }
	}
	under := func(leaf []tlstest.Option, change ...tlstest.Option) func(*scene) *tlstest.Cert {
		return func(s *scene) *tlstest.Cert { return s.devices.Intermediate(change...).Client("alice", leaf...) }
	}
	public, err := x509.OIDFromInts([]uint64{2, 23, 140, 1, 2, 1}) // domain validated, by the rules of the CA/Browser Forum
	if err != nil {
		panic(err)
	}
	return map[string]func(*scene){
		"expired": reissued("client.csr", below(tlstest.Valid(now.Add(-30*day), now.Add(-3*day-time.Hour)))),
		"early":   reissued("client.csr", below(tlstest.Valid(now.Add(30*day+time.Hour), now.Add(60*day)))),
		"clock-ahead": func(s *scene) {
			setRight := s.clocked(26 * time.Hour)
			s.holds("client", s.devices.Client("alice")) // for a day
			s.serves(require("devices"))
			s.fails(s.calls())
			_ = s.fix()
			setRight()
			s.passes(s.calls())
		},
		"clock-behind": func(s *scene) {
			setRight := s.clocked(-3 * time.Hour)
			s.holds("client", s.devices.Client("alice")) // from an hour ago
			s.serves(require("devices"))
			s.fails(s.calls())
			_ = s.types()
			setRight()
			s.passes(s.calls())
		},
		"intermediate-ended": func(s *scene) {
			old := s.devices.Intermediate(tlstest.CN("Devices Issuing CA"), tlstest.Valid(now.Add(-400*day), now.Add(-5*day)))
			alice := old.Client("alice")
			s.holds("client", alice)
			s.write("renewed-intermediate.crt", s.devices.Reissue(old, tlstest.Valid(now.Add(-day), now.Add(400*day))).PEM())
			s.serves(require("devices"))
			s.fails(s.visits(nil, alice))
			s.types()
			s.passes(s.curl("--cert client-chain.crt --key client.key"))
		},
		"root-ended": func(s *scene) {
			old := tlstest.NewCA(tlstest.CN("Old Devices CA"), tlstest.Valid(now.Add(-4000*day), now.Add(-40*day)))
			s.holds("client", old.Client("alice"))
			s.trust("legacy", old)
			s.serves(require("legacy"))
			s.fails(s.calls())
			renewed := old.Reissue(old, tlstest.Valid(now.Add(-day), now.Add(400*day)))
			s.changes("/authorities/legacy", holding("legacy", termination.RoleAnchor, renewed))
			s.passes(s.calls())
		},
		"server-certificate":       reissued("client.csr", below(tlstest.EKU(x509.ExtKeyUsageServerAuth))),
		"code-signing":             reissued("client.csr", below(tlstest.EKU(x509.ExtKeyUsageCodeSigning))),
		"public-ca-renewed":        reissued("client.csr", below(tlstest.EKU(x509.ExtKeyUsageServerAuth), tlstest.Template(func(c *x509.Certificate) { c.Policies = []x509.OID{public} }))),
		"intermediate-for-servers": reissued("client.csr", under(nil, tlstest.CN("Devices Server CA"), tlstest.EKU(x509.ExtKeyUsageServerAuth))),
		"short-key":                reissued("new-client.csr", below(tlstest.RSA(1024))),
		"sha1":                     reissued("new-client.csr", below(tlstest.SHA1ECDSA())),
		"name-limits":              reissued("client.csr", under([]tlstest.Option{tlstest.DNS("alice.example.com")}, tlstest.PermitDNS("shops.example.com"))),
		"too-deep":                 reissued("client.csr", func(s *scene) *tlstest.Cert { return s.devices.Intermediates(5).Client("alice") }),
		"issuer-not-ca":            reissued("client.csr", under(nil, tlstest.CN("Devices Printer"), tlstest.CAFalse())),
		"critical-extension":       reissued("client.csr", below(tlstest.UnknownCritical())),
		"public-ca-grace": func(s *scene) {
			s.holds("client", s.devices.Client("alice", tlstest.EKU(x509.ExtKeyUsageServerAuth)))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.decides("/endpoints/api", func(c *termination.Config) { c.Endpoint("api").ClientAuth.Hygiene.Usage = termination.LevelWarn })
			s.passes(s.calls())
		},
		"too-many-certificates": func(s *scene) {
			alice := s.devices.Client("alice")
			s.holds("client", alice)
			s.serves(require("devices"))
			s.fails(s.presents(alice, append([][]byte{alice.X509.Raw}, slices.Repeat([][]byte{s.devices.X509.Raw}, 11)...)...))
			s.types()
			s.passes(s.calls())
		},
		"unreadable-certificate": func(s *scene) {
			alice := s.devices.Client("alice")
			s.holds("client", alice)
			s.serves(require("devices"))
			s.fails(s.presents(alice, []byte{0x30, 0x03, 0x02, 0x01, 0x01}))
			s.person("its certificate was not accepted")
			s.passes(s.calls())
		},
	}
}
