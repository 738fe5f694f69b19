// The moving list: a ring of events in memory, and a fixed pool of rows that is filled anew, at most once a frame.
// At the top and not paused it follows. As soon as somebody scrolls, points at, selects or focuses a row it holds still,
// and the ring goes on.

import { COLUMNS, Row, failed, make, put } from './rows.js';

const KEPT = 20000;
const OLDER = 20000; // that are fetched below, at most
const FOLD = 60000; // failed repeats within a minute become one row
const LIFT = 1000;  // which moves up at most once a second

/** @typedef {import('./stream.js').Event} Event */
/** @typedef {{from: number, to: number, count: number, atMost?: boolean, gone?: boolean}} Gap */
/** @typedef {{e: Event|null, gap?: Gap, q: number, hidden: boolean, n: number, fold: Fold|null}} Item */
/** @typedef {{head: Item, n: number, at: number, lifted: number, open: boolean}} Fold */
/** @typedef {{legend: () => import('./stream.js').Legend, open: (id: string) => void, muted: (e: Event) => boolean, fetch: (q: Record<string, string>) => Promise<{events: Event[], cursor: string, searched: string}>}} Hooks */

export class List {
  /** @param {HTMLElement} box holds the rows @param {Hooks} hooks */
  constructor(box, hooks) {
    this.box = box;
    this.hooks = hooks;
    /** @type {Item[]} */ this.items = []; // oldest first
    /** @type {Map<string, Item>} */ this.byID = new Map();
    /** @type {Map<string, Fold>} */ this.folds = new Map();
    /** @type {Item[]|null} */ this.base = null; // what was there when it began to hold still
    /** @type {Item[]} */ this.held = []; // and of these what shows, newest first
    /** @type {Row[]} */ this.rows = [];
    /** @type {string[]} */ this.columns = [];
    this.fetched = 0; // older ones
    this.paused = false;
    this.hover = false;
    this.newer = 0;
    this.selected = '';
    this.dirty = false;
    this.live = false;
    this.pill = /** @type {HTMLButtonElement} */ (document.querySelector('[data-newer]'));
    this.pill.addEventListener('click', () => this.follow());
    addEventListener('scroll', () => this.scrolled(), { passive: true });
    addEventListener('resize', () => this.mark());
    document.addEventListener('selectionchange', () => {
      const s = getSelection();
      if (s && !s.isCollapsed && s.anchorNode && this.box.contains(s.anchorNode)) this.hold();
    });
    box.addEventListener('focusin', () => this.hold());
    box.addEventListener('pointermove', (e) => { if (e.pointerType !== 'touch' && !this.base) { this.hold(); this.hover = true; } });
    box.addEventListener('pointerleave', () => { if (this.hover) { this.hover = false; this.scrolled(); } });
    this.stored = make('div');
    this.stored.setAttribute('role', 'rowgroup');
    for (const part of [box, this.stored]) part.addEventListener('click', (event) => this.click(event));
  }

  /** @param {MouseEvent} event */
  click(event) {
    const at = event.target instanceof Element ? event.target : null;
    const el = at?.closest('.row');
    if (event.defaultPrevented || !(el instanceof HTMLElement) || event.ctrlKey || event.metaKey || event.button !== 0) return;
    const item = this.rows.find((r) => r.el === el)?.item;
    if (item && (item.gap || at?.closest('.run'))) {
      event.preventDefault();
      if (item.gap) void this.load(item); else this.unfold(item);
      return;
    }
    if (!el.dataset.id || matchMedia('(max-width: 820px)').matches) return; // the drawer is a page there
    event.preventDefault();
    this.select(el.dataset.id);
  }

  /** @param {Item} item */
  shows(item) { return (!item.hidden || item.fold?.open) && !(item.e && this.hooks.muted(item.e)); }

  /** What shows of a list, newest first. @param {Item[]} items @param {number} [most] */
  view(items, most = Infinity) {
    const out = [];
    for (let i = items.length - 1; i >= 0 && out.length < most; i--) if (this.shows(items[i])) out.push(items[i]);
    return out;
  }

  hold() {
    if (this.base || !this.live) return;
    this.base = this.items.slice();
    this.newer = 0;
    this.refresh();
  }

  /** Folding, muting or fetching has changed what shows. */
  refresh() {
    if (this.base) this.held = this.view(this.base);
    this.mark();
  }

