package terminate_test

import (
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Ticket keys change every day, and none opens a ticket that is older than a week: whoever steals one reads no more than
// that of TLS 1.2, and a client is known no longer than that.
func TestTicketKeysRotate(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"), tlstest.Valid(time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)))
	alice := devices.Client("alice", tlstest.Valid(time.Now().Add(-time.Hour), time.Now().Add(900*time.Hour)))
	for _, c := range []struct {
		version uint16
		auth    termination.ClientAuth
		certs   []tls.Certificate
	}{
		{tls.VersionTLS12, termination.ClientAuth{Mode: termination.ModeOff}, nil},
		{tls.VersionTLS13, termination.ClientAuth{Mode: termination.ModeOff}, nil},
		{tls.VersionTLS12, onlyFromOffice(), []tls.Certificate{alice.TLS()}},
		{tls.VersionTLS13, onlyFromOffice(), []tls.Certificate{alice.TLS()}},
	} {
		version := c.version
		t.Run(tls.VersionName(version)+" "+string(c.auth.Mode), func(t *testing.T) {
			var passed atomic.Int64
			start := time.Now()
			now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
			var s setup
			if c.certs == nil {
				s = newSetupAt(t, now, c.auth)
			} else {
				s = newSetupAt(t, now, c.auth, devices)
				s.peer = netip.MustParseAddrPort("10.1.2.3:40000")
			}
			cache := &generous{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			visit := func() bool {
				rec := s.meet(t, s.goClient(version, c.certs, func(c *tls.Config) {
					c.ClientSessionCache, c.Time = cache, func() time.Time { return start } // a client that forgets no ticket by itself
				}))
				if rec.Chosen == nil {
					t.Fatalf("no handshake: %s", rec.Error)
				}
				return rec.Chosen.Resumed
			}
			visit()
			old, _ := cache.Get(serverName)
			if !visit() {
				t.Fatal("a fresh ticket is not taken")
			}
			passed.Store(int64(25 * time.Hour))
			cache.ClientSessionCache.Put(serverName, old)
			if !visit() {
				t.Error("a ticket of yesterday is not taken")
			}
			passed.Store(int64(8 * 24 * time.Hour))
			cache.ClientSessionCache.Put(serverName, old)
			if visit() {
				t.Error("a ticket of last week is taken")
			}
			if !visit() {
				t.Error("no ticket is given under the new key")
			}
		})
	}
}

// onlyFromOffice is a policy that asks for the client's address.
func onlyFromOffice() termination.ClientAuth {
	return termination.ClientAuth{Mode: termination.ModeRequire, Announce: true, When: `inCidrRange(conn.client_ip, "10.0.0.0/8")`}
}

// Where a policy asks for the client's address, TLS itself refuses with an alert, sessions are resumed, and one that is
// resumed from elsewhere is judged by where it comes from now.
func TestAddressIsJudgedInTLS(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	certs := []tls.Certificate{devices.Client("alice").TLS()}
	office, home := netip.MustParseAddrPort("10.1.2.3:40000"), netip.MustParseAddrPort("192.0.2.7:40000")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newSetup(t, onlyFromOffice(), devices)
			cache := &generous{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			visit := func(from netip.AddrPort) *termination.Handshake {
				s.peer = from
				return s.meet(t, s.goClient(version, certs, func(c *tls.Config) { c.ClientSessionCache = cache }))
			}
			refused := func(from netip.AddrPort) {
				t.Helper()
				rec := visit(from)
				if rec.Verdict.Outcome != termination.OutcomeRefused || rec.Verdict.Reason != termination.ReasonPolicyDenied || rec.Alert == nil || rec.Alert.Number != 42 {
					t.Errorf("from %s: %+v with the alert %+v", from, rec.Verdict, rec.Alert)
				}
			}
			refused(home)
			for i, resumed := range []bool{false, true} {
				rec := visit(office)
				if rec.Verdict.Outcome != termination.OutcomeVerified || rec.Chosen == nil || rec.Chosen.Resumed != resumed {
					t.Fatalf("connection %d: %+v, %+v", i, rec.Verdict, rec.Chosen)
				}
			}
			refused(home) // with a ticket in hand
			s.peer = netip.AddrPort{}
			if rec := visit(netip.AddrPort{}); rec.Verdict.Outcome != termination.OutcomeRefused || rec.Verdict.Reason != termination.ReasonExpressionError {
				t.Errorf("without an address: %+v", rec.Verdict)
			}
			// Another endpoint with the same policy has other keys.
			other := newSetup(t, onlyFromOffice(), devices)
			other.peer = office
			rec := other.meet(t, other.goClient(version, certs, func(c *tls.Config) {
				c.ClientSessionCache, c.InsecureSkipVerify = cache, true
			}))
			if rec.Chosen == nil || rec.Chosen.Resumed {
				t.Errorf("a ticket crossed from one endpoint to another: %+v", rec.Chosen)
			}
		})
	}
}

// generous hands out tickets again and again.
type generous struct{ tls.ClientSessionCache }

// Put keeps new tickets and forgets none.
func (c *generous) Put(name string, state *tls.ClientSessionState) {
	if state != nil {
		c.ClientSessionCache.Put(name, state)
	}
}
