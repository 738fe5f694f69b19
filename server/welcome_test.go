package server

import (
	"bytes"
	"html"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
)

// exampleDemo is what a first start leaves behind, without the files.
func exampleDemo(t *testing.T) *Demo {
	t.Helper()
	return &Demo{
		Dir: t.TempDir(), CA: "local-ca.pem", Client: "rhea.pem", Stranger: "stranger.pem", P12: "rhea.p12", P12Apple: "rhea-apple.p12",
		P12Password: "gentle-otter-47", User: "rhea", Endpoint: "demo", Host: "demo.localhost:8443", Listen: "127.0.0.1:8443",
	}
}

// realDemo makes the demo: a local CA, the files, and an endpoint that listens.
func realDemo(t *testing.T) *fixture {
	t.Helper()
	d := exampleDemo(t)
	// A directory that a shell would take apart.
	d.Dir = filepath.Join(d.Dir, "it's a dir $HOME")
	l, err := net.Listen("tcp", "127.0.0.1:0") // closed at once: it only finds a free port
	if err != nil {
		t.Fatal(err)
	}
	d.Listen = l.Addr().String()
	_ = l.Close()
	address := netip.MustParseAddrPort(d.Listen)
	_, port, _ := net.SplitHostPort(d.Listen)
	d.Host = "demo.localhost:" + port

	f := signedIn(t, func(o *Options) { o.Demo = d })
	ca, err := localca.Create(localca.Options{Name: "Local CA", Constrained: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Change(t.Context(), store.Actor{Name: "first start", Via: "start"}, func(tx *store.Tx) error {
		_, err := tx.CreateAuthority(termination.Authority{Name: ca.Name, Certificates: []termination.CACertificate{{Certificate: ca.Certificate, Role: termination.RoleAnchor}}})
		if err != nil {
			return err
		}
		if err := tx.CreateLocalCA(ca.Name, ca.Key, true); err != nil {
			return err
		}
		_, err = tx.CreateEndpoint(termination.Endpoint{
			Name: "demo", Enabled: true, Scheme: termination.SchemeHTTPS, Host: "demo.localhost", Listen: address.Addr(), Port: address.Port(),
			TerminateAt: termination.AtEdge, Certificates: []string{termination.CertificateLocal},
			Upstream:   termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
			ClientAuth: termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{ca.Name}, Announce: true, OnLoss: termination.OnLossClose},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(d.Dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(d.CA, localca.EncodePEM(ca.Certificate), nil)
	client, err := localca.IssueClient(ca, localca.ClientRequest{Name: "rhea", Days: 30, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := client.BundlePEM()
	write(d.Client, bundle, err)
	stranger, err := localca.Stranger(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err = stranger.BundlePEM()
	write(d.Stranger, bundle, err)
	return f
}

// commands returns the text of every box of code on the page, by its id.
func (r reply) commands() map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)<pre class="code" id="([^"]+)"[^>]*>(.*?)</pre>`).FindAllStringSubmatch(r.body, -1) {
		out[m[1]] = html.UnescapeString(m[2])
	}
	return out
}

// shell runs a command as a person pastes it.
func shell(t *testing.T, command string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), "sh", "-c", command)
	c.Stdout, c.Stderr = &out, &errs
	c.Env = append(os.Environ(), "LC_ALL=C")
	err = c.Run()
	return out.String(), errs.String(), err
}

// TestTheFirstMinute runs the commands of the page with the real curl: the one that works, and the three that break it.
func TestTheFirstMinute(t *testing.T) {
	f := realDemo(t)
	page := f.get("/welcome")
	commands := page.commands()
	out, errs, err := shell(t, commands["curl-unix"])
	if err != nil || !strings.Contains(out, "rhea") {
		t.Fatalf("%s\n%v\n%s%s", commands["curl-unix"], err, out, errs)
	}
	expected := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)data-copy="(break-[a-z-]+)".*?<p>(.*?)</p>`).FindAllStringSubmatch(page.body, -1) {
		expected[m[1]] = html.UnescapeString(m[2])
	}
	if len(expected) != 3 {
		t.Fatalf("the page has %d ways to break it: %v", len(expected), expected)
	}
	for id, words := range expected {
		_, errs, err := shell(t, commands[id])
		if err == nil {
			t.Errorf("%s works", commands[id])
			continue
		}
		rest := errs
		for part := range strings.SplitSeq(words, "…") {
			_, after, found := strings.Cut(rest, strings.TrimSpace(part))
			if !found {
				t.Errorf("%s\nsays %q, the page promises %q", commands[id], errs, words)
			}
			rest = after
		}
	}
}

// TestDoItForMe makes the handshake from inside the process; the page says so, and shows it once it is in the history.
func TestDoItForMe(t *testing.T) {
	f := realDemo(t)
	got := f.post("/welcome/try", url.Values{})
	if got.status != http.StatusOK || !strings.Contains(got.body, "to this process, not to curl") || !strings.Contains(got.body, "200 OK") || !strings.Contains(got.body, "rhea") {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	closeAll(t, f.hub.Close) // everything is in the history then
	page := f.get("/welcome")
	if !strings.Contains(page.body, "rhea is in.") || !strings.Contains(page.body, `href="/handshakes/hs_`) {
		t.Errorf("the page afterwards: %s", page.body)
	}
}

