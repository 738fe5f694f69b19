package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// openSocket opens a WebSocket with a token, and checks that it works.
func (f *front) openSocket(t *testing.T, o clientOptions, token string) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: f.tlsConfig(o), HandshakeTimeout: patient}
	header := http.Header{"Host": {o.serverName}}
	if token != "" {
		header["Authorization"] = []string{"Bearer " + token}
	}
	ws, res, err := dialer.Dial("wss://"+f.address.String()+"/r/socket", header) //nolint:bodyclose // the library has read it
	if err != nil {
		t.Fatalf("open the WebSocket: %v, %v", err, res)
	}
	t.Cleanup(func() { _ = ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(patient))
	echoes(t, ws, true)
	return ws
}

// echoes checks whether messages come back: one, or, where they must not any more, soon none.
func echoes(t *testing.T, ws *websocket.Conn, want bool) {
	t.Helper()
	deadline := time.Now().Add(patient)
	_ = ws.SetReadDeadline(deadline)
	var err error
	for again := true; again; again = !want && err == nil && time.Now().Before(deadline) {
		if err = ws.WriteMessage(websocket.TextMessage, []byte("hello")); err == nil {
			_, _, err = ws.ReadMessage()
		}
	}
	if (err == nil) != want {
		t.Errorf("the WebSocket goes on: %v, want %t", err, want)
	}
}

