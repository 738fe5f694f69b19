package declared

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/store"
	"countersign/termination"
)

const (
	someCertificate = "3fa19c0727b1d9c5a1e3f0d2b4968778695a4b3c2d1e0f00112233445566778a"
	someKey         = "91c0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e"
)

// everything has each key of this version once.
const everything = `---
# each key of this version, once
dashboard:
  listen: 127.0.0.1:7000
  hosts: [dash.example.com, "gw.example.com:7000", "[::1]"]
  access: link
history: {keep: 3d, keep_failures: 36h, max_size: 500MB}
limits:
  handshake_timeout: 5s
  client_hello: 16KiB
  certificate_chain: 65536
  header: 16 KiB
  idle_timeout: 1m30s
  connections: 1000
  connections_per_address: 100
  half_open: 500
  half_open_per_address: 50
authorities:
  - name: devices
    pem_file: bundle.pem
    anchors: all
  - name: partners
    pem_file: other.der
certificates:
  - name: api
    cert_file: server.pem
    key_file: server.key
  - {name: both, cert_file: both.pem}
defaults:
  client_auth:
    authorities: [partners]
    pins: ["spki:` + someKey + `"]
endpoints:
  - name: api
    enabled: false
    url: https://API.example.com:8443
    aliases: ["*.api.example.com", "Bücher.example."]
    listen: 0.0.0.0
    terminate_at: edge
    certificates: [api, both, local]
    tls: {min_version: 1.2, max_version: "1.3"}
    upstream: https://10.0.0.8:9443
    upstream_tls: {ca_file: ca.pem, server_name: api.internal}
    client_auth:
      mode: optional
      authorities: [devices]
      pins: [` + someCertificate + `]
      inherit: false
      max_depth: 3
      announce: false
      on_loss: drain
    forward_identity: [nginx]
    routes:
      - path: /admin
        client_auth: {mode: require, authorities: [devices], on_loss: leave}
        upstream: https://10.0.0.9:9443
        upstream_tls: {ca_file: bundle.pem}
      - path: /open
        client_auth: {mode: off}
  - name: erp
    url: tls://erp.example.com:8443
    terminate_at: upstream
    upstream: tcp://10.0.0.7:443
  - name: fallback
    url: tls://:9443
    listen: "[::1]"
    upstream: tls://10.0.0.7:443
`

