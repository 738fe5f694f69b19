package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestBrowserCommand(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"xdg-open", "open", "rundll32"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	with := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for name, c := range map[string]struct {
		system string
		getenv func(string) string
		want   string
	}{
		"X11":     {"linux", with("DISPLAY", ":0"), "xdg-open"},
		"Wayland": {"linux", with("WAYLAND_DISPLAY", "wayland-0"), "xdg-open"},
		"console": {"linux", with(), ""},
		"BSD":     {"freebsd", with("DISPLAY", ":0"), "xdg-open"},
		"macOS":   {"darwin", with(), "open"},
		"Windows": {"windows", with(), "rundll32"},
	} {
		got := browserCommand(c.system, c.getenv)
		if c.want == "" && got != nil || c.want != "" && (len(got) == 0 || filepath.Base(got[0]) != c.want) {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if got := browserCommand("linux", with("DISPLAY", ":0")); got != nil {
		t.Errorf("without a program: %v", got)
	}
}

// The token must be in nobody's list of processes, nor in an environment that others can read.
func TestBrowserNeverGetsTheToken(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Fatalf("this test stands in for xdg-open; it needs Linux, not %s", runtime.GOOS)
	}
	bin, record := t.TempDir(), filepath.Join(t.TempDir(), "record")
	script := "#!/bin/sh\n{ echo \"$@\"; /usr/bin/env; /bin/cat \"$1\"; echo; echo END; } >" + record + "\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("DISPLAY", ":0")
	t.Setenv("COUNTERSIGN_PASSPHRASE", "correct horse battery")
	dir := dataDir(t)
	p := start(t, dir, func(o *appOptions) { o.Browse = openBrowser })
	var seen string
	eventually(t, "the browser is opened", func() bool {
		text, err := os.ReadFile(record)
		seen = string(text)
		return err == nil && strings.HasSuffix(seen, "END\n")
	})
	path := filepath.Join(dir, redirectFile)
	outside, page, found := strings.Cut(seen, "<!doctype html>")
	if !found || !strings.HasPrefix(outside, path+"\n") {
		t.Fatalf("the browser saw:\n%s", seen)
	}
	if strings.Contains(outside, "?t=") || strings.Contains(seen, "horse") {
		t.Errorf("a secret is in the arguments or the environment:\n%s", outside)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v, %v", info.Mode(), err)
	}
	_, address, _ := strings.Cut(page, "0; url=")
	address, _, _ = strings.Cut(address, `"`)
	if printed := link(t, p.out.String()); address == printed || !strings.HasPrefix(address, p.server.URL()+"/?t=") {
		t.Fatalf("the page leads to %q, and %q was printed", address, printed)
	}
	for _, l := range []string{address, link(t, p.out.String())} {
		if _, status := signIn(t, l); status != 303 {
			t.Errorf("%s: status %d", l, status)
		}
	}
	p.end()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file outlives the program: %v", err)
	}
}

func TestNobodyLooksAtAPipe(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{null, r, w} {
		if isTerminal(f) {
			t.Errorf("%s is taken for a terminal", f.Name())
		}
	}
}

func TestWritePrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	writeFile(t, path, []byte("before"))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writePrivate(path, []byte("after")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := writePrivate(filepath.Join(dir, "none", "file"), nil); err == nil {
		t.Error("wrote into a directory that is not there")
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writePrivate(filepath.Join(dir, "taken"), nil); err == nil {
		t.Error("wrote over a directory")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
