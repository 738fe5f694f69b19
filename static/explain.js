// A private key is recognised here and stays in this browser: what is pasted or dropped is looked at before it is sent.

const form = document.querySelector('form[data-explain]');
const secret = /PRIVATE KEY|"d"\s*:\s*"|PuTTY-User-Key-File/;

/** @param {HTMLFormElement} form */
async function hasKey(form) {
  const text = form.elements.namedItem('text');
  const file = form.elements.namedItem('file');
  if (text instanceof HTMLTextAreaElement && secret.test(text.value)) return true;
  const first = file instanceof HTMLInputElement ? file.files?.[0] : undefined;
  return first !== undefined && first.size <= 262144 && secret.test(await first.text());
}

if (form instanceof HTMLFormElement) {
  const stop = form.querySelector('[data-key-stop]');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const key = await hasKey(form);
    if (stop instanceof HTMLElement) stop.hidden = !key;
    if (!key) return form.submit();
    form.reset();
  });
}
