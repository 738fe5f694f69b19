package server

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/tunnel"
	"countersign/views"
	"countersign/views/format"
)

func TestAgentsPageBeginsWithSomethingThatWorks(t *testing.T) {
	f := signedIn(t, nil)
	wantAll(t, f.get("/agents"), 200, "No agent yet", "beside.localhost", `name="example"`, `href="/agents"`, `data-key="a"`)
	wantAll(t, f.get("/agents/invite"), 200, "No endpoint&#39;s TLS ends at an agent", `name="example"`)
	made := f.post("/agents/invite", url.Values{"example": {"on"}})
	wantAll(t, made, 200, "Run this beside the service", "countersign agent --endpoint beside --upstream http://127.0.0.1:3000", "COUNTERSIGN_TOKEN=csjoin1_", "waiting for the agent", "Only from this machine", "No local CA here may sign for beside.localhost")
	if e := f.current().Endpoint("beside"); e == nil || e.TerminateAt != termination.AtAgent || e.ClientAuth.Mode != termination.ModeOff {
		t.Errorf("made %+v", e)
	}
	token := regexp.MustCompile(`csjoin1_[\w-]+`).FindString(made.body)
	if _, err := termination.ParseJoinToken(token); err != nil {
		t.Error(err)
	}
	page := f.get("/agents")
	wantAll(t, page, 200, "No agent has joined yet", "Invite an agent", "Invitations", "open", "Withdraw")
	if strings.Contains(page.body, "csjoin1_") {
		t.Error("the token is shown again")
	}
	// A second time it is the same endpoint.
	wantAll(t, f.post("/agents/invite", url.Values{"example": {"on"}}), 200, "--endpoint beside")
	if n := len(f.current().Endpoints); n != 1 {
		t.Errorf("%d endpoints", n)
	}
}

func TestInvitePageRefusesAtTheField(t *testing.T) {
	f := signedIn(t, nil)
	f.withAgentEndpoint("api")
	f.withAgentEndpoint("db")
	wantAll(t, f.get("/agents/invite?endpoint=db"), 200, `<option value="db" selected>`, "127.0.0.1:7444")
	for name, test := range map[string]struct {
		form url.Values
		says []string
	}{
		"no endpoint":      {url.Values{"expires": {"1h"}}, []string{"there is no endpoint", "choose one that is there"}},
		"unknown endpoint": {url.Values{"endpoint": {"<b>"}, "expires": {"1h"}}, []string{"there is no endpoint &#34;&lt;b&gt;&#34;"}},
		"too long":         {url.Values{"endpoint": {"db"}, "expires": {"8760h"}}, []string{"from a minute to 30 days", `value="db" selected`}},
		"no time":          {url.Values{"endpoint": {"db"}, "expires": {"soon"}}, []string{"from a minute to 30 days"}},
		"bad gateway":      {url.Values{"endpoint": {"db"}, "expires": {"24h"}, "gateways": {"gw.example:x"}}, []string{"write it as in gw.example.com:7444", `value="gw.example:x"`, `value="db" selected`, `value="24h" checked`, "<details open"}},
	} {
		r := f.post("/agents/invite", test.form)
		wantAll(t, r, http.StatusUnprocessableEntity, append(test.says, `aria-invalid="true"`)...)
		if strings.Contains(r.body, "csjoin") {
			t.Errorf("%s: a token was made", name)
		}
	}
	if list, err := f.store.Invitations(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("invitations %v, %v", list, err)
	}
	wantAll(t, f.post("/agents/invite", url.Values{"endpoint": {"db"}, "expires": {"24h"}, "gateways": {"gw.example, 10.0.0.1:9"}}), 200, "gw.example:7444, 10.0.0.1:9", "Shown once")
}

