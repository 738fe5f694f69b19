package main

import (
	"path/filepath"
	"strings"
	"testing"

	"countersign/termination/tlstest"
)

// The command works alone; with a gateway it has its verdicts. The exit code says whether it passes.
func TestExplainCommand(t *testing.T) {
	alone, dir := dataDir(t), dataDir(t)
	spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	ca := tlstest.NewCA()
	good, expired := ca.Client("good").WriteFiles(t, t.TempDir()), ca.Client("expired", tlstest.Expired()).WriteFiles(t, t.TempDir())
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{good.Cert, "--data", alone}, exitDone, "A client certificate for good"},
		{[]string{expired.Cert, "--data", alone}, exitFailed, "BAD It ended"},
		{[]string{good.Key, "--data", alone}, exitDone, "not read, and is not kept"},
		{[]string{good.Cert, "--data", dir, "--endpoint", "demo"}, exitFailed, "demo: Would be refused"},
		{[]string{filepath.Join(dir, "dev", "stranger.pem"), "--data", dir, "--json"}, exitFailed, `"in": false`},
		{[]string{good.Cert, "--data", dir, "--endpoint", "nowhere"}, exitUsage, ""},
		{[]string{good.Cert, "--data", alone, "--endpoint", "demo"}, exitUsage, ""},
		{[]string{filepath.Join(alone, "nothing")}, exitUsage, ""},
		{nil, exitUsage, ""},
	} {
		out, errs, code := run(t, nil, append([]string{"explain"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.says) || c.code != exitDone && errs == "" || strings.Contains(out, "PRIVATE KEY-----") {
			t.Errorf("%v: exit %d: %s%s", c.args, code, out, errs)
		}
	}
}
