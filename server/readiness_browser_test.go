package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"countersign/store"
)

// A policy is reported, looked at, tried otherwise, and enforced, all by hand in a browser; hostile names stay text.
func TestReadinessInTheBrowser(t *testing.T) {
	r := newReporting(t)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(r.fixture)
	b.open(r.URL() + "/endpoints/api")
	b.do(chromedp.Click(`input[name=authorities][value=strangers]`), chromedp.Click(`#who button[value=simulate]`))
	b.waitFor(`document.querySelector('#would') !== null`)
	if text := eval[string](b, `document.querySelector('#would').innerText`); !strings.Contains(text, "nobody would gain or lose entry") {
		t.Errorf("a policy that only reports: %q", text)
	}
	r.mutate(func(tx *store.Tx) error { return reportOnly(tx, r.current().Endpoint("api").ID, false) })
	show := func(name, path string, before ...chromedp.Action[chromedp.Void]) {
		for _, theme := range []string{"light", "dark"} {
			for _, width := range []int64{1440, 390} {
				if theme == "dark" && (width == 390 || name == "enforce" || name == "authority-removal") && name != "readiness" {
					continue
				}
				b.size(width, 900)
				b.open(r.URL() + path)
				for _, step := range before {
					b.do(step)
				}
				if len(before) > 0 {
					b.waitFor(`document.querySelector('#would') !== null`)
				}
				if over := b.sideways(); over > 0 {
					t.Errorf("%s is %d pixels wider than a window of %d", path, over, width)
				}
				if eval[bool](b, `window.pwned === 1 || document.querySelector('main img') !== null`) {
					t.Errorf("%s: a client's name became markup", path)
				}
				b.theme(theme)
				if width == 1440 {
					b.axe(fmt.Sprintf("%s, %s, %d px", path, theme, width))
				}
				b.picture(fmt.Sprintf("%s-%s-%d", name, theme, width))
			}
		}
	}
	show("would-change", "/endpoints/api", chromedp.Click(`input[name=authorities][value=devices]`), chromedp.Click(`input[name=authorities][value=strangers]`), chromedp.Click(`#who button[value=simulate]`))
	show("authority-removal", "/authorities/"+r.current().Authority("devices").ID, chromedp.Click(`button[value=simulate]`))
	r.mutate(func(tx *store.Tx) error { return reportOnly(tx, r.current().Endpoint("api").ID, true) })
	show("readiness", "/endpoints/api/readiness")
	show("enforce", "/endpoints/api/enforce")
	b.size(1440, 900)
	b.open(r.URL() + "/live?f=is:would_refuse")
	b.waitFor(`document.body.innerText.includes('let in, would be refused')`)
	b.picture("live-would-refuse-dark")
	r.withClients(r.current().Endpoint("api"), 10_000)
	b.open(r.URL() + "/endpoints/api/readiness?show=none")
	b.picture("readiness-ten-thousand-dark")
	b.open(r.URL() + "/endpoints/api/enforce")
	b.do(chromedp.Click(`form[action$="/enforce"] button`))
	b.waitFor(`location.pathname.endsWith('/readiness') && document.querySelector('.said') !== null`)
	if r.current().Endpoint("api").ClientAuth.ReportOnly {
		t.Error("the button did not enforce the policy")
	}
}
