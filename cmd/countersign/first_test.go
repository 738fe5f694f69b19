package main

import (
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// The first minute of a new user: start, paste, see; then break it on purpose.
func TestFirstMinute(t *testing.T) {
	dir := dataDir(t)
	env := []string{"COUNTERSIGN_DATA=" + dir}
	p := spawn(t, env, "--dashboard", "127.0.0.1:0")
	t.Logf("a start in an empty directory answers after %v", p.started)
	printed := p.out.String()
	want := `^  dashboard  http://127\.0\.0\.1:\d+/\?t=[\w-]{43}        \(one-time link: a button, then a cookie\)
  try it     curl --cacert \S+/dev/local-ca\.pem --cert \S+/dev/[\w-]+\.pem https://demo\.localhost:\d+/
  stop       Ctrl-C
$`
	if !regexp.MustCompile(want).MatchString(printed) {
		t.Fatalf("printed:\n%s", printed)
	}
	if logged := p.err.String(); logged != "" {
		t.Errorf("logged:\n%s", logged)
	}
	curl := line(t, printed, "try it")
	out, errs, code := shell(t, curl)
	if code != 0 || !strings.HasPrefix(out, "You are "+userName()+".\nYou are the first client here.\n") {
		t.Fatalf("%s\nexit %d\n%s%s", curl, code, out, errs)
	}
	for name, c := range map[string]struct {
		command, says string
	}{
		"without --cert":   {regexp.MustCompile(` --cert \S+`).ReplaceAllString(curl, ""), "alert certificate required"},
		"a stranger":       {regexp.MustCompile(`( --cert \S+/dev/)\S+`).ReplaceAllString(curl, "${1}stranger.pem"), "alert unknown ca"},
		"without --cacert": {regexp.MustCompile(` --cacert \S+`).ReplaceAllString(curl, ""), "(60) SSL certificate problem: unable to get local issuer certificate"},
	} {
		out, errs, code := shell(t, c.command)
		if code == 0 || !strings.Contains(errs, c.says) {
			t.Errorf("%s: %s\nexit %d\n%s%s", name, c.command, code, out, errs)
		}
	}
	text, _, code := run(t, env, "token", "create", "test", "--scope", "read", "--json")
	var token struct{ Name, Scope, Token string }
	if err := json.Unmarshal([]byte(text), &token); err != nil || code != exitDone || token.Name != "test" || token.Scope != "read" {
		t.Fatalf("exit %d, %v: %s", code, err, text)
	}
	a := newAPI(t, printed, token.Token)
	verified := a.handshakes("outcome:verified", 1)
	if len(verified) != 1 || verified[0].Client.Name != userName() {
		t.Errorf("verified %+v", verified)
	}
	for filter, reason := range map[string]string{
		"outcome:refused reason:cert_missing": "cert_missing", "outcome:refused reason:ca_unknown": "ca_unknown", "outcome:client_refused": "",
	} {
		if got := a.handshakes(filter, 1); len(got) != 1 || reason != "" && got[0].Verdict.Reason != reason {
			t.Errorf("%s: %+v", filter, got)
		}
	}
	p.stop()
}

// signIn follows a link as a browser does and returns the status of the sign-in.
func signIn(t *testing.T, link string) (*http.Client, int) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Jar: jar, Transport: transport, Timeout: deadline, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base, token, found := strings.Cut(link, "/?t=")
	if !found {
		t.Fatalf("link %q", link)
	}
	r, err := http.NewRequest(http.MethodPost, base+"/sign-in", strings.NewReader(url.Values{"t": {token}, "who": {"rhea"}}.Encode())) // the client has a timeout
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", base)
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return c, res.StatusCode
}

func TestLinksSignInOnce(t *testing.T) {
	dir := dataDir(t)
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	out, errs, code := run(t, nil, "login", "--data", dir)
	if code != exitDone {
		t.Fatalf("login: exit %d: %s", code, errs)
	}
	asJSON, _, _ := run(t, nil, "login", "--data", dir, "--json")
	var third struct{ Link string }
	if err := json.Unmarshal([]byte(asJSON), &third); err != nil {
		t.Fatalf("%v in %s", err, asJSON)
	}
	links := map[string]bool{link(t, p.out.String()): true, strings.TrimSpace(out): true, third.Link: true}
	if len(links) != 3 {
		t.Fatalf("links repeat: %v", links)
	}
	for link := range links {
		for use, want := range []int{http.StatusSeeOther, http.StatusForbidden} {
			if _, status := signIn(t, link); status != want {
				t.Errorf("use %d of %s: status %d, want %d", use+1, link, status, want)
			}
		}
	}
	p.stop()
	if _, errs, code := run(t, nil, "login", "--data", dir); code != exitFailed || !strings.Contains(errs, "no gateway runs on "+dir) {
		t.Errorf("login without a gateway: exit %d: %s", code, errs)
	}
}

