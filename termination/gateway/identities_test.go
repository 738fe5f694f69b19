package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// everywhere runs a test at the edge and at agents, in both versions of TLS.
func everywhere(t *testing.T, test func(t *testing.T, r *rig, version uint16)) {
	for where, start := range map[string]func(*testing.T) *rig{"edge": newRig, "agent": newAgentRig} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(where+" "+tls.VersionName(version), func(t *testing.T) {
				t.Parallel() // they wait for records most of the time
				test(t, start(t), version)
			})
		}
	}
}

// register adds an identity that is known by a certificate.
func (r *rig) register(name string, cert *tlstest.Cert, rate termination.Rate, endpoints ...string) {
	r.config.Identities = append(r.config.Identities, termination.Identity{
		ID: "id_" + name, Name: name, Endpoints: endpoints, Rate: rate,
		Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(cert.X509)}},
	})
}

// changeIdentity changes one in a copy of the configuration and applies it.
func (r *rig) changeIdentity(name string, f func(*termination.Identity)) {
	r.t.Helper()
	next := *r.config
	next.Identities = append([]termination.Identity(nil), r.config.Identities...)
	for i := range next.Identities {
		if next.Identities[i].Name == name {
			f(&next.Identities[i])
		}
	}
	r.config = &next
	r.apply()
}

// Tyk's dynamic mTLS: a certificate that signed itself is the credential where its identity says, and nowhere else.
func TestIdentityIsTheCredential(t *testing.T) {
	devices, service := tlstest.NewCA(tlstest.CN("Devices")), tlstest.HTTP(t)
	everywhere(t, func(t *testing.T, r *rig, version uint16) {
		port := freePort(t)
		r.trust("devices", devices)
		meter, pinned := tlstest.SelfSigned(tlstest.CN("meter")), tlstest.SelfSigned(tlstest.CN("other"))
		r.endpoint("readings", port, service.URL, require())
		r.endpoint("admin", port, service.URL, require("devices"))
		r.endpoint("pins", port, service.URL, func(e *termination.Endpoint) {
			require()(e)
			e.ClientAuth.Pins = []termination.Pin{{Fingerprint: termination.FingerprintOf(pinned.X509)}}
		})
		r.register("meter", meter, termination.Rate{}, "readings")
		r.apply()
		if status, _, err := get(r.clientConfig("readings.localhost", version, meter), port, "readings.localhost"); err != nil || status != 200 {
			t.Fatalf("%d, %v", status, err)
		}
		rec := r.next()
		if rec.Verdict.Outcome != termination.OutcomeVerified || rec.Client.Identity != "meter" || rec.Client.IdentityID != "id_meter" {
			t.Errorf("recorded %+v, client %+v", rec.Verdict, rec.Client)
		}
		for _, host := range []string{"admin", "pins"} {
			if status, _, err := get(r.clientConfig(host+".localhost", version, meter), port, host+".localhost"); err == nil {
				t.Fatalf("%s answered %d", host, status)
			}
			rec := r.next()
			if rec.Verdict.Reason != termination.ReasonIdentityElsewhere || rec.Verdict.Outcome != termination.OutcomeRefused || rec.Client.IdentityID != "id_meter" {
				t.Errorf("%s: recorded %+v, client %+v", host, rec.Verdict, rec.Client)
			}
			if s := rec.Verdict.Explanation.Sentence; !strings.Contains(s, "may come in at readings") {
				t.Errorf("%s: explained by %q", host, s)
			}
		}
		// P5: the registered certificate sent along with another proves nothing.
		stranger := r.clientConfig("readings.localhost", version, nil)
		stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c := tlstest.SelfSigned(tlstest.CN("stranger")).TLSWith(meter)
			return &c, nil
		}
		if status, _, err := get(stranger, port, "readings.localhost"); err == nil {
			t.Errorf("P5: answered %d", status)
		}
		if rec := r.next(); rec.Client.IdentityID != "" || rec.Verdict.Reason != termination.ReasonNotListed {
			t.Errorf("P5: recorded %+v, client %+v", rec.Verdict, rec.Client)
		}
	})
}

