// The first minute: watches the demo's endpoint and shows its handshakes the moment they arrive.
import { glyph, draw } from './beats.js';
import { say } from './copy.js';

const page = document.querySelector('.welcome[data-endpoint]');
const endpoint = page instanceof HTMLElement ? page.dataset.endpoint : '';
const still = matchMedia('(prefers-reduced-motion: reduce)');

/** @type {{outcomes: string[], reasons: Record<string, string>}} */
let legend = { outcomes: [], reasons: {} };
let last = 0;
let wait = 500;

function connect() {
  const socket = new WebSocket(`ws://${location.host}/api/v1/handshakes/live`);
  socket.addEventListener('open', () => {
    wait = 500;
    socket.send(JSON.stringify({ op: 'sub', f: `endpoint:"${endpoint}"`, after: last }));
  });
  socket.addEventListener('message', (message) => {
    const frame = JSON.parse(message.data);
    if (frame.op === 'hi') legend = { outcomes: frame.outcomes ?? [], reasons: frame.reasons ?? {} };
    if (frame.op !== 'ev') return;
    const events = frame.e.filter((/** @type {any} */ e) => !e.p);
    if (events.length === 0) return;
    last = Math.max(last, ...events.map((/** @type {any} */ e) => e.q));
    show(events[events.length - 1]);
  });
  socket.addEventListener('close', () => {
    setTimeout(connect, wait + Math.random() * wait);
    wait = Math.min(wait * 2, 10000);
  });
}

/** The whole record, for its measured spans and its words. It is stored a moment after it was sent. @param {string} id */
async function record(id) {
  for (let attempt = 0; attempt < 6; attempt++) {
    try {
      const answer = await fetch('/api/v1/handshakes/' + encodeURIComponent(id), { headers: { Accept: 'application/json' } });
      if (answer.ok) return await answer.json();
    } catch {
      return null;
    }
    await new Promise((done) => { setTimeout(done, 150); });
  }
  return null;
}

let shown = '';

/** @param {any} event */
async function show(event) {
  shown = event.i;
  const outcome = legend.outcomes[event.o] ?? '';
  const come = outcome === 'verified' || outcome === 'open' || outcome === 'passed';
  const version = { 0x0304: 'TLS 1.3', 0x0303: 'TLS 1.2' }[event.v] ?? 'TLS';
  const who = event.c || 'A client without a name';
  const sentence = come ? `${who} is in. ${event.d.toFixed(1)} ms, ${version}.` : `${who} was turned away: ${legend.reasons[event.r] ?? event.r}.`;
  setHead(sentence);
  const waiting = document.querySelector('[data-wait]');
  if (waiting) {
    const link = document.createElement('a');
    link.href = '/handshakes/' + encodeURIComponent(event.i);
    link.textContent = come ? 'See the whole handshake' : 'Why, and what to change';
    waiting.replaceChildren(link);
  }
  const progress = document.querySelector('.progress');
  const text = progress?.querySelector('li.wait [data-text]');
  if (come) progress?.classList.add('done');
  if (text && (come || !progress?.classList.contains('done'))) text.textContent = come ? 'came' : 'turned away, try again';
  const details = await record(event.i);
  if (shown !== event.i) return; // another one came meanwhile
  const words = details?.verdict?.explanation?.sentence;
  if (!come && words) setHead(words);
  say(!come && words ? words : sentence);
  light(glyph(outcome, event.b, event.z === 1), come && event.z !== 1 && outcome !== 'passed' ? details?.stages : null);
}

/** @param {string} text */
function setHead(text) {
  const head = document.querySelector('[data-head]');
  if (head) head.textContent = text;
}

/**
 * Lights the beats one after the other, in the proportions of the measured spans, within 600 ms.
 * @param {{symbol: string, words: string}} end
 * @param {{hello_ns?: number, reply_ns?: number, wait_ns?: number, check_ns?: number}|null|undefined} stages
 */
function light(end, stages) {
  const svg = document.querySelector('[data-beats] svg');
  if (!(svg instanceof SVGSVGElement)) return;
  if (!stages || still.matches) { draw(svg, end); return; }
  const spans = [stages.hello_ns, stages.reply_ns, stages.wait_ns, stages.check_ns].map((s) => Math.max(s ?? 0, 0));
  const whole = spans.reduce((a, b) => a + b, 0) || 1;
  let at = 0;
  spans.forEach((span, i) => {
    at += (span / whole) * 600;
    const mine = shown;
    setTimeout(() => { if (mine === shown) draw(svg, i === 3 ? end : { symbol: 'beats-lit-' + (i + 1), words: end.words }); }, at);
  });
}

if (endpoint) connect();
