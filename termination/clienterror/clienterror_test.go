package clienterror_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/clienterror"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update and look at the difference.\n%s", path, got)
	}
}

// record is a handshake as the gateway records it.
func record(reason termination.Reason, alert uint8, version uint16, beat termination.Beat, scheme termination.Scheme) *termination.Handshake {
	info, _ := reason.Info()
	h := &termination.Handshake{Scheme: scheme, Verdict: termination.Verdict{Outcome: info.Outcome, Reason: reason, Beat: beat}}
	if alert != 0 {
		h.Alert = &termination.Alert{Number: alert, Sent: true}
	}
	if version != 0 {
		h.Chosen = &termination.Negotiated{Version: version}
	}
	return h
}

func TestLines(t *testing.T) {
	const v12, v13 = 0x0303, 0x0304
	var b strings.Builder
	for _, c := range []struct {
		title string
		h     *termination.Handshake
	}{
		{"No certificate, TLS 1.3", record(termination.ReasonCertMissing, 116, v13, termination.BeatClientCert, termination.SchemeHTTPS)},
		{"No certificate, TLS 1.2", record(termination.ReasonCertMissing, 40, v12, termination.BeatClientCert, termination.SchemeHTTPS)},
		{"Unknown CA, TLS 1.3", record(termination.ReasonCAUnknown, 48, v13, termination.BeatClientCert, termination.SchemeHTTPS)},
		{"Unknown CA, TLS 1.2, raw TLS", record(termination.ReasonCAUnknown, 48, v12, termination.BeatClientCert, termination.SchemeTLS)},
		{"Expired, TLS 1.2", record(termination.ReasonCertExpired, 45, v12, termination.BeatClientCert, termination.SchemeHTTPS)},
		{"A rule, TLS 1.3", record(termination.ReasonPolicyDenied, 42, v13, termination.BeatEstablished, termination.SchemeHTTPS)},
		{"Unknown name", record(termination.ReasonNameUnknown, 112, 0, termination.BeatAgreement, "")},
		{"Too old a version", record(termination.ReasonVersionLow, 70, 0, termination.BeatAgreement, termination.SchemeHTTPS)},
		{"No suite in common", record(termination.ReasonNoCommonSuite, 40, 0, termination.BeatAgreement, termination.SchemeHTTPS)},
		{"Our CA not trusted", record(termination.ReasonClientRefusedUsCA, 0, v13, termination.BeatServerCert, termination.SchemeHTTPS)},
		{"Our name is another", record(termination.ReasonClientRefusedUsName, 0, v13, termination.BeatServerCert, termination.SchemeHTTPS)},
		{"Our date", record(termination.ReasonClientRefusedUsDate, 0, v13, termination.BeatServerCert, termination.SchemeTLS)},
		{"Timeout", record(termination.ReasonTimeout, 0, 0, termination.BeatServerCert, termination.SchemeHTTPS)},
		{"Plain HTTP", record(termination.ReasonNotTLS, 0, 0, termination.BeatHello, "")},
	} {
		fmt.Fprintf(&b, "## %s\n", c.title)
		for _, l := range clienterror.Lines(c.h) {
			fmt.Fprintf(&b, "%s | %s\n", l.Tool, l.Text)
		}
	}
	golden(t, "lines.txt", b.String())
}

// What is let in printed nothing, and neither did what nothing is known about.
func TestNoLines(t *testing.T) {
	for _, h := range []*termination.Handshake{
		{Verdict: termination.Verdict{Outcome: termination.OutcomeVerified}},
		{Verdict: termination.Verdict{Outcome: termination.OutcomeOpen, Reason: termination.ReasonCertMissing, WouldRefuse: true}},
		{Verdict: termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonCAUnknown}},
		{Verdict: termination.Verdict{Outcome: termination.OutcomeRefused}, Alert: &termination.Alert{Number: 48}},
		{Verdict: termination.Verdict{Outcome: termination.OutcomeRefused}, Alert: &termination.Alert{Number: 200, Sent: true}},
		{Verdict: termination.Verdict{Outcome: termination.OutcomeBrokenOff, Reason: termination.ReasonSilent}},
	} {
		if got := clienterror.Lines(h); len(got) != 0 {
			t.Errorf("%+v: %v", h.Verdict, got)
		}
	}
}

