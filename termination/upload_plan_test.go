package termination_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// isrgRootX2 is a public certificate: a root of Let's Encrypt that browsers trust.
const isrgRootX2 = `-----BEGIN CERTIFICATE-----
MIICGzCCAaGgAwIBAgIQQdKd0XLq7qeAwSxs6S+HUjAKBggqhkjOPQQDAzBPMQsw
CQYDVQQGEwJVUzEpMCcGA1UEChMgSW50ZXJuZXQgU2VjdXJpdHkgUmVzZWFyY2gg
R3JvdXAxFTATBgNVBAMTDElTUkcgUm9vdCBYMjAeFw0yMDA5MDQwMDAwMDBaFw00
MDA5MTcxNjAwMDBaME8xCzAJBgNVBAYTAlVTMSkwJwYDVQQKEyBJbnRlcm5ldCBT
ZWN1cml0eSBSZXNlYXJjaCBHcm91cDEVMBMGA1UEAxMMSVNSRyBSb290IFgyMHYw
EAYHKoZIzj0CAQYFK4EEACIDYgAEzZvVn4CDCuwJSvMWSj5cz3es3mcFDR0HttwW
+1qLFNvicWDEukWVEYmO6gbf9yoWHKS5xcUy4APgHoIYOIvXRdgKam7mAHf7AlF9
ItgKbppbd9/w+kHsOdx1ymgHDB/qo0IwQDAOBgNVHQ8BAf8EBAMCAQYwDwYDVR0T
AQH/BAUwAwEB/zAdBgNVHQ4EFgQUfEKWrt5LSDv6kviejM9ti6lyN5UwCgYIKoZI
zj0EAwMDaAAwZQIwe3lORlCEwkSHRhtFcP9Ymd70/aTSVaYgLXTWNLxBo1BfASdW
tL4ndQavEi51mI38AjEAi/V3bNTIZargCyzuFJ0nN6T5U6VR5CmD1/iQMVtCnwr1
/q4AaOeMSQ+2b1tbFfLn
-----END CERTIFICATE-----
`

