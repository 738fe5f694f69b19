// Text from strangers, shown by the same rule as views/format: what cannot be seen, or turns the direction of what
// follows, is shown by its number.

const INVISIBLE = /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]|[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/gu;

/** @param {string} s @param {number} [most] */
export function visible(s, most = 200) {
  const cut = s.length > most ? s.slice(0, most - 1) + '…' : s;
  return cut.replace(INVISIBLE, (c) => '⟨U+' + (c.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0') + '⟩');
}
