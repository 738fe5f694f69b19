package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/termination/tlstest"
)

// runMain makes the test's binary behave as the program: tests start it as a process of its own where signals, exit codes
// and kills matter.
const runMain = "COUNTERSIGN_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if address := os.Getenv(runService); address != "" {
		serveMarker(address)
		return
	}
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	if address := os.Getenv(runKilled); address != "" {
		serveUntilKilled(address)
	}
	// Pebble is a program and has no end.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"))
}

// deadline bounds every wait. It is for tests that would fail anyway: nothing waits that long.
const deadline = 30 * time.Second

// eventually waits until something holds that the program does by itself.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tlstest.Eventually(t, what, holds)
}

// buffer collects what is written to it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// inProcess is the program within the test's process.
type inProcess struct {
	*app
	t   testing.TB
	out *buffer
	log *buffer
}

// dataDir returns a data directory that does not exist yet.
func dataDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "data")
}

// start runs the program until the test ends. change may alter its options first.
func start(t testing.TB, dir string, change func(*appOptions)) *inProcess {
	t.Helper()
	p := prepare(t, dir, change)
	if err := p.Run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	t.Cleanup(p.end)
	return p
}

func prepare(t testing.TB, dir string, change func(*appOptions)) *inProcess {
	t.Helper()
	p := &inProcess{t: t, out: &buffer{}, log: &buffer{}}
	o := appOptions{Data: dir, Dashboard: "127.0.0.1:0", Version: "test", Out: p.out, Log: slog.New(slog.NewTextHandler(p.log, nil))}
	if change != nil {
		change(&o)
	}
	p.app = newApp(o)
	return p
}

// end closes the program; a second time it does nothing.
func (p *inProcess) end() {
	p.t.Helper()
	if p.app == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		p.t.Errorf("close: %v", err)
	}
	p.app = nil
}

// process is the program as a process of its own.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	out     *buffer
	err     *buffer
	done    chan struct{} // closed when it has ended
	started time.Duration // from exec until it had printed its lines
}

// plainProgram names the program that a test runs in place of its own binary.
const plainProgram = "COUNTERSIGN_TEST_PLAIN_PROGRAM"

// withoutRaceDetector lets the processes of a test be those of a program that was built without the race detector, under
// which each start takes a second or more: for what is proven about the disk, and not about goroutines.
func withoutRaceDetector(t testing.TB) {
	t.Helper()
	t.Setenv(plainProgram, (&builder{t: t, dir: t.TempDir()}).build("plain", nil))
}

// command makes the command line of a process; environment adds to that of the test.
func command(t testing.TB, environment []string, args ...string) *exec.Cmd {
	t.Helper()
	self := os.Getenv(plainProgram)
	if self == "" {
		var err error
		if self, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(self, args...) // our own binary; ended by the test
	// Under the race detector a process waits a second at its end, unless it is told not to.
	c.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", runMain+"=1", "HOME="+t.TempDir(), "DISPLAY=", "WAYLAND_DISPLAY=", "COUNTERSIGN_DATA=", "COUNTERSIGN_TOKEN=")
	c.Env = append(c.Env, environment...)
	return c
}

// run runs the program to its end and returns what it printed and its exit code.
func run(t testing.TB, environment []string, args ...string) (out, errs string, code int) {
	t.Helper()
	c := command(t, environment, args...)
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	err := c.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return o.String(), e.String(), c.ProcessState.ExitCode()
}

// spawn starts `serve` and returns when it listens.
func spawn(t testing.TB, environment []string, args ...string) *process {
	t.Helper()
	return spawnCommand(t, environment, append([]string{"serve"}, args...)...)
}

// spawnCommand starts a command that lasts, and returns when it has printed its lines.
func spawnCommand(t testing.TB, environment []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, out: &buffer{}, err: &buffer{}, done: make(chan struct{})}
	p.cmd = command(t, environment, args...)
	p.cmd.Stderr = p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(p.out, lines.Text())
			if strings.HasPrefix(lines.Text(), "  stop ") {
				ready <- true
			}
		}
		_ = p.cmd.Wait() // the exit code is looked at where it matters
		select {
		case ready <- false:
		default:
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	select {
	case listens := <-ready:
		if !listens {
			t.Fatalf("the program ended:\n%s%s", p.out, p.err)
		}
	case <-time.After(deadline):
		t.Fatalf("the program does not listen:\n%s%s", p.out, p.err)
	}
	p.started = time.Since(begun)
	return p
}

// signal sends a signal.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(deadline):
		p.t.Fatalf("the program does not end:\n%s", p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the program as Ctrl-C does.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != exitDone {
		p.t.Errorf("exit code %d:\n%s", code, p.err)
	}
}

// line returns what the program printed behind a word at the start.
func line(t testing.TB, out, word string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^  ` + word + ` +(.*)$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no line %q in:\n%s", word, out)
	}
	return m[1]
}

// link returns the sign-in link that was printed.
func link(t testing.TB, out string) string {
	t.Helper()
	address, _, _ := strings.Cut(line(t, out, "dashboard"), " ")
	return address
}

// shell runs a command as it was pasted, without the proxies of the machine.
func shell(t *testing.T, command string) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", command)
	c.Env = append(os.Environ(), "no_proxy=*", "CURL_HOME="+t.TempDir())
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), c.ProcessState.ExitCode()
}

// api is a client of the API with a token.
type api struct {
	t     testing.TB
	base  string
	token string
	http  *http.Client
}

func newAPI(t testing.TB, printed, token string) *api {
	t.Helper()
	base, _, found := strings.Cut(link(t, printed), "/?t=")
	if !found {
		t.Fatalf("no link in %s", printed)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &api{t: t, base: base, token: token, http: &http.Client{Transport: transport, Timeout: deadline}}
}

// ask sends a request and reads the answer into a value. An error means that there was no whole answer.
func (a *api) ask(method, path string, body, into any) (int, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, a.base+path, reader) // the client has a timeout
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := a.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if into != nil && res.StatusCode < 300 {
		if err := json.Unmarshal(text, into); err != nil {
			return res.StatusCode, fmt.Errorf("%w in %s", err, text)
		}
	}
	return res.StatusCode, nil
}

// handshake is what the tests look at of a record.
type handshake struct {
	ID      string `json:"id"`
	Verdict struct {
		Outcome string `json:"outcome"`
		Reason  string `json:"reason"`
	} `json:"verdict"`
	Client struct {
		Name string `json:"name"`
	} `json:"client"`
}

// handshakes waits until n handshakes are recorded that fit a filter, and returns them.
func (a *api) handshakes(filter string, n int) []handshake {
	a.t.Helper()
	var page struct{ Items []handshake }
	eventually(a.t, fmt.Sprintf("%d handshakes with %s", n, filter), func() bool {
		page.Items = nil
		status, err := a.ask(http.MethodGet, "/api/v1/handshakes?f="+strings.ReplaceAll(filter, " ", "+"), nil, &page)
		if err != nil || status != http.StatusOK {
			a.t.Fatalf("status %d, %v", status, err)
		}
		return len(page.Items) >= n
	})
	return page.Items
}

// tlsConfig is that of a client with a certificate.
func tlsConfig(server, client *tlstest.Cert) *tls.Config {
	return &tls.Config{RootCAs: server.Pool(), Certificates: []tls.Certificate{client.TLS()}, MinVersion: tls.VersionTLS12}
}
