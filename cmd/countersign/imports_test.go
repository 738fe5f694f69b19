package main

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "countersign"

// rule says what the packages at a path may import. It is the table of docs/architecture.md.
type rule struct {
	path  string   // of a package, without the module; "/..." at the end: and all below
	ours  []string // packages of ours, likewise; nil: none
	other []string // prefixes of import paths from outside, beside the standard library
	files map[string][]string
}

// rules are looked through from the top; the first that fits counts.
func rules() []rule {
	words := []string{"termination"}
	return []rule{
		{path: "cmd/countersign", ours: []string{"..."}, other: []string{"github.com/spf13/cobra", "github.com/fsnotify/fsnotify"}, files: map[string][]string{"terminal.go": {"golang.org/x/term"}}},
		{path: "server/api", ours: []string{"store", "termination/..."}, other: []string{"github.com/danielgtaylor/huma/v2"}},
		{path: "server/client", ours: []string{"termination", "termination/live"}, other: []string{"github.com/gorilla/websocket"}},
		{
			path: "server/metrics", ours: []string{"termination", "termination/gateway", "termination/live", "termination/revocation"},
			other: []string{"github.com/prometheus/client_golang"},
		},
		{
			path: "server/otlp", ours: []string{"termination", "termination/live"},
			other: []string{"go.opentelemetry.io/otel"},
		},
		{
			path: "server", ours: []string{"views/...", "static", "store", "termination/...", "server/api"},
			other: []string{"github.com/labstack/echo/v4", "github.com/gorilla/websocket"},
			files: map[string][]string{"render.go": {"github.com/a-h/templ"}, "endpoints_yaml.go": {"github.com/goccy/go-yaml"}},
		},
		{path: "views/...", ours: []string{"termination", "termination/clienterror", "termination/explain", "termination/wire", "views/..."}, other: []string{"github.com/a-h/templ"}},
		{path: "store/declared", ours: []string{"store", "termination", "termination/unlock"}, other: []string{"github.com/goccy/go-yaml"}},
		{path: "store", ours: []string{"termination", "termination/expression"}, other: []string{"modernc.org/sqlite", "filippo.io/age", "golang.org/x/sys"}},
		{path: "static", other: []string{"github.com/tdewolff/minify/v2"}},
		{path: "termination", files: map[string][]string{"name.go": {"golang.org/x/net/idna"}}},
		{path: "termination/wire", other: []string{"golang.org/x/crypto/cryptobyte"}},
		{path: "termination/clienterror", ours: words},
		{path: "termination/explain", ours: []string{"termination", "termination/clienterror", "termination/unlock", "termination/wire"}},
		{path: "termination/expression", ours: words, other: []string{"cel.dev/cel-go"}},
		{path: "termination/rate", ours: words},
		{path: "termination/credential", ours: words, other: []string{"golang.org/x/crypto/bcrypt"}},
		{path: "termination/verify", ours: []string{"termination", "termination/expression", "termination/revocation"}, other: []string{"golang.org/x/crypto/cryptobyte"}},
		{path: "termination/simulation", ours: []string{"termination", "termination/revocation", "termination/verify"}},
		{path: "termination/terminate", ours: []string{"termination", "termination/wire", "termination/rate", "termination/revocation", "termination/verify"}},
		{path: "termination/revocation", ours: []string{"termination", "termination/outbound"}, other: []string{"golang.org/x/crypto/ocsp"}},
		{path: "termination/outbound"},
		{path: "termination/servercert"},
		{path: "termination/unlock", ours: words, other: []string{"golang.org/x/crypto/scrypt"}},
		{path: "termination/staple", ours: []string{"termination/outbound", "termination/servercert"}, other: []string{"golang.org/x/crypto/ocsp"}},
		{
			path: "termination/acme", ours: []string{"termination", "termination/servercert", "termination/sockets"},
			other: []string{"github.com/caddyserver/certmagic", "github.com/mholt/acmez/v3", "github.com/libdns/libdns", "github.com/miekg/dns", "go.uber.org/zap", "golang.org/x/net/netutil"},
		},
		{path: "termination/live", ours: words},
		{path: "termination/live/livetest", ours: []string{"termination", "termination/live"}},
		{path: "termination/upstream", ours: []string{"termination", "termination/proxyproto"}},
		{path: "termination/proxyproto"},
		{path: "termination/proxy", ours: []string{"termination", "termination/credential", "termination/expression", "termination/rate", "termination/upstream", "termination/verify"}, other: []string{"golang.org/x/net/http/httpguts"}},
		{path: "termination/tunnel/tunneltest", ours: []string{"termination", "termination/tunnel"}},
		{path: "termination/agent", ours: []string{"termination", "termination/gateway", "termination/localca", "termination/revocation", "termination/tunnel"}, other: []string{"golang.org/x/sys"}},
		{path: "termination/tunnel", ours: []string{"termination", "termination/localca", "termination/revocation"}, other: []string{"github.com/libp2p/go-yamux/v5"}},
		{path: "termination/sockets", other: []string{"golang.org/x/sys/unix"}},
		{path: "termination/localca", ours: words, other: []string{"software.sslmate.com/src/go-pkcs12"}},
		{
			path: "termination/gateway",
			ours: []string{"termination", "termination/wire", "termination/verify", "termination/terminate", "termination/servercert", "termination/expression", "termination/proxy", "termination/proxyproto", "termination/rate", "termination/revocation", "termination/upstream", "termination/localca", "termination/sockets", "termination/staple", "termination/tunnel"},
		},
		{path: "termination/doctor", ours: []string{"termination", "termination/wire"}},
		{path: "termination/proof", ours: []string{"termination", "termination/wire", "termination/localca"}},
		{path: "termination/tlstest", ours: words, other: []string{"golang.org/x/", "google.golang.org/grpc", "github.com/gorilla/websocket"}},
	}
}