func TestEveryKey(t *testing.T) {
	d := read(t, everything)
	m := made()
	if d.Dashboard.Listen != "127.0.0.1:7000" || !slices.Equal(d.Dashboard.Hosts, []string{"dash.example.com", "gw.example.com:7000", "[::1]"}) {
		t.Errorf("dashboard %+v", d.Dashboard)
	}
	if want := (store.HistorySettings{Keep: 72 * time.Hour, KeepFailures: 36 * time.Hour, MaxSize: 500_000_000}); *d.History != want {
		t.Errorf("history %+v, want %+v", *d.History, want)
	}
	limits := termination.DefaultLimits()
	limits.HandshakeTimeout, limits.ClientHello, limits.CertificateChain, limits.Header = 5*time.Second, 16<<10, 64<<10, 16<<10
	limits.IdleTimeout, limits.Connections, limits.ConnectionsPerAddress = 90*time.Second, 1000, 100
	limits.HalfOpen, limits.HalfOpenPerAddress = 500, 50
	if *d.Limits != limits {
		t.Errorf("limits %+v, want %+v", *d.Limits, limits)
	}
	if len(d.Authorities) != 2 {
		t.Fatalf("%d authorities", len(d.Authorities))
	}
	devices, partners := d.Authorities[0], d.Authorities[1]
	if devices.Name != "devices" || !sameCertificates(devices.Anchors(), []*x509.Certificate{m.ca.X509, m.intermediate.X509}) {
		t.Errorf("devices: %+v", devices)
	}
	if partners.Name != "partners" || !sameCertificates(partners.Anchors(), []*x509.Certificate{m.other.X509}) {
		t.Errorf("partners: %+v", partners)
	}
	if len(d.Certificates) != 2 {
		t.Fatalf("%d certificates", len(d.Certificates))
	}
	for i, name := range []string{"api", "both"} {
		c := d.Certificates[i]
		if c.Name != name || !c.Leaf().Equal(m.server.X509) || c.Key == nil || c.Origin != termination.OriginFile {
			t.Errorf("certificate %d: %+v", i, c)
		}
	}
	if !slices.Equal(d.Defaults.Authorities, []string{"partners"}) || len(d.Defaults.Pins) != 1 || d.Defaults.Pins[0].String() != "spki:"+someKey {
		t.Errorf("defaults %+v", d.Defaults)
	}
	api := d.Endpoints[0]
	roots := [][]*x509.Certificate{api.Upstream.TLS.Roots, api.Routes[0].Upstream.TLS.Roots}
	if !sameCertificates(roots[0], []*x509.Certificate{m.ca.X509}) || !sameCertificates(roots[1], []*x509.Certificate{m.ca.X509, m.intermediate.X509}) {
		t.Errorf("roots %v", roots)
	}
	pin, err := termination.ParsePin(someCertificate)
	if err != nil {
		t.Fatal(err)
	}
	want := []termination.Endpoint{
		{
			Name: "api", Origin: termination.OriginFile, Scheme: termination.SchemeHTTPS, Host: "api.example.com",
			Aliases: []string{"*.api.example.com", "xn--bcher-kva.example"}, Listen: netip.MustParseAddr("0.0.0.0"), Port: 8443,
			TerminateAt: termination.AtEdge, Certificates: []string{"api", "both", "local"},
			MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13,
			Upstream:        termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: "10.0.0.8:9443", TLS: termination.UpstreamTLSConfig{Roots: roots[0], ServerName: "api.internal"}},
			ForwardIdentity: []termination.IdentityFormat{termination.IdentityNginx},
			ClientAuth: termination.ClientAuth{
				Mode: termination.ModeOptional, Authorities: []string{"devices"}, Pins: []termination.Pin{pin}, MaxDepth: 3,
				OnLoss: termination.OnLossDrain,
			},
			Routes: []termination.Route{
				{
					Path:       "/admin",
					ClientAuth: &termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Inherit: true, Announce: true, OnLoss: termination.OnLossLeave},
					Upstream:   &termination.Upstream{Scheme: termination.UpstreamHTTPS, Address: "10.0.0.9:9443", TLS: termination.UpstreamTLSConfig{Roots: roots[1]}},
				},
				{Path: "/open", ClientAuth: &termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}},
			},
		},
		{
			Name: "erp", Origin: termination.OriginFile, Enabled: true, Scheme: termination.SchemeTLS, Host: "erp.example.com", Port: 8443,
			Listen: netip.MustParseAddr("127.0.0.1"), TerminateAt: termination.AtUpstream, ClientAuth: noClientAuth(),
			Upstream: termination.Upstream{Scheme: termination.UpstreamTCP, Address: "10.0.0.7:443"},
		},
		{
			Name: "fallback", Origin: termination.OriginFile, Enabled: true, Scheme: termination.SchemeTLS, Port: 9443,
			Listen: netip.MustParseAddr("::1"), TerminateAt: termination.AtEdge, ClientAuth: noClientAuth(),
			Upstream: termination.Upstream{Scheme: termination.UpstreamTLS, Address: "10.0.0.7:443"},
		},
	}
	for i := range want {
		if i >= len(d.Endpoints) || !reflect.DeepEqual(d.Endpoints[i], want[i]) {
			t.Errorf("endpoint %d:\n got %+v\nwant %+v", i, d.Endpoints[i], want[i])
		}
	}
	dir := filepath.Dir(d.Path)
	var files []string
	for _, f := range d.Files {
		name, err := filepath.Rel(dir, f)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	if files[0] != "countersign.yaml" {
		t.Errorf("the first file is %s", files[0])
	}
	slices.Sort(files)
	if got := strings.Join(slices.Compact(files), " "); got != "both.pem bundle.pem ca.pem countersign.yaml other.der server.key server.pem" {
		t.Errorf("files %s", got)
	}
}

