package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
	"countersign/termination/tlstest"
)

// freeTCPPort returns a port on loopback that was free a moment ago.
func freeTCPPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port() //nolint:forcetypeassert // a TCP listener
}

// withAuthority stores an authority of one anchor.
func (f *fixture) withAuthority(name string, ca *tlstest.Cert) {
	f.t.Helper()
	f.mutate(func(tx *store.Tx) error {
		_, err := tx.CreateAuthority(termination.Authority{Name: name, Certificates: []termination.CACertificate{{Certificate: ca.Root().X509, Role: termination.RoleAnchor}}})
		return err
	})
}

// withLocalCA stores a local CA, and the authority that holds it.
func (f *fixture) withLocalCA(constrained bool) *termination.LocalCA {
	f.t.Helper()
	ca, err := localca.Create(localca.Options{Name: "Local CA", Constrained: constrained, Now: time.Now()})
	if err != nil {
		f.t.Fatal(err)
	}
	f.mutate(func(tx *store.Tx) error {
		if _, err := tx.CreateAuthority(termination.Authority{Name: ca.Name, Certificates: []termination.CACertificate{{Certificate: ca.Certificate, Role: termination.RoleAnchor}}}); err != nil {
			return err
		}
		return tx.CreateLocalCA(ca.Name, ca.Key, constrained)
	})
	return ca
}

func (f *fixture) mutate(change func(*store.Tx) error) {
	f.t.Helper()
	if _, err := f.Change(f.t.Context(), store.Actor{Name: "test", Via: "command"}, change); err != nil {
		f.t.Fatal(err)
	}
}

// endpointFields is the form of a good endpoint; pairs replace fields.
func endpointFields(port uint16, pairs ...string) url.Values {
	form := url.Values{
		"do": {"save"}, "name": {"shop"}, "scheme": {"https"}, "host": {"shop.localhost"}, "port": {strconv.Itoa(int(port))}, "at": {"edge"},
		"upstream": {"whoami"}, "listen": {"127.0.0.1"}, "mode": {"require"}, "authorities": {"clients"}, "inherit": {"on"}, "announce": {"on"},
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if form.Del(pairs[i]); pairs[i+1] != "" {
			form.Set(pairs[i], pairs[i+1])
		}
	}
	return form
}

// visit makes one request over TLS to 127.0.0.1.
func visit(t *testing.T, roots *x509.CertPool, name string, port uint16, own *tlstest.Cert) (int, string, error) {
	t.Helper()
	config := &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}
	if own != nil {
		// Also where the server names other authorities: a stranger who insists.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { c := own.TLS(); return &c, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = fmt.Sprintf("%s:%d", name, port)
	res, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

func wantAll(t *testing.T, r reply, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d; %.1500s", r.status, status, mainOf(r.body))
	}
	for _, text := range texts {
		if !strings.Contains(r.body, text) {
			t.Errorf("the page lacks %q: %.3000s", text, mainOf(r.body))
		}
	}
}

func mainOf(page string) string {
	_, rest, _ := strings.Cut(page, "<main")
	return rest
}

