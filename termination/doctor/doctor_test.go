package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"countersign/termination/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a server, and what its client has.
type scene struct {
	scheme, name string // https and api.example unless said otherwise
	server       *tls.Config
	handler      http.Handler
	plain        func(net.Conn) // in place of TLS
	closed       bool           // nothing listens
	identity     *Identity
	roots        []*x509.Certificate
	unresolved   bool
	now          time.Time
}

func identity(chain tls.Certificate, key *tlstest.Cert) *Identity {
	id := &Identity{Key: key.Key}
	for _, der := range chain.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		id.Chain = append(id.Chain, c)
	}
	return id
}

func of(c *tlstest.Cert) *Identity { return identity(c.TLS(), c) }

// examine runs the scene on a real listener.
func (s *scene) examine(t *testing.T) *Report {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr).AddrPort()
	switch {
	case s.closed:
		_ = l.Close()
	case s.plain != nil:
		_ = l.Close()
		address = netip.MustParseAddrPort(tlstest.ServeTCP(t, func(_ context.Context, c net.Conn) { s.plain(c) }).Addr)
	default:
		handler := s.handler
		if handler == nil {
			handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
		}
		server := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}, TLS: s.server}
		server.StartTLS()
		t.Cleanup(server.Close)
	}
	if s.scheme == "" {
		s.scheme = "https"
	}
	if s.name == "" {
		s.name = "api.example"
	}
	o := Options{
		URL: s.scheme + "://" + s.name + ":" + strings.Split(address.String(), ":")[1] + "/path", Identity: s.identity, Roots: s.roots, Listen: 200 * time.Millisecond,
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			if s.unresolved {
				return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
			}
			return []netip.Addr{address.Addr()}, nil
		},
	}
	if !s.now.IsZero() {
		o.Now = func() time.Time { return s.now }
	}
	r, err := Examine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func answer(status int, kind, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func TestEachFaultIsNamed(t *testing.T) {
	public, devices := tlstest.NewCA(tlstest.CN("Public CA")), tlstest.NewCA(tlstest.CN("Devices CA"))
	between := devices.Intermediate(tlstest.CN("Devices Issuing"))
	server, alice := public.Server("api.example"), devices.Client("alice")
	behind := between.Client("alice")
	stranger := tlstest.NewCA(tlstest.CN("Stranger CA")).Client("alice")
	roots := []*x509.Certificate{public.X509}
	plain := func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{server.TLS()}} }
	with := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{server.TLS()}, ClientCAs: devices.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
		if change != nil {
			change(c)
		}
		return c
	}
	presenting := func(c *tlstest.Cert) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c.TLS()}} }
	exactAlert := func(number uint8) *tls.Config {
		return with(func(c *tls.Config) {
			c.ClientAuth = tls.RequireAnyClientCert
			c.MinVersion = tls.VersionTLS13
			c.VerifyConnection = func(tls.ConnectionState) error { return tls.AlertError(number) }
		})
	}
	for name, c := range map[string]struct {
		scene
		result Result
		by     Side
		says   []string // "step: part of its text, or of its fix"
		not    []string
	}{
		"all is well":           {scene{server: with(nil), identity: of(alice), roots: roots}, LetIn, "", []string{"request: leads there", "HTTP: 200", "TLS 1.2: let in too", "server trust: --cacert", "agreement: TLS 1.3"}, []string{"clock:"}},
		"nothing is asked for":  {scene{server: plain(), identity: of(alice), roots: roots}, LetIn, "", []string{"request: asks for no client certificate, so none was sent"}, nil},
		"over tls":              {scene{scheme: "tls", server: with(nil), identity: of(alice), roots: roots}, LetIn, "", []string{"handshake: keeps the connection"}, []string{"HTTP:"}},
		"no such name":          {scene{unresolved: true, server: plain()}, NotTried, "", []string{"name: no such name", "name: --servername"}, []string{"connect:"}},
		"a name of this host":   {scene{unresolved: true, name: "app.localhost", server: presenting(public.Server("app.localhost")), roots: roots}, LetIn, "", []string{"name: RFC 6761", "name: hosts file"}, nil},
		"refused port":          {scene{closed: true}, NotTried, "", []string{"connect: nothing listens on this port"}, []string{"handshake:"}},
		"plain HTTP":            {scene{plain: func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }}, NotTried, "", []string{"handshake: plain HTTP", "handshake: http://"}, nil},
		"another protocol":      {scene{plain: func(c net.Conn) { _, _ = io.WriteString(c, "220 mail\x1b ESMTP\r\n") }}, NotTried, "", []string{`handshake: begins with "220 m"`}, nil},
		"closed at once":        {scene{plain: func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }}, NotLetIn, SideServer, []string{"handshake: closed after the ClientHello"}, nil},
		"server's CA unknown":   {scene{server: with(nil), identity: of(alice), roots: []*x509.Certificate{devices.X509}}, NotLetIn, SideClient, []string{`server trust: "Public CA", which issued it`, `server trust: holds "Devices CA"`, "handshake: this client ended", `request: from "Devices CA"`}, []string{"HTTP:"}},
		"server's CA made anew": {scene{server: plain(), roots: []*x509.Certificate{public.Impostor().X509}}, NotLetIn, SideClient, []string{"server trust: made anew, or somebody else"}, nil},
		"server's gap":          {scene{server: &tls.Config{Certificates: []tls.Certificate{public.Intermediate(tlstest.CN("Public Issuing")).Server("api.example").TLSAlone()}}, roots: roots}, NotLetIn, SideClient, []string{`server trust: "Public Issuing"`, "server trust: send its intermediate"}, nil},
		"server signed itself":  {scene{server: presenting(tlstest.SelfSigned(tlstest.CN("api.example"), tlstest.DNS("api.example"))), roots: roots}, NotLetIn, SideClient, []string{"server trust: signed itself"}, nil},
		"server for clients":    {scene{server: presenting(public.Client("api", tlstest.DNS("api.example"))), roots: roots}, NotLetIn, SideClient, []string{"server trust: not made for servers"}, nil},
		"wrong name":            {scene{name: "other.example", server: plain(), roots: roots}, NotLetIn, SideClient, []string{"server name: not for other.example, but for api.example", "server trust: leads to"}, nil},
		"server ended":          {scene{server: presenting(public.Server("api.example", tlstest.Valid(time.Now().Add(-50*time.Minute), time.Now().Add(-10*time.Minute)))), roots: roots}, NotLetIn, SideClient, []string{"server certificate: ended", "server certificate: renew it", "server trust: leads to"}, nil},
		"clock far ahead":       {scene{server: with(nil), identity: of(alice), roots: roots, now: time.Now().Add(9 * time.Hour)}, LetIn, "", []string{"clock: ahead of", "clock: set the clock"}, nil},
		"no certificate":        {scene{server: with(nil), roots: roots}, NotLetIn, SideServer, []string{"handshake: alert 116 certificate_required, after the handshake", "handshake: none was sent", "handshake: --cert FILE", `request: from "Devices CA"`}, nil},
		"no certificate, 1.2":   {scene{server: with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), roots: roots}, NotLetIn, SideServer, []string{"handshake: none was sent", "agreement: TLS 1.2"}, []string{"TLS 1.2:"}},
		"CA unknown":            {scene{server: with(nil), identity: of(stranger), roots: roots}, NotLetIn, SideServer, []string{`request: leads to "Stranger CA", which is not among them`, "handshake: alert 48 unknown_ca", `handshake: the server names "Devices CA"`}, nil},
		"gap in the chain":      {scene{server: with(nil), identity: identity(behind.TLSAlone(), behind), roots: roots}, NotLetIn, SideServer, []string{`request: leads to "Devices Issuing"`, "request: cat client.crt intermediate.crt", "handshake: alert 48"}, nil},
		"whole chain":           {scene{server: with(nil), identity: of(behind), roots: roots}, LetIn, "", []string{"request: leads there"}, nil},
		"wrong key":             {scene{server: with(nil), identity: &Identity{Chain: of(alice).Chain, Key: stranger.Key}, roots: roots}, NotLetIn, SideServer, []string{"client key: does not belong", "client key: openssl pkey", "handshake: none was sent"}, nil},
		"wrong key, other CA":   {scene{server: with(nil), identity: &Identity{Chain: of(stranger).Chain, Key: of(alice).Key}, roots: roots}, NotLetIn, SideServer, []string{"request: which is not among them", "handshake: the key does not belong"}, []string{"as was done here", "give the client its certificate"}},
		"key of the issuer":     {scene{server: plain(), identity: &Identity{Chain: of(behind).Chain, Key: between.Key}, roots: roots}, NotLetIn, SideClient, []string{`client key: certificate 2 of the file, "Devices Issuing"`}, nil},
		"client ended":          {scene{server: with(nil), identity: of(devices.Client("alice", tlstest.Expired())), roots: roots}, NotLetIn, SideServer, []string{"client certificate: ended", "handshake: alert 45 certificate_expired"}, []string{"compare both clocks"}},
		"made for servers":      {scene{server: with(nil), identity: of(devices.Server("alice.example")), roots: roots}, NotLetIn, SideServer, []string{"client use: clientAuth"}, nil},
		"versions too low":      {scene{server: &tls.Config{Certificates: []tls.Certificate{server.TLS()}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, roots: roots}, NotLetIn, SideServer, []string{"handshake: alert 70 protocol_version", "handshake: neither TLS 1.2 nor 1.3"}, nil},
		"1.3 and no less":       {scene{server: with(func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }), identity: of(alice), roots: roots}, LetIn, "", []string{"TLS 1.2: alert 70 protocol_version"}, nil},
		"late refusal":          {scene{server: exactAlert(44), identity: of(alice), roots: roots}, NotLetIn, SideServer, []string{"handshake: after the handshake"}, nil},
		"late refusal over tls": {scene{scheme: "tls", server: with(nil), roots: roots}, NotLetIn, SideServer, []string{"handshake: alert 116 certificate_required, after the handshake"}, nil},
		"421":                   {scene{server: plain(), roots: roots, handler: answer(421, "application/problem+json", `{"title":"Wrong connection","code":"host_mismatch","handshake":"hs_1"}`)}, NotLetIn, SideServer, []string{`HTTP: 421, "Wrong connection"`, "HTTP: leave it out"}, nil},
		"401":                   {scene{server: plain(), roots: roots, handler: answer(401, "text/plain", "who?")}, NotLetIn, SideServer, []string{"HTTP: 401", "HTTP: token or a password"}, nil},
		"403":                   {scene{server: plain(), roots: roots, handler: answer(403, "application/problem+json", `{"title":"No","detail":"not \u001b[31m listed","code":"not_allowed","handshake":"hs_2"}`)}, NotLetIn, SideServer, []string{"HTTP: 403", `HTTP: "not \x1b[31m listed"`}, nil},
		"400 of nginx":          {scene{server: plain(), roots: roots, handler: answer(400, "text/html", "<h1>No required SSL certificate was sent</h1>")}, NotLetIn, SideServer, []string{"HTTP: refuses in HTTP what TLS let pass"}, nil},
		"502":                   {scene{server: plain(), roots: roots, handler: answer(502, "text/html", "bad gateway")}, LetIn, "", []string{"HTTP: 502"}, nil},
		"404 is an answer":      {scene{server: plain(), roots: roots, handler: answer(404, "text/html", "none")}, LetIn, "", []string{"HTTP: 404"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.examine(t)
			told := ""
			for _, s := range r.Steps {
				told += "\n  " + string(s.State) + " " + s.Name + ": " + s.Text + " | " + s.Fix
			}
			if r.Result != c.result || r.RefusedBy != c.by {
				t.Errorf("%s, refused by %q%s", r.Result, r.RefusedBy, told)
			}
			for _, want := range c.says {
				step, text, _ := strings.Cut(want, ": ")
				found := false
				for _, s := range r.Steps {
					found = found || s.Name == step && (strings.Contains(s.Text, text) || strings.Contains(s.Fix, text))
				}
				if !found {
					t.Errorf("%q is not said%s", want, told)
				}
			}
			for _, not := range c.not {
				if strings.Contains(told, " "+not) {
					t.Errorf("%q is said%s", not, told)
				}
			}
			if (r.Result == LetIn) != (len(r.Bad()) == 0) {
				t.Errorf("%s with %d bad steps%s", r.Result, len(r.Bad()), told)
			}
		})
	}
}

