package proxy

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func asking(when string) func(*termination.Endpoint) {
	return func(e *termination.Endpoint) { e.ClientAuth.When = when }
}

// An expression that asks for the request is decided for each request of a connection, and says nothing about the next.
func TestExpressionOfEachRequest(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), forwardNginx,
		asking(`client.subject.common_name == "alice" && req.host == "public.test" && (req.method == "GET" && req.path.startsWith("/v1/") || req.path == "/boom" && client.subject.organization[9] == "")`)))
	both(t, func(t *testing.T, h2 bool) {
		client := f.client(clientOptions{h2: h2, serverName: "public.test", cert: f.clients.Client("alice")})
		wantStatus(t, f.get(client, "public.test", "/v1/a"), 200)
		accepted := up.Accepted()
		for _, refused := range []func() answer{
			func() answer { return f.get(client, "public.test", "/v2/a") },
			func() answer {
				return f.get(client, "public.test", "/v1/a", func(r *http.Request) { r.Method = http.MethodPost })
			},
		} {
			wantRefused(t, refused(), 403, "not_allowed")
			f.waitNote(termination.ReasonPolicyDenied)
		}
		wantRefused(t, f.get(client, "public.test", "/boom"), 403, "not_allowed")
		f.waitNote(termination.ReasonExpressionError)
		if up.Accepted() != accepted {
			t.Error("a refused request reached the upstream")
		}
		// The port and the case of a Host are nobody's way around it.
		wantStatus(t, f.get(client, "PUBLIC.test:443", "/v1/%61"), 200)
	})
	bob := f.client(clientOptions{serverName: "public.test", cert: f.clients.Client("bob")})
	wantRefused(t, f.get(bob, "public.test", "/v1/a"), 403, "not_allowed")
}

// An expression that asks for the time is asked again on a connection that it let in before.
func TestExpressionOfTime(t *testing.T) {
	var passed atomic.Int64
	start := time.Now()
	f := newFront(t, frontOptions{proxy: Options{Now: func() time.Time { return start.Add(time.Duration(passed.Load())) }}})
	up := tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), onLoss(termination.OnLossLeave),
		asking(`now < timestamp("`+start.Add(time.Hour).UTC().Format(time.RFC3339)+`")`)))
	client := f.client(clientOptions{serverName: "public.test", cert: f.clients.Client("alice")})
	wantStatus(t, f.get(client, "public.test", "/"), 200)
	passed.Store(int64(2 * time.Hour))
	wantRefused(t, f.get(client, "public.test", "/"), 403, "not_allowed")
	passed.Store(0)
	wantStatus(t, f.get(client, "public.test", "/"), 200)
}

// A route may ask what its endpoint does not.
func TestExpressionOfARoute(t *testing.T) {
	f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
	f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire), route("/admin", termination.ModeRequire), func(e *termination.Endpoint) {
		e.Routes[0].ClientAuth.When = `client.subject.common_name == "root" && req.method == "GET"`
	}))
	for name, want := range map[string]int{"alice": 403, "root": 200} {
		client := f.client(clientOptions{serverName: "public.test", cert: f.clients.Client(name)})
		wantStatus(t, f.get(client, "public.test", "/"), 200)
		if a := f.get(client, "public.test", "/admin/x"); a.StatusCode != want {
			t.Errorf("%s: %s", name, a)
		}
	}
}
