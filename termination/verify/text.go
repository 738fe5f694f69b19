package verify

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"countersign/termination"
)

// Bounds of hostile text within a sentence, in characters.
const (
	maxNameText   = 80
	maxDetailText = 240
)

// visible makes hostile text fit to stand in a sentence, a log or a terminal: control characters, bidirectional
// overrides, zero-width and other invisible characters and broken UTF-8 become escapes, and the length is bounded to
// limit characters. What is left may still hold markup: whoever writes HTML escapes it as text.
func visible(s string, limit int) string {
	var b strings.Builder
	n := 0
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		piece := s[:size]
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, s[0])
		case !unicode.IsPrint(r) || invisible(r):
			piece = fmt.Sprintf(`\u{%x}`, r)
		}
		s = s[size:]
		n += utf8.RuneCountInString(piece)
		if n > limit {
			b.WriteString("…")
			break
		}
		b.WriteString(piece)
	}
	return b.String()
}

// invisible lists characters that Unicode calls printable but that leave no mark: Hangul fillers, the empty Braille
// pattern, variation selectors, the combining grapheme joiner.
func invisible(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef
}

// shellWord quotes s for a POSIX shell. It refuses what a shell or a terminal could read as anything but text; the
// caller then leaves it out.
func shellWord(s string) (string, bool) {
	if s == "" || len(s) > 256 || s[0] == '-' {
		return "", false
	}
	plain := true
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c >= 0x7f {
			return "", false
		}
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		plain = plain && (alnum || strings.IndexByte("._:/@%+=,-", c) >= 0)
	}
	if plain {
		return s, true
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", true
}

// certName names a certificate in a sentence: its common name, else its whole subject, else its best other name or
// serial number.
func certName(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return visible(c.Subject.CommonName, maxNameText)
	}
	if s := subjectName(c); s != "" {
		return s
	}
	if n := BestName(c); n.Name != "" {
		return n.Name
	}
	return serialName(c)
}

func serialName(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return "a certificate without a name"
	}
	return visible(fmt.Sprintf("serial number %x", c.SerialNumber), maxNameText)
}

func subjectName(c *x509.Certificate) string {
	return visible(termination.NameText(c.Subject), maxNameText)
}

// issuerName names the issuer that a certificate claims.
func issuerName(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return visible(c.Issuer.CommonName, maxNameText)
	}
	if s := termination.NameText(c.Issuer); s != "" {
		return visible(s, maxNameText)
	}
	return "an issuer without a name"
}

// stamp is a moment to the second, in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// span is a duration in the unit that a person would use.
func span(d time.Duration) string {
	if d < 0 {
		d = -d
	}
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "less than a second"
	case d < 2*time.Minute:
		return count(int(d/time.Second), "second")
	case d < 2*time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 2*day:
		return count(int(d/time.Hour), "hour")
	case d < 90*day:
		return count(int(d/day), "day")
	case d < 730*day:
		return count(int(d/(30*day)), "month")
	}
	return count(int(d/(365*day)), "year")
}

func count(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// list joins names for a sentence and bounds their number.
func list(names []string, limit int) string {
	if len(names) > limit {
		more := len(names) - limit
		names = append(append([]string(nil), names[:limit]...), fmt.Sprintf("%d more", more))
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
