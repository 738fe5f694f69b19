package gateway_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// Every mode meets every kind of client, in TLS 1.2 and 1.3, and each attempt is recorded with its reason.
func TestModes(t *testing.T) {
	t.Run("edge", func(t *testing.T) { testModes(t, newRig(t)) })
	t.Run("agent", func(t *testing.T) { testModes(t, newAgentRig(t)) })
}

func testModes(t *testing.T, r *rig) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	strangers := tlstest.NewCA(tlstest.CN("Strangers"))
	upstream := tlstest.HTTP(t)
	r.trust("devices", devices)
	port := freePort(t)
	modes := []termination.Mode{termination.ModeOff, termination.ModeRequest, termination.ModeRequireAny, termination.ModeOptional, termination.ModeRequire}
	for _, m := range modes {
		policy := mode(m, "devices")
		if m == termination.ModeOff {
			policy = mode(m)
		}
		r.endpoint(strings.ReplaceAll(string(m), "_", "-"), port, upstream.URL, policy)
	}
	r.apply()

	clients := map[string]*tlstest.Cert{
		"none": nil, "good": devices.Client("alice"), "stranger": strangers.Client("eve"), "expired": devices.Client("old", tlstest.Expired()),
	}
	type want struct {
		outcome termination.Outcome
		reason  termination.Reason
		alert   uint8 // TLS 1.3; 0: let in
	}
	const (
		verified = termination.OutcomeVerified
		open     = termination.OutcomeOpen
		refused  = termination.OutcomeRefused
	)
	table := map[termination.Mode]map[string]want{
		termination.ModeOff: {"none": {open, "", 0}, "good": {open, "", 0}, "stranger": {open, "", 0}, "expired": {open, "", 0}},
		termination.ModeRequest: {
			"none": {open, termination.ReasonCertMissing, 0}, "good": {verified, "", 0},
			"stranger": {open, termination.ReasonCAUnknown, 0}, "expired": {open, termination.ReasonCertExpired, 0},
		},
		termination.ModeRequireAny: {
			"none": {refused, termination.ReasonCertMissing, 116}, "good": {verified, "", 0},
			"stranger": {open, termination.ReasonCAUnknown, 0}, "expired": {open, termination.ReasonCertExpired, 0},
		},
		termination.ModeOptional: {
			"none": {open, termination.ReasonCertMissing, 0}, "good": {verified, "", 0},
			"stranger": {refused, termination.ReasonCAUnknown, 48}, "expired": {refused, termination.ReasonCertExpired, 45},
		},
		termination.ModeRequire: {
			"none": {refused, termination.ReasonCertMissing, 116}, "good": {verified, "", 0},
			"stranger": {refused, termination.ReasonCAUnknown, 48}, "expired": {refused, termination.ReasonCertExpired, 45},
		},
	}
	for m, byClient := range table {
		for client, w := range byClient {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(string(m)+" "+client+" "+tls.VersionName(version), func(t *testing.T) {
					host := strings.ReplaceAll(string(m), "_", "-") + ".localhost"
					before := upstream.Requests()
					status, _, err := get(r.clientConfig(host, version, clients[client]), port, host)
					rec := r.next()
					if rec.Verdict.Outcome != w.outcome || !sameReason(rec.Verdict.Reason, w.reason) {
						t.Errorf("recorded %s %q, want %s %q (%s)", rec.Verdict.Outcome, rec.Verdict.Reason, w.outcome, w.reason, rec.Error)
					}
					if w.alert == 0 {
						if err != nil || status != 200 {
							t.Errorf("got %d, %v; want to be let in", status, err)
						}
						return
					}
					if err == nil || upstream.Requests() != before {
						t.Errorf("got in with status %d", status)
					}
					alert := w.alert
					if alert == 116 && version == tls.VersionTLS12 {
						alert = 40
					}
					if rec.Alert == nil || rec.Alert.Number != alert {
						t.Errorf("alert %+v, want %d", rec.Alert, alert)
					}
					if text := tls.AlertError(alert).Error(); err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(text, "tls: ")) {
						t.Errorf("the client read %q, want %q", err, text)
					}
					if rec.Verdict.Explanation.Sentence == "" || len(rec.Verdict.Explanation.Fixes) == 0 {
						t.Errorf("a refusal without explanation or fix: %+v", rec.Verdict.Explanation)
					}
				})
			}
		}
	}
}

