package proxy

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

// owning gives an endpoint headers of its own: names and expressions by turns.
func owning(pairs ...string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) {
		for i := 0; i < len(pairs); i += 2 {
			e.ForwardHeaders = append(e.ForwardHeaders, termination.ForwardHeader{Name: pairs[i], Value: pairs[i+1]})
		}
	}
}

// TestOwnHeaders: expressions give values, for the client, the connection and the request, over both protocols.
func TestOwnHeaders(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		alice := f.clients.Client("alice", tlstest.Org("Acme", "Second"), tlstest.DNS("a.example.com", "b.example.com"))
		f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), owning(
			"X-Name", `client.subject.common_name`, "X_Names", `client.san.dns_names`, "X-Team", `client.subject.organization[0] + "/" + client.authority`,
			"X-Sni", `conn.tls.sni`, "X-What", `req.method + " " + req.path`, "X-Nothing", `""`, "X-Constant", `"yes"`,
		), route("/open", termination.ModeOff)))
		client := f.client(clientOptions{h2: h2, serverName: "public.test", cert: alice})
		for _, c := range []struct {
			path string
			want map[string]string
		}{
			{"/a", map[string]string{"X-Name": "alice", "X_Names": "a.example.com, b.example.com", "X-Team": "Acme/devices", "X-Sni": "public.test", "X-What": "GET /a", "X-Constant": "yes"}},
			{"/b", map[string]string{"X-Name": "alice", "X-What": "GET /b"}},
			{"/open/c", map[string]string{"X-Name": "", "X_Names": "", "X-Team": "", "X-Sni": "public.test", "X-What": "GET /open/c", "X-Constant": "yes"}},
		} {
			got := echo(t, f.get(client, "public.test", c.path)).Header
			for name, want := range c.want {
				if v := strings.Join(valuesOf(got, name), "|"); v != want {
					t.Errorf("%s: %s is %q, want %q", c.path, name, v, want)
				}
			}
			if v := valuesOf(got, "X-Nothing"); v != nil {
				t.Errorf("an empty value is told as %q", v)
			}
		}
		f.noNote(termination.ReasonIdentityLeftOut)
	})
}

func valuesOf(h http.Header, name string) []string {
	if v := h[name]; v != nil {
		return v
	}
	return h.Values(name)
}

// TestOwnHeadersCannotBeForged: under the name of a header of the endpoint's own, or any spelling that a service cannot
// tell from it, nothing passes from outside: as a header, twice, named in Connection, or as a trailer; whether the client
// has an identity or not.
func TestOwnHeadersCannotBeForged(t *testing.T) {
	const forged = "forged-by-client"
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeOptional), owning("X-Team-Of-A-Very-Long-Name-Indeed", `client.subject.common_name`, "Remote.User", `req.path`)))
		for _, o := range []clientOptions{{serverName: "public.test"}, {serverName: "public.test", cert: f.clients.Client("alice")}} {
			for _, name := range []string{
				"X-Team-Of-A-Very-Long-Name-Indeed", "x_team_of_a_very_long_name_indeed", "X-Team-Of_A.Very-LONG-Name-Indeed", "Remote-User", "REMOTE_USER", "remote.user",
			} {
				a := f.ask(h2, o, "public.test", "/p", name, forged, name, forged)
				wantStatus(t, a, 200)
				got := echo(t, a)
				for n, v := range got.Header {
					if strings.Contains(strings.Join(v, "\n"), forged) {
						t.Errorf("%s reaches the service as %s", name, n)
					}
				}
				want := ""
				if o.cert != nil {
					want = "alice"
				}
				if v := got.Header.Get("X-Team-Of-A-Very-Long-Name-Indeed"); v != want {
					t.Errorf("%s: told %q, want %q", name, v, want)
				}
				if v := got.Header.Get("Remote.user"); v != "/p" {
					t.Errorf("%s: told %q", name, got.Header)
				}
				if !h2 {
					trailer := f.raw(o, "POST / HTTP/1.1\r\nHost: public.test\r\nConnection: close, "+name+"\r\nTransfer-Encoding: chunked\r\nTrailer: "+name+"\r\n\r\n1\r\nx\r\n0\r\n"+name+": "+forged+"\r\n\r\n")
					if strings.Contains(trailer.body, forged) {
						t.Errorf("%s reaches the service as a trailer: %s", name, trailer.body)
					}
				}
			}
		}
	})
}

// TestOwnHeadersThatFail: what has no value that every service reads alike is not told; the service learns which, and the
// record why.
func TestOwnHeadersThatFail(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	alice := f.clients.Client("alice\r\nX-Evil: yes", tlstest.Org("a,b", "c"), tlstest.OrgUnit(" padded"))
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), owning(
		"X-Good", `client.authority`, "X-Line", `client.subject.common_name`, "X-List", `client.subject.organization`, "X-Padded", `client.subject.organizational_unit[0]`,
		"X-Missing", `client.san.uris[0]`, "X-Request", `req.path + "\n"`, "X-Long", `client.pem + client.pem + client.pem + client.pem`,
	)))
	client := f.client(clientOptions{serverName: "public.test", cert: alice})
	for range 3 {
		h := echo(t, f.get(client, "public.test", "/")).Header
		const left = "X-Line, X-List, X-Padded, X-Missing, X-Long, X-Request"
		if h.Get("X-Good") != "devices" || h.Get("Countersign-Left-Out") != left {
			t.Errorf("told %q", h)
		}
		for _, name := range strings.Split(left, ", ") {
			if h.Get(name) != "" {
				t.Errorf("%s is %q", name, h.Get(name))
			}
		}
		if h.Get("X-Evil") != "" {
			t.Error("a name became a header")
		}
	}
	n := f.waitNote(termination.ReasonIdentityLeftOut)
	for _, want := range []string{"X-Line: its value is not one line", "X-Padded: its value begins or ends with a space", "X-List: a text in its list", "X-Missing: "} {
		if !strings.Contains(n.Detail, want) {
			t.Errorf("noted %q, want %q in it", n.Detail, want)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	count := 0
	for _, n := range f.notes {
		if n.Reason == termination.ReasonIdentityLeftOut {
			count++
		}
	}
	if count != 1 {
		t.Errorf("noted %d times", count)
	}
}

// TestOwnHeaderThatDoesNotCompile: it is refused before anything is served, for agents' endpoints too.
func TestOwnHeaderThatDoesNotCompile(t *testing.T) {
	for _, at := range []termination.TerminateAt{termination.AtEdge, termination.AtAgent} {
		config := &termination.Config{Limits: termination.DefaultLimits()}
		policy, err := verify.Compile(config, termination.ClientAuth{Mode: termination.ModeOff}, verify.Scope{})
		if err != nil {
			t.Fatal(err)
		}
		e := &termination.Endpoint{Name: "api", Scheme: termination.SchemeHTTPS, Host: "api.test", TerminateAt: at}
		owning("X-Good", `"x"`, "X-Bad", `client.subjekt`, "X-Number", `1 + 1`)(e)
		_, err = NewSite(config, e, policy, verify.Scope{})
		var invalid termination.ValidationError
		if !errors.As(err, &invalid) || len(invalid) != 2 || invalid[0].Field != "forward_identity.X-Bad" || invalid[0].Name != "api" ||
			!strings.Contains(invalid[0].Problem, "client.subjekt") || invalid[1].Field != "forward_identity.X-Number" {
			t.Errorf("%s: %v", at, err)
		}
	}
}
