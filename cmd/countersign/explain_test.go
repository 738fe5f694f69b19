package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"countersign/termination/tlstest"
)

// The command works alone; with a gateway it has its verdicts. The exit code says whether it passes.
func TestExplainCommand(t *testing.T) {
	alone, dir := dataDir(t), dataDir(t)
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	locked := strings.TrimSuffix(regexp.MustCompile(`--cert (\S+)`).FindStringSubmatch(line(t, p.out.String(), "try it"))[1], ".pem") + ".p12"
	ca := tlstest.NewCA()
	good, expired := ca.Client("good").WriteFiles(t, t.TempDir()), ca.Client("expired", tlstest.Expired()).WriteFiles(t, t.TempDir())
	files := t.TempDir()
	junk := filepath.Join(files, "junk.bin")
	writeFile(t, junk, []byte{0, 1, 2, 0xff})
	der := []string{filepath.Join(files, "good.der"), filepath.Join(files, "other.der")}
	writeFile(t, der[0], ca.Client("good").DER)
	writeFile(t, der[1], ca.Client("other").DER)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{good.Cert, "--data", alone}, exitDone, "A client certificate for good"},
		{[]string{expired.Cert, "--data", alone}, exitFailed, "BAD It ended"},
		{[]string{der[0], der[1], "--data", alone}, exitDone, "A client certificate for other"},
		{[]string{der[0], der[1], "--data", alone}, exitDone, der[1] + ":\n"},
		{[]string{good.Key, "--data", alone}, exitDone, "not read, and is not kept"},
		{[]string{good.Cert, "--data", dir, "--endpoint", "demo"}, exitFailed, "demo: Would be refused"},
		{[]string{filepath.Join(dir, "dev", "stranger.pem"), "--data", dir, "--json"}, exitFailed, `"in": false`},
		{[]string{good.Cert, "--data", dir, "--endpoint", "nowhere"}, exitUsage, ""},
		{[]string{good.Cert, "--data", alone, "--endpoint", "demo"}, exitUsage, ""},
		{[]string{good.Key, "--data", dir, "--endpoint", "demo"}, exitUsage, ""},
		{[]string{locked, "--data", alone}, exitUsage, "could not be opened"},
		{[]string{locked, "--data", alone, "--password-file", filepath.Join(dir, demoDir, filePassword)}, exitDone, "A client certificate for"},
		{[]string{locked, "--data", alone, "--password-file", filepath.Join(alone, "nothing")}, exitUsage, ""},
		{[]string{filepath.Join(alone, "nothing")}, exitUsage, ""},
		{[]string{junk, "--data", alone}, exitUsage, "unreadable"},
		{nil, exitUsage, ""},
	} {
		out, errs, code := run(t, nil, append([]string{"explain"}, c.args...)...)
		if len(c.args) > 0 && c.args[0] == locked && code == exitUsage && !strings.Contains(errs, "--password-file") {
			t.Errorf("%v: it does not say how to give the password: %s", c.args, errs)
		}
		if code != c.code || !strings.Contains(out, c.says) || c.code != exitDone && errs == "" || strings.Contains(out, "PRIVATE KEY-----") {
			t.Errorf("%v: exit %d: %s%s", c.args, code, out, errs)
		}
	}
}
