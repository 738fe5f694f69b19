package verify_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/expression"
	"countersign/termination/tlstest"
	"countersign/termination/verify"
)

func commonNames(values ...any) []byte {
	var n pkix.RDNSequence
	for _, v := range values {
		n = append(n, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: v}})
	}
	der, err := asn1.Marshal(n)
	if err != nil {
		panic(err)
	}
	return der
}

// rawURIs is a subject alternative name with URIs as they stand here, which crypto/x509 would write otherwise.
func rawURIs(uris ...string) tlstest.Option {
	var names []asn1.RawValue
	for _, u := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		panic(err)
	}
	return tlstest.Extension(asn1.ObjectIdentifier{2, 5, 29, 17}, false, der)
}

// ruled judges a leaf by a policy with these rules, as people type them, and says whether it came in.
func ruled(t *testing.T, ca, leaf *tlstest.Cert, rules string) verify.Judgement {
	t.Helper()
	list, err := termination.ParseRules(rules)
	if err != nil {
		t.Fatal(err)
	}
	p := compile(t, config(authority("devices", ca)), termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Rules: list})
	return p.Judge(verify.Showing(leaf.Chain()...), time.Now())
}

// Each line: a rule, and whether it matches the client. An allow rule that matches lets in; a refuse rule that matches
// keeps out where the next one allows any.
func TestSubjects(t *testing.T) {
	root := tlstest.NewCA(tlstest.Subject(pkix.Name{CommonName: "Devices CA", Organization: []string{"Müller, Söhne"}}))
	full := root.Client("laptop-7",
		tlstest.Org("Acme", "Second"), tlstest.OrgUnit("it"), tlstest.Serial(0x0a1f3a), tlstest.DNS("Api.Devices.example.com", "dot.example.com."),
		tlstest.Email("Ops@Example.com"), tlstest.IP("10.1.2.3", "2001:db8::1"), tlstest.URI("SPIFFE://Prod/batch/Billing"))
	twoNames := root.Leaf(tlstest.RawSubject(commonNames("alice", "admin")))
	nul := root.Leaf(tlstest.RawSubject(commonNames("alice\x00.evil.example", "bob\nadmin")), tlstest.DNS("good.example.com\x00.evil.example"))
	empty := root.Leaf(tlstest.Subject(pkix.Name{}))
	odd := root.Leaf(tlstest.CN("odd"), rawURIs("http://a.example/#", "http://a.example/%7euser", "urn:uuid:1"))
	for _, c := range []struct {
		leaf *tlstest.Cert
		rule string
		want bool
	}{
		{full, `any`, true},
		{full, `cn=laptop-7`, true},
		{full, `cn=Laptop-7`, false},
		{full, `cn=laptop-*`, true},
		{full, `cn=laptop-`, false},
		{full, `cn=*-7`, true},
		{full, `cn=l*p*7`, true},
		{full, `cn=laptop-7*7`, false},
		{full, `o=Acme`, true},
		{full, `o=Second`, true},
		{full, `o=acme`, false},
		{full, `ou=it o=Acme cn=laptop-7`, true},
		{full, `ou=it o=Other`, false},
		{full, `dns=api.devices.EXAMPLE.com`, true},
		{full, `dns=*.devices.example.com`, true},
		{full, `dns=devices.example.com`, false},
		{full, `dns=dot.example.com`, true},
		{full, `email=Ops@example.COM`, true},
		{full, `email=ops@example.com`, false},
		{full, `email=*@example.com`, true},
		{full, `uri=spiffe://prod/batch/Billing`, true},
		{full, `uri=spiffe://prod/batch/billing`, false},
		{full, `uri=spiffe://*/Billing`, true},
		{full, `uri=spiffe://prod/*`, true},
		{full, `uri=*Prod/batch/*`, true},
		{full, `uri=spiffe://prod`, false},
		{full, `ip=10.1.2.3`, true},
		{full, `ip=10.0.0.0/8`, true},
		{full, `ip=::ffff:10.1.2.3`, true},
		{full, `ip=2001:db8::/32`, true},
		{full, `ip=10.1.2.4`, false},
		{full, `serial=a1f3a`, true},
		{full, `serial=0A:1F:3A`, true},
		{full, `serial=1f3a`, false},
		{full, `authority=devices`, true},
		{full, `authority=others`, false},
		{full, `pin=` + full.Fingerprint(), true},
		{full, `pin=spki:` + full.SPKI(), true},
		{full, `pin=` + full.SPKI(), false},
		{full, `issuer="Devices CA"`, true},
		{full, `issuer="CN=Devices CA,O=Müller\\, Söhne"`, true},
		{full, `issuer="CN=Devices CA,O=M\\C3\\BCller\\, S\\C3\\B6hne"`, true},
		{full, `issuer="O=Müller\\, Söhne,CN=Devices CA"`, false},
		{full, `issuer="Devices"`, false},
		{empty, `cn=*`, false},
		{empty, `dns=*`, false},
		{nul, `cn=alice`, false},
		{nul, `cn=admin`, false},
		{nul, `dns=good.example.com`, false},
		{nul, `dns=*.example.com`, false},
		{odd, `uri=http://a.example/#`, true},
		{odd, `uri=http://a.example/`, false},
		{odd, `uri=http://a.example/%7Euser`, false},
		{odd, `uri=http://A.example/%7euser`, true},
		{odd, `uri=urn:uuid:1`, true},
	} {
		if j := ruled(t, root, c.leaf, "allow "+c.rule); j.In != c.want || j.Verified != c.want {
			t.Errorf("allow %s: in is %v, want %v%s", c.rule, j.In, c.want, details(j.Checks))
		}
		if c.rule == "any" {
			continue
		}
		if j := ruled(t, root, c.leaf, "refuse "+c.rule+"\nallow any"); j.In == c.want {
			t.Errorf("refuse %s: in is %v%s", c.rule, j.In, details(j.Checks))
		}
	}
	// Which of several common names means the client is anybody's guess.
	for rule, in := range map[string]bool{
		"allow cn=alice": false, "allow cn=admin": false, "allow cn=a*": true,
		"refuse cn=alice\nallow any": false, "refuse cn=admin\nallow any": false, "refuse cn=bob\nallow any": true,
	} {
		if j := ruled(t, root, twoNames, rule); j.In != in {
			t.Errorf("two common names, %q: in is %v", rule, j.In)
		}
	}
}

