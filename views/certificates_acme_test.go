package views

import (
	"bytes"
	"strings"
	"testing"

	"countersign/views/parts"
)

// What a CA says is text of strangers: it is shown as it is and does nothing.
func TestACMESection(t *testing.T) {
	v := Certificates{ACME: &ACME{From: "acme.example", Problem: "the address is in use " + hostile, Names: []ACMEName{
		{Name: "a.example", Tone: parts.OK, State: "obtained", Href: "/certificates/ab", Ends: "ends on 3 Dec", Next: "renews itself on 22 Nov"},
		{Name: "b.example", State: "being obtained", Meanwhile: "Until it is there the local CA answers."},
		{Name: "c.example", Tone: parts.Bad, State: "not obtained", Error: "the CA says (rateLimited): " + hostile, Next: "tried again at 22 Nov 15:58 UTC", Retry: true},
	}}}
	var out bytes.Buffer
	if err := CertificatesPage(examplePage("Certificates"), v).Render(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, want := range []string{"From acme.example", "renews itself on 22 Nov", "being obtained", "Until it is there the local CA answers.", "the CA says (rateLimited): ", "Try now", `value="c.example"`} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(page, "<img") || strings.Count(page, "Try now") != 1 {
		t.Error("text of strangers became markup, or a name that is fine can be tried")
	}
}
