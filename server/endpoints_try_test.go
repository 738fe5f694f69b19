package server

import (
	"bytes"
	"crypto/tls"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign/store/declared"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
)

func TestEndpointWouldItPass(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	clients := tlstest.NewCA(tlstest.CN("Clients"))
	f.withAuthority("clients", clients)
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), "route0_path", "/open", "route0_mode", "off")), http.StatusSeeOther)
	judge := func(pem []byte) reply { return f.post("/endpoints/shop/judge", url.Values{"pem": {string(pem)}}) }
	wantAll(t, judge(clients.Client("rhea").PEM()), 200, "<b>Yes</b>", "rhea", "signed for by clients", "/open")
	wantAll(t, judge(clients.Client("rhea", tlstest.Expired()).PEM()), 200, "<b>No</b>")
	wantAll(t, judge(tlstest.NewCA(tlstest.CN("Eve")).Client("<img src=x onerror=alert(1)>").PEM()), 200, "<b>No</b>", "&lt;img")
	wantAll(t, judge(nil), 422, "could not be judged")
	wantAll(t, judge([]byte("hello")), 422, "could not be judged")
	rhea := clients.Client("rhea")
	r := judge(append(rhea.PEM(), rhea.KeyPEM()...))
	wantAll(t, r, 422, "There is a private key in it")
	if strings.Contains(r.body, "PRIVATE KEY-----") {
		t.Error("the private key came back")
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	_ = w.WriteField("csrf", f.csrf)
	part, err := w.CreateFormFile("file", "rhea.pem")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(rhea.PEM())
	_ = w.Close()
	upload := f.request(http.MethodPost, "/endpoints/shop/judge", &body, w.FormDataContentType())
	upload.Header.Set("Origin", f.URL())
	wantAll(t, f.do(upload), 200, "<b>Yes</b>")
}

func TestEndpointTriesTheUpstream(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	inside := tlstest.NewCA(tlstest.CN("Inside"))
	plain, secure := tlstest.HTTP(t), tlstest.HTTPS(t, &tls.Config{Certificates: []tls.Certificate{inside.Server("in.side").TLS()}})
	bytesOnly := tlstest.TCP(t)
	closed := "127.0.0.1:" + strconv.Itoa(int(freeTCPPort(t)))
	for what, tt := range map[string]struct {
		change []string
		want   string
	}{
		"whoami":              {[]string{"upstream", "whoami"}, "always answers"},
		"plain":               {[]string{"upstream", plain.Addr}, "answers HTTP/1.1 with status"},
		"refused":             {[]string{"upstream", closed}, "nothing listens there"},
		"speaks TLS":          {[]string{"upstream", secure.Addr}, "speaks TLS itself"},
		"unverified":          {[]string{"upstream", "https://" + secure.Addr}, "does not hold"},
		"verified":            {[]string{"upstream", "https://" + secure.Addr, "upstream_ca", string(inside.PEM()), "upstream_name", "in.side"}, "a certificate that holds"},
		"no TLS":              {[]string{"upstream", "https://" + plain.Addr}, "does not speak TLS"},
		"sealed":              {[]string{"upstream", secure.Addr, "at", "upstream"}, "speaks TLS itself, connected"},
		"sealed, but plain":   {[]string{"upstream", plain.Addr, "at", "upstream"}, "choose the edge"},
		"bytes":               {[]string{"upstream", bytesOnly.Addr, "scheme", "tls"}, "takes connections"},
		"no HTTP":             {[]string{"upstream", tlstest.Resetting(t).Addr}, "does not answer HTTP/1.1"},
		"not found":           {[]string{"upstream", "http://nowhere.invalid:80"}, "cannot be"},
		"does not make sense": {[]string{"upstream", "gopher://x"}, "the scheme must be"},
	} {
		t.Run(what, func(t *testing.T) {
			form := endpointFields(8443, append([]string{"do", "try"}, tt.change...)...)
			r := f.post("/endpoints", form)
			if !strings.Contains(r.body, tt.want) {
				t.Errorf("status %d without %q: %.2500s", r.status, tt.want, mainOf(r.body))
			}
			if len(f.current().Endpoints) != 0 {
				t.Error("trying made an endpoint")
			}
		})
	}
}

func TestEndpointCommandsNameTrueFiles(t *testing.T) {
	dir := t.TempDir()
	f := signedIn(t, func(o *Options) {
		o.Demo = &Demo{Dir: dir, CA: "local-ca.pem", Client: "rhea.pem", P12: "rhea.p12", P12Password: "gentle-otter-47", Endpoint: "demo", Host: "demo.localhost:8443", Listen: "127.0.0.1:8443"}
	})
	local := f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	issued, err := localca.IssueClient(local, localca.ClientRequest{Name: "rhea", Now: time.Now(), Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, pem := range map[string][]byte{"local-ca.pem": localca.EncodePEM(local.Certificate), "rhea.pem": issued.CertificatePEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := freeTCPPort(t)
	wantAll(t, f.post("/endpoints", endpointFields(port, "authorities", "Local CA")), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/shop"), 200, "--cacert local-ca.pem", "--cert rhea.pem", "rhea.p12:gentle-otter-47", "cd "+dir)
	// Where that client would be refused, its file is not named.
	wantAll(t, f.post("/endpoints", endpointFields(port, "name", "other", "host", "other.localhost")), http.StatusSeeOther)
	other := f.get("/endpoints/other")
	wantAll(t, other, 200, "--cacert local-ca.pem", "--cert client.pem")
	if strings.Contains(other.body, "rhea.p") {
		t.Error("the page names a certificate that would be refused")
	}
}

func TestEndpointConfigIsReadBack(t *testing.T) {
	pin, err := termination.ParsePin(strings.Repeat("cd", 32))
	if err != nil {
		t.Fatal(err)
	}
	e := termination.Endpoint{
		Name: "a - name", Origin: termination.OriginFile, Scheme: "https", Host: "shop.localhost", Aliases: []string{"*.shop.localhost"}, Listen: netip.MustParseAddr("0.0.0.0"), Port: 8443,
		TerminateAt: termination.AtEdge, MinVersion: tls.VersionTLS13, Upstream: termination.Upstream{Scheme: "http", Address: "127.0.0.1:9"}, ForwardIdentity: []termination.IdentityFormat{"nginx"},
		ClientAuth: termination.ClientAuth{Mode: termination.ModeRequire, Pins: []termination.Pin{pin}, MaxDepth: 2, OnLoss: termination.OnLossDrain},
		Routes:     []termination.Route{{Path: "/x", ClientAuth: &termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}}},
	}
	text, _, err := endpointYAML(&e)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "countersign.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := declared.Read(file, declared.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got := d.Endpoints; len(got) != 1 || !reflect.DeepEqual(got[0], e) {
		t.Errorf("read back as\n%+v, want\n%+v\n%s", got, e, text)
	}
}