func TestFirstRuleThatMatchesDecides(t *testing.T) {
	root := tlstest.NewCA()
	leaf := root.Client("laptop", tlstest.Org("Acme"))
	for _, c := range []struct {
		shared, own string
		in          bool
		by          string
	}{
		{"", "", true, ""},
		{"", "allow cn=laptop", true, `{allow: {cn: "laptop"}}`},
		{"", "allow cn=other", false, ""},
		{"", "refuse cn=other", false, ""},
		{"", "refuse o=Acme\nallow cn=laptop", false, `{refuse: {o: "Acme"}}`},
		{"", "allow cn=laptop\nrefuse o=Acme", true, `{allow: {cn: "laptop"}}`},
		{"refuse cn=laptop", "", false, `{refuse: {cn: "laptop"}}`},
		{"refuse cn=laptop", "allow any", false, `{refuse: {cn: "laptop"}}`},
		{"refuse cn=other", "", true, ""},
		{"refuse cn=other", "allow cn=third", false, ""},
		{"allow cn=laptop", "refuse any", true, `{allow: {cn: "laptop"}}`},
	} {
		cfg := config(authority("devices", root))
		auth := termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Inherit: true}
		var err error
		if cfg.Defaults.Rules, err = termination.ParseRules(c.shared); err != nil {
			t.Fatal(err)
		}
		if auth.Rules, err = termination.ParseRules(c.own); err != nil {
			t.Fatal(err)
		}
		j := compile(t, cfg, auth).Judge(verify.Showing(leaf.Chain()...), time.Now())
		if j.In != c.in || j.Rule != c.by || !j.In && j.Reason != termination.ReasonPolicyDenied {
			t.Errorf("%q, %q: in is %v by %s, %s%s", c.shared, c.own, j.In, j.Rule, j.Reason, details(j.Checks))
		}
		if auth.Inherit = false; c.shared == "" {
			continue
		}
		if j := compile(t, cfg, auth).Judge(verify.Showing(leaf.Chain()...), time.Now()); strings.Contains(c.shared, j.Rule) && j.Rule != "" {
			t.Errorf("%q decided although it is not inherited", c.shared)
		}
	}
}

