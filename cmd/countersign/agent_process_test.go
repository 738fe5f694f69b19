package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// runService makes the test's binary a service that an agent stands beside: HTTP on this address, an echo of raw bytes
// on the next port.
const runService = "COUNTERSIGN_TEST_RUN_SERVICE"

// marker is what the service says, and what nobody between its agent and the client may be able to read.
const marker = "the-service-says-7f3a9c41e2"

func serveMarker(address string) {
	a := netip.MustParseAddrPort(address)
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	raw, err := net.Listen("tcp", netip.AddrPortFrom(a.Addr(), a.Port()+1).String())
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := raw.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	fmt.Println("ready")
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test's
		// Put together here, so that the test's own binary holds the marker nowhere else.
		fmt.Fprintf(w, "%s %s for %s\n", os.Getenv("SERVICE_MARKER"), strings.ToUpper(os.Getenv("SERVICE_MARKER")), r.Header.Get("X-Forwarded-For"))
	}))
}

// place is where the agent and its service run.
type place struct {
	gateway string   // address of this machine from there
	enter   []string // command that runs another one there
}

// elsewhere returns a network namespace of its own where the machine allows one, else this machine itself. It logs which.
func elsewhere(t *testing.T) place {
	t.Helper()
	here := place{gateway: "127.0.0.1"}
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Logf("no ip command (iproute2): the agent runs in a process of its own, in the network of the gateway")
		return here
	}
	n := os.Getpid() % 250
	name, link := fmt.Sprintf("countersign%d", n), fmt.Sprintf("cs%da", n)
	t.Cleanup(func() { _ = exec.Command(ip, "netns", "delete", name).Run() })
	gateway, agent := fmt.Sprintf("10.213.%d.1", n), fmt.Sprintf("10.213.%d.2", n)
	for _, args := range [][]string{
		{"netns", "add", name},
		{"link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name},
		{"address", "add", gateway + "/30", "dev", link},
		{"link", "set", link, "up"},
		{"-n", name, "address", "add", agent + "/30", "dev", "eth0"},
		{"-n", name, "link", "set", "eth0", "up"},
		{"-n", name, "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Logf("this machine allows no network namespace (ip %s: %s): the agent runs in a process of its own, in the network of the gateway", strings.Join(args, " "), strings.TrimSpace(string(out)))
			return here
		}
	}
	t.Logf("the agent and its service run in a network namespace of their own, which reaches the gateway at %s", gateway)
	return place{gateway: gateway, enter: []string{ip, "netns", "exec", name}}
}

// spawnThere starts a command line in a place and returns once it has said a word.
func (w place) spawn(t testing.TB, word string, environment []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, out: &buffer{}, err: &buffer{}, done: make(chan struct{})}
	c := command(t, environment, args...)
	if len(w.enter) > 0 {
		c.Args = slices.Concat(w.enter, []string{c.Path}, c.Args[1:])
		c.Path = w.enter[0]
	}
	c.Stdout, c.Stderr = p.out, p.err
	p.cmd = c
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = c.Wait() // the exit code is looked at where it matters
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-p.done
	})
	eventually(t, word+" from "+strings.Join(args, " "), func() bool {
		select {
		case <-p.done:
			t.Fatalf("it ended: %s%s", p.out, p.err)
		default:
		}
		return strings.Contains(p.out.String()+p.err.String(), word)
	})
	return p
}

// far is a gateway in a process of its own, and a place for agents.
type far struct {
	t       *testing.T
	place   place
	dir     string
	port    uint16
	gateway *process
	config  string
	api     *api
}

func (f *far) start() {
	f.t.Helper()
	f.gateway = spawn(f.t, nil, "--data", f.dir, "--config", f.config, "--dashboard", "127.0.0.1:0")
	secret, errs, code := run(f.t, nil, "token", "create", fmt.Sprintf("test-%d", f.gateway.cmd.Process.Pid), "--scope", "admin", "--data", f.dir)
	if code != exitDone {
		f.t.Fatalf("exit %d: %s", code, errs)
	}
	f.api = newAPI(f.t, f.gateway.out.String(), strings.TrimSpace(secret))
}