// A change of another endpoint's identity costs nobody the ticket; one that is moved away is refused with its ticket.
func TestTicketsAndIdentities(t *testing.T) {
	devices, service := tlstest.NewCA(tlstest.CN("Devices")), tlstest.HTTP(t)
	everywhere(t, func(t *testing.T, r *rig, version uint16) {
		port := freePort(t)
		r.trust("devices", devices)
		alice := devices.Client("alice")
		r.endpoint("api", port, service.URL, require("devices"))
		r.endpoint("other", port, service.URL, require("devices"))
		r.config.Identities = []termination.Identity{
			{ID: "id_alice", Name: "alice", Matches: []termination.Subject{{Authority: "devices", CN: "alice"}}},
			{ID: "id_bob", Name: "bob", Matches: []termination.Subject{{Authority: "devices", CN: "bob"}}, Endpoints: []string{"other"}},
		}
		r.apply()
		config := r.clientConfig("api.localhost", version, alice)
		config.ClientSessionCache = oneSlot{tls.NewLRUClientSessionCache(1)}
		attempt := func(resumed bool) {
			t.Helper()
			if status, _, err := get(config, port, "api.localhost"); err != nil || status != 200 {
				t.Fatalf("%d, %v", status, err)
			}
			if rec := r.next(); rec.Chosen.Resumed != resumed || rec.Client.Identity != "alice" {
				t.Errorf("resumed %v, want %v; %+v", rec.Chosen.Resumed, resumed, rec.Client)
			}
		}
		attempt(false)
		attempt(true)
		r.changeIdentity("bob", func(i *termination.Identity) { i.Pins = []termination.Pin{{Fingerprint: termination.Fingerprint{7}}} })
		attempt(true)
		r.changeIdentity("alice", func(i *termination.Identity) { i.Endpoints = []string{"other"} })
		if status, _, err := get(config, port, "api.localhost"); err == nil {
			t.Fatalf("with the ticket of before: answered %d", status)
		}
		if rec := r.next(); rec.Verdict.Reason != termination.ReasonIdentityElsewhere {
			t.Errorf("recorded %+v", rec.Verdict)
		}
	})
}

// Live connections of an identity end when it is blocked or moved away, and blocking holds for tickets.
func TestBlockedIdentityIsCut(t *testing.T) {
	echo := tlstest.TCP(t).Addr
	for name, change := range map[string]func(*termination.Identity){
		"blocked":    func(i *termination.Identity) { i.Blocked = true },
		"moved away": func(i *termination.Identity) { i.Endpoints = []string{"b"} },
	} {
		everywhere(t, func(t *testing.T, r *rig, version uint16) {
			port := freePort(t)
			meter, other := tlstest.SelfSigned(tlstest.CN("meter")), tlstest.SelfSigned(tlstest.CN("other"))
			for _, e := range []string{"a", "b"} {
				r.endpoint(e, port, "tcp://"+echo, func(e *termination.Endpoint) { asTLS(e); require()(e) })
			}
			r.register("meter", meter, termination.Rate{}, "a")
			r.register("other", other, termination.Rate{}, "a", "b")
			r.apply()
			stays, err := r.echoIn("a", port, version, other)
			if err != nil {
				t.Fatal(err)
			}
			defer stays.Close()
			r.next()
			conn, err := r.echoIn("a", port, version, meter)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			first := r.next()
			r.changeIdentity("meter", change)
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("still connected")
			}
			if end := r.end(first.ID); end.ClosedBy != termination.ClosedByPolicy {
				t.Errorf("%s: closed by %q", name, end.ClosedBy)
			}
			if _, err := fmt.Fprintln(stays, "still here"); err != nil {
				t.Error(err)
			}
			if line, err := bufio.NewReader(stays).ReadString('\n'); err != nil || line != "still here\n" {
				t.Errorf("another identity's connection: %q, %v", line, err)
			}
			if c, err := r.echoIn("a", port, version, meter); err == nil {
				c.Close()
				t.Error("let in again")
			}
			want := map[bool]termination.Reason{true: termination.ReasonBlocked, false: termination.ReasonIdentityElsewhere}[name == "blocked"]
			if rec := r.next(); rec.Verdict.Reason != want || rec.Client.Identity != "meter" {
				t.Errorf("recorded %s of %q, want %s", rec.Verdict.Reason, rec.Client.Identity, want)
			}
		})
	}
}

