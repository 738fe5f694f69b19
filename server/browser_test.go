package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// browser drives a headless Chromium with a profile of its own.
type browser struct {
	t   *testing.T
	ctx context.Context
}

// watchScript notes what a page does that its policy forbids, and every error of its scripts.
const watchScript = `window.problems = [];
document.addEventListener('securitypolicyviolation', (e) => window.problems.push('policy: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber));
window.addEventListener('error', (e) => window.problems.push('error: ' + e.message));
window.addEventListener('unhandledrejection', (e) => window.problems.push('rejection: ' + e.reason));`

// openBrowser starts Chromium: that of $CHROMIUM, or the first that is found.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); path == "" && err == nil {
			path = found
		}
	}
	if path == "" {
		t.Fatal("the browser tests need Chromium: apt-get install chromium, or set CHROMIUM")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("no-sandbox", true), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(time.Minute))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() { cancel(); stop() })
	b := &browser{t: t, ctx: ctx}
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watchScript})
		return err
	}))
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx := b.ctx
	if chromedp.FromContext(ctx).Target != nil { // a time limit on the first call would end the browser with it
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		ctx = limited
	}
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("in the browser: %v", err)
	}
}

// eval runs an expression in the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// waitFor waits until an expression is true in the page.
func (b *browser) waitFor(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	for {
		// What an expression asks may not be there yet.
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](`(() => { try { return `+expression+` } catch { return false } })()`))
		if err == nil {
			return
		}
		// The page may go on to another one while it is asked; then the next one is.
		if navigated := strings.Contains(err.Error(), "navigated") || strings.Contains(err.Error(), "context"); !navigated || ctx.Err() != nil {
			b.t.Fatalf("wait for %s: %v; the page is %s", expression, err, eval[string](b, `location.href + ' ' + document.body.innerText`))
		}
	}
}

// open loads a page and checks that nothing in it broke the policy or failed.
func (b *browser) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
	b.waitFor(`document.readyState === 'complete' && document.documentElement.dataset.js === ''`)
	b.check(url)
}

func (b *browser) check(where string) {
	b.t.Helper()
	if problems := eval[[]string](b, `window.problems`); len(problems) > 0 {
		b.t.Errorf("%s: %s", where, strings.Join(problems, "; "))
	}
}

// signIn goes the way of a person: the link, the button.
func (b *browser) signIn(f *fixture) {
	b.t.Helper()
	b.open(f.URL() + "/?t=" + f.link())
	b.do(chromedp.Click(`form button[type=submit]`))
	b.waitFor(`location.pathname !== '/sign-in' && !location.search && document.querySelector('.rail nav') !== null`)
}

