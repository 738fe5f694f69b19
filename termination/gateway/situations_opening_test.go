package gateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func openingStories() map[string]func(*scene) {
	all := helloStories()
	maps.Copy(all, agreementStories())
	maps.Copy(all, serverStories())
	maps.Copy(all, afterStories())
	return all
}

// raw and sealed services speak first, as SSH does, and then hang up.
func (s *scene) servesGreeting(change func(*termination.Endpoint)) {
	s.t.Helper()
	s.upstream = tlstest.ServeTCP(s.t, func(_ context.Context, conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.9\r\n") })
	s.servesBytes(change)
}

// servesBytes is serves for any bytes inside TLS.
func (s *scene) servesBytes(change func(*termination.Endpoint)) {
	s.t.Helper()
	s.endpoint("api", s.port, "tcp://"+s.upstream.Addr, func(e *termination.Endpoint) {
		raw(e)
		if change != nil {
			change(e)
		}
	})
	s.apply()
}

// hurries makes handshakes end at a deadline that a test can wait for; rests takes that back.
func (s *scene) hurries() {
	s.limits(func(l *termination.Limits) { l.HandshakeTimeout = 200 * time.Millisecond })
}

func (s *scene) rests() { s.limits(func(l *termination.Limits) { *l = termination.DefaultLimits() }) }

func (s *scene) limits(change func(*termination.Limits)) {
	s.t.Helper()
	next := *s.config
	change(&next.Limits)
	s.config = &next
	s.apply()
}

// wraps sends bytes inside TLS, as the client does once it was told to, and wants them back from the service.
func (s *scene) wraps(data string) seen {
	s.t.Helper()
	conn := s.dial(s.port, "api.localhost", 0, nil)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, data); err != nil {
		return seen{1, err.Error()}
	}
	back := make([]byte, len(data))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != data {
		return seen{1, fmt.Sprintf("%q, %v", back, err)}
	}
	return seen{0, ""}
}

// breaksOff sends bytes and closes.
func (s *scene) breaksOff(data string) seen {
	s.t.Helper()
	conn, err := net.Dial("tcp", address(s.port))
	if err != nil {
		s.t.Fatal(err)
	}
	_, _ = io.WriteString(conn, data)
	_ = conn.Close()
	return seen{0, ""}
}

func helloStories() map[string]func(*scene) {
	plain := func(request, act string) func(*scene) {
		return func(s *scene) {
			s.upstream = tlstest.TCP(s.t)
			s.servesBytes(nil)
			s.fails(s.sends(request))
			s.person(act)
			s.passes(s.wraps(request))
		}
	}
	return map[string]func(*scene){
		"curl-http": func(s *scene) {
			s.serves(nil)
			s.fails(s.shell("curl -sS " + strings.Replace(s.url(), "https:", "http:", 1)))
			s.passes(s.types())
		},
		"curl-h2c": func(s *scene) {
			s.serves(nil)
			s.fails(s.shell("curl -sS --http2-prior-knowledge " + strings.Replace(s.url(), "https:", "http:", 1)))
			s.passes(s.types())
		},
		"ssh": func(s *scene) {
			s.servesGreeting(nil)
			s.fails(s.sends("SSH-2.0-OpenSSH_9.9\r\n"))
			_, command, _ := strings.Cut(s.fix().Command, `ProxyCommand="`)
			command, _, _ = strings.Cut(command, `"`)
			saw := s.shell(command) // what ssh runs
			if !strings.Contains(saw.text, "SSH-2.0-OpenSSH_9.9") {
				s.t.Errorf("ssh would read %q", saw.text)
			}
			s.passes(saw)
		},
		"mqtt":         plain("\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test", "mqtts://"),
		"redis":        plain("*1\r\n$4\r\nPING\r\n", "rediss://"),
		"smtp-greets":  plain("EHLO mail.example\r\n", "submissions"),
		"postgres-off": testPostgresOff,
		"postgres-plain": func(s *scene) {
			s.upstream = tlstest.TCP(s.t)
			s.servesBytes(func(e *termination.Endpoint) { e.StartTLS = termination.StartTLSPostgres })
			s.fails(s.sends("\x00\x00\x00\x11\x00\x03\x00\x00user\x00ann\x00\x00"))
			s.person("sslmode=verify-full")
			s.passes(s.shell(fmt.Sprintf("openssl s_client -starttls postgres -connect api.localhost:%d", s.port)))
		},
		"ldap-starttls": func(s *scene) {
			s.upstream = tlstest.TCP(s.t)
			s.servesBytes(nil)
			s.fails(s.openssl("-starttls ldap"))
			s.person("ldaps://")
			s.passes(s.shell(fmt.Sprintf("openssl s_client -connect api.localhost:%d", s.port)))
		},
		"smtp-waits": func(s *scene) {
			s.upstream = tlstest.TCP(s.t)
			s.servesBytes(nil)
			s.hurries()
			s.fails(s.openssl("-starttls smtp"))
			_ = s.fix()
			s.rests()
			s.passes(s.shell(fmt.Sprintf("openssl s_client -connect api.localhost:%d", s.port)))
		},
		"port-check": func(s *scene) {
			s.serves(nil)
			s.fails(s.breaksOff(""))
			_ = s.fix()
			s.passes(s.curl())
		},
		"hello-changed": func(s *scene) {
			s.serves(nil)
			hello := helloFor(s.t, "api.localhost")
			s.fails(s.sends(string(bytes.Replace(hello, []byte("api.localhost"), []byte("api.lo\x00alhost"), 1)[:20]) + strings.Repeat("\xff", len(hello)-20)))
			s.passes(s.types())
		},
		"hello-half": func(s *scene) {
			s.serves(nil)
			s.fails(s.breaksOff(string(helloFor(s.t, "api.localhost")[:100])))
			s.passes(s.types())
		},
		"hello-stalls": func(s *scene) {
			s.serves(nil)
			s.hurries()
			s.fails(s.sends(string(helloFor(s.t, "api.localhost")[:100])))
			_ = s.fix()
			s.rests()
			s.passes(s.curl())
		},
		"proxy-unexpected": func(s *scene) {
			s.serves(nil)
			s.fails(s.curl("--haproxy-protocol"))
			_ = s.fix()
			s.passes(s.curl())
		},
		"proxy-missing": func(s *scene) {
			s.serves(func(e *termination.Endpoint) {
				e.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			})
			s.fails(s.curl())
			_ = s.fix()
			s.passes(s.curl("--haproxy-protocol"))
		},
		"proxy-stranger": func(s *scene) {
			s.serves(func(e *termination.Endpoint) {
				e.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			})
			s.fails(s.curl("--haproxy-protocol"))
			s.changes("", func(c *termination.Config) {
				c.Endpoint("api").ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.1/32")}
			})
			s.passes(s.curl("--haproxy-protocol"))
		},
		"half-open": testHalfOpen,
	}
}

func testPostgresOff(s *scene) {
	s.upstream = tlstest.TCP(s.t)
	s.servesBytes(nil)
	ask := fmt.Sprintf("openssl s_client -starttls postgres -connect api.localhost:%d", s.port)
	s.fails(s.shell(ask))
	s.changes("/endpoints/api", func(c *termination.Config) { c.Endpoint("api").StartTLS = termination.StartTLSPostgres })
	s.passes(s.shell(ask))
}

func testHalfOpen(s *scene) {
	s.config.Limits.HalfOpenPerAddress = 1
	s.serves(nil)
	greedy, err := net.Dial("tcp", address(s.port))
	if err != nil {
		s.t.Fatal(err)
	}
	s.wait("the greedy program", func() bool { return s.gateway.Status().HalfOpen == 1 })
	refused := s.curl()
	for refused.exit == 7 { // the reset was there before curl had looked at its connection
		s.next()
		refused = s.curl()
	}
	s.fails(refused)
	if s.fix().Action != "/live" {
		s.t.Errorf("it leads to %q", s.fix().Action)
	}
	_ = greedy.Close() // found and stopped
	s.next()
	s.wait("its place", func() bool { return s.gateway.Status().HalfOpen == 0 })
	s.passes(s.curl())
}

// withEarlyData adds the extension early_data (RFC 8446, section 4.2.10) to a ClientHello in one record.
func withEarlyData(hello []byte) string {
	out := append(bytes.Clone(hello), 0, 42, 0, 0)
	grow := func(at int) {
		binary.BigEndian.PutUint16(out[at:], binary.BigEndian.Uint16(out[at:])+4)
	}
	grow(3)                                          // the record
	grow(7)                                          // the lower bytes of the message's length
	at := 9 + 2 + 32                                 // version and random
	at += 1 + int(out[at])                           // session
	at += 2 + int(binary.BigEndian.Uint16(out[at:])) // suites
	at += 1 + int(out[at])                           // compression
	grow(at)                                         // the extensions
	return string(out)
}