func read(t testing.TB, data []byte) termination.Upload {
	t.Helper()
	u, err := termination.ReadUpload(bytes.Clone(data))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func uses(p *termination.AuthorityPlan) string {
	var out []string
	for _, i := range p.Items {
		out = append(out, string(i.Use))
	}
	return strings.Join(out, " ")
}

func has(i termination.PlannedItem, code termination.WarningCode) *termination.UploadWarning {
	for _, w := range i.Warnings {
		if w.Code == code {
			return &w
		}
	}
	return nil
}

// onlyServers leaves clients no room in the extended key usage.
func onlyServers() tlstest.Option { return tlstest.EKU(x509.ExtKeyUsageServerAuth) }

func TestPlanAuthority(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root R2"))
	inter := root.Intermediate(tlstest.CN("Acme Issuing CA 5"))
	leaf := inter.Server("www.acme.example")
	stray := tlstest.NewCA(tlstest.CN("Elsewhere")).Intermediate(tlstest.CN("Stray"))
	selfClient := tlstest.SelfSigned(tlstest.CN("billing"), tlstest.CATrue())   // clientAuth and serverAuth, no key usage
	openSSLDefault := tlstest.NewCA(tlstest.CN("Home CA"), tlstest.KeyUsage(0)) // as "openssl req -x509" makes it
	noSign := tlstest.NewCA(tlstest.CN("No sign"), tlstest.KeyUsage(x509.KeyUsageDigitalSignature))
	interNoSign := root.Intermediate(tlstest.KeyUsage(x509.KeyUsageDigitalSignature))
	later := tlstest.NewCA(tlstest.NotYetValid())
	now := time.Now()

	for _, c := range []struct {
		name    string
		data    []byte
		options termination.PlanOptions
		uses    string
		labels  string // of the first item
		says    string // in the first item's message
		warns   string // codes of the first item's warnings
		err     string // part of Err; empty: nil
	}{
		{name: "a bundle", data: join(root.PEM(), inter.PEM(), leaf.PEM(), leaf.KeyPEM()), uses: "anchor helper skip refuse", labels: "root, will be added", says: "Signs itself. Good until"},
		{name: "all are anchors", data: join(inter.PEM(), root.PEM()), options: termination.PlanOptions{Anchors: termination.AnchorsAll}, uses: "anchor anchor", labels: "anchor, will be added", says: "Signed by Acme Root R2, below."},
		{name: "an intermediate alone", data: inter.PEM(), uses: "helper", labels: "helper for chains", says: "Signed by Acme Root R2.", warns: "issuer_missing", err: "no root in it"},
		{name: "an intermediate alone, anchors all", data: inter.PEM(), options: termination.PlanOptions{Anchors: termination.AnchorsAll}, uses: "anchor", says: "Chains may stop here", warns: "issuer_missing"},
		{name: "a strange intermediate beside a root", data: join(stray.PEM(), root.PEM()), uses: "helper anchor", warns: "issuer_missing", says: "Signed by Elsewhere."},
		{name: "an impostor of its root beside it", data: join(inter.PEM(), root.Impostor().PEM()), uses: "helper anchor", warns: "issuer_missing", says: "Signed by Acme Root R2. Kept"},
		{name: "a leaf alone", data: leaf.PEM(), uses: "skip", labels: "skipped", says: "upload the certificate of Acme Issuing CA 5", err: "not a CA"},
		{name: "a key alone", data: leaf.KeyPEM(), uses: "refuse", labels: "not read, not kept", says: "not kept", err: "never needs its key"},
		{name: "version 1", data: root.Client("a", tlstest.V1()).PEM(), uses: "refuse", labels: "refused", says: "Refused as a CA", err: "version 1"},
		{name: "text", data: []byte("hello"), uses: "skip", labels: "skipped", err: "BEGIN CERTIFICATE"},
		{name: "expired", data: tlstest.NewCA(tlstest.Expired()).PEM(), uses: "refuse", labels: "refused", says: "it ended on " + now.Add(-time.Hour).UTC().Format("2 Jan 2006"), err: "ended on"},
		{name: "expired, declared", data: tlstest.NewCA(tlstest.Expired()).PEM(), options: termination.PlanOptions{Declared: true}, uses: "refuse", err: "ended on"},
		{name: "expired, in a file that was fine once", data: tlstest.NewCA(tlstest.Expired()).PEM(), options: termination.PlanOptions{Declared: true, KeepExpired: true}, uses: "anchor", warns: "expired"},
		{name: "a leaf that signed itself", data: tlstest.SelfSigned().PEM(), uses: "skip", says: "pin it", err: "there is no CA to trust"},
		{name: "a server alone", data: inter.Server("a.example.com").PEM(), uses: "skip", says: "To let in the clients of its CA", err: "not a CA"},
		{name: "not yet valid", data: later.PEM(), uses: "anchor", warns: "early"},
		{name: "ends soon", data: tlstest.NewCA(tlstest.Valid(now.AddDate(-1, 0, 0), now.AddDate(0, 0, 12).Add(time.Hour))).PEM(), uses: "anchor", warns: "ends_soon"},
		{name: "short-lived", data: tlstest.NewCA(tlstest.Valid(now.Add(-time.Hour), now.AddDate(0, 0, 12))).PEM(), uses: "anchor"},
		{name: "listed twice", data: join(root.PEM(), root.PEM()), uses: "anchor skip"},
		{name: "only servers", data: tlstest.NewCA(onlyServers()).PEM(), uses: "anchor", warns: "no_clients"},
		{name: "constrained", data: tlstest.NewCA(tlstest.PermitDNS("localhost")).PEM(), uses: "anchor", warns: "constrained"},
		{name: "a client that says CA", data: selfClient.PEM(), uses: "ask", labels: "issuer or pin?", says: "Issuer or pin?", warns: "may_be_client", err: "choose whether"},
		{name: "a client that says CA, declared", data: selfClient.PEM(), options: termination.PlanOptions{Declared: true}, uses: "anchor", warns: "may_be_client"},
		{name: "as openssl req -x509 makes it", data: openSSLDefault.PEM(), uses: "ask", warns: "may_be_client", err: "choose whether"},
		{name: "may not sign", data: noSign.PEM(), uses: "ask", says: "no chain can end at it", err: "choose whether"},
		{name: "may not sign, declared", data: noSign.PEM(), options: termination.PlanOptions{Declared: true}, uses: "refuse", says: "Refused as an issuer", err: "keyCertSign"},
		{name: "an intermediate that may not sign", data: interNoSign.PEM(), uses: "refuse", err: "keyCertSign"},
		{name: "a public CA", data: []byte(isrgRootX2), uses: "anchor", warns: "public_ca"},
	} {
		c.options.Now = now
		p := termination.PlanAuthority(read(t, c.data), c.options)
		if got := uses(p); got != c.uses {
			t.Errorf("%s: uses %q, want %q", c.name, got, c.uses)
			continue
		}
		first := p.Items[0]
		if c.labels != "" && first.Label != c.labels {
			t.Errorf("%s: label %q, want %q", c.name, first.Label, c.labels)
		}
		if !strings.Contains(first.Message, c.says) {
			t.Errorf("%s: message %q does not say %q", c.name, first.Message, c.says)
		}
		if got := codes(first.Warnings); got != c.warns {
			t.Errorf("%s: warnings %q, want %q", c.name, got, c.warns)
		}
		switch err := p.Err(); {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v does not say %q", c.name, err, c.err)
		}
		for _, i := range p.Items {
			if i.Label == "" || i.Message == "" {
				t.Errorf("%s: an item without words: %+v", c.name, i)
			}
		}
	}
}

func TestPlanResult(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root R2"))
	inter := root.Intermediate(tlstest.CN("Acme Issuing CA 5"))
	leaf := inter.Server("www.acme.example")
	u := read(t, join(root.PEM(), inter.PEM(), leaf.PEM(), leaf.KeyPEM()))
	p := termination.PlanAuthority(u, termination.PlanOptions{Now: time.Now()})
	if got := p.Headline(); got != "Four things in it. Two can be trusted." {
		t.Errorf("headline %q", got)
	}
	if m := p.Items[1].Message; !strings.HasPrefix(m, "Signed by Acme Root R2, above. Kept so that clients which forget to send it still work") {
		t.Errorf("helper: %q", m)
	}
	if m := p.Items[2].Message; !strings.Contains(m, "You probably copied a full chain. Nothing to do.") {
		t.Errorf("leaf: %q", m)
	}
	certs := p.Certificates()
	if len(certs) != 2 || !certs[0].Certificate.Equal(root.X509) || certs[0].Role != termination.RoleAnchor || certs[1].Role != termination.RoleHelper {
		t.Errorf("certificates %+v", certs)
	}
	// The result must be what Validate accepts as an authority.
	config := &termination.Config{Authorities: []termination.Authority{{Name: "acme", Certificates: certs}}}
	if err := config.Validate(); err != nil {
		t.Errorf("the authority is refused: %v", err)
	}
	// Planning must not write into the upload.
	again := termination.PlanAuthority(u, termination.PlanOptions{Now: time.Now()})
	if len(again.Items[1].Warnings) != len(p.Items[1].Warnings) {
		t.Error("a second plan has other warnings")
	}
	for data, want := range map[string]string{
		string(root.PEM()): "One thing in it. It can be trusted.",
		string(leaf.PEM()): "One thing in it. Nothing to trust.",
		string(tlstest.NewCA(tlstest.KeyUsage(0)).PEM()): "One thing in it. You have to choose.",
		string(join(leaf.PEM(), root.PEM())):             "Two things in it. One can be trusted.",
	} {
		if got := termination.PlanAuthority(read(t, []byte(data)), termination.PlanOptions{Now: time.Now()}).Headline(); got != want {
			t.Errorf("headline %q, want %q", got, want)
		}
	}
}

func TestPlanChoices(t *testing.T) {
	root := tlstest.NewCA()
	inter := root.Intermediate()
	leaf := inter.Client("alice")
	selfClient := tlstest.SelfSigned(tlstest.CN("billing"), tlstest.CATrue())
	noSign := tlstest.NewCA(tlstest.KeyUsage(x509.KeyUsageDigitalSignature))
	for _, c := range []struct {
		name   string
		cert   *tlstest.Cert
		choice termination.UploadUse
		use    termination.UploadUse
		err    bool
	}{
		{"intermediate as an anchor", inter, termination.UseAnchor, termination.UseAnchor, false},
		{"intermediate left out", inter, termination.UseSkip, termination.UseSkip, true}, // then nothing is left
		{"intermediate as a pin", inter, termination.UsePin, termination.UseRefuse, true},
		{"root as a helper", root, termination.UseHelper, termination.UseRefuse, true},
		{"leaf as a pin", leaf, termination.UsePin, termination.UsePin, false},
		{"leaf as an anchor", leaf, termination.UseAnchor, termination.UseRefuse, true},
		{"leaf as a helper", leaf, termination.UseHelper, termination.UseRefuse, true},
		{"client that says CA as an issuer", selfClient, termination.UseAnchor, termination.UseAnchor, false},
		{"client that says CA as a pin", selfClient, termination.UsePin, termination.UsePin, false},
		{"one that may not sign as an issuer", noSign, termination.UseAnchor, termination.UseRefuse, true},
		{"one that may not sign as a pin", noSign, termination.UsePin, termination.UsePin, false},
		{"expired as an anchor", tlstest.NewCA(tlstest.Expired()), termination.UseAnchor, termination.UseRefuse, true},
		{"version 1 as an anchor", root.Client("a", tlstest.V1()), termination.UseAnchor, termination.UseRefuse, true},
		{"version 1 as a pin", root.Client("a", tlstest.V1()), termination.UsePin, termination.UsePin, false},
		{"nonsense", root, "everything", termination.UseRefuse, true},
	} {
		p := termination.PlanAuthority(read(t, c.cert.PEM()), termination.PlanOptions{
			Now:     time.Now(),
			Choices: map[termination.Fingerprint]termination.UploadUse{termination.FingerprintOf(c.cert.X509): c.choice},
		})
		if p.Items[0].Use != c.use || (p.Err() != nil) != c.err {
			t.Errorf("%s: used as %q (%v), want %q", c.name, p.Items[0].Use, p.Err(), c.use)
		}
		words := map[termination.UploadUse]string{termination.UsePin: "Exactly this certificate", termination.UseSkip: "Left out", termination.UseAnchor: "Signs itself|Chains may stop here"}[c.use]
		if m := p.Items[0].Message; words != "" && !slices.ContainsFunc(strings.Split(words, "|"), func(w string) bool { return strings.Contains(m, w) }) {
			t.Errorf("%s: the message does not follow the choice: %s", c.name, m)
		}
		if (c.use == termination.UsePin) != (len(p.Pins()) == 1) || (c.use == termination.UseAnchor) != (len(p.Certificates()) == 1) {
			t.Errorf("%s: %d pins, %d certificates", c.name, len(p.Pins()), len(p.Certificates()))
		}
	}
	// The suggestion comes first.
	for name, c := range map[string]struct {
		cert *tlstest.Cert
		want termination.UploadUse
	}{
		"made for clients": {selfClient, termination.UsePin},
		"with a name":      {tlstest.NewCA(tlstest.KeyUsage(0), tlstest.DNS("billing.example.com")), termination.UsePin},
		"bare":             {tlstest.NewCA(tlstest.KeyUsage(0)), termination.UseAnchor},
	} {
		p := termination.PlanAuthority(read(t, c.cert.PEM()), termination.PlanOptions{Now: time.Now()})
		if got := p.Items[0].Choices[0]; got != c.want {
			t.Errorf("%s: suggests %q, want %q", name, got, c.want)
		}
	}
}

func TestPlanAgainstKnown(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root"))
	renewed := tlstest.SelfSigned(tlstest.RawSubject(root.X509.RawSubject), tlstest.SubjectKeyID(root.X509.SubjectKeyId), tlstest.WithKey(root.Key),
		tlstest.Template(func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
			c.NotAfter = time.Now().AddDate(20, 0, 0)
		}))
	older := tlstest.SelfSigned(tlstest.RawSubject(root.X509.RawSubject), tlstest.SubjectKeyID(root.X509.SubjectKeyId), tlstest.WithKey(root.Key),
		tlstest.Template(func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
			c.NotAfter = time.Now().AddDate(1, 0, 0)
		}))
	impostor := root.Impostor()
	renamed := tlstest.NewCA(tlstest.CN("Acme under another name"), tlstest.WithKey(root.Key))
	cross := tlstest.NewCA(tlstest.CN("Old Root")).Reissue(root)
	child := root.Intermediate()
	stranger := tlstest.NewCA(tlstest.CN("Acme Root II"))
	uploaded := time.Date(2026, 9, 3, 12, 0, 0, 0, time.UTC)
	known := []termination.KnownCertificate{
		{Authority: "partners", Certificate: tlstest.NewCA().X509, Role: termination.RoleAnchor},
		{Authority: "devices", Certificate: root.X509, Role: termination.RoleAnchor, Since: uploaded},
	}
	for _, c := range []struct {
		name     string
		cert     *tlstest.Cert
		options  termination.PlanOptions
		use      termination.UploadUse
		label    string
		code     termination.WarningCode
		strong   bool
		says     string // in message or warning
		known    bool
		replaces bool
	}{
		{name: "the same", cert: root, use: termination.UseSkip, label: "already trusted", says: `Already trusted, in "devices", uploaded 3 Sep 2026.`, known: true},
		{name: "the same, into the same", cert: root, options: termination.PlanOptions{Into: "devices"}, use: termination.UseSkip, label: "already trusted", known: true},
		{name: "the same, into another", cert: root, options: termination.PlanOptions{Into: "partners"}, use: termination.UseAnchor, code: termination.WarnSameKey, says: "may stand in both", known: true},
		{name: "the same, declared", cert: root, options: termination.PlanOptions{Declared: true}, use: termination.UseAnchor, code: termination.WarnSameKey, known: true},
		{name: "renewed", cert: renewed, use: termination.UseAnchor, code: termination.WarnRenewal, says: "Renewal of Acme Root in \"devices\"", known: true, replaces: true},
		{name: "older", cert: older, use: termination.UseSkip, label: "already trusted", says: "An older issue", known: true},
		{name: "older, declared", cert: older, options: termination.PlanOptions{Declared: true}, use: termination.UseAnchor, known: true},
		{name: "same name, other key", cert: impostor, use: termination.UseAnchor, code: termination.WarnSameName, strong: true, says: "or this is an impostor", known: true},
		{name: "same key, other name", cert: renamed, use: termination.UseAnchor, code: termination.WarnSameKey, strong: true, says: "two names for one CA", known: true},
		{name: "cross-signed", cert: cross, use: termination.UseHelper, code: termination.WarnSameKey, says: "signed by Old Root", known: true},
		{name: "signed by a known one", cert: child, use: termination.UseHelper, says: `Signed by Acme Root, which is trusted in "devices".`},
		{name: "unrelated", cert: stranger, use: termination.UseAnchor},
	} {
		c.options.Now = time.Now()
		c.options.Known = known
		p := termination.PlanAuthority(read(t, c.cert.PEM()), c.options)
		i := p.Items[0]
		if i.Use != c.use || (c.label != "" && i.Label != c.label) || (i.Known != nil) != c.known || i.Replaces != c.replaces {
			t.Errorf("%s: used as %q, label %q, known %v, replaces %v", c.name, i.Use, i.Label, i.Known != nil, i.Replaces)
		}
		text := i.Message
		if c.code != "" {
			w := has(i, c.code)
			if w == nil || w.Strong != c.strong {
				t.Errorf("%s: warnings %+v", c.name, i.Warnings)
				continue
			}
			text += w.Text
		}
		if !strings.Contains(text, c.says) {
			t.Errorf("%s: %q does not say %q", c.name, text, c.says)
		}
	}
	// Among several issues of one CA, the newest is compared with; among several authorities, the one that is added to.
	both := append([]termination.KnownCertificate{{Authority: "new", Certificate: renewed.X509}}, known...)
	both = append(both, termination.KnownCertificate{Authority: "old", Certificate: older.X509})
	middle := tlstest.SelfSigned(tlstest.RawSubject(root.X509.RawSubject), tlstest.SubjectKeyID(root.X509.SubjectKeyId), tlstest.WithKey(root.Key),
		tlstest.Template(func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
			c.NotAfter = time.Now().AddDate(15, 0, 0)
		}))
	for range 2 {
		i := termination.PlanAuthority(read(t, middle.PEM()), termination.PlanOptions{Now: time.Now(), Known: both}).Items[0]
		if i.Use != termination.UseSkip || i.Known.Authority != "new" {
			t.Errorf("between an older and a newer issue: %s, compared with %q", i.Use, i.Known.Authority)
		}
		slices.Reverse(both)
	}
	twice := append(slices.Clone(known), termination.KnownCertificate{Authority: "more", Certificate: root.X509})
	for _, into := range []string{"devices", "more"} {
		i := termination.PlanAuthority(read(t, root.PEM()), termination.PlanOptions{Now: time.Now(), Known: twice, Into: into}).Items[0]
		if i.Use != termination.UseSkip || i.Known.Authority != into {
			t.Errorf("into %q, which holds it: %s, compared with %q", into, i.Use, i.Known.Authority)
		}
	}
	// Fingerprints of both keys stand side by side.
	p := termination.PlanAuthority(read(t, impostor.PEM()), termination.PlanOptions{Now: time.Now(), Known: known})
	w := has(p.Items[0], termination.WarnSameName)
	for _, c := range []*x509.Certificate{root.X509, impostor.X509} {
		if !strings.Contains(w.Text, termination.KeyFingerprintOf(c).Short()) {
			t.Errorf("a key's fingerprint is missing: %s", w.Text)
		}
	}
	// A known certificate can still be added on purpose.
	p = termination.PlanAuthority(read(t, root.PEM()), termination.PlanOptions{Now: time.Now(), Known: known, Choices: map[termination.Fingerprint]termination.UploadUse{termination.FingerprintOf(root.X509): termination.UseAnchor}})
	if uses(p) != "anchor" || p.Items[0].Label != "root, will be added" || strings.Contains(p.Items[0].Message, "Nothing to do") || p.Err() != nil {
		t.Errorf("added on purpose: %s, %q, %v", uses(p), p.Items[0].Label, p.Err())
	}
}

