package gateway_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// cast are those who come in in the tests of losses: alice loses her right, and bob keeps his.
type cast struct {
	devices, partners *tlstest.Cert
	alice, bob        *tlstest.Cert
}

func newCast() *cast {
	c := &cast{devices: tlstest.NewCA(tlstest.CN("Devices")), partners: tlstest.NewCA(tlstest.CN("Partners"))}
	c.alice, c.bob = c.devices.Client("alice"), c.partners.Client("bob")
	return c
}

func pin(c *tlstest.Cert) termination.Pin {
	return termination.Pin{Fingerprint: termination.FingerprintOf(c.X509)}
}

// TestLossesCut: whatever takes alice's right away closes her live connections, of every kind and in both versions of TLS,
// at the edge and at an agent, and the record says why. Bob's stay.
func TestLossesCut(t *testing.T) {
	allow := termination.Rule{Effect: termination.EffectAllow, Subject: termination.Subject{}}
	refuse := termination.Rule{Effect: termination.EffectRefuse, Subject: termination.Subject{CN: "alice", Authority: "devices"}}
	block := func(b termination.Block) func(*theatre, *cast) {
		return func(th *theatre, _ *cast) {
			th.reapply(func(c *termination.Config) { c.Blocked = append(c.Blocked, b) })
		}
	}
	for name, test := range map[string]struct {
		policy  func(*cast, *termination.Endpoint)
		before  func(*cast, *termination.Config)
		alone   bool // nobody keeps the right to be here
		lose    func(*theatre, *cast)
		reasons []termination.Reason
	}{
		"a certificate is blocked": {
			lose:    func(th *theatre, c *cast) { p := pin(c.alice); block(termination.Block{Pin: &p, Why: "lost"})(th, c) },
			reasons: []termination.Reason{termination.ReasonBlocked},
		},
		"a key is blocked": {
			lose: func(th *theatre, c *cast) {
				block(termination.Block{Pin: &termination.Pin{Fingerprint: termination.KeyFingerprintOf(c.alice.X509), Key: true}})(th, c)
			},
			reasons: []termination.Reason{termination.ReasonBlocked},
		},
		"a serial number is blocked": {
			lose: func(th *theatre, c *cast) {
				block(termination.Block{Serial: termination.SerialOf(c.alice.X509), Authority: "devices"})(th, c)
			},
			reasons: []termination.Reason{termination.ReasonBlocked},
		},
		"the local CA revokes it": {
			lose: func(th *theatre, c *cast) {
				th.reapply(func(config *termination.Config) {
					config.Authorities = slices.Clone(config.Authorities)
					config.Authorities[0].Revocation.Revoked = []termination.RevokedCertificate{{Serial: termination.SerialOf(c.alice.X509), Reason: "key lost"}}
				})
			},
			reasons: []termination.Reason{termination.ReasonRevoked},
		},
		"an authority is taken out": {
			lose: func(th *theatre, _ *cast) {
				th.reapply(th.policy(func(a *termination.ClientAuth) { a.Authorities = []string{"partners"} }))
			},
			reasons: []termination.Reason{termination.ReasonCAUnknown, termination.ReasonCAOtherEndpoint},
		},
		"a pin is taken out": {
			policy: func(c *cast, e *termination.Endpoint) {
				e.ClientAuth.Authorities, e.ClientAuth.Pins = nil, []termination.Pin{pin(c.alice), pin(c.bob)}
			},
			lose: func(th *theatre, c *cast) {
				th.reapply(th.policy(func(a *termination.ClientAuth) { a.Pins = []termination.Pin{pin(c.bob)} }))
			},
			reasons: []termination.Reason{termination.ReasonNotListed},
		},
		"a rule is tightened": {
			lose: func(th *theatre, _ *cast) {
				th.reapply(th.policy(func(a *termination.ClientAuth) { a.Rules = []termination.Rule{refuse, allow} }))
			},
			reasons: []termination.Reason{termination.ReasonPolicyDenied},
		},
		"report-only is enforced": {
			policy: func(_ *cast, e *termination.Endpoint) {
				e.ClientAuth.Authorities, e.ClientAuth.ReportOnly = []string{"partners"}, true
			},
			lose: func(th *theatre, _ *cast) {
				th.reapply(th.policy(func(a *termination.ClientAuth) { a.ReportOnly = false }))
			},
			reasons: []termination.Reason{termination.ReasonCAUnknown, termination.ReasonCAOtherEndpoint},
		},
		"off becomes require": {
			policy: func(_ *cast, e *termination.Endpoint) {
				e.ClientAuth.Mode, e.ClientAuth.Authorities = termination.ModeOff, nil
			},
			alone: true,
			lose: func(th *theatre, _ *cast) {
				th.reapply(th.policy(func(a *termination.ClientAuth) { a.Mode, a.Authorities = termination.ModeRequire, []string{"devices"} }))
			},
			reasons: []termination.Reason{termination.ReasonCertMissing},
		},
		"an identity is removed": {
			policy: func(_ *cast, e *termination.Endpoint) { e.ClientAuth.Authorities = []string{"partners"} },
			before: func(c *cast, config *termination.Config) {
				config.Identities = []termination.Identity{{ID: "id_alice", Name: "alice", Pins: []termination.Pin{pin(c.alice)}, Endpoints: []string{"a", "b"}}}
			},
			lose:    func(th *theatre, _ *cast) { th.reapply(func(c *termination.Config) { c.Identities = nil }) },
			reasons: []termination.Reason{termination.ReasonCAUnknown, termination.ReasonCAOtherEndpoint},
		},
		"the leaf ends": { // by the real clock: an agent has no other
			before: func(c *cast, _ *termination.Config) {
				c.alice = c.devices.Client("alice", tlstest.Valid(time.Now().Add(-time.Hour), time.Now().Add(3*time.Second)))
			},
			lose:    func(*theatre, *cast) {},
			reasons: []termination.Reason{termination.ReasonCertExpired},
		},
	} {
		for where, start := range map[string]func(*testing.T) *rig{"edge": newRig, "agent": newAgentRig} {
			t.Run(where+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := newCast()
				r := start(t)
				r.trust("devices", c.devices)
				r.trust("partners", c.partners)
				th := newTheatre(t, r, func(e *termination.Endpoint) {
					require("devices", "partners")(e)
					if test.policy != nil {
						test.policy(c, e)
					}
				})
				if test.before != nil {
					r.reapply(func(config *termination.Config) { test.before(c, config) })
					r.runAgents()
				}
				alice := th.all(c.alice)
				var bob []*liveClient
				if !test.alone {
					bob = th.all(c.bob)
				}
				test.lose(th, c)
				th.mustGo(alice, test.reasons...)
				th.mustStay(bob)
			})
		}
	}
}

