package gateway_test

import (
	"crypto/tls"
	"maps"
	"strings"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func clientStories() map[string]func(*scene) {
	all := missingStories()
	maps.Copy(all, issuerStories())
	maps.Copy(all, mistakenStories())
	maps.Copy(all, certificateStories())
	maps.Copy(all, revocationStories())
	maps.Copy(all, policyStories())
	return all
}

func missingStories() map[string]func(*scene) {
	return map[string]func(*scene){
		"curl-no-certificate": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			s.serves(require("devices"))
			s.fails(s.curl())
			s.passes(s.types())
		},
		"curl-long-dash": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			s.serves(require("devices"))
			// To curl, what is no option is one more address, on port 80; nothing of that may leave this machine.
			s.fails(s.curl("--resolve '*:80:127.0.0.1' –cert client.crt --key client.key"))
			s.person("its certificate and private key")
			s.passes(s.curl("--cert client.crt --key client.key"))
		},
		"curl-key-alone": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			s.serves(require("devices"))
			s.fails(s.curl("--key client.key"))
			s.person("its certificate and private key")
			s.passes(s.curl("--cert client.crt --key client.key"))
		},
		"client-of-another-ca-stays-silent": func(s *scene) {
			s.serves(require("devices"))
			other := tlstest.NewCA(tlstest.CN("Elsewhere CA")).Client("alice")
			s.fails(s.visits(&tls.Config{Certificates: []tls.Certificate{other.TLS()}}, nil))
			s.reissued("new-client.csr")
		},
		"openssl-no-certificate": func(s *scene) {
			s.holds("client", s.devices.Client("alice"))
			s.serves(require("devices"))
			s.fails(s.openssl("-tls1_2"))
			s.passes(s.types())
		},
	}
}

