package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
)

// shop is the endpoint's other name, which its certificate lacks at first.
const shop = "shop.localhost"

func (s *scene) servesAlias() {
	s.t.Helper()
	s.serves(func(e *termination.Endpoint) { e.Aliases = []string{shop} })
	s.showsCertificate(s.serverCA.Server("api.localhost"))
}

func (s *scene) addsName() {
	s.t.Helper()
	s.changes("/endpoints/api", func(c *termination.Config) { c.Certificates[0] = s.certificate("api.localhost", shop) })
}

func serverStories() map[string]func(*scene) {
	verifying := func(options string) func(*scene) {
		return func(s *scene) {
			s.upstream = tlstest.TCP(s.t)
			s.knows(tlstest.NewCA())
			s.servesBytes(nil)
			s.fails(s.openssl("-verify_return_error", options))
			s.passes(s.types())
		}
	}
	return map[string]func(*scene){
		"curl-no-cacert": func(s *scene) {
			s.knows(tlstest.NewCA())
			s.serves(nil)
			s.fails(s.curl())
			s.passes(s.types())
		},
		"curl-local-ca":             testLocalCA,
		"openssl-no-cafile":         verifying("-tls1_3"),
		"openssl-no-cafile-tls-1.2": verifying("-tls1_2"),
		"go-no-roots": func(s *scene) {
			s.serves(nil)
			s.fails(s.visits(&tls.Config{RootCAs: tlstest.NewCA().Pool()}, nil))
			s.person("Please check the CAs it trusts")
			s.passes(s.types())
		},
		"go-clock": func(s *scene) {
			s.serves(nil)
			s.fails(s.visits(&tls.Config{Time: func() time.Time { return time.Now().AddDate(3, 0, 0) }}, nil))
			s.types() // date -u, to compare
			s.passes(s.visits(nil, nil))
		},
		"go-name": func(s *scene) {
			s.servesAlias()
			s.fails(s.visits(&tls.Config{ServerName: shop}, nil))
			s.addsName()
			s.passes(s.visits(&tls.Config{ServerName: shop}, nil))
		},
		"openssl-name": func(s *scene) {
			s.servesAlias()
			call := fmt.Sprintf("openssl s_client -connect %s:%d -verify_hostname %s -verify_return_error", shop, s.port, shop)
			s.fails(s.shell(call + " -ign_eof"))
			s.addsName()
			s.passes(s.shell(call))
		},
		"curl-name": func(s *scene) {
			s.servesAlias()
			call := "curl -sS " + strings.Replace(s.url(), "api.localhost", shop, 1)
			s.failsAfter(s.shell(call))
			s.addsName()
			s.passes(s.shell(call))
		},
		"server-expired": func(s *scene) {
			s.serves(nil)
			s.showsCertificate(s.serverCA.Server("api.localhost", tlstest.Expired()))
			s.fails(s.curl())
			s.changes("/certificates", func(c *termination.Config) { c.Certificates[0] = s.certificate("api.localhost") })
			s.passes(s.curl())
		},
		"server-early": func(s *scene) {
			s.serves(nil)
			s.showsCertificate(s.serverCA.Server("api.localhost", tlstest.NotYetValid()))
			s.fails(s.visits(nil, nil))
			s.changes("/certificates", func(c *termination.Config) { c.Certificates[0] = s.certificate("api.localhost") })
			s.passes(s.visits(nil, nil))
		},
		"openssl-clock": func(s *scene) {
			s.serves(nil)
			ahead := time.Now().AddDate(3, 0, 0).Unix()
			s.fails(s.openssl("-verify_return_error", fmt.Sprintf("-attime %d", ahead)))
			s.types() // date -u, to compare
			s.passes(s.shell(fmt.Sprintf("openssl s_client -verify_return_error -connect api.localhost:%d", s.port)))
		},
		"left-after-certificate": func(s *scene) {
			s.serves(nil)
			conn, err := net.Dial("tcp", address(s.port))
			if err != nil {
				s.t.Fatal(err)
			}
			_, _ = conn.Write(helloFor(s.t, "api.localhost"))
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
			s.fails(seen{0, ""})
			s.passes(s.types())
		},
		"stalls-after-certificate": func(s *scene) {
			s.serves(nil)
			s.hurries()
			s.fails(s.sends(string(helloFor(s.t, "api.localhost"))))
			s.rests()
			s.passes(s.types())
		},
		"sealed-no-cafile": func(s *scene) {
			s.knows(tlstest.NewCA())
			server := s.serverCA.Server("api.localhost")
			s.upstream = tlstest.HTTPS(s.t, &tls.Config{Certificates: []tls.Certificate{server.TLS()}})
			s.servesBytes(sealed)
			s.fails(s.openssl("-verify_return_error -tls1_2"))
			s.passes(s.types())
		},
	}
}

