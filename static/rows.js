// One row of the moving list: built once, then filled anew with whatever comes to its place.

import { beats, draw, glyph } from './beats.js';
import { visible } from './hostile.js';

const GROUPS = { 0: '–', 23: 'P-256', 24: 'P-384', 25: 'P-521', 29: 'X25519' };
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

/** @typedef {import('./stream.js').Event} Event */
/** @typedef {import('./list.js').Item} Item */

/**
 * Columns that are shown on request, by the key of the filter: title, width, value.
 * @type {Record<string, [string, string, (e: Event) => string|undefined]>}
 */
export const COLUMNS = {
  tls: ['TLS', '30px', (e) => ({ 771: '1.2', 772: '1.3' })[e.v ?? 0]],
  alpn: ['ALPN', '56px', (e) => e.al],
  ja4: ['JA4', 'minmax(90px, 1fr)', (e) => e.j],
  ca: ['CA', 'minmax(70px, .8fr)', (e) => e.ca],
  ip: ['Address', 'minmax(84px, .7fr)', (e) => e.a],
  endpoint: ['Endpoint', 'minmax(70px, .7fr)', (e) => e.en],
  fp: ['Fingerprint', '92px', (e) => e.f],
};

/** What a row's value is called in the filter. @param {Event} e @param {string} key @returns {string|undefined} */
export function valueOf(e, key) {
  return { client: e.c, sni: e.s, kx: e.k ? String(e.k) : undefined, reason: e.r, outcome: e.out }[key] ?? COLUMNS[key]?.[2](e);
}

/** @param {string} tag @param {string} [name] */
export function make(tag, name) {
  const el = document.createElement(tag);
  if (name) el.className = name;
  return el;
}

/** Sets text only where it changes. @param {Element} el @param {string} text */
export function put(el, text) { if (el.textContent !== text) el.textContent = text; }

/** @param {Event} e */
export const failed = (e) => !['verified', 'open', 'passed'].includes(e.out ?? '');

export class Row {
  /** @param {string[]} more further columns */
  constructor(more) {
    this.el = make('div', 'row');
    this.el.setAttribute('role', 'row');
    const cell = (/** @type {string} */ name, key = '', tag = 'span') => {
      const c = make(tag, name);
      c.setAttribute('role', 'cell');
      if (key) c.dataset.key = key;
      this.el.append(c);
      return c;
    };
    this.time = cell('t', '', 'time');
    this.svg = beats();
    cell('g').append(this.svg);
    this.who = cell('who', 'client');
    this.mk = make('span', 'mk');
    this.link = /** @type {HTMLAnchorElement} */ (make('a'));
    this.link.tabIndex = -1;
    this.addr = make('span', 'addr');
    this.addr.dataset.key = 'ip';
    this.who.append(this.mk, this.link, ' ', this.addr);
    this.sni = cell('sni', 'sni');
    this.kx = cell('kx', 'kx');
    this.keys = make('span');
    this.pq = make('b', 'pq');
    this.pq.textContent = 'PQ';
    this.kx.append(this.keys, this.pq);
    this.res = cell('res', 'reason');
    this.words = make('span');
    this.run = /** @type {HTMLButtonElement} */ (make('button', 'run'));
    this.run.type = 'button';
    this.run.tabIndex = -1;
    this.res.append(this.words, this.run);
    /** @type {[string, HTMLElement][]} */
    this.more = more.map((key) => [key, cell('x', key)]);
    this.ms = cell('ms');
    /** @type {Item|null} */
    this.item = null;
    this.top = -1;
  }

  /** @param {number} y */
  place(y) {
    if (this.top === y) return;
    this.top = y;
    this.el.style.transform = `translateY(${y}px)`;
  }

