package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"countersign/store"
	"countersign/termination/tlstest"
)

// hostileTexts try to be markup, script, a formula, a line of the log, an order to a terminal, or something that nobody sees.
func hostileTexts() []string {
	return []string{
		"<img src=x onerror=pwned()>", "\"><script>pwned()</script></title></textarea><a href=\"javascript:pwned()\">", "' onmouseover='pwned()' `${7*7}` {{7*7}}",
		"x\nlevel=ERROR msg=pwned\r\n{\"level\":\"ERROR\",\"msg\":\"pwned\"}", "\x1b[31mred\x1b]8;;http://evil.example/\x07link\x1b]8;;\x07", "c1\u009b31m\u009d0;pwned\u009c nul\x00",
		"=cmd|'/C calc'!A1", "@SUM(1+1)*cmd|'x'!A1,\"=1+1\";-1", "\t=1+1", "rtl\u202egnp.exe\u2066\u200b\ufeff sep\u2028\u2029\u0085", "bad\xff\xfe\xc0\xaf\x9b",
		strings.Repeat("<b>\u202e", 1700), "zalgo" + strings.Repeat("\u0301\u0489", 200), "tag\U000e0041\U000e007f &#x202e;&lt;img&gt; ../../etc/passwd",
	}
}

// harmful reports whether a character would be obeyed or hidden where text is shown.
func harmful(r rune) bool {
	if r == '\n' || r == '\t' || r >= ' ' && r < 0x7f {
		return false
	}
	return r < 0xa0 || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

// shown checks that text is UTF-8 that shows what is there.
func shown(t testing.TB, where, text string) {
	t.Helper()
	if i := strings.IndexFunc(text, harmful); i >= 0 || !utf8.ValidString(text) {
		t.Errorf("%s: %q passes (UTF-8: %t)", where, text[max(i-60, 0):min(max(i, 0)+60, len(text))], utf8.ValidString(text))
	}
}

// hostileSite is a gateway that met every hostile text in every place, and somebody who looks at it.
type hostileSite struct {
	*site
	*inProcess
	log     *buffer
	browser *http.Client
	csrf    string
	token   string
	texts   []string
	met     int // handshakes
}

// Whatever a stranger writes, wherever it can, is text wherever it is shown.
func TestHostileTextIsTextEverywhere(t *testing.T) {
	h := newHostileSite(t)
	h.meetThemAll()
	h.signIn()
	h.upload()
	h.explain()
	h.pages()
	h.documents()
	h.terminal()
	h.written()
}

func newHostileSite(t *testing.T) *hostileSite {
	t.Helper()
	h := &hostileSite{site: newSite(t), log: &buffer{}, texts: hostileTexts()}
	h.ca = tlstest.NewCA(tlstest.CN("<img src=x onerror=pwned()>\u202e\x1b[31m"), tlstest.OrgUnit("=1+1"))
	server := h.ca.Server("one.test", tlstest.CN("</title><script>pwned()</script>\u202e"), tlstest.OrgUnit("\x1b[31m"))
	writeFile(t, filepath.Join(h.dir, "server.pem"), server.PEM())
	writeFile(t, filepath.Join(h.dir, "server.key"), server.KeyPEM())
	writeFile(t, filepath.Join(h.dir, "ca.pem"), h.ca.PEM())
	h.write("log: {format: json, level: debug, handshakes: all}\n" + h.config("one"))
	h.inProcess = start(t, dataDir(t), func(o *appOptions) { o.Config, o.Log, o.LogTo = h.path, nil, h.log })
	actor := store.Actor{Name: "test", Via: "test"}
	var err error
	if _, h.token, err = h.store.CreateToken(t.Context(), actor, "reader", store.ScopeRead); err != nil {
		t.Fatal(err)
	}
	return h
}

// ascii is a text as an IA5String can carry it, so that crypto/x509 takes it for a name.
func ascii(text string, most int) string {
	out := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '<'
		}
		return r
	}, text)
	return out[:min(len(out), most)]
}

// certificate has a text wherever a certificate holds text.
func certificate(ca *tlstest.Cert, text string) *tlstest.Cert {
	opts := []tlstest.Option{tlstest.OrgUnit(text), tlstest.Org(text), tlstest.DNS(ascii(text, 2000)), tlstest.Email(ascii(text, 200) + "@evil.example")}
	if !utf8.ValidString(text) { // crypto/x509 makes no such name, and reads a T61String as it stands
		value := asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte(text)}
		der, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: value}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: value}}})
		if err != nil {
			panic(err)
		}
		opts = []tlstest.Option{tlstest.RawSubject(der)}
		text = "replaced"
	}
	return ca.Client(text, opts...)
}