// A client that does not trust a server presents nothing to it, and sends it no request.
func TestAServerThatIsNotTrustedGetsNothing(t *testing.T) {
	public, devices := tlstest.NewCA(), tlstest.NewCA()
	var given atomic.Int64
	t.Cleanup(func() { // after the server has ended
		if n := given.Load(); n != 0 {
			t.Errorf("it got %d certificates and requests", n)
		}
	})
	s := scene{
		identity: of(devices.Client("alice")), roots: []*x509.Certificate{devices.X509},
		server: &tls.Config{Certificates: []tls.Certificate{public.Server("api.example").TLS()}, ClientAuth: tls.RequestClientCert, VerifyConnection: func(state tls.ConnectionState) error {
			given.Add(int64(len(state.PeerCertificates)))
			return nil
		}},
		handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { given.Add(1) }),
	}
	r := s.examine(t)
	if len(r.Attempts) != 2 || r.Attempts[0].Sent || r.Attempts[1].Sent || r.Attempts[0].Marker == r.Attempts[1].Marker {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

// Whoever is told to end does not wait until a silent server answers.
func TestItEndsWithItsContext(t *testing.T) {
	ca := tlstest.NewCA()
	ctx, end := context.WithCancel(t.Context())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		end()
		<-r.Context().Done()
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server("api.example").TLS()}}
	server.StartTLS()
	t.Cleanup(server.Close)
	address := server.Listener.Addr().(*net.TCPAddr).AddrPort()
	_, err := Examine(ctx, Options{
		URL: "https://api.example:" + strings.Split(address.String(), ":")[1], Roots: []*x509.Certificate{ca.X509}, Patience: time.Hour,
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{address.Addr()}, nil },
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTheMarkerIsInTheHello(t *testing.T) {
	ca := tlstest.NewCA()
	offered := make(chan []string, 10)
	s := scene{roots: []*x509.Certificate{ca.X509}, server: &tls.Config{Certificates: []tls.Certificate{ca.Server("api.example").TLS()}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		offered <- h.SupportedProtos
		return nil, nil
	}}}
	r := s.examine(t)
	if first := <-offered; len(first) != 2 || first[0] != "http/1.1" || first[1] != r.Attempts[0].Marker || !strings.HasPrefix(first[1], markerPrefix) {
		t.Errorf("offered is %q, the marker %q", first, r.Attempts[0].Marker)
	}
	if a := r.Attempts[0]; !a.Local.IsValid() || a.Ended.Before(a.Started) || a.ALPN != "http/1.1" {
		t.Errorf("%+v", a)
	}
}