func TestEveryKeyOfTLSAndUpstreams(t *testing.T) {
	d := read(t, `
agents: {listen: "0.0.0.0:7444", stale_policy: 30s, hosts: [gw.example.com, "10.0.0.1:7444"]}
limits: {body: 10MiB}
endpoints:
  - name: api
    url: https://api.example.com
    proxy_protocol: {from: [10.0.0.0/8, 192.0.2.1]}
    starttls: none
    tls: {preset: intermediate, suites: [ECDHE-RSA-AES128-GCM-SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384], alpn: [http/1.1]}
    upstream: [https://10.0.0.1, "https://10.0.0.2:8443"]
    upstream_tls: {cert_file: server.pem, key_file: server.key}
    upstream_policy: {balance: least_connections, health: /healthz, health_interval: 5s, connect_timeout: 1s, response_timeout: 30s, host: upstream, proxy_protocol: v2}
    routes:
      - path: /a
        strip_prefix: true
        upstream: https://10.0.0.3
        upstream_tls: {certificate: to-service}
        upstream_policy: {health: tcp, proxy_protocol: none}
  - name: db
    url: tls://db.example.com:5432
    terminate_at: agent
    starttls: postgres
    tls: {preset: modern}
    upstream: unix:///run/postgresql/.s.PGSQL.5432
`)
	if a := d.Agents; a == nil || a.Listen != netip.MustParseAddrPort("0.0.0.0:7444") || a.StalePolicy != 30*time.Second || !slices.Equal(a.Hosts, []string{"gw.example.com", "10.0.0.1:7444"}) {
		t.Errorf("agents %+v", a)
	}
	if d.Limits.Body != 10<<20 {
		t.Errorf("body %d", d.Limits.Body)
	}
	if len(d.Certificates) != 1 || d.Certificates[0].Name != "upstream of api" || !d.Certificates[0].Leaf().Equal(made().server.X509) || d.Certificates[0].Key == nil {
		t.Errorf("our own certificate %+v", d.Certificates)
	}
	want := []termination.Endpoint{
		{
			Name: "api", Origin: termination.OriginFile, Enabled: true, Scheme: termination.SchemeHTTPS, Host: "api.example.com", Port: 443,
			Listen: netip.MustParseAddr("127.0.0.1"), TerminateAt: termination.AtEdge, ClientAuth: noClientAuth(),
			ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
			Preset:        termination.PresetIntermediate, ALPN: []string{"http/1.1"},
			Suites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
			Upstream: termination.Upstream{
				Scheme: termination.UpstreamHTTPS, Address: "10.0.0.1:443", More: []string{"10.0.0.2:8443"},
				TLS: termination.UpstreamTLSConfig{Certificate: "upstream of api"},
				Policy: termination.UpstreamPolicy{
					Balance: termination.BalanceLeastConnections, Health: "/healthz", HealthInterval: 5 * time.Second, ConnectTimeout: time.Second,
					ResponseTimeout: 30 * time.Second, Host: termination.HostUpstream, ProxyProtocol: termination.ProxyProtocolV2,
				},
			},
			Routes: []termination.Route{{
				Path: "/a", StripPrefix: true,
				Upstream: &termination.Upstream{
					Scheme: termination.UpstreamHTTPS, Address: "10.0.0.3:443", Policy: termination.UpstreamPolicy{Health: "tcp"},
					TLS: termination.UpstreamTLSConfig{Certificate: "to-service"},
				},
			}},
		},
		{
			Name: "db", Origin: termination.OriginFile, Enabled: true, Scheme: termination.SchemeTLS, Host: "db.example.com", Port: 5432,
			Listen: netip.MustParseAddr("127.0.0.1"), TerminateAt: termination.AtAgent, ClientAuth: noClientAuth(),
			StartTLS: termination.StartTLSPostgres, Preset: termination.PresetModern,
			Upstream: termination.Upstream{Scheme: termination.UpstreamUnix, Address: "/run/postgresql/.s.PGSQL.5432"},
		},
	}
	for i := range want {
		if i >= len(d.Endpoints) || !reflect.DeepEqual(d.Endpoints[i], want[i]) {
			t.Errorf("endpoint %d:\n got %+v\nwant %+v", i, d.Endpoints[i], want[i])
		}
	}
}

