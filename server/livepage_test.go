package server

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/live/livetest"
	"countersign/termination/tlstest"
)

// hostileHandshake is one in which a stranger wrote whatever it likes wherever it can.
func hostileHandshake(text string, at time.Time) *termination.Handshake {
	h := livetest.Handshake(0, at)
	h.ID = termination.NewID(termination.PrefixHandshake, at)
	h.Peer = netip.MustParseAddrPort("192.0.2.7:1234")
	h.Hello = &termination.ClientHello{ServerName: text, ALPN: []string{text}}
	h.Client = termination.ClientName{Name: text, Full: text, Issuer: text}
	h.Error = text
	h.Verdict = termination.Verdict{
		Outcome: termination.OutcomeRefused, Reason: termination.ReasonCAUnknown, Beat: termination.BeatClientCert,
		Checks:      []termination.Check{{Reason: termination.ReasonCAUnknown, Detail: text}},
		Explanation: termination.Explanation{Sentence: text, Right: text, ClientTo: text, Fixes: []termination.Fix{{Text: text, Command: text}}},
	}
	return h
}

// Text from strangers is shown as text: in the rendered rows, in the live ones, in the drawer and on the page.
func TestHostileTextInTheBrowser(t *testing.T) {
	const payload = "<img src=x onerror=window.pwned=1>\u202e\u0000\n'\"&<script>window.pwned=1</script>"
	f := start(t, nil)
	first := hostileHandshake(payload, time.Now())
	f.opts.Hub.Publish(first)
	b := openBrowser(t)
	b.size(1440, 900)
	b.signIn(f)
	b.open(f.URL() + "/live")
	b.waitFor(`document.querySelectorAll('[data-rows].pool .row:not([hidden])').length > 0`)
	second := hostileHandshake(strings.Repeat(payload, 200), time.Now())
	f.opts.Hub.Publish(second)
	b.waitFor(`document.querySelector('[data-rows].pool .row .run').textContent !== '' || document.querySelectorAll('[data-rows].pool .row:not([hidden])').length > 1`)
	b.do(clickFirstRow())
	b.waitFor(`document.querySelector('[data-drawer] h1') !== null`)
	safe := func(where string) {
		t.Helper()
		if eval[bool](b, `window.pwned === 1 || document.querySelector('main img, main script') !== null`) {
			t.Errorf("%s: a stranger's text became markup", where)
		}
		if text := eval[string](b, `document.querySelector('main').innerText`); strings.ContainsAny(text, "\u202e\u0000") {
			t.Errorf("%s: characters that cannot be seen are there unmarked", where)
		}
	}
	safe("live")
	b.open(f.URL() + "/handshakes/" + second.ID)
	safe("handshake")
	if over := b.sideways(); over > 0 {
		t.Errorf("long text makes the page %d pixels wider than its window", over)
	}
}

// What a stranger presents is unproven: no page and no operation takes trust from a recorded handshake.
func TestNothingIsTrustedFromTheWire(t *testing.T) {
	f := start(t, nil)
	// Marks and saved views are the reader's own notes.
	notes := []string{"/live/views", "/live/views/:id", "/live/views/:id/remove", "/handshakes/:id/mark", "/api/v1/handshakes/:ref/mark"}
	for _, r := range f.list {
		if r.method != http.MethodGet && (strings.Contains(r.path, "/handshakes") || strings.HasPrefix(r.path, "/live")) && !slices.Contains(notes, r.path) {
			t.Errorf("%s %s changes something about a handshake", r.method, r.path)
		}
	}
	f.signIn("rhea")
	stranger := tlstest.NewCA(tlstest.CN("Strangers"))
	h := hostileHandshake("eve", time.Now())
	h.Presented = stranger.Client("eve").Chain()
	f.opts.Hub.Publish(h)
	deadline := time.Now().Add(10 * time.Second)
	page := f.get("/handshakes/" + h.ID)
	for page.status == http.StatusNotFound && time.Now().Before(deadline) {
		page = f.get("/handshakes/" + h.ID)
	}
	if page.status != http.StatusOK || regexp.MustCompile(`action="[^"]*(authorit|trust)`).MatchString(page.body) {
		t.Errorf("status %d; the page of a stranger's handshake offers a form about trust", page.status)
	}
}

// Whoever has only the error line of a client in hand may paste it where handshakes are looked for.
func TestErrorLineInTheFilter(t *testing.T) {
	f := start(t, nil)
	f.signIn("rhea")
	for line, want := range map[string]struct {
		status  int
		offered string
	}{
		"curl: (56) OpenSSL SSL_read: OpenSSL/3.0.13: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0": {http.StatusUnprocessableEntity, `/live?f=reason%3Acert_missing`},
		"remote error: tls: bad certificate": {http.StatusUnprocessableEntity, `/live?f=reason%3A`},
		"tlsv1 alert unknown ca":             {http.StatusOK, `/live?f=reason%3Aca_unknown`},
		"reason:nothing":                     {http.StatusUnprocessableEntity, ""},
		"somebody":                           {http.StatusOK, ""},
		`<script>alert(1)</script>`:          {http.StatusOK, ""},
		strings.Repeat("alert ", 1000):       {http.StatusUnprocessableEntity, ""},
	} {
		page := f.get("/live?f=" + url.QueryEscape(line))
		if page.status != want.status {
			t.Errorf("%.60s: status %d, want %d", line, page.status, want.status)
		}
		offers := strings.Contains(page.body, "Show such handshakes")
		if offers != (want.offered != "") || want.offered != "" && !strings.Contains(page.body, `href="`+want.offered) {
			t.Errorf("%.60s: offers handshakes: %v, want %q", line, offers, want.offered)
		}
	}
}
