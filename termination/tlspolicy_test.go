package termination_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func TestTLSPolicy(t *testing.T) {
	const aes = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	http := []string{"h2", "http/1.1"}
	six := 6 // suites of the preset intermediate
	tests := []struct {
		name     string
		endpoint termination.Endpoint
		min, max uint16
		suites   int
		alpn     []string
	}{
		{"nothing said", termination.Endpoint{Scheme: termination.SchemeHTTPS}, tls.VersionTLS12, tls.VersionTLS13, six, http},
		{"tls", termination.Endpoint{Scheme: termination.SchemeTLS}, tls.VersionTLS12, tls.VersionTLS13, six, nil},
		{"intermediate", termination.Endpoint{Scheme: termination.SchemeTLS, Preset: termination.PresetIntermediate}, tls.VersionTLS12, tls.VersionTLS13, six, nil},
		{"modern", termination.Endpoint{Scheme: termination.SchemeHTTPS, Preset: termination.PresetModern}, tls.VersionTLS13, tls.VersionTLS13, 0, http},
		{"intermediate from 1.3", termination.Endpoint{Scheme: termination.SchemeTLS, MinVersion: tls.VersionTLS13}, tls.VersionTLS13, tls.VersionTLS13, 0, nil},
		{"1.2 alone", termination.Endpoint{Scheme: termination.SchemeTLS, MaxVersion: tls.VersionTLS12}, tls.VersionTLS12, tls.VersionTLS12, six, nil},
		{"own suites", termination.Endpoint{Scheme: termination.SchemeTLS, Suites: []uint16{aes}}, tls.VersionTLS12, tls.VersionTLS13, 1, nil},
		{"own protocols", termination.Endpoint{Scheme: termination.SchemeHTTPS, ALPN: []string{"http/1.1"}}, tls.VersionTLS12, tls.VersionTLS13, six, []string{"http/1.1"}},
		{"postgres", termination.Endpoint{Scheme: termination.SchemeTLS, StartTLS: termination.StartTLSPostgres}, tls.VersionTLS12, tls.VersionTLS13, six, []string{"postgresql"}},
	}
	keys := map[string]string{}
	for _, test := range tests {
		p := test.endpoint.TLSPolicy()
		if p.MinVersion != test.min || p.MaxVersion != test.max || len(p.Suites) != test.suites || !slices.Equal(p.ALPN, test.alpn) {
			t.Errorf("%s: %+v", test.name, p)
		}
		for _, s := range p.Suites {
			if name := termination.SuiteName(s); !strings.HasPrefix(name, "TLS_ECDHE_") || strings.Contains(name, "_CBC_") {
				t.Errorf("%s: %s is allowed", test.name, name)
			}
		}
		if other, taken := keys[p.Key()]; taken && test.name != "intermediate" && test.name != "own suites" {
			t.Errorf("%s and %s have one key", test.name, other)
		}
		keys[p.Key()] = test.name
	}
	a := termination.Endpoint{Suites: []uint16{0xc02b, 0xc02f}}
	b := termination.Endpoint{Suites: []uint16{0xc02f, 0xc02b}}
	if a.TLSPolicy().Key() != b.TLSPolicy().Key() {
		t.Error("the order of suites means nothing, yet tickets die of it")
	}
}

