package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"countersign/store"
	"countersign/store/declared"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// site is a gateway with a configuration file, an upstream behind it, and a client.
type site struct {
	t      testing.TB
	dir    string // of the file and what it names
	path   string // of the file
	port   uint16 // that endpoints use
	ca     *tlstest.Cert
	client *http.Client
	up     string // address of the upstream
}

func newSite(t testing.TB) *site {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s", r.Host) }))
	t.Cleanup(upstream.Close)
	free, release := listener(t, "127.0.0.1:0")
	release()
	s := &site{t: t, dir: t.TempDir(), port: free.Port(), ca: tlstest.NewCA(tlstest.CN("Devices CA")), up: upstream.URL}
	s.path = filepath.Join(s.dir, "countersign.yaml")
	server := s.ca.Server("one.test", tlstest.DNS("two.test", "three.test"))
	writeFile(t, filepath.Join(s.dir, "server.pem"), server.PEM())
	writeFile(t, filepath.Join(s.dir, "server.key"), server.KeyPEM())
	writeFile(t, filepath.Join(s.dir, "ca.pem"), s.ca.PEM())
	transport := &http.Transport{
		TLSClientConfig:   tlsConfig(s.ca, s.ca.Client("rhea")),
		DialContext:       s.dial,
		DisableKeepAlives: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: deadline}
	return s
}

func (s *site) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", netip.AddrPortFrom(loopback(), s.port).String())
}

// config is a configuration with an endpoint for each of these names.
func (s *site) config(names ...string) string {
	text := "authorities: [{name: devices, pem_file: ca.pem}]\ncertificates: [{name: server, cert_file: server.pem, key_file: server.key}]\nendpoints:\n"
	if len(names) == 0 {
		text = strings.TrimSuffix(text, "\n") + " []\n"
	}
	for _, n := range names {
		text += fmt.Sprintf("  - name: %s\n    url: https://%s.test:%d\n    certificates: [server]\n    upstream: %s\n    client_auth: {authorities: [devices]}\n", n, n, s.port, s.up)
	}
	return text
}

func (s *site) write(text string) { writeFile(s.t, s.path, []byte(text)) }

// answers reports whether the service behind a name answers.
func (s *site) answers(name string) bool {
	s.t.Helper()
	res, err := s.client.Get(fmt.Sprintf("https://%s.test:%d/", name, s.port)) // the client has a timeout
	if err != nil {
		return false
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return err == nil && res.StatusCode == http.StatusOK && strings.HasPrefix(string(body), "hello from "+name+".test")
}

func (s *site) expect(want map[string]bool) {
	s.t.Helper()
	for name, answers := range want {
		if s.answers(name) != answers {
			s.t.Errorf("%s answers: %v, want %v", name, !answers, answers)
		}
	}
}

func (s *site) eventually(name string, answers bool) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%s answers: %v", name, answers), func() bool { return s.answers(name) == answers })
}

// start runs a gateway with the site's file.
func (s *site) start(dir string) *inProcess {
	s.t.Helper()
	return start(s.t, dir, func(o *appOptions) { o.Config = s.path })
}

// settings returns the settings page of the dashboard, where problems are listed.
func settings(t *testing.T, p *inProcess) string {
	t.Helper()
	link, err := p.server.SignInLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, status := signIn(t, link)
	if status != http.StatusSeeOther {
		t.Fatalf("sign-in: status %d", status)
	}
	res, err := c.Get(p.server.URL() + "/settings") // the client has a timeout
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("settings: status %d, %v", res.StatusCode, err)
	}
	return string(body)
}

func TestReloadOnChange(t *testing.T) {
	s := newSite(t)
	s.write(s.config("one"))
	p := s.start(dataDir(t))
	s.expect(map[string]bool{"one": true, "two": false})
	revision := p.gateway.Config().Revision

	s.write(s.config("one", "two")) // in place
	s.eventually("two", true)
	s.expect(map[string]bool{"one": true, "three": false})
	if got := p.gateway.Config().Revision; got != revision+1 {
		t.Errorf("revision %d after one change of %d", got, revision)
	}

	// As most editors do: another file takes the place of the old one.
	next := s.path + "~"
	writeFile(t, next, []byte(s.config("one", "three")))
	if err := os.Rename(next, s.path); err != nil {
		t.Fatal(err)
	}
	s.eventually("three", true)
	s.expect(map[string]bool{"one": true, "two": false})

	remove(t, s.path)
	writeFile(t, s.path, []byte(s.config("two")))
	s.eventually("two", true)
	s.expect(map[string]bool{"one": false, "three": false})
	p.end()
}

// A file that the configuration names counts like the configuration itself.
func TestReloadOnChangeOfACertificate(t *testing.T) {
	s := newSite(t)
	s.write(s.config("one"))
	p := s.start(dataDir(t))
	s.expect(map[string]bool{"one": true})
	other := tlstest.NewCA()
	writeFile(t, filepath.Join(s.dir, "ca.pem"), other.PEM())
	s.eventually("one", false) // the client's CA is not trusted any more
	writeFile(t, filepath.Join(s.dir, "ca.pem"), append(other.PEM(), s.ca.PEM()...))
	s.eventually("one", true)
	p.end()
}

