package static

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func load(t *testing.T) *Assets {
	t.Helper()
	a, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestThirdPartySums compares every file of others with its line in THIRD-PARTY.txt, and finds files without a line.
func TestThirdPartySums(t *testing.T) {
	list, err := files.ReadFile("THIRD-PARTY.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.SplitSeq(string(list), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, " | ")
		if len(fields) != 5 {
			t.Errorf("line %q has %d fields, not file, version, licence, source and sum", line, len(fields))
			continue
		}
		data, err := files.ReadFile(fields[0])
		if err != nil {
			t.Error(err)
			continue
		}
		listed[fields[0]] = true
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != fields[4] {
			t.Errorf("%s has the sum %x, not the listed %s", fields[0], sum, fields[4])
		}
	}
	entries, err := files.ReadDir("third-party")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !listed["third-party/"+e.Name()] {
			t.Errorf("third-party/%s stands in no line of THIRD-PARTY.txt", e.Name())
		}
	}
}

// TestBudgets holds scripts and styles to the sizes that keep the first paint quick.
func TestBudgets(t *testing.T) {
	a := load(t)
	var own, all, style, raw int
	for _, name := range a.Names() {
		asset, _ := a.Get(strings.TrimPrefix(a.URL(name), Prefix))
		size := len(asset.Gzipped)
		switch path.Ext(name) {
		case ".js":
			all += size
			if !strings.HasPrefix(name, "htmx-") {
				own += size
				raw += len(asset.Data)
			}
		case ".css":
			all += size
			style += size
			if len(asset.Data) > 40<<10 {
				t.Errorf("the stylesheet has %d bytes, more than 40 KiB", len(asset.Data))
			}
		}
	}
	t.Logf("compressed: %d bytes of own scripts (%d raw), %d of style, %d with those of others", own, raw, style, all)
	for _, b := range []struct {
		what       string
		size, most int
	}{{"own scripts, raw", raw, 60 << 10}, {"own scripts, compressed", own, 23 << 10}, {"style, compressed", style, 11 << 10}, {"everything, compressed", all, 45 << 10}} {
		if b.size > b.most {
			t.Errorf("%s: %d bytes, more than %d", b.what, b.size, b.most)
		}
	}
}

// TestOwnScriptsAndSymbols finds what the policy header forbids, or what would insert text as markup.
func TestOwnScriptsAndSymbols(t *testing.T) {
	forbidden := regexp.MustCompile(`\.(innerHTML|outerHTML|insertAdjacentHTML|srcdoc)\b|document\.write|\beval\(|new Function\(|setAttribute\(['"]style['"]|setTimeout\(['"]`)
	entries, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != ".js" {
			continue
		}
		data, err := files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.FindString(string(data)); found != "" {
			t.Errorf("%s holds %q", e.Name(), found)
		}
	}
	sprite := load(t).Sprite()
	if found := regexp.MustCompile(`\sstyle=|<script|<style|\son[a-z]+=`).FindString(sprite); found != "" {
		t.Errorf("icons.svg holds %q", found)
	}
	ids := regexp.MustCompile(`\bid="([^"]+)"`).FindAllStringSubmatch(sprite, -1)
	seen := map[string]bool{}
	for _, m := range ids {
		if seen[m[1]] {
			t.Errorf("icons.svg has the id %q twice", m[1])
		}
		seen[m[1]] = true
	}
}

// TestStyleLayers checks that every rule stands in a cascade layer: one outside of all layers would win over all.
func TestStyleLayers(t *testing.T) {
	sheet, err := stylesheet()
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(string(sheet), "")
	depth, start := 0, 0
	for i, c := range text {
		switch c {
		case '{':
			if depth == 0 {
				if head := strings.TrimSpace(text[start:i]); !regexp.MustCompile(`^(@layer (reset|tokens|base|parts|pages))$`).MatchString(head) {
					t.Errorf("the rule %.60q stands in no layer", head)
				}
			}
			depth++
		case '}':
			depth--
			start = i + 1
		case ';':
			if depth == 0 {
				start = i + 1
			}
		}
	}
	if depth != 0 {
		t.Errorf("braces do not match: depth %d at the end", depth)
	}
}

