package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tdewolff/minify/v2"
	"github.com/tdewolff/minify/v2/css"
	"github.com/tdewolff/minify/v2/js"
)

//go:embed *.js *.svg THIRD-PARTY.txt css/*.css third-party
var files embed.FS

// Prefix is the path under which every file is served, before the hash.
const Prefix = "/static/"

// Asset is one file, ready to be sent.
type Asset struct {
	Type    string // media type
	Data    []byte
	Gzipped []byte // nil where compression gains nothing
}

// Assets are all files under the names by which pages ask for them.
type Assets struct {
	hash   string
	sprite string
	byName map[string]Asset
}

// Load reads, joins and compresses the embedded files.
func Load() (*Assets, error) {
	a := &Assets{byName: map[string]Asset{}}
	sheet, err := stylesheet()
	if err != nil {
		return nil, err
	}
	// Comments, spaces and long names are for those who read the sources: half of what would be sent.
	shorten := minify.New()
	shorten.AddFunc(".js", js.Minify)
	shorten.AddFunc(".css", css.Minify)
	if sheet, err = shorten.Bytes(".css", sheet); err != nil {
		return nil, fmt.Errorf("read the style sheet: %w", err)
	}
	contents := map[string][]byte{"app.css": sheet}
	err = fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) == ".css" {
			return err
		}
		data, err := files.ReadFile(p)
		if path.Ext(p) == ".js" && !strings.HasPrefix(p, "third-party/") {
			if data, err = shorten.Bytes(".js", data); err != nil {
				return fmt.Errorf("read %s: %w", p, err)
			}
		}
		contents[path.Base(p)] = data
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read embedded files: %w", err)
	}
	a.sprite = strings.TrimSpace(string(contents["icons.svg"]))
	sum := sha256.New()
	for _, name := range sortedNames(contents) {
		asset, err := newAsset(name, contents[name])
		if err != nil {
			return nil, err
		}
		a.byName[name] = asset
		fmt.Fprintf(sum, "%s %d\n", name, len(asset.Data))
		sum.Write(asset.Data)
	}
	a.hash = hex.EncodeToString(sum.Sum(nil))[:16]
	return a, nil
}

// Get returns the file asked for by a path below [Prefix], such as "0f3a…/app.css". A path with another hash than the
// current one finds nothing: it belongs to another version of the program.
func (a *Assets) Get(p string) (Asset, bool) {
	hash, name, ok := strings.Cut(p, "/")
	if !ok || hash != a.hash {
		return Asset{}, false
	}
	asset, ok := a.byName[name]
	return asset, ok
}

// URL returns the path of a file by its name.
func (a *Assets) URL(name string) string { return Prefix + a.hash + "/" + name }

// Has reports whether there is a file of that name.
func (a *Assets) Has(name string) bool { _, ok := a.byName[name]; return ok }

// Names returns the names of all files, sorted.
func (a *Assets) Names() []string { return sortedNames(a.byName) }

// Sprite returns the drawn symbols as one svg element, to be put into a page as it is.
func (a *Assets) Sprite() string { return a.sprite }

func stylesheet() ([]byte, error) {
	names, err := fs.Glob(files, "css/*.css")
	if err != nil {
		return nil, fmt.Errorf("list style files: %w", err)
	}
	slices.Sort(names)
	var out bytes.Buffer
	for _, n := range names {
		data, err := files.ReadFile(n)
		if err != nil {
			return nil, fmt.Errorf("read style file: %w", err)
		}
		out.Write(data)
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

func newAsset(name string, data []byte) (Asset, error) {
	types := map[string]string{
		".css": "text/css; charset=utf-8",
		".js":  "text/javascript; charset=utf-8",
		".svg": "image/svg+xml",
		".txt": "text/plain; charset=utf-8",
	}
	t, ok := types[path.Ext(name)]
	if !ok {
		return Asset{}, fmt.Errorf("no media type is known for the embedded file %q", name)
	}
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err != nil {
		return Asset{}, err
	}
	if _, err := w.Write(data); err != nil {
		return Asset{}, fmt.Errorf("compress %q: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return Asset{}, fmt.Errorf("compress %q: %w", name, err)
	}
	asset := Asset{Type: t, Data: data}
	if z.Len() < len(data) {
		asset.Gzipped = z.Bytes()
	}
	return asset, nil
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
