package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign/server/client"
	"countersign/termination"
	"countersign/termination/doctor"
	"countersign/views/format"
)

// refusedStory is that of a client whose CA is not known, at an endpoint behind address translation.
func refusedStory() *doctorStory {
	at := time.Date(2026, 11, 22, 14, 58, 7, 884e6, time.UTC)
	fingerprint := termination.Fingerprint{0x3f, 0xa1}
	s := &doctorStory{MatchedBy: "the marker in its ClientHello", ClockAhead: "4h0m2s", Report: &doctor.Report{
		URL: "https://payments.example:8443/", Name: "payments.example", Time: at, Result: doctor.NotLetIn, RefusedBy: doctor.SideServer,
		Client: &doctor.Presented{Subject: "billing-batch", Issuer: "Old Devices CA", Fingerprint: fingerprint},
		Steps: []doctor.Step{
			{Name: "connect", State: doctor.OK, Text: "192.0.2.7:8443 in 0.8 ms"},
			{Name: "connect", State: doctor.Warn, Text: "[2001:db8::7]:8443: no answer", Fix: "check the address, and firewalls in between"},
			{Name: "server certificate", State: doctor.Note, Text: "\"\x1b[2Jpayments\u202e\", issued by \"Web CA\", sent alone"},
			{Name: "handshake", State: doctor.Bad, Text: "the server refused with alert 48 unknown_ca, after the handshake: in TLS 1.3 a client has finished before the server looks at its certificate, so a tool may have logged success first", Fix: "use a certificate from a CA that the server trusts, with its whole chain"},
		},
		Attempts: []*doctor.Attempt{{
			What: "as clients do", Marker: "countersign-doctor-0123456789abcdef", Started: at, Ended: at.Add(9 * time.Millisecond),
			Local: netip.MustParseAddrPort("10.20.9.3:51234"), Remote: netip.MustParseAddrPort("192.0.2.7:8443"),
			Server: []doctor.Presented{{Subject: "payments", Fingerprint: termination.Fingerprint{0xaa}}},
		}},
	}}
	s.Record = &client.Record{
		Handshake: termination.Handshake{
			ID: "hs_01M8FM6NXF5ZG8HMYGSD4YHMZ0", Endpoint: "payments", TerminateAt: termination.AtEdge, Mode: termination.ModeRequire, Peer: netip.MustParseAddrPort("198.51.100.4:2049"),
			Alert: &termination.Alert{Number: 48, Name: "unknown_ca", Sent: true},
			Verdict: termination.Verdict{
				Outcome: termination.OutcomeRefused, Reason: termination.ReasonCAUnknown, Beat: 4,
				Checks: []termination.Check{{Detail: "It ended 3 days ago."}, {Detail: "It has no SAN.", Note: true}},
				Explanation: termination.Explanation{
					Sentence: "billing-batch tried to get in with a certificate that leads to Old Devices CA, which is not known here.", Right: "It may act as a client.", Turn: termination.TurnClient,
					Fixes: []termination.Fix{{Text: "Issue it again from Devices CA.", Action: "/certificates/issue"}, {Text: "Trust Old Devices CA.", Lowers: true}, {Text: "Send the chain.", Command: "cat a b \\\n  > c"}},
				},
			},
		},
		Presented: []client.Certificate{{Subject: "CN=billing-batch\u202e", Issuer: "CN=Old Devices CA", Fingerprint: fingerprint}},
	}
	return s
}

