package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestRoutePolicy: a route may be stricter or laxer than its endpoint; HTTP then refuses.
func TestRoutePolicy(t *testing.T) {
	alice := func(f *front) *tlstest.Cert { return f.clients.Client("alice") }
	mallory := func(f *front) *tlstest.Cert { return f.others.Client("mallory") }
	expired := func(f *front) *tlstest.Cert { return f.clients.Client("old", tlstest.Expired()) }
	for _, c := range []struct {
		name     string
		endpoint termination.Mode
		route    termination.Mode
		target   string
		cert     func(*front) *tlstest.Cert
		status   int
		code     string
	}{
		{"stricter, outside", termination.ModeOff, termination.ModeRequire, "/", nil, 200, ""},
		{"stricter, none", termination.ModeOff, termination.ModeRequire, "/r/x", nil, 403, "missing"},
		{"stricter, good", termination.ModeOff, termination.ModeRequire, "/r/x", alice, 200, ""},
		{"stricter, foreign", termination.ModeOff, termination.ModeRequire, "/r/x", mallory, 403, "invalid"},
		{"stricter, expired", termination.ModeOff, termination.ModeRequire, "/r/x", expired, 403, "invalid"},
		{"laxer, outside, none", termination.ModeRequire, termination.ModeOff, "/", nil, 403, "missing"},
		{"laxer, outside, foreign", termination.ModeRequire, termination.ModeOff, "/", mallory, 403, "invalid"},
		{"laxer, none", termination.ModeRequire, termination.ModeOff, "/r", nil, 200, ""},
		{"laxer, foreign", termination.ModeRequire, termination.ModeOff, "/r", mallory, 200, ""},
		{"any, none", termination.ModeOff, termination.ModeRequireAny, "/r", nil, 403, "missing"},
		{"any, foreign", termination.ModeOff, termination.ModeRequireAny, "/r", mallory, 200, ""},
		{"optional, none", termination.ModeOff, termination.ModeOptional, "/r", nil, 200, ""},
		{"optional, foreign", termination.ModeOff, termination.ModeOptional, "/r", mallory, 403, "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.apply(f.endpoint("public.test", up.URL, mode(c.endpoint), route("/r", c.route)))
				o := clientOptions{serverName: "public.test"}
				if c.cert != nil {
					o.cert = c.cert(f)
				}
				a := f.ask(h2, o, "public.test", c.target)
				if c.status == 200 {
					wantStatus(t, a, 200)
					return
				}
				wantRefused(t, a, c.status, c.code)
				if up.Accepted() != 0 {
					t.Error("the upstream was contacted")
				}
				if n := f.waitNote(termination.ReasonPolicyDenied); !strings.Contains(n.Detail, "public.test") {
					t.Errorf("noted %q", n.Detail)
				}
			})
		})
	}
}

func TestPinOnRoute(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	pinned := tlstest.SelfSigned(tlstest.CN("pinned"))
	f.apply(f.endpoint("public.test", up.URL, func(e *termination.Endpoint) {
		e.Routes = []termination.Route{{Path: "/r", ClientAuth: &termination.ClientAuth{
			Mode: termination.ModeRequire, OnLoss: termination.OnLossClose, Pins: []termination.Pin{{Fingerprint: termination.FingerprintOf(pinned.X509)}},
		}}}
	}))
	wantStatus(t, f.ask(false, clientOptions{serverName: "public.test", cert: pinned}, "public.test", "/r"), 200)
	// A stranger who appends the pinned certificate, which is public, proves nothing.
	wantRefused(t, f.ask(false, clientOptions{serverName: "public.test", cert: f.others.Client("stranger"), more: pinned}, "public.test", "/r"), 403, "not_allowed")
}

