package main

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
	_ "modernc.org/sqlite"
)

func TestExitCodes(t *testing.T) {
	taken, _ := listener(t, "127.0.0.1:0")
	wrong := filepath.Join(t.TempDir(), "countersign.yaml")
	writeFile(t, wrong, []byte("endpoints:\n  - name: a\n    url: https://a.example.com\n    upstraem: whoami\n"))
	invalid := filepath.Join(t.TempDir(), "countersign.yaml")
	writeFile(t, invalid, []byte("endpoints:\n  - name: a\n    url: https://a.example.com\n    upstream: whoami\n    client_auth: {mode: require}\n"))
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, []byte("no directory"))
	exposed := filepath.Join(t.TempDir(), "exposed")
	if err := os.Mkdir(exposed, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(exposed, "notes.txt"), nil)
	for name, c := range map[string]struct {
		args []string
		code int
		says []string
		data bool // the data directory exists afterwards
	}{
		"no command":                {args: nil, code: exitDone},
		"help":                      {args: []string{"serve", "--help"}, code: exitDone},
		"unknown command":           {args: []string{"server"}, code: exitUsage, says: []string{`"server" is no command`, "serve"}},
		"unknown flag":              {args: []string{"serve", "--port", "1"}, code: exitUsage, says: []string{"--port"}},
		"an argument":               {args: []string{"serve", "x"}, code: exitUsage, says: []string{"takes no arguments"}},
		"unknown subcommand":        {args: []string{"token", "make"}, code: exitUsage, says: []string{`"make" is no command of countersign token`}},
		"dashboard off loopback":    {args: []string{"serve", "--dashboard", "0.0.0.0:7443"}, code: exitUsage, says: []string{"off loopback", "127.0.0.1"}},
		"dashboard of a name":       {args: []string{"serve", "--dashboard", "gw.example.com:7443"}, code: exitUsage, says: []string{"off loopback"}},
		"dashboard's port no port":  {args: []string{"serve", "--dashboard", "127.0.0.1:99999"}, code: exitUsage, says: []string{"host:port"}},
		"dashboard without port":    {args: []string{"serve", "--dashboard", "127.0.0.1"}, code: exitUsage, says: []string{"host:port"}},
		"dashboard's port taken":    {args: []string{"serve", "--dashboard", taken.String()}, code: exitAddress, says: []string{taken.String(), "another program uses it", "--dashboard"}, data: true},
		"configuration wrong":       {args: []string{"serve", "--config", wrong}, code: exitConfiguration, says: []string{wrong + ":4:5: ", `did you mean "upstream"?`, "nothing was applied"}},
		"configuration invalid":     {args: []string{"serve", "--config", invalid, "--dashboard", "127.0.0.1:0"}, code: exitConfiguration, says: []string{invalid + ":5:25: ", "needs an authority or a pin"}, data: true},
		"configuration missing":     {args: []string{"serve", "--config", wrong + ".none"}, code: exitConfiguration, says: []string{wrong + ".none: ", "no such file"}},
		"data directory is a file":  {args: []string{"serve", "--data", file}, code: exitFailed, says: []string{"--data"}},
		"data directory is exposed": {args: []string{"serve", "--data", exposed}, code: exitStore, says: []string{"open to other users", "chmod 700"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := dataDir(t)
			out, errs, code := run(t, []string{"COUNTERSIGN_DATA=" + dir}, c.args...)
			if code != c.code {
				t.Errorf("exit %d, want %d:\n%s%s", code, c.code, out, errs)
			}
			for _, s := range c.says {
				if !strings.Contains(errs, s) {
					t.Errorf("%q is not said in:\n%s", s, errs)
				}
			}
			if strings.Contains(out, "dashboard  http") {
				t.Errorf("it began to serve:\n%s", out)
			}
			if c.code != exitDone && !strings.HasPrefix(errs, "countersign: ") {
				t.Errorf("said:\n%s", errs)
			}
			if _, err := os.Stat(dir); (err == nil) != c.data {
				t.Errorf("the data directory: %v", err)
			}
		})
	}
}

func TestHelpNamesTheExitCodes(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"help", "serve"}, {"token"}, {"token", "create", "--help"}} {
		out, errs, code := run(t, nil, args...)
		if code != exitDone || !strings.Contains(out, "Exit codes: 0 done; 1 failed;") || errs != "" {
			t.Errorf("%v: exit %d:\n%s%s", args, code, out, errs)
		}
	}
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"| 0 | done |", "| 1 | failed", "| 2 | the command line", "| 3 | the configuration file", "| 4 | the data directory", "| 5 | the dashboard's address"} {
		if !strings.Contains(string(doc), line) {
			t.Errorf("docs/configuration.md lacks %q", line)
		}
	}
}

func TestFlagsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	(&program{}).serveCommand().Flags().VisitAll(func(f *pflag.Flag) {
		n++
		if !strings.Contains(string(doc), "| `--"+f.Name) {
			t.Errorf("docs/configuration.md does not name --%s", f.Name)
		}
	})
	if n < 5 {
		t.Errorf("serve has %d flags", n)
	}
}

func TestVersionAndCompletion(t *testing.T) {
	out, _, code := run(t, nil, "version")
	if code != exitDone || !strings.HasPrefix(out, "countersign dev\ngo1.") {
		t.Errorf("exit %d: %s", code, out)
	}
	out, _, code = run(t, nil, "version", "--json")
	if code != exitDone || !strings.Contains(out, `"version": "dev"`) {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _, code := run(t, nil, "completion", shell); code != exitDone || !strings.Contains(out, "countersign") {
			t.Errorf("%s: exit %d", shell, code)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := dataDir(t)
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	if _, errs, code := run(t, nil, "serve", "--data", dir, "--dashboard", "127.0.0.1:0"); code != exitStore || !strings.Contains(errs, "in use by another process") {
		t.Errorf("exit %d: %s", code, errs)
	}
	// The one that was there is unharmed.
	if out, errs, code := shell(t, line(t, p.out.String(), "try it")); code != 0 {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if _, errs, code := run(t, nil, "login", "--data", dir); code != exitDone {
		t.Errorf("login: exit %d: %s", code, errs)
	}
	p.stop()
	// A process that was killed leaves its lock and its socket, and neither is in the way.
	p = spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	p.signal(syscall.SIGKILL)
	p.wait()
	if _, errs, code := run(t, nil, "login", "--data", dir); code != exitFailed || !strings.Contains(errs, "no gateway runs") {
		t.Errorf("login after a kill: exit %d: %s", code, errs)
	}
	p = spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	if _, errs, code := run(t, nil, "login", "--data", dir); code != exitDone {
		t.Errorf("login: exit %d: %s", code, errs)
	}
	p.stop()
}

func TestStoresThatAreRefused(t *testing.T) {
	original := dataDir(t)
	p := start(t, original, nil)
	p.end()
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string)
		says string
	}{
		"written by a newer version": {func(t *testing.T, dir string) {
			db, err := sql.Open("sqlite", filepath.Join(dir, "countersign.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec("PRAGMA user_version = 9999"); err != nil {
				t.Fatal(err)
			}
		}, "written by a newer version"},
		"damaged in the middle": {func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "countersign.db"), func(b []byte) []byte {
				for i := 4096; i < len(b); i++ {
					b[i] ^= 0x5a
				}
				return b
			})
		}, "is damaged"},
		"cut off": {func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "countersign.db"), func(b []byte) []byte { return b[:len(b)/2] })
		}, "is damaged"},
		"of another program": {func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "countersign.db"), func([]byte) []byte { return bytes.Repeat([]byte("no database\n"), 1000) })
		}, "is no store of countersign"},
		"without its key file": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "store.key")) }, "key file"},
		"with a damaged key file": {func(t *testing.T, dir string) {
			change(t, filepath.Join(dir, "store.key"), func(b []byte) []byte { return b[:len(b)/2] })
		}, "key file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := dataDir(t)
			if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			c.harm(t, dir)
			before := snapshot(t, dir)
			for _, args := range [][]string{{"serve", "--dashboard", "127.0.0.1:0"}, {"token", "create", "a", "--scope", "read"}} {
				out, errs, code := run(t, []string{"COUNTERSIGN_DATA=" + dir}, args...)
				if code != exitStore || !strings.Contains(errs, c.says) || out != "" {
					t.Errorf("%s: exit %d:\n%s%s", args[0], code, out, errs)
				}
			}
			if after := snapshot(t, dir); before != after {
				t.Error("the refused store was changed")
			}
		})
	}
}

func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, f(b))
}

// snapshot returns what the two files hold that a refused start must leave as they are.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var all []byte
	for _, name := range []string{"countersign.db", "history.db"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return string(all)
}