  /** @param {Item} item @param {import('./stream.js').Legend} legend @param {boolean} selected */
  fill(item, legend, selected) {
    this.item = item;
    this.el.hidden = false;
    for (const [key, c] of this.more) {
      const text = visible(item.e && COLUMNS[key][2](item.e) || '');
      put(c, text);
      c.title = text;
    }
    if (item.gap) { this.fillGap(item.gap); return; }
    const e = /** @type {Event} */ (item.e);
    const bad = failed(e);
    const tone = bad ? 'bad' : e.w ? 'warn' : e.out === 'passed' ? 'opq' : 'ok';
    this.el.className = 'row' + (bad ? ' f' : '') + (selected ? ' sel' : '') + (item.hidden ? ' in' : '');
    this.el.dataset.id = e.i;
    this.el.setAttribute('aria-selected', String(selected));
    const at = new Date(e.t);
    put(this.time, clock.format(at) + '.' + String(at.getMilliseconds()).padStart(3, '0'));
    this.time.title = at.toISOString();
    draw(this.svg, glyph(e.out ?? '', e.b, e.z === 1));
    put(this.mk, e.m ?? '');
    put(this.link, e.c ? visible(e.c) : 'unknown');
    this.link.className = e.c ? '' : 'dim';
    this.who.title = e.c ? visible(e.c, 1000) : '';
    const href = '/handshakes/' + encodeURIComponent(e.i);
    if (this.link.getAttribute('href') !== href) this.link.setAttribute('href', href);
    put(this.addr, e.a ?? '');
    put(this.sni, e.s ? visible(e.s) : 'no name');
    this.sni.title = (e.s ? visible(e.s, 1000) : '') + (e.en ? ' → ' + e.en : '');
    put(this.keys, e.pq ? 'hybrid' : GROUPS[/** @type {0} */ (e.k ?? 0)] ?? 'other');
    this.pq.hidden = !e.pq;
    const words = outcomeLine(e, legend);
    put(this.words, words);
    this.res.title = words;
    this.res.className = 'res ' + tone;
    this.res.dataset.key = e.r ? 'reason' : 'outcome';
    const n = item.hidden ? 1 : item.n;
    this.run.hidden = n < 2;
    put(this.run, n > 1 ? '×' + n : '');
    this.run.setAttribute('aria-expanded', String(Boolean(item.fold?.open)));
    this.run.setAttribute('aria-label', `${n} times, ${item.fold?.open ? 'fold' : 'show each'}`);
    put(this.ms, e.d < 100 ? e.d.toFixed(1) : Math.round(e.d).toString());
  }

  /** @param {import('./list.js').Gap} gap */
  fillGap(gap) {
    this.el.className = 'row gap';
    delete this.el.dataset.id;
    for (const el of [this.time, this.mk, this.addr, this.sni, this.keys, this.run, this.ms]) put(el, '');
    this.pq.hidden = this.run.hidden = true;
    this.sni.title = this.who.title = this.time.title = this.res.title = '';
    const n = gap.count.toLocaleString('en');
    put(this.words, '');
    put(this.link, gap.gone ? `${n} handshakes that the browser was too slow for are not stored` : `${gap.atMost ? 'Up to ' : ''}${n} handshakes not shown, the browser was behind. Load`);
    const q = new URLSearchParams(location.search);
    q.set('before', String(gap.to + 1));
    this.link.setAttribute('href', '/live?' + q);
    this.link.className = '';
  }
}

/** As views.outcomeLine says it. @param {Event} e @param {import('./stream.js').Legend} legend */
function outcomeLine(e, legend) {
  const title = e.r ? legend.reasons[e.r] ?? e.r : '';
  if (e.w) return 'let in, would be refused · ' + title;
  switch (e.out) {
    case 'verified': return title ? 'verified · ' + title : e.z ? 'verified, resumed' : 'verified';
    case 'open': return title ? 'open · ' + title : 'open';
    case 'passed': return 'passed through, sealed';
  }
  if (e.r === 'upstream_down') return 'The service behind does not answer';
  return title || (e.out ?? '').replaceAll('_', ' ');
}
