package terminate_test

import (
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
)

// Ticket keys change every day, and none opens a ticket that is older than a week: whoever steals one reads no more than
// that of TLS 1.2, and a client is known no longer than that.
func TestTicketKeysRotate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			var passed atomic.Int64
			start := time.Now()
			now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
			s := newSetupAt(t, now, termination.ClientAuth{Mode: termination.ModeOff})
			cache := &generous{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			visit := func() bool {
				rec := s.meet(t, s.goClient(version, nil, func(c *tls.Config) {
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

// generous hands out tickets again and again.
type generous struct{ tls.ClientSessionCache }

// Put keeps new tickets and forgets none.
func (c *generous) Put(name string, state *tls.ClientSessionState) {
	if state != nil {
		c.ClientSessionCache.Put(name, state)
	}
}
