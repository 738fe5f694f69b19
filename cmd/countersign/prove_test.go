package main

import (
	"encoding/json"
	"strings"
	"testing"

	"countersign/termination/proof"
)

func TestProveCommand(t *testing.T) {
	dir := dataDir(t)
	spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	out, errs, code := run(t, nil, "prove", "demo", "--data", dir)
	for _, s := range []string{"ok  Client of a trusted CA", "let in", "ok  No certificate", "alert 116 certificate_required", "ok  Trusted CA, made for servers only", "ok  TLS 1.1 and no more"} {
		if !strings.Contains(out, s) {
			t.Errorf("%q is not printed", s)
		}
	}
	if code != exitDone || errs != "" || strings.Contains(out, "BAD") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	out, errs, code = run(t, nil, "prove", "demo", "--data", dir, "--json")
	var report proof.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitDone || report.Result != proof.Holds || report.Count(proof.Holds) != 7 {
		t.Errorf("exit %d, %v: %s%s", code, err, out, errs)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"prove", "nobody", "--data", dir}, `"nobody"`},
		{[]string{"prove", "--data", dir}, "name one endpoint"},
		{[]string{"prove", "demo", "--data", dataDir(t)}, "no gateway runs"},
	} {
		if out, errs, code := run(t, nil, c.args...); code != exitNotProven || out != "" || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit %d: %s%s", c.args, code, out, errs)
		}
	}
}

func TestExitCodesOfProofs(t *testing.T) {
	for result, code := range map[proof.Result]int{proof.Holds: exitDone, proof.Contradicts: 1, proof.Failed: 2} {
		r := &proof.Report{Result: result, Endpoint: "api", Lines: []proof.Line{{Result: result, Tried: "No certificate", Happened: "let in", Expected: "refused", Detail: "\x1b[31m"}}}
		if got := exitCode(proofError(r)); got != code {
			t.Errorf("%s: exit %d", result, got)
		}
		out := &buffer{}
		(&program{out: out}).printProof(r)
		if strings.Contains(out.String(), "\x1b") || (result == proof.Contradicts) != strings.Contains(out.String(), "BAD") {
			t.Errorf("%q", out)
		}
	}
}
