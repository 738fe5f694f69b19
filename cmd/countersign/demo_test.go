package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
)

// The command must work as it was pasted, whatever the directory is called.
func TestCommandFromAnyDirectory(t *testing.T) {
	for _, name := range []string{"plain", "with space", "it's", `quote"s`, "dollar$HOME", "back`tick`", "co:lon", `back\slash`, "-dash", "ünïcode", "semi;colon&|", strings.Repeat("long", 40)} {
		t.Run(name, func(t *testing.T) {
			p := start(t, filepath.Join(t.TempDir(), name, "data"), nil)
			curl := line(t, p.out.String(), "try it")
			if out, errs, code := shell(t, curl); code != 0 || !strings.HasPrefix(out, "You are ") {
				t.Errorf("%s\nexit %d: %s%s\n%s", curl, code, out, errs, p.log)
			}
			p.end()
		})
	}
}

func TestWhenTheDemoIsMade(t *testing.T) {
	used := dataDir(t)
	if err := os.MkdirAll(used, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(used, "notes.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := dataDir(t)
	if err := os.MkdirAll(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "countersign.yaml")
	if err := os.WriteFile(file, []byte("endpoints: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir    string
		change func(*appOptions)
		want   bool
	}{
		"no directory":         {dataDir(t), nil, true},
		"an empty directory":   {empty, nil, true},
		"a directory in use":   {used, nil, false},
		"told not to":          {dataDir(t), func(o *appOptions) { o.NoDemo = true }, false},
		"a configuration file": {dataDir(t), func(o *appOptions) { o.Config = file }, false},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second start changes nothing about it
				p := start(t, c.dir, c.change)
				config := p.gateway.Config()
				if made := config.Endpoint("demo") != nil; made != c.want || p.demo != nil != c.want || strings.Contains(p.out.String(), "try it") != c.want {
					t.Errorf("endpoint %v, demo %v, want %v\n%s", made, p.demo, c.want, p.out)
				}
				if !c.want && len(config.LocalCAs)+len(config.Authorities) > 0 {
					t.Errorf("%+v", config)
				}
				p.end()
			}
		})
	}
}

// A first start that was killed before the demo was stored is taken up by the next one.
func TestBrokenOffFirstStart(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir, func(o *appOptions) { o.NoDemo = true })
	if err := os.Mkdir(filepath.Join(dir, demoDir), 0o700); err != nil {
		t.Fatal(err)
	}
	p.end()
	p = start(t, dir, nil)
	if p.demo == nil {
		t.Error("the demo was not made")
	}
}

func TestDemoIsWhatItShouldBe(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir, nil)
	c := p.gateway.Config()
	if len(c.LocalCAs) != 1 || len(c.Authorities) != 1 || len(c.Endpoints) != 1 {
		t.Fatalf("%+v", c)
	}
	e, ca := c.Endpoints[0], c.LocalCAs[0]
	if e.Origin != termination.OriginDemo || e.Scheme != termination.SchemeHTTPS || e.Host != "demo.localhost" || e.Listen.String() != "127.0.0.1" ||
		e.TerminateAt != termination.AtEdge || e.ClientAuth.Mode != termination.ModeRequire || e.ClientAuth.Authorities[0] != ca.Name || len(e.ForwardIdentity) != 0 ||
		e.Upstream.String() != termination.BuiltinWhoami || e.Certificates[0] != termination.CertificateLocal {
		t.Errorf("endpoint %+v", e)
	}
	if err := localca.MayIssue(&ca, []string{"example.com"}); err == nil {
		t.Error("the demo's CA may sign for other machines")
	}
	if life := time.Until(ca.Certificate.NotAfter); life < 360*24*time.Hour || life > 367*24*time.Hour {
		t.Errorf("the CA lives for %v", life)
	}
	if life := time.Until(p.demo.leaf.NotAfter); life < 29*24*time.Hour || life > 31*24*time.Hour {
		t.Errorf("the client's certificate lives for %v", life)
	}
	issued, err := p.store.Issued(t.Context(), "client")
	if err != nil || len(issued) != 1 || !issued[0].Certificate.Equal(p.demo.leaf) {
		t.Errorf("issued %+v, %v", issued, err)
	}
	for _, name := range []string{p.demo.page.P12, p.demo.page.P12Apple} {
		r := tlstest.OpenSSL(t, "pkcs12", "-in", filepath.Join(dir, demoDir, name), "-passin", "pass:"+p.demo.page.P12Password, "-nodes", "-legacy")
		if r.Exit != 0 || !r.Has("PRIVATE KEY") {
			t.Errorf("%s: %s", name, r.Stderr)
		}
	}
	if strings.Contains(p.log.String()+p.out.String(), p.demo.page.P12Password) {
		t.Error("the password is in the log")
	}
	entries, err := p.store.Audit(t.Context(), store.AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(string(e.After), p.demo.page.P12Password) {
			t.Error("the password is in the audit log")
		}
	}
}