func issuerStories() map[string]func(*scene) {
	elsewhere := func(name string) *tlstest.Cert { return tlstest.NewCA(tlstest.CN(name)) }
	refused := func(m termination.Mode) func(*scene) {
		return func(s *scene) {
			s.holds("client", elsewhere("Elsewhere CA").Client("alice"))
			s.serves(mode(m, "devices"))
			s.fails(s.calls())
			s.reissued("client.csr")
		}
	}
	// A client below an intermediate which it does not send.
	alone := func(s *scene, issuing *tlstest.Cert) {
		s.holds("client", issuing.Client("alice"))
		s.write("intermediate.crt", issuing.PEM())
	}
	return map[string]func(*scene){
		"stranger":                    refused(termination.ModeRequire),
		"ca-unknown-in-optional-mode": refused(termination.ModeOptional),
		"ca-unknown-in-request-mode": func(s *scene) {
			s.holds("client", elsewhere("Elsewhere CA").Client("alice"))
			s.serves(mode(termination.ModeRequest, "devices"))
			s.failsUnverified(s.calls("-w %{http_code}"))
			s.reissued("client.csr")
		},
		"report-only": func(s *scene) {
			s.holds("client", elsewhere("Elsewhere CA").Client("alice"))
			s.serves(func(e *termination.Endpoint) { require("devices")(e); e.ClientAuth.ReportOnly = true })
			s.failsUnverified(s.calls("-w %{http_code}"))
			s.reissued("client.csr")
			s.change("api", func(e *termination.Endpoint) { e.ClientAuth.ReportOnly = false })
			s.passes(s.curl("--cert issued.crt --key client.key"))
		},
		"ca-not-uploaded": func(s *scene) {
			warehouse := elsewhere("Warehouse CA")
			s.holds("client", warehouse.Client("alice"))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.decides("/authorities", func(c *termination.Config) {
				holding("warehouse", termination.RoleAnchor, warehouse)(c)
				trusting("devices", "warehouse")(c)
			})
			s.passes(s.calls())
		},
		"other-endpoint": func(s *scene) {
			partner := elsewhere("Partner CA")
			s.holds("client", partner.Client("alice"))
			s.trust("partners", partner)
			s.endpoint("partners", s.port, s.upstream.URL, require("partners"))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.person("Please use a certificate that was issued by Devices CA")
			s.passes(s.shell("curl -sS --cert client.crt --key client.key " + strings.Replace(s.url(), "api.", "partners.", 1)))
		},
		"other-endpoint-same-name": func(s *scene) {
			anew := s.devices.Impostor()
			s.holds("client", anew.Client("alice"))
			s.trust("devices 2027", anew)
			s.serves(require("devices"))
			s.fails(s.calls())
			s.decides("/endpoints/api", trusting("devices", "devices 2027"))
			s.passes(s.calls())
		},
		"same-name-made-anew": func(s *scene) {
			anew := s.devices.Impostor()
			s.holds("client", anew.Client("alice"))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.decides("/authorities/devices", holding("devices", termination.RoleAnchor, anew))
			s.passes(s.calls())
		},
		"same-name-old-client": func(s *scene) {
			s.holds("client", s.devices.Impostor().Client("alice"))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.person("otherwise please use a certificate of the CA that is trusted")
			s.reissued("client.csr")
		},
		"curl-no-intermediate": func(s *scene) {
			issuing := s.devices.Intermediate(tlstest.CN("Devices Issuing CA"))
			alone(s, issuing)
			s.trust("lab", elsewhere("Lab CA"), issuing)
			s.serves(require("devices"))
			s.fails(s.calls())
			s.passes(s.types())
		},
		"intermediate-seen-lately": func(s *scene) {
			issuing := s.devices.Intermediate(tlstest.CN("Warehouse"))
			s.serves(require("devices"))
			s.passes(s.visits(nil, issuing.Client("bob"))) // he sends his chain
			s.holds("client", issuing.Client("alice"))
			s.fails(s.calls())
			s.passes(s.types()) // the command holds what is missing
			s.fails(s.calls())  // and nothing was trusted by itself
		},
		"two-intermediates-missing": func(s *scene) {
			issuing := s.devices.Intermediates(2)
			s.serves(require("devices"))
			s.visits(nil, issuing.Client("eve", tlstest.Expired())) // refused, and yet it has shown its chain
			s.next()
			s.holds("client", issuing.Client("alice"))
			s.fails(s.calls())
			s.passes(s.types())
		},
		"intermediate-unknown": func(s *scene) {
			alone(s, s.devices.Intermediate(tlstest.CN("Devices Issuing CA")))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.passes(s.types())
		},
		"intermediate-uploaded": func(s *scene) {
			issuing := s.devices.Intermediate(tlstest.CN("Devices Issuing CA"))
			alone(s, issuing)
			s.serves(require("devices"))
			s.fails(s.calls())
			s.changes("/authorities/devices", holding("devices", termination.RoleHelper, issuing))
			s.passes(s.calls())
		},
		"p12-without-chain": func(s *scene) {
			alone(s, s.devices.Intermediate(tlstest.CN("Devices Issuing CA")))
			s.serves(require("devices"))
			p12 := func(from string) {
				s.shell("openssl pkcs12 -export -in " + from + " -inkey client.key -out client.p12 -passout pass:test")
			}
			p12("client.crt")
			s.fails(s.curl("--cert-type P12 --cert client.p12:test"))
			s.passes(s.shell(s.ex.Fixes[0].Command)) // makes the whole file
			s.shell(s.fix().Command + " -passout pass:test")
			s.passes(s.curl("--cert-type P12 --cert client.p12:test"))
		},
		"self-signed": func(s *scene) {
			own := tlstest.SelfSigned(tlstest.CN("alice"), tlstest.CATrue())
			s.holds("client", own)
			s.serves(require("devices"))
			s.fails(s.calls())
			if !strings.Contains(s.fix().Text, own.Fingerprint()) {
				s.t.Errorf("there is no fingerprint to compare: %s", s.fix().Text)
			}
			s.changes("/endpoints/api", pinning(own))
			s.passes(s.calls())
		},
		"self-signed-elsewhere": func(s *scene) {
			own := tlstest.SelfSigned(tlstest.CN("alice"))
			s.holds("client", own)
			s.endpoint("kiosks", s.port, s.upstream.URL, pins(own))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.person("please check the address that your client connects to")
			s.passes(s.shell("curl -sS --cert client.crt --key client.key " + strings.Replace(s.url(), "api.", "kiosks.", 1)))
		},
	}
}

