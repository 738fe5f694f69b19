package main

import (
	"encoding/json"
	"os"
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
