package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
)

// caller uses the API with a token.
type caller struct {
	*fixture
	token string
}

func (f *fixture) as(scope store.Scope) caller {
	f.t.Helper()
	_, secret, err := f.store.CreateToken(f.t.Context(), store.Actor{Name: "test", Via: "command"}, "for "+string(scope), scope)
	if err != nil {
		f.t.Fatal(err)
	}
	return caller{f, secret}
}

// call sends a JSON body and reads a JSON answer.
func (c caller) call(method, path string, body any, into any) int {
	c.t.Helper()
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			c.t.Fatal(err)
		}
	}
	r := c.request(method, "/api/v1"+path, bytes.NewReader(data), "application/json")
	r.Header.Set("Authorization", "Bearer "+c.token)
	got := c.do(r)
	if into != nil {
		if err := json.Unmarshal([]byte(got.body), into); err != nil {
			c.t.Fatalf("%s %s answered %d %q: %v", method, path, got.status, got.body, err)
		}
	}
	return got.status
}

type problem struct {
	Title  string
	Status int
	Detail string
	Code   string
	Errors []struct{ Name, Problem string }
}

func TestAPIKeepsAuthoritiesCertificatesAndEndpoints(t *testing.T) {
	f := start(t, nil)
	admin := f.as(store.ScopeAdmin)
	devices, servers := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Servers"))
	server := servers.Server("api.localhost")

	var authority struct {
		ID, Name     string
		Certificates []struct{ Role, Fingerprint string }
	}
	if s := admin.call(http.MethodPost, "/authorities", map[string]any{"name": "devices", "pem": string(devices.PEM())}, &authority); s != http.StatusCreated || authority.Certificates[0].Role != "anchor" {
		t.Fatalf("status %d, %+v", s, authority)
	}
	var certificate map[string]any
	if s := admin.call(http.MethodPost, "/certificates", map[string]any{"name": "api", "cert": string(server.PEM()), "key": string(server.KeyPEM())}, &certificate); s != http.StatusCreated {
		t.Fatalf("status %d, %v", s, certificate)
	}
	if all, err := json.Marshal(certificate); err != nil || strings.Contains(string(all), "PRIVATE") {
		t.Errorf("the key came back: %s, %v", all, err)
	}
	body := map[string]any{
		"name": "api", "url": "https://api.localhost:18443", "upstream": "http://127.0.0.1:9", "certificates": []string{"api"},
		"client_auth": map[string]any{"authorities": []string{"devices"}}, "enabled": false,
	}
	var endpoint struct {
		ID         string
		Enabled    bool
		ClientAuth struct{ Mode string } `json:"client_auth"`
		Status     struct{ State string }
	}
	if s := admin.call(http.MethodPost, "/endpoints", body, &endpoint); s != http.StatusCreated || endpoint.ClientAuth.Mode != "require" || endpoint.Status.State != "stopped" {
		t.Fatalf("status %d, %+v", s, endpoint)
	}
	var refused problem
	if s := admin.call(http.MethodDelete, "/authorities/devices", nil, &refused); s != http.StatusConflict || !strings.Contains(refused.Detail, "api") {
		t.Errorf("deleting what is in use: %d %+v", s, refused)
	}
	body["aliases"] = []string{"other.localhost"}
	if s := admin.call(http.MethodPut, "/endpoints/api", body, nil); s != http.StatusOK {
		t.Errorf("replace: %d", s)
	}
	if e := f.current().Endpoint("api"); e == nil || e.ID != endpoint.ID || len(e.Aliases) != 1 {
		t.Errorf("kept %+v", e)
	}
	var listed struct {
		Revision uint64
		Items    []struct{ Name string }
	}
	for path, want := range map[string]int{"/authorities": 1, "/certificates": 1, "/endpoints": 1} {
		if s := admin.call(http.MethodGet, path, nil, &listed); s != http.StatusOK || len(listed.Items) != want || listed.Revision != f.current().Revision {
			t.Errorf("%s: %d %+v", path, s, listed)
		}
	}
	for _, path := range []string{"/endpoints/api", "/certificates/api", "/authorities/devices"} {
		if s := admin.call(http.MethodDelete, path, nil, nil); s != http.StatusNoContent {
			t.Errorf("delete %s: %d", path, s)
		}
		if s := admin.call(http.MethodGet, path, nil, &refused); s != http.StatusNotFound || refused.Code != "not_found" {
			t.Errorf("after deleting %s: %d %+v", path, s, refused)
		}
	}
}

