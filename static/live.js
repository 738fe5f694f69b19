// The Live page: joins the stream, the list, the pulse and the drawer.

import { List } from './list.js';
import { Pulse } from './pulse.js';
import { Stream } from './stream.js';
import { single } from './keys.js';
import { copyText, say } from './copy.js';

const page = /** @type {HTMLElement} */ (document.querySelector('[data-live]'));
const drawer = /** @type {HTMLElement} */ (document.querySelector('[data-drawer]'));
const form = /** @type {HTMLFormElement} */ (document.querySelector('[data-filter]'));
const input = /** @type {HTMLInputElement} */ (form.elements.namedItem('f'));
const pauseButton = /** @type {HTMLButtonElement} */ (document.querySelector('[data-pause]'));
const failure = /** @type {HTMLElement} */ (document.querySelector('[data-filter-error]'));
const title = document.title;
let unseen = 0;
/** @type {Element|null} */ let before = null;
let said = 0; let news = 0; let failed = 0;

const list = new List(/** @type {HTMLElement} */ (document.querySelector('[data-rows]')), () => stream.legend, show);
const pulse = new Pulse(/** @type {HTMLElement} */ (document.querySelector('#pulse-box')), () => input.value.trim());

// A page of older records stays as it is: it is history, and does not move.
const history = new URLSearchParams(location.search).has('before');

const stream = new Stream(input.value.trim(), {
  events(events) {
    const shown = events.filter((e) => !e.p);
    if (!history) list.add(shown);
    news += shown.length;
    for (const e of shown) if (!['verified', 'open', 'passed'].includes(stream.legend.outcomes[e.o] ?? '')) { failed++; if (document.hidden) unseen++; }
    announce();
  },
  gap(g) { if (!history) list.gap(g); },
  stats(s) {
    pulse.add(s);
    if (s.bad > 0 || (s.t % 15) === 0) void pulse.reasons();
    if (document.hidden) { unseen += 0; document.title = unseen > 0 ? `(${unseen}) ${title}` : title; }
  },
  reset() { list.reset(); pulse.reset(); },
  failure(message) {
    failure.hidden = !message;
    failure.textContent = message;
    if (message) input.setAttribute('aria-invalid', 'true'); else input.removeAttribute('aria-invalid');
  },
  state(words, tone) { page.classList.toggle('lost', tone === 'bad'); },
});

document.addEventListener('visibilitychange', () => { if (!document.hidden) { unseen = 0; document.title = title; } });

/** Says in the status region what came, at most every ten seconds. */
function announce() {
  if (performance.now() - said < 10000 || news === 0) return;
  said = performance.now();
  say(`${news} new, ${failed} failed`);
  news = 0; failed = 0;
}

/** @param {boolean} on */
function pause(on) {
  list.pause(on);
  pulse.frozen = on;
  page.classList.toggle('paused', on);
  pauseButton.setAttribute('aria-pressed', String(on));
  const label = pauseButton.querySelector('[data-label]');
  if (label) label.textContent = on ? 'Resume' : 'Pause';
  stream.say(on ? 'paused since ' + new Date().toTimeString().slice(0, 8) : 'stream open', on ? 'dim' : 'ok');
  if (!on) pulse.mark();
}
pauseButton.addEventListener('click', () => pause(!list.paused));

/** Opens a handshake in the drawer. @param {string} id */
async function show(id) {
  if (!before) before = document.activeElement;
  try {
    let answer = await fetch('/handshakes/' + encodeURIComponent(id), { headers: { 'HX-Request': 'true' } });
    if (answer.status === 404) { // the history is behind the stream by up to half a second
      await new Promise((r) => setTimeout(r, 600));
      answer = await fetch('/handshakes/' + encodeURIComponent(id), { headers: { 'HX-Request': 'true' } });
    }
    const doc = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (list.selected !== id) return; // another one was chosen meanwhile
    drawer.replaceChildren(...[...doc.body.childNodes].map((n) => document.adoptNode(n)));
  } catch {
    drawer.replaceChildren(Object.assign(document.createElement('p'), { className: 'notice bad', textContent: 'The gateway does not answer. It shows here when it is back.' }));
  }
  drawer.hidden = false;
  drawer.scrollTop = 0;
  window.history.replaceState(null, '', location.pathname + location.search + '#' + id);
  const head = drawer.querySelector('h1');
  if (head instanceof HTMLElement) { head.tabIndex = -1; head.focus({ preventScroll: true }); }
}

function close() {
  if (drawer.hidden) return;
  drawer.hidden = true;
  drawer.replaceChildren();
  list.select('');
  window.history.replaceState(null, '', location.pathname + location.search);
  if (before instanceof HTMLElement) before.focus({ preventScroll: true });
  before = null;
}
drawer.addEventListener('click', (e) => { if (e.target instanceof Element && e.target.closest('[data-close]')) close(); });

// The filter goes with the address, so that a link shows the same; the stream changes at once.
form.addEventListener('submit', (event) => {
  if (history) return;
  event.preventDefault();
  apply(input.value.trim());
});

/** @param {string} f */
function apply(f) {
  location.assign('/live' + (f ? '?' + new URLSearchParams({ f }) : ''));
}

/** Puts a value under the selection into the filter, or shuts it out. @param {boolean} not */
function filterCurrent(not) {
  const e = list.current();
  if (!e) return;
  const term = e.r ? 'reason:' + e.r : e.c && !/[\s"]/.test(e.c) ? 'client:' + e.c : 'ip:' + e.a;
  apply((input.value.trim() + ' ' + (not ? '-' : '') + term).trim());
}

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !drawer.hidden) { event.preventDefault(); close(); return; }
  if (!single(event) || event.target instanceof HTMLButtonElement && event.key === ' ') return;
  switch (event.key) {
    case ' ': pause(!list.paused); break;
    case 'j': case 'ArrowDown': list.move(1, false); break;
    case 'k': case 'ArrowUp': list.move(-1, false); break;
    case 'n': list.move(1, true); break;
    case 'N': list.move(-1, true); break;
    case 'Enter': if (list.selected && !(event.target instanceof HTMLAnchorElement)) void show(list.selected); else return; break;
    case 'Home': if (list.paused) pause(false); else list.follow(); break;
    case 'f': filterCurrent(false); break;
    case '-': filterCurrent(true); break;
    case '/': input.focus(); break;
    case 'y': if (list.selected) void copyText(location.origin + '/handshakes/' + list.selected).then(() => say('Link copied')); break;
    default: return;
  }
  event.preventDefault();
});

const linked = () => { if (/^#hs_/.test(location.hash) && location.hash !== '#' + list.selected) list.select(location.hash.slice(1)); };
addEventListener('hashchange', linked);
linked();
