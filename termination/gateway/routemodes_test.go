package gateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestRouteModes: an endpoint in each mode with a route in each mode. TLS asks for what the laxer of the two needs, and what
// it lets in for the sake of one the other refuses in HTTP; in TLS 1.2 and 1.3, over HTTP/1.1 and, on the resumed session,
// HTTP/2. What should happen is written down here apart from the code that decides.
func TestRouteModes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	devices, others := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Others"))
	r.trust("devices", devices)
	r.trust("others", others)
	upstream := tlstest.HTTP(t)
	port := freePort(t)
	modes := []termination.Mode{termination.ModeOff, termination.ModeRequest, termination.ModeRequireAny, termination.ModeOptional, termination.ModeRequire}
	name := func(own, route termination.Mode) string {
		return strings.ReplaceAll(string(own)+"-then-"+string(route), "_", "-")
	}
	for _, own := range modes {
		for _, route := range modes {
			r.endpoint(name(own, route), port, upstream.URL, func(e *termination.Endpoint) {
				policy := func(m termination.Mode) termination.ClientAuth {
					a := termination.ClientAuth{Mode: m, Announce: true, OnLoss: termination.OnLossClose}
					if m != termination.ModeOff {
						a.Authorities = []string{"devices"}
					}
					return a
				}
				e.ClientAuth = policy(own)
				inner := policy(route)
				e.Routes = []termination.Route{{Path: "/r", ClientAuth: &inner}}
			})
		}
	}
	r.endpoint("elsewhere", port, upstream.URL, require("others"))
	r.apply()
	admits := func(m termination.Mode, client string) bool {
		switch m {
		case termination.ModeOff, termination.ModeRequest:
			return true
		case termination.ModeRequireAny:
			return client != "none"
		case termination.ModeOptional:
			return client == "none" || client == "good"
		default:
			return client == "good"
		}
	}
	clients := map[string]*tlstest.Cert{
		"none": nil, "good": devices.Client("alice"), "stranger": tlstest.NewCA(tlstest.CN("Strangers")).Client("eve"), "of another CA": others.Client("olga"),
	}
	var all sync.WaitGroup
	busy := make(chan struct{}, 8)
	for _, own := range modes {
		for _, route := range modes {
			for client, cert := range clients {
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					busy <- struct{}{}
					all.Go(func() {
						defer func() { <-busy }()
						what := fmt.Sprintf("%s, %s, %s", name(own, route), client, tls.VersionName(version))
						host := name(own, route) + ".localhost"
						config := r.clientConfig(host, version, cert)
						config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
						for n, h2 := range []bool{false, true} {
							for path, m := range map[string]termination.Mode{"/": own, "/r/x": route} {
								status, resumed, err := askFor(config, port, host+path, h2)
								want := 0
								switch {
								case admits(m, client):
									want = 200
								case admits(own, client) || admits(route, client):
									want = 403
								}
								if status != want || want == 0 && err == nil {
									t.Errorf("%s, %s, h2 %t: answered %d, want %d (%v)", what, path, h2, status, want, err)
								}
								if want != 0 && n == 1 && !resumed {
									t.Errorf("%s, %s: the session was not resumed", what, path)
								}
							}
						}
					})
				}
			}
		}
	}
	all.Wait()
}

// askFor makes one request on a connection of its own. A refusal in TLS is an error and the status 0.
func askFor(config *tls.Config, port uint16, target string, h2 bool, header ...string) (status int, resumed bool, err error) {
	transport := &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address(port))
		},
	}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetHTTP2(h2)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodGet, "https://"+target, nil)
	if err != nil {
		return 0, false, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	res, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		return 0, false, err
	}
	defer res.Body.Close()
	return res.StatusCode, res.TLS.DidResume, nil
}

// TestSoft: TLS asks and lets everyone in, HTTP refuses, and the service never sees it; at the edge and at an agent.
func TestSoft(t *testing.T) {
	t.Run("edge", func(t *testing.T) { testSoft(t, newRig(t)) })
	t.Run("agent", func(t *testing.T) { testSoft(t, newAgentRig(t)) })
}

