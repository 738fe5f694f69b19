package parts

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"countersign/termination"
)

func render(t *testing.T, c templ.Component) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLifeTone(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what       string
		used, left time.Duration
		want       Tone
	}{
		{"fresh", 0, 30 * day, OK},
		{"a fifth left", 24 * day, 6 * day, OK},
		{"less than a fifth left", 24*day + time.Hour, 6*day - time.Hour, Warn},
		{"less than a twentieth left", 29 * day, day, Bad},
		{"over", 30 * day, -time.Second, Bad},
		{"not begun", -time.Hour, 30 * day, Bad},
		{"a day, an hour left", 23 * time.Hour, time.Hour, Bad},
		{"a day, half left", 12 * time.Hour, 12 * time.Hour, OK},
		{"ten years, one left", 9 * 365 * day, 365 * day, OK},
		{"ten years, 29 days left", 3621 * day, 29 * day, Warn},
		{"ten years, 8 days left", 3642 * day, 8 * day, Warn},
		{"ten years, 6 days left", 3644 * day, 6 * day, Bad},
		{"never valid", 0, 0, Bad},
	} {
		if got := LifeTone(now.Add(-c.used), now.Add(c.left), now); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestLifeBar(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		life Life
		want []string
	}{
		{Life{From: now.Add(-34 * day), Until: now.Add(56 * day), Now: now}, []string{`aria-label="34 of 90 days used"`, `width="37.8%"`, "url(#hatch-ok)"}},
		{Life{From: now.Add(-33 * day), Until: now.Add(-3 * day), Now: now}, []string{"Validity of 30 days, over for 3 days", `width="100.0%"`, "url(#hatch-bad)"}},
		{Life{From: now.Add(day), Until: now.Add(31 * day), Now: now}, []string{"Validity of 30 days, not begun", `width="0.0%"`}},
		{Life{From: now, Until: now, Now: now}, []string{`width="100.0%"`}},
		{Life{From: now, Until: now.Add(-day), Now: now}, []string{`width="100.0%"`}},
		{Life{From: now, Until: now.Add(day), Now: now, Tone: Warn, Words: `<b>"`}, []string{"url(#hatch-warn)", `aria-label="&lt;b&gt;&#34;"`}},
	} {
		got := render(t, LifeBar(c.life))
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%q is missing in %s", want, got)
			}
		}
	}
}

// TestGlyphs: every outcome and beat has a drawing with words of its own.
func TestGlyphs(t *testing.T) {
	for _, c := range []struct {
		outcome termination.Outcome
		beat    termination.Beat
		resumed bool
		want    Glyph
	}{
		{termination.OutcomeVerified, 5, false, Glyph{"beats-verified", "verified"}},
		{termination.OutcomeVerified, 5, true, Glyph{"beats-resumed", "verified, session resumed"}},
		{termination.OutcomeOpen, 5, false, Glyph{"beats-open", "open, no verified client certificate"}},
		{termination.OutcomeOpen, 5, true, Glyph{"beats-resumed", "open, session resumed"}},
		{termination.OutcomePassed, 1, false, Glyph{"beats-passed", "passed through, not opened"}},
		{termination.OutcomeRefused, 4, false, Glyph{"beats-broken-4", "failed at client certificate"}},
		{termination.OutcomeRefused, 5, true, Glyph{"beats-broken-5", "failed at open"}},
		{termination.OutcomeClientRefused, 3, false, Glyph{"beats-broken-3", "failed at our certificate"}},
		{termination.OutcomeBrokenOff, 0, false, Glyph{"beats-broken-1", "failed at hello"}},
		{termination.OutcomeBrokenOff, 99, false, Glyph{"beats-broken-5", "failed at open"}},
		{"", 2, false, Glyph{"beats-broken-2", "failed at agreement"}},
	} {
		if got := GlyphOf(c.outcome, c.beat, c.resumed); got != c.want {
			t.Errorf("%s at %d, resumed %v: %+v, want %+v", c.outcome, c.beat, c.resumed, got, c.want)
		}
	}
	for _, o := range termination.Outcomes() {
		if OutcomeWords(o) == "" || OutcomeMark(o) == "" || OutcomeTone(o) == Plain {
			t.Errorf("%s has no words, mark or tone", o)
		}
		if OutcomeTone(o) == Bad && o.In() {
			t.Errorf("%s is in, and looks as if it were not", o)
		}
	}
}

