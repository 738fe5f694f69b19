package server

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"countersign/store"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
)

// A person uploads a certificate by pasting, finds it, issues another, and sees what goes wrong at its field.
func TestCertificatesInTheBrowser(t *testing.T) {
	f := realDemo(t)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)

	root := tlstest.NewCA(tlstest.CN(`<img src=x onerror=alert(1)>`))
	leaf := root.Server("api.example.test", tlstest.DNS("www.example.test"), tlstest.Valid(time.Now().Add(-80*day), time.Now().Add(9*day)))
	b.open(f.URL() + "/certificates")
	b.do(chromedp.SetValue(`textarea[name=cert]`, string(leaf.PEM())), chromedp.Click(`#upload button[type=submit]`))
	b.waitFor(`document.activeElement?.name === 'key' && document.querySelector('textarea[name=cert]').value.includes('BEGIN CERTIFICATE')`)
	b.check("an upload without its key")
	b.axe("certificates, an upload without its key")
	b.picture("certificates-error-light")
	b.do(chromedp.SetValue(`textarea[name=key]`, string(leaf.KeyPEM())), chromedp.Click(`#upload button[type=submit]`))
	b.waitFor(`location.pathname.endsWith('` + leaf.Fingerprint() + `') && document.querySelector('.said') !== null`)
	if n := eval[int](b, `document.querySelectorAll('main img').length`); n != 0 {
		t.Error("a certificate's name became markup")
	}

	// More to look at: issued ones in every state.
	ca := f.current().LocalCAs[0]
	for i, life := range []int{1, 7, 90, 365} {
		name := fmt.Sprintf("batch-%d", i)
		issued, err := localca.IssueClient(&ca, localca.ClientRequest{Name: name, URI: "spiffe://example.org/" + name, Days: life, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.store.AddIssued(t.Context(), store.Actor{Name: "rhea", Via: "test"}, ca.Name, kindClient, name, issued.Leaf()); err != nil {
			t.Fatal(err)
		}
	}
	pages := map[string]string{
		"certificates": "/certificates", "certificates-client": "/certificates?kind=client", "certificate": "/certificates/" + leaf.Fingerprint(),
		"certificate-issue": "/certificates/issue?" + url.Values{"kind": {"client"}, "name": {"spiffe://example.org/billing"}}.Encode(),
	}
	for name, path := range pages {
		b.everywhere(name, path)
	}

	b.size(1440, 900)
	b.open(f.URL() + "/certificates/issue?name=billing.example.com&kind=client")
	b.do(chromedp.Click(`.issue form button[type=submit]`))
	b.waitFor(`document.querySelector('input[name=make]') !== null`)
	b.axe("issue, with the question for a CA")
	b.picture("certificate-ask-light")
	b.do(chromedp.Click(`input[name=make]`), chromedp.Click(`.issue form button[type=submit]`))
	b.waitFor(`document.querySelector('.issued .files') !== null`)
	b.check("issued by a new CA")

	b.open(f.URL() + "/certificates/issue?name=billing&kind=client")
	b.do(chromedp.Click(`.issue form button[type=submit]`))
	b.waitFor(`document.querySelector('.issued .files') !== null`)
	b.here("certificate-issued")
	href := eval[string](b, `document.querySelector('.files a').href`)
	body := eval[string](b, `document.body.innerText`)
	if !strings.HasPrefix(href, f.URL()+"/certificates/issue/") || strings.Contains(body, "PRIVATE KEY") {
		t.Errorf("the first file is %s", href)
	}
	b.check("issued")

	b.size(1440, 900)
	b.open(f.URL() + "/certificates")
	b.do(chromedp.SetValue(`#local-name`, "Team CA"), chromedp.Click(`#local button[type=submit]`))
	b.waitFor(`document.querySelector('.said') !== null && document.querySelectorAll('.cas li').length === 3`)
	b.check("a local CA was made")
}
