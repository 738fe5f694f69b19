// Keys that work on every page: "g" then a letter goes to a page, "[" and "]" change tabs, "?" lists the keys, Escape
// closes the topmost thing, and data-press="c" on a button or link makes the key c press it while it is in sight. They rest while a text field has the focus, and can be turned off in Settings (WCAG 2.1.4).

const off = document.documentElement.dataset.keys === 'off';
let goUntil = 0;

/** @param {EventTarget|null} target */
export function typing(target) {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches('input:not([type=checkbox],[type=radio],[type=button],[type=submit]),textarea,select'));
}

/** Whether single keys may be used for this event. @param {KeyboardEvent} event */
export function single(event) {
  return !off && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target) && !event.defaultPrevented;
}

/** @param {number} step */
function changeTab(step) {
  const tabs = [...document.querySelectorAll('.tabs a, .tabs button')];
  const now = tabs.findIndex((t) => t.matches('[aria-current],[aria-selected=true]'));
  const next = tabs[(now + step + tabs.length) % tabs.length];
  if (next instanceof HTMLElement) { next.focus(); next.click(); }
}

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && typing(event.target) && event.target instanceof HTMLElement) { event.target.blur(); return; }
  if (!single(event)) return;
  if (goUntil > event.timeStamp) {
    goUntil = 0;
    const link = document.querySelector(`.rail a[data-key="${CSS.escape(event.key)}"]`);
    if (link instanceof HTMLAnchorElement) { event.preventDefault(); link.click(); }
    return;
  }
  if (event.key === 'g') goUntil = event.timeStamp + 1500;
  if (event.key === '[') changeTab(-1);
  if (event.key === ']') changeTab(1);
  const pressed = [...document.querySelectorAll(`[data-press="${CSS.escape(event.key)}"]`)].find((b) => b instanceof HTMLElement && b.offsetParent !== null);
  if (pressed instanceof HTMLElement) { event.preventDefault(); pressed.click(); return; }
  if (event.key === '?') {
    const dialog = document.getElementById('keys');
    if (dialog instanceof HTMLDialogElement) { event.preventDefault(); dialog.showModal(); }
  }
});
