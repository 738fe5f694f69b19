package format

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON writes a document of JSON so that a terminal may show it: what [Visible] would replace is escaped instead (RFC 8259,
// section 7), and so means the same to whoever reads it.
func JSON(document []byte) []byte {
	out := make([]byte, 0, len(document))
	for i := 0; i < len(document); {
		r, n := utf8.DecodeRune(document[i:])
		switch {
		case r == '\n', standIn(document[i], r, n) == "":
			out = append(out, document[i:i+n]...)
		case r == utf8.RuneError && n <= 1:
			out = append(out, `\ufffd`...) // as encoding/json does
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = appendEscape(appendEscape(out, high), low)
		default:
			out = appendEscape(out, r)
		}
		i += n
	}
	return out
}

func appendEscape(out []byte, r rune) []byte {
	hex := strconv.FormatInt(int64(r)|0x10000, 16)
	return append(append(out, `\u`...), hex[1:]...)
}
