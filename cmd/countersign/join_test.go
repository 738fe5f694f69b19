package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"countersign/store"
	"countersign/termination/tlstest"
)

// joinWorld is a gateway that runs, services behind it, and files.
type joinWorld struct {
	t       *testing.T
	dir     string // data
	files   string
	gateway *process
	api     *api
	ca      *tlstest.Cert // of the server certificates in files
	clients *tlstest.Cert
}

func newJoinWorld(t *testing.T) *joinWorld {
	t.Helper()
	w := &joinWorld{t: t, dir: dataDir(t), files: t.TempDir(), ca: tlstest.NewCA(tlstest.CN("Server CA")), clients: tlstest.NewCA(tlstest.CN("Clients CA"))}
	w.serve()
	w.write("ca.pem", w.ca)
	w.write("clients.pem", w.clients, tlstest.NewCA(tlstest.CN("Other Clients CA")))
	w.write("alice.pem", w.clients.Client("alice"))
	w.write("stranger.pem", tlstest.NewCA().Client("eve \x1b[31mred\u202e"))
	return w
}

// serve starts the gateway, without a demo.
func (w *joinWorld) serve() {
	w.t.Helper()
	config := w.file("countersign.yaml")
	if _, err := os.Stat(config); err != nil { // the ports stay the same over restarts
		writeFile(w.t, config, fmt.Appendf(nil, "agents: {listen: 127.0.0.1:%d}\nendpoints: []\n", freeTestPort(w.t)))
	}
	w.gateway = spawn(w.t, nil, "--data", w.dir, "--dashboard", "127.0.0.1:0", "--config", config)
	secret, errs, code := run(w.t, nil, "token", "create", fmt.Sprintf("test-%d", w.gateway.cmd.Process.Pid), "--scope", "admin", "--data", w.dir)
	if code != exitDone {
		w.t.Fatal(errs)
	}
	w.api = newAPI(w.t, w.gateway.out.String(), strings.TrimSpace(secret))
}

// write keeps certificates with their keys, CAs without.
func (w *joinWorld) write(name string, certs ...*tlstest.Cert) string {
	w.t.Helper()
	var out bytes.Buffer
	for _, c := range certs {
		out.Write(c.PEM())
		if !c.X509.IsCA {
			out.Write(c.KeyPEM())
		}
	}
	path := filepath.Join(w.files, name)
	writeFile(w.t, path, out.Bytes())
	return path
}

func (w *joinWorld) file(name string) string { return filepath.Join(w.files, name) }

func (w *joinWorld) join(args ...string) *process {
	w.t.Helper()
	return spawnCommand(w.t, nil, append(args, "--data", w.dir)...)
}

// endpoints are those that the gateway has.
func (w *joinWorld) endpoints() []struct{ Name, Origin, URL string } {
	w.t.Helper()
	var list struct {
		Items []struct{ Name, Origin, URL string }
	}
	if status, err := w.api.ask(http.MethodGet, "/api/v1/endpoints", nil, &list); err != nil || status != http.StatusOK {
		w.t.Fatalf("status %d, %v", status, err)
	}
	return list.Items
}

// empty checks that nothing is left of any command, neither served nor stored.
func (w *joinWorld) empty(after string) {
	w.t.Helper()
	eventually(w.t, "nothing is served after "+after, func() bool { return len(w.endpoints()) == 0 })
	for _, kind := range []string{"authorities", "certificates"} {
		var list struct{ Items []struct{ Origin string } }
		if _, err := w.api.ask(http.MethodGet, "/api/v1/"+kind, nil, &list); err != nil {
			w.t.Fatal(err)
		}
		for _, i := range list.Items {
			if i.Origin == "command" {
				w.t.Errorf("%s are left after %s", kind, after)
			}
		}
	}
}