// stoppedClock is a clock that tests set.
type stoppedClock struct{ at atomic.Pointer[time.Time] }

func newStoppedClock(at time.Time) *stoppedClock {
	c := &stoppedClock{}
	c.set(at)
	return c
}

func (c *stoppedClock) now() time.Time   { return *c.at.Load() }
func (c *stoppedClock) set(at time.Time) { c.at.Store(&at) }

// Expiry counts to the second, for the leaf and for a CA above it, and whichever way the clock has got there: on its own,
// or because the machine has slept.
func TestExpiryCuts(t *testing.T) {
	noon := time.Now().Truncate(time.Second)
	root := tlstest.NewCA(tlstest.CN("Root"), tlstest.Valid(noon.Add(-time.Hour), noon.Add(48*time.Hour)))
	short := root.Intermediate(tlstest.CN("Short"), tlstest.Valid(noon.Add(-time.Hour), noon.Add(time.Hour)))
	for name, test := range map[string]struct {
		client *tlstest.Cert
		until  time.Time
		reason termination.Reason
	}{
		"leaf": {root.Client("alice", tlstest.Valid(noon.Add(-time.Hour), noon.Add(time.Minute))), noon.Add(time.Minute), termination.ReasonCertExpired},
		"ca":   {short.Client("alice", tlstest.Valid(noon.Add(-time.Hour), noon.Add(24*time.Hour))), noon.Add(time.Hour), termination.ReasonCAExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newStoppedClock(noon)
			r := newRigAt(t, clock.now)
			r.trust("root", root)
			th := newTheatre(t, r, require("root"))
			bob := th.all(root.Client("bob", tlstest.Valid(noon.Add(-time.Hour), noon.Add(24*time.Hour))))
			alice := th.all(test.client)
			clock.set(test.until) // the last second counts
			for range 3 {
				th.reapply(nil)
				th.mustStay(alice)
			}
			clock.set(test.until.Add(time.Second))
			th.mustGo(alice, test.reason)
			th.mustStay(bob)
		})
	}
	t.Run("a clock that is put back", func(t *testing.T) {
		t.Parallel()
		clock := newStoppedClock(noon)
		r := newRigAt(t, clock.now)
		r.trust("root", root)
		th := newTheatre(t, r, require("root"))
		alice := th.all(root.Client("alice", tlstest.Valid(noon.Add(-time.Minute), noon.Add(time.Hour))))
		clock.set(noon.Add(-2 * time.Minute))
		th.mustGo(alice, termination.ReasonCertEarly)
	})
}

