package tlstest

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// foreignTimeout bounds each run of a foreign program.
const foreignTimeout = 30 * time.Second

// Result is what a foreign program did.
type Result struct {
	Stdout string
	Stderr string
	Exit   int // the exit status
}

// Output is both streams, for looking for words.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Has says whether either stream contains the words.
func (r Result) Has(words string) bool { return strings.Contains(r.Output(), words) }

// Curl runs the real curl, silent but for errors, without a configuration file
// and without a proxy. A status other than 0 is a result, not a failure of the
// test; a curl that is missing or does not end is.
func Curl(t testing.TB, args ...string) Result {
	t.Helper()
	return run(t, "curl", "", append([]string{"-q", "-sS", "--noproxy", "*", "--max-time", "20"}, args...))
}

// OpenSSL runs the real openssl with an empty standard input. Note that s_client
// leaves when its input ends, unless it is given -ign_eof.
func OpenSSL(t testing.TB, args ...string) Result {
	t.Helper()
	return run(t, "openssl", "", args)
}

// OpenSSLInput runs the real openssl with this standard input.
func OpenSSLInput(t testing.TB, stdin string, args ...string) Result {
	t.Helper()
	return run(t, "openssl", stdin, args)
}

// Program returns the path of a program that a test cannot do without, and stops
// the test with the command to install it when it is missing: nothing is skipped
// in silence.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s, which is not installed; type: sudo apt-get install -y %s", name, name)
	}
	return path
}

func run(t testing.TB, program, stdin string, args []string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), foreignTimeout)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, Program(t, program), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	result := Result{Stdout: out.String(), Stderr: errs.String(), Exit: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		t.Fatalf("%s %s did not end within %v\n%s", program, strings.Join(args, " "), foreignTimeout, result.Output())
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("run %s: %v", program, err)
	}
	return result
}
