package termination_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// validConfig is a configuration without fault: each test breaks one thing in it.
func validConfig() *termination.Config {
	devices, servers := tlstest.NewCA(tlstest.CN("Devices")), tlstest.NewCA(tlstest.CN("Servers"))
	server := servers.Server("api.localhost")
	loopback := netip.MustParseAddr("127.0.0.1")
	policy := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}
	none := termination.ClientAuth{Mode: termination.ModeOff, OnLoss: termination.OnLossClose}
	return &termination.Config{
		Authorities: []termination.Authority{{ID: "ca_1", Name: "devices", Certificates: []termination.CACertificate{{Certificate: devices.X509, Role: termination.RoleAnchor}}}},
		Certificates: []termination.Certificate{
			{ID: "crt_1", Name: "api", Chain: []*x509.Certificate{server.X509}, Key: server.Key},
		},
		Endpoints: []termination.Endpoint{
			{
				ID: "ep_1", Name: "api", Enabled: true, Scheme: termination.SchemeHTTPS, Host: "api.localhost", Listen: loopback, Port: 8443,
				TerminateAt: termination.AtEdge, Certificates: []string{"api"}, Upstream: termination.Upstream{Scheme: termination.UpstreamHTTP, Address: "127.0.0.1:8080"},
				ClientAuth: policy, ForwardIdentity: []termination.IdentityFormat{termination.IdentityNginx}, Routes: []termination.Route{{Path: "/api"}},
			},
			{
				ID: "ep_2", Name: "sealed", Enabled: true, Scheme: termination.SchemeTLS, Host: "sealed.localhost", Listen: loopback, Port: 8443,
				TerminateAt: termination.AtUpstream, Upstream: termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:8444"}, ClientAuth: none,
			},
		},
		Limits: termination.DefaultLimits(),
	}
}

