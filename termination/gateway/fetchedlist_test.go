package gateway_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestFetchedListReachesEverybody: a list that comes by its address keeps out whom it names, at the edge and at an agent, in both
// versions of TLS, on new and on resumed sessions. Addresses in the client's own certificate are not touched.
func TestFetchedListReachesEverybody(t *testing.T) {
	for place, make := range map[string]func(*testing.T) *rig{"edge": newRig, "agent": newAgentRig} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			devices := tlstest.NewCA(tlstest.CN("Devices"))
			var list atomic.Pointer[[]byte]
			set := func(der []byte) { list.Store(&der) }
			set(devices.CRL())
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*list.Load()) }))
			defer web.Close()
			var trapped atomic.Int64
			trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { trapped.Add(1) }))
			defer trap.Close()
			alice := devices.Client("alice", tlstest.URLs(trap.URL, trap.URL, trap.URL))
			bob := devices.Client("bob")

			r := make(t)
			r.trust("devices", devices)
			r.config.Authorities[0].Revocation = termination.Revocation{Mode: termination.RevocationHard, CRLURLs: []string{web.URL}}
			port := freePort(t)
			r.endpoint("a", port, tlstest.HTTP(t).URL, require("devices"))
			r.apply()
			clients := map[uint16]*tls.Config{}
			enters := func(c *tls.Config) bool {
				status, _, err := get(c, port, "a.localhost")
				return err == nil && status == http.StatusOK
			}
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				c := r.clientConfig("a.localhost", version, alice)
				c.ClientSessionCache = oneSlot{tls.NewLRUClientSessionCache(1)}
				r.wait("the first list", func() bool { return enters(c) })
				clients[version] = c
			}
			set(devices.CRL(tlstest.Number(2), tlstest.Revoking(alice)))
			r.gateway.FetchRevocation("devices")
			for version, c := range clients {
				r.wait("the second list", func() bool { return !enters(c) })
				for range 2 {
					if enters(c) {
						t.Errorf("%s: in again", tls.VersionName(version))
					}
				}
				if !enters(r.clientConfig("a.localhost", version, bob)) {
					t.Errorf("%s: bob is out", tls.VersionName(version))
				}
			}
			r.waitFor("a record of the refusal", func() bool {
				for _, rec := range r.records {
					if rec.Verdict.Reason == termination.ReasonRevoked && rec.Verdict.Outcome == termination.OutcomeRefused {
						return true
					}
				}
				return false
			})
			if trapped.Load() > 0 {
				t.Error("an address of the client's certificate was asked")
			}
		})
	}
}
