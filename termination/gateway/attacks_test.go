package gateway_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A ticket of one endpoint must not resume into another (CVE-2025-23419), in either version.
func TestTicketsStayWithTheirEndpoint(t *testing.T) {
	devices, partners := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Partners"))
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.trust("devices", devices)
	r.trust("partners", partners)
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, require("devices"))
	r.endpoint("b", port, upstream.URL, require("partners"))
	r.endpoint("twin", port, upstream.URL, require("devices"))
	r.apply()
	alice := devices.Client("alice")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(1)
		attempt := func(name string) (*termination.Handshake, error) {
			config := r.clientConfig(name+".localhost", version, alice)
			config.ClientSessionCache = oneSlot{cache}
			config.InsecureSkipVerify = true // else crypto/tls would not offer the ticket under another name
			_, _, err := get(config, port, name+".localhost")
			return r.next(), err
		}
		for i, resumed := range []bool{false, true} {
			if rec, err := attempt("a"); err != nil || rec.Chosen.Resumed != resumed {
				t.Fatalf("%s: connection %d to a: resumed %+v, %v", tls.VersionName(version), i, rec.Chosen, err)
			}
		}
		if rec, err := attempt("b"); err == nil || rec.Verdict.Outcome != termination.OutcomeRefused {
			t.Errorf("%s: a ticket of a let alice into b: %s", tls.VersionName(version), rec.Verdict.Outcome)
		}
		if rec, err := attempt("a"); err != nil {
			t.Fatal(err, rec.Error)
		}
		if rec, err := attempt("twin"); err != nil || rec.Chosen.Resumed {
			t.Errorf("%s: a ticket of a resumed at an endpoint with the same policy: %+v, %v", tls.VersionName(version), rec.Chosen, err)
		}
	}
}

// oneSlot is the cache of an attacker: whatever the name, it offers the last ticket.
type oneSlot struct{ tls.ClientSessionCache }

func (o oneSlot) Get(string) (*tls.ClientSessionState, bool) { return o.ClientSessionCache.Get("x") }
func (o oneSlot) Put(_ string, s *tls.ClientSessionState)    { o.ClientSessionCache.Put("x", s) }

// A ticket dies with the policy under which it was issued, and does not come back when the policy does.
func TestTicketsDieWithThePolicy(t *testing.T) {
	devices, partners := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Partners"))
	upstream := tlstest.HTTP(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newRig(t)
		r.trust("devices", devices)
		r.trust("partners", partners)
		port := freePort(t)
		r.endpoint("a", port, upstream.URL, require("devices"))
		r.apply()
		cache := tls.NewLRUClientSessionCache(1)
		attempt := func() (*termination.Handshake, error) {
			config := r.clientConfig("a.localhost", version, devices.Client("alice"))
			config.ClientSessionCache = oneSlot{cache}
			_, _, err := get(config, port, "a.localhost")
			return r.next(), err
		}
		if _, err := attempt(); err != nil {
			t.Fatal(err)
		}
		saved, _ := cache.Get("x")
		r.change("a", require("partners"))
		if rec, err := attempt(); err == nil || rec.Verdict.Outcome != termination.OutcomeRefused {
			t.Errorf("%s: alice came in after her CA was dropped: %s", tls.VersionName(version), rec.Verdict.Outcome)
		}
		r.change("a", require("devices"))
		cache.Put("x", saved)
		if rec, err := attempt(); err != nil || rec.Chosen.Resumed {
			t.Errorf("%s: a ticket of an older revision resumed: %+v, %v", tls.VersionName(version), rec.Chosen, err)
		}
	}
}

// A change that leaves an endpoint alone leaves its tickets and connections alone too.
func TestUnrelatedChangeKeepsTickets(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, require("devices"))
	r.endpoint("b", port, upstream.URL, nil)
	r.apply()
	cache := tls.NewLRUClientSessionCache(1)
	for i, resumed := range []bool{false, true} {
		config := r.clientConfig("a.localhost", tls.VersionTLS13, devices.Client("alice"))
		config.ClientSessionCache = cache
		if _, _, err := get(config, port, "a.localhost"); err != nil {
			t.Fatal(err)
		}
		if rec := r.next(); rec.Chosen.Resumed != resumed {
			t.Errorf("connection %d: resumed is %v", i, rec.Chosen.Resumed)
		}
		r.change("b", func(e *termination.Endpoint) { e.Enabled = false })
	}
}

