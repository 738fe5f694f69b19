package server

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"countersign/store"
)

// A filter is saved under a name, opened, renamed and removed by the forms; each change stands in the audit log.
func TestSavedViews(t *testing.T) {
	f := signedIn(t, nil)
	const filter = `outcome:failed sni:"a b"`
	address := "/live?" + url.Values{"f": {filter}}.Encode()
	if page := f.get(address); !strings.Contains(page.body, "Save this filter") {
		t.Error("the page does not offer to save its filter")
	}
	if form := f.get("/live/views?" + url.Values{"f": {filter}}.Encode()); !strings.Contains(form.body, html.EscapeString(filter)) {
		t.Error("the form does not take the filter over")
	}
	if got := f.post("/live/views", url.Values{"name": {" What fails "}, "f": {filter}}); got.status != http.StatusSeeOther || got.header.Get("Location") != address {
		t.Fatalf("saving answers %d to %q", got.status, got.header.Get("Location"))
	}
	page := f.get(address)
	if !strings.Contains(page.body, `aria-current="true">What fails</a>`) || strings.Contains(page.body, "Save this filter") {
		t.Error("the page that a view shows does not say so")
	}
	if page = f.get("/live"); !strings.Contains(page.body, `href="`+html.EscapeString(address)+`"`) {
		t.Error("the Live page does not lead to the view")
	}
	saved, err := f.store.SavedViews(t.Context())
	if err != nil || len(saved) != 1 || saved[0].By != "rhea" {
		t.Fatalf("saved is %+v, %v", saved, err)
	}
	if got := f.post("/live/views/"+saved[0].ID, url.Values{"name": {"Failures"}}); got.status != http.StatusSeeOther {
		t.Errorf("renaming answers %d", got.status)
	}
	if got := f.post("/live/views/"+saved[0].ID+"/remove", url.Values{}); got.status != http.StatusSeeOther {
		t.Errorf("removing answers %d", got.status)
	}
	if got := f.post("/live/views/"+saved[0].ID+"/remove", url.Values{}); got.status != http.StatusNotFound {
		t.Errorf("removing it again answers %d", got.status)
	}
	log, err := f.store.Audit(t.Context(), store.AuditQuery{Kind: store.KindSavedView})
	if err != nil || len(log) != 3 || log[0].Action != store.ActionDelete || log[1].Name != "Failures" || log[2].Actor.Name != "rhea" {
		t.Errorf("the audit log says %+v, %v", log, err)
	}
	if f.current().Revision != 0 && f.current().Revision != log[0].Revision {
		t.Errorf("a view raised the revision to %d", f.current().Revision)
	}
}

func TestSavedViewsRefuse(t *testing.T) {
	f := signedIn(t, nil)
	if got := f.post("/live/views", url.Values{"name": {"Taken"}, "f": {"is:pq"}}); got.status != http.StatusSeeOther {
		t.Fatalf("status %d", got.status)
	}
	for name, form := range map[string]struct {
		values url.Values
		words  string
	}{
		"no name":           {url.Values{"name": {"  "}, "f": {"is:pq"}}, "it has no name"},
		"a long name":       {url.Values{"name": {strings.Repeat("é", 41)}, "f": {"is:pq"}}, "at most 40 characters"},
		"a name that turns": {url.Values{"name": {"a\u202eb"}, "f": {"is:pq"}}, "control characters"},
		"a broken name":     {url.Values{"name": {"a\xff"}, "f": {"is:pq"}}, "not valid UTF-8"},
		"a taken name":      {url.Values{"name": {"TAKEN"}, "f": {"is:pq"}}, "choose another name"},
		"no filter":         {url.Values{"name": {"x"}, "f": {" "}}, "it filters nothing"},
		"a wrong filter":    {url.Values{"name": {"<b>x"}, "f": {"outcome:verifed"}}, "is no outcome"},
		"a long filter":     {url.Values{"name": {"x"}, "f": {strings.Repeat("x", 1025)}}, "at most 1024 bytes"},
	} {
		got := f.post("/live/views", form.values)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, form.words) || strings.Contains(got.body, "<b>x") {
			t.Errorf("%s: status %d without %q", name, got.status, form.words)
		}
	}
	operate := f.as(store.ScopeOperate)
	for n := 1; n < store.MaxSavedViews; n++ {
		if s := operate.call(http.MethodPost, "/views", map[string]any{"name": fmt.Sprintf("v%02d", n), "filter": "is:pq"}, nil); s != http.StatusCreated {
			t.Fatalf("view %d: status %d", n, s)
		}
	}
	var refused problem
	if s := operate.call(http.MethodPost, "/views", map[string]any{"name": "one more", "filter": "is:pq"}, &refused); s != http.StatusUnprocessableEntity || !strings.Contains(refused.Detail, "50 saved views") {
		t.Errorf("one view too many: %d %+v", s, refused)
	}
	var list struct {
		Items []struct{ ID, Name, Filter, By string }
	}
	if s := operate.call(http.MethodGet, "/views", nil, &list); s != http.StatusOK || len(list.Items) != store.MaxSavedViews || list.Items[0].Name != "Taken" {
		t.Errorf("the list: %d %+v", s, list.Items)
	}
	var changed struct{ Name, Filter string }
	if s := operate.call(http.MethodPatch, "/views/v07", map[string]any{"filter": "tls:1.2"}, &changed); s != http.StatusOK || changed.Name != "v07" || changed.Filter != "tls:1.2" {
		t.Errorf("another filter: %d %+v", s, changed)
	}
	if s := operate.call(http.MethodDelete, "/views/v07", nil, nil); s != http.StatusNoContent {
		t.Errorf("removed: %d", s)
	}
	if s := f.as(store.ScopeRead).call(http.MethodPost, "/views", map[string]any{"name": "mine", "filter": "is:pq"}, nil); s != http.StatusForbidden {
		t.Errorf("a token that may only read saves a view: %d", s)
	}
}
