// What this browser shows: further columns, muted clients, whether new handshakes are read out. And the small menu of a
// value.

import { COLUMNS } from './rows.js';

const STORED = 'countersign_live';

/** @typedef {import('./stream.js').Event} Event */

/** @param {string} tag @param {object} has @param {(Node|string)[]} children */
const el = (tag, has = {}, ...children) => { const e = Object.assign(document.createElement(tag), has); e.append(...children); return e; };

/** Who made a handshake, as well as it is known. @param {Event} e */
const who = (e) => e.f || `${e.a} ${e.j ?? ''}`;

export class View {
  /** @param {import('./list.js').List} list */
  constructor(list) {
    this.list = list;
    /** @type {string[]} */ this.columns = [];
    /** @type {[string, string][]} */ this.mutes = []; // who, and the name to show
    this.quiet = false;
    try { Object.assign(this, JSON.parse(localStorage.getItem(STORED) ?? '{}')); } catch { /* as if nothing was stored */ }
    this.columns = this.columns.filter((k) => COLUMNS[k]);
    this.muted = new Set(this.mutes.map((m) => m[0]));
    if (this.columns.length) list.show(this.columns);
  }

  keep() {
    const { columns, mutes, quiet } = this;
    try { localStorage.setItem(STORED, JSON.stringify({ columns, mutes, quiet })); } catch { /* it holds until the page is left */ }
    this.muted = new Set(mutes.map((m) => m[0]));
    this.list.refresh();
    this.mount();
  }

  /** @param {Event} e */
  isMuted(e) { return this.muted.size > 0 && this.muted.has(who(e)); }

  /** @param {Event} e */
  mute(e) { this.mutes = [...this.mutes, /** @type {[string, string]} */ ([who(e), e.c || e.a || ''])].slice(-100); this.keep(); }

  /** Fills the panel. */
  mount() {
    const panel = document.querySelector('[data-more] > div');
    const head = document.querySelector('[data-more] > summary');
    if (!panel || !head) return;
    head.textContent = this.mutes.length ? `View · ${this.mutes.length} muted` : 'View';
    const box = (/** @type {string} */ words, /** @type {boolean} */ checked, /** @type {(on: boolean) => void} */ change) => {
      const input = el('input', { type: 'checkbox', checked, onchange: () => change(/** @type {HTMLInputElement} */ (input).checked) });
      return el('label', { className: 'chk' }, input, words);
    };
    panel.replaceChildren(
      el('b', {}, 'Columns'),
      ...Object.entries(COLUMNS).map(([k, [title]]) => box(title, this.columns.includes(k), (on) => {
        this.columns = on ? [...this.columns, k] : this.columns.filter((c) => c !== k);
        this.list.show(this.columns);
        this.keep();
        /** @type {HTMLElement|undefined} */ ([...panel.querySelectorAll('input')][Object.keys(COLUMNS).indexOf(k)])?.focus();
      })),
      el('b', {}, 'Screen reader'),
      box('says what is new, every 10 s', !this.quiet, (on) => { this.quiet = !on; this.keep(); }),
      el('b', {}, 'Muted in this browser'),
      ...this.mutes.map((m) => el('button', { type: 'button', className: 'ghost', onclick: () => { this.mutes = this.mutes.filter((x) => x !== m); this.keep(); } }, 'Show ' + m[1].slice(0, 40))),
      ...(this.mutes.length ? [] : [el('span', { className: 'dim' }, 'nobody; m mutes the selected client')]),
    );
  }
}

/** Offers what can be done with a value, beside it. @param {DOMRect} at @param {[string, () => void][]} items */
export function offer(at, items) {
  document.getElementById('value-menu')?.remove();
  const back = document.activeElement;
  const menu = el('div', { id: 'value-menu', popover: 'auto' });
  menu.setAttribute('role', 'menu');
  menu.setAttribute('aria-label', 'This value');
  for (const [label, act] of items) {
    const item = el('button', { type: 'button', onclick: () => { menu.hidePopover(); act(); } }, label);
    item.setAttribute('role', 'menuitem');
    menu.append(item);
  }
  menu.addEventListener('keydown', (e) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    e.stopPropagation();
    if (!step) return;
    e.preventDefault();
    const all = /** @type {HTMLElement[]} */ ([...menu.children]);
    all[(all.indexOf(/** @type {HTMLElement} */ (document.activeElement)) + step + all.length) % all.length].focus();
  });
  menu.addEventListener('toggle', (e) => {
    if (/** @type {ToggleEvent} */ (e).newState !== 'closed') return;
    menu.remove();
    if (back instanceof HTMLElement && document.activeElement === document.body) back.focus({ preventScroll: true });
  });
  document.body.append(menu);
  menu.style.left = Math.max(4, Math.min(at.left, innerWidth - 190)) + 'px';
  menu.style.top = Math.min(at.bottom + 2, innerHeight - 130) + 'px';
  menu.showPopover();
  if (menu.firstElementChild instanceof HTMLElement) menu.firstElementChild.focus();
}