func TestValidate(t *testing.T) {
	if err := validConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	other := tlstest.NewCA(tlstest.CN("Other"))
	tests := []struct {
		name  string
		spoil func(*termination.Config)
		field string // of the first error
		says  string
	}{
		{"key of another certificate", func(c *termination.Config) { c.Certificates[0].Key = other.Server("x").Key }, "key_file", "does not belong"},
		{"no key", func(c *termination.Config) { c.Certificates[0].Key = nil }, "cert_file", "missing"},
		{"reserved name", func(c *termination.Config) { c.Certificates[0].Name = "local" }, "name", "reserved"},
		{"no anchor", func(c *termination.Config) { c.Authorities[0].Certificates[0].Role = termination.RoleHelper }, "anchors", "no chain could end"},
		{"empty authority", func(c *termination.Config) { c.Authorities[0].Certificates = nil }, "anchors", "no chain could end"},
		{"leaf as authority", func(c *termination.Config) { c.Authorities[0].Certificates[0].Certificate = other.Client("x").X509 }, "pem", "no CA certificate"},
		{"two authorities of one name", func(c *termination.Config) { c.Authorities = append(c.Authorities, c.Authorities[0]) }, "name", "used twice"},
		{"bad name", func(c *termination.Config) { c.Endpoints[0].Name = "../x" }, "name", "letters, digits"},
		{"two endpoints of one name", func(c *termination.Config) { c.Endpoints[1].Name = "api" }, "name", "used twice"},
		{"one server name twice", func(c *termination.Config) { c.Endpoints[1].Host = "api.localhost" }, "url", "belongs to endpoint"},
		{"one server name twice, by an alias", func(c *termination.Config) { c.Endpoints[1].Aliases = []string{"api.localhost"} }, "url", "belongs to endpoint"},
		{"one server name on all interfaces too", func(c *termination.Config) {
			c.Endpoints[1].Host, c.Endpoints[1].Listen = "api.localhost", netip.MustParseAddr("0.0.0.0")
		}, "url", "belongs to endpoint"},
		{"two fallbacks", func(c *termination.Config) { c.Endpoints[0].Host, c.Endpoints[1].Host = "", "" }, "url", "fallback"},
		{"fallback with aliases", func(c *termination.Config) {
			c.Endpoints[0].Host, c.Endpoints[0].Aliases = "", []string{"x.localhost"}
		}, "aliases", "every name"},
		{"name not normalised", func(c *termination.Config) { c.Endpoints[0].Aliases = []string{"API.localhost"} }, "aliases", "normalised"},
		{"no port", func(c *termination.Config) { c.Endpoints[0].Port = 0 }, "listen", "port"},
		{"agent with a certificate", func(c *termination.Config) {
			c.Agents, c.Endpoints[0].TerminateAt = termination.DefaultAgents(), termination.AtAgent
		}, "certificates", "no business here"},
		{"agent without a listener", func(c *termination.Config) {
			c.Endpoints[0].TerminateAt, c.Endpoints[0].Certificates = termination.AtAgent, nil
		}, "terminate_at", "no address for agents"},
		{"agent with a built-in", func(c *termination.Config) {
			c.Agents, c.Endpoints[0].TerminateAt, c.Endpoints[0].Certificates = termination.DefaultAgents(), termination.AtAgent, nil
			c.Endpoints[0].Upstream = termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami}
		}, "upstream", "beside the agent"},
		{"unknown place", func(c *termination.Config) { c.Endpoints[0].TerminateAt = "moon" }, "terminate_at", "unknown"},
		{"unknown certificate", func(c *termination.Config) { c.Endpoints[0].Certificates = []string{"gone"} }, "certificates", "no certificate"},
		{"no certificate and no local CA", func(c *termination.Config) { c.Endpoints[0].Certificates = nil }, "certificates", "no local CA"},
		{"local without local CA", func(c *termination.Config) { c.Endpoints[0].Certificates = []string{"local"} }, "certificates", "no local CA"},
		{"acme", func(c *termination.Config) { c.Endpoints[0].Certificates = []string{"acme"} }, "certificates", "no ACME directory"},
		{"TLS 1.1", func(c *termination.Config) { c.Endpoints[0].MinVersion = tls.VersionTLS11 }, "tls", "1.2 and 1.3"},
		{"versions crossed", func(c *termination.Config) {
			c.Endpoints[0].MinVersion, c.Endpoints[0].MaxVersion = tls.VersionTLS13, tls.VersionTLS12
		}, "tls", "above"},
		{"no upstream", func(c *termination.Config) { c.Endpoints[0].Upstream = termination.Upstream{} }, "upstream", "missing"},
		{"tcp behind https", func(c *termination.Config) { c.Endpoints[0].Upstream.Scheme = termination.UpstreamTCP }, "upstream", "cannot carry HTTP"},
		{"unknown mode", func(c *termination.Config) { c.Endpoints[0].ClientAuth.Mode = "maybe" }, "client_auth.mode", "unknown"},
		{"unknown on_loss", func(c *termination.Config) { c.Endpoints[0].ClientAuth.OnLoss = "shrug" }, "client_auth.on_loss", "unknown"},
		{"depth", func(c *termination.Config) { c.Endpoints[0].ClientAuth.MaxDepth = 11 }, "client_auth.max_depth", "out of range"},
		{"unknown authority", func(c *termination.Config) { c.Endpoints[0].ClientAuth.Authorities = []string{"gone"} }, "client_auth.authorities", "no authority"},
		{"require without anybody", func(c *termination.Config) { c.Endpoints[0].ClientAuth.Authorities = nil }, "client_auth.mode", "needs an authority or a pin"},
		{"off with an authority", func(c *termination.Config) { c.Endpoints[0].ClientAuth.Mode = termination.ModeOff }, "client_auth.mode", "ignores"},
		{"unknown authority in the defaults", func(c *termination.Config) { c.Defaults.Authorities = []string{"gone"} }, "client_auth", "no authority"},
		{"headers on a tls endpoint", func(c *termination.Config) {
			c.Endpoints[0].Scheme, c.Endpoints[0].Routes = termination.SchemeTLS, nil
		}, "forward_identity", "https"},
		{"a header set", func(c *termination.Config) { c.Endpoints[0].ForwardIdentity = []termination.IdentityFormat{"apache"} }, "forward_identity", "is unknown"},
		{"route not clean", func(c *termination.Config) { c.Endpoints[0].Routes[0].Path = "/a/../b" }, "routes.path", "not clean"},
		{"route with an escape", func(c *termination.Config) { c.Endpoints[0].Routes[0].Path = "/a%2fb" }, "routes.path", "plain"},
		{"route twice", func(c *termination.Config) {
			c.Endpoints[0].Routes = append(c.Endpoints[0].Routes, c.Endpoints[0].Routes[0])
		}, "routes.path", "twice"},
		{"route that verifies nobody", func(c *termination.Config) {
			c.Endpoints[0].Routes[0].ClientAuth = &termination.ClientAuth{Mode: termination.ModeRequire, OnLoss: termination.OnLossClose}
		}, "routes.client_auth.mode", "needs an authority"},
		{"policy on sealed traffic", func(c *termination.Config) {
			c.Endpoints[1].ClientAuth = c.Endpoints[0].ClientAuth
		}, "client_auth", "cannot check what we do not open"},
		{"certificates on sealed traffic", func(c *termination.Config) { c.Endpoints[1].Certificates = []string{"api"} }, "certificates", "no business here"},
		{"https over sealed traffic", func(c *termination.Config) { c.Endpoints[1].Scheme = termination.SchemeHTTPS }, "url", "tls://"},
		{"http behind sealed traffic", func(c *termination.Config) { c.Endpoints[1].Upstream.Scheme = termination.UpstreamHTTP }, "upstream", "tcp://"},
		{"TLS in TLS", func(c *termination.Config) { c.Endpoints[1].Upstream.Scheme = termination.UpstreamTLS }, "upstream", "TLS into TLS"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := validConfig()
			test.spoil(c)
			var invalid termination.ValidationError
			if err := c.Validate(); !errors.As(err, &invalid) {
				t.Fatalf("got %v, want a ValidationError", err)
			}
			if invalid[0].Field != test.field || !strings.Contains(invalid.Error(), test.says) || invalid[0].Advice == "" {
				t.Errorf("got %q of %s, want %q of %s, with advice", invalid[0].Error(), invalid[0].Field, test.says, test.field)
			}
		})
	}
}