func TestAgentsPageChangesNothingWithoutItsToken(t *testing.T) {
	f := signedIn(t, nil)
	f.withAgentEndpoint("api")
	a := f.joined("api", "host-1")
	made, _ := f.invited("api")
	for _, path := range []string{"/agents/invite", "/agents/" + a.ID + "/remove", "/agents/invitations/" + made.ID + "/withdraw"} {
		if r := f.post(path, url.Values{"csrf": {"wrong"}, "endpoint": {"api"}, "expires": {"1h"}}); r.status != http.StatusForbidden {
			t.Errorf("%s without the token: %d", path, r.status)
		}
	}
	stranger := &fixture{Server: f.Server, t: t, log: f.log, client: newClient(t)}
	for _, path := range []string{"/agents", "/agents/invite", "/agents/" + a.ID + "/remove", "/agents/invitations/" + made.ID} {
		if r := stranger.get(path); r.status != http.StatusUnauthorized || strings.Contains(r.body, "host-1") {
			t.Errorf("%s for a stranger: %d", path, r.status)
		}
	}
	if _, err := f.store.Agent(t.Context(), a.ID); err != nil {
		t.Error(err)
	}
}

func TestAgentIsRemovedOnItsPage(t *testing.T) {
	f := signedIn(t, nil)
	f.withAgentEndpoint("api")
	a := f.joined("api", `<img src=x>"`+"\u202e")
	wantAll(t, f.get("/agents"), 200, "&lt;img src=x&gt;", "offline", "never online", "v1.2.3", "192.0.2.7:40000")
	wantAll(t, f.get("/agents/"+a.ID+"/remove"), 200, "Who is affected", "Nobody is served by it now", "It may not come back", a.Key.String())
	if r := f.post("/agents/"+a.ID+"/remove", url.Values{}); r.status != http.StatusSeeOther {
		t.Fatalf("remove: %d %s", r.status, r.body)
	}
	wantAll(t, f.get("/agents"), 200, "is removed and cut off", "No agent has joined yet")
	wantAll(t, f.get("/agents/"+a.ID+"/remove"), http.StatusNotFound, "There is no agent")
	wantAll(t, f.post("/agents/"+a.ID+"/remove", url.Values{}), http.StatusNotFound, "There is no agent")
	wantAll(t, f.get("/agents?endpoint=none"), http.StatusNotFound, "There is no endpoint")
}

func TestInvitationIsFollowed(t *testing.T) {
	f := signedIn(t, nil)
	f.withAgentEndpoint("api")
	made, token := f.invited("api")
	path := "/agents/invitations/" + made.ID
	part := func() reply {
		r := f.request(http.MethodGet, path, nil, "")
		r.Header.Set("HX-Request", "true")
		return f.do(r)
	}
	wantAll(t, f.get(path), 200, "An invitation to serve api", "waiting for the agent", "Its command was shown once")
	wantAll(t, part(), 200, "waiting for the agent", `data-refresh="`+path+`"`)
	if r := part(); strings.Contains(r.body, "<html") || strings.Contains(f.get(path).body, made.Token) {
		t.Error("the part is a page, or the token is in it")
	}
	a, err := AgentRegistry(func() *store.Store { return f.store }).Redeem(t.Context(), token.Hash(), termination.Agent{ID: termination.NewID(termination.PrefixAgent, f.now()), Name: "host-1"})
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, part(), 200, "host-1 has joined", "never online", "data-refresh")
	if _, err := f.Change(t.Context(), rhea, func(tx *store.Tx) error { return tx.RemoveAgent(a.ID) }); err != nil {
		t.Fatal(err)
	}
	if r := part(); !strings.Contains(r.body, "was removed since") || strings.Contains(r.body, "data-refresh") {
		t.Errorf("after it was removed: %s", r.body)
	}
	other, _ := f.invited("api")
	if r := f.post("/agents/invitations/"+other.ID+"/withdraw", url.Values{}); r.status != http.StatusSeeOther {
		t.Errorf("withdraw: %d", r.status)
	}
	wantAll(t, f.get("/agents/invitations/"+other.ID), http.StatusNotFound, "It was withdrawn")
	wantAll(t, f.post("/agents/invitations/"+other.ID+"/withdraw", url.Values{}), http.StatusNotFound, "There is no invitation")
}

