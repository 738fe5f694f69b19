package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestAPIKeepsIdentities(t *testing.T) {
	f, _ := withClients(t)
	admin, operator, reader := f.as(store.ScopeAdmin), f.as(store.ScopeOperate), f.as(store.ScopeRead)
	first, second := tlstest.SelfSigned(tlstest.CN("first")), tlstest.SelfSigned(tlstest.CN("second"))
	type identity struct {
		ID, Name     string
		Pins         []string
		Endpoints    []string
		Rate         string
		Burst        int
		Blocked      bool
		Certificates []struct{ Fingerprint string }
		Days         []struct{ Requests int64 }
	}
	var made identity
	body := map[string]any{"name": "meter", "certificate": string(first.PEM()), "endpoints": []string{"api"}, "rate": "50/s", "burst": 100}
	if s := admin.call(http.MethodPost, "/identities", body, &made); s != http.StatusCreated || made.Pins[0] != first.Fingerprint() || made.Burst != 100 || made.Certificates[0].Fingerprint != first.Fingerprint() {
		t.Fatalf("%d %+v", s, made)
	}
	for name, tt := range map[string]struct {
		body map[string]any
		says string
	}{
		"a key":       {map[string]any{"name": "x", "certificate": string(second.KeyPEM())}, "private key"},
		"a duplicate": {map[string]any{"name": "x", "certificate": string(first.PEM())}, "for the identity meter"},
		"a pin":       {map[string]any{"name": "x", "pins": []string{"zz"}}, "hex digits"},
		"a rate":      {map[string]any{"name": "x", "rate": "often"}, "is no rate"},
		"a match":     {map[string]any{"name": "x", "match": []any{map[string]any{"cn": "x"}}}, "no authority"},
		"an endpoint": {map[string]any{"name": "x", "endpoints": []string{"nowhere"}}, "no endpoint"},
		"a taken":     {map[string]any{"name": "meter"}, "another identity"},
	} {
		var p problem
		if s := admin.call(http.MethodPost, "/identities", tt.body, &p); s/100 != 4 || !strings.Contains(p.Detail, tt.says) || strings.Contains(p.Detail, "BEGIN PRIVATE") {
			t.Errorf("%s: %d %+v", name, s, p)
		}
	}
	if s := admin.call(http.MethodPost, "/identities/meter/certificates", map[string]any{"certificate": string(second.PEM())}, &made); s != 200 || len(made.Pins) != 2 {
		t.Fatalf("%d %+v", s, made)
	}
	if s := admin.call(http.MethodDelete, "/identities/meter/certificates/"+first.Fingerprint(), nil, &made); s != 200 || len(made.Pins) != 1 || made.Pins[0] != second.Fingerprint() {
		t.Errorf("%d %+v", s, made)
	}
	body = map[string]any{"name": "gauge", "pins": made.Pins, "endpoints": []string{"api"}}
	id := made.ID
	made = identity{}
	if s := admin.call(http.MethodPut, "/identities/"+id, body, &made); s != 200 || made.Name != "gauge" || made.Rate != "" || len(made.Certificates) != 1 {
		t.Errorf("replaced: %d %+v", s, made)
	}
	if s := operator.call(http.MethodPost, "/identities/gauge/block", nil, &made); s != 200 || !made.Blocked {
		t.Errorf("blocked: %d %+v", s, made)
	}
	if s := operator.call(http.MethodPost, "/identities/gauge/unblock", nil, nil); s != 403 {
		t.Errorf("an operator widens: %d", s)
	}
	if err := f.store.WriteHistory(termination.HistoryBatch{Ends: []termination.ConnectionEnd{{ID: "hs_x", Time: time.Now(), Requests: 7, IdentityID: made.ID}}}); err != nil {
		t.Fatal(err)
	}
	if s := reader.call(http.MethodGet, "/identities/gauge", nil, &made); s != 200 || len(made.Days) != 1 || made.Days[0].Requests != 7 {
		t.Errorf("shown: %d %+v", s, made)
	}
	var listed struct{ Items []identity }
	for query, want := range map[string]int{"": 1, "?q=GAU": 1, "?q=" + second.Fingerprint()[:8]: 1, "?q=api": 1, "?q=other": 0, "?after=gauge": 0} {
		if s := reader.call(http.MethodGet, "/identities"+query, nil, &listed); s != 200 || len(listed.Items) != want {
			t.Errorf("%s: %d %+v", query, s, listed)
		}
	}
	var invited struct{ ID, State, Link string }
	ask := map[string]any{"portal": "portal", "identity": "gauge", "expires": "1h"}
	if s := admin.call(http.MethodPost, "/registrations", ask, &invited); s != http.StatusCreated || invited.State != "open" || !strings.Contains(invited.Link, "/i/csreg1_") {
		t.Errorf("invited: %d %+v", s, invited)
	}
	var invitations struct {
		Items []struct{ State, Link string }
	}
	if s := reader.call(http.MethodGet, "/registrations", nil, &invitations); s != 200 || len(invitations.Items) != 1 || invitations.Items[0].Link != "" {
		t.Errorf("listed: %d %+v", s, invitations)
	}
	if s := admin.call(http.MethodDelete, "/registrations/"+invited.ID, nil, nil); s != http.StatusNoContent {
		t.Errorf("withdrawn: %d", s)
	}
	if s := admin.call(http.MethodDelete, "/identities/gauge", nil, nil); s != http.StatusNoContent || f.identity("gauge") != nil {
		t.Errorf("deleted: %d", s)
	}
}
