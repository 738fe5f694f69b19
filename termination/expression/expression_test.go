package expression_test

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/expression"
	"countersign/termination/tlstest"
)

func clientInput() expression.Input {
	ca := tlstest.NewCA(tlstest.Subject(pkix.Name{CommonName: "Devices CA", Organization: []string{"Example"}}))
	leaf := ca.Leaf(
		tlstest.Subject(pkix.Name{
			CommonName: "laptop-7", Organization: []string{"Example", "Second"}, OrganizationalUnit: []string{"it"},
			Country: []string{"DE"}, Locality: []string{"Köln"}, Province: []string{"NRW"}, PostalCode: []string{"50667"}, StreetAddress: []string{"Domkloster 4"},
		}),
		tlstest.Serial(0x0a1f), tlstest.DNS("a.devices.example.com", "b.example.com"), tlstest.Email("ops@example.com"),
		tlstest.IP("10.1.2.3", "2001:db8::1"), tlstest.URI("spiffe://prod/billing"),
		tlstest.Valid(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)),
	)
	return expression.Input{
		Leaf: leaf.X509, Authority: "devices", Identity: "billing", ServerName: "api.example.com", Version: tls.VersionTLS13,
		Peer: netip.MustParseAddr("::ffff:10.9.8.7"), Now: time.Date(2026, 11, 27, 15, 30, 0, 0, time.UTC),
		Request: &expression.Request{Method: "GET", Path: "/v1/things", Host: "api.example.com"},
	}
}