// What has ended, or is missing, is there again after the next start; what is good is left alone.
func TestDemoFilesAreMendedAtTheStart(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir, nil)
	ca, user := p.gateway.Config().LocalCAs[0], p.demo.record.User
	p.end()
	client := filepath.Join(dir, demoDir, user+".pem")
	bundle := func(issued *localca.Issued, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		text, err := issued.BundlePEM()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	other, err := localca.Create(localca.Options{Name: "Local CA", Constrained: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func(){
		"the client's certificate has ended": func() {
			// The CA is younger than that, so its own check of what it issues would refuse.
			old := tlstest.NewCA(tlstest.CN(user), tlstest.Expired())
			writeFile(t, client, append(old.PEM(), old.KeyPEM()...))
		},
		"it is from another CA": func() {
			writeFile(t, client, bundle(localca.IssueClient(other, localca.ClientRequest{Name: user, Days: 30, Now: time.Now()})))
		},
		"it is damaged":             func() { writeFile(t, client, []byte("nothing")) },
		"it is gone":                func() { remove(t, client) },
		"a .p12 is gone":            func() { remove(t, filepath.Join(dir, demoDir, user+".p12")) },
		"the password is gone":      func() { remove(t, filepath.Join(dir, demoDir, filePassword)) },
		"the CA's file is gone":     func() { remove(t, filepath.Join(dir, demoDir, fileCA)) },
		"the CA's file is another":  func() { writeFile(t, filepath.Join(dir, demoDir, fileCA), localca.EncodePEM(other.Certificate)) },
		"the stranger is gone":      func() { remove(t, filepath.Join(dir, demoDir, fileStranger)) },
		"the whole directory is so": func() { removeAll(t, filepath.Join(dir, demoDir)) },
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			harm()
			p := start(t, dir, nil)
			defer p.end()
			demoFiles(t, dir)
			if p.demo == nil {
				t.Fatalf("no demo:\n%s", p.log)
			}
			if p.demo.leaf.CheckSignatureFrom(ca.Certificate) != nil {
				t.Error("the client's certificate is from another CA")
			}
			if out, errs, code := shell(t, line(t, p.out.String(), "try it")); code != 0 || !strings.HasPrefix(out, "You are "+user) {
				t.Errorf("exit %d: %s%s", code, out, errs)
			}
			r := tlstest.OpenSSL(t, "pkcs12", "-in", filepath.Join(dir, demoDir, p.demo.page.P12), "-passin", "pass:"+p.demo.page.P12Password, "-nokeys")
			if r.Exit != 0 {
				t.Errorf("the password that is shown does not open the .p12: %s", r.Stderr)
			}
		})
	}
}

// The certificate may end while the gateway runs.
func TestDemoIsRenewedWhileItRuns(t *testing.T) {
	p := start(t, dataDir(t), nil)
	p.stop()
	p.tended.Wait() // from here on the test tends
	before, shown := p.demo.leaf, p.demo.page
	p.demo.renew(t.Context(), p.app)
	if p.demo.leaf != before {
		t.Error("renewed before its time")
	}
	ended := *before
	ended.NotAfter = time.Now().Add(-time.Minute)
	p.demo.leaf = &ended
	old := tlstest.NewCA(tlstest.Expired())
	writeFile(t, filepath.Join(p.demo.dir, p.demo.page.Client), append(old.PEM(), old.KeyPEM()...))
	p.demo.renew(t.Context(), p.app)
	if p.demo.leaf == &ended || !time.Now().Before(p.demo.leaf.NotAfter) {
		t.Errorf("not renewed:\n%s", p.log)
	}
	if p.demo.page != shown {
		t.Errorf("the page shows %+v, and %+v before", p.demo.page, shown)
	}
	if out, errs, code := shell(t, line(t, p.out.String(), "try it")); code != 0 || !strings.HasPrefix(out, "You are ") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// Whoever deletes the demo's endpoint has ended the demo.
func TestDemoThatWasDeleted(t *testing.T) {
	for _, what := range []string{"endpoint", "CA"} {
		dir := dataDir(t)
		p := start(t, dir, nil)
		_, err := p.server.Change(t.Context(), store.Actor{Name: "rhea", Via: "test"}, func(tx *store.Tx) error {
			if err := tx.DeleteEndpoint("demo"); err != nil || what == "endpoint" {
				return err
			}
			if err := tx.DeleteLocalCA(demoAuthority); err != nil {
				return err
			}
			return tx.DeleteAuthority(demoAuthority)
		})
		if err != nil {
			t.Fatal(err)
		}
		p.end()
		p = start(t, dir, nil)
		if p.demo != nil || strings.Contains(p.out.String(), "try it") {
			t.Errorf("%s deleted, and the start says:\n%s", what, p.out)
		}
		p.end()
	}
}

// listener takes a port until the test ends, or the returned function is called.
func listener(t testing.TB, address string) (netip.AddrPort, func()) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	free := func() { _ = l.Close() }
	t.Cleanup(free)
	return l.Addr().(*net.TCPAddr).AddrPort(), free
}