// meetThemAll makes two handshakes with each text, one that asks for it and one whose certificate and issuer are named so, and with some, one that is
// let in. Each puts it into a request.
func (h *hostileSite) meetThemAll() {
	var all sync.WaitGroup
	for i, text := range h.texts {
		alpn := text[:min(len(text), 200)]
		stranger := certificate(tlstest.NewCA(tlstest.CN(strings.ToValidUTF8(text, "\u202e"))), text)
		for name, c := range map[string]*tls.Config{
			"asks":    {ServerName: text, NextProtos: []string{alpn}},
			"unknown": {ServerName: "one.test", NextProtos: []string{alpn, "http/1.1"}, Certificates: []tls.Certificate{stranger.TLS()}},
			"known":   {ServerName: "one.test", NextProtos: []string{alpn, "http/1.1"}, Certificates: []tls.Certificate{certificate(h.ca, text).TLS()}},
		} {
			if name == "known" && i%3 != 0 {
				continue
			}
			h.met++
			all.Go(func() { h.visit(name, text, c) })
		}
	}
	h.met++
	all.Go(func() { h.visit("plain", "\x1b[31m<script>pwned()</script>", nil) })
	all.Wait()
	eventually(h.inProcess.t, fmt.Sprintf("%d handshakes are recorded", h.met), func() bool {
		page, err := h.store.Handshakes(h.inProcess.t.Context(), store.HistoryQuery{Limit: 1000})
		return err == nil && len(page.Records) >= h.met
	})
}

func (h *hostileSite) visit(name, text string, config *tls.Config) {
	t := h.inProcess.t
	raw, err := (&net.Dialer{Timeout: deadline}).DialContext(t.Context(), "tcp", netip.AddrPortFrom(loopback(), h.port).String())
	if err != nil {
		t.Error(err)
		return
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(deadline))
	conn := raw
	if config != nil {
		config.InsecureSkipVerify = true // whoever answers
		if len(config.Certificates) > 0 {
			cert := config.Certificates[0]
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
		conn = tls.Client(raw, config)
	}
	line := strings.NewReplacer("\n", "", "\r", "").Replace(text)
	fmt.Fprintf(conn, "GET /%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %[1]s\r\nX-Forwarded-For: %[1]s\r\nConnection: close\r\n\r\n", line, "one.test")
	answer, err := io.ReadAll(conn)
	if name == "known" && len(answer) == 0 {
		t.Errorf("a known client with %.40q in its request got no answer: %v", text, err)
	}
	shown(t, "the answer to "+name, strings.ReplaceAll(string(answer), "\r", ""))
}

func (h *hostileSite) link() string {
	l, err := signInLink(context.Background(), h.options.Data)
	if err != nil {
		h.inProcess.t.Fatal(err)
	}
	return l
}

// do sends a request as a browser with a hostile name would, and reads the answer.
func (h *hostileSite) do(method, path, mediaType string, body io.Reader, header http.Header) (status int, text string) {
	t := h.inProcess.t
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.server.URL()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set("User-Agent", "<img src=x onerror=pwned()>\u202e")
	r.Header.Set("Origin", h.server.URL())
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	res, err := h.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(out)
}

func (h *hostileSite) get(path string) string {
	h.inProcess.t.Helper()
	status, text := h.do(http.MethodGet, path, "", nil, http.Header{"Authorization": {"Bearer " + h.token}})
	if status != http.StatusOK {
		h.inProcess.t.Errorf("%s: status %d", path, status)
	}
	return text
}

func (h *hostileSite) postForm(path string, form url.Values) string {
	form.Set("csrf", h.csrf)
	_, text := h.do(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), nil)
	return text
}

// documents checks what programs read: the API, exports, bundles and metrics.
func (h *hostileSite) documents() {
	t := h.inProcess.t
	var list struct{ Items []struct{ ID string } }
	texts := map[string]string{}
	fetch := func(path string) string {
		text := h.get(path)
		texts[path] = text
		return text
	}
	if err := json.Unmarshal([]byte(fetch("/api/v1/handshakes?limit=1000")), &list); err != nil || len(list.Items) < h.met {
		t.Fatalf("%d handshakes, %v", len(list.Items), err)
	}
	for _, path := range []string{"/api/v1/handshakes/rows?limit=1000", "/api/v1/handshakes/pulse", "/api/v1/handshakes/values?key=client", "/api/v1/handshakes/values?key=sni", "/api/v1/clients", "/api/v1/clients/alerts", "/api/v1/authorities", "/api/v1/certificates"} {
		fetch(path)
	}
	for i, x := range list.Items {
		if i%3 != 0 {
			continue
		}
		fetch("/api/v1/handshakes/" + x.ID)
		if x.ID == list.Items[0].ID {
			fetch("/handshakes/" + x.ID + "/record.json")
		}
		archive := h.get("/handshakes/" + x.ID + "/bundle.zip?addresses=1")
		z, err := zip.NewReader(strings.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			shown(t, "a name in a bundle", f.Name)
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			shown(t, f.Name, string(text))
		}
	}
	for path, text := range texts {
		shown(t, path, text)
		if !json.Valid([]byte(text)) {
			t.Errorf("%s is no JSON", path)
		}
	}
	lines := strings.Split(strings.TrimSuffix(h.get("/live/export.jsonl"), "\n"), "\n")
	for _, line := range lines {
		shown(t, "the JSON Lines", line)
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the export is no JSON: %.100q", line)
		}
	}
	if len(lines) != len(list.Items)+1 {
		t.Errorf("%d handshakes are %d lines of JSON", len(list.Items), len(lines))
	}
	table := h.get("/live/export.csv")
	shown(t, "the CSV", strings.ReplaceAll(table, "\r\n", "\n"))
	reader := csv.NewReader(strings.NewReader(table))
	reader.FieldsPerRecord = -1
	rows, err := reader.ReadAll()
	if err != nil || len(rows) != len(list.Items)+2 || strings.Count(table, "\n") != len(rows) {
		t.Errorf("%d handshakes are %d rows in %d lines: %v", len(list.Items), len(rows), strings.Count(table, "\n"), err)
	}
	for _, cell := range slices.Concat(rows...) {
		if regexp.MustCompile("(?:^|[,;|])[\"` ]*[=+@＝＋＠-]").MatchString(cell) {
			t.Errorf("a cell may be a formula: %.80q", cell)
		}
	}
	metrics := h.get("/metrics")
	shown(t, "the metrics", metrics)
	if strings.Contains(metrics, "pwned") {
		t.Error("a stranger's text is a label of the metrics")
	}
}

