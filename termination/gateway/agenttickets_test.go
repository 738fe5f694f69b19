package gateway_test

import (
	"crypto/tls"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A session ticket of one agent means nothing to another of the same endpoint, which lets the client in by a full
// handshake.
func TestTicketsOfTwoAgents(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	r.trust("devices", devices)
	r.agents()
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, func(e *termination.Endpoint) { require("devices")(e); atAgent(e) })
	r.apply()
	one := r.agent("a", upstream.URL)
	config := r.clientConfig("a.localhost", tls.VersionTLS13, devices.Client("alice"))
	config.ClientSessionCache = oneSlot{tls.NewLRUClientSessionCache(1)}
	attempt := func(want bool) {
		t.Helper()
		if status, _, err := get(config, port, "a.localhost"); err != nil || status != 200 {
			t.Fatalf("%d, %v", status, err)
		}
		if rec := r.next(); rec.Chosen.Resumed != want || rec.Client.Name != "alice" {
			t.Errorf("resumed %v, want %v: %+v", rec.Chosen.Resumed, want, rec.Client)
		}
	}
	attempt(false)
	attempt(true)
	one.kill()
	r.agent("a", upstream.URL)
	attempt(false)
	attempt(true)
}