// covers reports whether a pattern such as "views/..." stands for a path.
func covers(pattern, path string) bool {
	if base, all := strings.CutSuffix(pattern, "..."); all {
		return base == "" || path == strings.TrimSuffix(base, "/") || strings.HasPrefix(path, base)
	}
	return pattern == path
}

func ruleOf(path string) (rule, bool) {
	for _, r := range rules() {
		if covers(r.path, path) {
			return r, true
		}
	}
	return rule{}, false
}

// allows reports whether a file of a package may import a path.
func (r rule) allows(file, imported string) bool {
	if rest, ours := strings.CutPrefix(imported, module+"/"); ours {
		return slices.ContainsFunc(r.ours, func(p string) bool { return covers(p, rest) })
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return imported != "database/sql" || r.path == "store" // every line of SQL is there
	}
	return slices.ContainsFunc(append(slices.Clone(r.other), r.files[file]...), func(p string) bool {
		return imported == p || strings.HasPrefix(imported, strings.TrimSuffix(p, "/")+"/")
	})
}

// root is the directory of the module.
func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestImports(t *testing.T) {
	dir := root(t)
	packages := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != dir && (name == "bin" || name == "testdata" || name[0] == '.') {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		in, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		in = filepath.ToSlash(in)
		packages[in] = true
		r, known := ruleOf(in)
		if !known {
			t.Errorf("%s: no rule says what it may import; docs/architecture.md and this test need one", in)
			return nil
		}
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if !r.allows(filepath.Base(path), imported) {
				t.Errorf("%s/%s must not import %s: see docs/architecture.md", in, filepath.Base(path), imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules() {
		if !strings.HasSuffix(r.path, "...") && !packages[r.path] {
			t.Errorf("a rule speaks of %s, which is no package", r.path)
		}
	}
}

func TestRulesCanFail(t *testing.T) {
	for _, c := range []struct{ path, file, imported string }{
		{"termination", "config.go", "countersign/store"},
		{"termination", "config.go", "golang.org/x/net/idna"},
		{"termination/gateway", "conn.go", "countersign/server"},
		{"termination/gateway", "conn.go", "github.com/labstack/echo/v4"},
		{"termination/verify", "judge.go", "countersign/termination/gateway"},
		{"termination/gateway", "challenge.go", "countersign/termination/acme"},
		{"server", "certificates.go", "github.com/caddyserver/certmagic"},
		{"termination/proof", "expect.go", "countersign/termination/verify"},
		{"store", "store.go", "github.com/labstack/echo/v4"},
		{"store", "store.go", "github.com/goccy/go-yaml"},
		{"store", "store.go", "countersign/server"},
		{"views/parts", "parts.go", "countersign/store"},
		{"views", "live.go", "countersign/server"},
		{"server", "live.go", "github.com/a-h/templ"},
		{"server", "server.go", "database/sql"},
		{"server", "server.go", "modernc.org/sqlite"},
		{"server", "server.go", "countersign/store/declared"},
		{"server/api", "api.go", "github.com/labstack/echo/v4"},
		{"static", "static.go", "countersign/termination"},
	} {
		r, known := ruleOf(c.path)
		if !known || r.allows(c.file, c.imported) {
			t.Errorf("%s may import %s", c.path, c.imported)
		}
	}
}

// What a library of ours pulls in by way of others counts too: a program that embeds the gateway gets no SQL and no web
// framework with it. CEL brings a parser, protobuf and a YAML reader that it does not use here.
func TestTheGatewayStandsAlone(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard", module+"/termination/gateway").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	d := json.NewDecoder(strings.NewReader(string(out)))
	n := 0
	for d.More() {
		var p struct {
			ImportPath string
			Standard   bool
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		n++
		allowed := slices.ContainsFunc([]string{module + "/termination", "golang.org/x/", "software.sslmate.com/src/go-pkcs12", "github.com/libp2p/", "cel.dev/", "github.com/antlr4-go/", "google.golang.org/protobuf", "google.golang.org/genproto/", "go.yaml.in/yaml/"}, func(prefix string) bool {
			return strings.HasPrefix(p.ImportPath, prefix)
		})
		if !p.Standard && !allowed || p.ImportPath == "database/sql" {
			t.Errorf("the gateway depends on %s", p.ImportPath)
		}
	}
	if n < 50 {
		t.Errorf("go list knows %d packages", n)
	}
	if _, err := os.Stat(filepath.Join(root(t), "docs", "architecture.md")); err != nil {
		t.Error(err)
	}
}