// A connection of one endpoint must not reach another by its Host, and an ambiguous path must not reach a laxer route.
func TestHostAndPathAreBoundaries(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	public, private := tlstest.HTTP(t), tlstest.HTTP(t)
	r := newRig(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("public", port, public.URL, func(e *termination.Endpoint) {
		strict := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Announce: true, OnLoss: termination.OnLossClose}
		e.Routes = []termination.Route{{Path: "/admin", ClientAuth: &strict}}
	})
	r.endpoint("private", port, private.URL, require("devices"))
	r.apply()

	requests := map[string]int{
		"GET / HTTP/1.1\r\nHost: private.localhost\r\n\r\n":                         421,
		"GET / HTTP/1.1\r\nHost: PRIVATE.localhost.\r\n\r\n":                        421,
		"GET / HTTP/1.1\r\nHost: private.localhost:443\r\n\r\n":                     421,
		"GET https://private.localhost/ HTTP/1.1\r\nHost: public.localhost\r\n\r\n": 0,
		"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n":                               421,
		"GET /admin HTTP/1.1\r\nHost: public.localhost\r\n\r\n":                     403,
		"GET /admin/x HTTP/1.1\r\nHost: public.localhost\r\n\r\n":                   403,
		"GET /x/../admin HTTP/1.1\r\nHost: public.localhost\r\n\r\n":                400,
		"GET //admin HTTP/1.1\r\nHost: public.localhost\r\n\r\n":                    400,
		"GET /%2e%2e/admin HTTP/1.1\r\nHost: public.localhost\r\n\r\n":              400,
		"GET /x%2fadmin HTTP/1.1\r\nHost: public.localhost\r\n\r\n":                 400,
		"GET /admin;x HTTP/1.1\r\nHost: public.localhost\r\n\r\n":                   400,
		"GET /adminx HTTP/1.1\r\nHost: public.localhost\r\n\r\n":                    200,
	}
	for request, want := range requests {
		t.Run(strings.SplitN(request, " HTTP", 2)[0], func(t *testing.T) {
			conn, err := tls.Dial("tcp", address(port), r.clientConfig("public.localhost", tls.VersionTLS13, nil))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			answer := make([]byte, 12)
			if _, err := io.ReadFull(conn, answer); err != nil {
				t.Fatal(err)
			}
			got := string(answer[9:12])
			if want == 0 && got != "400" && got != "421" || want != 0 && got != http.StatusText(want) && got != itoa(want) {
				t.Errorf("status %s, want %d", got, want)
			}
		})
	}
	if private.Requests() != 0 {
		t.Errorf("the private upstream saw %d requests", private.Requests())
	}
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// A hello that comes in tiny records or tiny segments, or is very large, leads to its own endpoint or is refused; never
// to another one (CVE-2026-32305).
func TestFragmentedHello(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	port := freePort(t)
	r.endpoint("strict", port, upstream.URL, nil)
	r.endpoint("back", port, upstream.URL, func(e *termination.Endpoint) { e.Host = "" })
	r.apply()
	for _, size := range []int{1, 3, 64, 1000} {
		raw, err := net.Dial("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		conn := tls.Client(&fragmenting{Conn: raw, size: size}, r.clientConfig("strict.localhost", tls.VersionTLS13, nil))
		if err := conn.Handshake(); err != nil {
			t.Errorf("records of %d bytes: %v", size, err)
		}
		conn.Close()
		if rec := r.next(); rec.Endpoint != "strict" || rec.Hello.Records < 2 {
			t.Errorf("records of %d bytes led to %q, in %d records", size, rec.Endpoint, rec.Hello.Records)
		}
	}
}

// fragmenting cuts the first flight into TLS records of a given size, each written alone.
type fragmenting struct {
	net.Conn
	size int
	done bool
}

func (f *fragmenting) Write(p []byte) (int, error) {
	if f.done {
		return f.Conn.Write(p)
	}
	f.done = true
	for body := p[5:]; len(body) > 0; {
		n := min(f.size, len(body))
		record := append([]byte{22, 3, 1, byte(n >> 8), byte(n)}, body[:n]...)
		if _, err := f.Conn.Write(record); err != nil {
			return 0, err
		}
		body = body[n:]
	}
	return len(p), nil
}

// A client that stays inside when the policy gets stricter is put out, on every kind of connection.
func TestLiveConnectionsAreJudgedAgain(t *testing.T) {
	devices, partners := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Partners"))
	echo, raw := tlstest.HTTP(t), tlstest.TCP(t)
	for _, scheme := range []termination.Scheme{termination.SchemeHTTPS, termination.SchemeTLS} {
		t.Run(string(scheme), func(t *testing.T) {
			r := newRig(t)
			r.trust("devices", devices)
			r.trust("partners", partners)
			port := freePort(t)
			target := echo.URL
			if scheme == termination.SchemeTLS {
				target = raw.URL
			}
			r.endpoint("a", port, target, func(e *termination.Endpoint) {
				require("devices", "partners")(e)
				e.Scheme = scheme
			})
			r.apply()
			dial := func(ca *tlstest.Cert, name string) *tls.Conn {
				conn, err := tls.Dial("tcp", address(port), r.clientConfig("a.localhost", tls.VersionTLS13, ca.Client(name)))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				_ = conn.SetDeadline(time.Now().Add(patience))
				return conn
			}
			alice, bob := dial(devices, "alice"), dial(partners, "bob")
			gone := map[string]*termination.Handshake{}
			for range 2 {
				rec := r.next()
				gone[rec.Client.Name] = rec
			}
			r.change("a", func(e *termination.Endpoint) { e.ClientAuth.Authorities = []string{"partners"} })
			if _, err := io.ReadAll(alice); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("alice was not put out")
			}
			if end := r.end(gone["alice"].ID); end.ClosedBy != termination.ClosedByPolicy {
				t.Errorf("alice's connection was closed by %s", end.ClosedBy)
			}
			message := []byte("GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
			if _, err := bob.Write(message); err != nil {
				t.Fatal("bob was put out too:", err)
			}
			answer := make([]byte, 8)
			if _, err := io.ReadFull(bob, answer); err != nil || scheme == termination.SchemeHTTPS && !bytes.HasPrefix(answer, []byte("HTTP/1.1")) {
				t.Errorf("bob got %q, %v", answer, err)
			}
		})
	}
}