func TestConditions(t *testing.T) {
	in := clientInput()
	fp := termination.FingerprintOf(in.Leaf).String()
	for text, want := range map[string]bool{
		`true`:  true,
		`false`: false,
		`client.san.dns_names.exists(n, n.endsWith(".devices.example.com"))`:            true,
		`conn.tls.client.san.dns_names.exists(n, n.endsWith(".devices.example.org"))`:   false,
		`client.subject == "CN=laptop-7,POSTALCODE=x"`:                                  false,
		`conn.tls.client.subject.startsWith("CN=laptop-7,")`:                            true,
		`client.issuer == "CN=Devices CA,O=Example"`:                                    true,
		`client.issuer.common_name == "Devices CA"`:                                     true,
		`client.subject.common_name == "laptop-7"`:                                      true,
		`"Second" in client.subject.organization`:                                       true,
		`client.subject.organizational_unit == ["it"]`:                                  true,
		`client.subject.country == ["DE"] && client.subject.locality == ["Köln"]`:       true,
		`client.subject.province[0] + client.subject.postal_code[0]== "NRW50667"`:       true,
		`client.subject.street_address.size() == 1`:                                     true,
		`client.san.email_addresses == ["ops@example.com"]`:                             true,
		`client.san.ip_addresses == ["10.1.2.3", "2001:db8::1"]`:                        true,
		`"spiffe://prod/billing" in client.san.uris`:                                    true,
		`client.serial_number == "a1f"`:                                                 true,
		`client.signature_algorithm.contains("SHA256")`:                                 true,
		`client.validity.not_after - now > duration("24h")`:                             true,
		`client.validity.not_before > now`:                                              false,
		`now.getHours() == 15 && now.getHours("+01:00") == 16`:                          true,
		`client.extensions.exists(e, e.id == "2.5.29.17" && !e.critical)`:               true,
		`client.extensions.exists(e, e.id == "1.2.3")`:                                  false,
		`client.fingerprint == "` + fp + `"`:                                            true,
		`client.key_fingerprint.size() == 64 && client.key_fingerprint != "` + fp + `"`: true,
		`client.pem.startsWith("-----BEGIN CERTIFICATE-----")`:                          true,
		`client.authority == "devices" && client.identity == "billing"`:                 true,
		`conn.tls.sni == "api.example.com" && conn.tls.version == "1.3"`:                true,
		`conn.client_ip == "10.9.8.7"`:                                                  true,
		`inCidrRange(conn.client_ip, "10.0.0.0/8")`:                                     true,
		`inCidrRange(conn.client_ip, "2001:db8::/32")`:                                  false,
		`inCidrRanges(conn.client_ip, ["192.168.0.0/16", "10.9.8.7"])`:                  true,
		`inCidrRanges(conn.client_ip, [])`:                                              false,
		`req.method in ["GET", "HEAD"] && req.path.startsWith("/v1/")`:                  true,
		`req.host == "other.example.com"`:                                               false,
		`client.subject.common_name.matches("^laptop-[0-9]+$")`:                         true,
		`client.subject.common_name.upperAscii() == "LAPTOP-7"`:                         true,
		// A name that is taken by a loop is that of the loop.
		`["x"].exists(now, now == "x")`: true,
	} {
		p, err := expression.Compile(text, expression.Condition, 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := p.Test(t.Context(), in); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestTexts(t *testing.T) {
	in := clientInput()
	for text, want := range map[string][]string{
		`client.subject.common_name`:                 {"laptop-7"},
		`client.san.dns_names`:                       {"a.devices.example.com", "b.example.com"},
		`client.san.dns_names.join("|")`:             {"a.devices.example.com|b.example.com"},
		`base64.encode(b"x")`:                        {"eA=="},
		`string(client.extensions[0].critical)`:      {"true"},
		`client.san.uris[0].split("/")`:              {"spiffe:", "", "prod", "billing"},
		`client.identity == "" ? "nobody" : "known"`: {"known"},
	} {
		p, err := expression.Compile(text, expression.Text, 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := p.Texts(t.Context(), in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

// What is wrong is named where it is, and with what to do.
func TestRefusedTexts(t *testing.T) {
	for _, c := range []struct {
		text string
		kind expression.Kind
		want string
	}{
		{"", expression.Condition, "it is empty; write a condition"},
		{strings.Repeat("!", expression.MaxText) + "true", expression.Condition, "4100 bytes, and 4096 are allowed"},
		{"\"\xff\" == client.pem", expression.Condition, "not valid UTF-8"},
		{`client.subject.comon_name == "x"`, expression.Condition, `line 1, column 15: nothing here is called client.subject.comon_name; did you mean client.subject.common_name?`},
		{"true &&\n  subject.common_name == \"x\"", expression.Condition, `line 2, column 3: nothing here is called subject.common_name; did you mean client.subject.common_name?`},
		{`env("HOME") == "/root"`, expression.Condition, "nothing here is called env"},
		{`client.san.dns_names == "x"`, expression.Condition, `line 1, column 22: == does not take (list(string), string); compare values of one type`},
		{`client.san.dns_names.exists(n, n == )`, expression.Condition, `line 1, column 37: it cannot be read here`},
		{`client.subject.common_name`, expression.Condition, "its value is of type string, not true or false; compare it"},
		{`now`, expression.Text, "its value is of type timestamp, not a text; turn it into one, as in string(now)"},
		{`inCidrRange(conn.client_ip, "10.0.0/8")`, expression.Condition, `column 29: "10.0.0/8" is no network; write it as in 10.0.0.0/8`},
		{`inCidrRanges(conn.client_ip, ["10.0.0.0/8", "x"])`, expression.Condition, `"x" is no network`},
		{`client.pem.matches("(")`, expression.Condition, "column 20: this is no regular expression"},
		{`client.pem.matches(client.subject.common_name)`, expression.Condition, "must be written out"},
		{`client.pem.matches("(a{100}){100}")`, expression.Condition, "too large a one"},
		{strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), expression.Condition, "nested too deeply"},
		{`now.getHours("Europe/Berlin") > 8`, expression.Condition, `line 1, column 14: a time zone must be written out as an offset`},
		{`now.getDayOfWeek(client.subject.common_name) > 1`, expression.Condition, "must be written out"},
		{`now > timestamp("yesterday")`, expression.Condition, "timestamp"},
		{`client.san.dns_names.all(a, client.san.uris.all(b, client.san.dns_names.all(c, client.san.uris.all(d, a + b + c == d))))`, expression.Condition, "nesting"},
		{`client.san.dns_names.all(a, client.san.uris.all(b, client.san.email_addresses.all(c, a + b == c)))`, expression.Condition, "it could cost"},
	} {
		_, err := expression.Compile(c.text, c.kind, 0)
		var typed *expression.Error
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q: %v\n  want %s", c.text, err, c.want)
		}
	}
	if _, err := expression.Compile("true", expression.Condition, -1); err == nil {
		t.Error("a negative limit was taken")
	}
	if _, err := expression.Compile("true", expression.Condition, expression.MaxCost+1); err == nil {
		t.Error("a limit without measure was taken")
	}
}

func TestNeeds(t *testing.T) {
	for text, want := range map[string]string{
		`true`:                              "",
		`client.subject.common_name == "x"`: "client",
		`conn.tls.client.san.uris.exists(u, u == conn.tls.sni)`:   "client",
		`inCidrRange(conn.client_ip, "10.0.0.0/8")`:               "peer",
		`req.path == "/x" || now.getHours() > 3`:                  "request time",
		`[1].exists(x, [2].exists(y, req.method == "GET"))`:       "request",
		`client.validity.not_after > now + duration("1h")`:        "time client",
		`conn.client_ip.startsWith("10.") && client.pem == "abc"`: "peer client",
	} {
		p, err := expression.Compile(text, expression.Condition, 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, n := range []struct {
			needs bool
			name  string
		}{{p.NeedsRequest(), "request"}, {p.NeedsPeer(), "peer"}, {p.NeedsTime(), "time"}, {p.NeedsClient(), "client"}} {
			if n.needs {
				got = append(got, n.name)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s needs %q, want %q", text, s, want)
		}
	}
}

// What an expression asks for and nobody knows is an error: an empty text could mean yes.
func TestMissingInputIsAnError(t *testing.T) {
	full := clientInput()
	for _, c := range []struct {
		text string
		take func(*expression.Input)
	}{
		{`req.path != "/admin"`, func(in *expression.Input) { in.Request = nil }},
		{`conn.client_ip != "10.0.0.1"`, func(in *expression.Input) { in.Peer = netip.Addr{} }},
		{`conn.tls.version != "1.2"`, func(in *expression.Input) { in.Version = 0 }},
		{`now < timestamp("2027-01-01T00:00:00Z")`, func(in *expression.Input) { in.Now = time.Time{} }},
	} {
		p, err := expression.Compile(c.text, expression.Condition, 0)
		if err != nil {
			t.Fatal(err)
		}
		if in, err := p.Test(t.Context(), full); err != nil || !in {
			t.Fatalf("%s: %v, %v", c.text, in, err)
		}
		in := full
		c.take(&in)
		var typed *expression.EvalError
		if got, err := p.Test(t.Context(), in); got || !errors.As(err, &typed) || !strings.Contains(err.Error(), "not known") {
			t.Errorf("%s: %v, %v", c.text, got, err)
		}
	}
}

func TestFailuresAtRunTime(t *testing.T) {
	in := clientInput()
	for text, want := range map[string]string{
		`client.subject.organization[7] == "x"`:                   "index",
		`client.extensions[0].nothing == 1`:                       "no such key",
		`1 / (client.san.uris.size() - 1) == 0`:                   "division",
		`inCidrRange(client.subject.common_name, "10.0.0.0/8")`:   "is no IP address",
		`inCidrRange(conn.client_ip, client.subject.common_name)`: "is no network",
		`client.extensions[0].id`:                                 "not true or false",
		`timestamp(client.subject.common_name) > now`:             "",
		`int(client.subject.common_name) > 3`:                     "",
	} {
		p, err := expression.Compile(text, expression.Condition, 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var typed *expression.EvalError
		if got, err := p.Test(t.Context(), in); got || !errors.As(err, &typed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", text, got, err, want)
		}
	}
}

// A certificate that is larger than what the estimate counted with ends at the limit.
func TestCostIsLimitedAtRunTime(t *testing.T) {
	p, err := expression.Compile(`client.san.dns_names.exists(a, client.san.dns_names.exists(b, a + "x" == b))`, expression.Condition, 0)
	if err != nil {
		t.Fatal(err)
	}
	in := clientInput()
	if got, err := p.Test(t.Context(), in); got || err != nil {
		t.Fatalf("an ordinary certificate: %v, %v", got, err)
	}
	in.Leaf = tlstest.NewCA().Leaf(tlstest.ManyNames(2000)).X509
	var typed *expression.EvalError
	if got, err := p.Test(t.Context(), in); got || !errors.As(err, &typed) || !strings.Contains(err.Error(), "cost more") {
		t.Errorf("a certificate with 2000 names: %v, %v", got, err)
	}
}

func TestEvaluationEndsWithItsContext(t *testing.T) {
	p, err := expression.Compile(`client.san.dns_names.all(n, n.size() > 0)`, expression.Condition, expression.MaxCost)
	if err != nil {
		t.Fatal(err)
	}
	in := clientInput()
	in.Leaf = tlstest.NewCA().Leaf(tlstest.ManyNames(2000)).X509
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := p.Test(ctx, in); got || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWithoutCertificate(t *testing.T) {
	for _, v := range expression.Variables() {
		if !strings.HasPrefix(v.Name, "conn.tls.client.") {
			continue
		}
		text := v.Name + ` == ""`
		if strings.HasPrefix(v.Type, "list") {
			text = v.Name + `.size() == 0`
		} else if v.Type == "timestamp" {
			text = v.Name + ` == timestamp(0)`
		}
		p, err := expression.Compile(text, expression.Condition, 0)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := p.Test(t.Context(), expression.Input{}); !got || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if v.Help == "" {
			t.Errorf("%s is not described", v.Name)
		}
	}
}

func TestValuesForPeople(t *testing.T) {
	p, err := expression.Compile(`client.san.dns_names.exists(n, n == conn.tls.sni) && req.path == "/" && client.validity.not_after > now`, expression.Condition, 0)
	if err != nil {
		t.Fatal(err)
	}
	in := clientInput()
	in.Request = nil
	want := []expression.Value{
		{"conn.tls.client.san.dns_names", "list(string)", `["a.devices.example.com" "b.example.com"]`},
		{"conn.tls.client.validity.not_after", "timestamp", "2027-01-01T00:00:00Z"},
		{"conn.tls.sni", "string", `"api.example.com"`},
		{"now", "timestamp", "2026-11-27T15:30:00Z"},
		{"req.path", "string", ""},
	}
	if got := p.Values(in); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A program is shared by all connections of an endpoint.
func TestConcurrentUse(t *testing.T) {
	p, err := expression.Compile(`client.san.dns_names.exists(n, n.endsWith(".example.com")) && conn.client_ip.startsWith("10.")`, expression.Condition, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		in := clientInput()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 200 {
				if got, err := p.Test(t.Context(), in); !got || err != nil {
					t.Fatal(got, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := expression.Compile(`client.san.dns_names.exists(n, n.endsWith(".devices.example.com"))`, expression.Condition, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTest(b *testing.B) {
	in := clientInput()
	for name, text := range map[string]string{
		"name":    `client.subject.common_name == "laptop-7"`,
		"exists":  `client.san.dns_names.exists(n, n.endsWith(".devices.example.com"))`,
		"request": `req.method == "GET" && req.path.startsWith("/v1/")`,
		"network": `inCidrRange(conn.client_ip, "10.0.0.0/8")`,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := expression.Compile(text, expression.Condition, 0)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if got, err := p.Test(b.Context(), in); !got || err != nil {
					b.Fatal(got, err)
				}
			}
		})
	}
}
