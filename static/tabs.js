// Tabs over sections that are all on the page: <div class="panels" data-tabs> with sections that have an id and a
// heading .tabname. Without script every section shows under its heading. The choice is kept for the session.

/** @param {HTMLElement} box */
function build(box) {
  if (box.dataset.ready !== undefined) return;
  box.dataset.ready = '';
  const panels = [...box.querySelectorAll(':scope > section')].filter((p) => p instanceof HTMLElement);
  const list = document.createElement('div');
  list.className = 'tabs';
  list.setAttribute('role', 'tablist');
  list.setAttribute('aria-label', box.dataset.tabs || 'Variants');
  const buttons = panels.map((panel) => {
    const b = document.createElement('button');
    b.type = 'button';
    b.id = 'tab-' + panel.id;
    b.setAttribute('role', 'tab');
    b.setAttribute('aria-controls', panel.id);
    b.textContent = panel.querySelector('.tabname')?.textContent ?? panel.id;
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', b.id);
    list.append(b);
    return b;
  });
  /** @param {number} at @param {boolean} focus */
  const choose = (at, focus) => {
    panels.forEach((p, i) => { p.hidden = i !== at; });
    buttons.forEach((b, i) => { b.setAttribute('aria-selected', String(i === at)); b.tabIndex = i === at ? 0 : -1; });
    if (focus) buttons[at].focus();
    try { sessionStorage.setItem('tab:' + box.dataset.tabs, panels[at].id); } catch { /* storage is switched off */ }
  };
  buttons.forEach((b, i) => {
    b.addEventListener('click', () => choose(i, false));
    b.addEventListener('keydown', (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose((to + buttons.length) % buttons.length, true);
    });
  });
  box.prepend(list);
  let first = 0;
  try { first = Math.max(0, panels.findIndex((p) => p.id === sessionStorage.getItem('tab:' + box.dataset.tabs))); } catch { /* likewise */ }
  choose(first, false);
}

/** @param {ParentNode} root */
export function tabs(root) {
  root.querySelectorAll('[data-tabs]').forEach((box) => { if (box instanceof HTMLElement) build(box); });
}

tabs(document);
document.addEventListener('htmx:after:swap', () => tabs(document));
