package server

import (
	"bytes"
	"encoding/pem"
	"html"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
)

// certificateForm is the form for a server certificate as a browser sends it.
type certificateForm struct {
	fields map[string]string
	files  map[string][]byte
}

func (f *fixture) sendCertificate(form certificateForm) reply {
	f.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	check := func(err error) {
		if err != nil {
			f.t.Fatal(err)
		}
	}
	check(w.WriteField("csrf", f.csrf))
	for name, value := range form.fields {
		check(w.WriteField(name, value))
	}
	for name, data := range form.files {
		part, err := w.CreateFormFile(name, `"><img src=x onerror=alert(1)>.pem`)
		check(err)
		_, err = part.Write(data)
		check(err)
	}
	check(w.Close())
	r := f.request(http.MethodPost, "/certificates", &body, w.FormDataContentType())
	r.Header.Set("Origin", f.URL())
	return f.do(r)
}

// keyText is a piece of a PEM key that would show in any copy of it.
func keyText(t *testing.T, c *tlstest.Cert) string {
	t.Helper()
	lines := strings.Split(string(c.KeyPEM()), "\n")
	if len(lines) < 3 || len(lines[1]) < 40 {
		t.Fatalf("an odd key: %d lines", len(lines))
	}
	return lines[1]
}

func derOf(t *testing.T, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}

func TestCertificateUpload(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Web CA"))
	leaf := root.Server("api.example.test")
	other := root.Server("other.example.test")
	file := func(cert, key []byte) certificateForm {
		return certificateForm{files: map[string][]byte{"cert_file": cert, "key_file": key}}
	}
	both := append(leaf.PEM(), leaf.KeyPEM()...)
	tests := []struct {
		name   string
		form   certificateForm
		status int
		says   []string
	}{
		{"PEM in two files", file(leaf.PEM(), leaf.KeyPEM()), 303, nil},
		{"PEM in one file", file(both, nil), 303, nil},
		{"DER in two files", file(leaf.X509.Raw, derOf(t, leaf.KeyPEM())), 303, nil},
		{"pasted into two fields", certificateForm{fields: map[string]string{"cert": string(leaf.PEM()), "key": string(leaf.KeyPEM())}}, 303, nil},
		{"pasted into one field", certificateForm{fields: map[string]string{"cert": string(both)}}, 303, nil},
		{"no key", file(leaf.PEM(), nil), 422, []string{"The private key is missing"}},
		{"no certificate", file(nil, leaf.KeyPEM()), 422, []string{"It is empty"}},
		{"nothing", certificateForm{}, 422, []string{"It is empty"}},
		{"another's key", file(leaf.PEM(), other.KeyPEM()), 422, []string{"does not belong to the certificate"}},
		{"another's key beside a good name", certificateForm{fields: map[string]string{"name": "kept as typed", "cert": string(both), "key": string(other.KeyPEM())}}, 422, []string{"does not belong", `value="kept as typed"`, "BEGIN CERTIFICATE"}},
		{"a name that is none", certificateForm{fields: map[string]string{"name": "../etc", "cert": string(both)}}, 422, []string{"A name begins with a letter or digit"}},
		{"a large file", file(make([]byte, 10<<20), leaf.KeyPEM()), 422, []string{"The file is too large: it has 10.5 MB, where 256 KiB are allowed"}},
		{"a large key", file(leaf.PEM(), make([]byte, 1<<20)), 422, []string{"The file is too large"}},
		{"larger than a body", file(make([]byte, 17<<20), nil), 413, []string{"That is more than fits"}},
		{"a letter", certificateForm{fields: map[string]string{"cert": "dear <b>madam</b>"}}, 422, []string{"holds no certificate"}},
		{"unknown in the place of", certificateForm{fields: map[string]string{"replace": "crt_none", "cert": string(both)}}, 404, []string{"There is no certificate"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := signedIn(t, nil)
			got := f.sendCertificate(test.form)
			if got.status != test.status {
				t.Fatalf("status %d, want %d", got.status, test.status)
			}
			text := html.UnescapeString(got.body)
			for _, s := range test.says {
				if !strings.Contains(got.body, s) && !strings.Contains(text, s) {
					t.Errorf("the page lacks %q", s)
				}
			}
			for _, c := range []*tlstest.Cert{leaf, other} {
				if strings.Contains(got.body, keyText(t, c)) {
					t.Error("a private key came back")
				}
			}
			if strings.Contains(got.body, "<b>madam") || strings.Contains(got.body, "<img src=x") {
				t.Error("what was sent became markup")
			}
			saved := len(f.current().Certificates)
			if (test.status == 303) != (saved == 1) {
				t.Fatalf("%d certificates are saved", saved)
			}
			if saved == 1 && f.current().Certificates[0].Name != "api.example.test" {
				t.Errorf("it is called %q", f.current().Certificates[0].Name)
			}
		})
	}
}