// ngrok's forms of its TLS module, by openssl and curl: TLS ends in the service, at the edge with an automatic
// certificate, in an agent (a process of its own) with --crt, --key and --domain, and at the edge with its own. And what
// follows from them.
func TestFormsOfTLS(t *testing.T) {
	w := newJoinWorld(t)
	name := "app.localhost"
	own := w.ca.Server(name, tlstest.DNS(name), tlstest.IP("127.0.0.1"))
	secure := tlstest.HTTPS(t, &tls.Config{Certificates: []tls.Certificate{own.TLS()}})
	plain := tlstest.HTTP(t)
	w.write("app.pem", own)
	for form, c := range map[string]struct {
		args   []string
		issuer string // of the certificate that clients get
		add    string // to the commands that are printed
	}{
		"upstream":                 {[]string{secure.Addr}, "Server CA", w.file("ca.pem")},
		"edge, automatic":          {[]string{plain.Addr, "--terminate-at", "edge"}, "Local CA", ""},
		"edge, its own":            {[]string{plain.Addr, "--terminate-at", "edge", "--crt", w.file("app.pem"), "--key", w.file("app.pem")}, "Server CA", w.file("ca.pem")},
		"agent":                    {[]string{plain.Addr, "--terminate-at", "agent", "--crt", w.file("app.pem"), "--key", w.file("app.pem")}, "Server CA", w.file("ca.pem")},
		"agent, automatic":         {[]string{plain.Addr, "--terminate-at", "agent"}, "Local CA", ""},
		"agent, mutual":            {[]string{secure.URL, "--terminate-at", "agent", "--crt", w.file("app.pem"), "--mutual-tls-cas", w.file("clients.pem"), "--upstream-tls-verify-cas", w.file("ca.pem")}, "Server CA", w.file("ca.pem")},
		"edge, with PROXY headers": {[]string{secureProxied(t).Addr, "--terminate-at", "edge", "--upstream-proxy-protocol", "2"}, "Local CA", ""},
		"http, automatic":          {[]string{"http", plain.URL}, "Local CA", ""},
		"http, mutual":             {[]string{"http", plain.URL, "--mutual-tls-cas", w.file("clients.pem")}, "Local CA", ""},
		"edge, mutual, its own":    {[]string{plain.Addr, "--terminate-at", "edge", "--mutual-tls-cas", w.file("clients.pem"), "--crt", w.file("app.pem")}, "Server CA", w.file("ca.pem")},
		"https service, verified":  {[]string{"http", secure.URL, "--upstream-tls-verify-cas", w.file("ca.pem")}, "Local CA", ""},
	} {
		t.Run(form, func(t *testing.T) {
			port := freeTestPort(t)
			args, scheme := c.args, "https"
			if args[0] != "http" {
				args, scheme = append([]string{"tls"}, args...), "tls"
			}
			url := fmt.Sprintf("%s://%s:%d", scheme, name, port)
			named := []string{"--url", url}
			if form == "agent" { // as in ngrok's documentation
				named, url, port = []string{"--domain", name}, "tls://app.localhost:8443", defaultDemoPort
			}
			p := w.join(append(args, named...)...)
			if got := line(t, p.out.String(), "url"); got != url {
				t.Errorf("the URL is %s", got)
			}
			list := w.endpoints()
			if len(list) != 1 || list[0].Origin != "command" || list[0].URL != url {
				t.Fatalf("served: %+v", list)
			}
			mutual := strings.Contains(form, "mutual")
			curl := line(t, p.out.String(), "try it")
			if c.add != "" {
				curl += " --cacert " + c.add
			}
			good := curl
			if mutual {
				good = strings.Replace(good, "--cert client.pem --key client.key", "--cert "+w.file("alice.pem"), 1)
			}
			if out, errs, code := shell(t, good+" -sS"); code != 0 || !strings.Contains(out, `"method"`) {
				t.Errorf("%s: exit %d: %s%s\n%s", good, code, out, errs, p.out)
			}
			if mutual {
				none := strings.Replace(curl, "--cert client.pem --key client.key", "", 1)
				if out, errs, code := shell(t, none+" -sS"); code == 0 || !strings.Contains(errs, "alert") {
					t.Errorf("without a certificate: exit %d: %s%s", code, out, errs)
				}
				bad := strings.Replace(curl, "--cert client.pem --key client.key", "--cert "+w.file("stranger.pem"), 1)
				if out, errs, code := shell(t, bad+" -sS"); code == 0 {
					t.Errorf("a stranger: exit %d: %s%s", code, out, errs)
				}
				eventually(t, "the refusals are shown", func() bool {
					return strings.Contains(p.out.String(), "(cert_missing)") && strings.Contains(p.out.String(), "(ca_unknown)")
				})
			}
			openssl := fmt.Sprintf("openssl s_client -connect 127.0.0.1:%d -servername app.localhost -cert %s </dev/null 2>&1", port, w.file("alice.pem"))
			if out, _, _ := shell(t, openssl); !strings.Contains(out, "CN=app.localhost") && !strings.Contains(out, "CN = app.localhost") || !strings.Contains(out, c.issuer) {
				t.Errorf("openssl says: %s", out)
			}
			eventually(t, "the handshakes are shown", func() bool { return strings.Contains(p.out.String(), " ms") })
			if out := p.out.String(); strings.Contains(out, "\x1b") || strings.Contains(out, "\u202e") {
				t.Errorf("text of a stranger goes to the terminal as it is: %q", out)
			}
			if strings.HasPrefix(form, "agent") {
				w.holdsNoKey(own)
			}
			// What was made is also proven, through the agent too; of Clients CA there is no key here, and that is said.
			if out, errs, code := run(t, nil, "prove", list[0].Name, "--data", w.dir); code != exitDone || mutual != strings.Contains(out, "no key of a trusted CA is here") {
				t.Errorf("prove: exit %d: %s%s", code, out, errs)
			}
			p.stop()
			w.empty(form)
			if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				_ = conn.Close()
				t.Error("it listens although the command has ended")
			}
		})
	}
}

