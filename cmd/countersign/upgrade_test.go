package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A running gateway is replaced by another program again and again, by good ones and by bad ones, while clients connect
// without pause: none is refused or reset, none gets in who must not, long streams live on for the grace time, and what
// became of them is recorded by the process that comes after.
func TestUpgrade(t *testing.T) {
	b := &builder{t: t, dir: t.TempDir()}
	steps := migrations(t)
	last := steps[len(steps)-1]
	one, two := b.build("v1", nil), b.build("v2", nil)
	broken := b.build("v3", map[string]string{
		"cmd/countersign/talk.go": hanging(t),
		filepath.Join(filepath.Dir(last), fmt.Sprintf("%04d_test.sql", len(steps)+1)): "CREATE TABLE test (x INTEGER) STRICT;\n",
	})
	i := install(t, one)
	ctx, stop := context.WithCancel(context.Background())
	defer i.clients.Wait()
	defer stop()
	i.crowd(ctx)
	eventually(t, "clients come through", func() bool { return i.visits.Load() > 100 })

	in := func(name string, test func(*testing.T)) {
		t.Run(name, func(t *testing.T) {
			outer := i.t
			i.t = t
			defer func() { i.t = outer }()
			test(t)
		})
	}
	script := func(text string) string {
		path := filepath.Join(b.dir, "script")
		writeFile(t, path, []byte("#!/bin/sh\n"+text+"\n"))
		return path
	}
	in("a program that fails", func(t *testing.T) {
		i.put(script("exit 1"))
		i.refuses("does not begin", "what ran runs on")
	})
	in("no program", func(t *testing.T) {
		i.put(filepath.Join(root(t), "go.mod"))
		i.refuses("start the new program")
	})
	in("a program that hangs", func(t *testing.T) {
		i.put(script("exec sleep 100"))
		i.refuses("in time")
	})
	in("a program too old for the store", func(t *testing.T) {
		// As a program after it would have left the file: what ran has it open, and does not mind.
		db, err := sql.Open("sqlite", filepath.Join(i.data, "countersign.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		version := func(n int) {
			if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = "+strconv.Itoa(n)); err != nil {
				t.Fatal(err)
			}
		}
		i.put(two)
		version(len(steps) + 1)
		i.refuses("newer")
		version(len(steps))
	})
	in("a configuration file that is refused", func(t *testing.T) {
		good, _ := os.ReadFile(i.path)
		i.put(two)
		writeFile(t, i.path, append(good, "nonsense: true\n"...))
		i.refuses("nonsense")
		writeFile(t, i.path, good)
	})
	for _, at := range []step{stepReady, stepPrepared, stepAccepting} {
		in("killed before "+string(at), func(t *testing.T) {
			i.lenient.Store(at == stepAccepting) // those that it has accepted die with it
			writeFile(t, i.hang, []byte(at))
			i.put(broken)
			before, visits := i.version(), i.visits.Load()
			failed := make(chan string, 1)
			go func() {
				_, errs, _ := i.upgrade("60s")
				failed <- errs
			}()
			var pid int
			eventually(t, "the new program is there", func() bool {
				text, _ := os.ReadFile(i.hang + ".process")
				pid, _ = strconv.Atoi(string(text))
				return pid != 0
			})
			if kept, _ := filepath.Glob(filepath.Join(i.data, "*.before-upgrade")); (len(kept) > 0) != (at != stepReady) {
				t.Errorf("kept before the new schema: %q", kept)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			if errs := <-failed; !strings.Contains(errs, "without a word") {
				t.Errorf("said %q", errs)
			}
			_ = os.Remove(i.hang + ".process")
			i.stayed(before, visits)
			i.lenient.Store(false)
			if copies, _ := filepath.Glob(filepath.Join(i.data, "*.before-upgrade")); len(copies) > 0 {
				t.Errorf("left over: %q", copies)
			}
		})
	}
	for nth, next := range []struct{ version, program string }{{"v2", two}, {"v1", one}} {
		in("to "+next.version, func(t *testing.T) {
			before, raw, sealed := i.process(), i.stream("two"), i.stream("four")
			i.put(next.program)
			visits := i.visits.Load()
			if next.version == "v2" {
				out, errs, code := i.upgrade("60s")
				if code != exitDone || !strings.Contains(out, "countersign v2 runs as process") {
					t.Fatalf("exit %d: %s%s", code, out, errs)
				}
			} else {
				_ = syscall.Kill(before, syscall.SIGUSR2)
				eventually(t, "another process has the store", func() bool { p := i.process(); return p != 0 && p != before })
				eventually(t, "it answers", func() bool {
					var about struct{ Version string }
					status, err := i.api.ask("GET", "/api/v1/status", nil, &about)
					return err == nil && status == 200 && about.Version == next.version
				})
			}
			if v := i.version(); v != next.version {
				t.Errorf("%s runs", v)
			}
			i.echoes(raw)
			i.echoes(sealed)
			eventually(t, "clients come through", func() bool { return i.visits.Load() > visits+100 })
			// The old process ends what is left when the grace time is over, and the new one records it.
			for _, conn := range []net.Conn{raw, sealed} {
				if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the stream of the process before: %v", err)
				}
			}
			eventually(t, "the process before has ended", func() bool { return len(i.processes()) == 1 })
			for _, name := range []string{"two", "four"} {
				eventually(t, "the end of the stream is recorded", func() bool { return i.recordsShutdown(name, nth+1) })
			}
		})
	}
	in("SIGTERM during an upgrade", func(t *testing.T) {
		stop()
		i.clients.Wait()
		writeFile(t, i.hang, []byte(stepPrepared))
		i.put(broken)
		_ = syscall.Kill(i.process(), syscall.SIGUSR2)
		eventually(t, "the new program is there", func() bool { return exists(i.hang + ".process") })
		for _, pid := range i.processes() {
			if text, _ := os.ReadFile(i.hang + ".process"); strconv.Itoa(pid) != string(text) {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
		}
		eventually(t, "both end", func() bool { return len(i.processes()) == 0 })
		// The store is as it was, and the program before can start on it.
		i.put(one)
		i.start()
		if v := i.version(); v != "v1" {
			t.Errorf("%s runs", v)
		}
		_ = syscall.Kill(i.process(), syscall.SIGTERM)
		eventually(t, "it ends", func() bool { return len(i.processes()) == 0 })
	})
	t.Logf("%d connections", i.visits.Load())
	if t.Failed() {
		t.Log(i.said())
	}
}

// recordsShutdown reports whether n ends of connections by the gateway's own end are in the history.
func (i *installed) recordsShutdown(endpoint string, n int) bool {
	i.t.Helper()
	var page struct {
		Items []struct {
			End *struct {
				Reason string `json:"reason"`
			} `json:"end"`
		}
	}
	filter := "endpoint:" + endpoint
	if endpoint == "two" { // where others come too
		filter += "+client:stays"
	}
	status, err := i.api.ask("GET", "/api/v1/handshakes?limit=100&f="+filter, nil, &page)
	if err != nil || status != 200 {
		i.t.Fatalf("status %d, %v", status, err)
	}
	for _, item := range page.Items {
		if item.End != nil && item.End.Reason == "shutdown" {
			n--
		}
	}
	return n == 0
}