// TestRouteUpstream: a route may have an upstream of its own.
func TestRouteUpstream(t *testing.T) {
	f, up, other := newFront(t, frontOptions{}), tlstest.HTTP(t), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL, func(e *termination.Endpoint) {
		u := termination.Upstream{Scheme: termination.UpstreamHTTP, Address: other.Addr}
		e.Routes = []termination.Route{{Path: "/other", Upstream: &u}}
	}))
	wantStatus(t, f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/"), 200)
	wantStatus(t, f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/other"), 200)
	if up.Requests() != 1 || other.Requests() != 1 {
		t.Errorf("%d and %d requests", up.Requests(), other.Requests())
	}
}

// policyChanges are changes that shut out a client which presented nothing, or a certificate of "devices".
func policyChanges() map[string]func(*front, string) []termination.Endpoint {
	return map[string]func(*front, string) []termination.Endpoint{
		"another authority": func(f *front, up string) []termination.Endpoint {
			return []termination.Endpoint{f.endpoint("public.test", up, mode(termination.ModeRequire), trusting("partners"))}
		},
		"the endpoint is gone": func(f *front, up string) []termination.Endpoint {
			return []termination.Endpoint{f.endpoint("private.test", up)}
		},
		"the name went to another endpoint": func(f *front, up string) []termination.Endpoint {
			return []termination.Endpoint{f.endpoint("public.test", up, func(e *termination.Endpoint) { e.ID = "ep_new" })}
		},
		"TLS ends elsewhere": func(f *front, up string) []termination.Endpoint {
			return []termination.Endpoint{f.endpoint("public.test", up, func(e *termination.Endpoint) {
				e.Scheme, e.TerminateAt = termination.SchemeTLS, termination.AtUpstream
			})}
		},
		"another port": func(f *front, up string) []termination.Endpoint {
			return []termination.Endpoint{f.endpoint("public.test", up, func(e *termination.Endpoint) { e.Port++ })}
		},
	}
}

// TestPolicyTightened: a connection that was let in does not outlive the policy that let it in.
func TestPolicyTightened(t *testing.T) {
	for name, change := range policyChanges() {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, h2 bool) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire)))
				client := f.client(clientOptions{h2: h2, serverName: "public.test", cert: f.clients.Client("alice")})
				wantStatus(t, f.get(client, "public.test", "/"), 200)
				before := up.Requests()
				f.apply(change(f, up.URL)...)
				a := f.get(client, "public.test", "/")
				if a.StatusCode != 403 && a.StatusCode != 421 {
					t.Errorf("answered %v", a)
				}
				if up.Requests() != before {
					t.Error("the upstream was contacted")
				}
				f.only() // it was the same connection
			})
		})
	}
}

// TestPolicyUnchanged: what a change would still admit goes on, on the same connection.
func TestPolicyUnchanged(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		client := f.client(clientOptions{h2: h2, serverName: "public.test", cert: f.clients.Client("alice")})
		for _, endpoints := range [][]termination.Endpoint{
			{f.endpoint("public.test", up.URL, mode(termination.ModeRequire))},
			{f.endpoint("public.test", up.URL, mode(termination.ModeRequire), forwardNginx), f.endpoint("new.test", up.URL)},
			{f.endpoint("public.test", up.URL, mode(termination.ModeOptional))},
			{f.endpoint("public.test", up.URL, func(e *termination.Endpoint) {
				mode(termination.ModeRequire)(e)
				e.ClientAuth.Authorities = []string{"partners", "devices"}
			})},
			{f.endpoint("public.test", up.URL)},
		} {
			f.apply(endpoints...)
			wantStatus(t, f.get(client, "public.test", "/"), 200)
		}
		f.only()
		if up.Accepted() != 1 {
			t.Errorf("%d connections to the upstream, want one for all tables", up.Accepted())
		}
	})
}

// TestOnLoss: what the refusal of a request means for the connection.
func TestOnLoss(t *testing.T) {
	for loss, closes := range map[termination.OnLoss]bool{termination.OnLossClose: true, termination.OnLossDrain: true, termination.OnLossLeave: false} {
		t.Run(string(loss), func(t *testing.T) {
			t.Run("h1", func(t *testing.T) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), onLoss(loss)))
				conn := f.dial(clientOptions{serverName: "public.test", cert: f.clients.Client("alice")})
				r := bufio.NewReader(conn)
				ask := func() answer {
					fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: public.test\r\n\r\n")
					return f.readAnswer(r)
				}
				wantStatus(t, ask(), 200)
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), trusting("partners"), onLoss(loss)))
				a := ask()
				wantRefused(t, a, 403, "invalid")
				if a.Close != closes {
					t.Errorf("closes: %v, want %v", a.Close, closes)
				}
				if closes {
					if _, err := r.ReadByte(); err != io.EOF {
						t.Errorf("the connection goes on: %v", err)
					}
					return
				}
				// A change back lets it in again.
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), onLoss(loss)))
				wantStatus(t, ask(), 200)
			})
			t.Run("h2", func(t *testing.T) {
				f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), onLoss(loss)))
				conn := f.rawH2(clientOptions{serverName: "public.test", cert: f.clients.Client("alice")})
				ask := func() answer {
					return conn.answer(conn.Open(true, ":method", "GET", ":scheme", "https", ":authority", "public.test", ":path", "/"))
				}
				wantStatus(t, ask(), 200)
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), trusting("partners"), onLoss(loss)))
				wantStatus(t, ask(), 403)
				if closes {
					conn.WaitGoAway()
					return
				}
				f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), onLoss(loss)))
				wantStatus(t, ask(), 200)
				if conn.GoAway {
					t.Error("the connection is to end")
				}
			})
		})
	}
}

