// The pulse: bars that the server has drawn, and that the stream's seconds move on where the period is the last two
// minutes. A line reads single bars, by pointer or by arrow keys; what is drawn over or held with Shift becomes the period.
// Everything else in it is the server's, fetched anew while something happens.

const [WIDE, ZERO, HIGH] = [720, 60, 92];

export class Pulse {
  /** @param {HTMLElement} box @param {(from: number, to: number) => void} choose gets a period, in seconds since 1970 */
  constructor(box, choose) {
    this.box = box;
    this.choose = choose;
    this.frozen = false; // paused
    this.at = -1; // the bar that is read
    this.anchor = -1; // where a period begins
    this.asked = 0;
    this.wait = 2000;
    this.due = false;
    const over = (/** @type {Event} */ e) => e.target instanceof Element && e.target.closest('[data-bars]');
    box.addEventListener('pointerdown', (e) => { if (over(e)) { this.svg.setPointerCapture(e.pointerId); this.read(this.anchor = this.under(e)); } });
    box.addEventListener('pointermove', (e) => { if (over(e)) this.read(this.under(e)); });
    box.addEventListener('pointerup', () => this.end());
    box.addEventListener('pointerout', (e) => { if (over(e) && this.anchor < 0) this.rest(); });
    box.addEventListener('focusout', (e) => { if (over(e)) this.rest(); });
    box.addEventListener('keydown', (e) => { if (over(e)) this.key(e); });
    box.addEventListener('keyup', (e) => { if (e.key === 'Shift' && over(e)) this.end(); });
    this.take();
  }

  /** Reads what the server has drawn. */
  take() {
    this.svg = /** @type {SVGSVGElement} */ (this.box.querySelector('[data-bars]'));
    const d = this.svg.dataset;
    [this.since, this.step, this.count] = [Number(d.since), Number(d.step), Math.max(Number(d.count), 1)];
    this.moves = 'moves' in d;
    /** @type {Map<number, number[]>} */
    this.bars = new Map(JSON.parse(d.series ?? '[]').map((/** @type {number[]} */ b) => [b[0], b.slice(1)]));
    this.at = this.anchor = -1;
    for (const [k, v] of [['role', 'slider'], ['tabindex', 0], ['aria-valuemin', 0], ['aria-valuemax', this.count - 1], ['aria-valuenow', this.count - 1], ['aria-valuetext', 'now']]) this.svg.setAttribute(String(k), String(v));
    this.line = this.svg.appendChild(document.createElementNS('http://www.w3.org/2000/svg', 'rect'));
    for (const [k, v] of [['height', HIGH], ['width', 0], ['class', 'line']]) this.line.setAttribute(String(k), String(v));
  }

  /** @param {any} s the counters of a second */
  add(s) {
    if (!this.moves) return;
    this.bars.set(s.t, [s.ok, s.pass, s.bad]);
    this.next = Math.max(this.next ?? 0, s.t - this.count + 1);
    this.mark();
  }

  mark() {
    if (this.due || this.frozen || this.at >= 0) return;
    this.due = true;
    requestAnimationFrame(() => { this.due = false; if (this.at < 0) this.paint(); });
  }

  /** As server/livepulse.go draws it. */
  paint() {
    this.since = Math.max(this.since, this.next ?? 0);
    let [up, down] = [1, 1];
    for (const [t, b] of this.bars) {
      if (t < this.since) { this.bars.delete(t); continue; }
      up = Math.max(up, b[0] + b[1]);
      down = Math.max(down, b[2]);
    }
    const scale = Math.max(up / (ZERO - 4), down / (HIGH - ZERO - 4));
    const step = WIDE / this.count;
    const paths = ['', '', ''];
    for (const [t, b] of this.bars) {
      let y = ZERO;
      b.forEach((n, i) => {
        if (n === 0) return;
        const h = Math.max(n / scale, 1.5);
        if (i < 2) y -= h; else y = ZERO + 1.5;
        paths[i] += `M${(Math.floor((t - this.since) / this.step) * step).toFixed(1)} ${y.toFixed(1)}h${(step * 0.75).toFixed(1)}v${h.toFixed(1)}h-${(step * 0.75).toFixed(1)}`;
      });
    }
    this.svg.querySelectorAll('path').forEach((p, i) => p.setAttribute('d', paths[i]));
  }

