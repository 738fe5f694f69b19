package verify

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// attribute is one part of a name, as a string of a chosen kind.
type attributeOf struct {
	oid   asn1.ObjectIdentifier
	kind  int
	value string
}

func cn(kind int, value string) attributeOf {
	return attributeOf{asn1.ObjectIdentifier{2, 5, 4, 3}, kind, value}
}

func org(kind int, value string) attributeOf {
	return attributeOf{asn1.ObjectIdentifier{2, 5, 4, 10}, kind, value}
}

const (
	utf8Kind, printable, t61, ia5, universal, bmp = 12, 19, 20, 22, 28, 30
)

func rawName(rdns ...[]attributeOf) []byte {
	var sequence []byte
	for _, rdn := range rdns {
		var set []byte
		for _, a := range rdn {
			value := []byte(a.value)
			switch a.kind {
			case bmp:
				value = nil
				for _, u := range utf16.Encode([]rune(a.value)) {
					value = append(value, byte(u>>8), byte(u))
				}
			case universal:
				value = nil
				for _, r := range a.value {
					value = append(value, 0, byte(r>>16), byte(r>>8), byte(r))
				}
			}
			oid, _ := asn1.Marshal(a.oid)
			inner, _ := asn1.Marshal(asn1.RawValue{Tag: a.kind, Bytes: value})
			one, _ := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: append(oid, inner...)})
			set = append(set, one...)
		}
		rdn, _ := asn1.Marshal(asn1.RawValue{Tag: 17, IsCompound: true, Bytes: set})
		sequence = append(sequence, rdn...)
	}
	out, _ := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: sequence})
	return out
}

func one(attributes ...attributeOf) []attributeOf { return attributes }

func TestNamesCompareAsRFC5280Asks(t *testing.T) {
	base := rawName(one(org(printable, "Acme Corp")), one(cn(utf8Kind, "Devices CA")))
	for name, other := range map[string][]byte{
		"the same":            rawName(one(org(printable, "Acme Corp")), one(cn(utf8Kind, "Devices CA"))),
		"other kinds":         rawName(one(org(utf8Kind, "Acme Corp")), one(cn(printable, "Devices CA"))),
		"Teletex":             rawName(one(org(t61, "Acme Corp")), one(cn(t61, "Devices CA"))),
		"two bytes":           rawName(one(org(bmp, "Acme Corp")), one(cn(bmp, "Devices CA"))),
		"four bytes":          rawName(one(org(universal, "Acme Corp")), one(cn(ia5, "Devices CA"))),
		"other case":          rawName(one(org(printable, "ACME corp")), one(cn(utf8Kind, "devices ca"))),
		"more spaces":         rawName(one(org(printable, "  Acme   Corp ")), one(cn(utf8Kind, "Devices  CA"))),
		"all of it":           rawName(one(org(bmp, " ACME   CORP")), one(cn(printable, "DEVICES CA  "))),
		"a space for another": rawName(one(org(utf8Kind, "Acme\tCorp")), one(cn(utf8Kind, "Devices CA"))),
	} {
		if nameKey(other) != nameKey(base) {
			t.Errorf("%s: not the same name", name)
		}
	}
	for name, other := range map[string][]byte{
		"another word":       rawName(one(org(printable, "Acme Corp")), one(cn(utf8Kind, "Devices CB"))),
		"no space":           rawName(one(org(printable, "AcmeCorp")), one(cn(utf8Kind, "Devices CA"))),
		"another order":      rawName(one(cn(utf8Kind, "Devices CA")), one(org(printable, "Acme Corp"))),
		"joined":             rawName(one(org(printable, "Acme Corp"), cn(utf8Kind, "Devices CA"))),
		"another attribute":  rawName(one(cn(printable, "Acme Corp")), one(cn(utf8Kind, "Devices CA"))),
		"shorter":            rawName(one(org(printable, "Acme Corp"))),
		"longer":             rawName(one(org(printable, "Acme Corp")), one(cn(utf8Kind, "Devices CA")), one(cn(utf8Kind, "x"))),
		"no string":          rawName(one(org(4, "Acme Corp")), one(cn(utf8Kind, "Devices CA"))),
		"empty":              rawName(),
		"nothing":            nil,
		"garbage behind":     append(bytes.Clone(base), 0),
		"broken UTF-8":       rawName(one(org(printable, "Acme Corp")), one(cn(utf8Kind, "Devices CA\xff"))),
		"a look-alike":       rawName(one(org(printable, "Acme Corp")), one(cn(utf8Kind, "Devices СA"))),
		"a dot for a length": rawName(one(org(printable, "Acme Corp\x00\x00")), one(cn(utf8Kind, "Devices CA"))),
	} {
		if nameKey(other) == nameKey(base) {
			t.Errorf("%s: taken for the same name", name)
		}
	}
	set := rawName(one(org(printable, "Acme"), cn(printable, "a")))
	if nameKey(set) != nameKey(rawName(one(cn(utf8Kind, "A"), org(utf8Kind, "ACME")))) {
		t.Error("the order within a set made a difference")
	}
	if nameKey(rawName(one(cn(utf8Kind, "Ärzte GmbH")))) != nameKey(rawName(one(cn(bmp, "ÄRZTE gmbh")))) {
		t.Error("letters beyond ASCII made a difference")
	}
}