// secureProxied is a service that wants a PROXY header of version 2 before anything else.
func secureProxied(t *testing.T) *tlstest.Upstream {
	t.Helper()
	return tlstest.ServeTCP(t, func(_ context.Context, c net.Conn) {
		head := make([]byte, 16)
		if _, err := c.Read(head); err != nil || !bytes.HasPrefix(head, []byte("\r\n\r\n\x00\r\nQUIT\n\x21")) {
			return
		}
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{\"method\"}"))
	})
}

// holdsNoKey checks that nothing in the gateway's directory holds the key, sealed or not: no certificate is stored.
func (w *joinWorld) holdsNoKey(of *tlstest.Cert) {
	w.t.Helper()
	var list struct{ Items []struct{ Name string } }
	if _, err := w.api.ask(http.MethodGet, "/api/v1/certificates", nil, &list); err != nil || len(list.Items) > 0 {
		w.t.Errorf("the gateway has %+v, %v", list.Items, err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(of.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	err = filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, key) || bytes.Contains(data, of.X509.Raw) && filepath.Base(path) == "countersign.db" {
			w.t.Errorf("%s holds the agent's key or certificate", path)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Where ACME is set up, it is asked for the certificate of a name of the world; until it is there, the local CA answers.
func TestCommandsAskTheDirectory(t *testing.T) {
	w := &joinWorld{t: t, dir: dataDir(t), files: t.TempDir()}
	writeFile(t, w.file("countersign.yaml"), []byte("acme: {directory: https://127.0.0.1:1/directory}\nendpoints: []\n"))
	w.serve()
	p := w.join("http", "whoami", "--url", fmt.Sprintf("https://app.example.test:%d", freeTestPort(t)))
	var list struct {
		Items []struct{ Certificates []string }
	}
	if _, err := w.api.ask(http.MethodGet, "/api/v1/endpoints", nil, &list); err != nil || len(list.Items) != 1 || !slices.Equal(list.Items[0].Certificates, []string{"acme"}) {
		t.Errorf("served: %+v, %v", list, err)
	}
	if out, errs, code := shell(t, line(t, p.out.String(), "try it")+" -sS"); code != 0 || !strings.Contains(out, "no client certificate") {
		t.Errorf("exit %d: %s%s\n%s", code, out, errs, p.out)
	}
	if !strings.Contains(p.out.String(), "ACME") || !strings.Contains(p.out.String(), "--resolve") {
		t.Errorf("printed:\n%s", p.out)
	}
	p.stop()
	p = w.join("http", "whoami", "--url", fmt.Sprintf("https://app.localhost:%d", freeTestPort(t)))
	if strings.Contains(p.out.String(), "ACME") {
		t.Errorf("ACME is asked for a name of this machine:\n%s", p.out)
	}
	p.stop()
}

// An agent of a gateway elsewhere: the endpoint and its policy are there, and an invitation lets the command in.
func TestTLSAtAnAgentElsewhere(t *testing.T) {
	w := newJoinWorld(t)
	service := tlstest.HTTP(t)
	port := freeTestPort(t)
	w.write("app.pem", w.ca.Server("app.localhost"))
	status, err := w.api.ask(http.MethodPost, "/api/v1/endpoints", map[string]any{"name": "app", "url": fmt.Sprintf("tls://app.localhost:%d", port), "terminate_at": "agent", "upstream": "tcp://" + service.Addr}, nil)
	if err != nil || status != http.StatusCreated {
		t.Fatalf("status %d, %v", status, err)
	}
	out, errs, code := run(t, nil, "agent", "invite", "app", "--data", w.dir, "--json")
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(out), &made); code != exitDone || err != nil {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	token := w.file("token.txt")
	writeFile(t, token, []byte(made.Token+"\n"))
	args := []string{"tls", service.Addr, "--terminate-at", "agent", "--token-file", token, "--data", filepath.Join(w.files, "agent"), "--crt", w.file("app.pem")}
	if _, errs, code := run(t, nil, append(args, "--domain", "app.localhost")...); code != exitUsage || !strings.Contains(errs, "leave out --url and --domain") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if _, errs, code := run(t, nil, append(args, "--mutual-tls-cas", w.file("clients.pem"))...); code != exitUsage || !strings.Contains(errs, "at the gateway") {
		t.Errorf("exit %d: %s", code, errs)
	}
	p := spawnCommand(t, nil, args...)
	curl := fmt.Sprintf("curl -sS --cacert %s https://app.localhost:%d/", w.file("ca.pem"), port)
	eventually(t, "clients get in", func() bool { out, _, code := shell(t, curl); return code == 0 && strings.Contains(out, `"method"`) })
	p.stop()
	if _, _, code := shell(t, curl); code == 0 {
		t.Error("a client gets in without an agent")
	}
	if _, errs, code := run(t, nil, append(args, "--data", filepath.Join(w.files, "other"))...); code != exitFailed || !strings.Contains(errs, "invit") {
		t.Errorf("a token twice: exit %d: %s", code, errs)
	}
}

func freeTestPort(t *testing.T) uint16 {
	t.Helper()
	port, err := freePort(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Nothing of a command outlives it, whichever side is killed.
func TestKilledCommandsLeaveNothing(t *testing.T) {
	w := newJoinWorld(t)
	service := tlstest.HTTP(t)
	w.write("app.pem", w.ca.Server("app.localhost"))
	args := []string{"http", service.URL, "--url", fmt.Sprintf("https://app.localhost:%d", freeTestPort(t)), "--mutual-tls-cas", w.file("clients.pem"), "--crt", w.file("app.pem")}
	p := w.join(args...)
	p.signal(syscall.SIGKILL)
	p.wait()
	w.empty("a command was killed")

	agent := append([]string{"tls", service.Addr, "--terminate-at", "agent"}, args[2:4]...)
	agent[len(agent)-1] = strings.Replace(args[3], "https", "tls", 1)
	p = w.join(agent...)
	p.signal(syscall.SIGKILL)
	p.wait()
	w.empty("a command that is an agent was killed")

	// One that reads nothing any more still has its endpoint, and does not keep the gateway from stopping.
	p = w.join(args...)
	p.signal(syscall.SIGSTOP)
	if len(w.endpoints()) != 1 {
		t.Error("a suspended command has lost its endpoint")
	}
	w.gateway.stop()
	p.signal(syscall.SIGCONT)
	if code := p.wait(); code != exitFailed || !strings.Contains(p.err.String(), "gateway") {
		t.Errorf("exit %d: %s", code, p.err)
	}
	w.serve()
	w.empty("the gateway was stopped")

	p = w.join(args...)
	w.gateway.signal(syscall.SIGKILL)
	w.gateway.wait()
	if code := p.wait(); code != exitFailed || !strings.Contains(p.err.String(), "the gateway has gone away") {
		t.Errorf("exit %d: %s", code, p.err)
	}
	w.serve()
	w.empty("the gateway was killed")
}

// Without a gateway the command is one; a second command joins it; without a URL the port moves, with one it does not.
func TestCommandsShareAGateway(t *testing.T) {
	dir := dataDir(t)
	first := spawnCommand(t, nil, "http", "whoami", "--data", dir)
	url := line(t, first.out.String(), "url")
	if !strings.HasPrefix(url, "https://localhost:") || !strings.Contains(first.out.String(), "?t=") {
		t.Errorf("printed:\n%s", first.out)
	}
	if out, errs, code := shell(t, line(t, first.out.String(), "try it")+" -sS"); code != 0 || !strings.Contains(out, "no client certificate") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	second := spawnCommand(t, nil, "http", "whoami", "--data", dir)
	moved := line(t, second.out.String(), "url")
	if moved == url || !strings.HasPrefix(moved, "https://localhost:") || strings.Contains(second.out.String(), "?t=") {
		t.Errorf("printed:\n%s", second.out)
	}
	taken, _ := listener(t, "127.0.0.1:0")
	if out, errs, code := run(t, nil, "http", "whoami", "--data", dir, "--url", "https://app.localhost:"+fmt.Sprint(taken.Port())); code != exitAddress || !strings.Contains(errs, "stop the program that uses the port") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if _, errs, code := run(t, nil, "http", "whoami", "--data", dir, "--url", url); code != exitFailed || !strings.Contains(errs, "localhost") {
		t.Errorf("a name twice: exit %d: %s", code, errs)
	}
	second.stop()
	first.stop()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	config, _, err := s.Load(t.Context())
	if err != nil || len(config.Endpoints) != 0 || len(config.LocalCAs) != 1 {
		t.Errorf("left: %+v, %v", config, err)
	}
	if list, err := s.Audit(t.Context(), store.AuditQuery{Kind: store.KindEndpoint}); err != nil || len(list) != 6 || list[0].Actor.Via != "command" {
		t.Errorf("audit: %+v, %v", list, err)
	}
}