func testSoft(t *testing.T, r *rig) {
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	r.trust("devices", devices)
	upstream := tlstest.HTTP(t)
	port := freePort(t)
	blocked := devices.Client("blocked")
	r.config.Blocked = []termination.Block{{ID: "blk_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(blocked.X509)}}}
	r.config.Credentials = []termination.Credential{{ID: "cred_1", Name: "ci", Kind: termination.ProofBearer, Hash: "sha256:234f606f4ee6e1f776af0f3d7ff259a6b9642c6824a2e496f04449b11d45eade"}}
	soft := func(m termination.Mode) func(*termination.Endpoint) {
		return func(e *termination.Endpoint) {
			mode(m, "devices")(e)
			e.ClientAuth.Soft = true
		}
	}
	r.endpoint("strict", port, upstream.URL, soft(termination.ModeRequire))
	r.endpoint("any", port, upstream.URL, soft(termination.ModeRequireAny))
	r.endpoint("some", port, upstream.URL, soft(termination.ModeOptional))
	r.endpoint("either", port, upstream.URL, func(e *termination.Endpoint) {
		require("devices")(e)
		e.Also.AnyOf = []termination.ProofKind{termination.ProofCertificate, termination.ProofBearer}
	})
	r.apply()
	clients := map[string]*tlstest.Cert{
		"none": nil, "good": devices.Client("alice"), "stranger": tlstest.NewCA().Client("eve"), "expired": devices.Client("old", tlstest.Expired()), "blocked": blocked,
	}
	statuses := map[string]map[string]int{
		"strict": {"none": 403, "good": 200, "stranger": 403, "expired": 403, "blocked": 403},
		"any":    {"none": 403, "good": 200, "stranger": 200, "expired": 200, "blocked": 403},
		"some":   {"none": 200, "good": 200, "stranger": 403, "expired": 403, "blocked": 403},
		"either": {"none": 401, "good": 200, "stranger": 401, "expired": 401, "blocked": 403},
	}
	reasons := map[string]termination.Reason{
		"none": termination.ReasonCertMissing, "stranger": termination.ReasonCAUnknown, "expired": termination.ReasonCertExpired, "blocked": termination.ReasonBlocked,
	}
	for endpoint, byClient := range statuses {
		for client, want := range byClient {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				config := r.clientConfig(endpoint+".localhost", version, clients[client])
				before := upstream.Requests()
				status, _, err := askFor(config, port, endpoint+".localhost/", version == tls.VersionTLS13)
				rec := r.next()
				if status != want || err != nil {
					t.Errorf("%s, %s: answered %d, want %d (%v)", endpoint, client, status, want, err)
				}
				if got := upstream.Requests() - before; got != 0 && want != 200 {
					t.Errorf("%s, %s: the service was reached", endpoint, client)
				}
				outcome, reason := termination.OutcomeOpen, reasons[client]
				if client == "good" {
					outcome = termination.OutcomeVerified
				}
				if rec.Verdict.Outcome != outcome || !sameReason(rec.Verdict.Reason, reason) {
					t.Errorf("%s, %s: recorded %s %q, want %s %q", endpoint, client, rec.Verdict.Outcome, rec.Verdict.Reason, outcome, reason)
				}
				after := r.end(rec.ID).Reason
				if expected := map[int]termination.Reason{200: "", 401: termination.ReasonProofMissing, 403: termination.ReasonPolicyDenied}[want]; after != expected {
					t.Errorf("%s, %s: the record ends with %q, want %q", endpoint, client, after, expected)
				}
			}
		}
	}
	// The other proof stands in for the certificate.
	for _, client := range []string{"none", "stranger", "expired", "good", "blocked"} {
		want := 200
		if client == "blocked" {
			want = 403
		}
		config := r.clientConfig("either.localhost", tls.VersionTLS13, clients[client])
		status, _, err := askFor(config, port, "either.localhost/", true, "Authorization", "Bearer a-token-that-nobody-guesses-0123456789")
		if status != want || err != nil {
			t.Errorf("either, %s and a token: answered %d, want %d (%v)", client, status, want, err)
		}
	}
}
