package server

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
)

func TestHistorySettings(t *testing.T) {
	f := signedIn(t, nil)
	before := f.traces()
	for name, form := range map[string]url.Values{
		"no number":  {"keep": {"a week"}, "keep_failures": {"30"}, "max_size": {"2000"}},
		"zero":       {"keep": {"0"}, "keep_failures": {"30"}, "max_size": {"2000"}},
		"negative":   {"keep": {"7"}, "keep_failures": {"-1"}, "max_size": {"2000"}},
		"NaN":        {"keep": {"NaN"}, "keep_failures": {"30"}, "max_size": {"2000"}},
		"infinite":   {"keep": {"7"}, "keep_failures": {"Inf"}, "max_size": {"2000"}},
		"hex":        {"keep": {"0x7"}, "keep_failures": {"30"}, "max_size": {"1e99"}},
		"missing":    {"keep": {"7"}},
		"size small": {"keep": {"7"}, "keep_failures": {"30"}, "max_size": {"1"}},
	} {
		got := f.post("/settings/history", form)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `aria-invalid="true"`) || !strings.Contains(got.body, "must be a number from") {
			t.Errorf("%s: status %d", name, got.status)
		}
		if name == "no number" && !strings.Contains(got.body, `value="a week"`) {
			t.Error("what was typed is gone")
		}
	}
	if after := f.traces(); after != before {
		t.Errorf("something was changed: %s, before %s", after, before)
	}
	got := f.post("/settings/history", url.Values{"keep": {" 2.5 "}, "keep_failures": {"10,5"}, "max_size": {"500"}})
	if got.status != http.StatusSeeOther {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	h, err := f.store.History(t.Context())
	if err != nil || h != (store.HistorySettings{Keep: 60 * time.Hour, KeepFailures: 252 * time.Hour, MaxSize: 500e6}) {
		t.Errorf("%+v, %v", h, err)
	}
	page := f.get("/settings")
	if !strings.Contains(page.body, "History saved.") || !strings.Contains(page.body, `value="2.5"`) || !strings.Contains(page.body, "· 2 d<") {
		t.Errorf("the page afterwards: %s", page.body)
	}
	audit := f.get("/audit")
	if !strings.Contains(audit.body, "changed setting") || !strings.Contains(audit.body, "60h0m0s") {
		t.Errorf("the audit log: %s", audit.body)
	}
}