// A CA that was issued anew with another kind of string still stands above its clients; crypto/x509 says no.
func TestNameChaining(t *testing.T) {
	name := func(kind int, s string) tlstest.Option { return tlstest.RawSubject(rawName(one(cn(kind, s)))) }
	root := tlstest.NewCA(name(printable, "Devices CA"))
	renamed := tlstest.NewCA(name(utf8Kind, "DEVICES  ca"), tlstest.WithKey(root.Key))
	stranger := tlstest.NewCA(name(utf8Kind, "DEVICES  ca"))
	middle := root.Intermediate(name(printable, "Issuing CA"))
	other := root.Intermediate(name(bmp, "issuing ca"), tlstest.WithKey(middle.Key))
	for _, tt := range []struct {
		name      string
		presented []*x509.Certificate
		in        bool
	}{
		{"directly below", renamed.Client("a").Chain(), true},
		{"through an intermediate of either name", []*x509.Certificate{other.Client("a").X509, middle.X509}, true},
		{"and the anchor's name as well", []*x509.Certificate{renamed.Intermediate(name(printable, "Issuing CA"), tlstest.WithKey(middle.Key)).Client("a").X509, renamed.Intermediate(name(utf8Kind, "ISSUING CA"), tlstest.WithKey(middle.Key)).X509}, true},
		{"a stranger of that name", stranger.Client("a").Chain(), false},
		{"expired", renamed.Client("a", tlstest.Expired()).Chain(), false},
		{"for servers", renamed.Server("a.example.com").Chain(), false},
		{"an issuer that is no CA", renamed.Client("p").Client("a").Chain(), false},
	} {
		cfg := &termination.Config{Limits: termination.DefaultLimits(), Authorities: []termination.Authority{{
			Name: "devices", Certificates: []termination.CACertificate{{Certificate: root.X509, Role: termination.RoleAnchor}},
		}}}
		p, err := Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}, Scope{})
		if err != nil {
			t.Fatal(err)
		}
		for _, round := range []string{"cold", "again"} {
			if j := p.Judge(Showing(tt.presented...), time.Now()); j.In != tt.in || j.In && j.Authority != "devices" {
				t.Errorf("%s, %s: in %v for %q: %+v", tt.name, round, j.In, j.Reason, j.Checks)
			}
		}
		between := x509.NewCertPool()
		for _, c := range tt.presented[1:] {
			between.AddCert(c)
		}
		if _, err := tt.presented[0].Verify(x509.VerifyOptions{Roots: root.Pool(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
			t.Errorf("%s: crypto/x509 sees no difference, so that this test shows nothing", tt.name)
		}
	}
}

// subtrees makes a name constraints extension of directory names.
func subtrees(permitted, excluded [][]byte) []byte {
	var all []byte
	for i, list := range [][][]byte{permitted, excluded} {
		var trees []byte
		for _, name := range list {
			base, _ := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: name})
			tree, _ := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: base})
			trees = append(trees, tree...)
		}
		if len(trees) > 0 {
			part, _ := asn1.Marshal(asn1.RawValue{Class: 2, Tag: i, IsCompound: true, Bytes: trees})
			all = append(all, part...)
		}
	}
	out, _ := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: all})
	return out
}