// On a connection that stays open, requests are judged by the identities of the moment, although the policy's hash is the
// same.
func TestRequestsOfAnIdentityMovedAway(t *testing.T) {
	devices, service := tlstest.NewCA(tlstest.CN("Devices")), tlstest.HTTP(t)
	everywhere(t, func(t *testing.T, r *rig, version uint16) {
		port := freePort(t)
		r.trust("devices", devices)
		r.endpoint("api", port, service.URL, func(e *termination.Endpoint) {
			require("devices")(e)
			e.ClientAuth.OnLoss = termination.OnLossLeave
		})
		r.endpoint("other", port, service.URL, require("devices"))
		r.config.Identities = []termination.Identity{{ID: "id_alice", Name: "alice", Matches: []termination.Subject{{Authority: "devices", CN: "alice"}}}}
		r.apply()
		conn, err := tls.Dial("tcp", address(port), r.clientConfig("api.localhost", version, devices.Client("alice")))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(conn)
		ask := func() int {
			t.Helper()
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: api.localhost\r\n\r\n")
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			return res.StatusCode
		}
		if status := ask(); status != 200 {
			t.Fatalf("answered %d", status)
		}
		r.changeIdentity("alice", func(i *termination.Identity) { i.Endpoints = []string{"other"} })
		if status := ask(); status != 403 {
			t.Errorf("moved away: answered %d", status)
		}
		r.changeIdentity("alice", func(i *termination.Identity) { i.Endpoints = nil })
		if status := ask(); status != 200 {
			t.Errorf("back again: answered %d", status)
		}
	})
}

// echoIn is echoTLS in one version of TLS.
func (r *rig) echoIn(name string, port, version uint16, cert *tlstest.Cert) (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", address(port), r.clientConfig(name+".localhost", version, cert))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err = fmt.Fprintln(conn, "hello"); err == nil {
		var line string
		if line, err = bufio.NewReader(conn).ReadString('\n'); err == nil && line == "hello\n" {
			return conn, nil
		}
	}
	_ = conn.Close()
	return nil, fmt.Errorf("echo: %w", err)
}