// TestStreamsOverAChange: requests in flight are not disturbed by the proxy, new ones on the same connection are judged
// anew, and when the gateway closes the connection, the upstream learns of it.
func TestStreamsOverAChange(t *testing.T) {
	f := newFront(t, frontOptions{})
	more, left := make(chan struct{}), make(chan struct{})
	up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		for range 2 {
			_, _ = io.WriteString(w, "event\n")
			_ = control.Flush()
			<-more
		}
		<-r.Context().Done()
		close(left)
	}))
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire)))
	client := f.client(clientOptions{h2: true, serverName: "public.test", cert: f.clients.Client("alice")})
	r, _ := http.NewRequest(http.MethodGet, "https://"+f.address.String()+"/", nil)
	r.Host = "public.test"
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	events := bufio.NewReader(res.Body)
	readEvent(t, events)
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), trusting("partners"), onLoss(termination.OnLossLeave)))
	wantRefused(t, f.get(client, "public.test", "/"), 403, "invalid")
	more <- struct{}{}
	readEvent(t, events)
	more <- struct{}{}
	_ = f.only().raw.Close()
	wait(t, left, "the upstream to learn that the client is gone")
}

func readEvent(t *testing.T, r *bufio.Reader) {
	t.Helper()
	if line, err := r.ReadString('\n'); err != nil || line != "event\n" {
		t.Fatalf("read %q, %v", line, err)
	}
}

func wait(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patient):
		t.Fatal("waited in vain for " + what)
	}
}

// TestDrain: requests in flight finish, then the connection ends; one without any ends at once.
func TestDrain(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		both(t, func(t *testing.T, h2 bool) {
			f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
			f.apply(f.endpoint("public.test", up.URL))
			wantStatus(t, f.get(f.client(clientOptions{h2: h2, serverName: "public.test"}), "public.test", "/"), 200)
			c := f.only()
			c.waitIdle(t)
			c.http.Drain()
			wait(t, c.closed, "the end of the connection")
		})
	})
	t.Run("in flight", func(t *testing.T) {
		both(t, func(t *testing.T, h2 bool) {
			f := newFront(t, frontOptions{})
			arrived, finish := make(chan struct{}), make(chan struct{})
			up := tlstest.HTTPHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(200)
				_ = http.NewResponseController(w).Flush()
				close(arrived)
				<-finish
				_, _ = io.WriteString(w, "whole")
			}))
			f.apply(f.endpoint("public.test", up.URL))
			client := f.client(clientOptions{h2: h2, serverName: "public.test"})
			got := make(chan string, 1)
			go func() {
				a, err := f.try(client, "public.test", "/")
				got <- fmt.Sprint(a.body, err)
			}()
			wait(t, arrived, "the request")
			c := f.only()
			c.http.Drain()
			select {
			case <-c.closed:
				t.Error("the connection was closed under a request")
			default:
			}
			close(finish)
			if a := <-got; a != "whole"+fmt.Sprint(error(nil)) {
				t.Errorf("answered %v", a)
			}
			wait(t, c.closed, "the end of the connection")
		})
	})
	t.Run("websocket", func(t *testing.T) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL))
		ws := f.websocket(clientOptions{serverName: "public.test"}, "/")
		c := f.only()
		c.http.Drain()
		wait(t, c.closed, "the end of the connection")
		if _, _, err := ws.ReadMessage(); err == nil {
			t.Error("the WebSocket goes on")
		}
	})
}

// waitIdle waits until no request is in flight: the client has its answer a moment before the server has put it away.
func (c *frontConn) waitIdle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patient); !c.http.idle.Load(); {
		if time.Now().After(deadline) {
			t.Fatal("the connection never became idle")
		}
		runtime.Gosched()
	}
}

func (f *front) websocket(o clientOptions, target string) *websocket.Conn {
	f.t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: f.tlsConfig(o), HandshakeTimeout: patient}
	ws, res, err := dialer.Dial("wss://"+f.address.String()+target, http.Header{"Host": {o.serverName}}) //nolint:bodyclose // the library has read it
	if err != nil {
		f.t.Fatalf("open the WebSocket: %v, %v", err, res)
	}
	f.t.Cleanup(func() { _ = ws.Close() })
	return ws
}
