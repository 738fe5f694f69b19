// Marks of handshakes: the buttons in the drawer set them without leaving the page. data-mark is on the button that the key x
// presses: the shape after the one that is set, and after the last none.

import { say } from './copy.js';

/** @param {HTMLFormElement} form @param {HTMLButtonElement} pressed */
async function set(form, pressed) {
  const path = '/api/v1/handshakes/' + encodeURIComponent(form.dataset.marks ?? '') + '/mark';
  const mark = pressed.value;
  const answer = await fetch(path, mark
    ? { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ mark }) }
    : { method: 'DELETE' });
  if (!answer.ok) {
    const why = await answer.json().catch(() => ({}));
    say(why.detail || why.title || 'It was not marked');
    return;
  }
  const buttons = [...form.querySelectorAll('button')];
  buttons.forEach((b, i) => {
    b.setAttribute('aria-pressed', String(b === pressed));
    b.toggleAttribute('data-mark', i === (buttons.indexOf(pressed) + 1) % buttons.length);
  });
  say(mark ? `Marked: ${mark}` : 'Mark taken away');
}

document.addEventListener('submit', (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.dataset.marks || !(event.submitter instanceof HTMLButtonElement)) return;
  event.preventDefault();
  void set(form, event.submitter);
});