func TestOptionsThatMeanNothing(t *testing.T) {
	for _, url := range []string{"", "http://api.example", "https://", "https://user@api.example", "tls://db.example", "https://api.example:0", "https://api.example:99999", "https://[::1", "ftp://x", "\x00"} {
		if _, err := Examine(t.Context(), Options{URL: url}); err == nil {
			t.Errorf("%q is examined", url)
		}
	}
	if _, err := Examine(t.Context(), Options{URL: "https://x", Identity: &Identity{}}); err == nil {
		t.Error("an identity without a certificate is taken")
	}
}

func TestReadIdentity(t *testing.T) {
	ca := tlstest.NewCA()
	alice := ca.Intermediate().Client("alice")
	both := append(alice.KeyPEM(), alice.ChainPEM()...)
	for name, c := range map[string]struct {
		cert, key []byte
		certs     int
		wrong     string
	}{
		"two files":      {alice.ChainPEM(), alice.KeyPEM(), 2, ""},
		"one file":       {both, nil, 2, ""},
		"DER":            {alice.DER, alice.KeyPEM(), 1, ""},
		"no key":         {alice.PEM(), nil, 0, "--key"},
		"no certificate": {alice.KeyPEM(), nil, 0, "no certificate"},
		"locked":         {alice.PEM(), []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0, "openssl pkey"},
		"damaged":        {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), nil, 0, "certificate 1"},
		"endless":        {make([]byte, mostFile+1), nil, 0, "bytes"},
		"nothing":        {nil, nil, 0, "no certificate"},
	} {
		id, err := ReadIdentity(c.cert, c.key)
		switch {
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v", name, err)
		case c.wrong == "" && (err != nil || len(id.Chain) != c.certs || !id.Fits()):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadIdentity(f *testing.F) {
	alice := tlstest.NewCA().Client("alice")
	f.Add(alice.PEM(), alice.KeyPEM())
	f.Add(alice.DER, []byte{})
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n"), []byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		if id, err := ReadIdentity(cert, key); err == nil && (len(id.Chain) == 0 || id.Key == nil) {
			t.Error("half an identity")
		}
		_ = nameOf(cert)
	})
}