func testLocalCA(s *scene) {
	s.hasLocalCA(time.Now())
	s.endpoint("api", s.port, s.upstream.URL, nil).Certificates = []string{termination.CertificateLocal}
	s.apply()
	s.fails(s.curl())
	s.passes(s.types())
}

// hasLocalCA gives the gateway a local CA that was made at that time, and the client its certificate.
func (s *scene) hasLocalCA(made time.Time) {
	s.t.Helper()
	local, err := localca.Create(localca.Options{Name: "local", Now: made})
	if err != nil {
		s.t.Fatal(err)
	}
	s.config.LocalCAs = []termination.LocalCA{*local}
	s.config.Authorities = append(s.config.Authorities, termination.Authority{
		ID: "ca_local", Name: "local", Certificates: []termination.CACertificate{{Certificate: local.Certificate, Role: termination.RoleAnchor}},
	})
	s.write("local-ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: local.Certificate.Raw}))
}

func afterStories() map[string]func(*scene) {
	status := "-i"
	return map[string]func(*scene){
		"upstream-moved": func(s *scene) {
			s.endpoint("api", s.port, "http://"+address(freePort(s.t)), nil)
			s.apply()
			s.failsAfter(s.curl(status))
			s.changes("/endpoints/api", func(c *termination.Config) {
				c.Endpoint("api").Upstream, _ = termination.ParseUpstream(s.upstream.URL)
			})
			s.passes(s.curl())
		},
		"upstream-stopped":        testServiceStopped,
		"upstream-stopped-sealed": testSealedServiceStopped,
		"other-host": func(s *scene) {
			s.serves(nil)
			s.failsAfter(s.curl(status, "-H 'Host: shop.localhost'"))
			s.passes(s.types())
		},
		"token-missing": func(s *scene) {
			const token = "a-token-that-nobody-guesses-0123456789"
			s.config.Credentials = []termination.Credential{{ID: "cred_1", Name: "ci", Kind: termination.ProofBearer, Hash: "sha256:234f606f4ee6e1f776af0f3d7ff259a6b9642c6824a2e496f04449b11d45eade"}}
			s.serves(func(e *termination.Endpoint) { e.Also.AllOf = []termination.ProofKind{termination.ProofBearer} })
			s.failsAfter(s.curl(status))
			s.passes(s.shell(strings.Replace(s.fix().Command, "TOKEN", token, 1)))
		},
		"password-wrong": func(s *scene) {
			s.config.Credentials = []termination.Credential{{ID: "cred_1", Name: "ann", User: "ann", Kind: termination.ProofBasic, Hash: "$2a$08$n0VlN9bTGjnPLjudHJGjhuyHB6zbk2bsAD8W2L8CoajSvgWygHZOa"}}
			s.serves(func(e *termination.Endpoint) { e.Also.AllOf = []termination.ProofKind{termination.ProofBasic} })
			s.failsAfter(s.curl(status, "--user ann:wrong"))
			s.passes(s.shell(strings.Replace(s.fix().Command, "NAME:PASSWORD", "ann:right-horse-battery", 1)))
		},
		"not-http": func(s *scene) {
			s.serves(nil)
			s.failsAfter(s.shell(fmt.Sprintf(`printf 'HELLO\r\n\r\n' | openssl s_client -quiet -connect api.localhost:%d`, s.port)))
			s.passes(s.types())
		},
		"cookies-large": func(s *scene) {
			s.config.Limits.Header = 8 << 10
			s.serves(nil)
			s.failsAfter(s.curl(status, "--http1.1 -H 'Cookie: x="+strings.Repeat("x", 16<<10)+"'"))
			s.person("send less at once")
			s.passes(s.curl("-b cookie=x"))
		},
		"certificate-large": func(s *scene) {
			s.holds("client", s.devices.Client("large", tlstest.ManyNames(900)))
			s.serves(func(e *termination.Endpoint) {
				require("devices")(e)
				e.ForwardIdentity = []termination.IdentityFormat{termination.IdentityRFC9440}
			})
			s.failsAfter(s.curl("--cert client.crt --key client.key"))
			s.changes("/endpoints/api", func(c *termination.Config) {
				e := c.Endpoint("api")
				e.ForwardIdentity, e.ForwardHeaders = nil, []termination.ForwardHeader{{Name: "X-Client-Fingerprint", Value: "client.fingerprint"}}
			})
			s.passes(s.curl("--cert client.crt --key client.key"))
		},
		"rate-connections": func(s *scene) {
			s.upstream = tlstest.TCP(s.t)
			s.meters()
			s.servesBytes(require("devices"))
			s.passes(s.meterCalls())
			s.fails(s.openssl("-cert client.crt -key client.key"))
			s.person("keep connections open, and wait before trying again")
			s.later(time.Hour)
			s.passes(s.meterCalls())
		},
		"rate-requests": func(s *scene) {
			s.meters()
			s.serves(require("devices"))
			s.passes(s.curl("--cert client.crt --key client.key"))
			s.failsAfter(s.curl(status, "--cert client.crt --key client.key"))
			s.person("wait before trying again")
			s.later(time.Hour)
			s.passes(s.curl("--cert client.crt --key client.key"))
		},
		"acme-check": func(s *scene) {
			s.serves(nil)
			answer := tlstest.SelfSigned(tlstest.DNS("api.localhost")).TLS()
			s.obtained.Present("api.localhost", &answer)
			s.failsUnverified(s.openssl("-alpn acme-tls/1"))
			_ = s.fix()
			s.obtained.Withdraw("api.localhost")
			s.showsCertificate(s.serverCA.Server("api.localhost")) // the certificate that comes next
			s.passes(s.curl())
		},
		"restart": testRestart,
	}
}

// meters makes the client the identity meter, which may connect once an hour.
func (s *scene) meters() {
	meter := s.devices.Client("meter")
	s.holds("client", meter)
	s.register("meter", meter, termination.Rate{Count: 1, Per: time.Hour}, "api")
}

func (s *scene) meterCalls() seen {
	s.t.Helper()
	return s.shell(fmt.Sprintf("openssl s_client -connect api.localhost:%d -cert client.crt -key client.key", s.port))
}

func testServiceStopped(s *scene) {
	port := freePort(s.t)
	s.endpoint("api", s.port, "http://"+address(port), nil)
	s.apply()
	s.failsAfter(s.curl("-i"))
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		s.t.Fatal(err)
	}
	forward(s, l, s.upstream.Addr)
	s.types()
	s.passes(s.curl())
}