// terminal checks what the commands print.
func (h *hostileSite) terminal() {
	t := h.inProcess.t
	command := func(args ...string) (out string) {
		var o, e bytes.Buffer
		p := &program{out: &o, err: &e, getenv: func(name string) string { return map[string]string{"LC_ALL": "C.UTF-8"}[name] }, version: "test"}
		p.run(t.Context(), append(args, "--data", h.options.Data))
		shown(t, fmt.Sprintf("%.80q", args), o.String())
		shown(t, fmt.Sprintf("errors of %.80q", args), e.String())
		return o.String()
	}
	want := h.met
	if lines := strings.Split(strings.TrimSuffix(command("tail", "--no-follow", "-n", "1000"), "\n"), "\n"); len(lines) != want || slices.ContainsFunc(lines, func(l string) bool { return !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}  `).MatchString(l) }) {
		t.Errorf("tail prints %d lines for %d handshakes, or others", len(lines), want)
	}
	if lines := strings.Count(command("tail", "--no-follow", "-n", "1000", "--json"), "\n"); lines != want {
		t.Errorf("tail --json prints %d lines for %d handshakes", lines, want)
	}
	for i, text := range h.texts {
		path := filepath.Join(h.dir, fmt.Sprintf("hostile-%d.pem", i))
		ca := tlstest.NewCA(tlstest.CN(strings.ToValidUTF8(text, "?")))
		writeFile(t, path, certificate(ca, text).PEM())
		list := filepath.Join(h.dir, fmt.Sprintf("hostile-%d.crl", i))
		writeFile(t, list, ca.CRL())
		if out := command("explain", path, list); out == "" {
			t.Errorf("nothing is said about %.40q", text)
		}
	}
	command("explain", filepath.Join(h.dir, "\x1b[31m\u202enot there\nlevel=ERROR"))
	command("tail", "--no-follow", "client:\x1b[31m\u202e", "bogus\x1b[31m:x")
	command("\x1b[31m\u202e")
	nothing := filepath.Join(h.dir, "\x1b]0;pwned\x07\u202e\nname.pem")
	writeFile(t, nothing, []byte("\x1b[31m<script>"))
	command("explain", nothing)
}

// written checks the log in both formats.
func (h *hostileSite) written() {
	t := h.inProcess.t
	page, err := h.store.Handshakes(t.Context(), store.HistoryQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	text := &buffer{}
	lines := newLogger(text, logWords{format: "text", level: "debug"})
	for _, r := range page.Records {
		lines.LogAttrs(t.Context(), levelOf(r.Handshake), "handshake", handshakeAttrs(r.Handshake)...)
	}
	h.end()
	handshakes := 0
	for line := range strings.Lines(h.log.String()) {
		shown(t, "the log", line)
		var x struct{ Msg string }
		if err := json.Unmarshal([]byte(line), &x); err != nil || x.Msg == "pwned" {
			t.Errorf("a line of the log is forged: %.100q (%v)", line, err)
		}
		if x.Msg == "handshake" {
			handshakes++
		}
	}
	if handshakes != len(page.Records) {
		t.Errorf("%d handshakes have %d lines of the log", len(page.Records), handshakes)
	}
	shown(t, "the log as text", text.String())
	if n := strings.Count(text.String(), "\n"); n != len(page.Records) || strings.Count("\n"+text.String(), "\ntime=") != n {
		t.Errorf("%d handshakes have %d lines of text", len(page.Records), n)
	}
}
