package server

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"countersign/termination/tlstest"
)

// A person pastes, drops, and almost gives away a key: the script stops that before anything is sent.
func TestExplainInTheBrowser(t *testing.T) {
	f := start(t, nil)
	f.withLocalCA(false)
	f.withEndpoints()
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	b.open(f.URL() + "/explain")

	ca := tlstest.NewCA(tlstest.CN("Elsewhere CA"))
	leaf := ca.Client("meter", tlstest.CN(`<img src=x onerror=alert(1)> `+strings.Repeat("long", 14)), tlstest.Valid(time.Now().Add(-80*day), time.Now().Add(-3*day)))
	ask := func(text string) {
		b.do(chromedp.SetValue(`textarea[name=text]`, text), chromedp.Click(`form[data-explain] button[type=submit]`))
	}
	const answered = `document.querySelector('#found-head') !== null && document.readyState === 'complete'`
	ask(string(leaf.PEM()) + string(ca.PEM()))
	b.waitFor(answered)
	if rows, endpoints := eval[int](b, `document.querySelectorAll('[aria-labelledby=pass-head] tbody tr').length`), len(f.current().Endpoints); rows != endpoints {
		t.Errorf("%d verdicts for %d endpoints", rows, endpoints)
	}
	if eval[bool](b, `document.querySelector('main img') !== null`) {
		t.Error("a certificate's name became markup")
	}
	b.picture("explain-certificate")
	eval[bool](b, `(document.querySelectorAll('main details').forEach((d) => { d.open = true; }), true)`)
	b.here("explain-fields")

	b.drop("curl: (56) OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0", "line.txt")
	b.waitFor(answered + ` && document.body.innerText.includes('Show such handshakes') && !document.body.innerText.includes('Would it pass?')`)
	if text := eval[string](b, `document.querySelector('textarea[name=text]').value`); text != "" {
		t.Errorf("beside what was dropped stands what was pasted before: %q", text)
	}
	b.picture("explain-line")

	ask("nothing of the kind")
	b.waitFor(`document.querySelector('.error') !== null`)
	b.picture("explain-error")

	// A key stays: the page is the same one, asked the server for nothing more, and has nothing of it in its form.
	const stopped = `window.asked !== undefined && !document.querySelector('[data-key-stop]').hidden`
	for name, give := range map[string]func(){
		"pasted":  func() { ask(string(leaf.PEM()) + string(leaf.KeyPEM())) },
		"dropped": func() { b.drop(string(leaf.KeyPEM()), "client.key") },
	} {
		b.open(f.URL() + "/explain")
		eval[bool](b, `(window.asked = [], new PerformanceObserver((list) => window.asked.push(...list.getEntries().map((e) => e.name))).observe({entryTypes: ['resource', 'navigation']}), true)`)
		give()
		b.waitFor(stopped)
		if eval[bool](b, `document.querySelector('textarea[name=text]').value !== '' || document.querySelector('input[name=file]').files.length > 0`) {
			t.Errorf("%s: the key is still in the form", name)
		}
		if asked := eval[[]string](b, `window.asked`); len(asked) > 0 {
			t.Errorf("%s: the page asked for %s", name, asked)
		}
	}
	b.axe("a key that was stopped")
	b.picture("explain-key")
	b.check("a key that was stopped")
}
