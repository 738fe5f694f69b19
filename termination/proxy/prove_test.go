package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"countersign/termination"
	"countersign/termination/tlstest"
)

const (
	goodToken    = "a-token-that-nobody-guesses-0123456789"
	boundToken   = "a-token-for-alice-alone-0123456789abc"
	goodPassword = "correct horse"
)

func tokenHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// proofsFor makes a token and a password that count everywhere, and a token that is bound to alice's certificate.
func proofsFor(t testing.TB, alice *tlstest.Cert) []termination.Credential {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(goodPassword), termination.MinPasswordCost)
	if err != nil {
		t.Fatal(err)
	}
	return []termination.Credential{
		{ID: "cred_ci", Name: "ci", Kind: termination.ProofBearer, Hash: tokenHash(goodToken)},
		{ID: "cred_ann", Name: "ann", User: "ann", Kind: termination.ProofBasic, Hash: string(hash)},
		{ID: "cred_bound", Name: "bound", Kind: termination.ProofBearer, Hash: tokenHash(boundToken), Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(alice.X509)}},
	}
}

func allOf(kinds ...termination.ProofKind) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) { e.Also.AllOf = kinds }
}

func anyOf(kinds ...termination.ProofKind) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) { e.Also.AnyOf = kinds }
}

// with sends an Authorization header.
func with(value string) func(*http.Request) {
	return func(r *http.Request) {
		if value != "" {
			r.Header["Authorization"] = []string{value}
		}
	}
}

// sends is with for requests that are written by hand.
func sends(value string) []string {
	if value == "" {
		return nil
	}
	return []string{"authorization", value}
}