// The defaults are trusted by whoever verifies and inherits, and by nobody else.
func TestDefaultsAreInherited(t *testing.T) {
	c := validConfig()
	c.Defaults.Authorities = []string{"devices"}
	e := &c.Endpoints[0]
	e.ClientAuth.Authorities = nil
	if err := c.Validate(); err != nil {
		t.Errorf("with the defaults' authority: %v", err)
	}
	e.ClientAuth.Inherit = false
	if err := c.Validate(); err == nil {
		t.Error("an endpoint that inherits nothing verifies with the defaults' authority")
	}
	if got := c.Effective(c.Endpoints[1].ClientAuth); len(got.Authorities) != 0 {
		t.Errorf("an endpoint that does not ask inherits %v", got.Authorities)
	}
}

func TestNormalizeName(t *testing.T) {
	good := map[string]string{
		"a.example": "a.example", "A.Example": "a.example", "a.example.": "a.example", "a.example:8443": "a.example", "a.example.:443": "a.example",
		"bücher.example": "xn--bcher-kva.example", "BÜCHER.example": "xn--bcher-kva.example", "*.a.example": "*.a.example", "a_b.example": "a_b.example", "localhost": "localhost",
	}
	for in, want := range good {
		got, err := termination.NormalizeName(in)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
		if again, err := termination.NormalizeName(got); err != nil || again != got {
			t.Errorf("%q is not stable: %q, %v", got, again, err)
		}
	}
	for _, in := range []string{
		"", ".", "..", "a..b", "-a.example", "a-.example", "127.0.0.1", "127.0.0.1:443", "[::1]", "[::1]:443", "::1", "a b", "a\x00b", "a/b", "a%2eb",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 130) + "example", "<img>", "a.*.example", "**.example", "*", "*.",
	} {
		if got, err := termination.NormalizeName(in); err == nil {
			t.Errorf("%q became %q", in, got)
		} else if !errors.Is(err, termination.ErrName) {
			t.Errorf("%q: %v does not wrap ErrName", in, err)
		}
	}
}

func FuzzNormalizeName(f *testing.F) {
	for _, s := range []string{"a.example", "A.example.:443", "*.x", "bücher", "[::1]:1", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := termination.NormalizeName(s)
		if err != nil {
			return
		}
		if again, err := termination.NormalizeName(name); err != nil || again != name {
			t.Errorf("%q became %q, and that %q (%v)", s, name, again, err)
		}
	})
}

func TestNewID(t *testing.T) {
	early := termination.NewID(termination.PrefixHandshake, validConfig().Authorities[0].Certificates[0].Certificate.NotBefore)
	late := termination.NewID(termination.PrefixHandshake, validConfig().Authorities[0].Certificates[0].Certificate.NotAfter)
	if len(early) != len("hs_")+26 || early >= late || early == termination.NewID(termination.PrefixHandshake, validConfig().Authorities[0].Certificates[0].Certificate.NotBefore) {
		t.Errorf("%s, then %s", early, late)
	}
}

// A key that is kept for a name is found, whatever endpoint has the name.
func TestCertificatesFor(t *testing.T) {
	ca := tlstest.NewCA()
	keep := func(name string, names ...string) termination.Certificate {
		cert := ca.Server(names[0], tlstest.DNS(names...))
		return termination.Certificate{Name: name, Chain: []*x509.Certificate{cert.X509}, Key: cert.Key}
	}
	c := &termination.Config{Certificates: []termination.Certificate{
		keep("exact", "vault.example.com"), keep("wildcard", "*.example.com"), keep("other", "other.example.org"), {Name: "empty"},
	}}
	for _, test := range []struct {
		host    string
		aliases []string
		want    string
	}{
		{"vault.example.com", nil, "exact wildcard"},
		{"deep.vault.example.com", nil, ""},
		{"api.example.com", nil, "wildcard"},
		{"x.example.net", []string{"*.example.com"}, "wildcard"},
		{"", nil, ""},
	} {
		e := &termination.Endpoint{Host: test.host, Aliases: test.aliases}
		if got := strings.Join(c.CertificatesFor(e), " "); got != test.want {
			t.Errorf("%s %v: %q, want %q", test.host, test.aliases, got, test.want)
		}
	}
}
