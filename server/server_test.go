package server

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/store"
	"countersign/termination/gateway"
	"countersign/termination/live"
)

// TestNothingIsLeftRunning serves pages, files and an open socket, stops, and looks for goroutines that stayed.
func TestNothingIsLeftRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("run", func(t *testing.T) {
		f := signedIn(t, nil)
		f.get("/welcome")
		f.get(f.assets.URL("app.css"))
		f.post("/settings/appearance", url.Values{"theme": {"dark"}})
		for _, r := range f.list {
			if r.kind == kindSocket && f.dialSocket(r, f.URL(), "") != http.StatusSwitchingProtocols {
				t.Errorf("%s does not open", r.path)
			}
		}
	})
	goleak.VerifyNone(t, before)
}

// TestShutdownWaits: a request in flight is finished, a new one is not taken, and it ends when the time is up.
func TestShutdownWaits(t *testing.T) {
	f := start(t, nil)
	slow, err := net.Dial("tcp", f.address.Load().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	// Half a request: the server waits for the rest of it.
	if _, err := slow.Write([]byte("POST /sign-in HTTP/1.1\r\nHost: " + f.address.Load().String() + "\r\nOrigin: " + f.URL() + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nt=")); err != nil {
		t.Fatal(err)
	}
	// It counts as in flight once its handler runs; another request on its own connection comes after it.
	f.get("/healthz")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Shutdown(ctx); err == nil {
		t.Error("it ended although a request was in flight")
	}
	if res, err := f.client.Do(f.request(http.MethodGet, "/healthz", nil, "")); err == nil {
		_ = res.Body.Close()
		t.Error("a new request was taken")
	}
}

func TestListen(t *testing.T) {
	st, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	hub := live.New(live.Options{})
	defer closeAll(t, hub.Close)
	gate := gateway.New(gateway.Options{Hub: hub})
	defer closeAll(t, gate.Close)
	build := func(o Options) *Server {
		t.Helper()
		o.Store, o.Hub, o.Gateway = st, hub, gate
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := build(Options{Listen: "127.0.0.1:0"})
	l, err := first.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if first.URL() != "http://"+l.Addr().String() {
		t.Errorf("URL is %q", first.URL())
	}
	if _, err := build(Options{Listen: l.Addr().String()}).Listen(t.Context()); err == nil {
		t.Error("an address that is in use was opened")
	}
	if _, err := build(Options{Listen: "127.0.0.1:0", Hosts: []string{"*.example"}}).Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "*.example") {
		t.Errorf("a wildcard among the hosts: %v", err)
	}
}
