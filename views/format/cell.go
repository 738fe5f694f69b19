package format

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxCell is how many characters a cell has at most; spreadsheets take 32,767.
const maxCell = 4000

// Cell makes text from a stranger fit for a cell of a spreadsheet: [Cut], with an apostrophe before each =, +, - or @ that
// could begin a formula. That is one at the beginning, also after quotes and spaces, or after a character that some
// spreadsheets take for the border between cells (a form of injection that OWASP describes as "CSV injection").
func Cell(s string) string {
	s = Cut(s, maxCell)
	var b strings.Builder
	begins := true
	for _, r := range s {
		switch {
		case begins && beginsFormula(r):
			b.WriteByte('\'')
			begins = false
		case strings.ContainsRune(`,;|`, r):
			begins = true
		case !strings.ContainsRune("\"'` ", r):
			begins = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// beginsFormula knows the full-width forms, too, which some spreadsheets read as the plain ones.
func beginsFormula(r rune) bool { return strings.ContainsRune("=+-@＝＋－＠", r) }

// CSV writes a line of cells, each in quotes (RFC 4180), and the line's end. Cells from a stranger went through [Cell].
func CSV(cells []string) string {
	var b strings.Builder
	for i, c := range cells {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + strings.ReplaceAll(c, `"`, `""`) + `"`)
	}
	b.WriteString("\r\n")
	return b.String()
}

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