func TestDoctorStories(t *testing.T) {
	joined, alone, broken := refusedStory(), refusedStory(), refusedStory()
	alone.Record, alone.Missing = nil, "no gateway answers there"
	alone.ForOthers = alone.handOver()
	broken.Record, broken.Attempts, broken.Result, broken.RefusedBy = nil, nil, doctor.NotTried, ""
	broken.Steps = broken.Steps[1:2]
	for name, s := range map[string]*doctorStory{"doctor-joined.txt": joined, "doctor-alone.txt": alone, "doctor-nobody.txt": broken} {
		var out bytes.Buffer
		s.print(&out)
		for l := range strings.Lines(out.String()) {
			if l = strings.TrimSuffix(l, "\n"); format.Visible(l) != l {
				t.Errorf("%s: %q hides something", name, l)
			}
		}
		golden(t, name, out.String())
	}
	if f := alone.ForOthers.Filter; f != "sni:payments.example since:2026-11-22T14:58:05Z until:2026-11-22T14:58:09Z" {
		t.Errorf("the filter is %q", f)
	} else if _, err := termination.ParseFilter(f, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestDoctorCommand(t *testing.T) {
	dir := dataDir(t)
	p := spawn(t, nil, "--data", dir, "--dashboard", "127.0.0.1:0")
	dev := func(name string) string { return filepath.Join(dir, "dev", name) }
	url := regexp.MustCompile(`https://\S+`).FindString(line(t, p.out.String(), "try it"))
	ours := regexp.MustCompile(`--cert (\S+)`).FindStringSubmatch(line(t, p.out.String(), "try it"))[1]
	token, _, _ := run(t, nil, "token", "create", "watcher", "--scope", "read", "--data", dir)
	base, _, _ := strings.Cut(link(t, p.out.String()), "/?t=")
	for _, c := range []struct {
		args      []string
		code      int
		says      []string
		errs, not string
	}{
		{[]string{url, "--cert", ours, "--cacert", dev("local-ca.pem"), "--data", dir}, exitDone, []string{"ok  HTTP", "known by the marker in its ClientHello", "outcome             verified", "Let in."}, "", "For whoever"},
		{[]string{url, "--p12", strings.TrimSuffix(ours, ".pem") + ".p12", "--password-file", dev(filePassword), "--cacert", dev("local-ca.pem"), "--gateway", base, "--token", strings.TrimSpace(token)}, exitDone, []string{"outcome             verified", "Let in."}, "", "BAD"},
		{[]string{url, "--cert", dev("stranger.pem"), "--cacert", dev("local-ca.pem"), "--data", dir}, exitNotLetIn, []string{"alert 48 unknown_ca, after the handshake", "refused at beat 4 of 5", "48 unknown_ca, sent to this client", "leads to Stranger CA", "Not let in: the gateway refused this client.", "cat client.crt intermediate.crt"}, "this client is not let in", "For whoever"},
		{[]string{url, "--cacert", dev("local-ca.pem")}, exitNotLetIn, []string{"116 certificate_required", "For whoever runs the server", "sni:demo.localhost since:"}, "", "What the gateway saw"},
		{[]string{url, "--cert", ours, "--data", dir}, exitNotLetIn, []string{"BAD server trust", "42 bad_certificate, received from this client", "this client refused the gateway"}, "", ""},
		{[]string{url, "--cert", ours, "--cacert", dev("local-ca.pem"), "--data", dataDir(t)}, exitDone, []string{"no gateway runs on"}, "", "BAD"},
		{[]string{"https://127.0.0.1:1"}, exitNotTried, []string{"nothing listens on this port", "It could not be tried."}, "could not be tried", ""},
		{[]string{"http://127.0.0.1:1"}, exitNotTried, nil, "is no URL of a TLS service", ""},
		{[]string{url, "--cert", "–key"}, exitNotTried, nil, "looks like another flag", ""},
		{[]string{url, "--p12", strings.TrimSuffix(ours, ".pem") + ".p12"}, exitNotTried, nil, "--password-file FILE", ""},
		{[]string{url, "--key", ours}, exitNotTried, nil, "--key is given without --cert", ""},
		{[]string{url, "--cert", dev("missing.pem")}, exitNotTried, nil, "no such file", ""},
		{[]string{url, "--cert", ours, "--gateway", base}, exitUsage, nil, "countersign token create", ""},
		{nil, exitUsage, nil, "name one URL", ""},
	} {
		out, errs, code := run(t, nil, append([]string{"doctor"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.errs) || c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("doctor %v: exit %d\n%s%s", c.args, code, out, errs)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("doctor %v: %q is not said in\n%s%s", c.args, s, out, errs)
			}
		}
	}
	if out, errs, _ := run(t, []string{"COUNTERSIGN_DATA=" + dir}, "doctor", url, "--cert", ours, "--cacert", dev("local-ca.pem")); !strings.Contains(out, "known by the marker") {
		t.Errorf("a data directory that the environment names is not asked\n%s%s", out, errs)
	}
	out, errs, code := run(t, nil, "doctor", url, "--cert", dev("stranger.pem"), "--cacert", dev("local-ca.pem"), "--data", dir, "--json")
	var s struct {
		Result string
		Record struct{ Verdict termination.Verdict } `json:"gateway_record"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != exitNotLetIn || s.Result != "not_let_in" || s.Record.Verdict.Reason != termination.ReasonCAUnknown {
		t.Errorf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	if key, err := os.ReadFile(ours); err != nil || strings.Contains(out, "PRIVATE KEY") || len(key) == 0 {
		t.Errorf("%v", err)
	}
}
