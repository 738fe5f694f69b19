package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"countersign/termination"
	"countersign/termination/live/livetest"
)

// traffic publishes synthetic handshakes until the test ends, and counts them.
func (f *fixture) traffic(perSecond int) *atomic.Int64 {
	f.t.Helper()
	var n atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		livetest.Run(ctx, perSecond, func(h *termination.Handshake) {
			n.Add(1)
			f.opts.Hub.Publish(h)
		})
	}()
	f.t.Cleanup(func() { cancel(); <-done })
	return &n
}

// press sends one key to whatever has the focus. Through the debugger, the character of a key comes even where the page has
// taken the key for itself, unlike under somebody's fingers: a space would scroll the page. So it is not sent.
func (b *browser) press(key string) {
	b.t.Helper()
	r, _ := utf8.DecodeRuneInString(map[string]string{"Enter": kb.Enter, "Escape": kb.Escape, "Home": kb.Home}[key] + key)
	for _, event := range kb.Encode(r) {
		if event.Type != kb.KeyChar {
			b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, *event)
				return err
			}))
		}
	}
}

// screen keeps what the window shows and no more, since the list is as long as its records are many.
func (b *browser) screen(name string) {
	b.t.Helper()
	dir := os.Getenv("TEST_OUTPUT")
	if dir == "" {
		return
	}
	data, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatalf("take picture: %v", err)
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name+".png"), data, 0o600)); err != nil {
		b.t.Fatal(err)
	}
}

// theme shows the page in one, without asking the server.
func (b *browser) theme(name string) {
	b.t.Helper()
	eval[string](b, `document.documentElement.dataset.theme = '`+name+`'`)
}

func TestLiveInTheBrowser(t *testing.T) {
	f := start(t, nil)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)

	b.open(f.URL() + "/live")
	if text := eval[string](b, `document.querySelector('main').innerText`); !strings.Contains(text, "Nothing yet") {
		t.Errorf("the empty page says %q", text)
	}
	b.picture("live-empty-light")

	f.traffic(40)
	b.waitFor(`document.querySelectorAll('[data-rows].pool .row:not([hidden])').length > 20`)
	b.waitFor(`document.querySelector('[data-stream=words]').textContent === 'stream open'`)
	b.waitFor(`document.querySelectorAll('.row.f').length > 0`)

	// Nothing under the pointer shifts once somebody has looked closer: j selects, and the list holds still.
	b.press("j")
	b.waitFor(`document.querySelector('.row.sel') !== null`)
	first := eval[string](b, `document.querySelector('.row.sel').dataset.id`)
	b.waitFor(`!document.querySelector('[data-newer]').hidden`)
	if now := eval[string](b, `document.querySelector('.row.sel').dataset.id`); now != first {
		t.Errorf("the selected row became another one")
	}
	b.press("n")
	b.press("Enter")
	b.waitFor(`!document.querySelector('[data-drawer]').hidden && document.querySelector('[data-drawer] h1') !== null`)
	for _, words := range []string{"where it broke", "clienthello", "connection"} {
		if text := strings.ToLower(eval[string](b, `document.querySelector('[data-drawer]').innerText`)); !strings.Contains(text, words) {
			t.Errorf("the drawer lacks %q", words)
		}
	}
	for _, theme := range []string{"light", "dark"} {
		b.theme(theme)
		b.screen("live-" + theme)
		b.axe("live with drawer, " + theme)
	}
	b.theme("light")
	id := eval[string](b, `location.hash.slice(1)`)
	b.press("Escape")
	b.waitFor(`document.querySelector('[data-drawer]').hidden && location.hash === '' && document.activeElement.dataset.id === '` + id + `'`)
	b.press("Home")
	b.waitFor(`document.querySelector('[data-newer]').hidden`)

	// Paused, nothing moves; resumed, nothing was lost.
	b.press(" ")
	b.waitFor(`document.querySelector('[data-pause]').getAttribute('aria-pressed') === 'true'`)
	top := eval[string](b, `document.querySelector('.row').dataset.id`)
	b.waitFor(`!document.querySelector('[data-newer]').hidden`)
	if now := eval[string](b, `document.querySelector('.row').dataset.id`); now != top {
		t.Error("the paused list moved")
	}
	b.press(" ")
	b.waitFor(`document.querySelector('.row').dataset.id !== '` + top + `'`)

	b.filterAndRead()

	b.open(f.URL() + "/settings")
	b.open(f.URL() + "/live#" + id) // a link to the row, with its drawer
	b.waitFor(`document.querySelector('[data-drawer] h1') !== null`)

	b.open(f.URL() + "/handshakes/" + id)
	b.picture("handshake-light")
	b.axe("handshake")

	b.open(f.URL() + "/live?f=outcome:failed")
	b.waitFor(`document.querySelectorAll('[data-rows].pool .row:not([hidden])').length > 3`)
	if n := eval[int](b, `document.querySelectorAll('.row:not([hidden]):not(.f):not(.gap)').length`); n != 0 {
		t.Errorf("%d rows that did not fail pass the filter", n)
	}

	b.size(390, 844)
	b.open(f.URL() + "/live")
	b.waitFor(`document.querySelectorAll('[data-rows].pool .row:not([hidden])').length > 5`)
	b.screen("live-narrow-light")
	b.size(360, 800)
	if over := b.sideways(); over > 0 {
		t.Errorf("the page is %d pixels wider than a window of 360", over)
	}
	b.check("live")
}