// formOf reads the fields of the form with that action, as a browser would send them.
func formOf(t *testing.T, page, action string) url.Values {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{}
	var walk func(n *html.Node, inside bool)
	walk = func(n *html.Node, inside bool) {
		inside = inside || n.Data == "form" && attribute(n, "action") == action
		if inside && n.Type == html.ElementNode {
			name, value := attribute(n, "name"), attribute(n, "value")
			switch n.Data {
			case "input":
				if kind := attribute(n, "type"); kind != "checkbox" && kind != "radio" || has(n, "checked") {
					form.Add(name, value)
				}
			case "textarea":
				if n.FirstChild != nil {
					form.Add(name, n.FirstChild.Data)
				} else {
					form.Add(name, "")
				}
			case "option":
				if has(n, "selected") {
					form.Add(attribute(n.Parent, "name"), value)
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c, inside)
		}
	}
	walk(root, false)
	return form
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

func TestEndpointIsMadeAndWorks(t *testing.T) {
	f := signedIn(t, nil)
	local := f.withLocalCA(true)
	clients, strangers := tlstest.NewCA(tlstest.CN("Clients")), tlstest.NewCA(tlstest.CN("Strangers"))
	f.withAuthority("clients", clients)
	port := freeTCPPort(t)

	r := f.post("/endpoints", endpointFields(port))
	if r.status != http.StatusSeeOther || r.header.Get("Location") != "/live?f=endpoint%3Ashop" {
		t.Fatalf("status %d to %q: %s", r.status, r.header.Get("Location"), mainOf(r.body))
	}
	roots := x509.NewCertPool()
	roots.AddCert(local.Certificate)
	if status, body, err := visit(t, roots, "shop.localhost", port, clients.Client("rhea")); err != nil || status != http.StatusOK || !strings.Contains(body, "rhea") {
		t.Errorf("a client of the CA: %d %v %.200s", status, err, body)
	}
	if _, _, err := visit(t, roots, "shop.localhost", port, strangers.Client("eve")); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
		t.Errorf("a stranger got %v, want the alert unknown_ca", err)
	}
	if _, _, err := visit(t, roots, "shop.localhost", port, nil); err == nil {
		t.Error("a client without a certificate came in")
	}
	wantAll(t, f.get("/endpoints"), 200, "shop", "Trusted CA", "1 CA", " left", "TLS 1.2 allowed")
	page := f.get("/endpoints/shop")
	wantAll(t, page, 200, "listening", "exact TLS alert", "Where TLS ends", "client.pem", "shop-ca.pem", "renews itself", "held here", "yes, and checks it", fmt.Sprintf("https://shop.localhost:%d/", port))
	if strings.Contains(page.body, "--resolve") {
		t.Error("a name below localhost is resolved by hand")
	}
	ca := f.get("/endpoints/shop/ca.pem")
	if !bytes.Equal([]byte(ca.body), localca.EncodePEM(local.Certificate)) {
		t.Errorf("the CA to download is %q", ca.body)
	}
	// Let everyone in, and everyone comes.
	wantAll(t, f.post("/endpoints/shop/policy", url.Values{"mode": {"off"}}), http.StatusSeeOther)
	if status, _, err := visit(t, roots, "shop.localhost", port, nil); err != nil || status != http.StatusOK {
		t.Errorf("nobody is asked any more, but: %d %v", status, err)
	}
	wantAll(t, f.get("/endpoints"), 200, "anyone may come in")
	wantAll(t, f.get("/endpoints/shop/history"), 200, "clientAuth.mode", "require", "rhea")
	// Stopped, it does not listen; started, it does.
	wantAll(t, f.post("/endpoints/shop/stop", url.Values{}), http.StatusSeeOther)
	if _, _, err := visit(t, roots, "shop.localhost", port, nil); err == nil {
		t.Error("a stopped endpoint answers")
	}
	wantAll(t, f.get("/endpoints"), 200, "stopped", "by rhea, ")
	wantAll(t, f.post("/endpoints/shop/start", url.Values{}), http.StatusSeeOther)
	if status, _, err := visit(t, roots, "shop.localhost", port, nil); err != nil || status != http.StatusOK {
		t.Errorf("started again: %d %v", status, err)
	}
	// Gone, it is gone.
	wantAll(t, f.get("/endpoints/shop/delete"), 200, "Delete shop?", "open now")
	wantAll(t, f.post("/endpoints/shop/delete", url.Values{}), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/shop"), 404, "There is no endpoint")
	wantAll(t, f.get("/endpoints"), 200, "No endpoint yet", "hello.localhost")
}

func TestEndpointFirstExampleWorks(t *testing.T) {
	f := signedIn(t, nil)
	wantAll(t, f.get("/endpoints"), 200, "No endpoint yet", "a local CA, which is made with it", `name="make_ca"`)
	port := freeTCPPort(t)
	form := url.Values{"name": {"hello"}, "scheme": {"https"}, "host": {"hello.localhost"}, "port": {strconv.Itoa(int(port))}, "listen": {"127.0.0.1"}, "at": {"edge"}, "upstream": {"whoami"}, "mode": {"off"}, "inherit": {"on"}, "announce": {"on"}, "make_ca": {"on"}}
	wantAll(t, f.post("/endpoints", form), http.StatusSeeOther)
	roots := x509.NewCertPool()
	roots.AddCert(f.current().LocalCAs[0].Certificate)
	if status, _, err := visit(t, roots, "hello.localhost", port, nil); err != nil || status != http.StatusOK {
		t.Errorf("the example answers %d %v", status, err)
	}
}

func TestEndpointFormRefuses(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	port := freeTCPPort(t)
	wantAll(t, f.post("/endpoints", endpointFields(port)), http.StatusSeeOther)
	key := string(tlstest.NewCA().KeyPEM())
	for what, tt := range map[string]struct {
		change []string
		want   string
	}{
		"name taken":            {[]string{"host", "other.localhost"}, "there is another endpoint named"},
		"address taken":         {[]string{"name", "two"}, "belongs to endpoint"},
		"reserved name":         {[]string{"name", "new"}, "address of a page"},
		"bad name":              {[]string{"name", "<b>"}, "a name begins with"},
		"bad host":              {[]string{"name", "two", "host", "shop localhost"}, "not a server name"},
		"address as host":       {[]string{"name", "two", "host", "127.0.0.1"}, "is an IP address"},
		"wildcard as host":      {[]string{"name", "two", "host", "*.localhost"}, "belongs under more names"},
		"bad port":              {[]string{"name", "two", "port", "70000"}, "from 1 to 65535"},
		"bad interface":         {[]string{"name", "two", "listen", "eth0"}, "no address of an interface"},
		"bad upstream":          {[]string{"name", "two", "host", "b.localhost", "upstream", "gopher://x"}, "the scheme must be"},
		"later upstream":        {[]string{"name", "two", "host", "b.localhost", "upstream", "pki"}, "not in this version"},
		"nobody trusted":        {[]string{"name", "two", "host", "b.localhost", "authorities", ""}, "nobody could come in"},
		"unknown authority":     {[]string{"name", "two", "host", "b.localhost", "authorities", "nobody"}, "there is no authority"},
		"unknown certificate":   {[]string{"name", "two", "host", "b.localhost", "certificates", "nothing"}, "there is no certificate"},
		"off beside a CA":       {[]string{"name", "two", "host", "b.localhost", "mode", "off"}, "off ignores the authorities"},
		"bad pin":               {[]string{"name", "two", "host", "b.localhost", "pins", "abc"}, "64 hex digits"},
		"bad depth":             {[]string{"name", "two", "host", "b.localhost", "max_depth", "11"}, "from 1 to 10"},
		"versions crossed":      {[]string{"name", "two", "host", "b.localhost", "min_version", "1.3", "max_version", "1.2"}, "above max_version"},
		"unknown version":       {[]string{"name", "two", "host", "b.localhost", "min_version", "1.1"}, "only 1.2 and 1.3"},
		"agent":                 {[]string{"name", "two", "host", "b.localhost", "at", "agent"}, "beside the agent"},
		"policy when sealed":    {[]string{"name", "two", "host", "b.localhost", "at", "upstream", "upstream", "127.0.0.1:9"}, "we cannot check what we do not open"},
		"http when sealed":      {[]string{"name", "two", "host", "b.localhost", "at", "upstream", "upstream", "http://127.0.0.1:9", "mode", "off", "authorities", ""}, "use tcp://"},
		"key as CA":             {[]string{"name", "two", "host", "b.localhost", "upstream", "https://127.0.0.1:9", "upstream_ca", key}, "the key was not kept"},
		"CA without TLS":        {[]string{"name", "two", "host", "b.localhost", "upstream", "http://127.0.0.1:9", "upstream_name", "x"}, "needs https:// or tls://"},
		"route twice":           {[]string{"name", "two", "host", "b.localhost", "route0_path", "/a", "route1_path", "/a"}, "stands there twice"},
		"route not clean":       {[]string{"name", "two", "host", "b.localhost", "route0_path", "/a/../b"}, "is not clean"},
		"route names no mode":   {[]string{"name", "two", "host", "b.localhost", "route0_path", "/a", "route0_authorities", "clients"}, "need a policy"},
		"name beyond the limit": {[]string{"name", "two", "host", "shop.example.com"}, "Make a second local CA without that limit"},
	} {
		t.Run(what, func(t *testing.T) {
			form := endpointFields(port, tt.change...)
			r := f.post("/endpoints", form)
			wantAll(t, r, http.StatusUnprocessableEntity, tt.want)
			if strings.Contains(r.body, "PRIVATE KEY") {
				t.Error("the private key came back")
			}
			if form.Get("host") != "" && !strings.Contains(r.body, `value="`+form.Get("host")+`"`) {
				t.Errorf("%q was typed and is gone", form.Get("host"))
			}
			if n := len(f.current().Endpoints); n != 1 {
				t.Fatalf("there are %d endpoints", n)
			}
		})
	}
	if n := len(f.current().LocalCAs); n != 1 {
		t.Errorf("%d local CAs", n)
	}
}

func TestEndpointOutsideOfLocalhostGetsACA(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	port := freeTCPPort(t)
	wantAll(t, f.post("/endpoints", endpointFields(port, "host", "shop.example.com", "make_ca", "on", "mode", "off", "authorities", "")), http.StatusSeeOther)
	config := f.current()
	if len(config.LocalCAs) != 2 || config.Authority("Local CA for every name") == nil {
		t.Fatalf("%d local CAs", len(config.LocalCAs))
	}
	roots := x509.NewCertPool()
	roots.AddCert(config.Authority("Local CA for every name").Anchors()[0])
	if status, _, err := visit(t, roots, "shop.example.com", port, nil); err != nil || status != http.StatusOK {
		t.Errorf("%d %v", status, err)
	}
	wantAll(t, f.get("/endpoints/shop"), 200, fmt.Sprintf("--resolve shop.example.com:%d:127.0.0.1", port))
}

func TestEndpointSettingsKeepWhatTheyDoNotShow(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	upstreamCA := tlstest.NewCA(tlstest.CN("Inside"))
	pin, err := termination.ParsePin("spki:" + strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	e := termination.Endpoint{
		Name: "shop", Enabled: true, Scheme: "https", Host: "shop.localhost", Aliases: []string{"*.shop.localhost"}, Listen: netip.MustParseAddr("127.0.0.1"), Port: freeTCPPort(t),
		TerminateAt: termination.AtEdge, Certificates: []string{"local"}, MinVersion: tls.VersionTLS13,
		Upstream:   termination.Upstream{Scheme: "https", Address: "127.0.0.1:9", TLS: termination.UpstreamTLSConfig{Roots: []*x509.Certificate{upstreamCA.X509}, ServerName: "in.side"}},
		ClientAuth: termination.ClientAuth{Mode: termination.ModeOptional, Authorities: []string{"clients"}, Pins: []termination.Pin{pin}, MaxDepth: 3, OnLoss: termination.OnLossDrain},
		Routes: []termination.Route{{
			Path: "/admin", ClientAuth: &termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"clients"}, Pins: []termination.Pin{pin}, MaxDepth: 2, OnLoss: termination.OnLossLeave},
			Upstream: &termination.Upstream{Scheme: "https", Address: "127.0.0.1:8", TLS: termination.UpstreamTLSConfig{Roots: []*x509.Certificate{upstreamCA.X509}}},
		}},
		ForwardIdentity: []termination.IdentityFormat{termination.IdentityNginx},
	}
	f.mutate(func(tx *store.Tx) error { _, err := tx.CreateEndpoint(e); return err })
	before, err := f.store.Audit(t.Context(), store.AuditQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	page := f.get("/endpoints/shop/settings")
	wantAll(t, page, 200, "*.shop.localhost", "BEGIN CERTIFICATE", "in.side", "/admin")
	// Sending the form as it came changes nothing, and the audit log shows that.
	form := formOf(t, page.body, "/endpoints/shop/settings")
	form.Set("do", "save")
	wantAll(t, f.post("/endpoints/shop/settings", form), http.StatusSeeOther)
	after, err := f.store.Audit(t.Context(), store.AuditQuery{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if after[0].Seq != before[0].Seq {
		t.Errorf("an unchanged form changed %s to %s", after[0].Before, after[0].After)
	}
	form.Set("route0_path", "")
	form.Del("route0_mode")
	form.Del("route0_authorities")
	form.Del("route0_upstream")
	form.Del("route0_upstream_ca")
	wantAll(t, f.post("/endpoints/shop/settings", form), http.StatusSeeOther)
	if got := f.current().Endpoint("shop"); len(got.Routes) != 0 || got.ClientAuth.OnLoss != termination.OnLossDrain {
		t.Errorf("after the route went: %+v", got)
	}
	wantAll(t, f.get("/endpoints/shop/config"), 200, "min_version: &#34;1.3&#34;", "on_loss: drain", "ca_file: upstream-ca.pem", "inherit: false")
}

func TestEndpointMovesBetweenModes(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	inside := tlstest.NewCA(tlstest.CN("Inside"))
	service := tlstest.HTTPS(t, &tls.Config{Certificates: []tls.Certificate{inside.Server("shop.localhost").TLS()}})
	port := freeTCPPort(t)
	wantAll(t, f.post("/endpoints", endpointFields(port)), http.StatusSeeOther)
	wantAll(t, f.post("/endpoints/shop/mode", url.Values{"at": {"upstream"}}), 422, "Name a service of your own")
	wantAll(t, f.post("/endpoints/shop/mode", url.Values{"at": {"cloud"}}), 422, "Choose edge, agent or upstream")
	form := endpointFields(port, "upstream", "https://"+service.Addr)
	wantAll(t, f.post("/endpoints/shop/settings", form), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/shop"), 200, "The client policy (trusted CA) is dropped", "tcp://"+service.Addr)
	wantAll(t, f.post("/endpoints/shop/mode", url.Values{"at": {"upstream"}}), http.StatusSeeOther)
	if status, _, err := visit(t, inside.Pool(), "shop.localhost", port, nil); err != nil || status != http.StatusOK {
		t.Errorf("the service's own certificate: %d %v", status, err)
	}
	wantAll(t, f.get("/endpoints/shop"), 200, "We cannot check what we do not open", "held there", "openssl s_client")
	wantAll(t, f.post("/endpoints/shop/policy", url.Values{"mode": {"require"}, "authorities": {"clients"}}), 422)
	wantAll(t, f.post("/endpoints/shop/judge", url.Values{"pem": {string(inside.PEM())}}), 422, "We cannot check what we do not open")
	wantAll(t, f.get("/endpoints/shop"), 200, "What can be seen", "No key for", "shop.localhost", "sealed")
	wantAll(t, f.post("/endpoints/shop/mode", url.Values{"at": {"edge"}}), http.StatusSeeOther)
	if e := f.current().Endpoint("shop"); e.TerminateAt != termination.AtEdge || e.Upstream.Scheme != termination.UpstreamTLS {
		t.Errorf("back at the edge: %+v", e)
	}
}

func TestEndpointFromTheFileIsReadOnly(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	declared := store.Declared{Endpoints: []termination.Endpoint{{
		Name: "shop", Origin: termination.OriginFile, Enabled: true, Scheme: "https", Host: "shop.localhost", Listen: netip.MustParseAddr("127.0.0.1"), Port: freeTCPPort(t),
		TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: "builtin", Address: "whoami"},
		ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose},
	}}}
	f.mutate(func(tx *store.Tx) error { return tx.ReplaceDeclared(declared) })
	for _, path := range []string{"/endpoints/shop", "/endpoints/shop/settings"} {
		r := f.get(path)
		wantAll(t, r, 200, "Declared in the configuration file")
		if strings.Contains(r.body, ">Delete<") || strings.Contains(r.body, ">Save<") {
			t.Errorf("%s offers what cannot be done", path)
		}
	}
	for path, form := range map[string]url.Values{
		"settings": endpointFields(8443, "mode", "off", "authorities", "", "upstream", "127.0.0.1:9"), "policy": {"mode": {"request"}}, "stop": {}, "delete": {},
	} {
		wantAll(t, f.post("/endpoints/shop/"+path, form), http.StatusConflict, "configuration file")
	}
}

func TestEndpointThatCannotListenSaysWhy(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port() //nolint:forcetypeassert // a TCP listener
	wantAll(t, f.post("/endpoints", endpointFields(port, "mode", "off", "authorities", "")), http.StatusSeeOther)
	for _, path := range []string{"/endpoints", "/endpoints/shop"} {
		wantAll(t, f.get(path), 200, "not listening", "choose another one")
	}
}

// The commands name the files of the first start where those really fit, and only there.
// What the Config tab shows, the configuration file takes.
func TestEndpointListOfTwoHundred(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	port := freeTCPPort(t)
	f.mutate(func(tx *store.Tx) error {
		for i := range 200 {
			_, err := tx.CreateEndpoint(termination.Endpoint{
				Name: fmt.Sprintf("e%03d", i), Enabled: i%10 != 0, Scheme: "https", Host: fmt.Sprintf("e%03d.localhost", i), Listen: netip.MustParseAddr("127.0.0.1"), Port: port,
				TerminateAt: termination.AtEdge, Upstream: termination.Upstream{Scheme: "http", Address: "127.0.0.1:9"},
				ClientAuth: termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	r := f.request(http.MethodGet, "/endpoints", nil, "")
	r.Header.Set("Accept-Encoding", "gzip")
	begun := time.Now()
	page := f.do(r)
	t.Logf("200 endpoints: %s, %d bytes compressed", time.Since(begun), len(page.body))
	if page.status != 200 || len(page.body) > 30<<10 {
		t.Errorf("status %d, %d bytes compressed", page.status, len(page.body))
	}
	wantAll(t, f.get("/endpoints"), 200, "e000", "e199")
}