// sameReason lets the reason of an open handshake be refined or left out where nothing was demanded.
func sameReason(got, want termination.Reason) bool {
	return got == want || want == termination.ReasonCertMissing && got == ""
}

// The name alone decides which endpoint answers: exact before wildcard before fallback, and none means
// unrecognized_name.
func TestRouting(t *testing.T) {
	upstream := tlstest.HTTP(t)
	r := newRig(t)
	port, other := freePort(t), freePort(t)
	r.endpoint("a", port, upstream.URL, nil)
	r.endpoint("wild", port, upstream.URL, func(e *termination.Endpoint) { e.Aliases = []string{"*.example.test"} })
	r.endpoint("exact", port, upstream.URL, func(e *termination.Endpoint) { e.Aliases = []string{"one.example.test"} })
	r.endpoint("back", other, upstream.URL, func(e *termination.Endpoint) { e.Host = "" })
	r.apply()

	tests := []struct {
		name     string
		port     uint16
		endpoint string
		reason   termination.Reason
	}{
		{"a.localhost", port, "a", ""},
		{"A.LocalHost", port, "a", ""},
		{"two.example.test", port, "wild", ""},
		{"one.example.test", port, "exact", ""},
		{"one.two.example.test", port, "", termination.ReasonNameUnknown},
		{"example.test", port, "", termination.ReasonNameUnknown},
		{"nobody.test", port, "", termination.ReasonNameUnknown},
		{"", port, "", termination.ReasonNameMissing},
		{"nobody.test", other, "back", ""},
		{"", other, "back", ""},
	}
	for _, test := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(test.name+" "+test.endpoint+" "+tls.VersionName(version), func(t *testing.T) {
				config := r.clientConfig(test.name, version, nil)
				config.InsecureSkipVerify = true // the names that lead nowhere are in no certificate
				conn, err := tls.Dial("tcp", address(test.port), config)
				if err == nil {
					conn.Close()
				}
				rec := r.next()
				if rec.Endpoint != test.endpoint || rec.Verdict.Reason != test.reason {
					t.Errorf("led to %q with %q, want %q with %q", rec.Endpoint, rec.Verdict.Reason, test.endpoint, test.reason)
				}
				if test.endpoint != "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
					t.Errorf("the client read %v, want unrecognized name", err)
				}
			})
		}
	}
}

// The names of an endpoint that is switched off belong to nobody: its clients must not end up at a laxer wildcard or
// fallback, in TLS or by a request's Host.
func TestStoppedEndpointKeepsItsNames(t *testing.T) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	lax, strict := tlstest.HTTP(t), tlstest.HTTP(t)
	r := newRig(t)
	r.trust("devices", devices)
	port := freePort(t)
	r.endpoint("strict", port, strict.URL, func(e *termination.Endpoint) {
		require("devices")(e)
		e.Host = "strict.example.test"
	})
	r.endpoint("wild", port, lax.URL, func(e *termination.Endpoint) { e.Aliases = []string{"*.example.test"} })
	r.endpoint("back", port, lax.URL, func(e *termination.Endpoint) { e.Host = "" })
	r.apply()
	r.change("strict", func(e *termination.Endpoint) { e.Enabled = false })

	config := r.clientConfig("strict.example.test", tls.VersionTLS13, devices.Client("alice"))
	config.InsecureSkipVerify = true
	if _, _, err := get(config, port, "strict.example.test"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("the client read %v, want unrecognized name", err)
	}
	rec := r.next()
	if rec.Endpoint != "strict" || rec.Verdict.Reason != termination.ReasonNameUnknown || !strings.Contains(rec.Verdict.Explanation.Sentence, "stopped") {
		t.Errorf("recorded %q at %q: %s", rec.Verdict.Reason, rec.Endpoint, rec.Verdict.Explanation.Sentence)
	}
	config = r.clientConfig("other.example.test", tls.VersionTLS13, nil)
	config.InsecureSkipVerify = true
	if status, _, err := get(config, port, "strict.example.test"); err == nil && status == 200 {
		t.Error("a Host that belongs to a stopped endpoint was served over a connection of another")
	}
	if lax.Requests() != 0 || strict.Requests() != 0 {
		t.Errorf("requests reached the upstreams: %d and %d", lax.Requests(), strict.Requests())
	}
	r.next()
	if status, _, err := get(config, port, "other.example.test"); err != nil || status != 200 {
		t.Errorf("the wildcard itself: %d, %v", status, err)
	}
}
