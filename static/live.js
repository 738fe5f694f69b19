// The Live page: joins the stream, the list, the pulse, the filter and the drawer.

import { List } from './list.js';
import { Pulse } from './pulse.js';
import { Stream } from './stream.js';
import { Filter, address, term } from './filter.js';
import { View, offer } from './view.js';
import { failed, valueOf } from './rows.js';
import { single } from './keys.js';
import { copyText, say } from './copy.js';

const page = /** @type {HTMLElement} */ (document.querySelector('[data-live]'));
const drawer = /** @type {HTMLElement} */ (document.querySelector('[data-drawer]'));
const named = /** @param {string} name */ (name) => /** @type {HTMLElement} */ (page.querySelector(`[data-${name}]`));
const params = () => new URLSearchParams(location.search);
const title = document.title;
let unseen = 0;
/** @type {Element|null} */ let before = null;
let said = 0; let news = 0; let bad = 0;
let filled = false; // the list holds what the server had rendered
let searching = false;
let searched = '';
let shown = location.search;
/** @type {Element|null} */ let under = null; // the value under the pointer

// A page of older records stays as it is: it is history, and does not move.
let past = params().has('before');

const list = new List(named('rows'), {
  legend: () => stream.legend,
  open: (id) => void show(id),
  muted: (e) => view.isMuted(e),
  async fetch(q) {
    const answer = await fetch('/api/v1/handshakes/rows?' + new URLSearchParams({ f: params().get('f') ?? '', ...q }));
    if (!answer.ok) throw new Error('the gateway did not answer');
    const a = await answer.json();
    return { events: stream.name(a.e, a.endpoints), cursor: a.cursor ?? '', searched: a.searched_until ?? '' };
  },
});
const view = new View(list);
const filter = new Filter(page, (url) => void go(url));
const pulse = new Pulse(/** @type {HTMLElement} */ (document.querySelector('#pulse-box')), (from, to) => {
  const at = (/** @type {number} */ t) => new Date(t * 1000).toISOString().replace('.000', '');
  filter.go(address([...filter.terms.filter((t) => !/^(since|until):/.test(t)), 'since:' + at(from), 'until:' + at(to)].join(' ')));
});

const stream = new Stream(params().get('f') ?? '', {
  events(events) {
    const here = events.filter((e) => !e.p);
    if (!past) list.add(here);
    news += here.length;
    for (const e of here) if (failed(e)) bad++;
    announce();
  },
  gap(g) { if (!past) list.gap(g); },
  stats(s) {
    pulse.add(s);
    if (s.ok + s.pass + s.bad > 0 || s.t % 15 === 0) void pulse.refresh();
    if (document.hidden && s.bad) { unseen += s.bad; document.title = `(${unseen}) ${title}`; }
    if (!filled && !past) void fill();
    let last = 0;
    for (let i = list.items.length - 1; i >= 0 && !last; i--) last = list.items[i].e?.t ?? 0;
    const quiet = last ? Math.floor((s.t * 1000 - last) / 60000) : 0;
    if (quiet > 0) stream.put('behind', `Quiet for ${quiet < 120 ? quiet + ' min' : Math.floor(quiet / 60) + ' h'}`);
  },
  failure(message) {
    const at = page.querySelector('#filter-error');
    if (!(at instanceof HTMLElement) || (!message && filter.input.getAttribute('aria-invalid') && filter.input.value)) return;
    at.hidden = !message;
    at.textContent = message;
  },
  state(words, tone) { page.classList.toggle('lost', tone === 'bad'); },
});

document.addEventListener('visibilitychange', () => { if (!document.hidden) { unseen = 0; document.title = title; } });

/** Says in the status region what came, at most every ten seconds. */
function announce() {
  if (performance.now() - said < 10000 || news === 0 || view.quiet) return;
  said = performance.now();
  say(`${news} new, ${bad} failed`);
  news = 0; bad = 0;
}

/** Takes the place of the rows that the server has rendered. */
async function fill() {
  filled = true;
  const of = location.search;
  try {
    const answer = await list.older(list.oldest() ? String(list.oldest()) : '');
    if (of === location.search) foot(answer.cursor, answer.searched);
  } catch { filled = false; }
}

/** Says below the list how far back it goes. @param {string} cursor @param {string} to */
function foot(cursor, to) {
  const at = named('cursor');
  const link = at.querySelector('[data-older]');
  at.dataset.cursor = cursor;
  if (to) searched = new Date(to).toTimeString().slice(0, 5);
  named('searched').textContent = cursor && to ? `Searched back to ${new Date(to).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })}.` : '';
  for (const a of page.querySelectorAll('[data-older]')) if (!cursor) a.remove();
  if (link && cursor) link.textContent = to ? 'Search on' : '↓ Older';
  if (!cursor && at.querySelector('[data-end]')) named('end').hidden = list.items.length === 0;
}

