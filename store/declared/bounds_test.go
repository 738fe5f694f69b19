package declared

import (
	"fmt"
	"strings"
	"testing"
)

// Texts that would take the parser, or the reader, out of all proportion. Each must be refused; a bound that is missing
// shows as a test that runs out of time or stack.
func TestBounds(t *testing.T) {
	keys := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	half := maxText / 2
	for name, text := range map[string]string{
		"too large":            strings.Repeat("# comment\n", maxText/10+1),
		"brackets":             strings.Repeat("[", half),
		"braces":               strings.Repeat("{a: ", half/4),
		"dashes":               strings.Repeat("- ", half),
		"dashes in brackets":   "a: [" + strings.Repeat("- ", half-9),
		"question marks":       strings.Repeat("? ", half),
		"tags":                 strings.Repeat("! ", half),
		"anchors":              strings.Repeat("&a ", half/3),
		"colons":               strings.Repeat(": ", half),
		"keys":                 keys(50_000, "k%d: v\n"),
		"keys with braces":     keys(50_000, "k%d: {}\n"),
		"keys in braces":       "a: {" + keys(50_000, "k%d: v, ") + "}",
		"keys below keys":      keys(500, "k%d: {a: b}\n") + "a:\n" + keys(50_000, "  k%d: v\n"),
		"keys in one list":     "endpoints:\n - " + keys(50_000, "   k%d: v\n"),
		"quotes":               strings.Repeat("'", maxText),
		"one long line":        "a: " + strings.Repeat("b", half),
		"one long key":         strings.Repeat("b", half) + ": 1",
		"an unknown long word": "endpoints: [{name: " + strings.Repeat("b", half) + "}]",
		"documents":            strings.Repeat("---\n", half/4),
		"aliases of aliases": "endpoints:\n - &e {name: a, url: 'https://a.example.com', upstream: whoami, routes: &r [" +
			strings.Repeat("{path: /a},", 2000) + "]}\n" + strings.Repeat(" - *e\n", 20_000),
		"an alias of itself": "endpoints: &e [*e, *e]",
	} {
		_, err := parse("countersign.yaml", []byte(text), Options{Getenv: environment})
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		checkErrors(t, err, []byte(text))
	}
}

// A configuration of a size that is large, and still within reason.
func TestLargeConfiguration(t *testing.T) {
	var b strings.Builder
	b.WriteString("endpoints:\n")
	const n = 4000
	for i := range n {
		fmt.Fprintf(&b, "  - name: e%d\n    url: https://e%d.example.com:8443\n    upstream: http://127.0.0.1:8080\n    client_auth: {mode: require, authorities: [devices]}\n", i, i)
	}
	if d := read(t, b.String()); len(d.Endpoints) != n {
		t.Errorf("%d endpoints", len(d.Endpoints))
	}
}