func TestDemoPortMovesWhenTaken(t *testing.T) {
	dir := dataDir(t)
	taken, _ := listener(t, "127.0.0.1:0")
	from := func(o *appOptions) { o.demoPort = taken.Port() }
	p := start(t, dir, from)
	first := p.demo.record.Port
	if first == taken.Port() || p.gateway.Config().Endpoint("demo").Port != first {
		t.Errorf("port %d, with %d taken", first, taken.Port())
	}
	p.end()
	// At a later start the port that was chosen may be taken too.
	_, free := listener(t, netip.AddrPortFrom(loopback(), first).String())
	p = start(t, dir, from)
	second := p.demo.record.Port
	if second == first || p.gateway.Config().Endpoint("demo").Port != second || !strings.HasSuffix(p.demo.page.Listen, netip.AddrPortFrom(loopback(), second).String()) {
		t.Errorf("port %d, with %d taken; the page says %+v", second, first, p.demo.page)
	}
	if out, errs, code := shell(t, line(t, p.out.String(), "try it")); code != 0 || !strings.HasPrefix(out, "You are ") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	p.end()
	free()
	p = start(t, dir, from)
	if p.demo.record.Port != second {
		t.Errorf("port %d, which was saved as %d", p.demo.record.Port, second)
	}
	p.end()
}

// A port that somebody configured stays, even the demo's.
func TestConfiguredPortsStay(t *testing.T) {
	dir := dataDir(t)
	taken, free := listener(t, "127.0.0.1:0")
	free()
	p := start(t, dir, nil)
	_, err := p.server.Change(t.Context(), store.Actor{Name: "rhea", Via: "test"}, func(tx *store.Tx) error {
		e, err := tx.Endpoint("demo")
		if err != nil {
			return err
		}
		e.Port = taken.Port()
		return tx.UpdateEndpoint(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	p.end()
	_, free = listener(t, taken.String())
	p = start(t, dir, nil)
	defer p.end()
	status := p.gateway.Status().Endpoints[0]
	if status.State != gateway.StateFailed || p.gateway.Config().Endpoint("demo").Port != taken.Port() {
		t.Errorf("%+v", status)
	}
	if !strings.Contains(p.log.String(), "an endpoint does not work") {
		t.Errorf("the start says nothing about it:\n%s", p.log)
	}
	free()
	eventually(t, "the endpoint listens once its port is free", func() bool {
		return p.gateway.Status().Endpoints[0].State == gateway.StateListening
	})
}

func TestDefaultDashboardPortMoves(t *testing.T) {
	// Whether somebody has the port already or this does, it is taken.
	var lc net.ListenConfig
	if l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:7443"); err == nil {
		defer l.Close()
	}
	p := start(t, dataDir(t), func(o *appOptions) { o.Dashboard = "" })
	address := link(t, p.out.String())
	if !strings.HasPrefix(address, "http://127.0.0.1:") || strings.HasPrefix(address, "http://127.0.0.1:7443/") {
		t.Errorf("link %s", address)
	}
	if _, status := signIn(t, address); status != 303 {
		t.Errorf("status %d", status)
	}
}

func TestFreePort(t *testing.T) {
	taken, _ := listener(t, "127.0.0.1:0")
	port, err := freePort(t.Context(), taken.Port())
	if err != nil || port <= taken.Port() {
		t.Errorf("%d from %d on, %v", port, taken.Port(), err)
	}
	if port, err := freePort(t.Context(), 0); err != nil || port == 0 {
		t.Errorf("any free port: %d, %v", port, err)
	}
}

func TestUserName(t *testing.T) {
	name := userName()
	if name == "" || len(name) > 32 || strings.ContainsAny(name, ". /\\:") {
		t.Errorf("name %q", name)
	}
	for given, want := range map[string]string{
		"rhea": "rhea", `CORP\rhea`: "rhea", "rhea.smith": "rhea-smith", "Zoë": "Zo", "": "me", "...": "me", "../../etc/passwd": "etc-passwd",
		"stranger": "me", "local-ca": "me", strings.Repeat("x", 99): strings.Repeat("x", 32), "a b": "a-b",
	} {
		if got := plainName(given); got != want {
			t.Errorf("%q became %q, want %q", given, got, want)
		}
	}
	// A certificate can be issued to every such name, from a CA with constraints.
	ca, err := localca.Create(localca.Options{Name: "CA", Constrained: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{"rhea", "rhea.smith", "example.com", "a_b", "0"} {
		if _, err := localca.IssueClient(ca, localca.ClientRequest{Name: plainName(given), Days: 1, Now: time.Now()}); err != nil {
			t.Errorf("%q: %v", given, err)
		}
	}
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
