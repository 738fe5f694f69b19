package server

import (
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign/termination"
)

// files returns the addresses of the downloads of a result page, by the last part of them.
func (r reply) files() map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`href="(/certificates/issue/[A-Z0-9]+/([a-z0-9-]+))"`).FindAllStringSubmatch(r.body, -1) {
		out[m[2]] = m[1]
	}
	return out
}

// A client certificate opens a real endpoint for a real curl: as PEM and as .p12 of both flavours. Its files are for
// the session that issued it, and go.
func TestCertificateIssueForCurl(t *testing.T) {
	f := realDemo(t)
	page := f.post("/certificates/issue", url.Values{"name": {"billing"}, "kind": {"client"}, "days": {"7"}, "uri": {"spiffe://example.org/billing"}, "email": {"b@example.org"}})
	if page.status != http.StatusOK {
		t.Fatalf("status %d", page.status)
	}
	if strings.Contains(page.body, "PRIVATE KEY") {
		t.Error("the page itself holds the private key")
	}
	files := page.files()
	if len(files) != 6 {
		t.Fatalf("files: %v", files)
	}
	dir := t.TempDir()
	for key, path := range files {
		got := f.get(path)
		name := regexp.MustCompile(`^attachment; filename="([A-Za-z0-9_.-]+)"$`).FindStringSubmatch(got.header.Get("Content-Disposition"))
		if got.status != http.StatusOK || name == nil || got.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: status %d, %v", key, got.status, got.header)
		}
		if err := os.WriteFile(filepath.Join(dir, name[1]), []byte(got.body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	commands := page.commands()
	ran := 0
	for id, command := range commands {
		if !strings.HasPrefix(id, "curl-") {
			continue
		}
		variants := []string{command}
		if strings.HasPrefix(id, "curl-p12-") {
			variants = append(variants, strings.ReplaceAll(command, "billing.p12", "billing-apple.p12"))
		}
		for _, v := range variants {
			ran++
			out, errs, err := shell(t, "cd "+shellQuote(dir)+"\n"+v)
			if err != nil || !strings.Contains(out, "billing") {
				t.Errorf("%s\n%v\n%s%s", v, err, out, errs)
			}
		}
	}
	if ran != 3 {
		t.Errorf("%d commands ran: %v", ran, commands)
	}
	issued, err := f.store.Issued(t.Context(), "client")
	if err != nil || len(issued) != 1 || issued[0].Name != "billing" || issued[0].By != "rhea" {
		t.Fatalf("recorded: %+v, %v", issued, err)
	}
	life := time.Until(issued[0].Certificate.NotAfter)
	if life > 7*24*time.Hour || life < 6*24*time.Hour || len(issued[0].Certificate.URIs) != 1 || len(issued[0].Certificate.EmailAddresses) != 1 {
		t.Errorf("issued for %v with %v", life, issued[0].Certificate.URIs)
	}
	if !strings.Contains(f.get("/audit").body, "billing") {
		t.Error("the audit log does not name it")
	}
	list := f.get("/certificates?kind=client").body
	if !strings.Contains(list, "billing") || !strings.Contains(list, "/endpoints/demo") {
		t.Error("the list does not show it with its endpoint")
	}
	password := commands["p12-password"]
	for _, path := range []string{"/certificates", "/certificates?kind=client", "/certificates/" + termination.FingerprintOf(issued[0].Certificate).String(), "/audit"} {
		if body := f.get(path).body; strings.Contains(body, "PRIVATE KEY") || password == "" || strings.Contains(body, password) {
			t.Errorf("%s holds the key or the password", path)
		}
	}
	mine, csrf := f.client, f.csrf
	f.client, f.csrf = newClient(t), ""
	f.signIn("mallory")
	for key, path := range files {
		if got := f.get(path); got.status != http.StatusGone || strings.Contains(got.body, "PRIVATE") {
			t.Errorf("another session gets %s: status %d", key, got.status)
		}
	}
	f.client, f.csrf = mine, csrf
	if got := f.get(files["bundle"]); got.status != http.StatusOK {
		t.Errorf("the one who issued it, again: status %d", got.status)
	}
}

// After ten minutes the files are gone.
func TestCertificateFilesGo(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 58, 7, 0, time.UTC)
	h := newHeldFiles(func() time.Time { return now })
	secret := []byte("secret")
	id, until := h.add("a", map[string]heldFile{"key": {data: secret}})
	if got, ok := h.get("a", id, "key"); !ok || string(got.data) != "secret" {
		t.Fatal("not there")
	}
	for _, wrong := range [][3]string{{"b", id, "key"}, {"a", "x", "key"}, {"a", id, "other"}, {"", id, "key"}} {
		if _, ok := h.get(wrong[0], wrong[1], wrong[2]); ok {
			t.Errorf("%v is handed out", wrong)
		}
	}
	now = until
	if _, ok := h.get("a", id, "key"); ok {
		t.Error("there after its time")
	}
	if string(secret) != "\x00\x00\x00\x00\x00\x00" || len(h.sets) != 0 {
		t.Error("not wiped")
	}
	first, _ := h.add("a", map[string]heldFile{"key": {data: []byte("1")}})
	for range heldPerSession {
		h.add("a", nil)
	}
	if _, ok := h.get("a", first, "key"); ok || len(h.sets) != heldPerSession {
		t.Errorf("one session holds %d", len(h.sets))
	}
	for i := range 2 * heldInAll {
		h.add(string(rune('b'+i)), nil)
	}
	if len(h.sets) != heldInAll {
		t.Errorf("all sessions hold %d", len(h.sets))
	}
	for len(h.sets) > 0 {
		h.drop(h.sets[0].id)
	}
}

// What no local CA may sign leads to a question, and with the answer to a CA that may; what nobody could sign leads to
// an error at its field.
func TestCertificateIssueAsks(t *testing.T) {
	f := realDemo(t)
	wish := func(more url.Values) url.Values {
		v := url.Values{"name": {"billing"}, "kind": {"client"}, "days": {"7"}}
		for k, values := range more {
			v[k] = values
		}
		return v
	}
	for name, c := range map[string]struct {
		form  url.Values
		field string
	}{
		"no name":              {wish(url.Values{"name": {""}}), "f-name"},
		"a long name":          {wish(url.Values{"name": {strings.Repeat("x", 65)}}), "f-name"},
		"bidirectional":        {wish(url.Values{"name": {"a\u202eb"}}), "f-name"},
		"a bad URI":            {wish(url.Values{"uri": {"billing"}}), "f-uri"},
		"a bad address":        {wish(url.Values{"email": {"billing"}}), "f-email"},
		"a bad DNS name":       {wish(url.Values{"dns": {"a..b"}}), "f-dns"},
		"a server's URI":       {wish(url.Values{"kind": {"server"}, "name": {"a.localhost"}, "uri": {"spiffe://x/y"}}), "f-uri"},
		"a server of no name":  {wish(url.Values{"kind": {"server"}, "name": {"no such name"}}), "f-name"},
		"an address as DNS":    {wish(url.Values{"dns": {"127.0.0.1"}}), "f-dns"},
		"a bad CA to be made":  {wish(url.Values{"name": {"a.example.com"}, "make": {"on"}, "make_name": {"../x"}}), "f-make_name"},
		"a taken one":          {wish(url.Values{"name": {"a.example.com"}, "make": {"on"}, "make_name": {"Local CA"}}), "f-make_name"},
		"a bad one and wishes": {wish(url.Values{"name": {"a.example.com"}, "make": {"on"}, "make_name": {"New"}, "uri": {"x"}}), "f-uri"},
	} {
		got := f.post("/certificates/issue", c.form)
		if got.status != 422 || !regexp.MustCompile(`id="`+c.field+`"[^>]*aria-invalid="true"`).MatchString(got.body) {
			t.Errorf("%s: status %d, no error at %s", name, got.status, c.field)
		}
	}
	for name, form := range map[string]url.Values{
		"a name with dots":         wish(url.Values{"name": {"billing.example.com"}}),
		"a DNS name elsewhere":     wish(url.Values{"dns": {"billing.example.com"}}),
		"a server elsewhere":       wish(url.Values{"kind": {"server"}, "name": {"api.example.com"}}),
		"an address elsewhere":     wish(url.Values{"kind": {"server"}, "name": {"192.0.2.1"}}),
		"a CA that is not there":   wish(url.Values{"ca": {`<img src=x>`}}),
		"a chosen CA that may not": wish(url.Values{"ca": {"Local CA"}, "name": {"billing.example.com"}}),
	} {
		got := f.post("/certificates/issue", form)
		if got.status != 422 || !strings.Contains(got.body, `name="make"`) || strings.Contains(got.body, "<img") {
			t.Errorf("%s: status %d, not asked", name, got.status)
		}
	}
	if issued, _ := f.store.Issued(t.Context(), ""); len(issued) != 0 || len(f.current().LocalCAs) != 1 {
		t.Fatalf("%d issued, %d CAs after refusals", len(issued), len(f.current().LocalCAs))
	}
	got := f.post("/certificates/issue", wish(url.Values{"kind": {"server"}, "name": {"api.example.com"}, "dns": {"192.0.2.1 *.example.com"}, "make": {"on"}, "make_name": {"Free CA"}}))
	if got.status != 200 || !strings.Contains(got.body, "The CA was made on the way") {
		t.Fatalf("status %d", got.status)
	}
	a := f.current().Authority("Free CA")
	if a == nil || len(f.current().LocalCAs) != 2 {
		t.Fatal("the CA is not there")
	}
	issued, err := f.store.Issued(t.Context(), "server")
	if err != nil || len(issued) != 1 || issued[0].AuthorityID != a.ID {
		t.Fatalf("issued %+v, %v", issued, err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificates[0].Certificate)
	for _, name := range []string{"api.example.com", "x.example.com", "192.0.2.1"} {
		if _, err := issued[0].Certificate.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	got = f.post("/certificates/issue", wish(url.Values{"name": {"billing.example.com"}}))
	if got.status != 200 || !strings.Contains(got.body, "Issued by <a") || !strings.Contains(got.body, "so this certificate opens nothing") {
		t.Errorf("by the free CA: status %d", got.status)
	}
}

// The first certificate ever: there is no local CA, and the form offers to make one.
func TestCertificateIssueFirst(t *testing.T) {
	f := signedIn(t, nil)
	if got := f.get("/certificates/issue"); got.status != 200 || !strings.Contains(got.body, `name="make" value="on" checked`) {
		t.Errorf("without any CA: status %d", got.status)
	}
	if got := f.get("/certificates"); got.status != 200 || !strings.Contains(got.body, "No server certificate here") {
		t.Errorf("the empty list: status %d", got.status)
	}
	if got := f.post("/certificates/issue", url.Values{"name": {"a"}}); got.status != 422 {
		t.Errorf("not asked for: status %d", got.status)
	}
	if got := f.post("/certificates/issue", url.Values{"name": {"a"}, "make": {"on"}}); got.status != 200 || f.current().Authority("Local CA") == nil {
		t.Errorf("status %d", got.status)
	}
}

// Links from elsewhere carry names that strangers chose.
func TestCertificateIssueLink(t *testing.T) {
	f := realDemo(t)
	for name, want := range map[string][]string{
		"billing":                       {`name="name" type="text" value="billing"`},
		"spiffe://prod/ns/a/sa/billing": {`value="billing"`, `value="spiffe://prod/ns/a/sa/billing"`},
		"<img src=x onerror=alert(1)>":  {`value="&lt;img src=x onerror=alert(1)&gt;"`},
		"a\x00b\u202ec":                 {`value="a-b-c"`},
		strings.Repeat("ab", 100):       {`value="` + strings.Repeat("ab", 32) + `"`},
	} {
		got := f.get("/certificates/issue?" + url.Values{"kind": {"client"}, "name": {name}}.Encode())
		for _, s := range want {
			if got.status != 200 || !strings.Contains(got.body, s) {
				t.Errorf("%q: status %d, no %s", name, got.status, s)
			}
		}
		if strings.Contains(got.body, "<img") {
			t.Errorf("%q became markup", name)
		}
	}
	got := f.post("/certificates/issue", url.Values{"name": {`<img src=x onerror=alert(1)>`}, "kind": {"client"}})
	if got.status != 200 || strings.Contains(got.body, "<img") {
		t.Errorf("a hostile name: status %d", got.status)
	}
	for key, path := range got.files() {
		if d := f.get(path).header.Get("Content-Disposition"); !regexp.MustCompile(`^attachment; filename="[A-Za-z0-9_.-]+"$`).MatchString(d) {
			t.Errorf("%s: %q", key, d)
		}
	}
	if body := f.get("/certificates?kind=client").body; strings.Contains(body, "<img") || !strings.Contains(body, "&lt;img") {
		t.Error("a hostile name became markup in the list")
	}
}
