package store

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds names and remarks that people type.
const maxText = 256

// checkText refuses text that would not come back from the database, or from a page, as it went in: SQLite's text
// functions stop at NUL, and control characters and bidirectional marks deceive whoever reads a log.
func checkText(field, s string) error {
	switch {
	case s == "":
		return TextError{Field: field, Problem: "is empty"}
	case len(s) > maxText:
		return TextError{Field: field, Problem: "is longer than 256 bytes"}
	case !utf8.ValidString(s):
		return TextError{Field: field, Problem: "is not valid UTF-8"}
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return TextError{Field: field, Problem: "holds control characters"}
		}
	}
	return nil
}

// cleanText makes text that a stranger sent fit to be stored: what checkText refuses becomes U+FFFD, and what is too long
// is cut.
func cleanText(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s[:min(len(s), maxText)], string(utf8.RuneError)))
	for len(s) > maxText { // U+FFFD is longer than what it stands for
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
