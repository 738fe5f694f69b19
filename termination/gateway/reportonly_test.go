package gateway_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// A policy that only reports asks, records what it would do, lets everyone in whom nobody has blocked, and tells the
// service nothing, in both versions, on resumed sessions too. Enforcing it judges whoever is there again.
func TestReportOnly(t *testing.T) {
	t.Run("edge", func(t *testing.T) { testReportOnly(t, newRig(t)) })
	t.Run("agent", func(t *testing.T) { testReportOnly(t, newAgentRig(t)) })
}

func reportOnly(e *termination.Endpoint) {
	e.ClientAuth.ReportOnly = true
	e.ForwardIdentity = []termination.IdentityFormat{termination.IdentityNginx}
}

func testReportOnly(t *testing.T, r *rig) {
	devices, strangers := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Strangers"))
	upstream := tlstest.HTTP(t)
	r.trust("devices", devices)
	port := freePort(t)
	both := func(m termination.Mode) func(*termination.Endpoint) {
		return func(e *termination.Endpoint) { mode(m, "devices")(e); reportOnly(e) }
	}
	r.endpoint("strict", port, upstream.URL, both(termination.ModeRequire))
	r.endpoint("mild", port, upstream.URL, both(termination.ModeOptional))
	r.apply()
	clients := map[string]*tlstest.Cert{
		"none": nil, "good": devices.Client("alice"), "stranger": strangers.Client("eve"), "expired": devices.Client("old", tlstest.Expired()),
	}
	would := map[string]map[string]termination.Reason{ // empty: it would come in
		"strict": {"none": termination.ReasonCertMissing, "good": "", "stranger": termination.ReasonCAUnknown, "expired": termination.ReasonCertExpired},
		"mild":   {"none": "", "good": "", "stranger": termination.ReasonCAUnknown, "expired": termination.ReasonCertExpired},
	}
	for name, byClient := range would {
		for client, reason := range byClient {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(name+" "+client+" "+tls.VersionName(version), func(t *testing.T) {
					host := name + ".localhost"
					config := r.clientConfig(host, version, clients[client])
					config.ClientSessionCache = oneSlot{tls.NewLRUClientSessionCache(1)}
					for _, resumed := range []bool{false, true} {
						status, body, err := get(config, port, host)
						rec := r.next()
						if err != nil || status != 200 {
							t.Fatalf("got %d, %v; want to be let in", status, err)
						}
						if rec.Chosen == nil || rec.Chosen.Resumed != (resumed && client != "expired") {
							t.Fatalf("resumed: %+v, want %v", rec.Chosen, resumed)
						}
						v := rec.Verdict
						want := termination.OutcomeOpen
						if client == "good" {
							want = termination.OutcomeVerified
						}
						if v.Outcome != want || v.Reason != reason || v.WouldRefuse != (reason != "") || !v.ReportOnly {
							t.Errorf("recorded %s %q, would refuse %v, report only %v; want %s %q", v.Outcome, v.Reason, v.WouldRefuse, v.ReportOnly, want, reason)
						}
						// What a simulation goes by is there, whoever ended TLS.
						if rec.Mode != r.config.Endpoint(name).ClientAuth.Mode || (len(rec.Presented) > 0) != (client != "none") {
							t.Errorf("mode %q, %d certificates", rec.Mode, len(rec.Presented))
						}
						shown := *rec // explained when somebody looks
						r.gateway.Explain(&shown)
						if ex := shown.Verdict.Explanation; reason != "" && (!strings.Contains(ex.Sentence, "only reports") || len(ex.Fixes) == 0) {
							t.Errorf("explained by %+v", ex)
						}
						if strings.Contains(body, "X-Client-Cn") || strings.Contains(body, "X-Client-Cert") || strings.Contains(body, "SUCCESS") {
							t.Errorf("the service was told who it is: %s", body)
						}
					}
				})
			}
		}
	}
}

// Turning report-only off judges live connections again, and new ones by the policy.
func TestReportOnlyIsEnforced(t *testing.T) {
	t.Run("edge", func(t *testing.T) { testReportOnlyIsEnforced(t, newRig(t)) })
	t.Run("agent", func(t *testing.T) { testReportOnlyIsEnforced(t, newAgentRig(t)) })
}

func testReportOnlyIsEnforced(t *testing.T, r *rig) {
	devices, strangers := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Strangers"))
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("a", port, "tcp://"+tlstest.TCP(t).Addr, func(e *termination.Endpoint) { asTLS(e); require("devices")(e); e.ClientAuth.ReportOnly = true })
	r.apply()
	good, err := r.echoTLS("a", port, devices.Client("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	bad, err := r.echoTLS("a", port, strangers.Client("eve"))
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	r.change("a", func(e *termination.Endpoint) { e.ClientAuth.ReportOnly = false })
	r.apply()
	if _, err := bad.Read(make([]byte, 1)); err == nil {
		t.Error("the stranger was sent something")
	}
	if _, err := good.Write([]byte("still\n")); err != nil {
		t.Errorf("who would come in lost the connection: %v", err)
	}
	line := make([]byte, 6)
	if _, err := good.Read(line); err != nil || string(line) != "still\n" {
		t.Errorf("echoed %q, %v", line, err)
	}
	if conn, err := r.echoTLS("a", port, strangers.Client("eve")); err == nil {
		conn.Close()
		t.Error("a stranger came in after report-only was turned off")
	}
}

// Somebody who was blocked by hand is refused whatever the policy only reports.
func TestReportOnlyKeepsBlockedClientsOut(t *testing.T) {
	r := newRig(t)
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	alice := devices.Client("alice")
	upstream := tlstest.HTTP(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("a", port, upstream.URL, func(e *termination.Endpoint) { require("devices")(e); reportOnly(e) })
	r.config.Identities = []termination.Identity{{ID: "id_1", Name: "alice", Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(alice.X509)}}, Blocked: true}}
	r.apply()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if status, _, err := get(r.clientConfig("a.localhost", version, alice), port, "a.localhost"); err == nil {
			t.Errorf("got in with status %d", status)
		}
		if rec := r.next(); rec.Verdict.Outcome != termination.OutcomeRefused || rec.Verdict.Reason != termination.ReasonBlocked || rec.Verdict.WouldRefuse {
			t.Errorf("recorded %+v", rec.Verdict)
		}
	}
}