func constrained(permitted, excluded [][]byte, critical bool) tlstest.Option {
	return tlstest.Extension(asn1.ObjectIdentifier{2, 5, 29, 30}, critical, subtrees(permitted, excluded))
}

func TestDirectoryNameConstraints(t *testing.T) {
	acme, other := rawName(one(org(printable, "Acme"))), rawName(one(org(printable, "Other")))
	root := tlstest.NewCA()
	named := func(parts ...[]attributeOf) tlstest.Option { return tlstest.RawSubject(rawName(parts...)) }
	inAcme := named(one(org(utf8Kind, "ACME")), one(cn(utf8Kind, "a")))
	inOther := named(one(org(utf8Kind, "Other")), one(cn(utf8Kind, "a")))
	alternative := func(name []byte) tlstest.Option {
		general, _ := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: name})
		list, _ := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: general})
		return tlstest.Extension(asn1.ObjectIdentifier{2, 5, 29, 17}, false, list)
	}
	for _, critical := range []bool{false, true} {
		only := root.Intermediate(constrained([][]byte{acme}, nil, critical))
		not := root.Intermediate(constrained(nil, [][]byte{acme}, critical))
		both := root.Intermediate(constrained([][]byte{acme, other}, [][]byte{rawName(one(org(printable, "Acme")), one(cn(printable, "root")))}, critical))
		for _, tt := range []struct {
			name   string
			client *tlstest.Cert
			in     bool
		}{
			{"permitted", only.Client("a", inAcme), true},
			{"not permitted", only.Client("a", inOther), false},
			{"the prefix itself", only.Client("a", named(one(org(printable, "acme")))), true},
			{"behind another name", only.Client("a", named(one(cn(utf8Kind, "a")), one(org(utf8Kind, "Acme")))), false},
			{"more in the same set", only.Client("a", named(one(org(utf8Kind, "Acme"), cn(utf8Kind, "a")))), false},
			{"no subject", only.Client("", tlstest.Subject(pkix.Name{}), tlstest.DNS("a.example.com")), true},
			{"an alternative name outside", only.Client("a", inAcme, alternative(other)), false},
			{"an alternative name inside", only.Client("a", inAcme, alternative(acme)), true},
			{"excluded", not.Client("a", inAcme), false},
			{"not excluded", not.Client("a", inOther), true},
			{"an alternative name excluded", not.Client("a", inOther, alternative(acme)), false},
			{"one of two", both.Client("a", inOther), true},
			{"excluded below what is permitted", both.Client("a", named(one(org(printable, "Acme")), one(cn(printable, "ROOT")))), false},
			{"a CA between that is outside", only.Intermediate(inOther).Client("a", inAcme), false},
			{"a CA between that is inside", only.Intermediate(inAcme).Client("b", named(one(org(utf8Kind, "acme")), one(cn(utf8Kind, "b")))), true},
			{"two CAs that permit different things", only.Intermediate(inAcme, constrained([][]byte{other}, nil, critical)).Client("b", inAcme), false},
		} {
			cfg := &termination.Config{Limits: termination.DefaultLimits(), Authorities: []termination.Authority{{
				Name: "devices", Certificates: []termination.CACertificate{{Certificate: root.X509, Role: termination.RoleAnchor}},
			}}}
			for _, level := range []termination.Level{termination.LevelRefuse, termination.LevelWarn} {
				p, err := Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Hygiene: termination.Hygiene{NameConstraints: level}}, Scope{})
				if err != nil {
					t.Fatal(err)
				}
				j := p.Judge(Showing(tt.client.Chain()...), time.Now())
				if want := tt.in || level == termination.LevelWarn; j.In != want || !want && j.Reason != termination.ReasonCertNameLimits {
					t.Errorf("%s, critical %v, %s: in %v for %q: %+v", tt.name, critical, level, j.In, j.Reason, j.Checks)
				}
			}
		}
	}
}