func testSealedServiceStopped(s *scene) {
	server := s.serverCA.Server("api.localhost")
	s.upstream = tlstest.HTTPS(s.t, &tls.Config{Certificates: []tls.Certificate{server.TLS()}})
	s.endpoint("api", s.port, "tcp://"+address(freePort(s.t)), sealed)
	s.apply()
	s.fails(s.openssl())
	s.changes("/endpoints/api", func(c *termination.Config) {
		c.Endpoint("api").Upstream, _ = termination.ParseUpstream("tcp://" + s.upstream.Addr)
	})
	s.passes(s.shell(fmt.Sprintf("openssl s_client -connect api.localhost:%d", s.port)))
}

// forward starts the service that was stopped: what comes there is answered by another.
func forward(s *scene, l net.Listener, to string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			behind, err := net.Dial("tcp", to)
			if err != nil {
				_ = conn.Close()
				continue
			}
			go func() { _, _ = io.Copy(behind, conn); _ = behind.Close() }()
			go func() { _, _ = io.Copy(conn, behind); _ = conn.Close() }()
		}
	}()
	s.t.Cleanup(func() { _ = l.Close(); <-done })
}

func testRestart(s *scene) {
	s.serves(nil)
	conn, err := net.Dial("tcp", address(s.port))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	s.wait("the connection", func() bool { return s.gateway.Status().HalfOpen == 1 })
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	_ = s.gateway.Close(ctx) // says that a connection was cut
	s.fails(seen{0, ""})
	_ = s.fix()
	again := newScene(s.t, s.situation)
	again.port = s.port
	again.fixed = s.fixed // it is the same gateway, started again
	again.serves(nil)
	again.passes(again.curl())
	s.passed = again.passed
}