// TestContrast computes the contrast of every pair of text and ground that pages use, in both themes (WCAG 2.2, 1.4.3
// and 1.4.11).
func TestContrast(t *testing.T) {
	data, err := files.ReadFile("css/00-tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]float64{}
	for _, m := range regexp.MustCompile(`--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)`).FindAllStringSubmatch(string(data), -1) {
		if _, again := colours[m[1]]; !again { // the second is that of prefers-contrast
			colours[m[1]] = [2]float64{luminance(t, m[2]), luminance(t, m[3])}
		}
	}
	texts := []string{"ink", "ink2", "ink3", "ok", "bad", "warn", "opq"}
	type pair struct {
		text, ground string
		least        float64
	}
	var pairs []pair
	for _, ground := range []string{"paper", "panel", "raise", "sunk"} {
		for _, text := range texts {
			pairs = append(pairs, pair{text, ground, 4.5})
		}
	}
	for _, tone := range []string{"ok", "bad", "warn", "opq"} {
		pairs = append(pairs, pair{tone, tone + "-bg", 4.5}, pair{"ink", tone + "-bg", 4.5}, pair{"ink2", tone + "-bg", 4.5})
	}
	pairs = append(pairs, pair{"paper", "ink", 4.5}, pair{"paper", "ink2", 4.5}, pair{"paper", "bad", 4.5}, pair{"focus", "paper", 3}, pair{"focus", "panel", 3})
	for _, p := range pairs {
		for i, theme := range []string{"light", "dark"} {
			a, ok1 := colours[p.text]
			b, ok2 := colours[p.ground]
			if !ok1 || !ok2 {
				t.Fatalf("no token %s or %s", p.text, p.ground)
			}
			if got := contrast(a[i], b[i]); got < p.least {
				t.Errorf("%s on %s, %s: %.2f, less than %.1f", p.text, p.ground, theme, got, p.least)
			}
		}
	}
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

func luminance(t *testing.T, hexColour string) float64 {
	t.Helper()
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(hexColour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func TestGet(t *testing.T) {
	a := load(t)
	name := strings.TrimPrefix(a.URL("app.css"), Prefix)
	asset, ok := a.Get(name)
	if !ok || asset.Type != "text/css; charset=utf-8" || asset.Gzipped == nil {
		t.Errorf("app.css: found %v, type %q, compressed %v", ok, asset.Type, asset.Gzipped != nil)
	}
	hash, _, _ := strings.Cut(name, "/")
	for _, p := range []string{"", "app.css", "0000000000000000/app.css", hash + "/", hash + "/css/00-tokens.css", hash + "/../doc.go", hash + "/static.go", hash + "//app.css"} {
		if _, ok := a.Get(p); ok {
			t.Errorf("%q was found", p)
		}
	}
	if b := load(t); b.URL("app.css") != a.URL("app.css") {
		t.Error("the hash differs between two starts")
	}
	for _, n := range []string{"app.css", "htmx-4.0.1.min.js", "icons.svg", "favicon.svg", "theme.js", "copy.js", "forms.js", "keys.js", "tabs.js", "beats.js", "welcome.js", "THIRD-PARTY.txt"} {
		if !slices.Contains(a.Names(), n) {
			t.Errorf("%s is missing", n)
		}
	}
}

// TestNothingIsSentThatNobodyReads finds comments and line breaks in what is sent, and names that were shortened where
// another file asks for them.
func TestNothingIsSentThatNobodyReads(t *testing.T) {
	a := load(t)
	imports := regexp.MustCompile(`import\{([^}]*)\}from"\./([a-z]+\.js)"`)
	for _, name := range a.Names() {
		asset, _ := a.Get(strings.TrimPrefix(a.URL(name), Prefix))
		if path.Ext(name) != ".js" || strings.HasPrefix(name, "htmx-") {
			continue
		}
		text := string(asset.Data)
		if strings.Contains(text, "/**") || strings.Contains(text, "@param") {
			t.Errorf("%s is sent with its comments", name)
		}
		for _, m := range imports.FindAllStringSubmatch(text, -1) {
			from, ok := a.Get(strings.TrimPrefix(a.URL(m[2]), Prefix))
			if !ok {
				t.Errorf("%s imports %s, which is missing", name, m[2])
				continue
			}
			for wanted := range strings.SplitSeq(m[1], ",") {
				wanted, _, _ = strings.Cut(strings.TrimSpace(wanted), " as ")
				if !regexp.MustCompile(`export[^;]*\b` + regexp.QuoteMeta(wanted) + `\b`).Match(from.Data) {
					t.Errorf("%s imports %s, which %s does not export", name, wanted, m[2])
				}
			}
		}
	}
}

func TestUnknownTypeIsRefused(t *testing.T) {
	if _, err := newAsset("picture.bmp", []byte{1}); err == nil {
		t.Error("a file without a known media type was taken")
	}
	small, err := newAsset("a.js", []byte("1"))
	if err != nil || small.Gzipped != nil {
		t.Errorf("one byte: %v, compressed to %d bytes", err, len(small.Gzipped))
	}
}