// An effect that nobody knows, as from a newer gateway, lets nobody in.
func TestUnknownEffectRefuses(t *testing.T) {
	root := tlstest.NewCA()
	p := compile(t, config(authority("devices", root)), termination.ClientAuth{
		Mode: termination.ModeRequire, Authorities: []string{"devices"}, Rules: []termination.Rule{{Effect: "welcome"}},
	})
	if j := p.Judge(verify.Showing(root.Client("x").Chain()...), time.Now()); j.In {
		t.Error("let in")
	}
}

// The same CA stands in two authorities: a rule that speaks of either means its clients.
func TestRulesKnowEveryAuthorityOfAnAnchor(t *testing.T) {
	root := tlstest.NewCA()
	leaf := root.Client("laptop")
	cfg := config(authority("devices", root), authority("partners", root))
	for _, name := range []string{"devices", "partners"} {
		p := compile(t, cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices", "partners"}, Rules: []termination.Rule{
			{Effect: termination.EffectRefuse, Subject: termination.Subject{CN: "laptop", Authority: name}}, {Effect: termination.EffectAllow},
		}})
		if j := p.Judge(verify.Showing(leaf.Chain()...), time.Now()); j.In {
			t.Errorf("the rule of %s was passed by", name)
		}
	}
}

// P41: a partner's CA mints our names. A rule that says under which authority is not met by them.
func TestRulesCountUnderTheirAuthority(t *testing.T) {
	ours, partners := tlstest.NewCA(), tlstest.NewCA()
	p := compile(t, config(authority("devices", ours), authority("partners", partners)), termination.ClientAuth{
		Mode: termination.ModeRequire, Authorities: []string{"devices", "partners"},
		Rules: []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{CN: "laptop", Authority: "devices"}}},
		When:  `client.authority == "devices" && client.subject.common_name == "laptop"`,
	})
	if j := p.Judge(verify.Showing(ours.Client("laptop").Chain()...), time.Now()); !j.In {
		t.Errorf("ours is out%s", details(j.Checks))
	}
	if j := p.Judge(verify.Showing(partners.Client("laptop").Chain()...), time.Now()); j.In {
		t.Error("theirs is in")
	}
}

func TestRegisteredIdentityNeedsNoRule(t *testing.T) {
	root, own := tlstest.NewCA(), tlstest.SelfSigned(tlstest.CN("meter"))
	pin, err := termination.ParsePin(own.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(authority("devices", root))
	cfg.Identities = []termination.Identity{{Name: "meter", Pins: []termination.Pin{pin}, Endpoints: []string{"api"}}}
	for rules, in := range map[string]bool{
		"":                                   true,
		"allow cn=other":                     true,
		"refuse identity=meter\nallow any":   false,
		"refuse cn=meter\nallow any":         false,
		"allow identity=meter":               true,
		"refuse pin=" + own.Fingerprint():    false,
		"refuse identity=other\nallow cn=no": true,
	} {
		list, err := termination.ParseRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		p, err := verify.Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Rules: list}, verify.Scope{Endpoint: "api"})
		if err != nil {
			t.Fatal(err)
		}
		if j := p.Judge(verify.Showing(own.X509), time.Now()); j.In != in {
			t.Errorf("%q: in is %v%s", rules, j.In, details(j.Checks))
		}
	}
}

