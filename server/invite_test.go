package server

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/tunnel"
)

var rhea = store.Actor{Name: "rhea", Via: "dashboard"}

// withAgentEndpoint adds an endpoint of that name whose TLS ends at an agent.
func (f *fixture) withAgentEndpoint(name string) *termination.Endpoint {
	f.t.Helper()
	_, err := f.Change(f.t.Context(), rhea, func(tx *store.Tx) error {
		_, err := tx.CreateEndpoint(termination.Endpoint{
			Name: name, Origin: termination.OriginDashboard, Enabled: false, Scheme: termination.SchemeHTTPS, Host: strings.ReplaceAll(name, " ", "-") + ".localhost",
			Listen: netip.MustParseAddr("127.0.0.1"), Port: 18443, TerminateAt: termination.AtAgent,
			Upstream:   termination.Upstream{Scheme: termination.UpstreamHTTP, Address: "127.0.0.1:3000"},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose},
		})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.current().Endpoint(name)
}

// invited makes an invitation and reads its token.
func (f *fixture) invited(endpoint string) (api.NewInvitation, termination.JoinToken) {
	f.t.Helper()
	made, err := f.Invite(f.t.Context(), rhea, api.InviteRequest{Endpoint: endpoint})
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := termination.ParseJoinToken(made.Token)
	if err != nil {
		f.t.Fatal(err)
	}
	return made, token
}

// joined lets an agent join an endpoint, as the gateway would.
func (f *fixture) joined(endpoint, name string) termination.Agent {
	f.t.Helper()
	_, token := f.invited(endpoint)
	a, err := AgentRegistry(func() *store.Store { return f.store }).Redeem(f.t.Context(), token.Hash(), termination.Agent{
		ID: termination.NewID(termination.PrefixAgent, f.now()), Name: name, Key: termination.Fingerprint{1}, Version: "v1.2.3", Address: "192.0.2.7:40000",
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

func TestInvitationCarriesWhatAnAgentNeeds(t *testing.T) {
	f := start(t, nil)
	f.withAgentEndpoint("my api")
	if f.current().Agents.CA != nil {
		t.Fatal("there is a CA of agents before the first invitation")
	}
	made, token := f.invited("my api")
	ca := f.current().Agents.CA
	if ca == nil || token.CA != termination.FingerprintOf(ca.Certificate) || token.Endpoint != "my api" || len(token.Gateways) != 1 || token.Gateways[0] != "127.0.0.1:7444" {
		t.Errorf("token %+v, CA %v", token, ca)
	}
	if made.State != "open" || made.By != "rhea" || made.Expires.Sub(made.Created) != DefaultInvitation {
		t.Errorf("made %+v", made)
	}
	for _, want := range []string{"countersign agent ", "--endpoint 'my api'", "--upstream http://127.0.0.1:3000", "COUNTERSIGN_TOKEN=" + made.Token} {
		if !strings.Contains(made.Command, want) {
			t.Errorf("the command lacks %q: %s", want, made.Command)
		}
	}
	if !strings.Contains(made.Note, "this machine alone") {
		t.Errorf("nothing says that only this machine is listened on: %q", made.Note)
	}
	if strings.Contains(f.log.String(), made.Token) {
		t.Error("the token is in the log")
	}
	entries, err := f.store.Audit(t.Context(), store.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(string(e.After), made.Token) || strings.Contains(string(e.After), "csjoin") {
			t.Errorf("the token is in the audit log: %s", e.After)
		}
	}
}

// TestFirstInvitationsAgreeOnOneCA makes many at once.
func TestFirstInvitationsAgreeOnOneCA(t *testing.T) {
	f := start(t, nil)
	f.withAgentEndpoint("api")
	const n = 8
	tokens := make([]string, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			made, err := f.Invite(context.Background(), rhea, api.InviteRequest{Endpoint: "api"})
			tokens[i], errs[i] = made.Token, err
		})
	}
	all.Wait()
	for i, text := range tokens {
		token, err := termination.ParseJoinToken(text)
		if errs[i] != nil || err != nil || token.CA != termination.FingerprintOf(f.current().Agents.CA.Certificate) {
			t.Errorf("%d: %v, %v", i, errs[i], err)
		}
	}
}

func TestGatewaysOfAnInvitation(t *testing.T) {
	machine := func() []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	}
	for name, test := range map[string]struct {
		listen       string
		hosts, asked []string
		want         string // between spaces; empty: refused
		local        bool
	}{
		"loopback":                  {listen: "127.0.0.1:7444", want: "127.0.0.1:7444", local: true},
		"one interface":             {listen: "192.0.2.9:7444", want: "192.0.2.9:7444"},
		"all interfaces":            {listen: "0.0.0.0:7444", want: "192.0.2.1:7444 [2001:db8::1]:7444 127.0.0.1:7444"},
		"all, with a name":          {listen: "[::]:7444", hosts: []string{"gw.example"}, want: "gw.example:7444 127.0.0.1:7444"},
		"names with and without":    {listen: "127.0.0.1:7444", hosts: []string{"GW.Example:444", "10.0.0.1", "[2001:db8::2]", "2001:db8::3"}, want: "gw.example:444 10.0.0.1:7444 [2001:db8::2]:7444 [2001:db8::3]:7444 127.0.0.1:7444"},
		"asked for":                 {listen: "0.0.0.0:7444", hosts: []string{"gw.example"}, asked: []string{"other.example:1", "localhost"}, want: "other.example:1 localhost:7444"},
		"asked for twice":           {listen: "127.0.0.1:7444", asked: []string{"localhost:7444", "LOCALHOST"}, want: "localhost:7444", local: true},
		"asked for everything":      {listen: "127.0.0.1:7444", asked: []string{"0.0.0.0:1"}},
		"asked for nothing":         {listen: "127.0.0.1:7444", asked: []string{""}},
		"asked for a port that not": {listen: "127.0.0.1:7444", asked: []string{"gw:0"}},
		"asked for a URL":           {listen: "127.0.0.1:7444", asked: []string{"https://gw"}},
		"asked for a command":       {listen: "127.0.0.1:7444", asked: []string{"$(id):1"}},
		"asked for too much":        {listen: "127.0.0.1:7444", asked: strings.Fields("a b c d e f g h i")},
	} {
		got, err := gatewaysFor(termination.Agents{Listen: netip.MustParseAddrPort(test.listen), Hosts: test.hosts}, test.asked, machine)
		if (err != nil) != (test.want == "") || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
			continue
		}
		if err == nil && (reachNote(got) != "") != test.local {
			t.Errorf("%s: note %q", name, reachNote(got))
		}
	}
}

