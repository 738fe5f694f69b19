package tlstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// postgresPatience bounds how long a database may take to start on a busy machine.
const postgresPatience = time.Minute

// PostgresPassword is what the user "alice" of [Postgres] proves to know.
const PostgresPassword = "correct horse"

// Postgres starts a PostgreSQL server of its own on a free port of the loopback address, without TLS. It knows the user
// "alice", by SCRAM. It returns where it listens. It is gone when the test ends.
//
// PostgreSQL refuses to run as root, so that under root it runs as another user: "postgres", as packages make it, or
// "nobody".
func Postgres(t testing.TB) (addr string) {
	t.Helper()
	bin := postgresPrograms(t)
	dir, err := os.MkdirTemp("", "pg") // not t.TempDir: another user has to get there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	as := otherUser(t, dir)
	data := filepath.Join(dir, "data")
	start := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), args...)
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
		cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+dir)
		return cmd
	}
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(PostgresPassword), 0o644); err != nil { // that other user has to read it
		t.Fatal(err)
	}
	if out, err := start("initdb", "-D", data, "-U", "alice", "--auth=scram-sha-256", "--pwfile="+secret, "--no-sync", "--encoding=UTF8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	port := freePortOf(t)
	addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	server := start("postgres", "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+dir,
		"-c", "fsync=off", "-c", "shared_buffers=1MB", "-c", "autovacuum=off", "-c", "max_connections=20")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = server.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // at once, without a checkpoint
		<-ended
		_ = log.Close()
	})
	awaitPostgres(t, filepath.Join(bin, "pg_isready"), port, ended, log.Name())
	return addr
}

// PSQL runs PostgreSQL's own client with a connection string and one command. A status other than 0 is a result.
func PSQL(t testing.TB, connection, command string) Result {
	t.Helper()
	return run(t, "psql", "", []string{"--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--command", command, connection})
}

// postgresPrograms finds the directory of the server's programs, which many systems keep out of the path.
func postgresPrograms(t testing.TB) string {
	t.Helper()
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is sound
	slices.Reverse(candidates)                                  // the newest first, as far as names tell
	if path, err := exec.LookPath("initdb"); err == nil {
		candidates = append(candidates, filepath.Dir(path))
	}
	for _, dir := range candidates {
		_, initdb := os.Stat(filepath.Join(dir, "initdb"))
		_, server := os.Stat(filepath.Join(dir, "postgres"))
		if initdb == nil && server == nil {
			return dir
		}
	}
	t.Fatal("the PostgreSQL server is not installed; .ci/deps installs it")
	return ""
}

// otherUser returns the user to run as under root, and makes the directory theirs; nil: the one we are.
func otherUser(t testing.TB, dir string) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Fatal("there is neither a user postgres nor nobody to run PostgreSQL as")
	return nil
}

func awaitPostgres(t testing.TB, isReady string, port int, ended <-chan struct{}, log string) {
	t.Helper()
	deadline := time.Now().Add(postgresPatience)
	for {
		err := exec.Command(isReady, "--quiet", "--host=127.0.0.1", "--port="+strconv.Itoa(port)).Run()
		if err == nil {
			return
		}
		select {
		case <-ended:
			deadline = time.Time{}
		case <-time.After(20 * time.Millisecond): // it says in no other way that it is ready
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log) // without it, the error has to do
			t.Fatal(fmt.Errorf("PostgreSQL does not start: %w: %s", err, text))
		}
	}
}

func freePortOf(t testing.TB) int {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
