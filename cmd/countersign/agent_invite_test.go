package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/termination"
)

func TestAgentInvite(t *testing.T) {
	dir := dataDir(t)
	if _, errs, code := run(t, nil, "agent", "invite", "api", "--data", dir); code != exitFailed || !strings.Contains(errs, "no gateway runs on "+dir) {
		t.Errorf("without a gateway: exit %d: %s", code, errs)
	}
	config := filepath.Join(t.TempDir(), "countersign.yaml")
	text := `
agents: {listen: "127.0.0.1:7444", hosts: [gw.example.com]}
endpoints:
  - {name: api, url: "https://api.localhost:18443", terminate_at: agent, upstream: "http://127.0.0.1:3000", enabled: false}
  - {name: sealed, url: "tls://sealed.localhost:18443", terminate_at: upstream, upstream: "tcp://127.0.0.1:3000", enabled: false}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir, func(o *appOptions) { o.Config = config })
	out, errs, code := run(t, nil, "agent", "invite", "api", "--data", dir)
	if code != exitDone || !strings.Contains(out, "countersign agent --endpoint api --upstream http://127.0.0.1:3000") || !strings.Contains(errs, "One agent can join api with it, until ") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	text, _ = strings.CutPrefix(strings.Fields(out)[0], "COUNTERSIGN_TOKEN=")
	token, err := termination.ParseJoinToken(text)
	if err != nil || token.Gateways[0] != "gw.example.com:7444" || token.Endpoint != "api" {
		t.Errorf("token %+v, %v", token, err)
	}
	if strings.Contains(errs, "csjoin") {
		t.Error("the token is among the remarks")
	}
	out, errs, code = run(t, nil, "agent", "invite", "api", "--data", dir, "--json", "--expires", "5m", "--gateway", "127.0.0.1:7444", "--gateway", "[::1]:7444")
	var made struct {
		Created, Expires time.Time
		Gateways         []string
		Note             string
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != exitDone || len(made.Gateways) != 2 || made.Expires.Sub(made.Created) != 5*time.Minute || made.Note == "" {
		t.Errorf("exit %d, %v: %s%s", code, err, out, errs)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no endpoint":      {nil, exitUsage, "name one endpoint"},
		"two endpoints":    {[]string{"api", "sealed"}, exitUsage, "name one endpoint"},
		"unknown endpoint": {[]string{"apj"}, exitFailed, `no endpoint "apj"`},
		"not at an agent":  {[]string{"sealed"}, exitFailed, "terminate_at: agent"},
		"too long":         {[]string{"api", "--expires", "1000h"}, exitFailed, "from a minute to 30 days"},
		"no time":          {[]string{"api", "--expires", "soon"}, exitUsage, "soon"},
		"bad gateway":      {[]string{"api", "--gateway", "https://gw"}, exitFailed, "gw.example.com:7444"},
	} {
		out, errs, code := run(t, nil, append([]string{"agent", "invite", "--data", dir}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit %d, want %d: %s%s", name, code, c.code, out, errs)
		}
	}
}

// TestPastedCommandStartsAnAgent runs what `agent invite` prints in a shell, as it stands.
func TestPastedCommandStartsAnAgent(t *testing.T) {
	dir, listen := dataDir(t), fmt.Sprint("127.0.0.1:", freeTestPort(t))
	config := filepath.Join(t.TempDir(), "countersign.yaml")
	text := `
agents: {listen: "` + listen + `"}
endpoints:
  - {name: my api, url: "https://api.localhost:` + fmt.Sprint(freeTestPort(t)) + `", terminate_at: agent, upstream: "http://127.0.0.1:9"}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, func(o *appOptions) { o.Config = config })
	pasted, errs, code := run(t, nil, "agent", "invite", "my api", "--data", dir)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, errs)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\n" + runMain + "=1 exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "countersign"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	// exec, so that the process that is ended is the agent.
	shell := exec.Command("sh", "-c", strings.Replace(pasted, "countersign agent", "exec countersign agent", 1))
	shell.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
	log := &buffer{}
	shell.Stdout, shell.Stderr = log, log
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- shell.Wait() }()
	t.Cleanup(func() { _ = shell.Process.Kill() })
	online := func() bool {
		select {
		case <-ended:
			t.Fatalf("the agent ended: %s", log)
		default:
		}
		return len(p.gateway.Status().Agents) == 1
	}
	eventually(t, "the agent is online", online)
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shell.Process.Pid))
	if err != nil || strings.Contains(string(arguments), "csjoin1_") || !strings.Contains(string(arguments), "my api") {
		t.Errorf("everybody on the machine can read %q, %v", arguments, err)
	}
	if err := shell.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the agent ended with %v: %s", err, log)
		}
	case <-time.After(deadline):
		t.Errorf("the agent does not end: %s", log)
	}
	eventually(t, "the gateway knows that it is gone", func() bool { return len(p.gateway.Status().Agents) == 0 })
}
