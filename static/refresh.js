// Parts of a page that are asked for again while they are looked at. In a [data-refresh] element, whose value is where
// from, each [data-key] takes over what the fresh one of the same key holds. That changes words in their places; whatever
// would move other things, since rows came or went, waits behind a link until the reader wants it.

const least = 2000; // milliseconds between two

/** @param {Element} region */
function keyed(region) {
  return new Map([...region.querySelectorAll('[data-key]')].map((e) => [e.getAttribute('data-key'), e]));
}

/** @param {Element} region @param {Element} fresh */
function take(region, fresh) {
  const now = keyed(region), next = keyed(fresh);
  let moved = false;
  for (const [key, element] of next) {
    const old = now.get(key);
    if (!old) { moved = true; continue; }
    if (old.isEqualNode(element) || old.contains(document.activeElement)) continue;
    old.className = element.className;
    old.replaceChildren(...[...element.childNodes].map((n) => document.importNode(n, true)));
  }
  for (const [key, element] of now) {
    element.toggleAttribute('data-gone', !next.has(key));
    if (!next.has(key)) moved = true;
  }
  changed(region, moved);
}

/** Says, in the place that is kept for it, that the list is another one by now. @param {Element} region @param {boolean} moved */
function changed(region, moved) {
  const place = region.querySelector('[data-changed]');
  if (!(place instanceof HTMLElement) || (place.querySelector('a') !== null) === moved) return;
  if (!moved) { place.replaceChildren(); return; }
  const link = document.createElement('a');
  link.href = location.href;
  link.textContent = 'Show';
  place.replaceChildren('The list has changed. ', link);
}

/** @param {HTMLElement} region */
async function ask(region) {
  const begun = performance.now();
  const place = region.querySelector('[data-changed]');
  let again = true;
  if (!document.hidden) {
    try {
      const answer = await fetch(region.dataset.refresh ?? '', { headers: { 'HX-Request': 'true', Accept: 'text/html' } });
      if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').body.firstElementChild;
      if (place instanceof HTMLElement && place.dataset.lost !== undefined) { delete place.dataset.lost; place.replaceChildren(); }
      if (fresh) take(region, fresh);
      again = fresh !== null && fresh.hasAttribute('data-refresh');
    } catch (error) {
      if (place instanceof HTMLElement && place.dataset.lost === undefined) {
        place.dataset.lost = '';
        place.textContent = `As of ${new Date().toLocaleTimeString('en-GB')}: ${error instanceof Error ? error.message : error}. Trying again.`;
      }
    }
  }
  // A list that takes long to make is made less often.
  if (again) setTimeout(() => ask(region), Math.max(least, 10 * (performance.now() - begun)));
}

document.querySelectorAll('[data-refresh]').forEach((region) => {
  if (region instanceof HTMLElement && region.dataset.refresh) setTimeout(() => ask(region), least);
});
