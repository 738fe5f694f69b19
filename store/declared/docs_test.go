package declared

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"countersign/termination"
)

func documentation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every example in the documentation is a file that loads.
func TestExamplesOfTheDocumentation(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(documentation(t), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d examples", len(blocks))
	}
	m := made()
	for i, block := range blocks {
		dir := t.TempDir()
		for name, data := range map[string][]byte{
			"devices-ca.pem": m.ca.PEM(), "partners-ca.pem": append(m.other.PEM(), m.intermediate.PEM()...), "internal-ca.pem": m.ca.PEM(),
			"api.pem": m.server.PEM(), "api.key": m.server.KeyPEM(),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, err := Read(write(t, dir, block[1]), Options{Getenv: environment})
		if err != nil {
			t.Errorf("example %d:\n%v", i+1, err)
			continue
		}
		c := config(d)
		c.LocalCAs = []termination.LocalCA{{Name: "local"}}
		if err := c.Validate(); err != nil {
			t.Errorf("example %d:\n%v", i+1, d.Locate(err))
		}
	}
}

// sections are texts with one wrong key in each mapping of the schema, and the heading under which its keys stand in the
// documentation, with what stands before the key there.
func sections() []struct{ text, heading, prefix string } {
	endpoint := "endpoints: [{name: a, url: https://a.example.com, upstream: https://10.0.0.1, %s}]"
	return []struct{ text, heading, prefix string }{
		{"dashboard: {XX: 1}", "## dashboard", ""},
		{"history: {XX: 1}", "## history", ""},
		{"log: {XX: 1}", "## log", ""},
		{"notifications: {XX: 1}", "## notifications", ""},
		{"telemetry: {otlp: {XX: 1}}", "## telemetry", "otlp."},
		{"limits: {XX: 1}", "## limits", ""},
		{"agents: {XX: 1}", "## agents", ""},
		{"acme: {XX: 1}", "## acme", ""},
		{"authorities: [{name: a, pem: x, XX: 1}]", "## authorities", ""},
		{"certificates: [{name: a, cert_file: x, XX: 1}]", "## certificates", ""},
		{"identities: [{name: a, pins: [x], XX: 1}]", "## identities", ""},
		{"blocked: [{pin: x, XX: 1}]", "## blocked", ""},
		{"credentials: [{name: a, XX: 1}]", "## credentials", ""},
		{"defaults: {client_auth: {XX: 1}}", "## defaults", "client_auth."},
		{fmt.Sprintf(endpoint, "XX: 1"), "## endpoints", ""},
		{fmt.Sprintf(endpoint, "tls: {XX: 1}"), "## endpoints", "tls."},
		{fmt.Sprintf(endpoint, "upstream_tls: {XX: 1}"), "## endpoints", "upstream_tls."},
		{fmt.Sprintf(endpoint, "upstream_policy: {XX: 1}"), "### upstream_policy", ""},
		{fmt.Sprintf(endpoint, "client_auth: {XX: 1}"), "### client_auth", ""},
		{fmt.Sprintf(endpoint, "routes: [{path: /a, XX: 1}]"), "### routes", ""},
	}
}

// The documentation has a line for every key that the reader knows, and the reader knows every key of such a line.
func TestDocumentationNamesEveryKey(t *testing.T) {
	doc := documentation(t)
	for _, s := range sections() {
		_, err := parse("x", []byte(s.text), Options{readFile: func(string, int64) ([]byte, error) { return nil, nil }})
		if err == nil {
			t.Fatalf("%s: accepted", s.text)
		}
		_, known, found := strings.Cut(err.Error(), `has no key "XX"; known are `)
		if !found {
			t.Fatalf("%s: %v", s.text, err)
		}
		known, _, _ = strings.Cut(known, "\n")
		_, section, found := strings.Cut(doc, "\n"+s.heading+"\n")
		if !found {
			t.Fatalf("no section %s", s.heading)
		}
		section, _, _ = strings.Cut(section, "\n#")
		for key := range strings.SplitSeq(known, ", ") {
			if !strings.Contains(section, "\n| `"+s.prefix+key+"` |") && !strings.Contains(section, "\n| `"+key+".") {
				t.Errorf("%s has no line for %s%s", s.heading, s.prefix, key)
			}
		}
		for _, line := range regexp.MustCompile("\n\\| `([a-z_.]+)` \\|[^\n]*\\|[^\n]*\\|").FindAllStringSubmatch(section, -1) {
			key, own := strings.CutPrefix(line[1], s.prefix)
			if !own || strings.Contains(key, ".") || s.heading == "### client_auth" && termination.Mode(key).Valid() {
				continue // of another mapping, or a mode
			}
			if !strings.Contains(", "+known+", ", ", "+key+", ") {
				t.Errorf("%s has a line for %s%s, which the reader does not know", s.heading, s.prefix, key)
			}
		}
	}
}

// What the documentation lists as a later version's is refused as such.
func TestDocumentationOfLaterKeys(t *testing.T) {
	_, list, found := strings.Cut(documentation(t), "\n## Not in this version\n")
	if !found {
		t.Fatal("no list")
	}
	list, _, _ = strings.Cut(list, "\n## ")
	text, err := os.ReadFile("testdata/refused/later_sections.txt")
	if err != nil {
		t.Fatal(err)
	}
	more, err := os.ReadFile("testdata/refused/later_endpoint.txt")
	if err != nil {
		t.Fatal(err)
	}
	refused := string(text) + string(more)
	for _, m := range regexp.MustCompile(`"([a-z_]+)" is not in this version`).FindAllStringSubmatch(refused, -1) {
		if key := m[1]; !strings.Contains(list, "`"+key) && !strings.Contains(list, key+"`") {
			if key != "xfcc" && key != "rfc9440" && key != "traefik" && key != "alb" {
				t.Errorf("%s is refused as a later version's and not listed", key)
			}
		}
	}
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(list, -1) {
		key := m[1]
		switch key {
		case "dashboard", "tls", "upstream_tls", "client_auth", "forward_identity", "nginx", "client_certificate", "pki":
			continue
		}
		if !strings.Contains(refused, `"`+key+`" is not in this version`) && key != "also" {
			t.Errorf("%s is listed and not refused as a later version's", key)
		}
	}
}
