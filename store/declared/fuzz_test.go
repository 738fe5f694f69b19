package declared

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/termination"
)

// FuzzRead reads any text as a configuration. No file and no variable of the machine is touched.
func FuzzRead(f *testing.F) {
	f.Add([]byte(everything))
	for _, pattern := range []string{"testdata/refused/*.yaml", "testdata/invalid/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("no seeds in %s: %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	m := made()
	files := map[string][]byte{
		"ca.pem": m.ca.PEM(), "bundle.pem": append(m.ca.PEM(), m.intermediate.PEM()...), "other.der": m.other.DER,
		"server.pem": m.server.PEM(), "server.key": m.server.KeyPEM(), "both.pem": append(m.server.PEM(), m.server.KeyPEM()...),
	}
	readFile := func(path string, _ int64) ([]byte, error) {
		if data, ok := files[filepath.Base(path)]; ok {
			return append([]byte(nil), data...), nil
		}
		return nil, os.ErrNotExist
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parse("countersign.yaml", text, Options{Getenv: environment, readFile: readFile})
		if d == nil || d.Path != "countersign.yaml" || len(d.Files) == 0 {
			t.Fatalf("declaration %+v", d)
		}
		if err != nil {
			checkErrors(t, err, text)
			return
		}
		for _, e := range d.Endpoints {
			if !e.ClientAuth.Mode.Valid() || e.Origin != termination.OriginFile {
				t.Fatalf("endpoint %+v", e)
			}
			for _, route := range e.Routes {
				if route.ClientAuth != nil && !route.ClientAuth.Mode.Valid() {
					t.Fatalf("route %+v", route)
				}
			}
		}
		if err := config(d).Validate(); err != nil {
			checkErrors(t, d.Locate(err), text)
		}
	})
}

// checkErrors checks that errors can be shown: some text, within the file, no more than anybody reads.
func checkErrors(t *testing.T, err error, text []byte) {
	t.Helper()
	list, ok := errors.AsType[Errors](err)
	if !ok || len(list) == 0 {
		t.Fatalf("%T: %v", err, err)
	}
	lines := strings.Count(string(text), "\n") + 1
	for _, e := range list {
		if e.Problem == "" || e.File != "countersign.yaml" || e.Line < 0 || e.Line > lines+1 || e.Column < 0 || len(e.Error()) > 4000 {
			t.Fatalf("%d lines in the text, and an error %+v", lines, e)
		}
	}
}
