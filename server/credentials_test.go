package server

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"countersign/server/api"
	"countersign/store"
	"countersign/termination"
)

// credential finds one that is in force.
func (f *fixture) credential(name string) *termination.Credential {
	config := f.current()
	for i := range config.Credentials {
		if config.Credentials[i].Name == name {
			return &config.Credentials[i]
		}
	}
	return nil
}

var shownSecret = regexp.MustCompile(`id="credential-secret"[^>]*>([^<]+)<`)

// A token is made on the page, shown once, opens the endpoint that demands it, and stops when it is blocked.
func TestCredentialPages(t *testing.T) {
	f, port := withClients(t)
	if got := f.get("/credentials"); got.status != http.StatusOK || !strings.Contains(got.body, "There is no credential yet") {
		t.Fatalf("empty: %d", got.status)
	}
	const hostile = `a"<b>`
	wrong := f.post("/credentials", url.Values{"name": {hostile}, "kind": {"bearer"}, "pin": {"12"}, "expires": {"soon"}, "endpoint": {"nowhere"}})
	if wrong.status != http.StatusUnprocessableEntity || strings.Contains(wrong.body, hostile) || !strings.Contains(wrong.body, html.EscapeString(hostile)) {
		t.Errorf("what is wrong: %d\n%s", wrong.status, wrong.body)
	}
	made := f.post("/credentials", url.Values{"name": {"ci"}, "kind": {"bearer"}, "endpoint": {"api"}})
	found := shownSecret.FindStringSubmatch(made.body)
	if made.status != http.StatusOK || found == nil || !strings.Contains(made.body, "curl --oauth2-bearer") || !strings.Contains(made.body, "Nothing demands it yet") {
		t.Fatalf("made: %d\n%s", made.status, made.body)
	}
	token := found[1]
	if strings.Contains(f.credential("ci").Hash, token) {
		t.Error("the token is kept")
	}
	for _, path := range []string{"/credentials", "/credentials/" + f.credential("ci").ID + "/delete", "/audit"} {
		if got := f.get(path); strings.Contains(got.body, token) || strings.Contains(got.body, f.credential("ci").Hash) {
			t.Errorf("%s shows the secret or its hash", path)
		}
	}
	f.mutate(func(tx *store.Tx) error {
		e, err := tx.Endpoint("api")
		if err != nil {
			return err
		}
		e.Also = termination.Also{AllOf: []termination.ProofKind{termination.ProofBearer}, Strip: true}
		return tx.UpdateEndpoint(e)
	})
	ask := func(token string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://api.localhost:%d/", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := f.outside(port, nil).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	if got := ask(""); got != 401 {
		t.Errorf("without a token: %d", got)
	}
	if got := ask(token); got != 200 {
		t.Errorf("with the token: %d", got)
	}
	if got := f.get("/credentials"); !strings.Contains(got.body, "used ") || strings.Contains(got.body, "never used") {
		t.Errorf("its use is not shown")
	}
	if got := f.get("/endpoints/api"); !strings.Contains(got.body, "a bearer token") {
		t.Error("the endpoint's page says nothing of it")
	}
	id := f.credential("ci").ID
	if got := f.post("/credentials/"+id+"/delete", url.Values{}); got.status != http.StatusUnprocessableEntity || f.credential("ci") == nil {
		t.Errorf("the last one was deleted: %d", got.status)
	}
	f.post("/credentials/"+id+"/block", url.Values{})
	if got := ask(token); got != 401 {
		t.Errorf("blocked: %d", got)
	}
	f.post("/credentials/"+id+"/unblock", url.Values{})
	renewed := shownSecret.FindStringSubmatch(f.post("/credentials/"+id+"/renew", url.Values{}).body)
	if renewed == nil || renewed[1] == token {
		t.Fatal("no other secret")
	}
	if old, next := ask(token), ask(renewed[1]); old != 401 || next != 200 {
		t.Errorf("the old token: %d, the new one: %d", old, next)
	}
	if got := f.get("/credentials/cred_nobody/delete"); got.status != http.StatusNotFound {
		t.Errorf("one that is not there: %d", got.status)
	}
}

func TestCredentialsInTheAPI(t *testing.T) {
	f, _ := withClients(t)
	admin := f.as(store.ScopeAdmin)
	var made api.NewCredential
	if got := admin.call(http.MethodPost, "/credentials", map[string]any{"name": "ann", "kind": "basic", "user": "ann"}, &made); got != http.StatusCreated || made.Secret == "" {
		t.Fatalf("made: %d, %+v", got, made)
	}
	for what, body := range map[string]map[string]any{
		"a name that is taken":  {"name": "ann"},
		"a short password":      {"name": "b", "kind": "basic", "user": "b", "password": "short"},
		"no user":               {"name": "b", "kind": "basic"},
		"a user with a colon":   {"name": "b", "kind": "basic", "user": "a:b"},
		"a pin that is none":    {"name": "b", "pin": "x"},
		"a token with password": {"name": "b", "password": "long enough"},
		"a hash":                {"name": "b", "hash": "sha256:" + strings.Repeat("0", 64)},
		"an unknown endpoint":   {"name": "b", "endpoints": []string{"nowhere"}},
		"an unknown identity":   {"name": "b", "identity": "nobody"},
	} {
		if got := admin.call(http.MethodPost, "/credentials", body, nil); got/100 != 4 {
			t.Errorf("%s: %d", what, got)
		}
	}
	if n := len(f.current().Credentials); n != 1 {
		t.Errorf("%d credentials after what was refused", n)
	}
	var listed api.Credentials
	if got := f.as(store.ScopeRead).call(http.MethodGet, "/credentials?limit=1", nil, &listed); got != http.StatusOK || listed.Total != 1 || listed.Items[0].By == "" || listed.Cursor != "" {
		t.Errorf("listed: %d, %+v", got, listed)
	}
	if got := f.as(store.ScopeOperate).call(http.MethodPost, "/credentials/"+made.ID+"/block", nil, nil); got != http.StatusNoContent || !f.credential("ann").Blocked {
		t.Errorf("block: %d", got)
	}
	if got := admin.call(http.MethodDelete, "/credentials/"+made.ID, nil, nil); got != http.StatusNoContent || f.credential("ann") != nil {
		t.Errorf("delete: %d", got)
	}
}

// Ten thousand credentials are listed a page at a time, found, and do not slow a change.
func TestManyCredentials(t *testing.T) {
	f, _ := withClients(t)
	f.mutate(func(tx *store.Tx) error {
		for i := range 3_000 {
			c := termination.Credential{Name: fmt.Sprintf("client-%05d", i), Kind: termination.ProofBearer, Hash: fmt.Sprintf("sha256:%064x", i), Blocked: i%1000 == 0}
			if _, err := tx.CreateCredential(c); err != nil {
				return err
			}
		}
		return nil
	})
	got := f.get("/credentials")
	if got.status != http.StatusOK || strings.Count(got.body, `class="agent"`) != credentialRows || !strings.Contains(got.body, "1 to 100 of 3") || !strings.Contains(got.body, "from=100") {
		t.Errorf("%d with %d rows", got.status, strings.Count(got.body, `class="agent"`))
	}
	if got := f.get("/credentials?q=client-02999"); strings.Count(got.body, `class="agent"`) != 1 {
		t.Error("one is not found")
	}
	if got := f.get("/credentials?state=blocked"); strings.Count(got.body, `class="agent"`) != 3 {
		t.Error("the blocked ones are not found")
	}
}
