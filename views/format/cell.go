package format

import (
	"strings"
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