func mistakenStories() map[string]func(*scene) {
	return map[string]func(*scene){
		"wrong-order": func(s *scene) {
			issuing := s.devices.Intermediate(tlstest.CN("Devices Issuing CA"))
			alice := issuing.Client("alice")
			s.holds("client", alice)
			s.write("intermediate.crt", issuing.PEM())
			s.serves(require("devices"))
			s.fails(s.presents(alice, s.devices.X509.Raw, issuing.X509.Raw, alice.X509.Raw))
			s.passes(s.types())
		},
		"root-in-place-of-leaf": func(s *scene) {
			s.holds("client", s.devices)
			s.holds("own", s.devices.Client("alice"))
			s.serves(require("devices"))
			s.fails(s.calls())
			if shown := s.types().text; strings.Count(shown, "subject") != 1 || !strings.Contains(shown, "Devices CA") {
				s.t.Errorf("the command shows %q", shown)
			}
			s.passes(s.curl("--cert own.crt --key own.key"))
		},
		"helper-in-place-of-leaf": func(s *scene) {
			issuing := s.devices.Intermediate(tlstest.CN("Devices Issuing CA"))
			s.holds("client", issuing)
			s.serves(require("devices"))
			s.fails(s.calls())
			if shown := s.types().text; !strings.Contains(shown, "Devices Issuing CA") {
				s.t.Errorf("the command shows %q", shown)
			}
			alice := issuing.Client("alice")
			s.holds("own", alice)
			s.write("own.crt", append(alice.PEM(), issuing.PEM()...))
			s.passes(s.curl("--cert own.crt --key own.key"))
		},
		"strange-root-in-place-of-leaf": func(s *scene) {
			s.holds("client", tlstest.NewCA(tlstest.CN("Elsewhere CA")))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.reissued("new-client.csr")
		},
		"our-server-certificate": func(s *scene) {
			s.serves(require("devices"))
			for _, c := range s.config.Certificates { // public, and copied by somebody who took it for his own
				s.fails(s.presents(s.devices, c.Chain[0].Raw))
			}
			s.reissued("new-client.csr")
		},
		"server-certificate-of-our-name": func(s *scene) {
			s.holds("client", s.devices.Server("api.localhost"))
			s.serves(require("devices"))
			s.fails(s.calls())
			s.reissued("new-client.csr")
		},
		"wrong-key": func(s *scene) {
			alice, bob := s.devices.Client("alice"), s.devices.Client("bob")
			s.holds("client", alice)
			s.write("client.key", bob.KeyPEM()) // the files were mixed up
			s.serves(require("devices"))
			s.fails(s.presents(bob, alice.X509.Raw))
			if s.record.Client.Name != "alice" {
				s.t.Errorf("it is called %q", s.record.Client.Name)
			}
			if lines := strings.Fields(s.types().text); len(lines) < 2 || lines[len(lines)/2-1] == lines[len(lines)-1] {
				s.t.Errorf("the two lines print the same: %q", lines)
			}
			s.write("client.key", alice.KeyPEM())
			if lines := strings.Fields(s.types().text); lines[len(lines)/2-1] != lines[len(lines)-1] {
				s.t.Errorf("the two lines print different digits: %q", lines)
			}
			s.passes(s.calls())
		},
	}
}
