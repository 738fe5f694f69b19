package declared

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
)

// maxFile bounds each file that the configuration file names, in bytes.
const maxFile = 4 << 20

// Options are what [Read] needs besides the path.
type Options struct {
	Getenv func(string) (string, bool) // nil: os.LookupEnv

	readFile func(path string, most int64) ([]byte, error) // nil: from the disk
}

// Declaration is what a configuration file says.
type Declaration struct {
	store.Declared
	Path      string
	Dashboard Dashboard
	Telemetry Telemetry
	Log       Log
	Warnings  []Warning
	Files     []string // every file that was read, this one first: a change of any is a change of the declaration

	places map[string]place
}

// Dashboard is the section of that name. It takes effect at the next start.
type Dashboard struct {
	Listen string // host:port; empty: not said
	Hosts  []string
}

// Read reads a configuration file and the files that it names. An [Errors] lists everything that is wrong with it,
// apart from what only shows beside the rest of the configuration: for that there is [Declaration.Locate].
//
// The declaration returned with an error holds nothing but Path and Files, so that somebody who waits for the error to be
// mended knows where to look.
func Read(path string, o Options) (*Declaration, error) {
	text, err := readFile(path, maxText)
	if err != nil {
		return &Declaration{Path: path, Files: []string{path}}, Errors{{File: path, Problem: "cannot read the file: " + err.Error(), Advice: "give the path of a readable file"}}
	}
	return parse(path, text, o)
}

func parse(path string, text []byte, o Options) (*Declaration, error) {
	if o.Getenv == nil {
		o.Getenv = os.LookupEnv
	}
	if o.readFile == nil {
		o.readFile = readFile
	}
	r := &reader{
		file: path, dir: filepath.Dir(path), getenv: o.Getenv, readFile: o.readFile,
		aliases: map[*ast.AliasNode]*ast.AnchorNode{}, files: []string{path}, places: map[string]place{},
	}
	d := &Declaration{Path: path}
	if root := r.syntax(text); root != nil {
		r.document(root, d)
		if r.failed == 0 {
			r.complete(&d.Declared)
		}
	}
	if r.failed > 0 {
		slices.SortStableFunc(r.errors, func(a, b Error) int { return a.Line - b.Line })
		if more := r.failed - len(r.errors); more > 0 {
			r.errors = append(r.errors, Error{File: path, Problem: fmt.Sprintf("%d more things are wrong", more), Advice: "mend the ones above first"})
		}
		return &Declaration{Path: path, Files: r.files}, r.errors
	}
	d.Files, d.places, d.Warnings = r.files, r.places, r.warnings
	return d, nil
}

func (r *reader) document(n ast.Node, d *Declaration) {
	r.mapping(n, "the file", map[string]field{
		"dashboard":     func(n ast.Node) { r.dashboard(n, &d.Dashboard) },
		"telemetry":     func(n ast.Node) { r.telemetry(n, &d.Telemetry) },
		"notifications": func(n ast.Node) { r.notifications(n, &d.Declared) },
		"log":           func(n ast.Node) { r.log(n, &d.Log) },
		"history":       func(n ast.Node) { r.history(n, &d.Declared) },
		"limits":        func(n ast.Node) { r.limits(n, &d.Declared) },
		"acme":          func(n ast.Node) { r.acme(n, &d.Declared) },
		"authorities":   func(n ast.Node) { r.authorities(n, &d.Declared) },
		"certificates":  func(n ast.Node) { r.certificates(n, &d.Declared) },
		"agents":        func(n ast.Node) { r.agents(n, &d.Declared) },
		"defaults":      func(n ast.Node) { r.defaults(n, &d.Declared) },
		"endpoints":     func(n ast.Node) { r.endpoints(n, &d.Declared) },
		"identities":    func(n ast.Node) { r.identities(n, &d.Declared) },
		"blocked":       func(n ast.Node) { r.blocked(n, &d.Declared) },
		"credentials":   func(n ast.Node) { r.credentials(n, &d.Declared) },
	}, nil)
}

var errNotRegular = errors.New("it is no regular file")

// readFile reads a file of bounded size. A pipe or a device would be another one at the next reload, or never end.
func readFile(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s is larger than %s", path, sizeInWords(most))
	}
	return text, nil
}

// namedFile is a file that the configuration names.
type namedFile struct {
	node ast.Node
	path string
	data []byte
}

// readNamed reads a file that the configuration names. Relative paths begin beside the configuration file or, where there
// is no such file, in the working directory, as most gateways have it. Nil means that it could not, and that this was
// noted.
func (r *reader) readNamed(n ast.Node) *namedFile { return r.readNamedUpTo(n, maxFile) }

// readNamedUpTo is readNamed for files of at most that many bytes.
func (r *reader) readNamedUpTo(n ast.Node, most int64) *namedFile {
	var path string
	if !r.text(n, &path) {
		return nil
	}
	if path == "" {
		r.fail(n, "there is no path", "give the path of a file, from the directory of this one")
		return nil
	}
	candidates := []string{path}
	if !filepath.IsAbs(path) {
		candidates = []string{filepath.Join(r.dir, path), path}
	}
	path = candidates[0]
	data, err := r.readFile(path, most)
	if len(candidates) > 1 && errors.Is(err, fs.ErrNotExist) {
		if fallback, ferr := r.readFile(candidates[1], most); ferr == nil {
			path, data, err = candidates[1], fallback, nil
		}
	}
	r.files = append(r.files, path)
	if err != nil {
		r.fail(n, "cannot read the file: "+err.Error(), "correct the path, or the file's mode")
		return nil
	}
	return &namedFile{node: n, path: path, data: data}
}
