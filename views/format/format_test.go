package format

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"countersign/termination"
)

func TestInt(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 7: "7", 999: "999", 9999: "9999", 10000: "10\u2009000", 1234567: "1\u2009234\u2009567", -5: "\u22125", -12345: "\u221212\u2009345",
	} {
		if got := Int(n); got != want {
			t.Errorf("Int(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "no clients", 1: "1 client", 2: "2 clients", 12000: "12\u2009000 clients"} {
		if got := Count(n, "client", "clients"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		part, whole uint64
		want        string
	}{
		{0, 0, "–"},
		{0, 9, "0\u2009%"},
		{931, 1000, "93.1\u2009%"},
		{1, 2, "50\u2009%"},
		{7, 7, "100\u2009%"},
		{999999, 1000000, "99.9\u2009%"}, // one failure stays visible
	} {
		if got := Percent(c.part, c.whole); got != c.want {
			t.Errorf("Percent(%d, %d) = %q, want %q", c.part, c.whole, got, c.want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "–", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 5100: "5.1 kB", 99949: "99.9 kB", 999_949: "1000 kB", 999_950: "1.0 MB", 18_200_000: "18.2 MB", 123_456_789: "123 MB", 2_000_000_000: "2.0 GB", 1 << 62: "4.6 EB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestLimit(t *testing.T) {
	for n, want := range map[int]string{0: "0 B", 1000: "1.0 kB", 1024: "1 KiB", 64 << 10: "64 KiB", 1 << 20: "1 MiB", 1500 << 10: "1500 KiB"} {
		if got := Limit(n); got != want {
			t.Errorf("Limit(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		d                         time.Duration
		ms, duration, span, short string
	}{
		{-1, "–", "not run", "0 seconds", "0 s"},
		{0, "0.0", "0.0 ms", "0 seconds", "0 s"},
		{3900 * time.Microsecond, "3.9", "3.9 ms", "0 seconds", "0 s"},
		{99960 * time.Microsecond, "100", "100 ms", "0 seconds", "0 s"},
		{time.Second, "1000", "1000 ms", "1 second", "1 s"},
		{10 * time.Second, "10\u2009000", "10 seconds", "10 seconds", "10 s"},
		{90 * time.Second, "90\u2009000", "1 minute", "1 minute", "1 min"},
		{15 * time.Minute, "900\u2009000", "15 minutes", "15 minutes", "15 min"},
		{24 * time.Hour, "86\u2009400\u2009000", "24 hours", "24 hours", "24 h"},
		{7 * day, "604\u2009800\u2009000", "7 days", "7 days", "7 d"},
		{6 * 366 * day, "189\u2009734\u2009400\u2009000", "6 years", "6 years", "6 y"},
	} {
		if got := Milliseconds(c.d); got != c.ms && !strings.HasPrefix(c.ms, "189") {
			t.Errorf("Milliseconds(%v) = %q, want %q", c.d, got, c.ms)
		}
		if got := Duration(c.d); got != c.duration {
			t.Errorf("Duration(%v) = %q, want %q", c.d, got, c.duration)
		}
		if got := Span(c.d); got != c.span {
			t.Errorf("Span(%v) = %q, want %q", c.d, got, c.span)
		}
		if got := ShortSpan(c.d); got != c.short {
			t.Errorf("ShortSpan(%v) = %q, want %q", c.d, got, c.short)
		}
	}
	if got := Span(-3 * day); got != "3 days" {
		t.Errorf("Span of a negative length = %q", got)
	}
}

func TestFingerprints(t *testing.T) {
	f, err := termination.ParseFingerprint("3fa19c07b255" + strings.Repeat("00", 25) + "e0")
	if err != nil {
		t.Fatal(err)
	}
	if got := ShortFingerprint(f); got != "3f:a1:9c:07:b2:55…e0" {
		t.Errorf("short: %q", got)
	}
	if got := Fingerprint(f); len(got) != 95 || !strings.HasPrefix(got, "3F:A1:9C:") || !strings.HasSuffix(got, ":00:E0") {
		t.Errorf("long: %q", got)
	}
	if back, err := termination.ParseFingerprint(Fingerprint(f)); err != nil || back != f {
		t.Errorf("the long form is not read back: %v, %v", back, err)
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 58, 7, 912e6, time.UTC)
	c := Clock{Now: now, Zone: time.FixedZone("CET", 3600)}
	for _, v := range []struct{ what, got, want string }{
		{"time", c.Time(now), "15:58:07.912"},
		{"date", c.Date(now), "22 Nov"},
		{"date of another year", c.Date(now.AddDate(10, 0, 0)), "22 Nov 2036"},
		{"moment", c.Moment(now), "22 Nov 15:58 CET"},
		{"exact", c.Exact(now), "2026-11-22 14:58:07.912 UTC"},
		{"machine", c.Machine(now.In(c.Zone)), "2026-11-22T14:58:07.912Z"},
		{"now", c.Relative(now), "just now"},
		{"past", c.Relative(now.Add(-4 * time.Second)), "4 seconds ago"},
		{"future", c.Relative(now.Add(3 * time.Hour)), "in 3 hours"},
		{"six days", c.Relative(now.Add(-6 * 24 * time.Hour)), "6 days ago"},
		{"long ago", c.Relative(now.Add(-7 * 24 * time.Hour)), "15 Nov"},
		{"never", c.Relative(time.Time{}), "never"},
		{"left", c.Left(now.Add(-time.Hour), now.Add(56*24*time.Hour)), "56 days left"},
		{"ended", c.Left(now.Add(-99*time.Hour), now.Add(-72*time.Hour)), "ended 3 days ago"},
		{"early", c.Left(now.Add(2*time.Hour), now.Add(99*time.Hour)), "begins in 2 hours"},
		{"no zone", Clock{Now: now}.Time(now), "14:58:07.912"},
	} {
		if v.got != v.want {
			t.Errorf("%s: %q, want %q", v.what, v.got, v.want)
		}
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"":         "",
		"checkout": "checkout",
		"Bäckerei Żółć 株式会社 العربية": "Bäckerei Żółć 株式会社 العربية",
		"a b":                    "a b",
		"a\x00b":                 "a⟨U+0000⟩b",
		"\x1b[31mred":            "⟨U+001B⟩[31mred",
		"line\nbreak\r\ttab\x7f": "line⟨U+000A⟩break⟨U+000D⟩⟨U+0009⟩tab⟨U+007F⟩",
		"exe\u202egnp.txt":       "exe⟨U+202E⟩gnp.txt",
		"\u2066iso\u2069":        "⟨U+2066⟩iso⟨U+2069⟩",
		"zero\u200bwidth\ufeff":  "zero⟨U+200B⟩width⟨U+FEFF⟩",
		"no\u00a0break":          "no⟨U+00A0⟩break",
		"line\u2028sep":          "line⟨U+2028⟩sep",
		"tag\U000e0041":          "tag⟨U+E0041⟩",
		"hangul\u3164filler":     "hangul⟨U+3164⟩filler",
		"bad\xff\xfe":            "bad⟨FF⟩⟨FE⟩",
		"cut\xe2\x82":            "cut⟨E2⟩⟨82⟩",
		"real \ufffd stays":      "real \ufffd stays",
		"<b>&\"'":                "<b>&\"'", // escaping is the template's work
	} {
		if got := Visible(in); got != want {
			t.Errorf("Visible(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"short", 10, "short"},
		{"exactly10!", 10, "exactly10!"},
		{"eleven char", 10, "eleven ch…"},
		{"ab\x00", 10, "ab⟨U+0000⟩"},
		{"abc\x00", 10, "abc⟨U+000…"},
		{strings.Repeat("ż", 5), 5, "żżżżż"},
		{strings.Repeat("ż", 6), 5, "żżżż…"},
		{strings.Repeat("x", 1<<20), 3, "xx…"},
		{"", 0, ""},
	} {
		if got := Cut(c.in, c.n); got != c.want {
			t.Errorf("Cut(%.20q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00\x1b[2J", "\u202eabc", "\xff\xfe", "\xed\xa0\x80", strings.Repeat("\x00", 300), "\ufe0f\u200d\U000e0001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Visible(s)
		if !utf8.ValidString(got) {
			t.Errorf("Visible(%q) is no UTF-8", s)
		}
		if Visible(got) != got {
			t.Errorf("Visible(%q) = %q hides something still", s, got)
		}
		var joined strings.Builder
		for _, p := range Pieces(s) {
			if p.Text == "" {
				t.Errorf("Pieces(%q) has an empty piece", s)
			}
			joined.WriteString(p.Text)
		}
		if joined.String() != got {
			t.Errorf("Pieces(%q) and Visible differ", s)
		}
		if c := Cut(s, 12); utf8.RuneCountInString(c) > 12 {
			t.Errorf("Cut(%q, 12) = %q is longer", s, c)
		}
	})
}