// An expression that asks for the time ends what it has let in when its time is over.
func TestTimeOfAnExpressionCuts(t *testing.T) {
	noon := time.Now().Truncate(time.Second)
	clock := newStoppedClock(noon)
	c := newCast()
	r := newRigAt(t, clock.now)
	r.trust("devices", c.devices)
	th := newTheatre(t, r, func(e *termination.Endpoint) {
		require("devices")(e)
		e.ClientAuth.When = fmt.Sprintf("now < timestamp(%q)", noon.Add(1500*time.Millisecond).UTC().Format(time.RFC3339Nano))
	})
	alice := th.all(c.alice)
	clock.set(noon.Add(900 * time.Millisecond)) // in steps that look like time going by
	th.mustStay(alice)
	clock.set(noon.Add(1800 * time.Millisecond))
	th.mustGo(alice, termination.ReasonPolicyDenied)
}

// What decides about entry says so of blocks and of what was revoked, where certificates are asked for.
func TestAdmissionTellsBlocks(t *testing.T) {
	c := newCast()
	r := newRig(t)
	r.trust("devices", c.devices)
	th := newTheatre(t, r, require("devices"))
	r.endpoint("open", th.port, tlstest.HTTP(t).URL, nil)
	r.apply()
	before := r.gateway.Admission()
	p := pin(c.alice)
	for name, change := range map[string]func(*termination.Config){
		"a block": func(config *termination.Config) { config.Blocked = []termination.Block{{Pin: &p}} },
		"a revoked certificate": func(config *termination.Config) {
			config.Authorities = slices.Clone(config.Authorities)
			config.Authorities[0].Revocation.Revoked = []termination.RevokedCertificate{{Serial: "1"}}
		},
	} {
		was := r.config
		th.reapply(change)
		after := r.gateway.Admission()
		if before["ep_a"] == after["ep_a"] || before["ep_b"] == after["ep_b"] {
			t.Errorf("%s does not show", name)
		}
		if before["ep_open"] != after["ep_open"] {
			t.Errorf("%s shows at an endpoint that asks for no certificate", name)
		}
		th.reapply(func(config *termination.Config) { config.Blocked, config.Authorities = was.Blocked, was.Authorities })
		if !maps.Equal(before, r.gateway.Admission()) {
			t.Errorf("after %s was taken back, something else decides", name)
		}
	}
}