// A page that is fed faster than anybody can read keeps its pool of rows. The figures are logged, and depend on the
// machine: frames a second from requestAnimationFrame, the heap from performance.memory, events missed from the hub.
// docs/load.md has those of a quiet one.
func TestLiveUnderLoad(t *testing.T) {
	const quiet = 100
	busy, seconds := 2000, 4
	if rate, err := strconv.Atoi(os.Getenv("LIVE_RATE")); err == nil { // by hand; see docs/load.md
		busy, seconds = rate, 60 // which fills the ring
	}
	f := start(t, nil)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	b.open(f.URL() + "/live")
	b.waitFor(`document.querySelector('[data-stream=words]').textContent === 'stream open'`)
	eval[bool](b, watchFrames)
	f.traffic(quiet)
	b.waitFor(`document.querySelectorAll('[data-rows].pool .row').length > 10`)
	b.rest(2)
	slow := eval[string](b, `takeDelays()`)

	n := f.traffic(busy - quiet)
	b.rest(1)
	pool := eval[int](b, `document.querySelectorAll('[data-rows].pool .row').length`)
	eval[string](b, `takeDelays()`)
	var fps []int
	var heap []string // MB
	for range seconds {
		before, at := eval[int](b, `window.framesSeen`), time.Now()
		b.rest(1)
		fps = append(fps, int(float64(eval[int](b, `window.framesSeen`)-before)/time.Since(at).Seconds()))
		heap = append(heap, fmt.Sprintf("%.1f", eval[float64](b, `performance.memory.usedJSHeapSize`)/1e6))
	}
	if now := eval[int](b, `document.querySelectorAll('[data-rows].pool .row').length`); now != pool {
		t.Errorf("the pool of rows grew from %d to %d", pool, now)
	}
	status := f.opts.Hub.Status()
	t.Logf("at %d a second: from accept to row %s", quiet, slow)
	t.Logf("at %d a second: from accept to row %s; %d handshakes published, missed %d, frames a second %v, heap in MB %v, %d rows kept, the stream is %s behind",
		busy, eval[string](b, `takeDelays()`), n.Load(), status.Missed, fps, heap, eval[int](b, `Number(document.querySelector('[role=table]').getAttribute('aria-rowcount'))`), status.Lag)
	b.check("live under load")
}

// watchFrames counts frames, and notes at each how old the newest row is when it first shows.
const watchFrames = `(() => {
	window.framesSeen = 0;
	let delays = [], last = '';
	window.takeDelays = () => {
		const sorted = delays.sort((a, b) => a - b);
		delays = [];
		const at = (share) => sorted.length ? Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]) : -1;
		return 'p50 ' + at(0.5) + ' ms, p95 ' + at(0.95) + ' ms of ' + sorted.length;
	};
	const tick = () => {
		window.framesSeen++;
		const row = document.querySelector('[data-rows].pool .row[data-id]');
		if (row && row.dataset.id !== last) {
			last = row.dataset.id;
			delays.push(Date.now() - Date.parse(row.querySelector('time').title));
		}
		requestAnimationFrame(tick);
	};
	tick();
	return true;
})()`

// rest lets the page live for some seconds of its own time.
func (b *browser) rest(seconds float64) {
	b.t.Helper()
	b.waitFor(fmt.Sprintf(`performance.now() > %f`, eval[float64](b, `performance.now()`)+1000*seconds))
}

// clickFirstRow opens the handshake of the first row.
func clickFirstRow() chromedp.Action[chromedp.Void] { return chromedp.Click(`[data-rows].pool .row a`) }
