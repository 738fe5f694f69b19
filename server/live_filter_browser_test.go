package server

import (
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// filterAndRead narrows the page down and back, in place, and reads its head, by keys for the most part.
func (b *browser) filterAndRead() {
	b.t.Helper()
	const chips = `[...document.querySelectorAll('.chip [data-term]')].map((c) => c.dataset.term).join()`
	eval[int](b, `window.stays = 1`)
	b.do(chromedp.SendKeys(`#live-filter`, "reason:cert_m"))
	b.waitFor(`document.querySelector('#live-complete li')?.dataset.term === 'reason:cert_missing' && document.querySelectorAll('#live-complete li').length > 1`)
	b.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter))
	b.waitFor(chips + ` === 'reason:cert_missing' && new URLSearchParams(location.search).get('f') === 'reason:cert_missing'`)
	b.waitFor(`document.querySelectorAll('[data-rows].pool .row.f:not([hidden])').length > 0 && !document.querySelector('.row:not(.f):not([hidden]):not(.hd)')`)
	b.waitFor(`document.querySelector('.row .run:not([hidden])') !== null`)
	eval[bool](b, `(document.activeElement.blur(), document.querySelector('.row .run:not([hidden])').click(), true)`)
	b.waitFor(`document.querySelector('.row.in') !== null`)
	eval[bool](b, `(document.querySelector('[data-more] summary').click(), document.querySelector('[data-more] input').click(), true)`)
	b.waitFor(`document.querySelector('.hd .x')?.textContent === 'TLS' && document.querySelector('.row .x').textContent === '1.3'`)
	b.axe("live, filtered")
	b.screen("live-filtered-light")
	eval[bool](b, `(document.querySelector('[data-more]').open = false, document.activeElement.blur(), true)`)
	b.press("F")
	b.waitFor(chips + ` === ''`)
	b.press("F")
	b.waitFor(chips + ` === 'reason:cert_missing'`)
	eval[bool](b, `(history.back(), true)`)
	b.waitFor(chips + ` === ''`)
	b.do(chromedp.Click(`.seg.small a:nth-child(3)`))
	b.waitFor(`location.search === '?since=1h' && document.querySelector('.seg.small [aria-current]').textContent === '1 h'`)
	eval[bool](b, `(document.querySelector('[data-bars]').focus(), true)`)
	b.do(chromedp.KeyEvent(kb.ArrowLeft))
	b.waitFor(`/ let in, .* failed/.test(document.querySelector('#pulse-facts').textContent)`)
	eval[bool](b, `(document.activeElement.blur(), document.querySelector('.seg.small a').click(), true)`)
	b.waitFor(`location.search === '' && document.querySelector('[data-moves]') !== null`)
	if eval[int](b, `window.stays`) != 1 {
		b.t.Error("the page was loaded anew")
	}
	b.check("live after filtering")
}
