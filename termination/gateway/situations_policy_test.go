package gateway_test

import (
	"crypto/tls"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func revocationStories() map[string]func(*scene) {
	// told makes the authority devices tell of revocation in this way.
	told := func(s *scene, r termination.Revocation) {
		next := *s.config
		next.Authorities = slices.Clone(next.Authorities)
		next.Authorities[0].Revocation = r
		s.config = &next
	}
	lists := func(s *scene, options ...tlstest.CRLOption) []termination.CRL {
		return []termination.CRL{{Source: "devices.crl", DER: s.devices.CRL(options...)}}
	}
	// anew is what the fix asks for: a new certificate for a new key.
	anew := func(s *scene) {
		s.person("Please get a new one from your CA, for a new key")
		s.holds("client", s.devices.Client("alice"))
		s.passes(s.calls())
	}
	const page = "/authorities/devices#revocation"
	return map[string]func(*scene){
		"revoked-by-crl": func(s *scene) {
			alice := s.devices.Client("alice")
			s.holds("client", alice)
			told(s, termination.Revocation{CRLs: lists(s, tlstest.Revoking(alice))})
			s.serves(require("devices"))
			s.fails(s.calls())
			anew(s)
		},
		"revoked-on-hold": func(s *scene) {
			alice := s.devices.Client("alice")
			s.holds("client", alice)
			told(s, termination.Revocation{CRLs: lists(s, tlstest.Revoking(alice))})
			s.serves(require("devices"))
			s.fails(s.calls())
			s.changes(page, func(c *termination.Config) { c.Authorities[0].Revocation.CRLs = lists(s, tlstest.Number(2)) })
			s.passes(s.calls())
		},
		"revoked-by-ocsp": func(s *scene) {
			alice := s.devices.Client("alice")
			s.holds("client", alice)
			responder := tlstest.NewResponder(s.t, func(serial *big.Int) []byte {
				if serial.Cmp(alice.X509.SerialNumber) == 0 {
					return tlstest.OCSPAnswer(alice, s.devices, s.devices, func(o *ocsp.Response) { o.Status, o.RevokedAt = ocsp.Revoked, time.Now().Add(-time.Hour) })
				}
				return nil
			})
			told(s, termination.Revocation{OCSPURL: responder.URL})
			s.serves(require("devices"))
			s.fails(s.calls())
			anew(s)
		},
		"revoked-here": func(s *scene) {
			alice := s.devices.Client("alice")
			s.holds("client", alice)
			told(s, termination.Revocation{Revoked: []termination.RevokedCertificate{{Serial: termination.SerialOf(alice.X509), Time: time.Now().Add(-time.Minute), Reason: "laptop lost"}}})
			s.serves(require("devices"))
			s.fails(s.calls())
			anew(s)
		},
		"resumed-after-revocation": func(s *scene) {
			alice := s.devices.Client("alice")
			cache := tls.NewLRUClientSessionCache(1)
			s.serves(require("devices"))
			for range 2 {
				s.passes(s.visits(&tls.Config{ClientSessionCache: cache}, alice))
			}
			told(s, termination.Revocation{CRLs: lists(s, tlstest.Revoking(alice))})
			s.apply()
			s.fails(s.visits(&tls.Config{ClientSessionCache: cache}, alice))
			anew(s)
		},
		"no-list": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			told(s, termination.Revocation{Mode: termination.RevocationHard, CRLURLs: []string{"http://" + address(freePort(s.t)) + "/devices.crl"}})
			s.serves(require("devices"))
			s.fails(s.calls())
			s.changes(page, func(c *termination.Config) { c.Authorities[0].Revocation.CRLs = lists(s) })
			s.passes(s.calls())
		},
		"list-ended": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			ended := tlstest.Updates(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
			told(s, termination.Revocation{Mode: termination.RevocationHard, CRLs: lists(s, ended)})
			s.serves(require("devices"))
			s.fails(s.calls())
			s.changes(page, func(c *termination.Config) { c.Authorities[0].Revocation.CRLs = lists(s, tlstest.Number(2)) })
			s.passes(s.calls())
		},
		"blocked-certificate": func(s *scene) {
			alice := s.devices.Client("alice")
			blocked(s, alice, termination.Block{ID: "blk_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(alice.X509)}, Why: "laptop lost"})
		},
		"blocked-key": func(s *scene) {
			alice := s.devices.Client("alice")
			renewed := s.devices.Client("alice", tlstest.WithKey(alice.Key))
			blocked(s, renewed, termination.Block{ID: "blk_1", Pin: &termination.Pin{Fingerprint: termination.KeyFingerprintOf(alice.X509), Key: true}, Why: "laptop lost"})
		},
		"blocked-ca": func(s *scene) {
			issuing := s.devices.Intermediate(tlstest.CN("Devices Issuing CA"))
			blocked(s, issuing.Client("alice"), termination.Block{ID: "blk_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(issuing.X509)}})
		},
		"blocked-identity": func(s *scene) {
			alice := s.devices.Client("alice")
			s.register("reporting", alice, termination.Rate{}, "api")
			s.config.Identities[0].Blocked = true
			s.serves(require("devices"))
			s.fails(s.visits(nil, alice))
			s.decides("/identities/id_reporting", func(c *termination.Config) { c.Identities[0].Blocked = false })
			s.passes(s.visits(nil, alice))
		},
	}
}

// blocked is a client that is kept out by hand, and let in again by whoever decides that.
func blocked(s *scene, client *tlstest.Cert, block termination.Block) {
	s.t.Helper()
	block.Since, block.By = time.Now().Add(-time.Hour), "rhea"
	s.config.Blocked = []termination.Block{block}
	s.serves(require("devices"))
	s.fails(s.visits(nil, client))
	if strings.Contains(s.ex.ClientTo, "rhea") || block.Why != "" && strings.Contains(s.ex.ClientTo, block.Why) {
		s.t.Errorf("the client is told who has blocked it, or why: %s", s.ex.ClientTo)
	}
	s.decides("/blocked/blk_1", func(c *termination.Config) { c.Blocked = nil })
	s.passes(s.visits(nil, client))
}

func policyStories() map[string]func(*scene) {
	ruled := func(rules ...termination.Rule) func(*termination.Endpoint) {
		return func(e *termination.Endpoint) { require("devices")(e); e.ClientAuth.Rules = rules }
	}
	when := func(expression string) func(*termination.Endpoint) {
		return func(e *termination.Endpoint) { require("devices")(e); e.ClientAuth.When = expression }
	}
	batch := termination.Rule{Effect: termination.EffectAllow, Subject: termination.Subject{URI: "spiffe://prod/batch/*"}}
	// proposed puts the rule that the fix proposes before the others.
	proposed := func(s *scene) {
		s.t.Helper()
		for _, f := range s.ex.Fixes {
			_, text, found := strings.Cut(f.Text, "keeps it out: ")
			if !found {
				continue
			}
			rules, err := termination.ParseRules(text)
			if err != nil {
				s.t.Fatal(err)
			}
			s.decides(f.Action, func(c *termination.Config) {
				e := c.Endpoint("api")
				e.ClientAuth.Rules = append(rules, e.ClientAuth.Rules...)
			})
		}
	}
	return map[string]func(*scene){
		"not-pinned": func(s *scene) {
			alice := tlstest.SelfSigned(tlstest.CN("alice"))
			s.holds("client", alice)
			s.serves(pins(tlstest.SelfSigned(tlstest.CN("bob"))))
			s.fails(s.calls())
			_, printed, _ := strings.Cut(s.types().text, "=")
			pin, err := termination.ParsePin(printed)
			if err != nil || !strings.Contains(s.fix().Text, hex.EncodeToString(pin.Fingerprint[:])) {
				s.t.Errorf("the owner reads %q, and the operator %q: %v", printed, s.fix().Text, err)
			}
			s.changes("/endpoints/api", pinning(alice))
			s.passes(s.calls())
		},
		"pin-of-renewed-certificate": func(s *scene) {
			old := tlstest.SelfSigned(tlstest.CN("alice"))
			renewed := tlstest.SelfSigned(tlstest.CN("alice"), tlstest.WithKey(old.Key))
			s.holds("client", renewed)
			s.serves(pins(old))
			s.fails(s.calls())
			_ = s.fix()
			s.holds("client", old)
			s.passes(s.calls())
			// What the fix says of pins of the key: they outlive a renewal.
			s.change("api", func(e *termination.Endpoint) {
				e.ClientAuth.Pins = []termination.Pin{{Fingerprint: termination.KeyFingerprintOf(old.X509), Key: true}}
			})
			s.holds("client", renewed)
			s.passes(s.calls())
		},
		"not-pinned-but-elsewhere": func(s *scene) {
			alice := tlstest.SelfSigned(tlstest.CN("alice"))
			s.holds("client", alice)
			s.endpoint("kiosks", s.port, s.upstream.URL, pins(alice))
			s.serves(pins(tlstest.SelfSigned(tlstest.CN("bob"))))
			s.fails(s.calls())
			s.person("please check the address that your client connects to")
			s.passes(s.shell("curl -sS --cert client.crt --key client.key " + strings.Replace(s.url(), "api.", "kiosks.", 1)))
		},
		"no-rule-allows": func(s *scene) {
			s.holds("client", s.devices.Client("alice", tlstest.URI("spiffe://prod/web/alice")))
			s.serves(ruled(batch))
			s.fails(s.calls())
			proposed(s)
			s.passes(s.calls())
		},
		"name-only-in-cn": func(s *scene) {
			s.holds("client", s.devices.Client("spiffe://prod/batch/alice"))
			s.serves(ruled(batch))
			s.fails(s.calls())
			if !strings.Contains(s.fix().Text, "spiffe://prod/batch/*") {
				s.t.Errorf("it does not say what the rules allow: %s", s.fix().Text)
			}
			s.holds("client", s.devices.Client("alice", tlstest.URI("spiffe://prod/batch/alice")))
			s.passes(s.calls())
		},
		"rule-refuses": func(s *scene) {
			s.holds("client", s.devices.Client("alice", tlstest.OrgUnit("Sales"), tlstest.DNS("alice.example.com")))
			s.serves(ruled(termination.Rule{Effect: termination.EffectRefuse, Subject: termination.Subject{OU: "Sales"}}, termination.Rule{Effect: termination.EffectAllow}))
			s.fails(s.calls())
			proposed(s)
			s.passes(s.calls())
		},
		"expression-false": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			s.serves(when(`client.subject.common_name == "bob"`))
			s.fails(s.calls())
			if !strings.Contains(s.fix().Text, "alice") {
				s.t.Errorf("it does not say what the certificate says: %s", s.fix().Text)
			}
			s.holds("client", s.devices.Client("bob"))
			s.passes(s.calls())
		},
		"expression-fails": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			s.serves(when(`client.san.uris[0] == "spiffe://prod/batch/alice"`))
			s.fails(s.calls())
			s.changes("/endpoints/api", func(c *termination.Config) {
				c.Endpoint("api").ClientAuth.When = `client.san.uris.exists(u, u == "spiffe://prod/batch/alice") || client.subject.common_name == "alice"`
			})
			s.passes(s.calls())
		},
		"identity-of-another-endpoint": func(s *scene) {
			alice := tlstest.SelfSigned(tlstest.CN("alice"))
			s.holds("client", alice)
			s.endpoint("partners", s.port, s.upstream.URL, require())
			s.register("reporting", alice, termination.Rate{}, "partners")
			s.serves(require("devices"))
			s.fails(s.calls())
			s.person("Please check the address that it connects to")
			s.passes(s.shell("curl -sS --cert client.crt --key client.key " + strings.Replace(s.url(), "api.", "partners.", 1)))
		},
		"too-often": func(s *scene) {
			alice := s.devices.Client("alice")
			s.register("reporting", alice, termination.Rate{Count: 1, Per: time.Hour, Burst: 1}, "api")
			s.endpoint("api", s.port, "tcp://"+tlstest.TCP(s.t).Addr, func(e *termination.Endpoint) { asTLS(e); require("devices")(e) })
			s.apply()
			echo := func() seen {
				conn, err := s.echoIn("api", s.port, tls.VersionTLS13, alice)
				if err != nil {
					return seen{1, err.Error()}
				}
				conn.Close()
				return seen{}
			}
			s.passes(echo())
			s.fails(echo())
			s.decides("/identities/id_reporting", func(c *termination.Config) { c.Identities[0].Rate = termination.Rate{} })
			s.passes(echo())
		},
		"asked-for-a-choice": func(s *scene) {
			alice := s.devices.Client("alice")
			s.holds("client", alice)
			s.config.Limits.HandshakeTimeout = time.Second
			s.serves(require("devices"))
			chosen := make(chan struct{})
			saw := make(chan seen, 1)
			go func() {
				saw <- s.visits(&tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					<-chosen
					c := alice.TLS()
					return &c, nil
				}}, nil)
			}()
			rec := s.next()
			close(chosen)
			s.told(<-saw, rec, rec.Verdict.Reason, rec.Verdict.Explanation)
			_ = s.fix()
			next := *s.config
			next.Limits = termination.DefaultLimits()
			s.config = &next
			s.apply()
			s.passes(s.calls())
		},
	}
}