func password(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

const (
	cert  = termination.ProofCertificate
	token = termination.ProofBearer
	basic = termination.ProofBasic
)

// TestProofs: every combination of what is demanded, over both versions of HTTP.
func TestProofs(t *testing.T) {
	type client struct{ who, header string }
	const (
		good, wrong = "Bearer " + goodToken, "Bearer another"
		bound       = "Bearer " + boundToken
	)
	pass := password("ann", goodPassword)
	for _, c := range []struct {
		name      string
		mode      termination.Mode
		also      func(*termination.Endpoint)
		client    client
		status    int
		code      string
		challenge string // the first WWW-Authenticate; empty: none
	}{
		{"token, none", termination.ModeOff, allOf(token), client{"", ""}, 401, "missing", `Bearer realm="public.test"`},
		{"token, good", termination.ModeOff, allOf(token), client{"", good}, 200, "", ""},
		{"token, wrong", termination.ModeOff, allOf(token), client{"", wrong}, 401, "invalid", `Bearer realm="public.test", error="invalid_token"`},
		{"token, a password instead", termination.ModeOff, allOf(token), client{"", pass}, 401, "missing", `Bearer realm="public.test"`},
		{"token, odd", termination.ModeOff, allOf(token), client{"", "Bearer a, Bearer " + goodToken}, 400, "invalid", `Bearer realm="public.test", error="invalid_request"`},
		{"password, none", termination.ModeOff, allOf(basic), client{"", ""}, 401, "missing", `Basic realm="public.test", charset="UTF-8"`},
		{"password, good", termination.ModeOff, allOf(basic), client{"", pass}, 200, "", ""},
		{"password, wrong", termination.ModeOff, allOf(basic), client{"", password("ann", "x")}, 401, "invalid", `Basic realm="public.test", charset="UTF-8"`},
		{"password, unknown user", termination.ModeOff, allOf(basic), client{"", password("eve", goodPassword)}, 401, "invalid", `Basic realm="public.test", charset="UTF-8"`},
		{"either, token", termination.ModeOff, anyOf(token, basic), client{"", good}, 200, "", ""},
		{"either, password", termination.ModeOff, anyOf(token, basic), client{"", pass}, 200, "", ""},
		{"either, none", termination.ModeOff, anyOf(token, basic), client{"", ""}, 401, "missing", `Bearer realm="public.test"`},
		{"both, neither", termination.ModeRequire, allOf(cert, token), client{"", ""}, 403, "missing", ""},
		{"both, token alone", termination.ModeRequire, allOf(cert, token), client{"", good}, 403, "missing", ""},
		{"both, certificate alone", termination.ModeRequire, allOf(cert, token), client{"alice", ""}, 401, "missing", `Bearer realm="public.test"`},
		{"both, stranger and token", termination.ModeRequire, allOf(cert, token), client{"mallory", good}, 403, "invalid", ""},
		{"both", termination.ModeRequire, allOf(cert, token), client{"alice", good}, 200, "", ""},
		{"certificate where the mode lets all in, none", termination.ModeRequest, allOf(cert), client{"", ""}, 403, "missing", ""},
		{"certificate where the mode lets all in, stranger", termination.ModeRequest, allOf(cert), client{"mallory", ""}, 403, "invalid", ""},
		{"certificate where the mode lets all in, good", termination.ModeRequest, allOf(cert), client{"alice", ""}, 200, "", ""},
		{"instead, neither", termination.ModeRequire, anyOf(cert, token), client{"", ""}, 401, "missing", `Bearer realm="public.test"`},
		{"instead, token", termination.ModeRequire, anyOf(cert, token), client{"", good}, 200, "", ""},
		{"instead, certificate", termination.ModeRequire, anyOf(cert, token), client{"alice", ""}, 200, "", ""},
		{"instead, certificate and a wrong token", termination.ModeRequire, anyOf(cert, token), client{"alice", wrong}, 200, "", ""},
		{"instead, stranger", termination.ModeRequire, anyOf(cert, token), client{"mallory", ""}, 401, "missing", `Bearer realm="public.test"`},
		{"instead, stranger and token", termination.ModeRequire, anyOf(cert, token), client{"mallory", good}, 200, "", ""},
		{"instead, blocked and token", termination.ModeRequire, anyOf(cert, token), client{"blocked", good}, 403, "not_allowed", ""},
		{"instead, blocked and token, request", termination.ModeRequest, anyOf(cert, token), client{"blocked", good}, 403, "not_allowed", ""},
		{"instead, wrong token", termination.ModeRequire, anyOf(cert, token), client{"", wrong}, 401, "invalid", `Bearer realm="public.test", error="invalid_token"`},
		{"bound, alice", termination.ModeRequest, allOf(token), client{"alice", bound}, 200, "", ""},
		{"bound, nobody", termination.ModeRequest, allOf(token), client{"", bound}, 401, "invalid", `Bearer realm="public.test", error="invalid_token"`},
		{"bound, bob", termination.ModeRequest, allOf(token), client{"bob", bound}, 401, "invalid", `Bearer realm="public.test", error="invalid_token"`},
		{"bound, appended to another's chain", termination.ModeRequest, allOf(token), client{"mallory+alice", bound}, 401, "invalid", `Bearer realm="public.test", error="invalid_token"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				alice, bob, blocked := f.clients.Client("alice"), f.clients.Client("bob"), f.clients.Client("blocked")
				f.credentials = proofsFor(t, alice)
				f.blocked = []termination.Block{{ID: "blk_1", Pin: &termination.Pin{Fingerprint: termination.FingerprintOf(blocked.X509)}}}
				f.apply(f.endpoint("public.test", up.URL, mode(c.mode), c.also))
				o := clientOptions{serverName: "public.test", h2: h2, cert: map[string]*tlstest.Cert{
					"alice": alice, "bob": bob, "blocked": blocked, "mallory": f.others.Client("mallory"), "mallory+alice": f.others.Client("mallory"),
				}[c.client.who]}
				if c.client.who == "mallory+alice" {
					o.more = alice
				}
				a := f.get(f.client(o), "public.test", "/", with(c.client.header))
				if got := a.Header.Get("WWW-Authenticate"); got != c.challenge {
					t.Errorf("WWW-Authenticate: %s, want %s", got, c.challenge)
				}
				if c.status == 200 {
					wantStatus(t, a, 200)
					if got := echo(t, a).Header["Authorization"]; len(got) != 1 && c.client.header != "" {
						t.Errorf("the upstream saw Authorization: %q", got)
					}
					return
				}
				wantRefused(t, a, c.status, c.code)
				if up.Accepted() != 0 {
					t.Error("the upstream was contacted")
				}
				if strings.Contains(a.body, "alice") || strings.Contains(a.body, "blocked") || strings.Contains(a.body, "another") {
					t.Errorf("the answer tells too much: %s", a.body)
				}
				reason := termination.ReasonProofMissing
				if c.status == 403 {
					reason = termination.ReasonPolicyDenied
				}
				if n := f.waitNote(reason); !strings.Contains(n.Detail, "public.test") || strings.Contains(n.Detail, goodToken) {
					t.Errorf("noted %q", n.Detail)
				}
			})
		})
	}
}

// TestProofOnRoute: a route has its own, and no odd spelling of its path leads past it.
func TestProofOnRoute(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.credentials = proofsFor(t, f.clients.Client("alice"))
		none := termination.Also{}
		f.apply(f.endpoint("public.test", up.URL, func(e *termination.Endpoint) {
			e.Also = termination.Also{AllOf: []termination.ProofKind{token}, Strip: true}
			e.Routes = []termination.Route{
				{Path: "/open", Also: &none},
				{Path: "/open/inner", Also: &termination.Also{AllOf: []termination.ProofKind{basic}}},
			}
		}))
		for _, c := range []struct {
			target, header string
			status         int
		}{
			{"/", "", 401},
			{"/", "Bearer " + goodToken, 200},
			{"/open", "", 200},
			{"/open/", "", 200},
			{"/openly", "", 401},
			{"/OPEN", "", 401},
			{"/open/inner", "", 401},
			{"/open/inner", "Bearer " + goodToken, 401},
			{"/open/inner/x", password("ann", goodPassword), 200},
			{"/open/inne%72", "", 401},
			{"/open/../inner", "", 400},
			{"/open/%2e%2e/x", "", 400},
			{"/open%2finner", "", 400},
			{"/open//inner", "", 400},
			{"//open", "", 400},
			{"/open/inner;x", "", 400},
			{`/open\inner`, "", 400},
			{"/open/./inner", "", 400},
		} {
			before := up.Requests()
			a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", c.target, sends(c.header)...)
			wantStatus(t, a, c.status)
			if c.status != 200 && up.Requests() != before {
				t.Errorf("%s reached the upstream", c.target)
			}
		}
		a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/", sends("Bearer "+goodToken)...)
		if got := echo(t, a).Header["Authorization"]; got != nil {
			t.Errorf("the token was not taken away: %q", got)
		}
		a = f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/open/inner", sends(password("ann", goodPassword))...)
		if got := echo(t, a).Header["Authorization"]; len(got) != 1 {
			t.Errorf("a route without strip takes away %q", got)
		}
	})
}

// TestTwoAuthorizations: which of two an upstream would believe is not known.
func TestTwoAuthorizations(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.credentials = proofsFor(t, f.clients.Client("alice"))
		f.apply(f.endpoint("public.test", up.URL, allOf(token)))
		a := f.ask(h2, clientOptions{serverName: "public.test"}, "public.test", "/", append(sends("Bearer "+goodToken), sends("Bearer another")...)...)
		wantRefused(t, a, 400, "invalid")
		if up.Accepted() != 0 {
			t.Error("the upstream was contacted")
		}
	})
}

// TestWrongProofs: who keeps being wrong has to wait, and the connection ends.
func TestWrongProofs(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.credentials = proofsFor(t, f.clients.Client("alice"))
		f.apply(f.endpoint("public.test", up.URL, anyOf(token, basic)))
		o := clientOptions{serverName: "public.test", h2: h2}
		client := f.client(o)
		for i := range maxConnFailures {
			a := f.get(client, "public.test", "/", with("Bearer wrong"))
			wantRefused(t, a, 401, "invalid")
			if last := i == maxConnFailures-1; !h2 && (a.Close != last) {
				t.Errorf("after %d: close is %v", i+1, a.Close)
			}
			if n := len(a.Header["Www-Authenticate"]); n != 2 {
				t.Errorf("%d challenges", n)
			}
		}
		a := f.get(f.client(o), "public.test", "/", with(password("ann", goodPassword)))
		wantRefused(t, a, 429, "")
		if a.Header.Get("Retry-After") == "" {
			t.Error("it does not say how long to wait")
		}
		wantStatus(t, f.get(f.client(o), "public.test", "/", with("Bearer "+goodToken)), 200)
	})
}

// TestCredentialsElsewhere: what is blocked, over, or made for another endpoint or identity, is like one that is not there.
func TestCredentialsElsewhere(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	alice := f.clients.Client("alice")
	all := proofsFor(t, alice)
	f.identities = []termination.Identity{{ID: "id_1", Name: "billing", Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(alice.X509)}}}}
	for name, change := range map[string]func(*termination.Credential){
		"blocked":                func(c *termination.Credential) { c.Blocked = true },
		"expired":                func(c *termination.Credential) { c.Expires = time.Now().Add(-time.Second) },
		"of another endpoint":    func(c *termination.Credential) { c.Endpoints = []string{"private.test"} },
		"of an unknown identity": func(c *termination.Credential) { c.Identity = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			f.credentials = []termination.Credential{all[0]}
			change(&f.credentials[0])
			f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequest), allOf(token)), f.endpoint("private.test", up.URL, allOf(token)))
			a := f.ask(false, clientOptions{serverName: "public.test", cert: alice}, "public.test", "/", sends("Bearer "+goodToken)...)
			wantRefused(t, a, 401, "invalid")
		})
	}
	f.credentials = []termination.Credential{all[0]}
	f.credentials[0].Identity, f.credentials[0].Endpoints = "billing", []string{"public.test"}
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequest), allOf(token)))
	wantStatus(t, f.ask(false, clientOptions{serverName: "public.test", cert: alice}, "public.test", "/", sends("Bearer "+goodToken)...), 200)
	wantRefused(t, f.ask(false, clientOptions{serverName: "public.test", cert: f.clients.Client("bob")}, "public.test", "/", sends("Bearer "+goodToken)...), 401, "invalid")
}
