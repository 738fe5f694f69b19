// Marks the page as one with script, brings the current page of the rail into sight, and shows a choice of appearance at once, before its form is sent.
const root = document.documentElement;
root.dataset.js = '';

// On a narrow screen the rail and the tabs scroll sideways: where one is comes into sight.
for (const at of document.querySelectorAll('.rail [aria-current], .tabs [aria-current]')) {
  const box = at.closest('.rail, .tabs');
  const over = box ? at.getBoundingClientRect().right - box.getBoundingClientRect().right : 0;
  if (box && over > 0) box.scrollLeft += over + 24;
}

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
