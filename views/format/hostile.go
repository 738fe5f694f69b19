package format

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Piece is a stretch of text; Hidden marks the visible stand-in for something that would not show, or would make the
// text around it show wrongly.
type Piece struct {
	Text   string
	Hidden bool
}

// Pieces takes apart text from a stranger: control characters, bidirectional overrides, other invisible characters and
// bytes that are not UTF-8 become visible stand-ins, such as ⟨U+202E⟩ (CVE-2021-42574 is what they are used for).
func Pieces(s string) []Piece {
	var out []Piece
	start := 0
	flush := func(end int) {
		if end > start {
			out = append(out, Piece{Text: s[start:end]})
		}
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if stand := standIn(s[i], r, n); stand != "" {
			flush(i)
			out = append(out, Piece{Text: stand, Hidden: true})
			start = i + n
		}
		i += n
	}
	flush(len(s))
	return out
}

// Visible is [Pieces] as one string, for places that hold only text: titles, attributes, logs.
func Visible(s string) string {
	pieces := Pieces(s)
	if len(pieces) == 1 && !pieces[0].Hidden {
		return s
	}
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.Text)
	}
	return b.String()
}

// Cut is [Visible], shortened to at most n characters with an ellipsis in place of the rest.
func Cut(s string, n int) string {
	// A stand-in is made of one character at least, so no more than n characters of s are ever needed.
	long := false
	if count := 0; len(s) > n {
		for i := range s {
			if count == n+1 {
				s, long = s[:i], true
				break
			}
			count++
		}
	}
	v := []rune(Visible(s))
	if len(v) <= n && !long {
		return string(v)
	}
	return string(v[:min(len(v), max(n-1, 0))]) + "…"
}

func standIn(b byte, r rune, n int) string {
	switch {
	case r == utf8.RuneError && n <= 1:
		return fmt.Sprintf("⟨%02X⟩", b)
	case r != ' ' && unicode.Is(unicode.Zs, r), !unicode.IsGraphic(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Variation_Selector, r), invisible(r):
		return fmt.Sprintf("⟨U+%04X⟩", r)
	}
	return ""
}

// invisible lists letters that draw nothing: Unicode calls them letters or marks, so no class finds them.
func invisible(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return false
}
