// The drawing of a handshake, chosen by the same rule as parts.GlyphOf on the server.

const BEATS = ['nothing', 'hello', 'agreement', 'our certificate', 'client certificate', 'open'];

/**
 * @param {string} outcome as in the stream's legend
 * @param {number} beat the last one that passed, or the one at which it broke
 * @param {boolean} resumed
 * @returns {{symbol: string, words: string}} the id of a symbol on the page, and its text alternative
 */
export function glyph(outcome, beat, resumed) {
  switch (outcome) {
    case 'verified':
      return resumed ? { symbol: 'beats-resumed', words: 'verified, session resumed' } : { symbol: 'beats-verified', words: 'verified' };
    case 'open':
      return resumed ? { symbol: 'beats-resumed', words: 'open, session resumed' } : { symbol: 'beats-open', words: 'open, no verified client certificate' };
    case 'passed':
      return { symbol: 'beats-passed', words: 'passed through, not opened' };
  }
  const at = Math.min(Math.max(beat, 1), 5);
  return { symbol: 'beats-broken-' + at, words: 'failed at ' + BEATS[at] };
}

/**
 * Shows a drawing in an <svg class="beats"> that holds a <use>. Nothing is touched that is right already.
 * @param {SVGSVGElement} svg
 * @param {{symbol: string, words: string}} g
 */
export function draw(svg, g) {
  const use = svg.firstElementChild;
  const href = '#' + g.symbol;
  if (use && use.getAttribute('href') !== href) use.setAttribute('href', href);
  if (svg.getAttribute('aria-label') !== g.words) svg.setAttribute('aria-label', g.words);
}

/** Builds an empty drawing. @returns {SVGSVGElement} */
export function beats() {
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('class', 'beats');
  svg.setAttribute('viewBox', '0 0 104 16');
  svg.setAttribute('role', 'img');
  svg.append(document.createElementNS(ns, 'use'));
  return svg;
}