// What on_loss says: drain lets what is under way finish and says good-bye in HTTP/2; leave refuses further requests and
// leaves the rest alone.
func TestOnLossOfConnections(t *testing.T) {
	t.Run("drain", func(t *testing.T) {
		c := newCast()
		finish, started := make(chan struct{}), make(chan struct{}, 1)
		service := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			started <- struct{}{}
			<-finish
			_, _ = io.WriteString(w, "done")
		}))
		r := newRig(t)
		r.trust("devices", c.devices)
		port := freePort(t)
		r.endpoint("a", port, service.URL, func(e *termination.Endpoint) {
			require("devices")(e)
			e.ClientAuth.OnLoss = termination.OnLossDrain
		})
		r.apply()
		config := r.clientConfig("a.localhost", tls.VersionTLS13, c.alice)
		config.NextProtos = []string{"h2"}
		conn, err := tls.Dial("tcp", address(port), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		over, err := (&http2.Transport{}).NewClientConn(conn) //nolint:staticcheck // one connection, whose state can be asked
		if err != nil {
			t.Fatal(err)
		}
		body := make(chan string, 1)
		go func() {
			req, _ := http.NewRequest(http.MethodGet, "https://a.localhost/", nil)
			res, err := over.RoundTrip(req)
			if err != nil {
				body <- err.Error()
				return
			}
			defer res.Body.Close()
			all, err := io.ReadAll(res.Body)
			body <- fmt.Sprint(string(all), " ", err)
		}()
		<-started
		p := pin(c.alice)
		r.reapply(func(config *termination.Config) { config.Blocked = []termination.Block{{Pin: &p}} })
		// The judge has been there when a new connection is refused and its round is over; draining shows on this one.
		r.wait("the good-bye", func() bool {
			return over.State().Closing || ask(over) != nil
		})
		close(finish)
		if got := <-body; got != "done <nil>" {
			t.Errorf("the request under way: %q", got)
		}
		r.wait("GOAWAY", func() bool { s := over.State(); return s.Closing || s.Closed })
		if end := r.end(r.next().ID); end.ClosedBy != termination.ClosedByPolicy || end.Reason != termination.ReasonBlocked {
			t.Errorf("closed by %s for %q", end.ClosedBy, end.Reason)
		}
	})
	t.Run("leave", func(t *testing.T) {
		c := newCast()
		r := newRig(t)
		r.trust("devices", c.devices)
		th := newTheatre(t, r, func(e *termination.Endpoint) {
			require("devices")(e)
			e.ClientAuth.OnLoss = termination.OnLossLeave
		})
		alice := th.all(c.alice)
		p := pin(c.alice)
		th.reapply(func(config *termination.Config) { config.Blocked = []termination.Block{{Pin: &p}} })
		for _, client := range alice {
			err := client.say()
			switch client.kind {
			case "h1", "h2":
				if err == nil || err.Error() != "status 403" {
					t.Errorf("%s: a further request: %v", client.kind, err)
				}
			default:
				if err != nil {
					t.Errorf("%s was not left alone: %v", client.kind, err)
				}
			}
			if client.isGone() {
				t.Errorf("%s was closed", client.kind)
			}
		}
		if _, err := th.open("h1", tls.VersionTLS12, c.alice); err == nil {
			t.Error("a blocked client came in anew")
		}
	})
}