func TestNothingSaidMeansTheDefaults(t *testing.T) {
	d := read(t, "endpoints:\n  - {name: a, url: https://a.example.com, upstream: whoami}\n")
	if d.Defaults != nil || d.Limits != nil || d.History != nil {
		t.Errorf("sections that the file does not have are declared: %+v", d.Declared)
	}
	e := d.Endpoints[0]
	if e.Port != 443 || e.ClientAuth.Mode != termination.ModeOff || !e.Enabled || e.Listen.String() != "127.0.0.1" || e.Upstream.Address != "whoami" {
		t.Errorf("%+v", e)
	}
	// A section that stands there is declared, even if it is empty: then the dashboard cannot change it.
	d = read(t, "limits:\nhistory: {}\ndefaults: {}\n")
	if d.Limits == nil || *d.Limits != termination.DefaultLimits() || *d.History != store.DefaultHistorySettings() || d.Defaults == nil {
		t.Errorf("%+v", d.Declared)
	}
	if d = read(t, "endpoints: []\n"); len(d.Endpoints) != 0 {
		t.Errorf("%+v", d.Endpoints)
	}
}

func TestChosenTrustMeansRequire(t *testing.T) {
	for policy, want := range map[string]termination.Mode{
		"{authorities: [devices]}":              termination.ModeRequire,
		"{pins: [" + someCertificate + "]}":     termination.ModeRequire,
		"{mode: request, authorities: [d]}":     termination.ModeRequest,
		"{mode: off}":                           termination.ModeOff,
		`{mode: "off"}`:                         termination.ModeOff,
		"{mode: require_any}":                   termination.ModeRequireAny,
		"{mode: require}":                       termination.ModeRequire, // with what the defaults trust
		`{authorities: [devices], mode: "off"}`: termination.ModeOff,     // refused by the validation
	} {
		d := read(t, "endpoints: [{name: a, url: https://a.example.com, upstream: whoami, client_auth: "+policy+"}]\n")
		if got := d.Endpoints[0].ClientAuth.Mode; got != want {
			t.Errorf("%s: mode %q, want %q", policy, got, want)
		}
	}
}