  release() {
    this.base = null;
    this.held = [];
    this.newer = 0;
    this.trim();
    this.mark();
  }

  follow() {
    this.paused = false;
    this.release();
    scrollTo({ top: 0 });
  }

  scrolled() {
    if (!this.live) return;
    const away = this.box.getBoundingClientRect().top < 0;
    if (away) this.hold();
    else if (this.base && !this.paused && !this.selected && !this.hover && !this.box.contains(document.activeElement)) this.release();
    this.mark();
  }

  /** Begins anew, with rows that the server has rendered. @param {Element[]} rows */
  reset(rows) {
    this.items = [];
    this.byID.clear();
    this.folds.clear();
    this.base = null;
    this.fetched = 0;
    this.newer = 0;
    this.stored.replaceChildren(...rows);
    if (!this.live) this.box.replaceChildren(...rows);
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

  /** @param {Gap} gap */
  gap(gap) {
    this.takeOver();
    this.push({ e: null, gap, q: gap.to, hidden: false, n: 1, fold: null });
    this.mark();
  }

  /** @param {Item} item */
  push(item) {
    this.items.push(item);
    if (item.e) { this.byID.set(item.e.i, item); this.fold(item, item.e); }
    if (this.base && this.shows(item)) this.newer++;
    if (this.items.length > KEPT + this.fetched + 1000) this.trim();
  }

  trim() {
    if (!this.base) this.fetched = 0;
    if (this.items.length <= KEPT + this.fetched) return;
    for (const old of this.items.splice(0, this.items.length - KEPT - this.fetched)) if (old.e) this.byID.delete(old.e.i);
  }

  /** Repeats of a failure fold into one row. @param {Item} item @param {Event} e */
  fold(item, e) {
    if (!failed(e)) return;
    // Noise folds wherever it comes from, so that a scan of a network does not bury the rest.
    const key = e.x ? e.x : [e.f || e.a, e.en ?? e.s, e.r].join('\u0000');
    const fold = this.folds.get(key);
    if (!fold || e.t - fold.at > FOLD) {
      if (this.folds.size > 5000) this.folds.clear();
      item.fold = { head: item, n: 1, at: e.t, lifted: e.t, open: false };
      this.folds.set(key, item.fold);
      return;
    }
    item.fold = fold;
    fold.n++;
    fold.at = e.t;
    if (e.t - fold.lifted >= LIFT && !this.base) {
      fold.head.hidden = true;
      fold.head = item;
      fold.lifted = e.t;
    } else {
      item.hidden = true;
    }
    fold.head.n = fold.n;
  }

  /** @param {Item} item @param {boolean} [open] */
  unfold(item, open = !item.fold?.open) {
    if (!item.fold || item.fold.n < 2 || item.fold.open === open) return;
    this.hold();
    item.fold.open = open;
    if (!open && item.e?.i === this.selected) this.selected = item.fold.head.e?.i ?? '';
    this.refresh();
  }

  /** Replaces the rows that the server rendered by the pool. */
  takeOver() {
    if (this.live) return;
    this.live = true;
    // What the stream does not remember, because it was before the gateway's start, stays below until it is fetched.
    this.stored.append(...this.box.children);
    this.box.after(this.stored);
    this.box.classList.add('pool');
  }

  /** Puts older events below. @param {string} before @param {number} [limit] */
  async older(before, limit = 200) {
    this.takeOver();
    const answer = await this.hooks.fetch({ before, limit: String(limit) });
    const items = this.itemsOf(answer.events);
    this.items.unshift(...items);
    this.base?.unshift(...items);
    this.fetched = Math.min(this.fetched + items.length, OLDER);
    this.stored.replaceChildren();
    this.refresh();
    return answer;
  }

  /** Makes items, oldest first, of events that are not here yet. @param {Event[]} events newest first */
  itemsOf(events) {
    /** @type {Item[]} */ const items = [];
    for (const e of events) {
      if (this.byID.has(e.i)) continue;
      items.unshift({ e, q: e.q, hidden: false, n: 1, fold: null });
      this.byID.set(e.i, items[0]);
    }
    return items;
  }

  /** Puts what is missing into the place of a gap. @param {Item} item */
  async load(item) {
    const gap = item.gap;
    if (!gap || gap.gone) return;
    this.hold();
    const answer = await this.hooks.fetch({ before: String(gap.to + 1), after: String(gap.from - 1), limit: '1000' });
    const items = this.itemsOf(answer.events);
    const left = Math.max(gap.count - items.length, 0);
    if (answer.cursor) items.unshift({ ...item, gap: { ...gap, to: Number(answer.cursor) - 1, count: left } });
    else if (left > 0 && !gap.atMost) items.unshift({ ...item, gap: { ...gap, count: left, gone: true } });
    for (const list of [this.items, this.base ?? []]) {
      const at = list.indexOf(item);
      if (at >= 0) list.splice(at, 1, ...items);
    }
    this.refresh();
  }

  /** The number that older ones lie below; 0: there are none here. */
  oldest() { return this.items.find((x) => x.e)?.q ?? 0; }

  /** Shows further columns, in this order. @param {string[]} keys */
  show(keys) {
    this.columns = keys;
    for (const row of this.rows.splice(0)) row.el.remove();
    const grid = /** @type {HTMLElement} */ (this.box.closest('.grid'));
    grid.classList.toggle('wide', keys.length > 0);
    grid.style.setProperty('--more', keys.map((k) => COLUMNS[k][1]).join(' '));
    const head = grid.querySelector('[data-head]');
    head?.querySelectorAll('.x').forEach((x) => x.remove());
    for (const k of keys) {
      const cell = make('span', 'x');
      cell.setAttribute('role', 'columnheader');
      cell.textContent = COLUMNS[k][0];
      head?.lastElementChild?.before(cell);
    }
    for (const row of this.stored.children) for (const k of keys) {
      const cell = make('span', 'x');
      cell.setAttribute('role', 'cell');
      cell.dataset.key = k;
      row.lastElementChild?.before(cell);
    }
    this.mark();
  }

  mark() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => { this.dirty = false; this.paint(); });
  }

  paint() {
    if (!this.live) return;
    const height = this.rowHeight();
    const above = Math.max(0, -this.box.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(above / height) - 2);
    const most = Math.ceil(innerHeight / height) + 4;
    let whole = this.held.length;
    let list = this.held;
    if (!this.base) {
      whole = 0;
      for (const item of this.items) if (this.shows(item)) whole++;
      list = this.view(this.items, first + most);
    }
    this.box.style.height = whole * height + 'px';
    const count = Math.max(0, Math.min(whole - first, most));
    while (this.rows.length < count) {
      const row = new Row(this.columns);
      this.rows.push(row);
      this.box.append(row.el);
    }
    const legend = this.hooks.legend();
    this.rows.forEach((row, i) => {
      const item = list[first + i];
      if (i >= count || !item) { row.el.hidden = true; row.item = null; return; }
      row.place((first + i) * height);
      row.fill(item, legend, item.e?.i === this.selected);
      row.el.tabIndex = this.selected ? item.e?.i === this.selected ? 0 : -1 : i === 0 ? 0 : -1; // one tab stop
      row.el.setAttribute('aria-rowindex', String(first + i + 2));
    });
    this.box.parentElement?.setAttribute('aria-rowcount', String(whole + this.stored.childElementCount + 1));
    this.pill.hidden = !this.base || this.newer === 0;
    put(this.pill, `${this.newer.toLocaleString('en')} newer, show`);
    const none = document.querySelector('[data-none]');
    if (none instanceof HTMLElement && whole > 0) none.hidden = true;
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
    if (id) this.hooks.open(id);
  }

  /** Moves the selection. @param {number} step @param {boolean} failures only to failures */
  move(step, failures) {
    this.hold();
    let at = this.held.findIndex((x) => x.e?.i === this.selected);
    for (let i = at + step; i >= 0 && i < this.held.length; i += step) {
      const e = this.held[i].e;
      if (!e || failures && !failed(e)) continue;
      at = i;
      this.selected = e.i;
      break;
    }
    if (at < 0) return;
    const top = this.box.getBoundingClientRect().top + scrollY + at * this.rowHeight();
    if (top < scrollY + 140 || top > scrollY + innerHeight - 80) scrollTo({ top: top - innerHeight / 2 });
    this.mark();
    if (this.box.contains(document.activeElement)) requestAnimationFrame(() => this.rows.find((r) => r.item?.e?.i === this.selected)?.el.focus({ preventScroll: true }));
  }

  /** The item under the selection. */
  current() { return this.byID.get(this.selected) ?? null; }
}