func TestRegistryAnswersInTheGatewaysWords(t *testing.T) {
	ctx := t.Context()
	f := start(t, nil)
	e := f.withAgentEndpoint("api")
	registry := AgentRegistry(func() *store.Store { return f.store })
	a := f.joined("api", "host-1")
	if a.EndpointID != e.ID {
		t.Errorf("joined %+v", a)
	}
	used, token := f.invited("api")
	if _, err := registry.Redeem(ctx, token.Hash(), termination.Agent{ID: "agt_2", EndpointID: "ep_other"}); !errors.Is(err, tunnel.ErrInvitationElsewhere) {
		t.Errorf("elsewhere: %v", err)
	}
	if _, err := registry.Redeem(ctx, token.Hash(), termination.Agent{ID: "agt_2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Redeem(ctx, token.Hash(), termination.Agent{ID: "agt_3"}); !errors.Is(err, tunnel.ErrInvitationUsed) {
		t.Errorf("used: %v", err)
	}
	if _, err := registry.Redeem(ctx, [32]byte{}, termination.Agent{ID: "agt_3"}); !errors.Is(err, tunnel.ErrInvitationUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if err := f.store.WithdrawInvitation(ctx, rhea, used.ID); err == nil {
		t.Error("a used invitation was withdrawn")
	}
	if err := registry.Seen(ctx, a); err != nil {
		t.Error(err)
	}
	if got, err := registry.Agent(ctx, a.ID); err != nil || got.Name != "host-1" || got.Seen.IsZero() {
		t.Errorf("agent %+v, %v", got, err)
	}
	if _, err := f.Change(ctx, rhea, func(tx *store.Tx) error { return tx.RemoveAgent(a.ID) }); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Agent(ctx, a.ID); !errors.Is(err, tunnel.ErrAgentRemoved) {
		t.Errorf("removed: %v", err)
	}
	if _, err := registry.Agent(ctx, "agt_9"); !errors.Is(err, tunnel.ErrAgentUnknown) {
		t.Errorf("unknown: %v", err)
	}
	now := time.Now()
	f = start(t, func(o *Options) { o.Clock = func() time.Time { return now } })
	f.withAgentEndpoint("api")
	_, token = f.invited("api")
	now = now.Add(DefaultInvitation)
	if _, err := AgentRegistry(func() *store.Store { return f.store }).Redeem(ctx, token.Hash(), termination.Agent{ID: "agt_4"}); !errors.Is(err, tunnel.ErrInvitationExpired) {
		t.Errorf("expired: %v", err)
	}
}

func TestAPIInvitesListsAndRemovesAgents(t *testing.T) {
	f := start(t, nil)
	f.withAgentEndpoint("api")
	admin := f.as(store.ScopeAdmin)
	var made api.NewInvitation
	if s := admin.call(http.MethodPost, "/invitations", map[string]any{"endpoint": "api", "expires": "30m", "gateways": []string{"gw.example:7444"}}, &made); s != http.StatusCreated || made.State != "open" || made.By != "for admin" || made.Note != "" || made.Gateways[0] != "gw.example:7444" {
		t.Fatalf("status %d, %+v", s, made)
	}
	var listed struct{ Items []map[string]any }
	if s := admin.call(http.MethodGet, "/invitations", nil, &listed); s != http.StatusOK || len(listed.Items) != 1 || listed.Items[0]["state"] != "open" || listed.Items[0]["token"] != nil {
		t.Errorf("status %d, %+v", s, listed)
	}
	if s := admin.call(http.MethodDelete, "/invitations/"+made.ID, nil, nil); s != http.StatusNoContent {
		t.Errorf("withdraw: %d", s)
	}
	var ids []string
	for _, name := range []string{"one", "two", "three"} {
		ids = append(ids, f.joined("api", name).ID)
	}
	var page api.Agents
	if s := admin.call(http.MethodGet, "/agents?limit=2&endpoint=api", nil, &page); s != http.StatusOK || page.Total != 3 || len(page.Items) != 2 || page.Cursor == "" || page.Items[0].Endpoint != "api" || page.Items[0].Online != nil {
		t.Fatalf("status %d, %+v", s, page)
	}
	var rest api.Agents
	if s := admin.call(http.MethodGet, "/agents?limit=2&after="+page.Cursor, nil, &rest); s != http.StatusOK || len(rest.Items) != 1 || rest.Cursor != "" {
		t.Errorf("status %d, %+v", s, rest)
	}
	if s := admin.call(http.MethodDelete, "/agents/"+ids[0], nil, nil); s != http.StatusNoContent {
		t.Errorf("remove: %d", s)
	}
	for _, test := range []struct {
		method, path string
		body         any
		status       int
		says         string
	}{
		{http.MethodDelete, "/agents/" + ids[0], nil, http.StatusNotFound, "agent"},
		{http.MethodDelete, "/invitations/inv_x", nil, http.StatusNotFound, "invitation"},
		{http.MethodGet, "/agents?endpoint=none", nil, http.StatusNotFound, "endpoint"},
		{http.MethodGet, "/agents?after=agt_x", nil, http.StatusUnprocessableEntity, ""},
		{http.MethodGet, "/agents?limit=100000", nil, http.StatusUnprocessableEntity, ""},
		{http.MethodPost, "/invitations", map[string]any{"endpoint": "none"}, http.StatusNotFound, "none"},
		{http.MethodPost, "/invitations", map[string]any{"endpoint": "api", "expires": "1y"}, http.StatusUnprocessableEntity, "This could not"},
		{http.MethodPost, "/invitations", map[string]any{"endpoint": "api", "expires": "-1h"}, http.StatusUnprocessableEntity, ""},
		{http.MethodPost, "/invitations", map[string]any{"endpoint": "api", "gateways": []string{"a:b:c"}}, http.StatusUnprocessableEntity, ""},
		{http.MethodPost, "/invitations", map[string]any{"endpoint": "api", "secret": "mine"}, http.StatusUnprocessableEntity, ""},
	} {
		var p problem
		if s := admin.call(test.method, test.path, test.body, &p); s != test.status || !strings.Contains(p.Title, test.says) {
			t.Errorf("%s %s: %d %+v", test.method, test.path, s, p)
		}
	}
	for _, scope := range []store.Scope{store.ScopeRead, store.ScopeOperate} {
		who := f.as(scope)
		if s := who.call(http.MethodGet, "/agents", nil, nil); s != http.StatusOK {
			t.Errorf("%s lists: %d", scope, s)
		}
		if s := who.call(http.MethodPost, "/invitations", map[string]any{"endpoint": "api"}, nil); s != http.StatusForbidden {
			t.Errorf("%s invites: %d", scope, s)
		}
		if s := who.call(http.MethodDelete, "/agents/"+ids[1], nil, nil); s != http.StatusForbidden {
			t.Errorf("%s removes: %d", scope, s)
		}
	}
}

func TestInvitationOfAnEndpointAtTheEdge(t *testing.T) {
	f := start(t, nil)
	e := *f.withAgentEndpoint("api")
	_, err := f.Change(t.Context(), rhea, func(tx *store.Tx) error {
		e.TerminateAt, e.Certificates = termination.AtUpstream, nil
		e.Scheme, e.Upstream.Scheme, e.ForwardIdentity = termination.SchemeTLS, termination.UpstreamTCP, nil
		return tx.UpdateEndpoint(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Invite(t.Context(), rhea, api.InviteRequest{Endpoint: "api"})
	if err == nil || !strings.Contains(err.Error(), "terminate_at: agent") {
		t.Errorf("got %v", err)
	}
	if f.current().Agents.CA != nil {
		t.Error("a CA was made for nothing")
	}
}

func TestControlInvites(t *testing.T) {
	f, _, client := controlled(t, filepath.Join(t.TempDir(), "data"))
	f.withAgentEndpoint("api")
	made, err := client.Invite(t.Context(), "api", "2h", []string{"gw.example"}, "rhea")
	if err != nil || made.Gateways[0] != "gw.example:7444" || made.Expires.Sub(made.Created) != 2*time.Hour {
		t.Fatalf("made %+v, %v", made, err)
	}
	entries, err := f.store.Audit(t.Context(), store.AuditQuery{Kind: store.KindInvitation})
	if err != nil || len(entries) != 1 || entries[0].Actor != (store.Actor{Name: "rhea", Via: "command"}) {
		t.Errorf("audit %+v, %v", entries, err)
	}
	for name, try := range map[string]func() (api.NewInvitation, error){
		"no such endpoint": func() (api.NewInvitation, error) { return client.Invite(t.Context(), "none", "", nil, "rhea") },
		"a long life":      func() (api.NewInvitation, error) { return client.Invite(t.Context(), "api", "8760h", nil, "rhea") },
		"nobody":           func() (api.NewInvitation, error) { return client.Invite(t.Context(), "api", "", nil, "") },
		"a bad address": func() (api.NewInvitation, error) {
			return client.Invite(t.Context(), "api", "", []string{"a b"}, "rhea")
		},
	} {
		if got, err := try(); err == nil || errors.Is(err, ErrNoGateway) || got.Token != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if log := f.log.String(); strings.Contains(log, made.Token) || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log: %s", log)
	}
}
