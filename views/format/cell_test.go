package format_test

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"countersign/views/format"
)

func TestCell(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"checkout":             "checkout",
		"a=b":                  "a=b",
		"=cmd()":               "'=cmd()",
		"+1":                   "'+1",
		"-1":                   "'-1",
		"@SUM(A1)":             "'@SUM(A1)",
		`"=cmd()`:              `"'=cmd()`,
		`'=cmd()`:              `''=cmd()`,
		"  =cmd()":             "  '=cmd()",
		"＝cmd()":               "'＝cmd()",
		"a;=cmd()":             "a;'=cmd()",
		`a","=cmd()`:           `a","'=cmd()`,
		"a|-1":                 "a|'-1",
		"\t=cmd()":             "⟨U+0009⟩=cmd()",
		"\r\n=cmd()":           "⟨U+000D⟩⟨U+000A⟩=cmd()",
		"a\u202eb\x1b[31m\x00": "a⟨U+202E⟩b⟨U+001B⟩[31m⟨U+0000⟩",
		"\xff\xc3(":            "⟨FF⟩⟨C3⟩(",
		"payments-1.example":   "payments-1.example",
	} {
		if got := format.Cell(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if n := utf8.RuneCountInString(format.Cell(strings.Repeat("é", 10000))); n != 4000 {
		t.Errorf("10,000 characters become %d", n)
	}
}

// What Go's own reader makes of a line is what was written, and no cell of it begins a formula.
func FuzzCell(f *testing.F) {
	for _, s := range []string{"=cmd()", `"=1`, "a;=1", "\t-1", "\xff", "\u202e", "'", `","`, "\r\n+", "|@", strings.Repeat("=", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cell := format.Cell(s)
		line := format.CSV([]string{"ours", cell})
		got, err := csv.NewReader(strings.NewReader(line)).ReadAll()
		if err != nil || len(got) != 1 || len(got[0]) != 2 || got[0][1] != cell {
			t.Fatalf("%q is read as %q, %v", line, got, err)
		}
		if !utf8.ValidString(line) || strings.ContainsAny(cell, "\t\r\n\x00\x1b") {
			t.Errorf("%q is written as %q", s, line)
		}
		for part := range strings.FieldsFuncSeq(cell, func(r rune) bool { return strings.ContainsRune(",;|", r) }) {
			if first := strings.TrimLeft(part, "\"` "); first != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(first)[0]) {
				t.Errorf("%q begins a formula in %q", s, cell)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{"a", "\u202e", "\x9b31m", "\u009b", "\x7f", "\U000e0001", "é\u2028", `\"`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := json.MarshalIndent(map[string]string{"k": s}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		shown := format.JSON(raw)
		var before, after map[string]string
		if json.Unmarshal(raw, &before) != nil || json.Unmarshal(shown, &after) != nil || before["k"] != after["k"] {
			t.Errorf("%q became %s", s, shown)
		}
		if lines := strings.NewReplacer("\n", "", "\t", "").Replace(string(shown)); format.Visible(lines) != lines {
			t.Errorf("%s still hides something", shown)
		}
	})
}
