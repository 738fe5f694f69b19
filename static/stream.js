// The live stream: one WebSocket that comes back by itself, and goes on after the last number that was seen.

/**
 * @typedef {{q: number, i: string, t: number, o: number, b: number, r?: string, ep?: number, s?: string, c?: string,
 *   f?: string, a?: string, k?: number, pq?: number, v?: number, z?: number, d: number, p?: number, u?: number, m?: string, w?: number, x?: string,
 *   al?: string, j?: string, ca?: string, out?: string, en?: string}} Event out and en are the words for o and ep
 * @typedef {{outcomes: string[], reasons: Record<string, string>, endpoints: Record<number, string>}} Legend
 * @typedef {{events(list: Event[], n: number): void, gap(g: {from: number, to: number, count: number}): void,
 *   stats(s: any): void, failure(message: string): void, state(words: string, tone: string): void}} Watcher
 */

const part = (/** @type {string} */ name) => document.querySelector(`[data-stream="${name}"]`);

/** Writes a part of the status line. @param {string} name @param {string} words @param {string} [title] */
function put(name, words, title) {
  const at = part(name);
  if (title !== undefined && at instanceof HTMLElement) at.title = title;
  if (!at) return;
  if (at.textContent !== words) at.textContent = words;
  if (at instanceof HTMLElement && at.hasAttribute('hidden')) at.hidden = false;
}

export class Stream {
  /** @param {string} filter @param {Watcher} watcher */
  constructor(filter, watcher) {
    this.filter = filter;
    this.watcher = watcher;
    /** @type {Legend} */
    this.legend = { outcomes: [], reasons: {}, endpoints: {} };
    this.last = 0;
    this.life = '';
    this.next = '';
    this.wait = 500;
    this.tag = 0; // of the filter that was asked for
    this.heard = 0; // of the one that the stream follows
    this.sampled = 1;
    this.held = ''; // said in the place of an open stream
    this.put = put;
    /** @type {WebSocket|null} */
    this.socket = null;
    document.addEventListener('visibilitychange', () => this.send({ op: 'idle', on: document.hidden }));
    this.connect();
  }

  /** @param {object} message */
  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** @param {string} filter */
  setFilter(filter) {
    this.filter = filter;
    this.last = 0;
    this.send({ op: 'sub', f: filter, n: ++this.tag });
  }

  connect() {
    this.say('connecting', 'dim');
    const socket = new WebSocket(`ws://${location.host}/api/v1/handshakes/live`);
    this.socket = socket;
    socket.addEventListener('open', () => {
      this.wait = 500;
      this.send({ op: 'sub', f: this.filter, after: this.last, life: this.life, n: this.tag });
      if (document.hidden) this.send({ op: 'idle', on: true });
    });
    socket.addEventListener('message', (m) => this.frame(JSON.parse(m.data)));
    socket.addEventListener('close', (e) => {
      const pause = this.wait + Math.random() * this.wait;
      this.wait = Math.min(this.wait * 2, 15000);
      const why = e.reason ? `: ${e.reason}` : '';
      this.say(`stream lost ${new Date().toTimeString().slice(0, 8)}${why}, retry in ${Math.ceil(pause / 1000)} s`, 'bad');
      setTimeout(() => this.connect(), pause);
    });
  }

  /** Says something as long as the stream is open; '' ends that. @param {string} words */
  hold(words) {
    this.held = words;
    if (this.socket?.readyState === WebSocket.OPEN) this.say('stream open', 'ok');
  }

  /** Gives events the words for their numbers. @param {Event[]} events @param {Record<number, string>} endpoints */
  name(events, endpoints) {
    for (const e of events) { e.out = this.legend.outcomes[e.o]; e.en = endpoints[e.ep ?? 0]; }
    return events;
  }

  /** @param {string} words @param {string} tone */
  say(words, tone) {
    if (this.held && tone === 'ok') [words, tone] = [this.held, 'dim'];
    put('words', words);
    const dot = part('dot');
    if (dot) {
      dot.textContent = tone === 'bad' ? '✕' : tone === 'ok' ? '●' : this.held ? '‖' : '○';
      dot.setAttribute('class', tone);
    }
    if (tone === 'bad') put('behind', '');
    this.watcher.state(words, tone);
  }

  /** @param {any} f */
  frame(f) {
    // What is on its way when the filter changes follows the one before.
    if (f.op === 'hi') this.heard = f.n ?? 0;
    else if (this.heard !== this.tag && f.op !== 'err') return;
    // Another life gives out numbers again. The old one's count until it has told something.
    if (f.op !== 'hi' && this.next !== this.life) { this.last = 0; this.life = this.next; }
    switch (f.op) {
      case 'hi':
        this.legend = { outcomes: f.outcomes ?? [], reasons: f.reasons ?? {}, endpoints: f.endpoints ?? {} };
        this.next = f.life;
        this.say('stream open', 'ok');
        this.watcher.failure('');
        for (const s of f.past ?? []) this.watcher.stats(s);
        break;
      case 'ev':
        Object.assign(this.legend.endpoints, f.endpoints ?? {});
        this.sampled = f.n;
        for (const e of f.e) if (e.q > this.last) this.last = e.q;
        this.watcher.events(this.name(f.e, this.legend.endpoints), f.n);
        break;
      case 'gap':
        this.last = Math.max(this.last, f.to);
        this.watcher.gap(f);
        break;
      case 'st':
        if (f.q > this.last) this.last = f.q;
        put('behind', `${Math.round(f.lag)} ms behind`);
        put('rate', `${f.ok + f.pass + f.bad} ev/s`);
        put('sampled', `sampled 1:${this.sampled}`, this.sampled > 1 ? 'Of the handshakes that were let in, one of so many is listed; failures go last. Counts are complete.' : '');
        put('missed', `missed ${f.missed}`);
        this.watcher.stats(f);
        this.sampled = 1;
        break;
      case 'err':
        this.say('no stream with this filter', 'dim');
        this.watcher.failure(f.m);
    }
  }
}