func TestDoItForMeFails(t *testing.T) {
	f := signedIn(t, func(o *Options) { o.Demo = exampleDemo(t) })
	got := f.post("/welcome/try", url.Values{})
	if got.status != http.StatusOK || !strings.Contains(got.body, "That did not work, from this process") || !strings.Contains(got.body, "no such file") {
		t.Errorf("without the files: status %d: %s", got.status, got.body)
	}
	none := signedIn(t, nil)
	if got := none.post("/welcome/try", url.Values{}); got.status != http.StatusNotFound {
		t.Errorf("without a demo: status %d", got.status)
	}
	if got := none.get("/welcome"); got.status != http.StatusOK || strings.Contains(got.body, "curl") {
		t.Errorf("the page without a demo: status %d: %s", got.status, got.body)
	}
}

// TestWelcomeInABrowser watches the first handshake arrive, then one that is refused.
func TestWelcomeInABrowser(t *testing.T) {
	f := realDemo(t)
	b := openBrowser(t)
	b.size(1280, 1000)
	b.signIn(f)
	b.open(f.URL() + "/welcome")
	commands := f.get("/welcome").commands()
	if got := eval[string](b, `document.querySelector('#curl-unix').textContent`); got != commands["curl-unix"] {
		t.Errorf("the page shows %q, not %q", got, commands["curl-unix"])
	}
	if out, errs, err := shell(t, commands["curl-unix"]); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	b.waitFor(`/^rhea is in\. [0-9.]+ ms, TLS 1\.3\.$/.test(document.querySelector('[data-head]').textContent)`)
	b.waitFor(`document.querySelector('.progress').classList.contains('done') && document.querySelector('[data-beats] use').getAttribute('href') === '#beats-verified'`)
	b.waitFor(`getComputedStyle(document.querySelector('.progress [data-fill]')).clipPath === 'inset(0px)'`)
	b.check("after the first handshake")
	b.picture("welcome-in")
	if _, _, err := shell(t, commands["break-no-cert"]); err == nil {
		t.Error("without a certificate it works")
	}
	b.waitFor(`document.querySelector('[data-beats] use').getAttribute('href') === '#beats-broken-4'`)
	b.waitFor(`document.querySelector('[data-wait] a')?.textContent === 'Why, and what to change'`)
	b.check("after a refusal")
	b.picture("welcome-refused")
	if got := f.get("/"); !f.has("/live") && got.status != http.StatusOK {
		t.Errorf("the first page: status %d", got.status)
	}
}

// TestSymbolsExist: everything that a page draws by reference is on that page.
func TestSymbolsExist(t *testing.T) {
	f := signedIn(t, func(o *Options) { o.Demo = exampleDemo(t) })
	for _, path := range []string{"/settings/parts", "/welcome", "/settings", "/nowhere"} {
		body := f.get(path).body
		references := regexp.MustCompile(`(?:<use href="#|url\(#)([a-z0-9-]+)`).FindAllStringSubmatch(body, -1)
		if len(references) == 0 {
			t.Errorf("%s draws nothing", path)
		}
		for _, m := range references {
			if !strings.Contains(body, ` id="`+m[1]+`"`) {
				t.Errorf("%s: there is no symbol %q", path, m[1])
			}
		}
	}
}

func TestShellWords(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/srv/me/.countersign/dev", "~/.countersign/dev"},
		{"/srv/me/my dir/dev", "~/'my dir/dev'"},
		{"/srv/me2/dev", "/srv/me2/dev"},
		{"/srv/it's", `'/srv/it'\''s'`},
		{"/srv/$(reboot)", "'/srv/$(reboot)'"},
		{"-rf", "'-rf'"},
		{"", "''"},
	} {
		if got := shellPath(c.path, "/srv/me"); got != c.want {
			t.Errorf("%q: %s, want %s", c.path, got, c.want)
		}
	}
	if got := shellPath("/srv/x", ""); got != "/srv/x" {
		t.Errorf("without a home directory: %s", got)
	}
}