// Every reason that has an alert can be found by it, and every line that is shown for a reason leads back to it.
func TestThereAndBack(t *testing.T) {
	for _, info := range termination.Reasons() {
		number := info.Alert
		if number != 0 && !slices.Contains(clienterror.Reasons(number), info.Code) {
			t.Errorf("alert %d does not lead to %s", number, info.Code)
		}
		for _, version := range []uint16{0x0303, 0x0304} {
			if version == 0x0303 && info.Code == termination.ReasonCertMissing {
				number = 40
			}
			for _, scheme := range []termination.Scheme{termination.SchemeHTTPS, termination.SchemeTLS} {
				for _, l := range clienterror.Lines(record(info.Code, number, version, info.Beat, scheme)) {
					readings := clienterror.Read(l.Text)
					if len(readings) == 0 {
						t.Errorf("%s: %s: %q is not recognised", info.Code, l.Tool, l.Text)
						continue
					}
					// A code that stands for several alerts leads to where it can, not everywhere.
					if !slices.Contains(readings[0].Reasons, info.Code) && !vague(l.Text) {
						t.Errorf("%s: %s: %q leads to %v", info.Code, l.Tool, l.Text, readings[0].Reasons)
					}
				}
			}
		}
	}
}

func vague(text string) bool {
	for _, s := range []string{"ERR_", "SEC_E", "A TLS fatal alert", "HTTP 400", "CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "unexpected eof", "EOF", "reset", "terminated", "disconnected", "closed"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

func TestRead(t *testing.T) {
	samples, err := os.ReadFile(filepath.Join("testdata", "samples.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(samples)) {
		line = strings.TrimSpace(line)
		fmt.Fprintf(&b, "> %s\n", line)
		readings := clienterror.Read(line)
		if len(readings) != 1 {
			t.Errorf("%q has %d readings", line, len(readings))
		}
		for _, r := range readings {
			fmt.Fprintf(&b, "  [%s] %s %d\n  %s\n", r.Tool, r.Fault, r.Alert, r.Meaning)
			for _, d := range r.Do {
				fmt.Fprintf(&b, "  - %s\n", d)
			}
			for _, n := range r.Notes {
				fmt.Fprintf(&b, "  note: %s\n", n)
			}
			fmt.Fprintf(&b, "  %s\n", r.Filter())
		}
	}
	golden(t, "readings.txt", b.String())
}

// A filter that is offered must be one that is understood.
func TestFilters(t *testing.T) {
	for n := range 256 {
		r := clienterror.AlertReading(uint8(n))
		if f := r.Filter(); f != "" {
			if _, err := termination.ParseFilter(f, termTime()); err != nil {
				t.Errorf("alert %d: %q: %v", n, f, err)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	if got := clienterror.Read(strings.Repeat("x", clienterror.MaxText) + "\nremote error: tls: bad certificate"); len(got) != 0 {
		t.Errorf("something after the limit was read: %v", got)
	}
	if got := clienterror.Read(strings.Repeat("\n", 100) + "remote error: tls: bad certificate"); len(got) != 0 {
		t.Errorf("a line after the limit was read: %v", got)
	}
	if got := clienterror.Read("this is no error at all\nnor this"); len(got) != 0 {
		t.Errorf("recognised: %v", got)
	}
	long := clienterror.Read("curl: (7) " + strings.Repeat("ü", 1000))
	if len(long) != 1 || len(long[0].Line) > 310 {
		t.Errorf("a long line: %v", long)
	}
}

func FuzzRead(f *testing.F) {
	samples, err := os.ReadFile(filepath.Join("testdata", "samples.txt"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(samples)) {
		f.Add(line)
	}
	f.Add("error:0a000")
	f.Add("reason(999999999999999999)")
	f.Add("alert number 256\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		readings := clienterror.Read(text)
		if len(readings) > 8 {
			t.Fatalf("%d readings", len(readings))
		}
		for _, r := range readings {
			if r.Meaning == "" || r.Fault == "" || len(r.Do) == 0 || len(r.Line) > 310 {
				t.Fatalf("not whole: %+v", r)
			}
			for _, d := range r.Do {
				if d == "" || len(d) > 700 {
					t.Fatalf("%q", d)
				}
			}
		}
	})
}

// Where the policy decides alone every refusal is alert 42, so what is pasted may stand for a CA or a date as well.
func TestBadCertificateStandsForAnyCause(t *testing.T) {
	reasons := clienterror.Reasons(42)
	for _, want := range []termination.Reason{termination.ReasonPolicyDenied, termination.ReasonCAUnknown, termination.ReasonChainGap, termination.ReasonCertExpired, termination.ReasonCertSelf} {
		if !slices.Contains(reasons, want) {
			t.Errorf("%s is not among %v", want, reasons)
		}
	}
}
