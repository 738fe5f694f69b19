package verify

import (
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestVisible(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"billing-batch", 80, "billing-batch"},
		{"Zoë Łódź 東京", 80, "Zoë Łódź 東京"},
		{`CORP\bob`, 80, `CORP\bob`},
		{"<img src=x onerror=alert(1)>", 80, "<img src=x onerror=alert(1)>"}, // text; whoever writes HTML escapes it
		{"a\x00b\nc\x1b[31m\x7f", 80, `a\u{0}b\u{a}c\u{1b}[31m\u{7f}`},
		{"\u202egpj.exe\u2066\u200b\ufeff\u00ad", 80, `\u{202e}gpj.exe\u{2066}\u{200b}\u{feff}\u{ad}`},
		{"a\u00a0b\u3000c\u2028", 80, `a\u{a0}b\u{3000}c\u{2028}`},
		{"\u3164\u2800\ufe0f\u115f", 80, `\u{3164}\u{2800}\u{fe0f}\u{115f}`},
		{"\xff\xfe\xc3", 80, `\xff\xfe\xc3`},
		{"abcdef", 3, "abc…"},
		{"ab\u202e", 3, "ab…"}, // an escape is never cut in the middle
		{"", 3, ""},
	} {
		if got := visible(tt.in, tt.limit); got != tt.want {
			t.Errorf("visible(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("billing", 10)
	f.Add("\u202e\x00\xff東\u0301", 5)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = min(max(limit, 0), 1000)
		got := visible(s, limit)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > limit+1 {
			t.Errorf("visible(%q, %d) = %q", s, limit, got)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("visible(%q, %d) = %q leaves something invisible", s, limit, got)
		}
	})
}

func TestShellWord(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"client.crt", "client.crt", true},
		{"https://api.example.com:8443/", "https://api.example.com:8443/", true},
		{"Devices CA", "'Devices CA'", true},
		{"it's", `'it'\''s'`, true},
		{"$(reboot)", "'$(reboot)'", true},
		{"a;b|c&d`e`", "'a;b|c&d`e`'", true},
		{"", "", false},
		{"-rf", "", false},
		{"a\nb", "", false},
		{"\u202e", "", false},
		{"\x00", "", false},
		{strings.Repeat("a", 300), "", false},
	} {
		got, ok := shellWord(tt.in)
		if got != tt.want || ok != tt.ok {
			t.Errorf("shellWord(%q) = %q, %v, want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

// A real shell has to read back what was quoted.
func TestShellWordInAShell(t *testing.T) {
	for _, s := range []string{"plain", "Devices CA", "it's", "$(reboot)", "a;b|c&d`e`", `\"!*?[]{}~#<>`, "$HOME", "''", "%s"} {
		word, ok := shellWord(s)
		if !ok {
			t.Fatalf("shellWord(%q) was refused", s)
		}
		out, err := exec.Command("sh", "-c", "printf '%s' "+word).Output()
		if err != nil || string(out) != s {
			t.Errorf("the shell reads %s as %q, %v", word, out, err)
		}
	}
}

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "less than a second"},
		{time.Second, "1 second"},
		{-119 * time.Second, "119 seconds"},
		{2 * time.Minute, "2 minutes"},
		{119 * time.Minute, "119 minutes"},
		{2 * time.Hour, "2 hours"},
		{47 * time.Hour, "47 hours"},
		{3 * 24 * time.Hour, "3 days"},
		{100 * 24 * time.Hour, "3 months"},
		{800 * 24 * time.Hour, "2 years"},
	} {
		if got := span(tt.d); got != tt.want {
			t.Errorf("span(%v) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestList(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"a", "b"}, "a and b"},
		{[]string{"a", "b", "c"}, "a, b and c"},
		{[]string{"a", "b", "c", "d", "e"}, "a, b, c and 2 more"},
	} {
		if got := list(tt.names, 3); got != tt.want {
			t.Errorf("list(%q) = %q, want %q", tt.names, got, tt.want)
		}
	}
	if got := alternatives([]string{"Salt and Pepper CA", "B"}, 3); got != "Salt and Pepper CA or B" {
		t.Errorf("alternatives: %q", got)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"api.example.com", "web.example.com", "*.shops.example.com", "payments.example.org"}
	for _, tt := range []struct {
		name string
		want string
	}{
		{"apl.example.com", "api.example.com"},
		{"payments.example.com", "payments.example.org"},
		{"payment.example.org", "payments.example.org"},
		{"shop.example.com", "*.shops.example.com"},
		{"completely.different.test", ""},
	} {
		got := nearest(tt.name, names)
		first := ""
		if len(got) > 0 {
			first = got[0]
		}
		if first != tt.want {
			t.Errorf("nearest(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
}
