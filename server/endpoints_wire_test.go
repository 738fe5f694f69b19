package server

import (
	"net"
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

	"countersign/store"
	"countersign/store/declared"
	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestEndpointFormOfTLSAndUpstreams types every field of how TLS and upstreams are spoken, and reads them back.
func TestEndpointFormOfTLSAndUpstreams(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	ca := tlstest.NewCA(tlstest.CN("Clients"))
	f.withAuthority("clients", ca)
	f.withCertificate("own", ca.Client("gateway"))
	wantAll(t, f.post("/endpoints", endpointFields(
		freeTCPPort(t), "upstream", "https://10.0.0.1, https://10.0.0.2:8443", "preset", "intermediate", "min_version", "1.2", "max_version", "",
		"suites", "ECDHE-ECDSA-AES128-GCM-SHA256\nTLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "alpn", "http/1.1", "proxy_from", "10.0.0.0/8 192.0.2.1",
		"balance", "least_connections", "health", "/healthz", "health_interval", "5s", "connect_timeout", "1s", "response_timeout", "2m", "host_header", "upstream",
		"upstream_proxy", "v2", "upstream_cert", "own", "route0_path", "/a", "route0_upstream", "unix:/run/a.sock", "route0_strip", "on",
	)), http.StatusSeeOther)
	e := f.current().Endpoint("shop")
	if e.Preset != termination.PresetIntermediate || len(e.Suites) != 2 || !reflect.DeepEqual(e.ALPN, []string{"http/1.1"}) ||
		!reflect.DeepEqual(e.ProxyProtocol, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}) {
		t.Errorf("TLS: %+v", e)
	}
	policy := termination.UpstreamPolicy{
		Balance: termination.BalanceLeastConnections, Health: "/healthz", HealthInterval: 5 * time.Second, ConnectTimeout: time.Second,
		ResponseTimeout: 2 * time.Minute, Host: termination.HostUpstream, ProxyProtocol: termination.ProxyProtocolV2,
	}
	if u := e.Upstream; u.Policy != policy || !reflect.DeepEqual(u.Targets(), []string{"10.0.0.1:443", "10.0.0.2:8443"}) || u.TLS.Certificate != "own" || u.TLS.Client == nil {
		t.Errorf("upstream: %+v", u)
	}
	if r := e.Routes[0]; !r.StripPrefix || r.Upstream.Scheme != termination.UpstreamUnix || r.Upstream.Address != "/run/a.sock" {
		t.Errorf("route: %+v", r)
	}
	// What the form shows, saved as it stands, changes nothing.
	in, wrong := inputOf(e), fieldProblems{}
	again := in.endpoint(*e, wrong)
	again.Upstream.TLS.Client = e.Upstream.TLS.Client
	if len(wrong) > 0 || !reflect.DeepEqual(again, *e) {
		t.Errorf("saved as it stands:\n got %+v %v\nwant %+v", again, wrong, *e)
	}
	// So does the file that it is shown as.
	text, _, err := endpointYAML(e)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "countersign.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := declared.Read(path, declared.Options{})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	read := d.Endpoints[0]
	read.ID, read.Origin, read.Upstream.TLS.Client = e.ID, e.Origin, e.Upstream.TLS.Client
	if !reflect.DeepEqual(read, *e) {
		t.Errorf("as a file:\n got %+v\nwant %+v\n%s", read, *e, text)
	}
}

func TestEndpointFormRefusesTLSAndUpstreams(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	for name, test := range map[string]struct {
		field, value, says string
	}{
		"unknown suite":       {"suites", "SECRET", "is not known here"},
		"insecure suite":      {"suites", "TLS_RSA_WITH_RC4_128_SHA", "is not offered"},
		"no network":          {"proxy_from", "everywhere", "is no network and no address"},
		"network with a host": {"proxy_from", "10.0.0.1/8", "the network is 10.0.0.0/8"},
		"no duration":         {"connect_timeout", "soon", "is no duration"},
		"negative duration":   {"response_timeout", "-1s", "is no duration"},
		"mixed targets":       {"upstream", "http://10.0.0.1, https://10.0.0.2", "differ in their scheme"},
		"unknown certificate": {"upstream_cert", "nobody", "there is no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), test.field, test.value)), http.StatusUnprocessableEntity, test.says, "shop.localhost")
			if f.current().Endpoint("shop") != nil {
				t.Error("it was made all the same")
			}
		})
	}
}