func TestAPIRefuses(t *testing.T) {
	f := start(t, nil)
	admin, reader := f.as(store.ScopeAdmin), f.as(store.ScopeRead)
	ca := tlstest.NewCA(tlstest.CN("Devices"))
	withKey := string(ca.PEM()) + string(ca.KeyPEM())
	tests := []struct {
		name         string
		by           caller
		method, path string
		body         any
		status       int
		says         string
	}{
		{"a reader may not change", reader, http.MethodPost, "/authorities", map[string]any{"name": "x", "pem": string(ca.PEM())}, 403, "scope"},
		{"a private key", admin, http.MethodPost, "/authorities", map[string]any{"name": "x", "pem": withKey}, 422, "key"},
		{"a leaf", admin, http.MethodPost, "/authorities", map[string]any{"name": "x", "pem": string(ca.Client("a").PEM())}, 422, "CA"},
		{"an unknown field", admin, http.MethodPost, "/authorities", map[string]any{"name": "x", "pem": string(ca.PEM()), "pem_file": "/etc/passwd"}, 422, "unexpected property"},
		{"no upstream", admin, http.MethodPost, "/endpoints", map[string]any{"name": "x", "url": "https://a.localhost", "upstream": ""}, 422, "upstream"},
		{"a file as reference", admin, http.MethodPost, "/endpoints", map[string]any{"name": "x", "url": "https://a.localhost", "upstream": "http://127.0.0.1:1", "upstream_tls": map[string]any{"ca_file": "/etc/passwd"}}, 422, "unexpected property"},
		{"the environment", admin, http.MethodPost, "/endpoints", map[string]any{"name": "${HOME}", "url": "https://a.localhost", "upstream": "http://127.0.0.1:1"}, 422, "name"},
		{"require without authority", admin, http.MethodPost, "/endpoints", map[string]any{"name": "x", "url": "https://a.localhost", "upstream": "http://127.0.0.1:1", "client_auth": map[string]any{"mode": "require"}}, 422, "authority"},
		{"a broken filter", admin, http.MethodGet, "/handshakes?f=outcome:purple", nil, 422, "outcome"},
		{"a broken cursor", admin, http.MethodGet, "/handshakes?before=x", nil, 422, "cursor"},
		{"nothing there", admin, http.MethodGet, "/handshakes/hs_0", nil, 404, "handshake"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var p json.RawMessage
			if s := test.by.call(test.method, test.path, test.body, &p); s != test.status || !strings.Contains(string(p), test.says) {
				t.Errorf("status %d, want %d with %q: %s", s, test.status, test.says, p)
			}
		})
	}
	if n := len(f.current().Authorities) + len(f.current().Endpoints); n != 0 {
		t.Errorf("%d objects were made by refused calls", n)
	}
}

func TestAPIListsHandshakesByCursor(t *testing.T) {
	f := start(t, nil)
	reader := f.as(store.ScopeRead)
	const made = 25
	now := time.Now()
	for i := range made {
		f.opts.Hub.Publish(livetest.Handshake(i, now.Add(time.Duration(i)*time.Millisecond)))
	}
	var page struct {
		Items []struct {
			ID      string
			Verdict struct{ Outcome termination.Outcome }
		}
		Cursor string
	}
	deadline := time.Now().Add(10 * time.Second)
	for reader.call(http.MethodGet, "/handshakes?limit=100", nil, &page); len(page.Items) < made && time.Now().Before(deadline); {
		reader.call(http.MethodGet, "/handshakes?limit=100", nil, &page)
	}
	seen := map[string]bool{}
	before := ""
	for {
		page.Items, page.Cursor = nil, ""
		if s := reader.call(http.MethodGet, "/handshakes?limit=10"+before, nil, &page); s != http.StatusOK {
			t.Fatalf("status %d", s)
		}
		for _, i := range page.Items {
			if seen[i.ID] {
				t.Errorf("%s comes twice", i.ID)
			}
			seen[i.ID] = true
		}
		if page.Cursor == "" {
			break
		}
		before = "&before=" + page.Cursor
	}
	if len(seen) != made {
		t.Errorf("%d of %d were listed", len(seen), made)
	}
	if s := reader.call(http.MethodGet, "/handshakes?f=outcome:verified", nil, &page); s != http.StatusOK || len(page.Items) == 0 {
		t.Fatalf("filtered: %d, %d items", s, len(page.Items))
	}
	for _, i := range page.Items {
		if i.Verdict.Outcome != termination.OutcomeVerified {
			t.Errorf("%s passes a filter for verified", i.Verdict.Outcome)
		}
	}
}

// The document names every operation of the list of routes, with what it takes and answers.
func TestOpenAPIDocument(t *testing.T) {
	f := start(t, nil)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ Summary, OperationID string }
	}
	if s := f.as(store.ScopeRead).call(http.MethodGet, "/openapi.json", nil, &doc); s != http.StatusOK || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("status %d, version %q", s, doc.OpenAPI)
	}
	for _, r := range f.list {
		if r.kind != kindAPI && r.kind != kindSocket || strings.HasSuffix(r.path, "openapi.json") {
			continue
		}
		path := r.path
		for _, name := range []string{"ref", "id", "pin"} {
			path = strings.ReplaceAll(path, ":"+name, "{"+name+"}")
		}
		if op, ok := doc.Paths[path][strings.ToLower(r.method)]; !ok || op.Summary == "" || op.OperationID == "" {
			t.Errorf("%s %s is not in the document", r.method, path)
		}
	}
}