// Kinds of limits that nobody here understands refuse when they are critical, whatever else is understood.
func TestUnknownNameConstraints(t *testing.T) {
	root := tlstest.NewCA()
	registered := []byte{0x30, 0x08, 0xa0, 0x06, 0x30, 0x04, 0x88, 0x02, 0x2a, 0x03} // registeredID 1.2.3
	bounded := []byte{0x30, 0x0b, 0xa0, 0x09, 0x30, 0x07, 0xa4, 0x02, 0x30, 0x00, 0x80, 0x01, 0x01}
	for name, value := range map[string][]byte{"a registered ID": registered, "a minimum": bounded} {
		client := root.Intermediate(tlstest.Extension(asn1.ObjectIdentifier{2, 5, 29, 30}, true, value)).Client("a")
		cfg := &termination.Config{Limits: termination.DefaultLimits(), Authorities: []termination.Authority{{
			Name: "devices", Certificates: []termination.CACertificate{{Certificate: root.X509, Role: termination.RoleAnchor}},
		}}}
		p, err := Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}, Hygiene: termination.Hygiene{NameConstraints: termination.LevelOff}}, Scope{})
		if err != nil {
			t.Fatal(err)
		}
		if j := p.Judge(Showing(client.Chain()...), time.Now()); j.In || j.Reason != termination.ReasonCertExtension {
			t.Errorf("%s: in %v for %q", name, j.In, j.Reason)
		}
	}
}

// An e-mail address in the subject is limited as one among the alternative names is (RFC 5280, section 4.2.1.10).
func TestAddressInTheSubject(t *testing.T) {
	root := tlstest.NewCA()
	limited := root.Intermediate(tlstest.Template(func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}))
	for address, in := range map[string]bool{"a@example.com": true, "a@example.org": false, "nonsense": false} {
		subject := rawName(one(cn(utf8Kind, "a")), one(attributeOf{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, ia5, address}))
		cfg := &termination.Config{Limits: termination.DefaultLimits(), Authorities: []termination.Authority{{
			Name: "devices", Certificates: []termination.CACertificate{{Certificate: root.X509, Role: termination.RoleAnchor}},
		}}}
		p, err := Compile(cfg, termination.ClientAuth{Mode: termination.ModeRequire, Authorities: []string{"devices"}}, Scope{})
		if err != nil {
			t.Fatal(err)
		}
		if j := p.Judge(Showing(limited.Client("a", tlstest.RawSubject(subject)).Chain()...), time.Now()); j.In != in {
			t.Errorf("%s: in %v: %+v", address, j.In, j.Checks)
		}
	}
}

// FuzzNames reads whatever may stand where a name or its limits do.
func FuzzNames(f *testing.F) {
	f.Add(rawName(one(org(printable, "Acme Corp")), one(cn(bmp, "Devices"), cn(universal, "x"), cn(t61, "ä"))))
	f.Add(subtrees([][]byte{rawName(one(org(printable, "Acme")))}, [][]byte{rawName()}))
	f.Add([]byte{0x30, 0x0b, 0xa0, 0x09, 0x30, 0x07, 0xa4, 0x02, 0x30, 0x00, 0x80, 0x01, 0x01})
	f.Add([]byte(strings.Repeat("\x30\x80", 40)))
	f.Fuzz(func(t *testing.T, data []byte) {
		name, ok := parseDN(data)
		if ok && (!name.within(name) || !name.within(nil) || len(name) > 0 && dn(nil).within(name)) {
			t.Fatal("a name does not stand in itself")
		}
		if key := nameKey(data); ok != strings.HasPrefix(key, "dn:") || !ok && key != "raw:"+string(data) {
			t.Fatalf("key %q", key)
		}
		if limits := parseDirectoryLimits(data); ok && limits.violated([]dn{name}) != "" && len(limits.permitted)+len(limits.excluded) == 0 {
			t.Fatal("limits without subtrees were overstepped")
		}
		if names, ok := alternativeDirectoryNames(data); !ok && len(names) > 0 {
			t.Fatal("names of what cannot be read")
		}
	})
}