// TestDeclaredHistoryIsReadOnly: what the configuration file says cannot be changed on the page.
func TestDeclaredHistoryIsReadOnly(t *testing.T) {
	f := signedIn(t, nil)
	h := store.DefaultHistorySettings()
	_, err := f.Change(t.Context(), store.Actor{Name: "countersign.yaml", Via: "file"}, func(tx *store.Tx) error {
		return tx.ReplaceDeclared(store.Declared{History: &h})
	})
	if err != nil {
		t.Fatal(err)
	}
	page := f.get("/settings")
	if strings.Contains(page.body, "Save history") || !strings.Contains(page.body, "Set in the configuration file") || !strings.Contains(page.body, "readonly") {
		t.Errorf("the page: %s", page.body)
	}
	if got := f.post("/settings/history", url.Values{"keep": {"1"}, "keep_failures": {"1"}, "max_size": {"100"}}); got.status != http.StatusConflict || !strings.Contains(got.body, "configuration file") {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

func TestTokens(t *testing.T) {
	f := signedIn(t, nil)
	for name, form := range map[string]url.Values{
		"no name":      {"name": {" "}, "scope": {"read"}},
		"hostile name": {"name": {"<img src=x>"}, "scope": {"read"}},
	} {
		if got := f.post("/settings/tokens", form); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `id="f-name-error"`) || strings.Contains(got.body, "<img") {
			t.Errorf("%s: status %d", name, got.status)
		}
	}
	if got := f.post("/settings/tokens", url.Values{"name": {"ci"}, "scope": {"root"}}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("an unknown scope: status %d", got.status)
	}
	got := f.post("/settings/tokens", url.Values{"name": {"ci"}, "scope": {"operate"}})
	secret := regexp.MustCompile(`countersign_[A-Za-z0-9_-]{43}`).FindString(got.body)
	if got.status != http.StatusOK || secret == "" {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	token, err := f.store.Token(t.Context(), secret)
	if err != nil || token.Scope != store.ScopeOperate || token.By != "rhea" {
		t.Errorf("%+v, %v", token, err)
	}
	if page := f.get("/settings/tokens"); strings.Contains(page.body, secret) || !strings.Contains(page.body, "Revoke ci") {
		t.Errorf("the secret is shown again, or the token is not: %s", page.body)
	}
	if again := f.post("/settings/tokens", url.Values{"name": {"ci"}, "scope": {"read"}}); again.status != http.StatusUnprocessableEntity || !strings.Contains(again.body, "another token named") {
		t.Errorf("the name again: status %d: %s", again.status, again.body)
	}
	if revoked := f.post("/settings/tokens/"+token.ID+"/revoke", url.Values{}); revoked.status != http.StatusSeeOther {
		t.Errorf("revoke: status %d", revoked.status)
	}
	if _, err := f.store.Token(t.Context(), secret); err == nil {
		t.Error("a revoked token is good")
	}
	if again := f.post("/settings/tokens/"+token.ID+"/revoke", url.Values{}); again.status != http.StatusNotFound {
		t.Errorf("revoked again: status %d", again.status)
	}
	if strings.Contains(f.log.String(), secret) {
		t.Error("the secret is in the log")
	}
}

func TestAppearance(t *testing.T) {
	f := signedIn(t, nil)
	page := f.get("/settings")
	if strings.Contains(page.body, "data-theme") || strings.Contains(page.body, "data-dense") || strings.Contains(page.body, "data-keys") {
		t.Error("a new browser has an appearance")
	}
	got := f.post("/settings/appearance", url.Values{"theme": {"light"}, "dense": {"on"}, "zone": {"utc"}})
	for _, c := range got.header.Values("Set-Cookie") {
		if !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Strict") {
			t.Errorf("cookie %q", c)
		}
	}
	page = f.get("/settings")
	for _, want := range []string{`data-theme="light"`, " data-dense", `data-keys="off"`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	f.post("/settings/appearance", url.Values{"theme": {"<script>"}, "keys": {"on"}, "zone": {"mars"}})
	page = f.get("/settings")
	if strings.Contains(page.body, "data-theme") || strings.Contains(page.body, "data-keys") {
		t.Error("the appearance was not set back")
	}
}

func TestAuditPages(t *testing.T) {
	f := signedIn(t, nil)
	for _, bad := range []string{"x", "-1", "1e3", "99999999999999999999"} {
		if got := f.get("/audit?before=" + bad); got.status != http.StatusBadRequest {
			t.Errorf("before=%s: status %d", bad, got.status)
		}
	}
	for range auditPageSize {
		if _, _, err := f.store.CreateSession(t.Context(), "ben", "test", time.Hour, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	page := f.get("/audit")
	m := regexp.MustCompile(`href="(/audit\?before=\d+)"`).FindStringSubmatch(page.body)
	if m == nil || strings.Contains(page.body, ">rhea\n") {
		t.Fatalf("no second page: %s", page.body)
	}
	older := f.get(m[1])
	if strings.Contains(older.body, "ben") || !strings.Contains(older.body, "signed in") || strings.Contains(older.body, "/audit?before") {
		t.Errorf("the second page: %s", older.body)
	}
}

// TestSettingsShowProblems: what in the store cannot be used stands on the page.
func TestSettingsShowProblems(t *testing.T) {
	f := signedIn(t, nil)
	f.problems.Store(&[]store.Problem{{Kind: "endpoint", Name: "api", Text: "its key <b>cannot</b> be read"}})
	if page := f.get("/settings"); !strings.Contains(page.body, "Something in the store cannot be used") || !strings.Contains(page.body, "&lt;b&gt;cannot") {
		t.Error("the problem is not shown, or not escaped")
	}
}

// TestChangeIsAllOrNothing: what the gateway could not serve is not stored.
func TestChangeIsAllOrNothing(t *testing.T) {
	f := signedIn(t, nil)
	before := f.traces()
	_, err := f.Change(t.Context(), store.Actor{Name: "rhea", Via: "test"}, func(tx *store.Tx) error {
		if err := tx.SetHistory(store.HistorySettings{Keep: time.Hour, KeepFailures: time.Hour, MaxSize: 5e6}); err != nil {
			return err
		}
		_, err := tx.CreateEndpoint(termination.Endpoint{Name: "api", Scheme: termination.SchemeHTTPS, Host: "api.example", Port: 8443, TerminateAt: "nowhere"})
		return err
	})
	if err == nil || problemOf(err).Status != http.StatusUnprocessableEntity {
		t.Errorf("%v", err)
	}
	if after := f.traces(); after != before {
		t.Errorf("something was changed: %s, before %s", after, before)
	}
}

func TestHealth(t *testing.T) {
	f := start(t, nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := f.get(path); got.status != http.StatusOK || got.body != "ok\n" {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	f.ready.Store(false)
	if got := f.get("/readyz"); got.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz while not ready: %d", got.status)
	}
}

// TestRailShowsWhatIsBuilt: an entry stands on the rail when its page is in the list of routes, and not before.
func TestRailShowsWhatIsBuilt(t *testing.T) {
	f := signedIn(t, nil)
	page := f.get("/settings")
	for href, label := range map[string]string{"/live": "Live", "/endpoints": "Endpoints", "/authorities": "Trust", "/certificates": "Certificates"} {
		if got := strings.Contains(page.body, `<a href="`+href+`" data-key=`); got != f.has(href) {
			t.Errorf("%s: on the rail %v, built %v", label, got, f.has(href))
		}
	}
}
