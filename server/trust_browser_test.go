package server

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// upload posts the preview form with a file.
func (f *fixture) upload(name string, data []byte) (int, string) {
	f.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	if err := w.WriteField("csrf", f.csrf); err != nil {
		f.t.Fatal(err)
	}
	part, err := w.CreateFormFile("file", name)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := part.Write(data); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
	r := f.request(http.MethodPost, "/authorities/preview", &body, w.FormDataContentType())
	r.Header.Set("Origin", f.URL())
	got := f.do(r)
	return got.status, got.body
}

// Each kind of upload gets its own clear message, and nothing is saved by looking.
func TestTrustUploads(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	root := tlstest.NewCA(tlstest.CN("Devices CA"))
	inter := root.Intermediate(tlstest.CN("Devices Issuing 1"))
	tests := []struct {
		name   string
		data   []byte
		status int
		says   []string
	}{
		{"root", root.PEM(), 200, []string{"Devices CA", "Signs itself", "Trust it"}},
		{"bundle", append(root.PEM(), inter.PEM()...), 200, []string{"Devices Issuing 1", "helper for chains"}},
		{"leaf", inter.Client("alice").PEM(), 200, []string{"no right to sign"}},
		{"expired", tlstest.NewCA(tlstest.CN("Old CA"), tlstest.Expired()).PEM(), 422, []string{"Refused: it ended"}},
		{"key", append(root.PEM(), root.KeyPEM()...), 200, []string{"not read, not kept", "Devices CA"}},
		{"text", []byte("hello, this is a letter"), 422, []string{"text"}},
		{"nothing", nil, 422, []string{"Choose a file, or paste text."}},
		{"large", make([]byte, 10<<20), 422, []string{"too large"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, page := f.upload("file.pem", test.data)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			for _, s := range test.says {
				if !strings.Contains(page, s) {
					t.Errorf("the page lacks %q", s)
				}
			}
			if strings.Contains(page, "PRIVATE KEY-----") {
				t.Error("a private key came back")
			}
		})
	}
	if n := len(f.current().Authorities); n != 0 {
		t.Errorf("looking saved %d authorities", n)
	}
}

// A CA comes in by drop and by paste, gets a name and an endpoint, and goes again; all in a browser.
func TestTrustInTheBrowser(t *testing.T) {
	f := start(t, nil)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	b.open(f.URL() + "/authorities")
	b.picture("trust-empty-light")
	b.axe("trust, empty")

	root := tlstest.NewCA(tlstest.CN("Devices CA 2026"))
	inter := root.Intermediate(tlstest.CN("Devices Issuing 1"))
	bundle := append(append(root.PEM(), inter.PEM()...), inter.Client("www.example.test").PEM()...)
	b.drop(string(append(bundle, root.KeyPEM()...)), "bundle.pem")
	b.waitFor(`document.querySelectorAll('.found .cert').length === 4`)
	for _, theme := range []string{"light", "dark"} {
		b.theme(theme)
		b.picture("trust-preview-" + theme)
		b.axe("trust with preview, " + theme)
	}
	b.do(chromedp.Click(`.preview button[type=submit]`))
	b.waitFor(`document.querySelector('.said') !== null && document.querySelectorAll('.ca').length === 1`)
	if a := f.current().Authority("Devices CA 2026"); a == nil || len(a.Anchors()) != 1 || len(a.Helpers()) != 1 {
		t.Fatalf("saved %+v", a)
	}

	other := tlstest.NewCA(tlstest.CN(`<img src=x onerror=alert(1)>`))
	b.open(f.URL() + "/authorities")
	b.do(chromedp.SetValue(`textarea[name=text]`, string(other.PEM())), chromedp.Click(`.upload button[type=submit]`))
	b.waitFor(`document.querySelector('.found .cert') !== null`)
	if n := eval[int](b, `document.querySelectorAll('.found img').length`); n != 0 {
		t.Error("a certificate's name became markup")
	}
	b.do(chromedp.Click(`.preview button[type=submit]`))
	b.waitFor(`document.querySelectorAll('.ca').length === 2`)
	b.picture("trust-light")
	b.theme("dark")
	b.picture("trust-dark")

	b.open(f.URL() + "/authorities/" + f.current().Authority("Devices CA 2026").ID)
	eval[bool](b, `document.querySelectorAll('#revocation details').forEach(d => d.open = true) === undefined`)
	b.picture("authority-light")
	b.axe("authority")
	b.size(360, 800)
	for _, path := range []string{"/authorities", "/authorities/" + f.current().Authority("Devices CA 2026").ID} {
		b.open(f.URL() + path)
		if over := b.sideways(); over > 0 {
			t.Errorf("%s is %d pixels wider than a window of 360", path, over)
		}
	}
	b.size(390, 844)
	b.open(f.URL() + "/authorities")
	b.picture("trust-narrow-light")

	id := f.current().Authority("Devices CA 2026").ID
	f.mutate(func(tx *store.Tx) error {
		a, err := tx.Authority(id)
		if err != nil {
			return err
		}
		a.Revocation.CRLs = []termination.CRL{{DER: root.CRL(tlstest.Number(7)), Source: "devices.crl"}}
		return tx.UpdateAuthority(a)
	})
	b.open(f.URL() + "/authorities/" + id)
	b.picture("authority-revocation-narrow")
	b.theme("light")
	b.size(1440, 900)
	b.open(f.URL() + "/authorities/" + id)
	eval[bool](b, `document.querySelectorAll('#revocation details').forEach(d => d.open = true) === undefined`)
	b.picture("authority-revocation-light")
	b.theme("dark")
	b.picture("authority-revocation-dark")
	b.axe("authority with a revocation list, dark")
	b.theme("light")
	b.axe("authority with a revocation list")
	b.do(chromedp.Click(`form[action$="/delete"] button`))
	b.waitFor(`document.querySelectorAll('.ca').length === 1`)
	if f.current().Authority("Devices CA 2026") != nil {
		t.Error("the authority is still there")
	}
	b.check("trust")
}

// drop lets a file fall onto the page.
func (b *browser) drop(text, name string) {
	b.t.Helper()
	eval[bool](b, `(() => {
		const data = new DataTransfer();
		data.items.add(new File([`+quoteJS(text)+`], `+quoteJS(name)+`, {type: 'text/plain'}));
		document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
		return true;
	})()`)
}

func quoteJS(s string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`", "${", "\\${").Replace(s) + "`"
}

// An authority that a file declares cannot be changed here.
func TestTrustOfTheFileIsReadOnly(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	ca := tlstest.NewCA(tlstest.CN("Declared CA"))
	declared := store.Declared{Authorities: []termination.Authority{{
		Name: "declared", Origin: termination.OriginFile,
		Certificates: []termination.CACertificate{{Certificate: ca.X509, Role: termination.RoleAnchor}},
	}}}
	if _, err := f.Change(t.Context(), store.Actor{Name: "file", Via: "file"}, func(tx *store.Tx) error { return tx.ReplaceDeclared(declared) }); err != nil {
		t.Fatal(err)
	}
	id := f.current().Authority("declared").ID
	for _, path := range []string{"/rename", "/delete"} {
		if got := f.post("/authorities/"+id+path, url.Values{"name": {"other"}, "confirm": {"declared"}}); got.status != http.StatusConflict {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	if f.current().Authority("declared") == nil {
		t.Error("what the file declares is gone")
	}
}
