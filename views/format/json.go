package format

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON writes what would not show in a JSON text, or would make what is around it show wrongly, as escapes, which mean the
// same: a terminal and an editor show what is there. Line feeds stay, since encoders write them between members only.
func JSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == '\n' || r == '\t' || standIn(text[i], r, n) == "":
			out = append(out, text[i:i+n]...)
		case r == utf8.RuneError && n <= 1:
			out = append(out, `\ufffd`...)
		default:
			out = appendEscape(out, r)
		}
		i += n
	}
	return out
}

func appendEscape(out []byte, r rune) []byte {
	for _, unit := range utf16.AppendRune(nil, r) {
		out = fmt.Appendf(out, "\\u%04x", unit)
	}
	return out
}
