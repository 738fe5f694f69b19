package server

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestRulesAreEditedInRows: rows are added, moved and taken out by buttons that save nothing, and saved as they stand.
func TestRulesAreEditedInRows(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), "rules", "refuse ou=\"test\" authority=\"clients\"\nallow o=\"A \\\"B\\\" C\" ou=\"it\"\nallow any")), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/shop"), 200, `name="rule0_value" type="text" value="test"`, `value="o=&#34;A \&#34;B\&#34; C&#34; ou=&#34;it&#34;"`, `name="rule3_effect"`)
	rows := func(do string, rows ...[4]string) url.Values {
		form := url.Values{"mode": {"require"}, "authorities": {"clients"}, "on_loss": {"close"}}
		for i, r := range rows {
			for j, field := range []string{"effect", "kind", "value", "authority"} {
				form.Set("rule"+strconv.Itoa(i)+"_"+field, r[j])
			}
		}
		if do != "" {
			form.Set("do", do)
		}
		return form
	}
	first, blank, second := [4]string{"refuse", "cn", "x", "clients"}, [4]string{"allow", "uri", "", ""}, [4]string{"allow", "any", "", ""}
	saved := func() string { return termination.RulesText(f.current().Endpoint("shop").ClientAuth.Rules) }
	before := saved()
	shows := func(r reply, values ...string) {
		t.Helper()
		wantAll(t, r, 200)
		at := -1
		for i, v := range values {
			next := strings.Index(r.body, `name="rule`+strconv.Itoa(i)+`_value" type="text" value="`+v+`"`)
			if next <= at {
				t.Errorf("row %d does not hold %q", i, v)
			}
			at = next
		}
		if saved() != before {
			t.Error("a button that arranges rows saved them")
		}
	}
	third := [4]string{"allow", "dns", "a.example.com", ""}
	shows(f.post("/endpoints/shop/policy", rows("rule_up_2", first, blank, third)), "a.example.com", "x")
	shows(f.post("/endpoints/shop/policy", rows("rule_down_0", first, blank, third)), "a.example.com", "x")
	shows(f.post("/endpoints/shop/policy", rows("rule_remove_0", first, blank, third)), "a.example.com", "")
	shows(f.post("/endpoints/shop/policy", rows("rule_add", first)), "x", "", "")
	for _, odd := range []string{"rule_", "rule_up_99", "rule_up_-1", "rule_down_x", "rule_fly_0"} {
		shows(f.post("/endpoints/shop/policy", rows(odd, first)), "x")
	}
	r := f.post("/endpoints/shop/policy", rows("", first, blank, [4]string{"allow", "text", `o="Acme" ou="it"`, "clients"}, second))
	wantAll(t, r, http.StatusSeeOther)
	if got, want := saved(), "refuse cn=\"x\" authority=\"clients\"\nallow o=\"Acme\" ou=\"it\" authority=\"clients\"\nallow any"; got != want {
		t.Errorf("saved\n%s\nwant\n%s", got, want)
	}
	wantAll(t, f.get("/endpoints/shop"), 200, "CN is the weakest")
	wantAll(t, f.post("/endpoints/shop/policy", rows("", [4]string{"allow", "ip", "10.0.0/8", ""})), 422, "rule 1: ip:")
	wantAll(t, f.post("/endpoints/shop/policy", rows("", [4]string{"welcome", "ip", "10.0.0.0/8", ""})), 422, "begin with allow or refuse")
	wantAll(t, f.post("/endpoints/shop/policy", rows("", [4]string{"allow", "cn", "a\nrefuse any", ""}, second)), http.StatusSeeOther)
	if !strings.HasPrefix(saved(), `allow cn="a refuse any"`) {
		t.Errorf("a line break made a rule of its own: %s", saved())
	}
	// The same rows stand in the settings.
	form := endpointFields(f.current().Endpoint("shop").Port, "do", "rule_remove_0")
	for k, v := range rows("", first, third) {
		form[k] = v
	}
	form.Set("do", "rule_remove_0")
	wantAll(t, f.post("/endpoints/shop/settings", form), 200, `name="rule0_value" type="text" value="a.example.com"`)
}

// TestPrefilledRule: a link may offer a rule; it is shown, marked, and not saved.
func TestPrefilledRule(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t))), http.StatusSeeOther)
	rule := `allow uri="spiffe://prod/x" authority="clients"`
	wantAll(t, f.get("/endpoints/shop?rule="+url.QueryEscape(rule)), 200, "Rule 1 is prefilled and not saved", `value="spiffe://prod/x"`)
	for _, none := range []string{"", "welcome", "allow any\nallow any", strings.Repeat("x", 5000)} {
		if r := f.get("/endpoints/shop?rule=" + url.QueryEscape(none)); r.status != 200 || strings.Contains(r.body, "prefilled") {
			t.Errorf("%.20q was offered", none)
		}
	}
	if len(f.current().Endpoint("shop").ClientAuth.Rules) != 0 {
		t.Error("it was saved")
	}
}

// Rows say the same as the text that they were made of.
func TestRowsKeepRules(t *testing.T) {
	for _, text := range []string{
		`allow any`, `refuse authority="devices"`, `allow cn="a \"b\" \\c"`, `allow uri="spiffe://prod/*" authority="devices"`,
		`refuse dns="*.example.com" o="Acme"`, `allow pin="` + strings.Repeat("ab", 32) + `"`,
	} {
		want, err := termination.ParseRules(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := termination.ParseRules(rowOf(text).line())
		if err != nil || !slices.EqualFunc(got, want, func(a, b termination.Rule) bool { return a.Text() == b.Text() }) {
			t.Errorf("%s became %v, %v", text, got, err)
		}
	}
}