func TestExpressionDecides(t *testing.T) {
	root := tlstest.NewCA()
	leaf := root.Client("laptop", tlstest.DNS("a.devices.example.com"))
	noon := time.Now()
	showing := verify.Client{
		Presented: leaf.Chain(), ServerName: "API.example.com", Version: tls.VersionTLS13, Peer: netip.MustParseAddrPort("10.1.2.3:999"),
	}
	for _, c := range []struct {
		when      string
		client    verify.Client
		in        bool
		undecided bool
		reason    termination.Reason
	}{
		{`client.san.dns_names.exists(n, n.endsWith(".devices.example.com"))`, showing, true, false, ""},
		{`client.san.dns_names.exists(n, n.endsWith(".devices.example.org"))`, showing, false, false, termination.ReasonPolicyDenied},
		{`conn.tls.sni == "api.example.com" && conn.tls.version == "1.3"`, showing, true, false, ""},
		{`inCidrRange(conn.client_ip, "10.0.0.0/8")`, showing, true, false, ""},
		{`inCidrRange(conn.client_ip, "192.168.0.0/16")`, showing, false, false, termination.ReasonPolicyDenied},
		{`inCidrRange(conn.client_ip, "10.0.0.0/8")`, verify.Showing(leaf.Chain()...), false, false, termination.ReasonExpressionError},
		{`client.subject.organization[9] == "x"`, showing, false, false, termination.ReasonExpressionError},
		{`client.authority == "devices" && client.identity == ""`, showing, true, false, ""},
		{`now < timestamp("2020-01-01T00:00:00Z")`, showing, false, false, termination.ReasonPolicyDenied},
		{`req.method == "GET"`, showing, true, true, ""},
	} {
		for _, mode := range []termination.Mode{termination.ModeRequire, termination.ModeOptional, termination.ModeRequest, termination.ModeRequireAny} {
			p := compile(t, config(authority("devices", root)), termination.ClientAuth{Mode: mode, Authorities: []string{"devices"}, When: c.when})
			j := p.Judge(c.client, noon)
			if j.In != (c.in || !mode.Verifies()) || j.Verified != c.in || j.Undecided != c.undecided || j.Reason != c.reason {
				t.Errorf("%s, %s: %+v", mode, c.when, j)
			}
		}
		p := compile(t, config(authority("devices", root)), termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, When: c.when, ReportOnly: true})
		if j := p.Judge(c.client, noon); !j.In || j.WouldRefuse == c.in || !j.ReportOnly {
			t.Errorf("report only, %s: %+v", c.when, j)
		}
	}
	// A certificate that failed is not asked about, and who comes without one is for the mode to judge.
	p := compile(t, config(authority("devices", root)), termination.ClientAuth{Mode: termination.ModeOptional, Authorities: []string{"devices"}, When: "client.pem == \"\""})
	if j := p.Judge(verify.Showing(tlstest.SelfSigned().X509), noon); j.In || j.Reason == termination.ReasonPolicyDenied {
		t.Errorf("a stranger: %+v", j)
	}
	if j := p.Judge(verify.Showing(), noon); !j.In || j.Verified {
		t.Errorf("without a certificate: %+v", j)
	}
}

func TestExpressionIsDecidedForEachRequest(t *testing.T) {
	root := tlstest.NewCA()
	leaf := root.Client("laptop")
	client := verify.Showing(leaf.Chain()...)
	const when = `req.method == "GET" && req.path.startsWith("/v1/") && client.subject.common_name == "laptop"`
	for _, c := range []struct {
		mode     termination.Mode
		report   bool
		path     string
		in       bool
		verified bool
	}{
		{termination.ModeRequire, false, "/v1/x", true, true},
		{termination.ModeRequire, false, "/v2/x", false, false},
		{termination.ModeRequest, false, "/v2/x", true, false},
		{termination.ModeRequire, true, "/v2/x", true, false},
	} {
		p := compile(t, config(authority("devices", root)), termination.ClientAuth{Mode: c.mode, Authorities: []string{"devices"}, When: when, ReportOnly: c.report})
		j := p.Judge(client, time.Now())
		if !j.In || !j.Undecided || !p.NeedsRequest() {
			t.Fatalf("before the request: %+v", j)
		}
		notes := len(j.Checks)
		after := p.JudgeRequest(j, client, expression.Request{Method: "GET", Path: c.path}, time.Now())
		if after.In != c.in || after.Verified != c.verified || after.Undecided || after.WouldRefuse != c.report {
			t.Errorf("%s %s: %+v", c.mode, c.path, after)
		}
		if len(j.Checks) != notes || !j.Verified || !j.Undecided {
			t.Error("the judgement of the connection was changed")
		}
	}
}

