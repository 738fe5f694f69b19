package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// names are those of every series that a scrape can have.
func names(t *testing.T) map[string]bool {
	t.Helper()
	m, _ := everything(time.Now)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range families {
		known[f.GetName()] = true
		if f.GetType().String() == "HISTOGRAM" {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				known[f.GetName()+suffix] = true
			}
		}
	}
	return known
}

// TestDashboardAndAlertsAskForWhatThereIs: a panel or an alert that asks for a metric of another name is silent for ever.
func TestDashboardAndAlertsAskForWhatThereIs(t *testing.T) {
	known := names(t)
	metric := regexp.MustCompile(`\b(?:countersign|process|go)_[a-z0-9_]+\b`)
	for _, path := range []string{"../../docs/grafana/countersign.json", "../../docs/prometheus/alerts.yaml"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".json") {
			var d struct {
				Panels []struct {
					Title   string
					Type    string
					Targets []struct{ Expr string }
				}
				Templating struct {
					List []struct{ Name, Definition string }
				}
			}
			if err := json.Unmarshal(text, &d); err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, p := range d.Panels {
				if p.Type != "row" && len(p.Targets) == 0 {
					t.Errorf("%s asks for nothing", p.Title)
				}
				for _, q := range p.Targets {
					all = append(all, q.Expr)
				}
			}
			for _, v := range d.Templating.List {
				all = append(all, v.Definition)
			}
			text = []byte(strings.Join(all, "\n"))
		}
		asked := metric.FindAllString(string(text), -1)
		if len(asked) < 10 {
			t.Errorf("%s asks for %d metrics", path, len(asked))
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(asked))) {
			if !known[name] {
				t.Errorf("%s asks for %s, which does not exist", path, name)
			}
		}
	}
}

func TestEveryMetricIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/observing.md")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/names.golden")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(golden)) {
		name, _, _ := strings.Cut(line, "{")
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/observing.md does not name %s", name)
		}
	}
}