// invite writes a fresh token into a file.
func (f *far) invite(endpoint string, more ...string) string {
	f.t.Helper()
	out, errs, code := run(f.t, nil, append([]string{"agent", "invite", endpoint, "--data", f.dir, "--json"}, more...)...)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != exitDone || made.Token == "" {
		f.t.Fatalf("exit %d, %v: %s%s", code, err, out, errs)
	}
	path := filepath.Join(f.t.TempDir(), "token")
	writeFile(f.t, path, []byte(made.Token+"\n"))
	return path
}

// curl calls an endpoint.
func (f *far) curl(name, ca string, args ...string) tlstest.Result {
	f.t.Helper()
	return tlstest.Curl(f.t, append([]string{
		"--cacert", ca, "--resolve", fmt.Sprintf("%s.far.test:%d:127.0.0.1", name, f.port), fmt.Sprintf("https://%s.far.test:%d/", name, f.port),
	}, args...)...)
}

// localCA writes the certificate of the gateway's local CA into a file.
func (f *far) localCA() string {
	f.t.Helper()
	var page struct {
		Items []struct {
			Name         string
			Certificates []struct{ PEM string }
		}
	}
	if status, err := f.api.ask(http.MethodGet, "/api/v1/authorities", nil, &page); err != nil || status != http.StatusOK {
		f.t.Fatalf("status %d, %v", status, err)
	}
	for _, a := range page.Items {
		if a.Name == "Local CA" && len(a.Certificates) > 0 {
			path := filepath.Join(f.t.TempDir(), "local-ca.pem")
			writeFile(f.t, path, []byte(a.Certificates[0].PEM))
			return path
		}
	}
	f.t.Fatalf("no local CA among %+v", page.Items)
	return ""
}