// What the policy says of rules and expressions is in its hash, and so is who holds an anchor where a rule may ask.
func TestHashCoversRulesAndExpressions(t *testing.T) {
	a, b := tlstest.NewCA(), tlstest.NewCA()
	base := func() (*termination.Config, termination.ClientAuth) {
		return config(authority("devices", a), authority("partners", b)), termination.ClientAuth{
			Mode: termination.ModeRequire, Authorities: []string{"devices", "partners"}, Inherit: true, When: `client.authority == "devices"`,
			Rules: []termination.Rule{{Effect: termination.EffectAllow, Subject: termination.Subject{CN: "x", Authority: "devices"}}},
		}
	}
	cfg, auth := base()
	want := compile(t, cfg, auth).Hash()
	for name, change := range map[string]func(*termination.Config, *termination.ClientAuth){
		"a rule":        func(_ *termination.Config, p *termination.ClientAuth) { p.Rules[0].Subject.CN = "y" },
		"an effect":     func(_ *termination.Config, p *termination.ClientAuth) { p.Rules[0].Effect = termination.EffectRefuse },
		"no rule":       func(_ *termination.Config, p *termination.ClientAuth) { p.Rules = nil },
		"an expression": func(_ *termination.Config, p *termination.ClientAuth) { p.When = "true" },
		"no expression": func(_ *termination.Config, p *termination.ClientAuth) { p.When = "" },
		"its cost":      func(c *termination.Config, _ *termination.ClientAuth) { c.Limits.ExpressionCost = 77_777 },
		"a shared rule": func(c *termination.Config, _ *termination.ClientAuth) { c.Defaults.Rules = auth.Rules },
		"swapped owners": func(c *termination.Config, _ *termination.ClientAuth) {
			c.Authorities[0].Certificates, c.Authorities[1].Certificates = c.Authorities[1].Certificates, c.Authorities[0].Certificates
		},
	} {
		cfg, auth := base()
		change(cfg, &auth)
		if compile(t, cfg, auth).Hash() == want {
			t.Errorf("%s changes nothing", name)
		}
	}
	if cfg, auth := base(); compile(t, cfg, auth).Hash() != want {
		t.Error("the hash is not stable")
	}
}

func BenchmarkRules(b *testing.B) {
	root := tlstest.NewCA()
	leaf := root.Client("laptop", tlstest.DNS("a.devices.example.com", "b.example.com"), tlstest.URI("spiffe://prod/billing"))
	presented := []*x509.Certificate{leaf.X509}
	list := func(n int, rule func(int) termination.Subject) []termination.Rule {
		var out []termination.Rule
		for i := range n {
			out = append(out, termination.Rule{Effect: termination.EffectRefuse, Subject: rule(i)})
		}
		return append(out, termination.Rule{Effect: termination.EffectAllow})
	}
	for _, c := range []struct {
		name string
		auth termination.ClientAuth
	}{
		{"none", termination.ClientAuth{}},
		{"100 common names", termination.ClientAuth{Rules: list(100, func(i int) termination.Subject { return termination.Subject{CN: fmt.Sprintf("x%d-*", i)} })}},
		{"100 DNS patterns", termination.ClientAuth{Rules: list(100, func(i int) termination.Subject { return termination.Subject{DNS: fmt.Sprintf("*.x%d.example.com", i)} })}},
		{"100 URIs", termination.ClientAuth{Rules: list(100, func(i int) termination.Subject { return termination.Subject{URI: fmt.Sprintf("spiffe://test/x%d", i)} })}},
		{"100 pins", termination.ClientAuth{Rules: list(100, func(i int) termination.Subject {
			return termination.Subject{Pin: &termination.Pin{Fingerprint: termination.Fingerprint{byte(i)}}}
		})}},
		{"expression", termination.ClientAuth{When: `client.san.dns_names.exists(n, n.endsWith(".devices.example.com"))`}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.auth.Mode, c.auth.Authorities = termination.ModeRequire, []string{"devices"}
			p, err := verify.Compile(config(authority("devices", root)), c.auth, verify.Scope{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if j := p.Judge(verify.Showing(presented...), time.Now()); !j.In {
					b.Fatal(j.Reason)
				}
			}
		})
	}
}