func TestPathOf(t *testing.T) {
	for _, c := range []struct {
		e     termination.Endpoint
		words string
		label string
	}{
		{termination.Endpoint{TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: termination.UpstreamHTTP}, ClientAuth: termination.ClientAuth{Mode: termination.ModeRequire}}, "then plain HTTP to the upstream", "TLS, client proven"},
		{termination.Endpoint{TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: termination.UpstreamTCP}}, "then plain bytes to the upstream", "plain bytes"},
		{termination.Endpoint{TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: termination.UpstreamTLS}}, "sealed again to the upstream", "TLS, sealed again"},
		{termination.Endpoint{TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: termination.UpstreamBuiltin}}, "opened at the edge", "inside this process"},
		{termination.Endpoint{TerminateAt: termination.AtAgent, Upstream: termination.Upstream{Scheme: termination.UpstreamHTTP}}, "opened at the agent, then plain HTTP", "reads the name only"},
		{termination.Endpoint{TerminateAt: termination.AtAgent, Upstream: termination.Upstream{Scheme: termination.UpstreamTLS}}, "sealed again to the upstream", "TLS, sealed again"},
		{termination.Endpoint{TerminateAt: termination.AtUpstream, Upstream: termination.Upstream{Scheme: termination.UpstreamTCP}}, "only the server name is read here", "reads the name only"},
	} {
		got := render(t, Wire(PathOf(&c.e)))
		if !strings.Contains(got, c.words) || !strings.Contains(got, ">"+c.label+"<") {
			t.Errorf("%q or %q is missing in %s", c.words, c.label, got)
		}
	}
	small := PathOf(&termination.Endpoint{TerminateAt: termination.AtEdge})
	small.Height = 52
	if got := render(t, Wire(small)); strings.Contains(got, "<text") || !strings.Contains(got, `viewBox="0 0 760 52"`) {
		t.Errorf("a small wire has labels: %s", got)
	}
}

// TestHostileText: no component lets markup or invisible characters of a stranger through.
func TestHostileText(t *testing.T) {
	const hostile = "<script>alert(1)</script>\" onload=\"x\x00\u202e\xff"
	for name, c := range map[string]templ.Component{
		"Text":    Text(hostile),
		"Tag":     Tag(Bad, "✕", hostile),
		"Chain":   Chain([]ChainItem{{State: ChainGood, Name: hostile, Tag: hostile, Details: []string{hostile}}}),
		"Facts":   Facts([]Fact{{Name: "SNI", Value: hostile}}),
		"Verdict": Verdict(Bad, "✕", "refused", "hs_1", hostile, hostile),
		"Block":   Block(hostile),
		"Steps":   Progress("x", []Step{{Name: hostile}}),
		"error":   Field(Input{Name: "n", Error: hostile}),
	} {
		got := render(t, c)
		if strings.Contains(got, "<script") || strings.Contains(got, `" onload`) || strings.ContainsAny(got, "\x00\u202e") || strings.Contains(got, "\xff") {
			t.Errorf("%s: %q", name, got)
		}
		if !strings.Contains(got, "U+202E") {
			t.Errorf("%s hides what is hidden: %q", name, got)
		}
	}
	if got := render(t, Chain([]ChainItem{{Name: "x", Href: "javascript:alert(1)"}})); strings.Contains(got, "javascript:") {
		t.Errorf("a link runs script: %s", got)
	}
	if got := render(t, Code("c", "</pre><script>", "Copy")); strings.Contains(got, "<script>") {
		t.Errorf("Code: %s", got)
	}
	if got := render(t, CopyButton(`"><script>`, "it")); strings.Contains(got, "<script>") {
		t.Errorf("CopyButton: %s", got)
	}
}

func TestFieldsSayWhatIsWrong(t *testing.T) {
	f := Input{Name: "url", Label: "URL", Hint: "as in …", Error: "is empty", Value: `a"b`, Required: true, ReadOnly: true, Placeholder: "x"}
	for name, c := range map[string]templ.Component{"Field": Field(f), "Area": Area(f), "Select": Select(f, []Option{{Value: "a", Label: "A", Selected: true}}), "Segmented": Segmented(f, []Option{{Value: "a", Label: "A", Selected: true}})} {
		got := render(t, c)
		for _, want := range []string{`aria-invalid="true"`, `aria-describedby="f-url-hint f-url-error"`, `id="f-url-error"`, "is empty", "as in …"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing in %s", name, want, got)
			}
		}
	}
	fine := render(t, Field(Input{Name: "url", Label: "URL"}))
	if strings.Contains(fine, "aria-invalid") || strings.Contains(fine, "aria-describedby") || strings.Contains(fine, "error") {
		t.Errorf("a field without a hint or an error: %s", fine)
	}
	// The first line break after the tag is not part of the value (HTML standard, 13.1.2.5): one is added.
	if got := render(t, Area(Input{Name: "pem", Value: "\nx"})); !strings.Contains(got, ">\n\nx</textarea>") {
		t.Errorf("the text loses its first line break: %q", got)
	}
}
