// The pulse: one bar a second, 120 of them, painted once a second. What it says comes from counters only.

const SECONDS = 120;
const NS = 'http://www.w3.org/2000/svg';
const WIDTH = 720 / SECONDS;
const ZERO = 60; // height of the part above the line

/** @param {number} n */
const number = (n) => n.toLocaleString('en').replaceAll(',', ' ');

export class Pulse {
  /** @param {HTMLElement} box @param {() => string} filter */
  constructor(box, filter) {
    this.box = box;
    this.filter = filter;
    /** @type {Map<number, any>} */ this.seconds = new Map();
    /** @type {SVGRectElement[][]} */ this.bars = [];
    this.frozen = false; // paused
    this.reading = false; // under the pointer
    this.newest = 0;
    this.asked = -5000;
    this.due = false;
  }

  reset() { this.seconds.clear(); this.mark(); }

  /** @param {any} s */
  add(s) {
    this.seconds.set(s.t, s);
    this.newest = Math.max(this.newest, s.t);
    for (const t of this.seconds.keys()) if (t <= this.newest - SECONDS) this.seconds.delete(t);
    this.mark();
  }

  mark() {
    if (this.due || this.frozen || this.reading) return;
    this.due = true;
    requestAnimationFrame(() => { this.due = false; this.paint(); });
  }

  build() {
    const svg = this.box.querySelector('[data-bars]');
    if (!svg || svg.childElementCount > 0) return svg;
    this.bars = [];
    for (let i = 0; i < SECONDS; i++) {
      const three = ['var(--ok)', 'var(--opq)', 'var(--bad)'].map((fill) => {
        const r = document.createElementNS(NS, 'rect');
        r.setAttribute('x', String(i * WIDTH));
        r.setAttribute('width', String(WIDTH - 1.5));
        r.setAttribute('fill', fill);
        svg.append(r);
        return r;
      });
      this.bars.push(three);
    }
    const line = document.createElementNS(NS, 'rect');
    for (const [k, v] of [['x', 0], ['y', ZERO], ['width', 720], ['height', 1], ['fill', 'var(--rule2)']]) line.setAttribute(String(k), String(v));
    svg.append(line);
    svg.addEventListener('pointermove', (e) => this.read(/** @type {PointerEvent} */ (e), svg));
    svg.addEventListener('pointerleave', () => this.say());
    return svg;
  }

  paint() {
    if (!this.build()) return;
    let up = 1; let down = 1;
    for (const s of this.seconds.values()) { up = Math.max(up, s.ok + s.pass); down = Math.max(down, s.bad); }
    const scale = Math.max(up / (ZERO - 4), down / (92 - ZERO - 4));
    for (let i = 0; i < SECONDS; i++) {
      const s = this.seconds.get(this.newest - SECONDS + 1 + i);
      const ok = s ? s.ok / scale : 0; const pass = s ? s.pass / scale : 0; const bad = s ? s.bad / scale : 0;
      const put = (/** @type {SVGRectElement} */ r, /** @type {number} */ y, /** @type {number} */ h) => {
        const height = h > 0 ? Math.max(h, 1.5) : 0;
        r.setAttribute('y', y.toFixed(1));
        r.setAttribute('height', height.toFixed(1));
      };
      put(this.bars[i][0], ZERO - Math.max(ok, ok > 0 ? 1.5 : 0), ok);
      put(this.bars[i][1], ZERO - ok - Math.max(pass, pass > 0 ? 1.5 : 0), pass);
      put(this.bars[i][2], ZERO + 1.5, bad);
    }
    this.sentence();
  }

  /** The sentence over the bars. */
  sentence() {
    let total = 0; let verified = 0; let kx = 0; let pq = 0;
    let p50 = 0; let p95 = 0; let weight = 0; let clients = -1;
    for (const [t, s] of this.seconds) {
      const all = s.ok + s.pass + s.bad;
      total += all; verified += s.ok - (s.open ?? 0); kx += s.kx; pq += s.pq;
      p50 += s.p50 * all; p95 = Math.max(p95, s.p95); weight += s.p50 > 0 ? all : 0;
      if (t === this.newest && s.clients !== undefined) clients = s.clients;
    }
    const say = this.box.querySelector('[data-say]');
    const facts = this.box.querySelector('[data-facts]');
    if (!(say instanceof HTMLElement) || !facts) return;
    const span = (/** @type {string} */ cls, /** @type {string} */ text) => {
      const el = document.createElement('span');
      el.className = cls;
      el.textContent = text;
      return el;
    };
    if (total === 0) {
      const when = performance.now() < Number(say.dataset.young) * 1000 ? 'since the start' : 'in the last two minutes';
      say.replaceChildren(this.filter() ? `Nothing ${when} matches the filter.` : `Quiet. Nobody has knocked ${when}.`);
      facts.textContent = '';
      return;
    }
    const parts = [span('ok', (verified * 100 / total).toFixed(1) + ' %'), ' of handshakes end verified.'];
    if (clients > 0) parts.push(' ', span('bad', number(clients) + (clients === 1 ? ' client' : ' clients')), ' cannot get in.');
    say.replaceChildren(...parts);
    const words = ['last 2 minutes', number(total) + (total === 1 ? ' handshake' : ' handshakes')];
    if (total >= SECONDS / 10) words.push(`${(total / SECONDS).toFixed(1)} per second`);
    if (weight > 0) words.push(`p50 ${(p50 / weight).toFixed(1)} ms`, `p95 at worst ${p95.toFixed(1)} ms`);
    if (kx > 0) words.push(`${Math.round(pq * 100 / kx)} % post-quantum key exchange`);
    facts.textContent = words.join(' · ');
  }

  /** @param {PointerEvent} event @param {Element} svg */
  read(event, svg) {
    const box = svg.getBoundingClientRect();
    const i = Math.floor((event.clientX - box.left) / box.width * SECONDS);
    const t = this.newest - SECONDS + 1 + i;
    const s = this.seconds.get(t);
    const facts = this.box.querySelector('[data-facts]');
    if (facts) facts.textContent = `${new Date(t * 1000).toTimeString().slice(0, 8)}: ${s ? s.ok : 0} let in, ${s ? s.pass : 0} passed through, ${s ? s.bad : 0} failed`;
    this.reading = true;
  }

  say() {
    this.reading = false;
    if (this.frozen) this.sentence(); else this.mark();
  }

  /** Asks the server for the reasons of the last 15 minutes, at most every five seconds. */
  async reasons() {
    if (this.frozen || performance.now() - this.asked < 5000) return;
    this.asked = performance.now();
    try {
      const answer = await fetch('/live/pulse?' + new URLSearchParams({ f: this.filter() }), { headers: { 'HX-Request': 'true' } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector('[data-why]');
      const old = this.box.querySelector('[data-why]');
      const failed = document.querySelector('[data-failed]');
      if (fresh instanceof HTMLElement && failed) failed.textContent = fresh.dataset.count ?? '';
      if (fresh && old && !old.contains(document.activeElement) && !old.matches(':hover')) old.replaceWith(document.adoptNode(fresh));
    } catch { /* the next second asks again */ }
  }
}
