// The filter: what is typed becomes chips, keys and values that were seen are offered. The server understands it and
// renders the chips; here is only what moves.

/** @param {string} key @param {string} value @returns {string} a term, quoted where the filter needs it; '' where none can hold it */
export function term(key, value) {
  if (/[\p{Cc}]/u.test(value)) return '';
  return `${key}:${/[\s,"*]/.test(value) || !value ? '"' + value.replace(/["\\]/g, '\\$&') + '"' : value}`;
}

/** The page's address with a filter. @param {string} f */
export function address(f) {
  const q = new URLSearchParams(location.search);
  q.delete('f');
  q.delete('before');
  if (f.trim()) q.set('f', f.trim());
  return '/live' + (q.size ? '?' + q : '');
}

export class Filter {
  /** @param {HTMLElement} root holds the form, which may be replaced @param {(url: string) => void} go */
  constructor(root, go) {
    this.root = root;
    this.go = go;
    this.at = -1; // the option that is chosen
    this.asked = '';
    root.addEventListener('submit', (e) => { if (e.target === this.form) { e.preventDefault(); this.apply(); } });
    root.addEventListener('input', (e) => { if (e.target === this.input) void this.complete(); });
    root.addEventListener('focusout', (e) => { if (e.target === this.input) this.close(); });
    root.addEventListener('mousedown', (e) => {
      const option = e.target instanceof Element ? e.target.closest('#live-complete li') : null;
      if (option instanceof HTMLElement) { e.preventDefault(); this.accept(option); }
    });
    root.addEventListener('keydown', (e) => this.key(e));
  }

  get form() { return /** @type {HTMLFormElement} */ (this.root.querySelector('[data-filter]')); }
  get input() { return /** @type {HTMLInputElement} */ (this.root.querySelector('#live-filter')); }
  get list() { return /** @type {HTMLElement} */ (this.root.querySelector('#live-complete')); }

  /** The terms that stand as chips. @returns {string[]} */
  get terms() { return [...this.form.querySelectorAll('.chip [data-term]')].map((c) => c instanceof HTMLElement ? c.dataset.term ?? '' : ''); }

  apply() { this.close(); this.go(address([...this.terms, this.input.value].join(' '))); }

  /** Adds a term in the place of those with the same key. @param {string} text @param {RegExp} [instead] */
  add(text, instead) { this.go(address([...this.terms.filter((t) => t !== text && !instead?.test(t)), text].join(' '))); }

  /** @param {KeyboardEvent} e */
  key(e) {
    const remove = e.key === 'Backspace' || e.key === 'Delete';
    if (e.target instanceof HTMLElement && remove && e.target.matches('.chip a')) { e.preventDefault(); e.target.click(); }
    if (e.target !== this.input) return;
    const options = this.list.children;
    const open = !this.list.hidden;
    if (e.key === 'ArrowDown' && !open) void this.complete();
    else if (open && (e.key === 'ArrowDown' || e.key === 'ArrowUp')) this.choose((this.at + (e.key === 'ArrowDown' ? 1 : -1) + options.length) % options.length);
    else if (open && (e.key === 'Enter' || e.key === 'Tab') && this.at >= 0) this.accept(/** @type {HTMLElement} */ (options[this.at]));
    else if (open && e.key === 'Escape') this.close();
    else if (e.key === 'Backspace' && !this.input.value) {
      const last = [...this.form.querySelectorAll('.chip')].pop();
      if (!last) return;
      this.input.value = this.terms.pop() ?? '';
      last.remove();
    } else return;
    e.preventDefault();
  }

  /** The word before the cursor: its sign, key, and the value so far. */
  word() {
    const before = this.input.value.slice(0, this.input.selectionStart ?? undefined);
    const m = /(?:^|\s)(-?)(?:([a-z0-9]+):((?:[^\s",]*,)*)"?)?([^\s",:]*|[^\s",]*)$/i.exec(before);
    return m ? { start: before.length - m[0].trimStart().length, end: before.length, sign: m[1], key: m[2] ?? '', had: m[3] ?? '', held: m[4] } : null;
  }

  async complete() {
    const w = this.word();
    const q = w ? new URLSearchParams({ key: w.key, prefix: w.held }).toString() : '';
    this.asked = q;
    if (!w || (!w.key && !w.held && this.input.value.trim())) { this.close(); return; }
    const answer = await fetch('/api/v1/handshakes/values?' + q).then((r) => r.ok ? r.json() : { items: [] }).catch(() => ({ items: [] }));
    if (this.asked !== q || document.activeElement !== this.input) return;
    this.list.replaceChildren(...answer.items.map((/** @type {{term: string, count: number, about?: string}} */ item, /** @type {number} */ i) => {
      const li = document.createElement('li');
      li.id = 'completion-' + i;
      li.setAttribute('role', 'option');
      li.dataset.term = item.term;
      for (const [tag, text] of [['code', item.term], ['span', item.about ?? ''], ['b', item.count ? item.count.toLocaleString('en') : '']]) li.append(Object.assign(document.createElement(tag), { textContent: text }));
      return li;
    }));
    this.list.hidden = answer.items.length === 0;
    this.input.setAttribute('aria-expanded', String(!this.list.hidden));
    this.choose(-1);
  }

  /** @param {number} i */
  choose(i) {
    this.at = i;
    [...this.list.children].forEach((o, k) => o.setAttribute('aria-selected', String(k === i)));
    if (i >= 0) { this.input.setAttribute('aria-activedescendant', 'completion-' + i); this.list.children[i].scrollIntoView({ block: 'nearest' }); } else this.input.removeAttribute('aria-activedescendant');
  }

  /** @param {HTMLElement} option */
  accept(option) {
    const w = this.word();
    if (!w) return;
    const text = option.dataset.term ?? '';
    const whole = w.sign + (w.had ? w.key + ':' + w.had + text.slice(w.key.length + 1) : text);
    this.input.setRangeText(whole, w.start, w.end, 'end');
    this.close();
    if (text.endsWith(':')) void this.complete(); else this.apply();
  }

  close() {
    this.asked = '';
    this.at = -1;
    this.list.hidden = true;
    this.input.setAttribute('aria-expanded', 'false');
    this.input.removeAttribute('aria-activedescendant');
  }

  /** Makes a form that was just put into the page ready. */
  mount() {
    for (const [k, v] of [['role', 'combobox'], ['aria-controls', 'live-complete'], ['aria-autocomplete', 'list'], ['aria-expanded', 'false']]) this.input.setAttribute(k, v);
  }
}
