package declared

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"countersign/store"
)

// maxFile bounds the configuration file and each file that it names.
const maxFile = 4 << 20

// Options are what [Read] needs besides the path.
type Options struct {
	Getenv func(string) (string, bool) // nil: os.LookupEnv
}

// Declaration is what a configuration file says.
type Declaration struct {
	store.Declared
	Path      string
	Dashboard Dashboard
	Files     []string // every file that was read, this one first: a change of any is a change of the declaration

	places map[string]place
}

// Dashboard is the section of that name. It takes effect at the next start.
type Dashboard struct {
	Listen string // empty: not said
	Hosts  []string
}

// Read reads a configuration file and the files that it names. An [Errors] lists everything that is wrong with it,
// apart from what only shows beside the rest of the configuration: for that there is [Declaration.Locate].
func Read(path string, o Options) (*Declaration, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, Errors{{File: path, Problem: err.Error(), Advice: "give the path of a readable file"}}
	}
	return parse(path, text, o)
}

func parse(path string, text []byte, o Options) (*Declaration, error) {
	if o.Getenv == nil {
		o.Getenv = os.LookupEnv
	}
	r := &reader{
		file: path, dir: filepath.Dir(path), getenv: o.Getenv,
		anchors: map[string]ast.Node{}, files: []string{path}, places: map[string]place{},
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, Errors{syntaxError(path, err)}
	}
	d := &Declaration{Path: path}
	switch docs := documents(file); len(docs) {
	case 0:
	case 1:
		r.document(docs[0], d)
	default:
		r.fail(docs[1], "the file holds more than one YAML document", "keep one, without --- between")
	}
	d.Files, d.places = r.files, r.places
	if len(r.errors) > 0 {
		slices.SortStableFunc(r.errors, func(a, b Error) int { return a.Line - b.Line })
		return nil, r.errors
	}
	return d, nil
}

func documents(f *ast.File) []ast.Node {
	var out []ast.Node
	for _, d := range f.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			out = append(out, d.Body)
		}
	}
	return out
}

func syntaxError(path string, err error) Error {
	e := Error{File: path, Problem: "this is no valid YAML: " + err.Error(), Advice: "check indentation, quotes and colons"}
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		e.Problem = "this is no valid YAML: " + syntax.GetMessage()
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	return e
}

func (r *reader) document(n ast.Node, d *Declaration) {
	r.mapping(n, "the file", map[string]field{
		"dashboard":    func(n ast.Node) { r.dashboard(n, &d.Dashboard) },
		"history":      func(n ast.Node) { r.history(n, &d.Declared) },
		"limits":       func(n ast.Node) { r.limits(n, &d.Declared) },
		"authorities":  func(n ast.Node) { r.authorities(n, &d.Declared) },
		"certificates": func(n ast.Node) { r.certificates(n, &d.Declared) },
		"defaults":     func(n ast.Node) { r.defaults(n, &d.Declared) },
		"endpoints":    func(n ast.Node) { r.endpoints(n, &d.Declared) },
	}, later{"agents", "acme", "identities", "blocked", "credentials"})
}

func (r *reader) dashboard(n ast.Node, d *Dashboard) {
	r.mapping(n, "dashboard", map[string]field{
		"listen": func(n ast.Node) { r.text(n, &d.Listen) },
		"hosts":  func(n ast.Node) { r.texts(n, "hosts", &d.Hosts) },
		"access": func(n ast.Node) {
			var access string
			r.text(n, &access)
			if access != "link" {
				r.fail(n, fmt.Sprintf("access: %q is not in this version", access), "use link")
			}
		},
	}, later{"tls"})
}

// readFile reads a file of bounded size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return text, nil
}

// readNamed reads a file that the configuration names; relative paths begin beside the configuration file.
func (r *reader) readNamed(n ast.Node) []byte {
	var path string
	before := len(r.errors)
	r.text(n, &path)
	if len(r.errors) > before {
		return nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	r.files = append(r.files, path)
	text, err := readFile(path)
	if err != nil {
		r.fail(n, "cannot read the file: "+err.Error(), "correct the path, or the file's mode")
		return nil
	}
	return text
}