func TestKnownCertificates(t *testing.T) {
	a, b := tlstest.NewCA(), tlstest.NewCA()
	config := &termination.Config{Authorities: []termination.Authority{
		{Name: "one", Certificates: []termination.CACertificate{{Certificate: a.X509, Role: termination.RoleAnchor}}},
		{Name: "two", Certificates: []termination.CACertificate{{Certificate: a.X509, Role: termination.RoleHelper}, {Certificate: b.X509, Role: termination.RoleAnchor}}},
	}}
	known := config.KnownCertificates()
	if len(known) != 3 || known[1].Authority != "two" || known[1].Role != termination.RoleHelper || !known[2].Certificate.Equal(b.X509) {
		t.Errorf("known: %+v", known)
	}
}

// Intermediates of public CAs are told by the name of their issuer; as helpers they decide nothing.
func TestPublicIntermediate(t *testing.T) {
	x2 := read(t, []byte(isrgRootX2)).Items[0].Certificate
	fake := tlstest.NewCA(tlstest.RawSubject(x2.RawSubject))
	inter := fake.Intermediate(tlstest.CN("E9"))
	p := termination.PlanAuthority(read(t, inter.PEM()), termination.PlanOptions{Now: time.Now()})
	if w := has(p.Items[0], termination.WarnPublicCA); w == nil || w.Strong || !strings.Contains(w.Text, "ISRG Root X2") {
		t.Errorf("as a helper: %+v", p.Items[0].Warnings)
	}
	p = termination.PlanAuthority(read(t, inter.PEM()), termination.PlanOptions{Now: time.Now(), Anchors: termination.AnchorsAll})
	if w := has(p.Items[0], termination.WarnPublicCA); w == nil || !w.Strong {
		t.Errorf("as an anchor: %+v", p.Items[0].Warnings)
	}
	own := tlstest.NewCA(tlstest.Subject(pkix.Name{CommonName: "ISRG Root X2"}))
	p = termination.PlanAuthority(read(t, own.PEM()), termination.PlanOptions{Now: time.Now()})
	if has(p.Items[0], termination.WarnPublicCA) != nil {
		t.Error("a private CA that has the common name alone is taken for the public one")
	}
}

// A pinned certificate that says CA:TRUE must stay a pin: what its key signs is not let in by it.
func TestPinIsNoIssuer(t *testing.T) {
	client := tlstest.SelfSigned(tlstest.CN("billing"), tlstest.CATrue())
	p := termination.PlanAuthority(read(t, client.PEM()), termination.PlanOptions{
		Now:     time.Now(),
		Choices: map[termination.Fingerprint]termination.UploadUse{termination.FingerprintOf(client.X509): termination.UsePin},
	})
	if len(p.Certificates()) != 0 || len(p.Pins()) != 1 {
		t.Fatalf("%d CA certificates, %d pins", len(p.Certificates()), len(p.Pins()))
	}
	pin := termination.Pin{Fingerprint: termination.FingerprintOf(p.Pins()[0])}
	child := client.Client("minted")
	if !pin.Matches(client.X509) || pin.Matches(child.X509) {
		t.Error("the pin matches what it must not, or not what it must")
	}
}
