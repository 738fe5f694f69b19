// Marks the page as one with script, and shows a choice of appearance at once, before its form is sent.
const root = document.documentElement;
root.dataset.js = '';

document.addEventListener('change', (event) => {
  const input = event.target;
  if (!(input instanceof HTMLInputElement) || !input.closest('[data-appearance]')) return;
  if (input.name === 'theme') {
    if (input.value === 'system') delete root.dataset.theme;
    else root.dataset.theme = input.value;
  }
  if (input.name === 'dense') {
    if (input.checked) root.dataset.dense = '';
    else delete root.dataset.dense;
  }
});