// Kubernetes puts a directory in place of another by changing a link.
func TestReloadThroughLinks(t *testing.T) {
	s := newSite(t)
	volume := t.TempDir()
	put := func(version string, text string) {
		t.Helper()
		dir := filepath.Join(volume, version)
		if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "countersign.yaml"), []byte(text))
		if err := os.Symlink(version, filepath.Join(volume, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(volume, "..tmp"), filepath.Join(volume, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("..1", s.config("one"))
	for _, name := range []string{"countersign.yaml", "ca.pem", "server.pem", "server.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(volume, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.path = filepath.Join(volume, "countersign.yaml")
	p := s.start(dataDir(t))
	s.expect(map[string]bool{"one": true, "two": false})
	put("..2", s.config("two"))
	s.eventually("two", true)
	put("..3", s.config("three"))
	s.eventually("three", true)
	s.expect(map[string]bool{"one": false, "two": false})
	p.end()
}

func TestBadReloadKeepsServing(t *testing.T) {
	s := newSite(t)
	s.write(s.config("one"))
	p := s.start(dataDir(t))
	good := p.gateway.Config()
	bad := map[string]struct {
		text, says string
		line       int
	}{
		"a typing error":        {strings.Replace(s.config("one", "two"), "upstream:", "upstraem:", 1), `did you mean &#34;upstream&#34;?`, 7},
		"no YAML":               {s.config("two") + "  - {", "no valid YAML", 0},
		"empty":                 {"", "the file says nothing", 0},
		"a missing file":        {strings.Replace(s.config("two"), "ca.pem", "none.pem", 1), "cannot read the file", 1},
		"an unknown authority":  {strings.Replace(s.config("two"), "[devices]", "[others]", 1), "there is no authority", 8},
		"a name used twice":     {s.config("two", "two"), "already", 9},
		"a server name twice":   {strings.Replace(s.config("one", "two"), "two.test", "one.test", 1), "belongs to endpoint", 10},
		"a later version's key": {"dashboard: {access: password}\n" + s.config("two"), "not in this version", 1},
	}
	for name, c := range bad {
		s.write(c.text)
		err := p.Reload(t.Context())
		list, ok := err.(declared.Errors) //nolint:errorlint // exactly that
		if !ok {
			t.Errorf("%s: %T: %v", name, err, err)
			continue
		}
		if c.line > 0 && list[0].Line != c.line {
			t.Errorf("%s: line %d, want %d: %v", name, list[0].Line, c.line, err)
		}
		if log := p.log.String(); !strings.Contains(log, "what ran stays as it was") || !strings.Contains(log, "line="+fmt.Sprint(list[0].Line)) {
			t.Errorf("%s: the log does not say it:\n%s", name, log)
		}
		if page := settings(t, p); !strings.Contains(page, "what ran stays as it was") || !strings.Contains(page, c.says) {
			t.Errorf("%s: the dashboard does not say %q", name, c.says)
		}
		if p.gateway.Config() != good {
			t.Errorf("%s: something was applied", name)
		}
		s.expect(map[string]bool{"one": true, "two": false})
	}
	// Another change comes into force, and the file is still wrong: the dashboard must not forget it.
	_, err := p.server.Change(t.Context(), store.Actor{Name: "rhea", Via: "test"}, func(tx *store.Tx) error { return tx.PutSetting("test", 1) })
	if err != nil {
		t.Fatal(err)
	}
	p.file.remind()
	if !strings.Contains(settings(t, p), "what ran stays as it was") {
		t.Error("the dashboard has forgotten what is wrong with the file")
	}
	s.write(s.config("one", "two"))
	s.eventually("two", true)
	eventually(t, "the dashboard lists nothing any more", func() bool { return !strings.Contains(settings(t, p), "what ran stays as it was") })
	p.end()
}

// What is applied, and worth a look all the same, is in the log with its place.
func TestWarningsOfTheFile(t *testing.T) {
	s := newSite(t)
	writeFile(t, filepath.Join(s.dir, "ca.pem"), append(s.ca.PEM(), tlstest.NewCA(tlstest.CN("Old CA"), tlstest.Expired()).PEM()...))
	s.write(s.config("one"))
	p := s.start(dataDir(t))
	s.expect(map[string]bool{"one": true})
	if log := p.log.String(); !strings.Contains(log, "level=WARN msg=\"about the configuration file\" file="+s.path+" line=1") || !strings.Contains(log, "Old CA") {
		t.Errorf("logged:\n%s", log)
	}
	p.end()
}

// What the file says and the dashboard has are kept apart.
func TestFileAndDashboard(t *testing.T) {
	s := newSite(t)
	s.write(s.config("one"))
	dir := dataDir(t)
	p := s.start(dir)
	rhea := store.Actor{Name: "rhea", Via: "test"}
	create := func(name string) error {
		_, err := p.server.Change(t.Context(), rhea, func(tx *store.Tx) error {
			_, err := tx.CreateEndpoint(termination.Endpoint{
				Name: name, Origin: termination.OriginDashboard, Enabled: true, Scheme: termination.SchemeHTTPS, Host: name + ".test", Listen: loopback(), Port: s.port,
				TerminateAt: termination.AtEdge, Certificates: []string{"server"}, Upstream: mustUpstream(t, s.up),
				ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose},
			})
			return err
		})
		return err
	}
	if err := create("two"); err != nil {
		t.Fatal(err)
	}
	_, err := p.server.Change(t.Context(), rhea, func(tx *store.Tx) error { return tx.DeleteEndpoint("one") })
	if _, readOnly := err.(store.ReadOnlyError); !readOnly { //nolint:errorlint // exactly that
		t.Errorf("deleting what the file declares: %v", err)
	}
	s.write(s.config("one", "two"))
	if err := p.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), `countersign.yaml:9:11: the dashboard has an object of the kind endpoint named "two" already`) {
		t.Errorf("a name in both: %v", err)
	}
	// What the dashboard needs cannot leave the file.
	s.write("endpoints: []\n")
	if err := p.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), `certificate "server" left the file, but is needed by endpoint "two"`) {
		t.Errorf("a certificate in use: %v", err)
	}
	s.expect(map[string]bool{"one": true, "two": true})
	s.write(s.config())
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expect(map[string]bool{"one": false, "two": true})
	p.end()

	// A start without the file changes nothing, and says so.
	p = start(t, dir, nil)
	s.expect(map[string]bool{"one": false, "two": true})
	if !strings.Contains(p.log.String(), "the configuration file that was used before is not given") {
		t.Errorf("logged:\n%s", p.log)
	}
	p.end()
}

