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

/** The whole record, for its measured spans and its words. @param {string} id */
async function record(id) {
  try {
    const answer = await fetch('/api/v1/handshakes/' + encodeURIComponent(id), { headers: { Accept: 'application/json' } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** @param {any} event */
async function show(event) {
  const outcome = legend.outcomes[event.o] ?? '';
  const come = outcome === 'verified' || outcome === 'open' || outcome === 'passed';
  const version = { 0x0304: 'TLS 1.3', 0x0303: 'TLS 1.2' }[event.v] ?? 'TLS';
  const who = event.c || 'A client without a name';
  const details = await record(event.i);
  const sentence = come
    ? `${who} is in. ${event.d.toFixed(1)} ms, ${version}.`
    : details?.verdict?.explanation?.sentence || `${who} was turned away: ${legend.reasons[event.r] ?? event.r}`;

  const head = document.querySelector('[data-head]');
  if (head) head.textContent = sentence;
  const waiting = document.querySelector('[data-wait]');
  if (waiting) {
    const link = document.createElement('a');
    link.href = '/handshakes/' + encodeURIComponent(event.i);
    link.textContent = come ? 'See the whole handshake' : 'Why, and what to change';
    waiting.replaceChildren(link);
  }
  say(sentence);
  light(glyph(outcome, event.b, event.z === 1), come && event.z !== 1 && outcome !== 'passed' ? details?.stages_ms : null);
  if (come) {
    const progress = document.querySelector('.progress');
    progress?.classList.add('done');
    const text = progress?.querySelector('li.wait [data-text]');
    if (text) text.textContent = 'came';
  }
}

/**
 * Lights the beats one after the other, in the proportions of the measured spans, within 600 ms.
 * @param {{symbol: string, words: string}} end
 * @param {{hello?: number, reply?: number, wait?: number, check?: number}|null|undefined} stages
 */
function light(end, stages) {
  const svg = document.querySelector('[data-beats] svg');
  if (!(svg instanceof SVGSVGElement)) return;
  if (!stages || still.matches) { draw(svg, end); return; }
  const spans = [stages.hello, stages.reply, stages.wait, stages.check].map((s) => Math.max(s ?? 0, 0));
  const whole = spans.reduce((a, b) => a + b, 0) || 1;
  let at = 0;
  spans.forEach((span, i) => {
    at += (span / whole) * 600;
    setTimeout(() => draw(svg, i === 3 ? end : { symbol: 'beats-lit-' + (i + 1), words: end.words }), at);
  });
}

if (endpoint) connect();

document.addEventListener('keydown', (event) => {
  if (event.key !== 'c' || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.documentElement.dataset.keys === 'off') return;
  if (event.target instanceof HTMLElement && event.target.matches('input,textarea,select')) return;
  const button = [...document.querySelectorAll('.go [data-copy]')].find((b) => b instanceof HTMLElement && b.offsetParent !== null);
  if (button instanceof HTMLElement) button.click();
});
