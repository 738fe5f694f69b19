package main

import (
	"bytes"
	"fmt"
	escape "html"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/textproto"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"countersign/termination/tlstest"
)

func (h *hostileSite) signIn() {
	t := h.inProcess.t
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	h.browser = &http.Client{Jar: jar, Transport: transport, Timeout: deadline, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, token, _ := strings.Cut(h.link(), "/?t=")
	h.postForm("/sign-in", url.Values{"t": {token}, "who": {"rhea"}})
	found := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(h.get("/settings"))
	if found == nil {
		t.Fatal("nobody is signed in")
	}
	h.csrf = found[1]
}

// page checks a page, and returns its tree. What its reader typed stands in its field again as it was.
func page(t testing.TB, where, text, typed string) *html.Node {
	t.Helper()
	if typed != "" {
		text = strings.ReplaceAll(text, escape.EscapeString(typed), "")
	}
	tree, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for n := range tree.Descendants() {
		if n.Type == html.TextNode || n.Type == html.CommentNode {
			shown(t, where, n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		source := attribute(n, "src")
		switch n.Data {
		case "script":
			if !strings.HasPrefix(source, "/static/") || n.FirstChild != nil {
				t.Errorf("%s: a script that is not ours: %q", where, source)
			}
		case "img", "iframe", "object", "embed", "base":
			t.Errorf("%s: an element <%s>", where, n.Data)
		case "title":
			if title := textOf(n); len([]rune(title)) > 400 {
				t.Errorf("%s: a title of %d characters", where, len([]rune(title)))
			}
		}
		for _, a := range n.Attr {
			if a.Key != "data-value" { // the exact value, for a filter; nobody is shown it
				shown(t, where+" "+a.Key, a.Val)
			}
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcdoc" {
				t.Errorf("%s: an attribute %s=%.60q", where, a.Key, a.Val)
			}
			if address := strings.ToLower(strings.TrimSpace(a.Val)); (a.Key == "href" || a.Key == "action" || a.Key == "formaction") && !strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "#") && !strings.HasPrefix(address, "?") && !strings.HasPrefix(address, "https://one.test:") && address != "" {
				t.Errorf("%s: %s leads to %.60q", where, a.Key, a.Val)
			}
		}
	}
	return tree
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

// uploaded sends a file under a hostile name.
func (h *hostileSite) uploaded(to string, file []byte, fields url.Values) string {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	fields.Set("csrf", h.csrf)
	for key := range fields {
		_ = w.WriteField(key, fields.Get(key))
	}
	name := "" // RFC 2231 carries any byte
	for _, b := range []byte("<img src=x onerror=pwned()>\u202e\x1b[31m\nlevel=ERROR\x00\u009b\xff.pem") {
		name += fmt.Sprintf("%%%02X", b)
	}
	part, _ := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename*=UTF-8''` + name}})
	_, _ = part.Write(file)
	_ = w.Close()
	status, text := h.do(http.MethodPost, to, w.FormDataContentType(), &body, nil)
	if status >= 500 || status == http.StatusBadRequest || status == http.StatusForbidden {
		h.inProcess.t.Errorf("%s: status %d", to, status)
	}
	return text
}

// upload brings authorities, lists and certificates with hostile names into the dashboard.
func (h *hostileSite) upload() {
	t := h.inProcess.t
	for i, text := range h.texts {
		if i%2 != 0 {
			continue
		}
		ca := tlstest.NewCA(tlstest.CN(strings.ToValidUTF8(text, "\u202e")), tlstest.OrgUnit(strings.ToValidUTF8(text, "\u202e")))
		preview := page(t, fmt.Sprintf("preview of %.30q", text), h.uploaded("/authorities/preview", ca.PEM(), url.Values{}), "")
		form := url.Values{}
		for n := range preview.Descendants() {
			if n.Type == html.ElementNode && n.Data == "input" && attribute(n, "type") == "hidden" {
				form.Set(attribute(n, "name"), attribute(n, "value"))
			}
		}
		if form.Get("pem") == "" || !strings.Contains(form.Get("source"), "onerror=pwned") {
			t.Errorf("no preview of an authority named %.30q", text)
		}
		form.Set("name", text) // a name is refused or is text
		page(t, "a refused name", h.postForm("/authorities", form), text)
		if i%4 != 0 {
			continue
		}
		form.Set("name", fmt.Sprintf("hostile-%d", i))
		h.postForm("/authorities", form)
		config, _, err := h.store.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := config.Authority(fmt.Sprintf("hostile-%d", i))
		if a == nil {
			t.Fatalf("the authority %.30q is not there", text)
		}
		other := tlstest.NewCA(tlstest.CN(strings.ToValidUTF8(text, "\u202e") + "2"))
		page(t, "a foreign list", h.uploaded("/authorities/"+a.ID+"/revocation/crl", other.CRL(), url.Values{}), "")
		h.uploaded("/authorities/"+a.ID+"/revocation/crl", ca.CRL(), url.Values{})
	}
}

// explain pastes what holds hostile texts.
func (h *hostileSite) explain() {
	for i, text := range h.texts {
		ca := tlstest.NewCA(tlstest.CN(strings.ToValidUTF8(text, "\u202e")))
		for name, pasted := range map[string]string{
			"certificate": string(certificate(ca, text).ChainPEM()), "list": string(tlstest.CRLPEM(ca.CRL())), "line": "curl: (56) tlsv13 alert certificate required " + text,
			"header": `Hash=` + strings.Repeat("ab", 32) + `;Subject="CN=` + text + `";URI=` + text, "nothing": text[:min(len(text), 100)],
		} {
			if i%3 != 0 && name != "certificate" {
				continue
			}
			page(h.inProcess.t, fmt.Sprintf("explained: %s of %.30q", name, text), h.postForm("/explain", url.Values{"text": {pasted}}), pasted)
		}
	}
}

// pages follows every link from the pages that list things, to one of each kind, and to every handshake.
func (h *hostileSite) pages() {
	t := h.inProcess.t
	todo := []string{"/live?limit=200", "/clients", "/expiry", "/authorities", "/certificates", "/endpoints", "/explain", "/audit", "/settings/sessions", "/identities", "/blocked/new"}
	seen, kinds := map[string]bool{}, map[string]int{}
	file := regexp.MustCompile(`\.(pem|json|zip|csv|jsonl|yaml)$|^/(static|api)/|^/sign`)
	elsewhere := regexp.MustCompile(`^/(agents|blocked|credentials|identities/|settings$|endpoints/)`) // nobody who knocks is shown there; /blocked/new is
	id := regexp.MustCompile(`[0-9a-f]{8,}|[a-z]{2,4}_[0-9A-Z]{26}`)
	var all strings.Builder
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		where, _ := url.Parse(at)
		kind := id.ReplaceAllString(where.Path, "*")
		most := map[string]int{"/handshakes/*": 1000, "/clients/*": 10}[kind]
		if seen[at] || kinds[kind] >= max(most, 2) {
			continue
		}
		seen[at] = true
		kinds[kind]++
		status, text := h.do(http.MethodGet, at, "", nil, nil)
		if status != http.StatusOK && status != http.StatusSeeOther {
			t.Errorf("%s: status %d", at, status)
		}
		tree := page(t, at, text, "")
		all.WriteString(textOf(tree))
		if len(text) > 1<<20 {
			t.Errorf("%s: a page of %d bytes", at, len(text))
		}
		if kind == "/handshakes/*" && kinds[kind]%3 == 0 {
			if _, text := h.do(http.MethodGet, at, "", nil, http.Header{"HX-Request": {"true"}}); strings.Contains(text, "<html") {
				t.Errorf("%s: no drawer", at)
			} else {
				page(t, "the drawer of "+at, text, "")
			}
		}
		for n := range tree.Descendants() {
			to, err := url.Parse(attribute(n, "href"))
			if n.Type != html.ElementNode || n.Data != "a" || err != nil || to.Path == "" {
				continue
			}
			if to.Path = path.Clean(to.Path); !file.MatchString(to.Path) && (!elsewhere.MatchString(to.Path) || strings.HasPrefix(to.Path, "/blocked/new")) {
				to.Fragment = ""
				todo = append(todo, to.String())
			}
		}
	}
	for _, kind := range []string{"/live", "/handshakes/*", "/clients/*", "/authorities/*", "/certificates/*", "/expiry", "/audit"} {
		if kinds[kind] == 0 {
			t.Errorf("no page %s was looked at", kind)
		}
	}
	if kinds["/handshakes/*"] < h.met || kinds["/clients/*"] < 10 {
		t.Errorf("looked at %v", kinds)
	}
	for _, marker := range []string{"<img src=x onerror=pwned()>", "⟨U+202E⟩", "⟨U+001B⟩", "⟨U+009B⟩", "⟨U+0000⟩", "=cmd|", "⟨FF⟩"} {
		if !strings.Contains(all.String(), marker) {
			t.Errorf("no page shows %q as text", marker)
		}
	}
}
