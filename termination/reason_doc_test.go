package termination_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/termination"
)

var update = flag.Bool("update", false, "write the documents that are made from the code")

// TestReasonDocument keeps docs/reasons.md equal to the table of reasons. go generate ./termination writes it.
func TestReasonDocument(t *testing.T) {
	file := filepath.Join("..", "docs", "reasons.md")
	got := reasonDocument()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with: go generate ./termination", err)
	}
	if got != string(want) {
		t.Error("docs/reasons.md does not say what the table of reasons says; write it with: go generate ./termination")
	}
}

// Whatever reads the table relies on these.
func TestReasonTable(t *testing.T) {
	seen := map[termination.Reason]bool{}
	for _, r := range termination.Reasons() {
		if seen[r.Code] {
			t.Errorf("%q stands there twice", r.Code)
		}
		seen[r.Code] = true
		if r.Title == "" || r.How == "" || r.Fix == "" || r.Turn == "" || r.Outcome == "" {
			t.Errorf("%q is not complete: %+v", r.Code, r)
		}
		if strings.HasSuffix(r.Title, ".") || !strings.HasSuffix(r.Fix, ".") {
			t.Errorf("%q: a title has no full stop, a fix has one", r.Code)
		}
		if info, ok := r.Code.Info(); !ok || info != r {
			t.Errorf("%q: Info returns %+v", r.Code, info)
		}
	}
}

const reasonIntroduction = `# Reasons

Why a handshake ended as it did. The codes are stable: they are added to, never changed. They stand in the dashboard, in
the API (` + "`verdict.reason`" + `), in the filter of the live page (` + "`reason:cert_expired`" + `) and in the header
` + "`X-Client-Verify`" + `.

This page is made from the table in ` + "`termination/reason.go`" + ` by ` + "`go generate ./termination`" + `; change it there.

A handshake has five beats, and a reason belongs to the beat at which it breaks:

| beat | passed when |
|---|---|
| 1 hello | a whole ClientHello was read |
| 2 agreement | version, suite, group, ALPN and server name lead to an endpoint |
| 3 our certificate | the client went on after our reply |
| 4 your certificate | chain, dates and use of the client's certificate hold |
| 5 open | the policy lets it in, the key was proven, the handshake is finished |

The outcome in the last line of a reason is the usual one. In the modes ` + "`request` and `require_any`" + ` a certificate that fails
does not keep its client out: the outcome is then ` + "`open`" + `, with the same reason. The alert is the one that a client gets
where the exact one can be sent; where the policy decides alone it is 42, bad_certificate.

Below each reason are situations that lead to it, from ` + "`termination/situation*.go`" + `. A test lets a real client fail in each of
them, finds what the client shows and what Countersign says as it stands here, carries out the fix, and sees the client
come in. Words that differ from case to case are left out.
`

var beatTitles = []struct {
	beat  termination.Beat
	title string
}{
	{termination.BeatHello, "Beat 1: hello"},
	{termination.BeatAgreement, "Beat 2: agreement"},
	{termination.BeatServerCert, "Beat 3: our certificate"},
	{termination.BeatClientCert, "Beat 4: your certificate"},
	{termination.BeatEstablished, "Beat 5: open"},
	{0, "At any beat, or afterwards"},
}

var turnWords = map[termination.Turn]string{
	termination.TurnClient:   "whoever runs the client",
	termination.TurnOperator: "whoever runs the gateway",
	termination.TurnCA:       "whoever issued the certificate",
}

func reasonDocument() string {
	var b, later strings.Builder
	b.WriteString(reasonIntroduction)
	for _, section := range beatTitles {
		fmt.Fprintf(&b, "\n## %s\n", section.title)
		for _, r := range termination.Reasons() {
			if r.Beat != section.beat {
				continue
			}
			if r.Later {
				fmt.Fprintf(&later, "| `%s` | %s |\n", r.Code, r.Title)
				continue
			}
			writeReason(&b, r)
		}
	}
	b.WriteString("\n## Kept free\n\nThese codes are taken, for what this version does not do yet.\n\n| code | meaning |\n|---|---|\n")
	b.WriteString(later.String())
	return b.String()
}

func writeReason(b *strings.Builder, r termination.ReasonInfo) {
	fmt.Fprintf(b, "\n### `%s`\n\n**%s.**\n", r.Code, r.Title)
	fmt.Fprintf(b, "\n- How it is known: %s.\n- What to do: %s\n- Whose turn it is: %s.\n", r.How, r.Fix, turnWords[r.Turn])
	fmt.Fprintf(b, "- Outcome: `%s`", r.Outcome)
	if r.Alert != 0 {
		fmt.Fprintf(b, "; alert sent: %d", r.Alert)
	}
	b.WriteString(".\n")
	writeSituations(b, r.Code)
}

func writeSituations(b *strings.Builder, code termination.Reason) {
	head := "\n| situation | the client shows | Countersign says | the fix | whose turn |\n|---|---|---|---|---|\n"
	for _, s := range termination.Situations() {
		if s.Reason != code {
			continue
		}
		sees := "nothing"
		if s.Sees != "" {
			sees = "“" + s.Sees + "”"
		}
		fmt.Fprintf(b, "%s| %s | %s | “%s” | %s | %s |\n", head, s.Title, sees, s.Says, shown(s.Fix), turnWords[s.Turn])
		head = ""
	}
}

// shown sets a command apart from a text.
func shown(fix string) string {
	for _, program := range []string{"cat ", "curl ", "openssl ", "date "} {
		if strings.HasPrefix(fix, program) {
			return "`" + fix + " …`"
		}
	}
	return "“" + fix + "”"
}

// fewestSituations is how many there are at least.
const fewestSituations = 60

// Whoever reads the list relies on these. Each situation is let happen by a test of the gateway, so that each reason is
// produced by a real handshake.
func TestSituationList(t *testing.T) {
	seen := map[string]bool{}
	covered := map[termination.Reason]bool{}
	if n := len(termination.Situations()); n < fewestSituations {
		t.Errorf("%d situations, fewer than the %d that were promised", n, fewestSituations)
	}
	for _, s := range termination.Situations() {
		if seen[s.ID] || seen[s.Title] {
			t.Errorf("%q stands there twice", s.ID)
		}
		seen[s.ID], seen[s.Title], covered[s.Reason] = true, true, true
		if _, known := s.Reason.Info(); !known || turnWords[s.Turn] == "" {
			t.Errorf("%q: reason %q, turn %q", s.ID, s.Reason, s.Turn)
		}
		for _, text := range []string{s.ID, s.Title, s.Says, s.Fix} {
			if text == "" || strings.ContainsAny(text+s.Sees, "|`\n") {
				t.Errorf("%q has no, or too odd a, text: %+v", s.ID, s)
			}
		}
	}
	for _, info := range termination.Reasons() {
		if !info.Later && !covered[info.Code] {
			t.Errorf("no situation leads to %q", info.Code)
		}
	}
}