// A certificate in use is replaced under its name, cannot be deleted, and its key shows nowhere.
func TestCertificateReplaceAndDelete(t *testing.T) {
	f := signedIn(t, nil)
	root := tlstest.NewCA(tlstest.CN("Web CA"))
	first, second := root.Server("api.example.test"), root.Server("api.example.test")
	send := func(c *tlstest.Cert, fields map[string]string) reply {
		return f.sendCertificate(certificateForm{fields: fields, files: map[string][]byte{"cert_file": append(c.PEM(), c.KeyPEM()...)}})
	}
	if got := send(first, map[string]string{"name": "api"}); got.status != 303 {
		t.Fatalf("status %d", got.status)
	}
	id := f.current().Certificate("api").ID
	_, err := f.Change(t.Context(), store.Actor{Name: "test", Via: "test"}, func(tx *store.Tx) error {
		e := termination.Endpoint{
			Name: "shop", Scheme: termination.SchemeHTTPS, Host: "api.example.test", Listen: loopback(true), Port: 1, TerminateAt: termination.AtEdge, Certificates: []string{"api"},
			Upstream:   termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
		}
		_, err := tx.CreateEndpoint(e)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.post("/certificates/"+id+"/delete", url.Values{}); got.status != http.StatusConflict || !strings.Contains(html.UnescapeString(got.body), `endpoint "shop"`) {
		t.Errorf("deleting what is in use: status %d", got.status)
	}
	got := send(second, map[string]string{"replace": id})
	if got.status != 303 || got.header.Get("Location") != "/certificates/"+second.Fingerprint() {
		t.Fatalf("replace: status %d to %q", got.status, got.header.Get("Location"))
	}
	now := f.current().Certificate("api")
	if now == nil || now.ID != id || !now.Leaf().Equal(second.X509) {
		t.Fatalf("after replacing: %+v", now)
	}
	page := f.get(got.header.Get("Location"))
	for _, s := range []string{"api is replaced. 1 endpoint presents it from now on.", "/endpoints/shop", "Web CA", "Delete api"} {
		if !strings.Contains(page.body, s) {
			t.Errorf("the certificate's page lacks %q", s)
		}
	}
	if got := send(first, map[string]string{"name": "api"}); got.status != 422 || !strings.Contains(got.body, "There is another certificate named") {
		t.Errorf("a taken name: status %d", got.status)
	}
	for _, path := range []string{"/certificates", "/certificates?kind=client", "/certificates/" + second.Fingerprint(), "/certificates/" + second.Fingerprint() + "/certificate.pem", "/certificates/" + second.Fingerprint() + "/chain.pem", "/audit"} {
		got := f.get(path)
		if got.status != 200 {
			t.Errorf("%s: status %d", path, got.status)
		}
		if strings.Contains(got.body, "PRIVATE KEY") || strings.Contains(got.body, keyText(t, first)) || strings.Contains(got.body, keyText(t, second)) {
			t.Errorf("%s holds a private key", path)
		}
	}
	if _, err := f.Change(t.Context(), store.Actor{Name: "test", Via: "test"}, func(tx *store.Tx) error { return tx.DeleteEndpoint("shop") }); err != nil {
		t.Fatal(err)
	}
	if got := f.post("/certificates/"+id+"/delete", url.Values{}); got.status != 303 || len(f.current().Certificates) != 0 {
		t.Errorf("delete: status %d, %d are left", got.status, len(f.current().Certificates))
	}
	if got := f.post("/certificates/"+id+"/delete", url.Values{}); got.status != 404 {
		t.Errorf("delete twice: status %d", got.status)
	}
}

func TestCertificateOfTheFileIsReadOnly(t *testing.T) {
	f := signedIn(t, nil)
	leaf := tlstest.NewCA().Server("file.example.test")
	read, err := termination.ReadServerCertificate(leaf.PEM(), leaf.KeyPEM(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	declared := store.Declared{Certificates: []termination.Certificate{read.Certificate("", "declared", termination.OriginFile)}}
	if _, err := f.Change(t.Context(), store.Actor{Name: "file", Via: "file"}, func(tx *store.Tx) error { return tx.ReplaceDeclared(declared) }); err != nil {
		t.Fatal(err)
	}
	id := f.current().Certificate("declared").ID
	page := f.get("/certificates/" + leaf.Fingerprint())
	if !strings.Contains(page.body, "declared in the configuration file") || strings.Contains(page.body, "/delete") {
		t.Error("the page offers changes")
	}
	if got := f.post("/certificates/"+id+"/delete", url.Values{}); got.status != http.StatusConflict {
		t.Errorf("delete: status %d", got.status)
	}
	other := tlstest.NewCA().Server("file.example.test")
	got := f.sendCertificate(certificateForm{fields: map[string]string{"replace": id}, files: map[string][]byte{"cert_file": append(other.PEM(), other.KeyPEM()...)}})
	if got.status != http.StatusConflict || !f.current().Certificate("declared").Leaf().Equal(leaf.X509) {
		t.Errorf("replace: status %d", got.status)
	}
}

func TestCertificateByFingerprint(t *testing.T) {
	f := signedIn(t, nil)
	root := tlstest.NewCA(tlstest.CN("Root & <b>Sons</b>"))
	leaf := root.Intermediate(tlstest.CN("Issuing")).Server("api.example.test")
	f.sendCertificate(certificateForm{files: map[string][]byte{"cert_file": append(tlsChainPEM(leaf), leaf.KeyPEM()...)}})
	hex := leaf.Fingerprint()
	colons := regexp.MustCompile(`..`).FindAllString(strings.ToUpper(hex), -1)
	for ref, status := range map[string]int{
		hex: 200, strings.ToUpper(hex): 200, strings.Join(colons, ":"): 200, hex[:8]: 200, strings.Join(colons[:4], ":"): 200,
		hex[:3]: 404, hex + "00": 404, "zzzzzzzz": 404, "%3Cimg%20src=x%3E": 404, strings.Repeat("0", 64): 404, "crt_1": 404, "..%2f..": 404,
	} {
		got := f.get("/certificates/" + ref)
		if got.status != status {
			t.Errorf("%s: status %d, want %d", ref, got.status, status)
		}
		if strings.Contains(got.body, "<img") || strings.Contains(got.body, "<b>Sons") {
			t.Errorf("%s: a name became markup", ref)
		}
		if status == 200 && (!strings.Contains(got.body, hex) || !strings.Contains(got.body, strings.Join(colons, ":")) || !strings.Contains(got.body, "Issuing")) {
			t.Errorf("%s: the page lacks a fingerprint or the chain", ref)
		}
	}
	got := f.get("/certificates/" + hex[:8] + "/chain.pem")
	if n := strings.Count(got.body, "BEGIN CERTIFICATE"); n != 2 || got.header.Get("Content-Disposition") != `attachment; filename="api.example.test-chain.pem"` {
		t.Errorf("the chain: %d certificates, %q", n, got.header.Get("Content-Disposition"))
	}
}

func tlsChainPEM(c *tlstest.Cert) []byte { return localca.EncodePEM(c.Chain()...) }

// Prefixes that fit two certificates are refused: looked up in a map of our own, since real ones do not collide.
func TestCertificatePrefix(t *testing.T) {
	a, b := &knownCertificate{}, &knownCertificate{}
	k := knownCertificates{termination.Fingerprint{0xab, 0xcd, 1}: a, termination.Fingerprint{0xab, 0xcd, 2}: b}
	if _, err := k.find("abcd"); err == nil || problemOf(err).Status != http.StatusConflict {
		t.Errorf("ambiguous: %v", err)
	}
	if got, err := k.find("AB:CD:02"); err != nil || got != b {
		t.Errorf("unambiguous: %v, %v", got, err)
	}
}

func TestCertificateLocalCA(t *testing.T) {
	f := signedIn(t, nil)
	for _, name := range []string{"", "../x", `<img src=x onerror=alert(1)>`, strings.Repeat("x", 65), "a\u202eb"} {
		got := f.post("/certificates/local", url.Values{"name": {name}})
		if got.status != 422 || strings.Contains(got.body, "<img") || !strings.Contains(got.body, `aria-invalid="true"`) {
			t.Errorf("%q: status %d", name, got.status)
		}
	}
	for name, limited := range map[string]string{"limited": "on", "free": ""} {
		if got := f.post("/certificates/local", url.Values{"name": {name}, "constrained": {limited}}); got.status != 303 {
			t.Fatalf("%s: status %d", name, got.status)
		}
	}
	if got := f.post("/certificates/local", url.Values{"name": {"free"}}); got.status != 422 || !strings.Contains(got.body, "There is another") {
		t.Errorf("twice: status %d", got.status)
	}
	config := f.current()
	if len(config.LocalCAs) != 2 || len(config.Authorities) != 2 {
		t.Fatalf("%d local CAs, %d authorities", len(config.LocalCAs), len(config.Authorities))
	}
	for _, ca := range config.LocalCAs {
		if constrained(ca.Certificate) != (ca.Name == "limited") {
			t.Errorf("%s: constrained %v", ca.Name, constrained(ca.Certificate))
		}
	}
	page := f.get("/certificates").body
	if !strings.Contains(page, "only localhost and loopback") || !strings.Contains(page, "any name") || !strings.Contains(page, "key on this disk") {
		t.Error("the list does not tell the two apart")
	}
}

// Ten thousand certificates come in pages, with counts of all.
func TestCertificateListIsPaged(t *testing.T) {
	now := time.Now()
	soon := tlstest.NewCA().Client("soon", tlstest.Valid(now.Add(-99*time.Hour), now.Add(time.Hour))).X509
	var list []listed
	for range 10_000 {
		list = append(list, listed{cert: soon})
	}
	chips := stateChips(list, kindClient, stateSoon, now)
	if len(chips) != 4 || chips[2].Count != "10\u2009000" || !chips[2].Current || chips[1].Count != "0" {
		t.Errorf("chips %+v", chips)
	}
	for from, want := range map[int][3]string{
		0:    {"1 to 100 of 10\u2009000", "", "/certificates?from=100&kind=client&state=soon"},
		150:  {"151 to 250 of 10\u2009000", "/certificates?from=50&kind=client&state=soon", "/certificates?from=250&kind=client&state=soon"},
		9950: {"9951 to 10\u2009000 of 10\u2009000", "/certificates?from=9850&kind=client&state=soon", ""},
	} {
		rows := rowsFrom(from, certificateRows, len(list), func(from int) string { return certificatesHref(kindClient, stateSoon, from) })
		if got := [3]string{rows.Shown, rows.Earlier, rows.Later}; got != want {
			t.Errorf("from %d: %q", from, got)
		}
	}
	for text, want := range map[string]int{"": 0, "-1": 0, "x": 0, "10000": 0, "9999": 9999, "99999999999999999999": 0} {
		if got := pageStart(text, 10_000); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}

// A passphrase opens what is uploaded, is asked for where it is missing, and comes back nowhere.
func TestCertificateUnderAPassphrase(t *testing.T) {
	const passphrase, wrong = "correct horse battery", "staple battery horse"
	root := tlstest.NewCA(tlstest.CN("Web CA"))
	inter := root.Intermediate(tlstest.CN("Web Issuing CA"))
	leaf := inter.Server("api.example.test")
	p12, err := pkcs12.Modern.Encode(leaf.Key, leaf.X509, nil, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	f := signedIn(t, nil)
	if _, err := f.Change(t.Context(), store.Actor{Name: "rhea", Via: "api"}, func(tx *store.Tx) error {
		_, err := tx.CreateAuthority(termination.Authority{Name: "web", Origin: termination.OriginDashboard, Certificates: []termination.CACertificate{
			{Certificate: root.X509, Role: termination.RoleAnchor}, {Certificate: inter.X509, Role: termination.RoleHelper},
		}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		typed, says string
		status      int
	}{
		{"", "The PKCS#12 file is locked with a passphrase. Give the passphrase too.", 422},
		{wrong, "The passphrase does not open the PKCS#12 file. Give the one that it was made with", 422},
		{passphrase, "", 303},
	} {
		got := f.sendCertificate(certificateForm{fields: map[string]string{"name": "api", "passphrase": test.typed}, files: map[string][]byte{"cert_file": p12}})
		if got.status != test.status || !strings.Contains(html.UnescapeString(got.body), test.says) {
			t.Errorf("with %q: %d\n%s", test.typed, got.status, got.body)
		}
		if test.typed != "" && strings.Contains(got.body+f.log.String(), test.typed) {
			t.Errorf("the passphrase %q comes back", test.typed)
		}
	}
	if c := f.current().Certificate("api"); c == nil || len(c.Chain) != 2 || !c.Chain[1].Equal(inter.X509) {
		t.Errorf("kept %+v", c)
	}
	if body := f.get("/certificates").body; !strings.Contains(body, "Web Issuing CA was missing between") {
		t.Error("nobody is told that the chain was completed")
	}
}
