package gateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func agreementStories() map[string]func(*scene) {
	return map[string]func(*scene){
		"curl-ip": func(s *scene) {
			s.serves(nil)
			s.fails(s.shell(fmt.Sprintf("curl -sS https://%s/", address(s.port))))
			s.passes(s.types())
		},
		"openssl-noservername": func(s *scene) {
			s.serves(nil)
			s.fails(s.shell(fmt.Sprintf("openssl s_client -ign_eof -connect %s -noservername", address(s.port))))
			s.person("connect by name and not by IP address")
			s.passes(s.shell("openssl s_client -connect api.localhost:" + fmt.Sprint(s.port)))
		},
		"curl-name-typo": func(s *scene) {
			s.serves(nil)
			s.fails(s.shell("curl -sS " + strings.Replace(s.url(), "api.", "apy.", 1)))
			s.passes(s.types())
		},
		"name-new": func(s *scene) {
			s.serves(nil)
			call := "curl -sS " + strings.Replace(s.url(), "api.", "warehouse.", 1)
			s.fails(s.shell(call))
			s.changes("/endpoints/new?host=warehouse.localhost", func(c *termination.Config) {
				c.Endpoint("api").Aliases = []string{"warehouse.localhost"}
				c.Certificates[0] = s.certificate("api.localhost", "warehouse.localhost")
			})
			s.passes(s.shell(call))
		},
		"name-other-port": func(s *scene) {
			s.endpoint("shop", freePort(s.t), s.upstream.URL, nil)
			s.serves(nil)
			s.fails(s.shell("curl -sS " + strings.Replace(s.url(), "api.", "shop.", 1)))
			s.passes(s.types())
		},
		"name-stopped": func(s *scene) {
			s.serves(func(e *termination.Endpoint) { e.Enabled = false })
			s.endpoint("other", s.port, s.upstream.URL, nil)
			s.apply()
			s.fails(s.curl())
			s.changes("/endpoints/ep_api", func(c *termination.Config) { c.Endpoint("api").Enabled = true })
			s.passes(s.curl())
		},
		"tls-1.1": func(s *scene) {
			s.serves(nil)
			s.fails(s.openssl("-tls1_1 -cipher DEFAULT@SECLEVEL=0"))
			s.person("upgrade its TLS library")
			s.passes(s.curl())
		},
		"tls-1.2-modern": func(s *scene) {
			s.serves(func(e *termination.Endpoint) { e.Preset = termination.PresetModern })
			s.fails(s.curl("--tls-max 1.2"))
			s.person("one that speaks TLS 1.3")
			s.passes(s.curl("--tls-max 1.3"))
		},
		"tls-1.3-only": func(s *scene) {
			s.serves(func(e *termination.Endpoint) { e.MaxVersion = tls.VersionTLS12 })
			s.fails(s.curl("--tlsv1.3"))
			s.changes("/endpoints/api", func(c *termination.Config) { c.Endpoint("api").MaxVersion = 0 })
			s.passes(s.curl("--tlsv1.3"))
		},
		"suite-old": func(s *scene) {
			s.serves(nil)
			s.fails(s.curl("--tls-max 1.2 --ciphers AES128-SHA"))
			s.person("allow an ECDHE suite with AES-GCM")
			s.passes(s.curl("--tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256"))
		},
		"suite-key": func(s *scene) {
			s.serves(nil)
			s.fails(s.curl("--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256"))
			s.changes("/endpoints/api", func(c *termination.Config) {
				server := s.serverCA.Server("api.localhost", tlstest.RSA(2048))
				c.Certificates = append(c.Certificates, termination.Certificate{ID: "crt_rsa", Name: "rsa", Chain: server.Chain(), Key: server.Key})
				c.Endpoint("api").Certificates = []string{"api", "rsa"}
			})
			s.passes(s.curl("--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256"))
		},
		"group": func(s *scene) {
			s.serves(nil)
			s.fails(s.curl("--curves X448"))
			s.person("enable X25519 or P-256")
			s.passes(s.curl("--curves X25519"))
		},
		"alpn": func(s *scene) {
			s.serves(nil)
			s.fails(s.openssl("-alpn imap"))
			s.person("make it offer h2 or http/1.1")
			s.passes(s.shell(fmt.Sprintf("openssl s_client -connect api.localhost:%d -alpn h2", s.port)))
		},
		"alpn-tls": func(s *scene) {
			s.upstream = tlstest.TCP(s.t)
			s.servesBytes(func(e *termination.Endpoint) { e.ALPN = []string{"mqtt"} })
			s.fails(s.openssl("-alpn imap"))
			s.changes("/endpoints/api", func(c *termination.Config) { c.Endpoint("api").ALPN = []string{"mqtt", "imap"} })
			s.passes(s.shell(fmt.Sprintf("openssl s_client -connect api.localhost:%d -alpn imap", s.port)))
		},
		"early-data": func(s *scene) {
			s.serves(nil)
			s.fails(s.sends(withEarlyData(helloFor(s.t, "api.localhost"))))
			_ = s.fix()
			s.passes(s.visits(nil, nil))
		},
		"agent-away": func(s *scene) {
			s.agents()
			s.serves(atAgent)
			s.fails(s.curl())
			if want := "countersign agent --endpoint api --upstream "; !strings.HasPrefix(s.fix().Command, want) {
				s.t.Errorf("the command is %q", s.fix().Command)
			}
			s.agent("api", s.upstream.URL) // what that command starts
			s.passes(s.curl())
		},
		"endpoint-closed": func(s *scene) {
			s.hasLocalCA(time.Now().AddDate(-30, 0, 0))
			s.endpoint("api", s.port, s.upstream.URL, nil).Certificates = []string{termination.CertificateLocal}
			if err := s.gateway.Apply(context.Background(), s.config); err != nil {
				s.t.Fatal(err)
			}
			s.fails(s.curl())
			s.changes("/endpoints/api", func(c *termination.Config) { c.Endpoint("api").Certificates = []string{"api"} })
			s.passes(s.curl())
		},
	}
}

// certificate is what the endpoint api presents, for these names.
func (s *scene) certificate(names ...string) termination.Certificate {
	server := s.serverCA.Server(names[0], tlstest.DNS(names[1:]...))
	return termination.Certificate{ID: "crt_api", Name: "api", Chain: server.Chain(), Key: server.Key}
}

// showsCertificate makes the endpoint api present this one from the start.
func (s *scene) showsCertificate(server *tlstest.Cert) {
	s.t.Helper()
	next := *s.config
	next.Certificates = slices.Clone(next.Certificates)
	next.Certificates[0].Chain, next.Certificates[0].Key = server.Chain(), server.Key
	s.config = &next
	s.apply()
}