// manyAgents are rows as the store and the gateway would give them.
func manyAgents(n, online int, endpointID string) (stored []termination.Agent, live []tunnel.AgentStatus) {
	now := time.Now()
	for i := range n {
		a := termination.Agent{ID: fmt.Sprintf("agt_%026d", i), Name: fmt.Sprint("host-", i), EndpointID: endpointID, Created: now.Add(-time.Hour), Seen: now.Add(-time.Minute), Version: "v1", Address: "192.0.2.1:1"}
		stored = append(stored, a)
		if i < online {
			live = append(live, tunnel.AgentStatus{ID: a.ID, Name: a.Name, EndpointID: endpointID, Since: now.Add(-time.Minute), Version: "v2", Connections: i, Revision: 1, RoundTrip: 1500 * time.Microsecond})
		}
	}
	return stored, live
}

func TestTenThousandAgentsOnPages(t *testing.T) {
	f := start(t, nil)
	e := f.withAgentEndpoint("api")
	config := f.current()
	stored, live := manyAgents(10_000, 250, e.ID)
	all := api.DescribeAgents(config, stored, live)
	page := views.Page{Clock: format.Clock{Now: f.now()}}
	v := f.agentsView(page, config, gateway.Status{Agents: live}, all, agentsQuery{endpoint: "api", from: 200})
	if len(v.Items) != agentRows || v.Rows.Shown != format.Int(201)+" to "+format.Int(300)+" of "+format.Int(10000) || v.Rows.Earlier != "/agents?endpoint=api&from=100" || v.Rows.Later != "/agents?endpoint=api&from=300" {
		t.Errorf("shown %q, %q, %q, %d rows", v.Rows.Shown, v.Rows.Earlier, v.Rows.Later, len(v.Items))
	}
	if v.Items[0].State != "online" || v.Items[49].State != "online" || v.Items[50].State != "offline" {
		t.Error("those that are online do not come first")
	}
	if v.States[0].Count != format.Int(10000) || v.States[1].Count != "250" || v.States[2].Count != format.Int(9750) || v.States[1].Href != "/agents?endpoint=api&state=online" {
		t.Errorf("states %+v", v.States)
	}
	v = f.agentsView(page, config, gateway.Status{Agents: live}, all, agentsQuery{state: "online", from: 200})
	if len(v.Items) != 50 || v.Rows.Later != "" {
		t.Errorf("the last page of those online has %d rows, then %q", len(v.Items), v.Rows.Later)
	}
	v = f.agentsView(page, config, gateway.Status{}, api.DescribeAgents(config, stored, nil), agentsQuery{state: "online"})
	if v.None == "" || len(v.Items) != 0 {
		t.Errorf("with none online: %+v", v)
	}
}

