package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"html"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// withClients is a gateway with an endpoint "api" that trusts nobody yet but by identities, and one that serves invitations.
func withClients(t *testing.T) (*fixture, uint16) {
	t.Helper()
	f := signedIn(t, nil)
	f.withLocalCA(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	f.mutate(func(tx *store.Tx) error {
		for _, name := range []string{"api", "portal"} {
			e := termination.Endpoint{
				Name: name, Enabled: true, Scheme: termination.SchemeHTTPS, Host: name + ".localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: port,
				TerminateAt: termination.AtEdge, Certificates: []string{termination.CertificateLocal},
				Upstream:   termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami},
				ClientAuth: termination.ClientAuth{Mode: termination.ModeRequest, OnLoss: termination.OnLossClose},
			}
			if name == "portal" {
				e.Upstream.Address, e.ClientAuth.Mode = termination.BuiltinPortal, termination.ModeOff
			}
			if _, err := tx.CreateEndpoint(e); err != nil {
				return err
			}
		}
		return nil
	})
	return f, port
}

// outside is a client of the gateway, not of the dashboard.
func (f *fixture) outside(port uint16, cert *tlstest.Cert) *http.Client {
	roots := x509.NewCertPool()
	for _, ca := range f.current().LocalCAs {
		roots.AddCert(ca.Certificate)
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if cert != nil {
		config.Certificates = []tls.Certificate{cert.TLSAlone()}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// eventually polls for what is written a moment later.
func (f *fixture) eventually(done func() bool) {
	f.t.Helper()
	tlstest.Eventually(f.t, "what is written a moment later", done)
}

func (f *fixture) identity(name string) *termination.Identity { return f.current().Identity(name) }

// sendClient posts a form with a file in it.
func (f *fixture) sendClient(path string, fields url.Values, file []byte) reply {
	f.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	fields = mergedForm(fields, url.Values{"csrf": {f.csrf}})
	for key, values := range fields {
		for _, v := range values {
			_ = w.WriteField(key, v)
		}
	}
	if file != nil {
		part, _ := w.CreateFormFile("file", "client.pem")
		_, _ = part.Write(file)
	}
	_ = w.Close()
	r := f.request(http.MethodPost, path, &body, w.FormDataContentType())
	r.Header.Set("Origin", f.URL())
	return f.do(r)
}

func mergedForm(a, b url.Values) url.Values {
	out := url.Values{}
	for _, v := range []url.Values{a, b} {
		for key, values := range v {
			out[key] = values
		}
	}
	return out
}

// TestClientsPages: a client is registered, changed, blocked, given a second certificate and forgotten, and what is wrong
// comes back at its field with what was typed.
func TestClientsPages(t *testing.T) {
	f, _ := withClients(t)
	if page := f.get("/identities"); page.status != 200 || !strings.Contains(page.body, "No client has a name yet") {
		t.Errorf("empty: %d", page.status)
	}
	meter, next := tlstest.SelfSigned(tlstest.CN(`<b>meter</b>`)), tlstest.SelfSigned(tlstest.CN("next"))
	for name, tt := range map[string]struct {
		form url.Values
		file []byte
		says string
	}{
		"no certificate":       {url.Values{"name": {"meter"}}, nil, "Choose a file or paste the certificate"},
		"a key":                {url.Values{"name": {"meter"}, "text": {string(meter.KeyPEM())}}, nil, "private key in it; it was not read and is not kept"},
		"a key in a file":      {url.Values{"name": {"meter"}}, append(meter.PEM(), meter.KeyPEM()...), "make a new key"},
		"no name":              {url.Values{"text": {string(meter.PEM())}}, nil, "1 to 64 characters"},
		"a rate":               {url.Values{"name": {"meter"}, "text": {string(meter.PEM())}, "rate": {"often"}}, nil, "is no rate"},
		"a burst":              {url.Values{"name": {"meter"}, "text": {string(meter.PEM())}, "rate": {"1/s"}, "burst": {"x"}}, nil, "whole number"},
		"a match":              {url.Values{"name": {"meter"}, "match": {"colour=red"}}, nil, "Line 1"},
		"no authority":         {url.Values{"name": {"meter"}, "match": {"cn=x"}}, nil, "names no authority"},
		"an unknown endpoint":  {url.Values{"name": {"meter"}, "text": {string(meter.PEM())}, "endpoint": {"nowhere"}}, nil, "there is no endpoint"},
		"an ended certificate": {url.Values{"name": {"meter"}, "text": {string(tlstest.SelfSigned(tlstest.Expired()).PEM())}}, nil, "ended on"},
	} {
		page := f.sendClient("/identities", tt.form, tt.file)
		if page.status != 422 || !strings.Contains(html.UnescapeString(page.body), tt.says) {
			t.Errorf("%s: %d, without %q", name, page.status, tt.says)
		}
		if strings.Contains(page.body, "PRIVATE KEY") {
			t.Errorf("%s: the key comes back", name)
		}
	}
	if page := f.sendClient("/identities", url.Values{"name": {"meter"}, "endpoint": {"api"}, "rate": {"5/s"}}, meter.PEM()); page.status != 303 || page.header.Get("Location") != "/identities/meter" {
		t.Fatalf("%d %s", page.status, page.body)
	}
	page := f.get("/identities/meter")
	if page.status != 200 || strings.Contains(page.body, "<b>meter</b>") || !strings.Contains(page.body, "never seen") || !strings.Contains(page.body, "rate: 5/s") {
		t.Errorf("its page: %d %s", page.status, page.body)
	}
	if page := f.sendClient("/identities", url.Values{"name": {"other"}}, meter.PEM()); !strings.Contains(page.body, "registered already, for the identity meter") {
		t.Errorf("a duplicate: %d", page.status)
	}
	if page := f.sendClient("/identities/meter/certificates", nil, append(next.PEM(), next.KeyPEM()...)); page.status != 422 || len(f.identity("meter").Pins) != 1 {
		t.Errorf("a key with the second: %d", page.status)
	}
	if page := f.sendClient("/identities/meter/certificates", nil, next.PEM()); page.status != 303 || len(f.identity("meter").Pins) != 2 {
		t.Fatalf("the second: %d", page.status)
	}
	pin := f.identity("meter").Pins[0].String()
	if page := f.post("/identities/meter/certificates/remove", url.Values{"pin": {pin}}); page.status != 303 || len(f.identity("meter").Certificates) != 1 {
		t.Errorf("removed: %d", page.status)
	}
	if page := f.post("/identities/meter/block", url.Values{}); page.status != 303 || !f.identity("meter").Blocked {
		t.Errorf("blocked: %d", page.status)
	}
	if page := f.get("/identities?state=blocked&q=METER"); !strings.Contains(page.body, `href="/identities/meter"`) {
		t.Error("it is not among the blocked")
	}
	if page := f.get("/identities?state=in_use"); strings.Contains(page.body, `href="/identities/meter"`) || !strings.Contains(page.body, "No client fits") {
		t.Error("it is in use")
	}
	if page := f.post("/identities/meter/unblock", url.Values{}); page.status != 303 || f.identity("meter").Blocked {
		t.Errorf("unblocked: %d", page.status)
	}
	if page := f.post("/identities/meter/settings", url.Values{"name": {"gauge"}, "endpoint": {"api"}, "rate": {""}}); page.status != 303 || f.identity("gauge") == nil || f.identity("gauge").Rate.Limited() {
		t.Errorf("settings: %d", page.status)
	}
	if page := f.post("/identities/gauge/settings", url.Values{"name": {"gauge"}, "rate": {"x"}}); page.status != 422 {
		t.Errorf("bad settings: %d", page.status)
	}
	if page := f.post("/identities/gauge/delete", url.Values{"confirm": {"no"}}); page.status != 422 || f.identity("gauge") == nil {
		t.Errorf("deleted without confirmation: %d", page.status)
	}
	if page := f.post("/identities/gauge/delete", url.Values{"confirm": {"gauge"}}); page.status != 303 || f.identity("gauge") != nil {
		t.Errorf("deleted: %d", page.status)
	}
	for _, path := range []string{"/identities/gauge", "/identities/..%2f", "/identities/new?handshake=hs_x"} {
		if page := f.get(path); page.status != 404 {
			t.Errorf("%s: %d", path, page.status)
		}
	}
}

// TestRegisterFromHandshake: only a leaf whose key was proven, and only by somebody who has the fingerprint from elsewhere.
func TestRegisterFromHandshake(t *testing.T) {
	f, port := withClients(t)
	devices := tlstest.NewCA(tlstest.CN("Devices"))
	client := devices.Client("client")
	res, err := f.outside(port, client).Get(fmt.Sprintf("https://api.localhost:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	var id string
	f.eventually(func() bool {
		page, err := f.store.Handshakes(t.Context(), store.HistoryQuery{Limit: 10})
		for _, r := range page.Records {
			id = r.Handshake.ID
		}
		return err == nil && id != ""
	})
	form := f.get("/identities/new?handshake=" + id)
	if form.status != 200 || !strings.Contains(form.body, "CN=client") || strings.Contains(strings.ToLower(form.body), client.Fingerprint()) {
		t.Fatalf("%d; the fingerprint must come from elsewhere: %s", form.status, form.body)
	}
	for name, compare := range map[string]string{"nothing": "", "half": client.Fingerprint()[:32], "that of its CA": devices.Fingerprint()} {
		if page := f.sendClient("/identities", url.Values{"name": {"client"}, "handshake": {id}, "compare": {compare}}, nil); page.status != 422 || f.identity("client") != nil {
			t.Errorf("%s: %d", name, page.status)
		}
	}
	if page := f.sendClient("/identities", url.Values{"name": {"client"}, "handshake": {id}, "compare": {client.Fingerprint()}}, nil); page.status != 303 || len(f.identity("client").Pins) != 1 {
		t.Errorf("%d %s", page.status, page.body)
	}
	if len(f.current().Authorities) != 1 || len(f.identity("client").Issuers) != 0 {
		t.Error("P42: an authority came from the wire")
	}
}

// TestPortal: invited clients register what they have, each wrong thing gets its message and leaves the invitation as it
// is, and no key is kept.
func TestPortal(t *testing.T) {
	f, port := withClients(t)
	ca := f.current().LocalCAs[0].Name
	invite := func(form url.Values) string {
		t.Helper()
		page := f.post("/identities/invite", mergedForm(url.Values{"portal": {f.current().Endpoint("portal").ID}, "endpoint": {"api"}, "life": {"a day"}}, form))
		m := regexp.MustCompile(`https://portal\.localhost:\d+/i/csreg1_[A-Za-z0-9_-]+`).FindString(page.body)
		if page.status != 200 || m == "" {
			t.Fatalf("%d %s", page.status, page.body)
		}
		return m
	}
	client := f.outside(port, nil)
	send := func(link, kind string, body []byte) (int, string, http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, link, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text), res.Header
	}
	const curl = "application/x-www-form-urlencoded" // what curl --data-binary says, whatever it sends
	link := invite(url.Values{"name": {"meter"}})
	meter := tlstest.SelfSigned(tlstest.CN("meter"), tlstest.Valid(time.Now().Add(-day), time.Now().Add(100*day)))
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "anything"}}, meter.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		body []byte
		says string
	}{
		"a key":           {append(meter.PEM(), meter.KeyPEM()...), "private key in it; it was not read and is not kept"},
		"a request":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}), "no CA here that signs it"},
		"an ended one":    {tlstest.SelfSigned(tlstest.Expired()).PEM(), "ended on"},
		"an early one":    {tlstest.SelfSigned(tlstest.Valid(time.Now().Add(2*day), time.Now().Add(9*day))).PEM(), "not valid before"},
		"a CA":            {tlstest.NewCA().Intermediate().PEM(), "certificate of a CA"},
		"a weak one":      {tlstest.SelfSigned(tlstest.RSA(1024)).PEM(), "1024 bits"},
		"a server's":      {tlstest.NewCA().Server("x.example").PEM(), "no room for clients"},
		"a chain":         {append(meter.PEM(), tlstest.NewCA().PEM()...), "your own certificate alone"},
		"nothing":         {nil, "nothing in it"},
		"something large": {make([]byte, 3*termination.MaxUpload), "too large"},
	} {
		status, text, _ := send(link, curl, tt.body)
		if status != 422 || !strings.Contains(text, tt.says) || strings.Contains(text, "BEGIN PRIVATE") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	status, text, header := send(link, curl, meter.PEM())
	if status != 201 || !strings.Contains(text, "meter is registered") || !strings.Contains(text, strings.ToUpper(meter.Fingerprint()[:2])+":") || !strings.Contains(text, "curl --cert") {
		t.Fatalf("%d %s", status, text)
	}
	if header.Get("Referrer-Policy") != "no-referrer" || header.Get("Cache-Control") != "no-store" || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("headers %v", header)
	}
	if i := f.identity("meter"); i == nil || i.Endpoints[0] != "api" {
		t.Fatalf("registered %+v", i)
	}
	res, err := f.outside(port, meter).Get(fmt.Sprintf("https://api.localhost:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	who, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if !strings.Contains(string(who), "You are meter.") {
		t.Errorf("it is not known: %s", who)
	}
	if status, text, _ := send(link, curl, meter.PEM()); status != 410 || !strings.Contains(text, "used already") {
		t.Errorf("used twice: %d %s", status, text)
	}

	// A request is signed for the name of the invitation alone.
	link = invite(url.Values{"name": {"signed"}, "ca": {ca}})
	status, text, _ = send(link, "application/octet-stream", request)
	block, _ := pem.Decode([]byte(text))
	if status != 201 || block == nil {
		t.Fatalf("%d %s", status, text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.Subject.CommonName != "signed" || f.identity("signed").Pins[0].Fingerprint != termination.FingerprintOf(cert) {
		t.Errorf("signed %v, %v", cert.Subject, err)
	}
	// A constrained CA says what it cannot.
	link = invite(url.Values{"name": {"www.example.com"}, "ca": {ca}})
	if status, text, _ := send(link, curl, request); status != 422 || !strings.Contains(text, "may not sign this") {
		t.Errorf("constrained: %d %s", status, text)
	}
	// An identity that is there gets one more; and whose a taken certificate is, no stranger learns.
	second := tlstest.SelfSigned(tlstest.CN("second"), tlstest.Valid(time.Now().Add(-day), time.Now().Add(100*day)))
	link = invite(url.Values{"identity": {f.identity("meter").ID}})
	if status, text, _ := send(link, curl, []byte("text="+url.QueryEscape(string(meter.PEM())))); status != 422 || !strings.Contains(text, "registered already") || strings.Contains(text, "identity meter") {
		t.Errorf("taken: %d %s", status, text)
	}
	if status, text, _ := send(link, curl, []byte("text="+url.QueryEscape(string(second.PEM())))); status != 201 || len(f.identity("meter").Pins) != 2 {
		t.Errorf("one more: %d %s", status, text)
	}
	for _, path := range []string{"/", "/i/", "/i/x", "/i/csreg1_x", "/i/a/b"} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://portal.localhost:%d%s", port, path), nil)
		r.Header.Set("Accept", "text/html")
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		page, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 404 || bytes.Contains(page, []byte("<form")) {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if got := f.traces(); strings.Contains(got, "csreg1_") {
		t.Error("a link is in the log")
	}
	keyTraces(t, f, meter)
}

// keyTraces looks for a private key in everything that is kept (P31).
func keyTraces(t *testing.T, f *fixture, c *tlstest.Cert) {
	t.Helper()
	block, _ := pem.Decode(c.KeyPEM())
	body := strings.Split(strings.TrimSpace(string(c.KeyPEM())), "\n")[1]
	if strings.Contains(f.log.String(), body) {
		t.Error("the key is in the log")
	}
	err := filepath.WalkDir(f.store.Dir(), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(body)) || bytes.Contains(data, block.Bytes) {
			t.Errorf("the key is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPortalPace(t *testing.T) {
	var p portalPace
	now := time.Unix(1_000_000, 0)
	one := netip.MustParseAddr("203.0.113.9")
	for n := range 2 * portalPerMin {
		if got := p.allow(one, now); got != (n < portalPerMin) {
			t.Fatalf("try %d: %v", n, got)
		}
	}
	for n := range 2 * portalAllPerMn {
		p.allow(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), now)
	}
	if len(p.by) > portalAllPerMn+1 || p.allow(netip.MustParseAddr("198.51.100.1"), now) {
		t.Errorf("%d addresses are remembered", len(p.by))
	}
	if !p.allow(one, now.Add(time.Minute)) || p.allow(netip.Addr{}, now) {
		t.Error("a minute later")
	}
	if status := recordPortal(&Portal{}); status != http.StatusServiceUnavailable {
		t.Errorf("before it is ready: %d", status)
	}
}

func recordPortal(p *Portal) int {
	w := &statusWriter{header: http.Header{}}
	r, _ := http.NewRequest(http.MethodGet, "https://portal.localhost/i/x", nil) //nolint:noctx // it goes nowhere
	p.ServeHTTP(w, r)
	return w.status
}

type statusWriter struct {
	header http.Header
	status int
}

func (w *statusWriter) Header() http.Header         { return w.header }
func (w *statusWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *statusWriter) WriteHeader(s int)           { w.status = s }
