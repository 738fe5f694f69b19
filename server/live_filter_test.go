package server

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/live/livetest"
)

// The head, the rows and the completions of the Live page have their twins in the API; hostile text stays a value.
func TestLiveAnswers(t *testing.T) {
	const hostile = `"><script>x</script>, or`
	f := signedIn(t, nil)
	reader := f.as(store.ScopeRead)
	now := time.Now()
	for i := range 40 {
		h := livetest.Handshake(i, now.Add(-time.Second))
		h.ID = termination.NewID(termination.PrefixHandshake, h.Time)
		if i == 3 {
			h.Client.Name = hostile
		}
		f.opts.Hub.Publish(h)
	}
	var rows struct {
		E []struct {
			Q  uint64
			EP int
		}
		Endpoints map[int]string
		Cursor    string
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(rows.E) < 40 && time.Now().Before(deadline) {
		reader.call(http.MethodGet, "/handshakes/rows?limit=1000", nil, &rows)
	}
	if len(rows.E) != 40 || rows.Endpoints[rows.E[0].EP] == "" || rows.Cursor != "" {
		t.Fatalf("%d rows, endpoints %v, cursor %q", len(rows.E), rows.Endpoints, rows.Cursor)
	}
	rows.E = nil
	if s := reader.call(http.MethodGet, "/handshakes/rows?after=10&before=15", nil, &rows); s != http.StatusOK || len(rows.E) != 4 || rows.E[0].Q != 14 {
		t.Errorf("a gap is filled with %+v, status %d", rows.E, s)
	}

	var pulse struct {
		Total struct{ Verified, Passed, Failed int }
		Bars  []struct{ Failed int }
	}
	for filter, want := range map[string][3]int{"": {28, 4, 8}, "endpoint:erp": {9, 1, 3}, "outcome:failed": {0, 0, 8}, "until:2020-01-01": {}} {
		for _, period := range []string{"15m", "24h"} {
			pulse.Total = struct{ Verified, Passed, Failed int }{}
			s := reader.call(http.MethodGet, "/handshakes/pulse?period="+period+"&f="+url.QueryEscape(filter), nil, &pulse)
			if got := pulse.Total; s != http.StatusOK || [3]int{got.Verified, got.Passed, got.Failed} != want {
				t.Errorf("pulse of %q in %s: status %d, %+v; want %v", filter, period, s, got, want)
			}
		}
	}
	for _, wrong := range []string{"/handshakes/pulse?f=outcome:x", "/handshakes/pulse?period=1y", "/handshakes/rows?f=a:b", "/handshakes/rows?before=x", "/handshakes/rows?after=-1"} {
		if s := reader.call(http.MethodGet, wrong, nil, nil); s != http.StatusUnprocessableEntity {
			t.Errorf("%s answers %d, want 422", wrong, s)
		}
	}

	var values struct {
		Items []struct {
			Value, Term, About string
			Count              int
		}
	}
	for query, want := range map[string]string{
		"prefix=cl": "client:", "key=client&prefix=script": `client:"\"><script>x</script>, or"`, "key=reason&prefix=cert_m": "reason:cert_missing",
		"key=kx": "kx:X25519MLKEM768", "key=is&prefix=p": "is:pq",
	} {
		values.Items = nil
		if s := reader.call(http.MethodGet, "/handshakes/values?"+query, nil, &values); s != http.StatusOK || len(values.Items) == 0 || values.Items[0].Term != want {
			t.Errorf("%s offers %+v, status %d; want %s first", query, values.Items, s, want)
		}
	}
	values.Items = nil
	if s := reader.call(http.MethodGet, "/handshakes/values?key=nothing", nil, &values); s != http.StatusOK || len(values.Items) != 0 {
		t.Errorf("a key that is none offers %+v, status %d", values.Items, s)
	}
	f.noScript(t, hostile)
}

// noScript uses the page as a browser without script does.
func (f *fixture) noScript(t *testing.T, hostile string) {
	t.Helper()
	term := termination.FormatFilterTerm(termination.FilterClient, hostile, false)
	both := f.get("/live?" + url.Values{"f": {term, " tls:1.3 "}, "since": {"1h"}}.Encode())
	want := "/live?" + url.Values{"f": {term + " tls:1.3"}, "since": {"1h"}}.Encode()
	if both.status != http.StatusSeeOther || both.header.Get("Location") != want {
		t.Fatalf("two parts of a filter lead with %d to %q, want %q", both.status, both.header.Get("Location"), want)
	}
	page := f.get(want).body
	without := html.EscapeString("/live?" + url.Values{"f": {"tls:1.3"}, "since": {"1h"}}.Encode())
	for _, has := range []string{`href="` + without + `"`, `value="` + html.EscapeString(term) + `"`, `aria-current="true">1 h</a>`, "of those that match end verified"} {
		if !strings.Contains(page, has) {
			t.Errorf("the page lacks %s", has)
		}
	}
	if strings.Contains(page, "<script>x") {
		t.Error("a stranger's text became markup")
	}
	if page = f.get("/live?f=client:nobody").body; !strings.Contains(page, "No match since") || !strings.Contains(page, "40 other handshakes are hidden.") {
		t.Error("a filter that matches nothing does not say what it hides")
	}
	if wrong := f.get("/live?f=outcome:x"); wrong.status != http.StatusUnprocessableEntity || !strings.Contains(wrong.body, `value="outcome:x"`) || !strings.Contains(wrong.body, "is no outcome") {
		t.Errorf("a wrong filter answers %d, without what was typed or why it is wrong", wrong.status)
	}
}