// TestLostInFlight: a WebSocket that was let in by a token, or on a soft or laxer endpoint's route, ends when it would not be
// let in any more; and not before.
func TestLostInFlight(t *testing.T) {
	type state struct {
		f     *front
		alice *tlstest.Cert
		e     *termination.Endpoint
	}
	demand := func(e *termination.Endpoint) { e.Also.AllOf = []termination.ProofKind{token} }
	softRoute := func(e *termination.Endpoint) {
		route("/r", termination.ModeRequire)(e)
		e.Routes[0].ClientAuth.Soft = true
	}
	for _, c := range []struct {
		name   string
		before func(*termination.Endpoint)
		token  string
		cert   bool
		change func(*state)
		stays  bool
	}{
		{"nothing changes", demand, goodToken, false, func(*state) {}, true},
		{"another credential is blocked", demand, goodToken, false, func(s *state) { s.f.credentials[1].Blocked = true }, true},
		{"blocked", demand, goodToken, false, func(s *state) { s.f.credentials[0].Blocked = true }, false},
		{"deleted", demand, goodToken, false, func(s *state) { s.f.credentials = s.f.credentials[1:] }, false},
		{"another secret", demand, goodToken, false, func(s *state) { s.f.credentials[0].Hash = tokenHash("another") }, false},
		{"not for this endpoint", demand, goodToken, false, func(s *state) { s.f.credentials[0].Endpoints = []string{"private.test"} }, false},
		{"bound to another certificate", demand, goodToken, true, func(s *state) {
			s.f.credentials[0].Pin = &termination.Pin{Fingerprint: termination.FingerprintOf(s.f.clients.X509)}
		}, false},
		{"bound to this certificate", demand, goodToken, true, func(s *state) {
			s.f.credentials[0].Pin = &termination.Pin{Fingerprint: termination.FingerprintOf(s.alice.X509)}
		}, true},
		{"a token is demanded now", route("/r", termination.ModeOff), "", false, func(s *state) { demand(s.e) }, false},
		{"on_loss leaves it", demand, goodToken, false, func(s *state) {
			s.e.ClientAuth.OnLoss = termination.OnLossLeave
			s.f.credentials[0].Blocked = true
		}, true},
		{"the certificate is blocked, soft", softRoute, "", true, func(s *state) {
			s.f.blocked = []termination.Block{{ID: "blk_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(s.alice.X509)}}}
		}, false},
		{"another certificate is blocked, soft", softRoute, "", true, func(s *state) {
			s.f.blocked = []termination.Block{{ID: "blk_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(s.f.clients.Client("bob").X509)}}}
		}, true},
		{"the route trusts another authority", softRoute, "", true, func(s *state) {
			s.e.Routes[0].ClientAuth.Authorities = []string{"partners"}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
			s := &state{f: f, alice: f.clients.Client("alice")}
			f.credentials = proofsFor(t, s.alice)
			before := f.endpoint("public.test", up.URL, mode(termination.ModeRequest), c.before)
			f.apply(before)
			o := clientOptions{serverName: "public.test"}
			if c.cert {
				o.cert = s.alice
			}
			ws := f.openSocket(t, o, c.token)
			after := f.endpoint("public.test", up.URL, mode(termination.ModeRequest), c.before)
			s.e = &after
			f.credentials = append([]termination.Credential(nil), f.credentials...)
			c.change(s)
			f.apply(after)
			f.proxy.JudgeAgain(f.only().http)
			echoes(t, ws, c.stays)
			if !c.stays {
				if n := f.waitNote(termination.ReasonPolicyDenied); !strings.Contains(n.Detail, "in flight") {
					t.Errorf("noted %q", n.Detail)
				}
			}
		})
	}
}

// TestCredentialExpiresInFlight: nobody has to do anything for it.
func TestCredentialExpiresInFlight(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.credentials = proofsFor(t, f.clients.Client("alice"))
	f.credentials[0].Expires = time.Now().Add(2 * time.Second)
	f.apply(f.endpoint("public.test", up.URL, allOf(token)))
	ws := f.openSocket(t, clientOptions{serverName: "public.test"}, goodToken)
	if _, _, err := ws.ReadMessage(); err == nil {
		t.Error("the WebSocket goes on")
	} else if time.Now().Before(f.credentials[0].Expires) {
		t.Errorf("it ended before its time: %v", err)
	}
}

// TestFallbackMeetsPolicy: a connection without a server name reaches another endpoint only as far as that one's whole policy
// is met by it.
func TestFallbackMeetsPolicy(t *testing.T) {
	soft := func(e *termination.Endpoint) { e.ClientAuth.Soft = true }
	reports := func(e *termination.Endpoint) { e.ClientAuth.ReportOnly = true }
	for _, c := range []struct {
		name    string
		private []func(*termination.Endpoint)
		cert    string
		header  string
		status  int
		code    string
	}{
		{"soft, none", []func(*termination.Endpoint){mode(termination.ModeRequire), soft}, "", "", 403, "missing"},
		{"soft, stranger", []func(*termination.Endpoint){mode(termination.ModeRequire), soft}, "mallory", "", 403, "invalid"},
		{"soft, good", []func(*termination.Endpoint){mode(termination.ModeRequire), soft}, "alice", "", 200, ""},
		{"report only, none", []func(*termination.Endpoint){mode(termination.ModeRequire), reports}, "", "", 200, ""},
		{"token, none", []func(*termination.Endpoint){allOf(token)}, "", "", 401, "missing"},
		{"token, good", []func(*termination.Endpoint){allOf(token)}, "", "Bearer " + goodToken, 200, ""},
		{"both, token alone", []func(*termination.Endpoint){mode(termination.ModeRequire), allOf(token)}, "", "Bearer " + goodToken, 403, "missing"},
		{"both", []func(*termination.Endpoint){mode(termination.ModeRequire), allOf(token)}, "alice", "Bearer " + goodToken, 200, ""},
		{"either, none", []func(*termination.Endpoint){mode(termination.ModeRequire), anyOf(cert, token)}, "", "", 401, "missing"},
		{"either, token", []func(*termination.Endpoint){mode(termination.ModeRequire), anyOf(cert, token)}, "", "Bearer " + goodToken, 200, ""},
		{"TLS floor", []func(*termination.Endpoint){func(e *termination.Endpoint) { e.Preset = termination.PresetModern }}, "", "", 403, "not_allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				alice := f.clients.Client("alice")
				f.credentials = proofsFor(t, alice)
				f.apply(f.endpoint("", up.URL), f.endpoint("private.test", up.URL, c.private...))
				o := clientOptions{serverName: "127.0.0.1", cert: map[string]*tlstest.Cert{"alice": alice, "mallory": f.others.Client("mallory")}[c.cert]}
				if c.name == "TLS floor" {
					o.maxVersion = 0x0303
				}
				a := f.ask(h2, o, "private.test", "/", sends(c.header)...)
				if c.status == 200 {
					wantStatus(t, a, 200)
					return
				}
				wantRefused(t, a, c.status, c.code)
				if up.Accepted() != 0 {
					t.Error("the upstream was contacted")
				}
				// By name, over a connection that was made to another endpoint's, it is not to be had at all.
				f.apply(f.endpoint("public.test", up.URL), f.endpoint("private.test", up.URL, c.private...))
				o.serverName = "public.test"
				wantRefused(t, f.ask(h2, o, "private.test", "/", sends(c.header)...), 421, "")
			})
		})
	}
}