func TestPins(t *testing.T) {
	colons := func(s string) string {
		var out []string
		for i := 0; i < len(s); i += 2 {
			out = append(out, strings.ToUpper(s[i:i+2]))
		}
		return strings.Join(out, ":")
	}
	digits := strings.Repeat("12", 32)
	for written, want := range map[string]string{
		someCertificate:                     someCertificate,
		`"spki:` + someKey + `"`:            "spki:" + someKey,
		`"` + colons(someCertificate) + `"`: someCertificate,
		digits:                              digits, // not read as a number
	} {
		d := read(t, "defaults: {client_auth: {pins: ["+written+"]}}\n")
		if got := d.Defaults.Pins[0].String(); got != want {
			t.Errorf("%s became %s", written, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	endpoint := func(name, url string) string {
		return fmt.Sprintf("limits: {connections: \"${COUNT}\"}\nendpoints:\n  - {name: %q, enabled: \"${YES}\", url: %q, upstream: whoami, client_auth: {mode: \"${MODE}\", authorities: [\"${MODE}x\"]}}\n", name, url)
	}
	for _, c := range []struct{ name, url, wantName, wantHost string }{
		{"a${EMPTY}b", "https://${HOST}:${PORT}", "ab", "api.example.com"},
		{"plain", "https://$HOST.example.com", "", ""},   // no braces, no variable: then $ is no host name
		{"${NESTED}", "https://${HOST}:${PORT}", "", ""}, // a value is not expanded again
		{"${LINES}", "https://${HOST}:${PORT}", "", ""},  // a value cannot add keys
		{"a$${HOST}", "https://${HOST}:${PORT}", "", ""}, // escaped: a literal ${, which is no name
	} {
		d, err := Read(write(t, t.TempDir(), endpoint(c.name, c.url)), Options{Getenv: environment})
		if c.wantHost == "" {
			if err == nil {
				t.Errorf("%s, %s: accepted as %+v", c.name, c.url, d.Endpoints)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, %s: %v", c.name, c.url, err)
			continue
		}
		e := d.Endpoints[0]
		if e.Name != c.wantName || e.Host != c.wantHost || e.Port != 8443 || e.ClientAuth.Mode != termination.ModeRequire || e.ClientAuth.Authorities[0] != "requirex" || d.Limits.Connections != 77 {
			t.Errorf("%+v", e)
		}
	}
}

func TestEscapedBraces(t *testing.T) {
	r := &reader{getenv: environment}
	for text, want := range map[string]string{
		"":                        "",
		"$":                       "$",
		"$$":                      "$$",
		"$HOST":                   "$HOST",
		"$${HOST}":                "${HOST}",
		"a$${HOST}${HOST}$${x":    "a${HOST}api.example.com${x",
		"${HOST}$${HOST}${EMPTY}": "api.example.com${HOST}",
		"$$${HOST}":               "$${HOST}",
	} {
		if got, ok := r.expand(nil, text); !ok || got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"${", "${}", "a${NOT_SET}", "${HOST", "${${HOST}}", "${ HOST}"} {
		if got, ok := r.expand(nil, text); ok {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestAliases(t *testing.T) {
	const text = `
defaults:
  client_auth: &trust {authorities: &names [devices]}
endpoints:
  - name: a
    url: https://a.example.com
    upstream: &up http://127.0.0.1:8080
    routes:
      - {path: /x, upstream: *up}
    client_auth: *trust
  - name: b
    url: https://b.example.com
    upstream: *up
    client_auth:
      mode: &up require
      authorities: *names
  - name: c
    url: https://c.example.com
    upstream: whoami
    client_auth: {mode: *up, authorities: *names}
`
	d := read(t, text)
	a, b, c := d.Endpoints[0], d.Endpoints[1], d.Endpoints[2]
	for _, e := range d.Endpoints {
		if e.ClientAuth.Mode != termination.ModeRequire || !slices.Equal(e.ClientAuth.Authorities, []string{"devices"}) {
			t.Errorf("%s: %+v", e.Name, e.ClientAuth)
		}
	}
	if a.Upstream.String() != "http://127.0.0.1:8080" || a.Routes[0].Upstream.String() != a.Upstream.String() || b.Upstream.String() != a.Upstream.String() {
		t.Errorf("upstreams %v %v %v", a.Upstream, a.Routes[0].Upstream, b.Upstream)
	}
	if c.Upstream.Address != "whoami" {
		t.Errorf("%v", c.Upstream)
	}
}

func TestMarksAndLineEndings(t *testing.T) {
	const text = "---\nendpoints:\n  - name: a\n    url: https://a.example.com\n    upstream: whoami\n...\n"
	for name, text := range map[string]string{
		"marks": text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "byte order mark": "\ufeff" + text,
		"no final line break": strings.TrimSuffix(text, "\n...\n"),
		"comments":            "# first\n" + strings.ReplaceAll(text, "\n", " # more\n") + strings.Repeat(" ", 300) + "# far right\n",
	} {
		if d := read(t, text); len(d.Endpoints) != 1 || d.Endpoints[0].Name != "a" {
			t.Errorf("%s: %+v", name, d.Endpoints)
		}
	}
}

// The configuration that the benchmarks of the gateway run with.
func TestBenchmarkConfiguration(t *testing.T) {
	dir := directory(t)
	text := `dashboard: {listen: "127.0.0.1:7443"}
limits: {connections: 100000, connections_per_address: 100000, half_open: 100000, half_open_per_address: 100000}
authorities:
  - {name: bench, pem_file: DIR/ca.pem}
certificates:
  - {name: ecdsa, cert_file: DIR/server.pem, key_file: DIR/server.key}
  - {name: rsa, cert_file: DIR/both.pem, key_file: DIR/both.pem}
endpoints:
  - {name: mtls, url: "https://a.test:9000", terminate_at: edge, upstream: "http://127.0.0.1:9100", certificates: [ecdsa], client_auth: {mode: require, authorities: [bench]}}
  - {name: plain, url: "https://a.test:9001", terminate_at: edge, upstream: "http://127.0.0.1:9100", certificates: [ecdsa], client_auth: {mode: "off"}}
  - {name: both, url: "https://a.test:9002", terminate_at: edge, upstream: "http://127.0.0.1:9100", certificates: [ecdsa, rsa], client_auth: {mode: "off"}}
  - {name: sealed, url: "tls://a.test:9004", terminate_at: upstream, upstream: "tcp://127.0.0.1:9101"}
`
	d, err := Read(write(t, dir, strings.ReplaceAll(text, "DIR", dir)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := config(d).Validate(); err != nil {
		t.Fatal(err)
	}
	tlsText := strings.ReplaceAll(strings.ReplaceAll(text, "DIR", dir), `url: "https:`, `url: "tls:`)
	if d, err = Read(write(t, dir, tlsText), Options{}); err != nil {
		t.Fatal(err)
	}
	if len(d.Endpoints) != 4 {
		t.Fatalf("%d endpoints", len(d.Endpoints))
	}
}