// Agents in processes of their own, where possible in a network of their own, with real clients: openssl and curl.
func TestAgentFarAway(t *testing.T) {
	f := &far{t: t, place: elsewhere(t), dir: dataDir(t), config: filepath.Join(t.TempDir(), "countersign.yaml")}
	free, release := listener(t, "127.0.0.1:0")
	agents, releaseAgents := listener(t, "127.0.0.1:0")
	service, releaseService := listener(t, "127.0.0.1:0")
	release()
	releaseAgents()
	releaseService()
	f.port = free.Port()
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	files := t.TempDir()
	writeFile(t, filepath.Join(filepath.Dir(f.config), "devices.pem"), devices.PEM())
	alice := devices.Client("alice").WriteFiles(t, files)
	writeFile(t, f.config, []byte(fmt.Sprintf(`
agents: {listen: "%s:%d", stale_policy: 5s}
authorities: [{name: devices, pem_file: devices.pem}]
endpoints:
  - {name: own, url: "https://own.far.test:%[3]d", listen: 127.0.0.1, terminate_at: agent, upstream: "http://127.0.0.1:80", client_auth: {mode: require, authorities: [devices]}}
  - {name: given, url: "tls://given.far.test:%[3]d", listen: 127.0.0.1, terminate_at: agent, upstream: "tcp://127.0.0.1:81", client_auth: {mode: require, authorities: [devices]}}
`, f.place.gateway, agents.Port(), f.port)))
	f.start()
	f.place.spawn(t, "ready", []string{runService + "=" + service.String(), "SERVICE_MARKER=" + marker})
	http, raw := "http://"+service.String(), fmt.Sprintf("tcp://127.0.0.1:%d", service.Port()+1)

	// Before there is an agent.
	none := f.curl("own", alice.Root)
	if none.Exit == 0 || !none.Has("internal error") {
		t.Errorf("without an agent: exit %d, %s", none.Exit, none.Output())
	}
	f.api.handshakes("reason:agent_offline", 1)

	// Its own key, signed by the gateway's local CA.
	state := filepath.Join(t.TempDir(), "own")
	token := f.invite("own")
	own := f.place.spawn(t, "msg=serving", nil, "agent", "--token-file", token, "--endpoint", "own", "--upstream", http, "--data", state)
	ca := f.localCA()
	good := f.curl("own", ca, "--cert", alice.Cert, "--key", alice.Key)
	if good.Exit != 0 || !strings.Contains(good.Stdout, marker+" "+strings.ToUpper(marker)+" for 127.0.0.1") {
		t.Fatalf("exit %d: %s", good.Exit, good.Output())
	}
	if verified := f.api.handshakes("outcome:verified", 1); verified[0].Client.Name != "alice" {
		t.Errorf("verified %+v", verified)
	}
	if bad := f.curl("own", ca); bad.Exit == 0 || !bad.Has("certificate required") {
		t.Errorf("without a certificate: exit %d, %s", bad.Exit, bad.Output())
	}
	f.api.handshakes("reason:cert_missing", 1)
	f.holdsNothing(state, own)

	// The agent's own certificate and key, and raw bytes.
	server := tlstest.NewCA(tlstest.CN("Server CA"))
	cert := server.Server("given.far.test").WriteFiles(t, files)
	given := []string{"agent", "--endpoint", "given", "--upstream", raw, "--crt", cert.Cert, "--key", cert.Key, "--data", filepath.Join(t.TempDir(), "given")}
	f.place.spawn(t, "msg=serving", []string{"COUNTERSIGN_TOKEN=" + readFile(t, f.invite("given"))}, given...)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		echo := tlstest.OpenSSLInput(t, "hello agent\n", "s_client", "-connect", free.String(), "-servername", "given.far.test", "-CAfile", cert.Root, "-verify_return_error",
			"-cert", alice.Cert, "-key", alice.Key, "-quiet", "-no_ign_eof", version)
		if !strings.Contains(echo.Stdout, "hello agent") {
			// s_client leaves at the end of its input, at times before the echo is back: ask again and wait for it.
			echo = tlstest.OpenSSLInput(t, "hello agent\n", "s_client", "-connect", free.String(), "-servername", "given.far.test", "-CAfile", cert.Root, "-verify_return_error",
				"-cert", alice.Cert, "-key", alice.Key, version)
			if echo.Exit != 0 {
				t.Errorf("%s: exit %d: %s", version, echo.Exit, echo.Output())
			}
		}
	}

	f.refusals(token, cert)

	// Killed, and started again without an invitation.
	own.signal(syscall.SIGKILL)
	own.wait()
	eventually(t, "clients to be refused", func() bool { return f.curl("own", ca, "--cert", alice.Cert, "--key", alice.Key).Exit != 0 })
	own = f.place.spawn(t, "msg=serving", nil, "agent", "--endpoint", "own", "--upstream", http, "--data", state)
	if again := f.curl("own", ca, "--cert", alice.Cert, "--key", alice.Key); again.Exit != 0 {
		t.Errorf("after a restart of the agent: exit %d: %s", again.Exit, again.Output())
	}

	// The gateway killed, and started again.
	f.gateway.signal(syscall.SIGKILL)
	f.gateway.wait()
	f.start()
	began := time.Now()
	eventually(t, "the agents to be back", func() bool { return f.curl("own", ca, "--cert", alice.Cert, "--key", alice.Key).Exit == 0 })
	t.Logf("clients were let in %v after the gateway listened again", time.Since(began))

	// Stopped as people stop it.
	own.stop()
	if !strings.Contains(own.err.String(), "stopping") {
		t.Errorf("said %s", own.err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// refusals starts agents that must not come in, and reads what they are told.
func (f *far) refusals(used string, cert tlstest.Files) {
	f.t.Helper()
	other := tlstest.NewCA(tlstest.CN("x")).Server("x.test").WriteFiles(f.t, f.t.TempDir())
	good, err := termination.ParseJoinToken(readFile(f.t, f.invite("own")))
	if err != nil {
		f.t.Fatal(err)
	}
	changed := func(change func(*termination.JoinToken)) string {
		token := good
		change(&token)
		return token.String()
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"used":           {[]string{"--token-file", used}, exitFailed, "was used already"},
		"unknown":        {[]string{"--token", changed(func(t *termination.JoinToken) { t.Secret[3] ^= 1 })}, exitFailed, "does not know this invitation"},
		"wrong pin":      {[]string{"--token", changed(func(t *termination.JoinToken) { t.CA[0] ^= 1 })}, exitFailed, "is not the gateway of this invitation"},
		"wrong endpoint": {[]string{"--token", good.String(), "--endpoint", "given"}, exitFailed, "is for another endpoint"},
		"cut off":        {[]string{"--token", good.String()[:40]}, exitUsage, "copy the whole token"},
		"no token":       {[]string{"--endpoint", "own"}, exitUsage, "needs the token of an invitation"},
		"two tokens":     {[]string{"--token", good.String(), "--token-file", used}, exitUsage, "give the token once"},
		"no gateway":     {[]string{"--token", good.String(), "--gateway", "127.0.0.1:1"}, exitFailed, "the invitation is still good"},
		"odd gateway":    {[]string{"--token", good.String(), "--gateway", "gw"}, exitUsage, "host:port"},
		"wrong key":      {[]string{"--token", good.String(), "--crt", cert.Cert, "--key", other.Key}, exitFailed, "does not belong to the certificate"},
		"no key":         {[]string{"--token", good.String(), "--key", cert.Key}, exitUsage, "--key needs --crt"},
	} {
		args := append([]string{"agent", "--upstream", "http://127.0.0.1:1", "--data", filepath.Join(f.t.TempDir(), "data")}, c.args...)
		out, errs, code := run(f.t, nil, args...)
		if code != c.code || !strings.Contains(errs, c.says) || strings.Contains(errs, "csjoin1_e") {
			f.t.Errorf("%s: exit %d, want %d: %s%s", name, code, c.code, out, errs)
		}
	}
}

// holdsNothing shows that the gateway holds no key for the name, in memory or store, and no plaintext: a search of its
// whole memory and data directory, which finds both in the agent's.
func (f *far) holdsNothing(state string, agent *process) {
	t := f.t
	t.Helper()
	var kept struct {
		ServerKey string `json:"server_key"`
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(state, "agent.json"))), &kept); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(kept.ServerKey))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := parsed.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	little := slices.Clone(scalar)
	slices.Reverse(little)
	keys := [][]byte{scalar, little, []byte(strings.Split(kept.ServerKey, "\n")[1])}
	plain := [][]byte{[]byte(strings.ToUpper(marker) + " for ")}
	if !inMemory(t, agent.cmd.Process.Pid, keys) || !inMemory(t, agent.cmd.Process.Pid, plain) {
		t.Error("the search finds neither key nor plaintext in the agent, where they are")
	}
	if inMemory(t, f.gateway.cmd.Process.Pid, keys) {
		t.Error("the gateway's memory holds the agent's private key")
	}
	if inMemory(t, f.gateway.cmd.Process.Pid, plain) {
		t.Error("the gateway's memory holds plaintext of the service")
	}
	err = filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b := []byte(readFile(t, path))
		for _, k := range append(keys, plain...) {
			if bytes.Contains(b, k) {
				t.Errorf("%s holds the agent's key, or plaintext", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []struct{ Name string } }
	if status, err := f.api.ask(http.MethodGet, "/api/v1/certificates", nil, &list); err != nil || status != http.StatusOK || len(list.Items) > 0 {
		t.Errorf("status %d, %v, the gateway has certificates: %+v", status, err, list.Items)
	}
}

// inMemory reports whether a process holds one of these anywhere in its memory.
func inMemory(t *testing.T, pid int, needles [][]byte) bool {
	t.Helper()
	maps := readFile(t, fmt.Sprintf("/proc/%d/maps", pid))
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(maps) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		const chunk, overlap = 4 << 20, 256
		for at := from; at < to; at += chunk {
			b := make([]byte, min(chunk+overlap, to-at))
			n, err := mem.ReadAt(b, at)
			if err != nil && n == 0 {
				break // such as memory that was never touched
			}
			for _, needle := range needles {
				if bytes.Contains(b[:n], needle) {
					return true
				}
			}
		}
	}
	return false
}