func TestEndpointMovesToAnAgent(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), "upstream", "http://127.0.0.1:9", "certificates", "local")), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/shop"), 200, "until an agent is online", "as the agent reports")
	wantAll(t, f.post("/endpoints/shop/mode", url.Values{"at": {"agent"}}), http.StatusSeeOther)
	e := f.current().Endpoint("shop")
	if e.TerminateAt != termination.AtAgent || len(e.Certificates) > 0 || e.ClientAuth.Mode != termination.ModeRequire || e.Upstream.Address != "127.0.0.1:9" {
		t.Errorf("at the agent: %+v", e)
	}
	wantAll(t, f.post("/endpoints/shop/mode", url.Values{"at": {"edge"}}), http.StatusSeeOther)
}

// withCertificate keeps a certificate with its key under a name.
func (f *fixture) withCertificate(name string, c *tlstest.Cert) {
	f.t.Helper()
	f.mutate(func(tx *store.Tx) error {
		_, err := tx.CreateCertificate(termination.Certificate{Name: name, Chain: c.Chain(), Key: c.Key}, store.SourceUpload)
		return err
	})
}

func TestTryingUpstreamsOfEveryKind(t *testing.T) {
	service := tlstest.HTTP(t)
	socket := filepath.Join(t.TempDir(), "app.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	dead := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(freeTCPPort(t))))
	for name, test := range map[string]struct {
		at      termination.TerminateAt
		scheme  termination.Scheme
		targets []string
		says    string
	}{
		"a socket":              {termination.AtEdge, termination.SchemeHTTPS, []string{"unix:" + socket}, "with status 404"},
		"a socket of raw bytes": {termination.AtEdge, termination.SchemeTLS, []string{"unix:" + socket}, "takes connections"},
		"no socket":             {termination.AtEdge, termination.SchemeHTTPS, []string{"unix:" + socket + "x"}, "There is no socket"},
		"two targets":           {termination.AtEdge, termination.SchemeHTTPS, []string{"http://" + service.Addr, "http://" + strings.Replace(service.Addr, "127.0.0.1", "localhost", 1)}, "So do the other targets"},
		"one of two is dead":    {termination.AtEdge, termination.SchemeHTTPS, []string{"http://" + service.Addr, "http://" + dead}, "refused the connection"},
		"behind an agent":       {termination.AtAgent, termination.SchemeHTTPS, []string{"http://" + service.Addr}, "The agent reaches the upstream"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := termination.ParseUpstreams(test.targets)
			if err != nil {
				t.Fatal(err)
			}
			if tried := tryUpstream(t.Context(), &termination.Endpoint{Scheme: test.scheme, TerminateAt: test.at, Upstream: u}); !strings.Contains(tried.Text, test.says) {
				t.Errorf("got %q, want %q", tried.Text, test.says)
			}
		})
	}
}

func TestWaysToTryAnEndpoint(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	port := freeTCPPort(t)
	wantAll(t, f.post("/endpoints", endpointFields(port)), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/shop"), 200, "Import shop-ca.pem where the browser keeps certificate authorities", "Import client.p12")
	wantAll(t, f.post("/endpoints", endpointFields(port, "name", "db", "host", "db.localhost", "scheme", "tls", "starttls", "postgres", "upstream", "tcp://127.0.0.1:9")), http.StatusSeeOther)
	wantAll(t, f.get("/endpoints/db"), 200, "psql &#34;host=db.localhost hostaddr=127.0.0.1", "sslmode=verify-full sslrootcert=db-ca.pem sslcert=client.pem", "-starttls postgres")
}

func TestAgentEndpointWithoutUpstream(t *testing.T) {
	f := signedIn(t, nil)
	f.withLocalCA(true)
	f.withAuthority("clients", tlstest.NewCA(tlstest.CN("Clients")))
	wantAll(t, f.post("/endpoints", endpointFields(freeTCPPort(t), "at", "agent", "upstream", "")), http.StatusSeeOther)
	for _, path := range []string{"/endpoints", "/endpoints/shop", "/endpoints/shop/settings", "/endpoints/shop/config"} {
		wantAll(t, f.get(path), 200, "shop")
	}
	text, _, err := endpointYAML(f.current().Endpoint("shop"))
	if err != nil || strings.Contains(text, "upstream") {
		t.Errorf("as a file: %v\n%s", err, text)
	}
	wantAll(t, f.post("/endpoints/shop/settings", endpointFields(freeTCPPort(t), "upstream", "")), http.StatusUnprocessableEntity, "an upstream is needed")
}