func TestAgentRowsSayWhatHolds(t *testing.T) {
	f := start(t, nil)
	e := f.withAgentEndpoint("api")
	config := f.current()
	now := f.now()
	clock := format.Clock{Now: now}
	base := tunnel.AgentStatus{ID: "agt_1", Name: "host", EndpointID: e.ID, Since: now.Add(-3 * time.Hour), Revision: config.Revision, Connections: 1}
	for name, test := range map[string]struct {
		live func(*tunnel.AgentStatus) bool
		want views.AgentItem
	}{
		"offline":    {func(*tunnel.AgentStatus) bool { return false }, views.AgentItem{State: "offline", Mark: "○", Since: "seen 1 minute ago"}},
		"online":     {func(*tunnel.AgentStatus) bool { return true }, views.AgentItem{State: "online", Mark: "●", Since: "for 3 hours", Now: "1 connection", Policy: "revision " + format.Int(config.Revision) + ", in force"}},
		"no policy":  {func(s *tunnel.AgentStatus) bool { s.Revision = 0; return true }, views.AgentItem{State: "getting the policy", Mark: "!", Since: "for 3 hours", Now: "1 connection", Policy: "no policy yet", Lagging: true}},
		"broken":     {func(s *tunnel.AgentStatus) bool { s.Problem = "no such file"; return true }, views.AgentItem{State: "cannot serve", Mark: "✕", Since: "for 3 hours", Now: "1 connection", Problem: "no such file", Policy: "revision " + format.Int(config.Revision) + ", in force"}},
		"measured":   {func(s *tunnel.AgentStatus) bool { s.RoundTrip = 12 * time.Millisecond; return true }, views.AgentItem{State: "online", Mark: "●", Since: "for 3 hours", Now: "1 connection · 12.0 ms away", Policy: "revision " + format.Int(config.Revision) + ", in force"}},
		"lost words": {func(s *tunnel.AgentStatus) bool { s.Dropped = 3; return true }, views.AgentItem{State: "online", Mark: "●", Since: "for 3 hours", Now: "1 connection", Policy: "revision " + format.Int(config.Revision) + ", in force, 3 handshakes not reported"}},
	} {
		stored := []termination.Agent{{ID: "agt_1", Name: "host", EndpointID: e.ID, Seen: now.Add(-time.Minute), Created: now}}
		var live []tunnel.AgentStatus
		if s := base; test.live(&s) {
			live = append(live, s)
		}
		all := api.DescribeAgents(config, stored, live)
		got := agentItem(clock, config, &all[0])
		if got.State != test.want.State || got.Mark != test.want.Mark || got.Since != test.want.Since || got.Now != test.want.Now || got.Problem != test.want.Problem || got.Lagging != test.want.Lagging || test.want.Policy != "" && got.Policy != test.want.Policy {
			t.Errorf("%s: %+v", name, got)
		}
	}
	older := *config
	older.Revision += 5
	all := api.DescribeAgents(config, []termination.Agent{{ID: "agt_1", EndpointID: e.ID}}, []tunnel.AgentStatus{base})
	if got := agentItem(clock, &older, &all[0]); !got.Lagging || !strings.Contains(got.Policy, "is on its way") {
		t.Errorf("behind: %+v", got)
	}
	all[0].Online.Connections = 7
	if got := strings.Join(affectedBy(&all[0], gateway.Status{Agents: []tunnel.AgentStatus{base}}), " "); !strings.Contains(got, "7 connections go through it now") || !strings.Contains(got, "every client is refused") {
		t.Errorf("the last one: %s", got)
	}
	second := base
	second.ID = "agt_2"
	if got := strings.Join(affectedBy(&all[0], gateway.Status{Agents: []tunnel.AgentStatus{base, second}}), " "); !strings.Contains(got, "1 other agent serves api") {
		t.Errorf("one of two: %s", got)
	}
}

func TestEndpointsWithoutAnAgentAreNamed(t *testing.T) {
	config := &termination.Config{}
	for i := range 12 {
		config.Endpoints = append(config.Endpoints, termination.Endpoint{ID: fmt.Sprint("ep_", i), Name: fmt.Sprint("e", i), Enabled: i != 0, TerminateAt: termination.AtAgent})
	}
	config.Endpoints = append(config.Endpoints, termination.Endpoint{ID: "ep_edge", Name: "edge", Enabled: true, TerminateAt: termination.AtEdge})
	status := gateway.Status{Agents: []tunnel.AgentStatus{
		{ID: "agt_1", EndpointID: "ep_1", Revision: 1}, {ID: "agt_2", EndpointID: "ep_2"}, {ID: "agt_3", EndpointID: "ep_3", Revision: 1, Problem: "x"},
	}}
	list, more := alone(config, status, "")
	if len(list) != alonePlaces || more != 2 || list[0].Name != "e2" {
		t.Errorf("%+v and %d more", list, more)
	}
	if list, more = alone(config, status, "e1"); len(list) != 0 || more != 0 {
		t.Errorf("of one that is served: %+v and %d more", list, more)
	}
}

func TestEndpointPageShowsItsAgents(t *testing.T) {
	f := signedIn(t, nil)
	f.withAgentEndpoint("api")
	wantAll(t, f.get("/endpoints/api"), 200, "No key for the name is held here", "none online", "countersign agent invite api", `href="/agents/invite?endpoint=api"`)
	f.joined("api", "host-1")
	wantAll(t, f.get("/endpoints/api"), 200, "1 is offline", "Each agent holds a certificate")
}

func TestWhyNoAgentCanConnectIsSaid(t *testing.T) {
	f := signedIn(t, nil)
	f.withAgentEndpoint("api")
	f.ShowProblem(store.Problem{Kind: store.KindAgentCA, ID: "agents", Name: "agents", Text: "its certificate cannot be read; no agent can connect"})
	for _, path := range []string{"/agents", "/endpoints/api"} {
		wantAll(t, f.get(path), 200, "No agent can connect", "its certificate cannot be read")
	}
}