/** Goes on to what is older, until something is found or somebody stops it. @param {Element} button */
async function further(button) {
  if (searching) { searching = false; return; }
  searching = true;
  const of = location.search;
  button.textContent = 'Stop';
  filter.form.classList.add('htmx-request');
  let [cursor, to] = [named('cursor').dataset.cursor ?? '', ''];
  try {
    for (let found = 0; cursor && !found && searching && of === location.search;) {
      const answer = await list.older(cursor);
      [cursor, to, found] = [answer.cursor, answer.searched, answer.events.length];
      if (to) {
        const words = `searching ${searched || 'now'}–${searched = new Date(to).toTimeString().slice(0, 5)}`;
        named('searched').textContent = words;
        say(words);
      }
    }
  } catch { say('The gateway does not answer.'); }
  searching = false;
  filter.form.classList.remove('htmx-request');
  if (of === location.search) foot(cursor, to);
}

/** @param {boolean} on */
function pause(on) {
  list.pause(on);
  pulse.frozen = on;
  stream.hold(on ? 'paused since ' + new Date().toTimeString().slice(0, 8) : '');
  mount();
  if (!on) { pulse.mark(); void pulse.refresh(); }
}

/** Makes what the server has just rendered ready. */
function mount() {
  filter.mount();
  view.mount();
  page.classList.toggle('paused', list.paused);
  named('pause').setAttribute('aria-pressed', String(list.paused));
  named('label').textContent = list.paused ? 'Resume' : 'Pause';
  named('sign').setAttribute('d', list.paused ? 'M1 0l9 5-9 5z' : 'M1 0h3v10H1zM6 0h3v10H6z');
}

/** Shows the page with another filter or period, in place. @param {string} url @param {boolean} [push] */
async function go(url, push = true) {
  filter.form.classList.add('htmx-request');
  const typing = document.activeElement === filter.input;
  let doc;
  try {
    doc = new DOMParser().parseFromString(await (await fetch(url)).text(), 'text/html');
  } catch { location.assign(url); return; }
  if (!doc.querySelector('[data-live]')) { location.assign(url); return; } // signed out, or an error's own page
  if (push) window.history.pushState(null, '', url);
  shown = location.search;
  for (const id of ['pulse-box', 'live-bar', 'live-below', 'live-views']) {
    const [old, fresh] = [document.getElementById(id), doc.getElementById(id)];
    if (id === 'pulse-box') old?.replaceChildren(...(fresh?.childNodes ?? []));
    else if (old && fresh) old.replaceWith(document.adoptNode(fresh));
  }
  past = params().has('before');
  filled = searching = false;
  searched = '';
  list.reset([...doc.querySelectorAll('[data-rows] > .row')].map((r) => document.adoptNode(r)));
  if (list.columns.length) list.show(list.columns);
  pulse.take();
  mount();
  if (filter.input.getAttribute('aria-invalid')) filter.input.focus();
  stream.setFilter(params().get('f') ?? '');
  if (typing) filter.input.focus();
}

/** Opens a handshake in the drawer. @param {string} id */
async function show(id) {
  if (drawer.hidden) before = document.activeElement;
  const url = location.pathname + location.search + '#' + id;
  if (drawer.hidden && location.hash !== '#' + id) window.history.pushState({ drawer: true }, '', url); else window.history.replaceState(window.history.state, '', url);
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
  const head = drawer.querySelector('h1');
  if (head instanceof HTMLElement) { head.tabIndex = -1; head.focus({ preventScroll: true }); }
}

function hide() {
  if (drawer.hidden) return;
  drawer.hidden = true;
  drawer.replaceChildren();
  // Back to the row, which stays chosen: j and k go on from it. What was focused elsewhere has it again.
  const row = list.rows.find((r) => r.item?.e && r.item.e.i === list.selected)?.el;
  const to = before === document.body || list.box.contains(before) ? row : before;
  if (to instanceof HTMLElement) to.focus({ preventScroll: true });
  before = null;
}

function close() {
  const back = window.history.state?.drawer;
  hide();
  if (back) window.history.back(); else window.history.replaceState(null, '', location.pathname + location.search);
}

/** The address decides what the drawer shows. */
function linked() {
  const id = /^#hs_/.test(location.hash) ? location.hash.slice(1) : '';
  if (!id) hide(); else if (drawer.hidden || id !== list.selected) list.select(id);
}
addEventListener('popstate', () => { if (location.search !== shown) void go(location.href, false).then(linked); else linked(); });

/** Offers: only this, not this, copy. @param {Element} at @param {string} key @param {string} value */
function offerValue(at, key, value) {
  const text = term(key, value);
  /** @type {[string, () => void][]} */ const items = [['Copy', () => void copyText(value).then(() => say('Copied'))]];
  if (text) items.unshift(['Only this', () => filter.add(text, new RegExp('^' + key + ':'))], ['Not this', () => filter.add('-' + text)]);
  offer(at.getBoundingClientRect(), items);
}