// size sets the width and height of the window in CSS pixels.
func (b *browser) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// picture keeps the whole page as NAME.png where $TEST_OUTPUT says, for a person to look at; otherwise it takes none.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("TEST_OUTPUT")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	// As high as the page, so that what sticks to the window's edges stands at those of the page.
	width, height := eval[int64](b, `innerWidth`), eval[int64](b, `innerHeight`)
	b.size(width, max(height, eval[int64](b, `document.documentElement.scrollHeight`)))
	defer b.size(width, height)
	data, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatalf("take picture: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// axe checks the page's accessibility with axe-core: WCAG 2.2, levels A and AA, and its best practices.
func (b *browser) axe(where string, rules ...string) {
	b.t.Helper()
	script, err := os.ReadFile(filepath.Join("testdata", "axe-4.14.1.min.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	// Through the debugger, which the page's policy does not bind.
	if !eval[bool](b, `typeof axe === 'object'`) {
		b.do(chromedp.Evaluate[chromedp.Void](string(script)))
	}
	options := "{resultTypes: ['violations']}"
	if len(rules) > 0 {
		options = fmt.Sprintf("{resultTypes: ['violations'], runOnly: ['%s']}", strings.Join(rules, "', '"))
	}
	run := `axe.run(document, ` + options + `).then((r) => r.violations.map((v) =>
		v.id + ': ' + v.help + ': ' + v.nodes.map((n) => n.target.join(' ') + ' (' + n.failureSummary.split('\n').slice(1, 2).join(' ').trim() + ')').slice(0, 5).join(', ')))`
	violations, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](run, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("run axe: %v", err)
	}
	for _, v := range violations {
		b.t.Errorf("%s: %s", where, v)
	}
}

// everywhere opens a page and looks at it in both themes and several widths.
func (b *browser) everywhere(name, path string) {
	b.t.Helper()
	b.size(1440, 900)
	b.open(eval[string](b, `location.origin`) + path)
	b.here(name)
}

// here looks at the page that is open in both themes and several widths: nothing may scroll sideways, and axe finds nothing. All
// of its rules run once for each width; what the other theme changes are colours.
func (b *browser) here(name string) {
	b.t.Helper()
	for _, width := range []int64{1440, 390, 360} {
		b.size(width, 900)
		if over := b.sideways(); over > 0 {
			b.t.Errorf("%s is %d pixels wider than a window of %d: %s", name, over, width, eval[string](b, `[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth).map((e) => e.tagName + '.' + e.getAttribute('class') + ' ' + e.textContent.slice(0, 40)).join('; ').slice(0, 800)`))
		}
		if width == 360 {
			continue
		}
		b.theme("dark")
		b.axe(fmt.Sprintf("%s, dark, %d px", name, width), "color-contrast", "link-in-text-block")
		b.picture(fmt.Sprintf("%s-dark-%d", name, width))
		b.theme("light")
		b.axe(fmt.Sprintf("%s, light, %d px", name, width))
		b.picture(fmt.Sprintf("%s-light-%d", name, width))
	}
	b.size(1440, 900)
	b.check(name)
}

// sideways returns by how many pixels the page is wider than its window.
func (b *browser) sideways() int {
	b.t.Helper()
	return eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`)
}

// TestStatusLineInABrowser: the line at the bottom says that the stream is open, counts, and tells when it is lost.
func TestStatusLineInABrowser(t *testing.T) {
	f := start(t, nil)
	b := openBrowser(t)
	b.signIn(f)
	b.open(f.URL() + "/settings")
	const line = `document.querySelector('.status').innerText`
	b.waitFor(line + `.includes('stream open') && ` + line + `.includes('0 ev/s') && ` + line + `.includes('missed 0')`)
	closeAll(t, f.sockets.shutdown)
	b.waitFor(line + `.includes('stream lost') && ` + line + `.includes('the gateway is stopping')`)
	b.check("after the stream was lost")
}

// TestHtmxInABrowser: parts of pages are fetched, posted and swapped under the policy, and a form that was carried out
// leads to its page.
func TestHtmxInABrowser(t *testing.T) {
	f := start(t, nil)
	b := openBrowser(t)
	b.signIn(f)
	b.open(f.URL() + "/settings")
	b.waitFor(`typeof htmx === 'object'`)
	if eval[bool](b, `htmx.config.includeIndicatorCSS`) {
		t.Error("htmx does not read its configuration")
	}
	const token = `document.querySelector('input[name=csrf]').value`
	eval[bool](b, `(htmx.ajax('POST', '/settings/tokens/nobody/revoke', {target: '#history', swap: 'innerHTML', values: {csrf: `+token+`}}), true)`)
	b.waitFor(`document.querySelector('#history [role=alert]')?.textContent.includes('There is no token "nobody"')`)
	eval[bool](b, `(htmx.ajax('POST', '/settings/appearance', {target: '#history', values: {csrf: `+token+`, theme: 'dark', keys: 'on'}}), true)`)
	b.waitFor(`document.documentElement.dataset.theme === 'dark' && document.querySelector('.said') !== null`)
	b.check("after a swap")
}

// TestKeysInABrowser: keys go to pages, open the list of keys, and rest in text fields.
func TestKeysInABrowser(t *testing.T) {
	f := start(t, nil)
	b := openBrowser(t)
	b.signIn(f)
	b.open(f.URL() + "/audit")
	b.do(chromedp.KeyEvent("?"))
	b.waitFor(`document.getElementById('keys').open`)
	b.picture("keys")
	b.axe("the list of keys")
	b.do(chromedp.KeyEvent("\x1b"))
	b.waitFor(`!document.getElementById('keys').open`)
	b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent("s"))
	b.waitFor(`location.pathname === '/settings' && document.documentElement.dataset.js === ''`)
	b.do(chromedp.KeyEvent("]"))
	b.waitFor(`location.pathname === '/settings/tokens' && document.documentElement.dataset.js === ''`)
	b.do(chromedp.SendKeys(`#f-name`, "g?]s"))
	if got := eval[string](b, `document.querySelector('#f-name').value + location.pathname`); got != "g?]s/settings/tokens" {
		t.Errorf("in a text field: %s", got)
	}
	b.check("after the keys")
}

// TestPagesInABrowser loads every page of the shell in both themes and several widths: nothing may break the policy or
// fail, nothing may scroll sideways.
func TestPagesInABrowser(t *testing.T) {
	f := start(t, func(o *Options) { o.Demo = exampleDemo(t) })
	b := openBrowser(t)
	b.size(1440, 900)
	b.open(f.URL() + "/sign-in")
	b.picture("sign-in-empty")
	b.axe("sign-in without a link")
	b.open(f.URL() + "/?t=" + f.link())
	b.axe("sign-in")
	b.picture("sign-in")
	b.signIn(f)
	for _, theme := range []string{"light", "dark"} {
		b.open(f.URL() + "/settings")
		b.do(chromedp.Click(`input[name=theme][value=` + theme + `]`))
		b.do(chromedp.Click(`form[action="/settings/appearance"] button[type=submit]`))
		b.waitFor(`document.querySelector('.said') !== null`)
		if got := eval[string](b, `document.documentElement.dataset.theme`); got != theme {
			t.Errorf("theme is %q after %q was chosen", got, theme)
		}
	}
	for name, path := range map[string]string{
		"welcome": "/welcome", "settings": "/settings", "tokens": "/settings/tokens", "sessions": "/settings/sessions", "audit": "/audit",
		"parts": "/settings/parts", "error": "/nowhere",
	} {
		b.everywhere(name, path)
	}
}
