// The moving list: a ring of events in memory, and a fixed pool of rows that is filled anew, at most once a frame.
// At the top and not paused it follows. As soon as somebody scrolls, selects or focuses a row it holds still.

import { beats, draw, glyph } from './beats.js';
import { visible } from './hostile.js';

const KEPT = 20000;
const FOLD = 60000; // failed repeats within a minute become one row
const LIFT = 1000;  // which moves up at most once a second

/** @typedef {import('./stream.js').Event} Event */
/** @typedef {{e: Event|null, gap?: {from: number, to: number, count: number}, q: number, hidden: boolean, n: number, fold: Fold|null}} Item */
/** @typedef {{head: Item, n: number, at: number, lifted: number}} Fold */

const GROUPS = { 0: '–', 23: 'P-256', 24: 'P-384', 25: 'P-521', 29: 'X25519' };
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

/** @param {string} tag @param {string} [name] */
function make(tag, name) {
  const el = document.createElement(tag);
  if (name) el.className = name;
  return el;
}

/** Sets text only where it changes. @param {Element} el @param {string} text */
function put(el, text) { if (el.textContent !== text) el.textContent = text; }

class Row {
  constructor() {
    this.el = make('div', 'row');
    this.el.setAttribute('role', 'row');
    const cell = (/** @type {string} */ name, tag = 'span') => {
      const c = make(tag, name);
      c.setAttribute('role', 'cell');
      this.el.append(c);
      return c;
    };
    this.time = cell('t', 'time');
    this.svg = beats();
    cell('g').append(this.svg);
    const who = cell('who');
    this.link = /** @type {HTMLAnchorElement} */ (make('a'));
    this.link.tabIndex = -1;
    this.addr = make('span', 'addr');
    who.append(this.link, ' ', this.addr);
    this.sni = cell('sni');
    const kx = cell('kx');
    this.keys = make('span');
    this.pq = make('b', 'pq');
    this.pq.textContent = 'PQ';
    kx.append(this.keys, this.pq);
    this.res = cell('res');
    this.words = make('span');
    this.run = make('span', 'run');
    this.res.append(this.words, this.run);
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
    if (item.gap) { this.fillGap(item.gap); return; }
    const e = /** @type {Event} */ (item.e);
    const outcome = legend.outcomes[e.o] ?? '';
    const failed = !['verified', 'open', 'passed'].includes(outcome);
    const tone = failed ? 'bad' : e.w ? 'warn' : outcome === 'passed' ? 'opq' : 'ok';
    this.el.className = 'row' + (failed ? ' f' : '') + (selected ? ' sel' : '');
    this.el.dataset.id = e.i;
    const at = new Date(e.t);
    put(this.time, clock.format(at) + '.' + String(at.getMilliseconds()).padStart(3, '0'));
    this.time.title = at.toISOString();
    draw(this.svg, glyph(outcome, e.b, e.z === 1));
    put(this.link, e.c ? visible(e.c) : 'unknown');
    this.link.className = e.c ? '' : 'dim';
    const href = '/handshakes/' + encodeURIComponent(e.i);
    if (this.link.getAttribute('href') !== href) this.link.setAttribute('href', href);
    put(this.addr, e.a ?? '');
    put(this.sni, e.s ? visible(e.s) : 'no name');
    this.sni.title = e.s ? visible(e.s, 1000) : '';
    put(this.keys, e.pq ? 'hybrid' : GROUPS[/** @type {0} */ (e.k ?? 0)] ?? 'other');
    this.pq.hidden = !e.pq;
    const words = outcomeLine(outcome, e, legend);
    put(this.words, words);
    this.res.title = words;
    this.res.className = 'res ' + tone;
    put(this.run, item.n > 1 ? '×' + item.n : '');
    put(this.ms, e.d < 100 ? e.d.toFixed(1) : Math.round(e.d).toString());
  }

  /** @param {{from: number, to: number, count: number}} gap */
  fillGap(gap) {
    this.el.className = 'row gap';
    delete this.el.dataset.id;
    for (const el of [this.time, this.addr, this.sni, this.keys, this.run, this.ms]) put(el, '');
    this.pq.hidden = true;
    put(this.words, '');
    put(this.link, `${gap.count} handshakes not shown, the browser was behind. Load`);
    const q = new URLSearchParams(location.search);
    q.set('before', String(gap.to + 1));
    this.link.setAttribute('href', '/live?' + q);
    this.link.className = '';
  }
}

