package server

import (
	"html"
	"net/url"
	"strings"
	"testing"

	"countersign/termination/tlstest"
)

func TestACMESettings(t *testing.T) {
	const directory, secret = "https://ca.example.test/directory", "c2VjcmV0IG9mIHRoZSBuYW1lIHNlcnZlcg=="
	f := signedIn(t, nil)
	root := tlstest.NewCA()
	with := func(pairs ...string) url.Values {
		v := url.Values{"directory": {directory}}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	for what, test := range map[string]struct {
		form url.Values
		says string
	}{
		"plain http":                  {with("directory", "http://ca.example.test/"), "is no https URL"},
		"no directory":                {with("directory", " ", "email", "a@b.test"), "Is missing. Give the address of the CA"},
		"no email":                    {with("email", "ops"), "is no email address"},
		"no address":                  {with("http", "80"), "Write it as in 0.0.0.0:80."},
		"no certificate":              {with("roots", "dear madam"), "There is no certificate in it."},
		"an unknown provider":         {with("provider", "route66"), `"route66" is unknown. Use cloudflare, digitalocean, rfc2136.`},
		"no setting":                  {with("provider", "rfc2136", "settings", "server"), "is no setting. Write a line for each"},
		"a setting of another":        {with("provider", "cloudflare", "secret", secret, "settings", "server = 10.0.0.53"), "Is no setting of cloudflare"},
		"a missing setting":           {with("provider", "rfc2136", "secret", secret, "settings", "server = 10.0.0.53:53"), "Key_name Is missing."},
		"no secret":                   {with("provider", "cloudflare"), "Give it: token with the right"},
		"a secret in the wrong place": {with("provider", "cloudflare", "settings", "api_token = "+secret), "is a secret. Give it in the field below."},
	} {
		got := f.post("/settings/acme", test.form)
		if text := html.UnescapeString(got.body); got.status != 422 || !strings.Contains(text, test.says) || strings.Contains(text, secret) {
			t.Errorf("%s: %d; says %q: %t; shows the secret: %t", what, got.status, test.says, strings.Contains(text, test.says), strings.Contains(text, secret))
		}
	}
	full := with("email", "ops@example.test", "http", "127.0.0.1:8085", "roots", string(root.PEM()), "provider", "rfc2136", "settings", "server = 10.0.0.53:53\nkey_name = acme", "secret", secret)
	if got := f.post("/settings/acme", full); got.status != 303 {
		t.Fatalf("saved with %d\n%s", got.status, got.body)
	}
	full.Set("secret", "")
	full.Set("email", "")
	if got := f.post("/settings/acme", full); got.status != 303 {
		t.Fatalf("saved without the secret: %d", got.status)
	}
	a := f.current().ACME
	if a.Directory != directory || a.Email != "" || a.HTTP.String() != "127.0.0.1:8085" || len(a.Roots) != 1 || a.DNS.Settings["key"] != secret || a.DNS.Settings["key_name"] != "acme" {
		t.Errorf("kept %+v", a)
	}
	pages := f.get("/settings").body + f.get("/audit").body + f.log.String()
	if strings.Contains(html.UnescapeString(pages), secret) || !strings.Contains(pages, directory) {
		t.Error("the secret is shown, or the rest is not")
	}
	// A secret belongs to its provider: another one does not get it.
	if got := f.post("/settings/acme", with("provider", "digitalocean")); got.status != 422 {
		t.Errorf("another provider without a secret: %d", got.status)
	}
	if got := f.post("/settings/acme", with("directory", "")); got.status != 303 || f.current().ACME.Directory != "" {
		t.Errorf("nothing any more: %d, %+v", got.status, f.current().ACME)
	}
}