// TestTicketsOfTheBlocked: a ticket opens nothing for a client that is blocked, costs nobody else theirs, and does not
// come back to life with a policy that was another in between (P2).
func TestTicketsOfTheBlocked(t *testing.T) {
	bothVersions(t, func(t *testing.T, version uint16) {
		c := newCast()
		r := newRig(t)
		r.trust("devices", c.devices)
		r.trust("partners", c.partners)
		th := newTheatre(t, r, require("devices", "partners"))
		session := func(cert *tlstest.Cert) *tls.Config {
			config := r.clientConfig("a.localhost", version, cert)
			config.ClientSessionCache = oneSlot{tls.NewLRUClientSessionCache(1)}
			return config
		}
		alice, bob := session(c.alice), session(c.bob)
		visit := func(what string, config *tls.Config, in, resumed bool) {
			t.Helper()
			status, _, err := get(config, th.port, "a.localhost")
			rec := r.next()
			if (err == nil && status == 200) != in || rec.Verdict.Outcome.In() != in {
				t.Fatalf("%s: status %d, %v; recorded %s %q", what, status, err, rec.Verdict.Outcome, rec.Verdict.Reason)
			}
			if in && rec.Chosen.Resumed != resumed {
				t.Errorf("%s: resumed %v", what, rec.Chosen.Resumed)
			}
		}
		// A client that fails drops its ticket, so an attacker keeps a copy.
		keep := func(config *tls.Config) *tls.Config {
			copied := session(c.alice)
			state, ok := config.ClientSessionCache.Get("x")
			if !ok {
				t.Fatal("no ticket")
			}
			copied.ClientSessionCache.Put("x", state)
			return copied
		}
		for _, config := range []*tls.Config{alice, bob} {
			visit("first", config, true, false)
			visit("second", config, true, true)
		}
		old := keep(alice)
		p := pin(c.alice)
		th.reapply(func(config *termination.Config) { config.Blocked = []termination.Block{{Pin: &p}} })
		visit("blocked, with a ticket", keep(old), false, false)
		visit("blocked, without one", session(c.alice), false, false)
		visit("another client", bob, true, true)
		th.reapply(func(config *termination.Config) { config.Blocked = nil })
		visit("unblocked", keep(old), true, true)
		th.reapply(th.policy(func(a *termination.ClientAuth) { a.Authorities = []string{"partners"} }))
		visit("without her CA", keep(old), false, false)
		th.reapply(th.policy(func(a *termination.ClientAuth) { a.Authorities = []string{"devices", "partners"} }))
		visit("restored, with the old ticket", keep(old), true, false)
	})
}

// TestBlockAmongMany blocks a tenth of many live connections, and tells how long it took until the last was gone. Under
// the race detector, where each handshake takes ten times as long, there are fewer.
func TestBlockAmongMany(t *testing.T) {
	many := 5000
	if raceDetector {
		many = 300
	}
	c := newCast()
	r := newRig(t)
	r.trust("devices", c.devices)
	th := newTheatre(t, r, require("devices"))
	began := time.Now()
	clients, certs := make([]*liveClient, many), make([]*tlstest.Cert, many)
	var next atomic.Int64
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			for i := int(next.Add(1)) - 1; i < many; i = int(next.Add(1)) - 1 {
				certs[i] = c.devices.Client(fmt.Sprintf("client-%d", i))
				client, err := th.open(kinds()[i/10%4], tls.VersionTLS13, certs[i])
				if err != nil {
					t.Error(err)
					return
				}
				clients[i] = client
			}
		})
	}
	opening.Wait()
	if t.Failed() {
		return
	}
	defer func() {
		for _, client := range clients {
			client.close()
		}
	}()
	opened := time.Since(began)
	var lost, kept []*liveClient
	var blocks []termination.Block
	for i, client := range clients {
		if i%10 != 0 {
			kept = append(kept, client)
			continue
		}
		lost = append(lost, client)
		p := pin(certs[i])
		blocks = append(blocks, termination.Block{Pin: &p})
	}
	// The limits are part of the policy, so this empties the caches of verified chains too: every client is verified anew.
	began = time.Now()
	th.reapply(func(config *termination.Config) {
		config.Blocked = blocks
		config.Limits.CertificateChain++
	})
	var last time.Time
	for _, client := range lost {
		select {
		case <-client.gone:
		case <-time.After(patience):
			t.Fatalf("%s is still connected", client.kind)
		}
		if client.after.After(last) {
			last = client.after
		}
	}
	t.Logf("%d connections were opened in %v; of them %d were cut within %v of the change", many, opened.Round(time.Millisecond), len(lost), last.Sub(began).Round(time.Millisecond))
	th.waitFor("the ends", func() bool { return len(th.ends) >= len(lost) })
	th.mu.Lock()
	for id, end := range th.ends {
		if end.ClosedBy != termination.ClosedByPolicy || end.Reason != termination.ReasonBlocked {
			t.Errorf("%s was closed by %s for %q", id, end.ClosedBy, end.Reason)
		}
	}
	th.mu.Unlock()
	th.mustStay(kept)
}