/** The value that an element shows. @param {Element|null} at @returns {[Element, string, string]|null} */
function valueAt(at) {
  const el = at?.closest('[data-key]');
  if (!(el instanceof HTMLElement)) return null;
  const key = el.dataset.key ?? '';
  const id = el.closest('.row') instanceof HTMLElement ? /** @type {HTMLElement} */ (el.closest('.row')).dataset.id ?? '' : '';
  const e = list.byID.get(id)?.e;
  const value = el.dataset.value ?? (e ? valueOf(e, key) : undefined);
  return value === undefined ? null : [el, key, value];
}

page.addEventListener('click', (event) => {
  const at = event.target instanceof Element ? event.target : null;
  if (!at || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  const value = valueAt(at);
  const link = at.closest('a');
  const older = at.closest('[data-older]');
  if (at.closest('[data-pause]')) pause(!list.paused);
  else if (at.closest('[data-close]')) close();
  else if (older && filled && !past) void further(older);
  else if (value && (drawer.contains(at) || at.closest('.row.sel'))) offerValue(...value);
  else if (link instanceof HTMLAnchorElement && link.pathname === '/live' && link.origin === location.origin && !link.closest('.row')) void go(link.href);
  else return;
  event.preventDefault();
}, true);
page.addEventListener('contextmenu', (event) => {
  const value = event.target instanceof Element ? valueAt(event.target) : null;
  if (value && !event.shiftKey && value[0].closest('.row')) { event.preventDefault(); offerValue(...value); }
});
page.addEventListener('pointerover', (event) => { under = event.target instanceof Element ? event.target : null; });

/** Puts the value under the pointer, or what matters most of the selection, into the filter. @param {boolean} not */
function filterCurrent(not) {
  const e = list.current()?.e;
  const value = valueAt(under?.closest('.row [data-key]') ?? null);
  const [key, text] = value ? [value[1], value[2]] : !e ? ['', ''] : e.r ? ['reason', e.r] : e.c ? ['client', e.c] : ['ip', e.a ?? ''];
  const t = key && term(key, text);
  if (t) filter.add((not ? '-' : '') + t, not ? undefined : new RegExp('^' + key + ':'));
}

/** Turns the filter off, and on again. */
function toggleFilter() {
  const f = filter.terms.join(' ');
  if (f) sessionStorage.setItem('countersign_filter', f);
  void go(address(f ? '' : sessionStorage.getItem('countersign_filter') ?? ''));
}

/** Copies a command that does what the selected client did. @param {string} id */
async function copyCurl(id) {
  const text = await fetch('/handshakes/' + encodeURIComponent(id), { headers: { 'HX-Request': 'true' } }).then((a) => a.text()).catch(() => '');
  const code = new DOMParser().parseFromString(text, 'text/html').querySelector('[data-curl] .code');
  if (code?.textContent && await copyText(code.textContent)) say('Command copied'); else say('There is no command for this one');
}

/** Presses what another part of the page has put into the drawer or the bar. @param {string} what */
const press = (what) => { const b = document.querySelector(`[data-${what}]`); if (b instanceof HTMLElement) b.click(); };

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !drawer.hidden && !event.defaultPrevented && !(event.target instanceof HTMLInputElement)) { event.preventDefault(); close(); return; }
  const on = event.target instanceof HTMLElement ? event.target : page;
  if (!single(event) || on.matches('button, summary, [role=slider]') && /^( |Enter|Arrow|Home)/.test(event.key) || document.querySelector('dialog[open]')) return;
  const item = list.current();
  const id = list.selected;
  switch (event.key) {
    case ' ': pause(!list.paused); break;
    case 'j': case 'ArrowDown': list.move(1, false); break;
    case 'k': case 'ArrowUp': list.move(-1, false); break;
    case 'n': list.move(1, true); break;
    case 'N': list.move(-1, true); break;
    case 'ArrowRight': case 'ArrowLeft': if (item) list.unfold(item, event.key === 'ArrowRight'); else return; break;
    case 'Enter': if (id && !(on instanceof HTMLAnchorElement)) void show(id); else return; break;
    case 'Home': if (list.paused) pause(false); else list.follow(); break;
    case 'f': filterCurrent(false); break;
    case '-': filterCurrent(true); break;
    case 'F': toggleFilter(); break;
    case '/': filter.input.focus(); break;
    case 'y': if (id) void copyText(location.origin + '/handshakes/' + id).then(() => say('Link copied')); break;
    case 'c': if (id) void copyCurl(id); break;
    case 'm': if (item?.e) { view.mute(item.e); say('Muted in this browser'); } break;
    case 'x': press('mark'); break;
    case 'e': press('export'); break;
    default: return;
  }
  event.preventDefault();
});

// The way back out of the drawer moves nothing: not the list that somebody has gone on reading beside it.
window.history.scrollRestoration = 'manual';
mount();
linked();