func TestTokens(t *testing.T) {
	dir := dataDir(t)
	if _, errs, code := run(t, nil, "token", "create", "a", "--scope", "read", "--data", dir); code != exitFailed || !strings.Contains(errs, "there is no store in "+dir) {
		t.Errorf("without a store: exit %d: %s", code, errs)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a refused command made the data directory: %v", err)
	}
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	read, _, code := run(t, nil, "token", "create", "reader", "--scope", "read", "--data", dir)
	if code != exitDone {
		t.Fatalf("exit %d", code)
	}
	a := newAPI(t, p.out.String(), strings.TrimSpace(read))
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/api/v1/endpoints", http.StatusOK},
		{http.MethodPost, "/api/v1/endpoints/demo/stop", http.StatusForbidden},
		{http.MethodDelete, "/api/v1/endpoints/demo", http.StatusForbidden},
	} {
		if status, err := a.ask(c.method, c.path, nil, nil); err != nil || status != c.status {
			t.Errorf("%s %s: status %d, want %d, %v", c.method, c.path, status, c.status, err)
		}
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"taken":      {[]string{"reader", "--scope", "admin"}, exitFailed, `another token named "reader"`},
		"bad name":   {[]string{"a/b", "--scope", "read"}, exitFailed, "choose another name"},
		"no scope":   {[]string{"b"}, exitUsage, "--scope must be read, operate or admin"},
		"bad scope":  {[]string{"b", "--scope", "root"}, exitUsage, `not "root"`},
		"no name":    {[]string{"--scope", "read"}, exitUsage, "give the token one name"},
		"many names": {[]string{"b", "c", "--scope", "read"}, exitUsage, "give the token one name"},
	} {
		out, errs, code := run(t, nil, append([]string{"token", "create", "--data", dir}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit %d, want %d: %s%s", name, code, c.code, out, errs)
		}
	}
	p.stop()
	// Without a gateway the store is opened directly.
	admin, errs, code := run(t, nil, "token", "create", "admin", "--scope", "admin", "--data", dir)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, errs)
	}
	p = spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	a = newAPI(t, p.out.String(), strings.TrimSpace(admin))
	if status, err := a.ask(http.MethodPost, "/api/v1/endpoints/demo/stop", nil, nil); err != nil || status != http.StatusOK {
		t.Errorf("status %d, %v", status, err)
	}
	p.stop()
}

func TestPassphrase(t *testing.T) {
	withoutRaceDetector(t) // which makes a passphrase cost ten times as much
	dir := dataDir(t)
	env := []string{"COUNTERSIGN_PASSPHRASE=correct horse battery"}
	p := spawn(t, env, "--data", dir, "--dashboard", "127.0.0.1:0")
	p.stop()
	for name, env := range map[string][]string{"none": nil, "another": {"COUNTERSIGN_PASSPHRASE=wrong"}} {
		if _, errs, code := run(t, env, "serve", "--data", dir, "--dashboard", "127.0.0.1:0"); code != exitStore || !strings.Contains(errs, "key file") || !strings.Contains(errs, "COUNTERSIGN_PASSPHRASE") {
			t.Errorf("passphrase %s: exit %d: %s", name, code, errs)
		}
	}
	if out, errs, code := run(t, env, "token", "create", "a", "--scope", "read", "--data", dir); code != exitDone || strings.Contains(out+errs, "horse") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestRestartKeepsTheDemo(t *testing.T) {
	dir := dataDir(t)
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	curl := line(t, p.out.String(), "try it")
	before := map[string]string{}
	for _, name := range demoFiles(t, dir) {
		text, err := os.ReadFile(filepath.Join(dir, demoDir, name))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = string(text)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Fatalf("exit %d: %s", code, p.err)
	}
	p = spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	if again := line(t, p.out.String(), "try it"); again != curl {
		t.Errorf("the second start says\n%s\nand the first said\n%s", again, curl)
	}
	for _, name := range demoFiles(t, dir) {
		if text, err := os.ReadFile(filepath.Join(dir, demoDir, name)); err != nil || string(text) != before[name] {
			t.Errorf("%s has changed, %v", name, err)
		}
	}
	if out, errs, code := shell(t, curl); code != 0 || !strings.HasPrefix(out, "You are ") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	p.stop()
}

// demoFiles lists the demo's files, which are for their owner alone.
func demoFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, demoDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", e.Name(), info.Mode())
		}
		names = append(names, e.Name())
	}
	if len(names) != 6 {
		t.Errorf("files %v", names)
	}
	return names
}