func mustUpstream(t *testing.T, s string) termination.Upstream {
	t.Helper()
	u, err := termination.ParseUpstream(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestReloadOnSignal(t *testing.T) {
	s := newSite(t)
	s.write(s.config("one"))
	p := spawn(t, nil, "--data", dataDir(t), "--config", s.path, "--dashboard", "127.0.0.1:0")
	s.expect(map[string]bool{"one": true})
	if strings.Contains(p.out.String(), "try it") {
		t.Errorf("printed:\n%s", p.out)
	}
	// Nothing has changed, so only the signal can make it read the file again.
	const applied = "the configuration file is in force"
	before := strings.Count(p.err.String(), applied)
	p.signal(syscall.SIGHUP)
	eventually(t, "the file is read again", func() bool { return strings.Count(p.err.String(), applied) > before })
	s.expect(map[string]bool{"one": true})
	s.write("endpoints: [{nme: a}]\n")
	p.signal(syscall.SIGHUP)
	eventually(t, "the log names the line", func() bool {
		return strings.Contains(p.err.String(), "line=1 column=14") && strings.Contains(p.err.String(), s.path)
	})
	s.expect(map[string]bool{"one": true})
	p.stop()
	// Without a file the signal does no harm.
	p = spawn(t, nil, "--data", dataDir(t), "--dashboard", "127.0.0.1:0", "--no-demo")
	p.signal(syscall.SIGHUP)
	eventually(t, "the log says that there is no file", func() bool { return strings.Contains(p.err.String(), "there is no configuration file") })
	p.stop()
}

// The dashboard's address in the file holds, and does not move.
func TestDashboardOfTheFile(t *testing.T) {
	taken, free := listener(t, "127.0.0.1:0")
	s := newSite(t)
	s.write("dashboard: {listen: \"" + taken.String() + "\", hosts: [gw.example.com]}\n" + s.config())
	fromFile := func(o *appOptions) { o.Config, o.Dashboard = s.path, "" }
	p := prepare(t, dataDir(t), fromFile)
	if err := p.Run(t.Context()); exitCode(err) != exitAddress || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("%v", err)
	}
	free()
	p = start(t, dataDir(t), fromFile)
	if p.server.URL() != "http://"+taken.String() {
		t.Errorf("the dashboard is at %s", p.server.URL())
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.server.URL()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	for host, allowed := range map[string]bool{"gw.example.com": false, fmt.Sprintf("gw.example.com:%d", taken.Port()): true, "evil.example.com": false} {
		r.Host = host
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if (res.StatusCode == http.StatusOK) != allowed {
			t.Errorf("Host %s: status %d", host, res.StatusCode)
		}
	}
	s.write("dashboard: {listen: \"127.0.0.1:0\"}\n" + s.config())
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(p.log.String(), "takes effect at the next start") {
		t.Errorf("logged:\n%s", p.log)
	}
	p.end()
	p = start(t, dataDir(t), func(o *appOptions) { o.Config, o.Dashboard = s.path, "127.0.0.1:0" })
	p.end()
}
