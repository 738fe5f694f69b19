// Forms post normally and work without script. With it: the focus goes to the first error, a pressed button cannot be
// pressed twice, a fold opens where it holds an error, and data-confirm names what is about to happen.

/** @param {ParentNode} root */
function showFirstError(root) {
  const field = root.querySelector('[aria-invalid=true]');
  if (!(field instanceof HTMLElement)) return;
  const fold = field.closest('details');
  if (fold) fold.open = true;
  field.focus();
}

document.addEventListener('submit', (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement)) return;
  if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) {
    event.preventDefault();
    return;
  }
  const button = event.submitter;
  if (!(button instanceof HTMLButtonElement) || form.dataset.again !== undefined) return;
  // After this event, so that the button's own name and value still travel with the form.
  setTimeout(() => { button.disabled = true; });
  setTimeout(() => { button.disabled = false; }, 10000);
});

// A page that comes back from the browser's cache must be usable again.
window.addEventListener('pageshow', () => {
  document.querySelectorAll('button:disabled[type=submit]').forEach((b) => { if (b instanceof HTMLButtonElement && !b.dataset.off) b.disabled = false; });
});

document.addEventListener('htmx:after:swap', (event) => {
  showFirstError(event.target instanceof Element ? event.target : document);
});

showFirstError(document);
