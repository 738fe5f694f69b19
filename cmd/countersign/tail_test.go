package main

import (
	"bufio"
	"encoding/json"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestTailCommand(t *testing.T) {
	dir := dataDir(t)
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	try := line(t, p.out.String(), "try it") + " -s"
	if _, errs, code := shell(t, try); code != 0 {
		t.Fatalf("%s: exit %d: %s", try, code, errs)
	}
	eventually(t, "the handshake is recorded", func() bool {
		out, errs, code := run(t, []string{"LC_ALL=C"}, "tail", "--data", dir, "--no-follow", "outcome:verified")
		if code != exitDone || errs != "" {
			t.Fatalf("exit %d: %s%s", code, out, errs)
		}
		return strings.Contains(out, "o-o-o-o-*") && strings.Contains(out, "demo.localhost demo") && strings.Count(out, "\n") == 1
	})

	follow := command(t, nil, "tail", "--data", dir, "--json")
	var errs buffer
	follow.Stderr = &errs
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follow.Process.Kill() })
	lines := bufio.NewScanner(out)
	next := func() tailDocument {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("tail ended: %s", errs.String())
		}
		var d tailDocument
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatalf("%v in %q", err, lines.Text())
		}
		return d
	}
	first := next() // from the history
	stranger := regexp.MustCompile(` --cert \S+`).ReplaceAllString(try, " --cert "+dir+"/dev/stranger.pem")
	if _, _, code := shell(t, stranger); code == 0 {
		t.Fatal("a stranger came in")
	}
	second := next()
	if first.Outcome != "verified" || second.Outcome != "refused" || second.Reason != "ca_unknown" || second.Client != "stranger" || second.Kind != "handshake" || second.Seq <= first.Seq {
		t.Errorf("told are %+v and %+v", first, second)
	}
	if err := follow.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() {
		t.Errorf("after Ctrl-C: %q", lines.Text())
	}
	if err := follow.Wait(); err != nil || errs.String() != "" {
		t.Errorf("Ctrl-C: %v: %s", err, errs.String())
	}

	token, _, _ := run(t, nil, "token", "create", "watcher", "--scope", "read", "--data", dir)
	base, _, _ := strings.Cut(link(t, p.out.String()), "/?t=")
	for _, c := range []struct {
		environment []string
		args        []string
		code        int
		out, errs   string
	}{
		{[]string{"LC_ALL=C", "COUNTERSIGN_TOKEN=" + token}, []string{"--server", base, "--no-follow", "reason:ca_unknown"}, exitDone, "o-o-o-x .", ""},
		{nil, []string{"--server", base, "--no-follow", "--token", "nonsense"}, exitFailed, "", "countersign token create"},
		{nil, []string{"--server", base}, exitUsage, "", "countersign token create NAME --scope read"},
		{nil, []string{"--server", "http://gateway.example:7443", "--token", "x"}, exitUsage, "", "ssh -L"},
		{nil, []string{"--server", base, "--data", dir}, exitUsage, "", "two gateways"},
		{nil, []string{"--data", dir, "colour:red"}, exitUsage, "", `"colour" is no key`},
		{nil, []string{"--data", dir, "--since", "yore"}, exitUsage, "", "as in 15m"},
		{nil, []string{"--data", dir, "--since", "1h", "-n", "1", "--no-follow"}, exitDone, "Signed by a CA", ""},
		{nil, []string{"--data", dataDir(t)}, exitFailed, "", "no gateway runs on"},
	} {
		out, errs, code := run(t, c.environment, append([]string{"tail"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || c.out == "" && out != "" || !strings.Contains(errs, c.errs) || c.errs == "" && errs != "" {
			t.Errorf("tail %v: exit %d\n%s%s", c.args, code, out, errs)
		}
	}
}
