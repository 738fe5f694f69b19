package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
)

// ask is a command's request for an endpoint before whoami.
func ask(t *testing.T, name string) JoinRequest {
	t.Helper()
	return JoinRequest{
		Scheme: termination.SchemeHTTPS, URL: fmt.Sprintf("https://%s.localhost:%d", name, freeTCPPort(t)), TerminateAt: termination.AtEdge, Upstream: "whoami", By: "rhea",
	}
}

func TestCommandsJoinAndLeave(t *testing.T) {
	f, _, client := controlled(t, filepath.Join(t.TempDir(), "data"))
	f.withLocalCA(true)
	ca := tlstest.NewCA(tlstest.CN("Clients CA"))
	before := f.current().Revision
	const n = 12
	var all sync.WaitGroup
	for i := range n {
		request := ask(t, fmt.Sprintf("app%d", i))
		request.ClientCAs = ca.PEM()
		all.Go(func() {
			m, err := client.Join(t.Context(), request)
			if err != nil {
				t.Error(err)
				return
			}
			if m.URL != request.URL || m.Anchors != 1 || !strings.Contains(m.CA, "BEGIN CERTIFICATE") || m.MadeCA {
				t.Errorf("joined %+v", m.Joined)
			}
			if e := f.current().Endpoint(m.Name); e == nil || e.Origin != termination.OriginCommand || e.ClientAuth.Mode != termination.ModeRequire {
				t.Errorf("served: %+v", e)
			}
			if err := m.Leave(context.Background()); err != nil {
				t.Error(err)
			}
			if f.current().Endpoint(m.Name) != nil {
				t.Error("it is there after it has left")
			}
		})
	}
	all.Wait()
	if config := f.current(); len(config.Endpoints) != 0 || len(config.Authorities) != 1 || config.Revision != before+2*n {
		t.Errorf("left: %d endpoints, %d authorities, revision %d after %d", len(config.Endpoints), len(config.Authorities), config.Revision, before)
	}
	entries, err := f.store.Audit(t.Context(), store.AuditQuery{Kind: store.KindEndpoint, Limit: 100})
	if err != nil || len(entries) != 2*n || entries[0].Actor != (store.Actor{Name: "rhea", Via: "command"}) {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// A command sees its own handshakes from its own time alone, not those that the gateway made to prove something.
func TestCommandSeesItsHandshakes(t *testing.T) {
	f, control, client := controlled(t, filepath.Join(t.TempDir(), "data"))
	f.withLocalCA(true)
	request := ask(t, "app")
	m, err := client.Join(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(n int, change func(*termination.Handshake)) {
		h := livetest.Handshake(n, time.Now())
		h.ID, h.EndpointID, h.Endpoint = termination.NewID(termination.PrefixHandshake, time.Now()), m.ID, m.Name
		change(h)
		f.hub.Publish(h)
	}
	publish(1, func(h *termination.Handshake) { h.Time = time.Now().Add(-time.Hour) })
	publish(2, func(h *termination.Handshake) { h.Proof = true })
	publish(3, func(h *termination.Handshake) { h.Endpoint, h.EndpointID = "other", "ep_other" })
	publish(4, func(h *termination.Handshake) {
		h.Client.Name = "eve\x1b[31m"
		h.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonCAUnknown, Beat: termination.BeatClientCert}
	})
	line, err := m.Next()
	if err != nil || line.Handshake == nil {
		t.Fatalf("%+v, %v", line, err)
	}
	if h := line.Handshake; h.Outcome != termination.OutcomeRefused || h.Reason != termination.ReasonCAUnknown || h.Title == "" || h.Client != "eve\x1b[31m" {
		t.Errorf("shown: %+v", h)
	}
	closeAll(t, control.Close)
	if line, err := m.Next(); err != nil || !strings.Contains(line.End, "stopping") {
		t.Errorf("at the end: %+v, %v", line, err)
	}
	if _, err := m.Next(); !errors.Is(err, ErrGatewayGone) {
		t.Errorf("after the end: %v", err)
	}
	if err := m.Leave(t.Context()); err != nil {
		t.Errorf("leave a gateway that has ended: %v", err)
	}
	if config, _, err := f.store.Load(t.Context()); err != nil || len(config.Endpoints) != 0 {
		t.Errorf("left: %+v, %v", config.Endpoints, err)
	}
}

func TestJoinIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f, _, client := controlled(t, dir)
	f.withLocalCA(true)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		change func(*JoinRequest)
		says   string
	}{
		"no upstream":    {func(r *JoinRequest) { r.Upstream = "" }, "upstream"},
		"another scheme": {func(r *JoinRequest) { r.URL = "http://app.localhost" }, "--url"},
		"an address":     {func(r *JoinRequest) { r.URL = "https://10.0.0.7" }, "IP address"},
		"a port in use":  {func(r *JoinRequest) { r.URL = "https://app.localhost:" + taken.Addr().String()[10:] }, "stop the program"},
		"nobody":         {func(r *JoinRequest) { r.By = "" }, "name"},
		"no CA":          {func(r *JoinRequest) { r.ClientCAs = []byte("nothing") }, "--mutual-tls-cas"},
		"a server's key": {func(r *JoinRequest) { r.Certificate = []byte("nothing") }, "certificate"},
		"policy on sealed": {func(r *JoinRequest) {
			r.TerminateAt, r.URL = termination.AtUpstream, "tls://app.localhost:1"
			r.Upstream = "tcp://127.0.0.1:1"
			r.ClientCAs = tlstest.NewCA().PEM()
		}, "client_auth"},
		"whoami at agents": {func(r *JoinRequest) { r.TerminateAt = termination.AtAgent }, "whoami"},
	} {
		t.Run(name, func(t *testing.T) {
			request := ask(t, "app")
			c.change(&request)
			if _, err := client.Join(t.Context(), request); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if len(f.current().Endpoints) != 0 {
				t.Fatal("something is served")
			}
		})
	}
	// What is no request of ours, and what is too large.
	for name, body := range map[string]string{
		"unknown member": `{"scheme":"https","admin":true}`, "two": `{} {}`, "junk": `[`, "large": `{"client_cas":"` + strings.Repeat("A", joinBody) + `"}`,
	} {
		if err := client.post(t.Context(), "/join", json.RawMessage(body), &struct{}{}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := NewControlClient(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	elsewhere, _ := NewControlClient(t.TempDir())
	if _, err := elsewhere.Join(t.Context(), ask(t, "app")); !errors.Is(err, ErrNoGateway) {
		t.Errorf("without a gateway: %v", err)
	}
}

// Commands have a bound, and leave places in the live stream for people.
func TestCommandsAreBounded(t *testing.T) {
	c := newCommands()
	for range maxCommands {
		if !c.enter() {
			t.Fatal("too few may join")
		}
	}
	if c.enter() {
		t.Error("they join without end")
	}
	c.release()
	if !c.enter() {
		t.Error("a place was not given back")
	}
	for range maxWatching {
		if !c.watch() {
			t.Fatal("too few may watch")
		}
	}
	if c.watch() {
		t.Error("they take the places of people")
	}
	c.unwatch()
	c.stop()
	c.release()
	if c.enter() {
		t.Error("one joins a gateway that is stopping")
	}
}
