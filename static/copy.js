// Copy buttons. data-copy="ID" copies the text of that element; data-copy-text="…" copies the value itself.
// "Copied" is said in place for two seconds, and in the page's status region for those who listen.

/** Says a short thing to screen readers. @param {string} text */
export function say(text) {
  const region = document.getElementById('say');
  if (!region) return;
  region.textContent = '';
  requestAnimationFrame(() => { region.textContent = text; });
}

/** @param {string} text @returns {Promise<boolean>} */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'vh';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

/** @param {HTMLElement} button */
async function press(button) {
  const source = button.dataset.copy ? document.getElementById(button.dataset.copy) : null;
  const text = button.dataset.copyText ?? source?.textContent ?? '';
  const label = button.querySelector('[data-label]') ?? button;
  button.dataset.was ??= label.textContent ?? '';
  const done = await copyText(text.replace(/\s+$/, ''));
  label.textContent = done ? 'Copied' : 'Select and copy by hand';
  say(done ? 'Copied' : 'Could not copy. Select the text and copy it by hand.');
  setTimeout(() => { label.textContent = button.dataset.was ?? ''; }, 2000);
}

document.addEventListener('click', (event) => {
  const button = event.target instanceof Element ? event.target.closest('[data-copy],[data-copy-text]') : null;
  if (button instanceof HTMLElement) press(button);
});