/** As views.outcomeLine says it. @param {string} outcome @param {Event} e @param {import('./stream.js').Legend} legend */
function outcomeLine(outcome, e, legend) {
  const title = e.r ? legend.reasons[e.r] ?? e.r : '';
  if (e.w) return 'let in, would be refused · ' + title;
  switch (outcome) {
    case 'verified': return title ? 'verified · ' + title : e.z ? 'verified, resumed' : 'verified';
    case 'open': return title ? 'open · ' + title : 'open';
    case 'passed': return 'passed through, sealed';
  }
  if (e.r === 'upstream_down') return 'The service behind does not answer';
  return title || outcome.replaceAll('_', ' ');
}

export class List {
  /**
   * @param {HTMLElement} box holds the rows
   * @param {() => import('./stream.js').Legend} legend
   * @param {(id: string) => void} open shows a handshake
   */
  constructor(box, legend, open) {
    this.box = box;
    this.legend = legend;
    this.open = open;
    /** @type {Item[]} */ this.items = []; // oldest first
    /** @type {Map<string, Item>} */ this.byID = new Map();
    /** @type {Map<string, Fold>} */ this.folds = new Map();
    /** @type {Item[]|null} */ this.held = null; // newest first, while it holds still
    /** @type {Row[]} */ this.rows = [];
    this.paused = false;
    this.newer = 0;
    this.selected = '';
    this.dirty = false;
    this.live = false;
    this.pill = /** @type {HTMLButtonElement|null} */ (document.querySelector('[data-newer]'));
    this.pill?.addEventListener('click', () => this.follow());
    addEventListener('scroll', () => this.scrolled(), { passive: true });
    addEventListener('resize', () => this.mark());
    document.addEventListener('selectionchange', () => {
      const s = getSelection();
      if (s && !s.isCollapsed && s.anchorNode && this.box.contains(s.anchorNode)) this.hold();
    });
    this.box.addEventListener('focusin', () => this.hold());
    this.stored = make('div');
    this.stored.setAttribute('role', 'rowgroup');
    for (const part of [this.box, this.stored]) part.addEventListener('click', (event) => {
      const row = event.target instanceof Element ? event.target.closest('.row') : null;
      if (!(row instanceof HTMLElement) || !row.dataset.id || event.ctrlKey || event.metaKey || event.button !== 0) return;
      if (matchMedia('(max-width: 820px)').matches) return; // the drawer is a page there
      event.preventDefault();
      this.select(row.dataset.id);
    });
  }

  /** The list as it is now, newest first, without what is folded away. */
  view() {
    if (this.held) return this.held;
    const out = [];
    for (let i = this.items.length - 1; i >= 0; i--) if (!this.items[i].hidden) out.push(this.items[i]);
    return out;
  }

  get following() { return !this.held; }

  hold() {
    if (this.held || !this.live) return;
    this.held = this.view();
    this.newer = 0;
    this.mark();
  }

  follow() {
    this.held = null;
    this.newer = 0;
    this.paused = false;
    scrollTo({ top: 0 });
    this.mark();
  }

  scrolled() {
    if (!this.live) return;
    const away = this.box.getBoundingClientRect().top < 0;
    if (away) this.hold();
    else if (this.held && !this.paused && !this.selected && !this.box.contains(document.activeElement)) { this.held = null; this.newer = 0; }
    this.mark();
  }

  reset() {
    this.items = [];
    this.byID.clear();
    this.folds.clear();
    this.stored.replaceChildren();
    this.held = null;
    this.newer = 0;
    this.mark();
  }

  /** @param {Event[]} events */
  add(events) {
    this.takeOver();
    for (const e of events) {
      const known = this.byID.get(e.i);
      if (known) { known.e = e; continue; } // told again, with what came after
      this.push({ e, q: e.q, hidden: false, n: 1, fold: null });
      this.stored.querySelector(`[data-id="${CSS.escape(e.i)}"]`)?.remove();
    }
    this.mark();
  }

  /** @param {{from: number, to: number, count: number}} gap */
  gap(gap) {
    this.takeOver();
    this.push({ e: null, gap, q: gap.to, hidden: false, n: 1, fold: null });
    this.mark();
  }

