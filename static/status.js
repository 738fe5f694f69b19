// The status line of pages that do not keep a stream open themselves: one socket that is told that nobody looks at its
// events, so that only counters come, once a second. Tabs that are hidden let it go: there are few places.

const part = (/** @type {string} */ name) => document.querySelector(`.status [data-stream="${name}"]`);
const words = part('words');
// This module comes last. Where the line says something else by now, the page's own script fills it.
const mine = words instanceof HTMLElement && words.textContent === words.dataset.still;

/** @type {WebSocket|null} */
let socket = null;
let wait = 1000;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let timer;

/** @param {string} name @param {string} text */
function put(name, text) {
  const at = part(name);
  if (!(at instanceof HTMLElement)) return;
  if (at.textContent !== text) at.textContent = text;
  at.hidden = text === '';
}

/** @param {boolean} open @param {string} text */
function state(open, text) {
  const dot = part('dot');
  if (dot) {
    dot.textContent = open ? '●' : '○';
    dot.setAttribute('class', open ? 'ok live-dot' : 'bad');
  }
  put('words', text);
  if (!open) put('behind', '');
}

function connect() {
  clearTimeout(timer);
  if (document.hidden || socket) return;
  const mySocket = new WebSocket(`ws://${location.host}/api/v1/handshakes/live`);
  socket = mySocket;
  mySocket.addEventListener('open', () => {
    mySocket.send(JSON.stringify({ op: 'sub', f: '' }));
    mySocket.send(JSON.stringify({ op: 'idle', on: true }));
  });
  mySocket.addEventListener('message', (message) => {
    const frame = JSON.parse(message.data);
    if (frame.op === 'hi') { wait = 1000; state(true, 'stream open'); }
    if (frame.op !== 'st') return;
    put('behind', `${Math.round(frame.lag)} ms behind`);
    put('rate', `${frame.ok + frame.pass + frame.bad} ev/s`);
    put('missed', `missed ${frame.missed}`);
  });
  mySocket.addEventListener('close', (event) => {
    if (socket === mySocket) socket = null;
    if (document.hidden) return;
    const why = event.reason ? `: ${event.reason}` : '';
    state(false, `stream lost ${new Date().toLocaleTimeString('en-GB')}${why}`);
    timer = setTimeout(connect, wait + Math.random() * wait);
    wait = Math.min(wait * 2, 30000);
  });
}

if (mine) {
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) { connect(); return; }
    clearTimeout(timer);
    socket?.close();
    socket = null;
  });
  connect();
}
