package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"countersign/store"
)

// journal is what the test was promised: the endpoints that each acknowledged change left behind.
type journal struct {
	revision uint64          // of the newest acknowledged change
	holds    map[string]bool // name of an endpoint to whether it is enabled
	asked    map[string]bool // names that a change without an answer was about: either state is right
}

// A process that is killed at any moment loses no change that it acknowledged.
func TestKillLosesNoAcknowledgedChange(t *testing.T) {
	const kills = 50
	withoutRaceDetector(t)
	dir := dataDir(t)
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	secret, errs, code := run(t, nil, "token", "create", "journal", "--scope", "admin", "--data", dir)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, errs)
	}
	secret = strings.TrimSpace(secret)
	j := &journal{holds: map[string]bool{}, asked: map[string]bool{}}
	acknowledged, shaken := 0, 0
	for i := range kills {
		ctx, stop := context.WithCancel(t.Context())
		var noise sync.WaitGroup
		noise.Go(func() { shaken += shakeHands(ctx, dir, line(t, p.out.String(), "try it")) })
		// A process that has just started is killed in its first moments, or once it has acknowledged something: on a slow
		// machine hardly any change would be under way otherwise.
		var armed sync.Once
		process := p.cmd.Process
		arm := func() {
			armed.Do(func() {
				time.AfterFunc(time.Duration(rand.IntN(250))*time.Millisecond, func() { _ = process.Signal(syscall.SIGKILL) })
			})
		}
		if i%4 == 0 {
			arm()
		}
		acknowledged += j.change(t, newAPI(t, p.out.String(), secret), i, arm)
		p.wait()
		stop()
		noise.Wait()
		j.compare(t, dir)
		if t.Failed() {
			t.Fatalf("after kill %d", i+1)
		}
		p = spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	}
	t.Logf("%d kills, %d acknowledged changes, %d handshakes, %d endpoints at the end", kills, acknowledged, shaken, len(j.holds))
	if acknowledged < kills || shaken < kills {
		t.Errorf("the test did too little: %d changes and %d handshakes", acknowledged, shaken)
	}
	// What was kept is served.
	a := newAPI(t, p.out.String(), secret)
	var list struct{ Items []struct{ Name string } }
	if status, err := a.ask(http.MethodGet, "/api/v1/endpoints", nil, &list); err != nil || status != http.StatusOK || len(list.Items) < len(j.holds) {
		t.Errorf("status %d, %v, %d endpoints", status, err, len(list.Items))
	}
	p.stop()
}

// change makes changes through the API until the process is gone, and notes each that was acknowledged.
func (j *journal) change(t *testing.T, a *api, round int, acknowledged func()) int {
	t.Helper()
	for n := 0; ; n++ {
		names := slices.Sorted(maps.Keys(j.holds))
		name := fmt.Sprintf("e%d-%d", round, n)
		var status int
		var err error
		var after func()
		var answer struct{ Name string }
		switch {
		case n%4 == 3 && len(names) > 0:
			name = names[rand.IntN(len(names))]
			j.asked[name] = true
			status, err = a.ask(http.MethodDelete, "/api/v1/endpoints/"+name, nil, nil)
			after = func() { delete(j.holds, name) }
		case n%4 == 1 && len(names) > 0:
			name = names[rand.IntN(len(names))]
			verb := map[bool]string{true: "stop", false: "start"}[j.holds[name]]
			j.asked[name] = true
			status, err = a.ask(http.MethodPost, "/api/v1/endpoints/"+name+"/"+verb, nil, &answer)
			after = func() { j.holds[name] = verb == "start" }
		default:
			j.asked[name] = true
			// Not enabled: a thousand endpoints need not listen.
			status, err = a.ask(http.MethodPost, "/api/v1/endpoints", map[string]any{
				"name": name, "enabled": false, "url": "https://" + name + ".localhost:9", "certificates": []string{"local"}, "upstream": "whoami",
			}, &answer)
			after = func() { j.holds[name] = false }
		}
		if err != nil {
			return n // killed: whether this one counts, nobody knows
		}
		if status >= 300 {
			t.Errorf("%s: status %d", name, status)
			return n
		}
		after()
		acknowledged()
		j.revision++
		delete(j.asked, name)
	}
}

// compare opens the store that the process left behind.
func (j *journal) compare(t *testing.T, dir string) {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	config, problems, err := s.Load(t.Context())
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v, %v", problems, err)
	}
	for _, w := range s.Warnings() {
		t.Errorf("a kill made the store warn: %s", w.Text)
	}
	found := map[string]bool{}
	for _, e := range config.Endpoints {
		if e.Name != demoEndpoint {
			found[e.Name] = e.Enabled
		}
	}
	for name, enabled := range j.holds {
		if got, there := found[name]; !j.asked[name] && (!there || got != enabled) {
			t.Errorf("%s: there %v, enabled %v; acknowledged was enabled %v", name, there, got, enabled)
		}
	}
	for name := range found {
		if _, known := j.holds[name]; !known && !j.asked[name] {
			t.Errorf("%s is there, which was never asked for, or whose end was acknowledged", name)
		}
	}
	if config.Revision < j.revision {
		t.Errorf("revision %d, and %d changes were acknowledged", config.Revision, j.revision)
	}
	// From here on what is there is what holds.
	j.holds, j.asked, j.revision = found, map[string]bool{}, config.Revision
}

// shakeHands makes handshakes with the demo until ctx ends, good ones and bad ones, and returns how many ended well.
func shakeHands(ctx context.Context, dir, curl string) int {
	address := curl[strings.LastIndex(curl, "//")+2 : len(curl)-1]
	_, port, _ := strings.Cut(address, ":")
	files, err := filepath.Glob(filepath.Join(dir, demoDir, "*.pem"))
	if err != nil {
		return 0
	}
	var clients []tls.Certificate
	for _, f := range files {
		if pair, err := tls.LoadX509KeyPair(f, f); err == nil {
			clients = append(clients, pair)
		}
	}
	good := 0
	for i := 0; ctx.Err() == nil; i++ {
		config := &tls.Config{ServerName: demoHost, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} // what counts is that the server is busy
		if n := i % (len(clients) + 1); n < len(clients) {
			config.Certificates = clients[n : n+1]
		}
		conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: config}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond): // it is gone: the test will say so
			}
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n")
		if answer, _ := io.ReadAll(conn); strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			good++
		}
		_ = conn.Close()
	}
	return good
}
