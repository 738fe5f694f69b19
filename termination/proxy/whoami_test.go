package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// hostile is text that would do harm on a page, in a terminal or in a header.
const hostile = "<script>alert(1)</script>\x1b[31m\u202e\"'&\r\nX: y"

func TestWhoami(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f := newFront(t, frontOptions{})
		f.apply(f.endpoint("public.test", "whoami", mode(termination.ModeRequire)))
		client := f.client(clientOptions{h2: h2, serverName: "public.test", cert: f.clients.Client("laptop", tlstest.URI("spiffe://test/ns/prod/sa/billing"))})

		text := f.get(client, "public.test", "/any/path?x")
		for _, want := range []string{"You are prod/billing.\n", firstLine, "laptop", "spiffe://test/ns/prod/sa/billing", "devices", "TLS 1.3", "X25519MLKEM768 (post-quantum)", "TLS_AES_", "public.test", "hs_", "SUCCESS", "hours left)"} {
			if !strings.Contains(text.body, want) {
				t.Errorf("no %q in the card\n%s", want, text.body)
			}
		}
		if got := text.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
			t.Errorf("content type %q", got)
		}

		doc := f.get(client, "public.test", "/", accept("application/json"))
		var me caller
		if err := json.Unmarshal([]byte(doc.body), &me); err != nil {
			t.Fatalf("%v: %v", err, doc)
		}
		if me.Client == nil || me.Client.CommonName != "laptop" || me.Client.URIs[0] != "spiffe://test/ns/prod/sa/billing" || me.Client.Authority != "devices" ||
			me.Verify != "SUCCESS" || !me.First || me.Endpoint != "public.test" || me.TLS.Version != "TLS 1.3" || !me.TLS.PostQuantum || me.TLS.ServerName != "public.test" ||
			me.Address != "127.0.0.1" || me.TLS.Protocol != map[bool]string{true: "h2", false: "http/1.1"}[h2] {
			t.Errorf("got %+v, %+v", me, me.Client)
		}

		page := f.get(client, "public.test", "/", accept("text/html,*/*;q=0.8"))
		if got := page.Header.Get("Content-Type"); got != "text/html; charset=utf-8" || !strings.Contains(page.body, "<h1>You are prod/billing.</h1>") {
			t.Errorf("%s: %s", got, page.body)
		}
		checkPage(t, page)

		head := f.get(client, "public.test", "/", func(r *http.Request) { r.Method = http.MethodHead })
		wantStatus(t, head, 200)
		post := f.get(client, "public.test", "/", func(r *http.Request) { r.Method = http.MethodPost })
		wantRefused(t, post, http.StatusMethodNotAllowed, "")
		if post.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("Allow: %q", post.Header.Get("Allow"))
		}
	})
}

func accept(media string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Accept", media) }
}

// checkPage looks at what a page may do: nothing, and its one style sheet is the one that its policy names.
func checkPage(t *testing.T, a answer) {
	t.Helper()
	policy := a.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(a.body)
	if style == nil {
		t.Fatalf("no style sheet in %s", a.body)
	}
	sum := sha256.Sum256([]byte(style[1]))
	if !strings.Contains(policy, base64.StdEncoding.EncodeToString(sum[:])) {
		t.Error("the policy names another style sheet")
	}
	for _, bad := range []string{"<script", "<link", "<img", "style=", "src=", "http://", "https://", "onload"} {
		if strings.Contains(a.body, bad) {
			t.Errorf("%s in the page", bad)
		}
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Vary": "Accept"} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestWhoamiIsNotFooled: a certificate that says something hostile, or that is not verified.
func TestWhoamiIsNotFooled(t *testing.T) {
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "whoami", mode(termination.ModeRequest)))
	evil := f.others.Client(hostile, tlstest.Org(hostile), tlstest.DNS("x\x1b[2J"))
	client := f.client(clientOptions{serverName: "public.test", cert: evil})

	text := f.get(client, "public.test", "/")
	if i := strings.IndexFunc(text.body, func(r rune) bool { return r != '\n' && r < ' ' || r == 0x7f || r == '\u202e' }); i >= 0 {
		t.Errorf("a control character at %d of\n%q", i, text.body)
	}
	if !strings.HasPrefix(text.body, "You say that you are ") || !strings.Contains(text.body, "FAILED:ca_unknown") {
		t.Errorf("the card is\n%s", text.body)
	}
	page := f.get(client, "public.test", "/", accept("text/html"))
	checkPage(t, page)
	if !strings.Contains(page.body, "&lt;script&gt;") {
		t.Errorf("the name is missing in\n%s", page.body)
	}
	doc := f.get(client, "public.test", "/", accept("application/json"))
	var me caller
	if err := json.Unmarshal([]byte(doc.body), &me); err != nil || me.Client.CommonName != hostile || me.Client.Authority != "" || me.Verify != "FAILED:ca_unknown" {
		t.Errorf("%v: %v", err, doc)
	}
}

func TestWhoamiStranger(t *testing.T) {
	f := newFront(t, frontOptions{})
	f.apply(f.endpoint("public.test", "whoami"))
	f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/")
	a := f.ask(false, clientOptions{serverName: "public.test"}, "public.test", "/")
	if !strings.HasPrefix(a.body, "You are a stranger") || strings.Contains(a.body, firstLine) || !strings.Contains(a.body, "NONE") {
		t.Errorf("the card is\n%s", a.body)
	}
}

// TestRefusalPage: who asks for a page gets one, with nothing of the request in it.
func TestRefusalPage(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		f, up := newFront(t, frontOptions{}), tlstest.HTTP(t)
		f.apply(f.endpoint("public.test", up.URL, mode(termination.ModeRequire)))
		a := f.get(f.client(clientOptions{h2: h2, serverName: "public.test"}), "public.test", "/<script>", accept("text/html"))
		wantStatus(t, a, 403)
		if !strings.Contains(a.body, "<h1>Forbidden</h1>") || !strings.Contains(a.body, "<code>missing</code>") || !strings.Contains(a.body, "<code>hs_") {
			t.Errorf("the page is\n%s", a.body)
		}
		checkPage(t, a)
	})
}

func TestLeft(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Second: " (ended)", time.Hour: " (1 hours left)", 47 * time.Hour: " (47 hours left)", 48 * time.Hour: " (2 days left)", 2400 * time.Hour: " (100 days left)",
	} {
		if got := left(now.Add(d), now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