func TestTLSPolicyObjects(t *testing.T) {
	e := termination.Endpoint{Scheme: termination.SchemeHTTPS, Suites: []uint16{0xc02b}, ALPN: []string{"h2"}}
	for name, test := range map[string]struct {
		chosen *termination.Negotiated
		want   termination.Reason
	}{
		"unknown":        {nil, termination.ReasonVersionLow},
		"1.3":            {&termination.Negotiated{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}, ""},
		"1.1":            {&termination.Negotiated{Version: tls.VersionTLS11, CipherSuite: 0xc02b}, termination.ReasonVersionLow},
		"1.2":            {&termination.Negotiated{Version: tls.VersionTLS12, CipherSuite: 0xc02b, ALPN: "h2"}, ""},
		"other suite":    {&termination.Negotiated{Version: tls.VersionTLS12, CipherSuite: 0xc02f}, termination.ReasonNoCommonSuite},
		"other protocol": {&termination.Negotiated{Version: tls.VersionTLS13, ALPN: "http/1.1"}, termination.ReasonALPN},
	} {
		if got := e.TLSPolicy().Objection(test.chosen); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestParseSuite(t *testing.T) {
	for name, want := range map[string]uint16{
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256":         0xc02f,
		" ecdhe-rsa-aes128-gcm-sha256 ":                 0xc02f,
		"ECDHE-ECDSA-CHACHA20-POLY1305":                 0xcca9,
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xcca9,
		"ECDHE-RSA-AES256-SHA":                          0xc014,
	} {
		if id, err := termination.ParseSuite(name); err != nil || id != want {
			t.Errorf("%s: %#04x, %v", name, id, err)
		}
	}
	for name, says := range map[string]string{
		"AES128-GCM-SHA256":                "forward secrecy",
		"TLS_RSA_WITH_AES_256_GCM_SHA384":  "forward secrecy",
		"TLS_RSA_WITH_RC4_128_SHA":         "broken",
		"ECDHE-RSA-DES-CBC3-SHA":           "broken",
		"ECDHE-RSA-AES128-SHA256":          "timing",
		"DHE-RSA-AES256-GCM-SHA384":        "not spoken here",
		"ADH-AES128-SHA":                   "unproven",
		"TLS_DH_anon_WITH_AES_128_CBC_SHA": "unproven",
		"PSK-AES128-GCM-SHA256":            "without certificates",
		"TLS_AES_128_GCM_SHA256":           "no choice of suites",
		"HIGH":                             "not known",
		"ECDHE+AESGCM":                     "not known",
		"":                                 "not known",
	} {
		if id, err := termination.ParseSuite(name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %#04x, %v; want %q", name, id, err, says)
		}
	}
}

// Each of OpenSSL's names leads to the suite that OpenSSL itself means by it.
func TestSuiteNamesAreOpenSSLs(t *testing.T) {
	out := tlstest.OpenSSL(t, "ciphers", "-V", "-stdname", "ALL")
	known := 0
	for line := range strings.Lines(out.Stdout) {
		f := strings.Fields(line) // 0xC0,0x2B - TLS_… - ECDHE-… TLSv1.2 …
		if len(f) < 5 {
			continue
		}
		id, err := termination.ParseSuite(f[4])
		if err != nil {
			continue
		}
		known++
		if standard, err := termination.ParseSuite(f[2]); err != nil || standard != id {
			t.Errorf("%s is %s to us", line, termination.SuiteName(id))
		}
	}
	if want := len(termination.SecureSuites()); known != want {
		t.Errorf("OpenSSL knows %d of our %d suites: %s", known, want, out.Output())
	}
}

func TestValidateTLSPolicy(t *testing.T) {
	const rsaSuite, ecdsaSuite, cbcSuite = 0xc02f, 0xc02b, 0xc009
	long := strings.Repeat("x", 256)
	tests := []struct {
		name  string
		spoil func(https, sealed *termination.Endpoint)
		field string
		says  string // empty: it is fine
	}{
		{"modern", func(e, _ *termination.Endpoint) { e.Preset = termination.PresetModern }, "", ""},
		{"unknown preset", func(e, _ *termination.Endpoint) { e.Preset = "old" }, "tls.preset", "modern"},
		{"modern up to 1.2", func(e, _ *termination.Endpoint) { e.Preset, e.MaxVersion = termination.PresetModern, tls.VersionTLS12 }, "tls.max_version", "leaves nothing"},
		{"modern from 1.2", func(e, _ *termination.Endpoint) { e.Preset, e.MinVersion = termination.PresetModern, tls.VersionTLS12 }, "tls.min_version", "beside it"},
		{"versions crossed", func(e, _ *termination.Endpoint) { e.MinVersion, e.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 }, "tls", "above max_version"},
		{"suite", func(e, _ *termination.Endpoint) { e.Suites = []uint16{ecdsaSuite} }, "", ""},
		{"suites of TLS 1.3", func(e, _ *termination.Endpoint) { e.Suites = []uint16{ecdsaSuite}; e.MinVersion = tls.VersionTLS13 }, "tls.suites", "no choice of suites"},
		{"suites beside modern", func(e, _ *termination.Endpoint) { e.Suites, e.Preset = []uint16{ecdsaSuite}, termination.PresetModern }, "tls.suites", "not spoken here"},
		{"suite twice", func(e, _ *termination.Endpoint) { e.Suites = []uint16{ecdsaSuite, ecdsaSuite} }, "tls.suites", "twice"},
		{"insecure suite", func(e, _ *termination.Endpoint) { e.Suites = []uint16{ecdsaSuite, tls.TLS_RSA_WITH_AES_128_GCM_SHA256} }, "tls.suites", "forward secrecy"},
		{"unknown suite", func(e, _ *termination.Endpoint) { e.Suites = []uint16{ecdsaSuite, 0xfefe} }, "tls.suites", "not known"},
		{"suites for another key", func(e, _ *termination.Endpoint) { e.Suites = []uint16{rsaSuite} }, "tls.suites", "ECDSA key"},
		{"CBC and HTTP/2", func(e, _ *termination.Endpoint) { e.Suites = []uint16{cbcSuite} }, "tls.suites", "HTTP/2 forbids"},
		{"CBC beside GCM", func(e, _ *termination.Endpoint) { e.Suites = []uint16{cbcSuite, ecdsaSuite} }, "", ""},
		{"CBC with HTTP/1.1", func(e, _ *termination.Endpoint) { e.Suites, e.ALPN = []uint16{cbcSuite}, []string{"http/1.1"} }, "", ""},
		{"HTTP/1.1 alone", func(e, _ *termination.Endpoint) { e.ALPN = []string{"http/1.1"} }, "", ""},
		{"no HTTP", func(e, _ *termination.Endpoint) { e.ALPN = []string{"mqtt"} }, "tls.alpn", "h2 and http/1.1"},
		{"protocol twice", func(e, _ *termination.Endpoint) { e.ALPN = []string{"h2", "h2"} }, "tls.alpn", "twice"},
		{"empty protocol", func(e, _ *termination.Endpoint) { e.ALPN = []string{""} }, "tls.alpn", "1 to 255"},
		{"long protocol", func(e, _ *termination.Endpoint) { e.ALPN = []string{long} }, "tls.alpn", "1 to 255"},
		{"odd protocol", func(e, _ *termination.Endpoint) { e.ALPN = []string{"h 2"} }, "tls.alpn", "printable"},
		{"too many protocols", func(e, _ *termination.Endpoint) { e.ALPN = slices.Repeat([]string{"h2"}, 17) }, "tls.alpn", "too many"},
		{"ACME's protocol", func(e, _ *termination.Endpoint) { e.ALPN = []string{"h2", "acme-tls/1"} }, "tls.alpn", "a CA looks"},
		{"starttls in https", func(e, _ *termination.Endpoint) { e.StartTLS = termination.StartTLSPostgres }, "starttls", "tls:// url"},
		{"unknown starttls", func(e, _ *termination.Endpoint) { e.StartTLS = "smtp" }, "starttls", "none or postgres"},
		{"sealed starttls", func(_, s *termination.Endpoint) { s.StartTLS = termination.StartTLSPostgres }, "starttls", "waits for the client's request"},
		{"sealed suites", func(_, s *termination.Endpoint) { s.Suites = []uint16{ecdsaSuite} }, "tls", "the service decides"},
		{"sealed protocols", func(_, s *termination.Endpoint) { s.ALPN = []string{"h2"} }, "tls", "the service decides"},
		{"sealed preset", func(_, s *termination.Endpoint) { s.Preset = termination.PresetModern }, "tls", "the service decides"},
		{"postgres", func(e, _ *termination.Endpoint) { postgres(e) }, "", ""},
		{"postgres behind TLS", func(e, _ *termination.Endpoint) {
			postgres(e)
			e.Upstream.Scheme = termination.UpstreamTLS
		}, "starttls", "tcp:// or unix:"},
		{"postgres without its protocol", func(e, _ *termination.Endpoint) { postgres(e); e.ALPN = []string{"pg"} }, "tls.alpn", "PostgreSQL 17"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := validConfig()
			test.spoil(&c.Endpoints[0], &c.Endpoints[1])
			err := c.Validate()
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var all termination.ValidationError
			if v, ok := err.(termination.ValidationError); ok { //nolint:errorlint // Validate returns it as it is
				all = v
			}
			if len(all) != 1 || all[0].Field != test.field || !strings.Contains(all[0].Error(), test.says) || all[0].Advice == "" {
				t.Errorf("got %v, want one about %s that says %q", err, test.field, test.says)
			}
		})
	}
}

// postgres makes an https endpoint one in front of PostgreSQL.
func postgres(e *termination.Endpoint) {
	e.Scheme, e.StartTLS = termination.SchemeTLS, termination.StartTLSPostgres
	e.Upstream = termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:5432"}
	e.ForwardIdentity, e.Routes = nil, nil
}
