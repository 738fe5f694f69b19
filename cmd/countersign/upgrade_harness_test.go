package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"countersign/termination/tlstest"
)

// builder makes programs of the sources as they are, or with changes.
type builder struct {
	t   testing.TB
	dir string
}

// build returns the path of a program of that version. overlay replaces files of the module, or removes them where the
// new text is empty.
func (b *builder) build(version string, overlay map[string]string) string {
	b.t.Helper()
	out := filepath.Join(b.dir, version)
	args := []string{"build", "-o", out, "-ldflags", "-s -w -X main.version=" + version}
	if len(overlay) > 0 {
		replace := map[string]string{}
		for path, text := range overlay {
			to := ""
			if text != "" {
				to = filepath.Join(b.dir, version+"-"+filepath.Base(path))
				writeFile(b.t, to, []byte(text))
			}
			replace[filepath.Join(root(b.t), path)] = to
		}
		text, err := json.Marshal(map[string]any{"Replace": replace})
		if err != nil {
			b.t.Fatal(err)
		}
		writeFile(b.t, out+".json", text)
		args = append(args, "-overlay", out+".json")
	}
	c := exec.CommandContext(b.t.Context(), "go", append(args, "./cmd/countersign")...)
	c.Dir = root(b.t)
	if text, err := c.CombinedOutput(); err != nil {
		b.t.Fatalf("build %s: %v\n%s", version, err, text)
	}
	return out
}

// hanging is the source of a program that stops before it says what the file in $HANG holds, and writes its process ID
// beside that file.
func hanging(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "cmd/countersign/talk.go"))
	if err != nil {
		t.Fatal(err)
	}
	const says = "func (t *talk) say(m message) error {\n"
	if !bytes.Contains(text, []byte(says)) {
		t.Fatal("talk.go has changed")
	}
	out := strings.Replace(string(text), says, says+`	if at, _ := os.ReadFile(os.Getenv("HANG")); string(at) == string(m.Step) {
		_ = os.WriteFile(os.Getenv("HANG")+".process", []byte(strconv.Itoa(os.Getpid())), 0o600)
		select {}
	}
`, 1)
	return strings.Replace(out, "\t\"io\"\n", "\t\"io\"\n\t\"os\"\n\t\"strconv\"\n", 1)
}

// migrations are the schema steps of the configuration.
func migrations(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), "store/migrations/configuration/*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for i, f := range files {
		if files[i], err = filepath.Rel(root(t), f); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// installed is a gateway that runs from a place where a program can be put, with clients that connect without pause.
type installed struct {
	*site
	data, program, hang, log string

	echo, sealed string // addresses of upstreams
	stranger     *tlstest.Cert
	starts       int
	api          *api

	visits  atomic.Int64
	lenient atomic.Bool // connections may be cut, as by a process that was killed
	clients sync.WaitGroup
}

func install(t *testing.T, first string) *installed {
	t.Helper()
	s := newSite(t)
	place := t.TempDir()
	i := &installed{
		site: s, data: dataDir(t), program: filepath.Join(place, "countersign"), hang: filepath.Join(place, "hang"), log: filepath.Join(place, "log"),
		stranger: tlstest.NewCA(tlstest.CN("Strangers")).Client("eve"),
	}
	i.echo = tlstest.TCP(t).Addr
	i.sealed = tlstest.TLS(t, &tls.Config{Certificates: []tls.Certificate{s.ca.Server("three.test", tlstest.DNS("four.test")).TLS()}}).Addr
	agents, release := listener(t, "127.0.0.1:0")
	release()
	s.write(fmt.Sprintf("agents: {listen: %q}\n", agents) + s.config("one") + fmt.Sprintf(`  - {name: two, url: "tls://two.test:%d", certificates: [server], upstream: "tcp://%s", client_auth: {authorities: [devices]}}
  - {name: three, url: "tls://three.test:%d", terminate_at: upstream, upstream: "tcp://%s"}
  - {name: four, url: "tls://four.test:%d", terminate_at: upstream, upstream: "tcp://%s"} # of long streams alone
  - {name: five, url: "tls://five.test:%d", terminate_at: agent, upstream: "tcp://%s", client_auth: {authorities: [devices]}}
`, s.port, i.echo, s.port, i.sealed, s.port, i.sealed, s.port, i.echo))
	i.put(first)
	i.start()
	i.startAgent()
	return i
}

// startAgent starts an agent for one of the endpoints, in a process of its own that no upgrade touches.
func (i *installed) startAgent() {
	i.t.Helper()
	out, errs, code := run(i.t, nil, "agent", "invite", "five", "--data", i.data, "--json")
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != exitDone {
		i.t.Fatalf("exit %d, %v: %s%s", code, err, out, errs)
	}
	cert := i.ca.Server("five.test").WriteFiles(i.t, i.t.TempDir())
	place{}.spawn(i.t, "msg=serving", []string{"COUNTERSIGN_TOKEN=" + made.Token}, "agent", "--endpoint", "five", "--upstream", "tcp://"+i.echo,
		"--crt", cert.Cert, "--key", cert.Key, "--data", filepath.Join(i.t.TempDir(), "agent"))
}

// put puts a program in the place.
func (i *installed) put(program string) {
	i.t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(i.program+".new", text, 0o700); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(i.program+".new", i.program); err != nil {
		i.t.Fatal(err)
	}
}