  /** @param {Item} item */
  push(item) {
    this.items.push(item);
    if (item.e) { this.byID.set(item.e.i, item); this.fold(item, item.e); }
    if (this.held && !item.hidden) this.newer++;
    if (this.items.length > KEPT + 1000) {
      for (const old of this.items.splice(0, this.items.length - KEPT)) if (old.e) this.byID.delete(old.e.i);
    }
  }

  /** Repeats of a failure fold into one row. @param {Item} item @param {Event} e */
  fold(item, e) {
    const outcome = this.legend().outcomes[e.o] ?? '';
    if (['verified', 'open', 'passed'].includes(outcome)) return;
    // Noise folds wherever it comes from, so that a scan of a network does not bury the rest.
    const key = e.x ? e.x : [e.f || e.a, e.ep ?? e.s, e.r].join('\u0000');
    const fold = this.folds.get(key);
    if (!fold || e.t - fold.at > FOLD) {
      if (this.folds.size > 5000) this.folds.clear();
      this.folds.set(key, { head: item, n: 1, at: e.t, lifted: e.t });
      return;
    }
    fold.n++;
    fold.at = e.t;
    if (e.t - fold.lifted >= LIFT && !this.held) {
      fold.head.hidden = true;
      fold.head = item;
      fold.lifted = e.t;
    } else {
      item.hidden = true;
    }
    fold.head.n = fold.n;
  }

  /** Replaces the rows that the server rendered by the pool. */
  takeOver() {
    if (this.live) return;
    this.live = true;
    // What the stream does not remember, because it was before the gateway's start, stays below.
    this.stored.append(...this.box.children);
    this.box.after(this.stored);
    this.box.classList.add('pool');
    const none = document.querySelector('[data-none]');
    if (none instanceof HTMLElement) none.hidden = true;
  }

  mark() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => { this.dirty = false; this.paint(); });
  }

  paint() {
    if (!this.live) return;
    const height = this.rowHeight();
    const list = this.paused && this.held ? this.held : this.view();
    const whole = list.length * height;
    this.box.style.height = whole + 'px';
    const above = Math.max(0, -this.box.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(above / height) - 2);
    const count = Math.min(list.length - first, Math.ceil(innerHeight / height) + 4);
    while (this.rows.length < count) {
      const row = new Row();
      this.rows.push(row);
      this.box.append(row.el);
    }
    const legend = this.legend();
    this.rows.forEach((row, i) => {
      if (i >= count) { row.el.hidden = true; row.item = null; return; }
      const item = list[first + i];
      row.place((first + i) * height);
      row.fill(item, legend, item.e?.i === this.selected);
    });
    this.box.parentElement?.setAttribute('aria-rowcount', String(list.length + this.stored.childElementCount + 1));
    if (this.pill) {
      this.pill.hidden = !this.held || this.newer === 0;
      put(this.pill, `${this.newer.toLocaleString('en')} newer, show`);
    }
  }

  rowHeight() {
    return matchMedia('(max-width: 820px)').matches ? 56 : parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--row')) || 33;
  }

  /** @param {boolean} on */
  pause(on) {
    this.paused = on;
    if (!on) { this.follow(); return; }
    this.hold();
    this.paint(); // now: from here on nothing moves
  }

  /** @param {string} id */
  select(id) {
    if (id) this.hold();
    this.selected = id;
    this.mark();
    if (id) this.open(id);
  }

  /** Moves the selection. @param {number} step @param {boolean} failures only to failures */
  move(step, failures) {
    this.hold();
    const list = this.view();
    const legend = this.legend();
    let at = list.findIndex((x) => x.e?.i === this.selected);
    for (let i = at + step; i >= 0 && i < list.length; i += step) {
      const e = list[i].e;
      if (!e || failures && ['verified', 'open', 'passed'].includes(legend.outcomes[e.o] ?? '')) continue;
      at = i;
      this.selected = e.i;
      break;
    }
    if (at < 0) return;
    const top = this.box.getBoundingClientRect().top + scrollY + at * this.rowHeight();
    if (top < scrollY + 140 || top > scrollY + innerHeight - 80) scrollTo({ top: top - innerHeight / 2 });
    this.mark();
  }

  /** The event under the selection. */
  current() { return this.byID.get(this.selected)?.e ?? null; }
}