// Connections of a tls endpoint count, over all endpoints, and a stranger with the certificate but not the key uses
// nothing up.
func TestRateOfConnections(t *testing.T) {
	echo := tlstest.TCP(t).Addr
	everywhere(t, func(t *testing.T, r *rig, version uint16) {
		port := freePort(t)
		meter := tlstest.SelfSigned(tlstest.CN("meter"))
		r.endpoint("a", port, "tcp://"+echo, func(e *termination.Endpoint) { asTLS(e); require()(e) })
		r.register("meter", meter, termination.Rate{Count: 1, Per: time.Hour, Burst: 3}, "a")
		r.apply()
		thief := r.clientConfig("a.localhost", version, nil)
		thief.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c := meter.TLS()
			c.PrivateKey = tlstest.SelfSigned(tlstest.FreshKey()).Key
			return &c, nil
		}
		for range 5 {
			if conn, err := tls.Dial("tcp", address(port), thief); err == nil {
				_, err = conn.Read(make([]byte, 1))
				conn.Close()
				if err == nil {
					t.Fatal("in without the key")
				}
			}
			if rec := r.next(); rec.Verdict.Reason != termination.ReasonKeyProof {
				t.Fatalf("recorded %+v", rec.Verdict)
			}
		}
		for i := range 4 {
			conn, err := r.echoIn("a", port, version, meter)
			if err == nil {
				conn.Close()
			}
			if (err == nil) != (i < 3) {
				t.Fatalf("connection %d: %v", i+1, err)
			}
			rec := r.next()
			if i < 3 {
				continue
			}
			if rec.Verdict.Reason != termination.ReasonRateLimited || rec.Verdict.Outcome != termination.OutcomeRefused || rec.Client.Identity != "meter" {
				t.Errorf("recorded %+v of %+v", rec.Verdict, rec.Client)
			}
			if rec.Alert == nil || rec.Alert.Number != 42 {
				t.Errorf("alert %+v", rec.Alert)
			}
			if s := rec.Verdict.Explanation.Sentence; !strings.Contains(s, "1/h with up to 3 connections at once") {
				t.Errorf("explained by %q", s)
			}
		}
		// A change that is not the rate's gives nothing back; another rate begins anew.
		r.changeIdentity("meter", func(i *termination.Identity) {
			i.Pins = append(i.Pins, termination.Pin{Fingerprint: termination.Fingerprint{1}})
		})
		if conn, err := r.echoIn("a", port, version, meter); err == nil {
			conn.Close()
			t.Error("a change of its pins filled the bucket")
		}
		r.next()
		r.changeIdentity("meter", func(i *termination.Identity) { i.Rate.Burst = 1 })
		conn, err := r.echoIn("a", port, version, meter)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
}

// Requests count in HTTP, over all endpoints together.
func TestRateOfRequests(t *testing.T) {
	service := tlstest.HTTP(t)
	everywhere(t, func(t *testing.T, r *rig, version uint16) {
		port := freePort(t)
		meter := tlstest.SelfSigned(tlstest.CN("meter"))
		r.endpoint("a", port, service.URL, require())
		if !r.byAgents { // each agent counts on its own
			r.endpoint("b", port, service.URL, require())
			r.register("meter", meter, termination.Rate{Count: 2, Per: time.Hour}, "a", "b")
		} else {
			r.register("meter", meter, termination.Rate{Count: 2, Per: time.Hour}, "a")
		}
		r.apply()
		hosts := []string{"a", "b", "a"}
		if r.byAgents {
			hosts = []string{"a", "a", "a"}
		}
		for i, host := range hosts {
			status, body, header := r.request(host, port, version, meter)
			rec := r.next()
			if i < 2 {
				if status != 200 {
					t.Fatalf("request %d: %d %s", i+1, status, body)
				}
				continue
			}
			wait, err := strconv.Atoi(header.Get("Retry-After"))
			if status != http.StatusTooManyRequests || err != nil || wait < 1700 || wait > 1800 {
				t.Errorf("answered %d, Retry-After %q", status, header.Get("Retry-After"))
			}
			if header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, rec.ID) || !strings.Contains(body, `"code":"rate_limited"`) {
				t.Errorf("answered %s", body)
			}
			if end := r.end(rec.ID); end.Reason != termination.ReasonRateLimited || !strings.Contains(end.Detail, "meter") {
				t.Errorf("ended %+v", end)
			}
		}
	})
}

// request makes one request on a connection of its own.
func (r *rig) request(host string, port, version uint16, cert *tlstest.Cert) (int, string, http.Header) {
	r.t.Helper()
	conn, err := tls.Dial("tcp", address(port), r.clientConfig(host+".localhost", version, cert))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s.localhost\r\nConnection: close\r\n\r\n", host)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body := new(strings.Builder)
	if _, err := bufio.NewReader(res.Body).WriteTo(body); err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, body.String(), res.Header
}