  /** @param {PointerEvent} e */
  under(e) {
    const box = this.svg.getBoundingClientRect();
    return Math.min(Math.max(Math.floor((e.clientX - box.left) / box.width * this.count), 0), this.count - 1);
  }

  /** Shows the reading line. @param {number} i */
  read(i) {
    const facts = this.box.querySelector('#pulse-facts');
    if (this.at < 0) this.said = facts?.textContent ?? '';
    this.at = i;
    const [from, to] = this.anchor < 0 ? [i, i + 1] : [Math.min(i, this.anchor), Math.max(i, this.anchor) + 1];
    const sum = [0, 0, 0];
    for (const [t, b] of this.bars) if (t >= this.since + from * this.step && t < this.since + to * this.step) b.forEach((n, k) => { sum[k] += n; });
    const clock = (/** @type {number} */ k) => new Date((this.since + k * this.step) * 1000).toLocaleString('en-GB', { weekday: this.step > 900 ? 'short' : undefined, timeStyle: undefined, hour: '2-digit', minute: '2-digit', second: this.step < 60 ? '2-digit' : undefined });
    const words = `${clock(from)}${to - from > 1 || this.step > 1 ? '–' + clock(to) : ''}: ${sum[0]} let in, ${sum[1]} passed through, ${sum[2]} failed`;
    if (facts) facts.textContent = words;
    this.svg.setAttribute('aria-valuenow', String(i));
    this.svg.setAttribute('aria-valuetext', words);
    this.line.setAttribute('x', String(from * WIDE / this.count));
    this.line.setAttribute('width', String((to - from) * WIDE / this.count));
  }

  rest() {
    if (this.at < 0) return;
    this.at = this.anchor = -1;
    this.line.setAttribute('width', '0');
    const facts = this.box.querySelector('#pulse-facts');
    if (facts) facts.textContent = this.said ?? '';
    this.mark();
  }

  /** A period was drawn over, or Shift was let go. */
  end() {
    const [a, b] = [this.anchor, this.at];
    this.anchor = -1;
    if (a >= 0 && b >= 0 && a !== b) this.choose(this.since + Math.min(a, b) * this.step, this.since + (Math.max(a, b) + 1) * this.step);
  }

  /** @param {KeyboardEvent} e */
  key(e) {
    const to = { ArrowLeft: -1, ArrowRight: 1, Home: -this.count, End: this.count }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    const from = this.at < 0 ? this.count - 1 : this.at;
    if (!e.shiftKey) this.anchor = -1; else if (this.anchor < 0) this.anchor = from;
    this.read(Math.min(Math.max(this.at < 0 && !e.shiftKey ? from : from + to, 0), this.count - 1));
  }

  /** Takes over what the server says now, apart from what somebody reads. It asks seldom where the answer takes long. */
  async refresh() {
    const begun = performance.now();
    if (this.frozen || this.at >= 0 || begun - this.asked < this.wait) return;
    this.asked = begun;
    const of = location.search;
    try {
      const answer = await fetch('/live/pulse' + of, { headers: { 'HX-Request': 'true' } });
      const doc = new DOMParser().parseFromString(await answer.text(), 'text/html');
      this.wait = Math.max(2000, 20 * (performance.now() - begun));
      const fresh = /** @type {SVGSVGElement|null} */ (doc.querySelector('[data-bars]'));
      if (!answer.ok || !fresh || of !== location.search || this.frozen || this.at >= 0) return;
      for (const part of doc.querySelectorAll('[data-part]')) {
        const old = this.box.querySelector('#' + part.id);
        if (old && !old.closest('details[open]') && !old.matches(':hover, :focus-within') && !old.isEqualNode(part)) old.replaceWith(document.adoptNode(part));
      }
      if (!this.moves && !this.svg.matches(':focus')) { this.svg.replaceWith(document.adoptNode(fresh)); this.take(); }
      const failed = document.querySelector('[data-failed]');
      const why = this.box.querySelector('#pulse-why');
      if (failed && why instanceof HTMLElement) failed.textContent = why.dataset.all ?? '';
    } catch { /* the next second asks again */ }
  }
}