// start starts the gateway; it is stopped by stopAll.
func (i *installed) start() {
	i.t.Helper()
	i.starts++
	log, err := os.Create(i.log)
	if err != nil {
		i.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(i.program, "serve", "--data", i.data, "--config", i.path, "--dashboard", "127.0.0.1:0", "--grace", "4s") // ended by stopAll
	c.Env = append(os.Environ(), "HOME="+i.t.TempDir(), "HANG="+i.hang)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		i.t.Fatal(err)
	}
	go func() { _ = c.Wait() }() // it is asked after by its ID
	i.t.Cleanup(i.stopAll)
	eventually(i.t, "the gateway listens", func() bool { return strings.Contains(i.said(), "  stop  ") })
	secret, errs, code := run(i.t, nil, "token", "create", fmt.Sprintf("test%d", i.starts), "--scope", "admin", "--data", i.data)
	if code != exitDone {
		i.t.Fatal(errs)
	}
	i.api = newAPI(i.t, i.said(), strings.TrimSpace(secret))
}

func (i *installed) said() string {
	text, _ := os.ReadFile(i.log)
	return string(text)
}

// process returns the ID of the gateway's process: the one that holds the lock of the data directory.
func (i *installed) process() int {
	i.t.Helper()
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, l := range links {
		pid, _ := strconv.Atoi(strings.Split(l, "/")[2])
		if cmd, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.HasPrefix(cmd, []byte(i.program+"\x00serve")) && holds(pid, filepath.Join(i.data, "lock")) {
			return pid
		}
	}
	return 0
}

func holds(pid int, path string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && to == path {
			return true
		}
	}
	return false
}

// processes are all that run from the place.
func (i *installed) processes() (out []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range links {
		if cmd, err := os.ReadFile(l); err == nil && bytes.HasPrefix(cmd, []byte(i.program+"\x00")) {
			pid, _ := strconv.Atoi(strings.Split(l, "/")[2])
			out = append(out, pid)
		}
	}
	return out
}

func (i *installed) stopAll() {
	for _, pid := range i.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// version is that of the gateway that answers the API.
func (i *installed) version() string {
	i.t.Helper()
	var about struct{ Version string }
	if status, err := i.api.ask("GET", "/api/v1/status", nil, &about); err != nil || status != 200 {
		i.t.Fatalf("status %d, %v", status, err)
	}
	return about.Version
}

// upgrade runs the command and returns what it says.
func (i *installed) upgrade(patience string) (out, errs string, code int) {
	i.t.Helper()
	return run(i.t, nil, "upgrade", "--data", i.data, "--patience", patience)
}

// refuses checks that an upgrade fails, says why, and leaves who was there.
func (i *installed) refuses(says ...string) {
	i.t.Helper()
	before, visits := i.version(), i.visits.Load()
	out, errs, code := i.upgrade("3s")
	if code != exitFailed {
		i.t.Errorf("exit %d: %s%s", code, out, errs)
	}
	i.stayed(before, visits)
	for _, s := range says {
		if !strings.Contains(errs, s) {
			i.t.Errorf("%q is not said in: %s", s, errs)
		}
	}
}

func (i *installed) stayed(before string, visits int64) {
	i.t.Helper()
	if after := i.version(); after != before {
		i.t.Errorf("%s runs, not %s", after, before)
	}
	eventually(i.t, "clients come through", func() bool { return i.visits.Load() > visits+50 })
	if n := len(i.processes()); n != 1 {
		i.t.Errorf("%d processes run", n)
	}
	// It takes changes too: the store is back.
	if status, err := i.api.ask("POST", "/api/v1/endpoints/none/stop", nil, nil); err != nil || status != 404 {
		i.t.Errorf("a change: status %d, %v", status, err)
	}
}

// crowd lets clients connect until ctx ends.
func (i *installed) crowd(ctx context.Context) {
	t, rhea := i.t, i.ca.Client("rhea") // i.t changes with the subtests
	for n := range 12 {
		i.clients.Go(func() {
			for k := n; ctx.Err() == nil; k++ {
				name := []string{"one", "two", "three", "five"}[k%4]
				cert := rhea
				if k/4%4 == 3 {
					cert = i.stranger
				}
				in, err := i.visit(name, cert)
				if _, dialled := errors.AsType[dialError](err); dialled || (in != (cert == rhea || name == "three") && !i.lenient.Load()) {
					t.Errorf("%s: let in %v: %v", name, in, err)
				}
				i.visits.Add(1)
			}
		})
	}
}

type dialError struct{ error }

func (i *installed) visit(name string, cert *tlstest.Cert) (in bool, err error) {
	tcp, err := net.DialTimeout("tcp", netip.AddrPortFrom(loopback(), i.port).String(), deadline)
	if err != nil {
		return false, dialError{err}
	}
	defer tcp.Close()
	config := tlsConfig(i.ca, cert)
	config.ServerName = name + ".test"
	conn := tls.Client(tcp, config)
	_ = conn.SetDeadline(time.Now().Add(deadline))
	say, want := "hello", "hello"
	if name == "one" {
		say, want = "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n", "HTTP/1.1 200"
	}
	if _, err = io.WriteString(conn, say); err != nil {
		return false, err
	}
	got := make([]byte, len(want))
	_, err = io.ReadFull(conn, got)
	return err == nil && string(got) == want, err
}

// stream opens a connection that stays.
func (i *installed) stream(name string) *tls.Conn {
	i.t.Helper()
	config := tlsConfig(i.ca, i.ca.Client("stays"))
	config.ServerName = name + ".test"
	conn, err := tls.Dial("tcp", netip.AddrPortFrom(loopback(), i.port).String(), config)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * deadline))
	i.echoes(conn)
	return conn
}

func (i *installed) echoes(conn net.Conn) {
	i.t.Helper()
	if _, err := conn.Write([]byte("ping")); err != nil {
		i.t.Error(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		i.t.Errorf("a stream was dropped: %v", err)
	}
}
