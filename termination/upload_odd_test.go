package termination_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// asn wraps parts into one DER element.
func asn(tag byte, parts ...[]byte) []byte {
	body := join(parts...)
	head := []byte{tag, byte(len(body))}
	if len(body) >= 0x80 {
		head = []byte{tag, 0x83, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}
	}
	return append(head, body...)
}

// bundleOf makes a PKCS#7 bundle with any content in its optional fields.
func bundleOf(optional ...[]byte) []byte {
	signedData := asn(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2})
	data := asn(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1})
	fields := [][]byte{asn(2, []byte{1}), asn(0x31), asn(0x30, data)}
	fields = append(fields, optional...)
	fields = append(fields, asn(0x31))
	return asn(0x30, signedData, asn(0xa0, asn(0x30, fields...)))
}

func TestBundles(t *testing.T) {
	ca := tlstest.NewCA()
	for _, c := range []struct {
		name  string
		data  []byte
		kinds string
		says  string // in the last item
	}{
		{"one certificate", bundleOf(asn(0xa0, ca.DER)), "root", ""},
		{"and a revocation list", bundleOf(asn(0xa0, ca.DER), asn(0xa1, crl(t, ca))), "root crl", "revocation list"},
		{"a revocation list alone", bundleOf(asn(0xa1, crl(t, ca))), "crl", "left out"},
		{"an attribute certificate", bundleOf(asn(0xa0, ca.DER, asn(0xa2, []byte{5, 0}))), "root other", "other than X.509"},
		{"no certificates", bundleOf(), "unreadable", "without any certificate"},
		{"an empty list of certificates", bundleOf(asn(0xa0)), "unreadable", "without any certificate"},
		{"a certificate that is none", bundleOf(asn(0xa0, ca.DER, asn(0x30, []byte{2, 1, 1}))), "root unreadable", "place 2"},
		{"a certificate with something behind its signature", bundleOf(asn(0xa0, asn(0x30, ca.DER[4:], []byte{5, 0}))), "unreadable", "place 1"},
		{"a private key", bundleOf(asn(0xa0, mustDecode(t, ca.KeyPEM()))), "private_key", "not kept"},
		{"a bundle", bundleOf(asn(0xa0, bundleOf(asn(0xa0, ca.DER)))), "unreadable", "place 1"},
		{"damaged within", bundleOf(asn(0xa0, ca.DER, []byte{0x30, 0x20, 1})), "unreadable", "damaged after 1"},
		{"fields in disorder", asn(0x30, asn(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}), asn(0xa0, asn(0x30, asn(0x31), asn(2, []byte{1})))), "unreadable", "damaged"},
		{"two lists of certificates", bundleOf(asn(0xa0, ca.DER), asn(0xa0, ca.DER)), "unreadable", "same field twice"},
		{"content of another type", asn(0x30, asn(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}), asn(0xa0, asn(4, []byte{1}))), "unreadable", "not where it must be"},
	} {
		u := read(t, c.data)
		last := u.Items[len(u.Items)-1]
		if kinds(u) != c.kinds || !strings.Contains(last.Message, c.says) {
			t.Errorf("%s: %q: %s", c.name, kinds(u), last.Message)
		}
	}
}

func TestOddEncodings(t *testing.T) {
	ca := tlstest.NewCA()
	pem := string(ca.PEM())
	for _, c := range []struct {
		name  string
		data  []byte
		kinds string
		says  string // in the last item
	}{
		{"DER, then junk", join(ca.DER, []byte("junk")), "root unreadable", "expected DER"},
		{"DER, cut off", ca.DER[:len(ca.DER)-9], "unreadable", "cut off"},
		{"DER of no kind", []byte{0x30, 3, 2, 1, 1}, "unreadable", "nothing else that is known"},
		{"folded headers", []byte(strings.Replace(pem, "-----\nMI", "-----\nComment: a\n b\n\tc\n\nMI", 1)), "root", ""},
		{"headers alone", []byte("-----BEGIN CERTIFICATE-----\nComment: a\n-----END CERTIFICATE-----"), "unreadable", "found nothing"},
		{"headers in one line", []byte("-----BEGIN CERTIFICATE-----Comment: a-----END CERTIFICATE-----"), "unreadable", `found the character ":"`},
		{"text where base64 must be", []byte("-----BEGIN CERTIFICATE-----\nhello\n\nWörld\n-----END CERTIFICATE-----"), "unreadable", "line 4: expected base64, found the character U+00F6"},
		{"binary where base64 must be", []byte("-----BEGIN CERTIFICATE-----\nMII\xff\n-----END CERTIFICATE-----"), "unreadable", "of a binary file"},
		{"a control character", []byte("-----BEGIN CERTIFICATE-----\nMII\x01\n-----END CERTIFICATE-----"), "unreadable", "U+0001"},
		{"goes on after its padding", []byte("-----BEGIN CERTIFICATE-----\nMIIB=\nMIIB\n-----END CERTIFICATE-----"), "unreadable", "line 3: the base64 goes on"},
		{"one digit too many", []byte("-----BEGIN CERTIFICATE-----\nMIIBA\n-----END CERTIFICATE-----"), "unreadable", "some are missing"},
		{"a continued shell string", []byte(strings.ReplaceAll(pem, "\n", "\\\n")), "root", ""},
		{"no END, text after it", []byte(strings.Replace(pem, "-----END CERTIFICATE-----", "kind regards, Bob", 1)), "unreadable", "no END line"},
		{"END alone", []byte("-----END CERTIFICATE-----"), "text", ""},
		{"a long label", []byte("-----BEGIN " + strings.Repeat("A", 65) + "-----\n"), "text", ""},
		{"a label that does not end", []byte("-----BEGIN CERTIFICATE"), "text", ""},
		{"one dash", []byte("-BEGIN CERTIFICATE-\nMII\n-END CERTIFICATE-"), "text", ""},
		{"short base64", []byte("MIIB"), "text", ""},
		{"base64 of text", []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("hello "), 20))), "text", ""},
		{"nested without end", nest(ca.PEM(), 6), "text", ""},
		{"UTF-16 of half a character", []byte("\xff\xfea\x00b"), "text", ""},
		{"NETSCAPE block", block("NETSCAPE CERTIFICATE SEQUENCE", []byte{0x30, 3, 2, 1, 1}), "unreadable", ""},
		{"an encrypted PGP key", []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ\n-----END PGP PRIVATE KEY BLOCK-----"), "private_key", "A PGP private key"},
		{"DSA key", append([]byte{0x30, 18}, bytes.Repeat([]byte{2, 1, 1}, 6)...), "private_key", "not kept"},
		{"an RSA public key", append([]byte{0x30, 6}, bytes.Repeat([]byte{2, 1, 1}, 2)...), "public_key", "alone"},
		{"a version 1 revocation list", asn(0x30, asn(0x30, asn(0x30), asn(0x30), asn(0x17)), asn(0x30), asn(3)), "crl", ""},
		{"something signed", asn(0x30, asn(0x30, asn(4)), asn(0x30), asn(3)), "unreadable", ""},
	} {
		u := read(t, c.data)
		last := u.Items[len(u.Items)-1]
		if kinds(u) != c.kinds || !strings.Contains(last.Message, c.says) {
			t.Errorf("%s: %q: %s", c.name, kinds(u), last.Message)
		}
	}
}

func nest(data []byte, times int) []byte {
	for range times {
		data = []byte(base64.StdEncoding.EncodeToString(data))
	}
	return data
}

// A key of absurd length is not worked with: each step with it costs the square of its length.
func TestAbsurdKeys(t *testing.T) {
	ca := tlstest.NewCA()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "big"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	for bits, kind := range map[uint]string{16384: "leaf", 16385: "unreadable", 400000: "unreadable"} {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		n.SetBit(n, 0, 1)
		der, err := x509.CreateCertificate(rand.Reader, template, ca.X509, &rsa.PublicKey{N: n, E: 65537}, ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		if u := read(t, der); kinds(u) != kind {
			t.Errorf("RSA with %d bits: %q", bits, kinds(u))
		}
	}
	small := openssl(t, nil, "genrsa", "-traditional", "512")
	_, err := termination.ReadServerCertificate(ca.PEM(), small, time.Now())
	var field termination.FieldError
	if !errors.As(err, &field) || field.Field != "key_file" || !strings.Contains(field.Problem, "512 bits") {
		t.Errorf("RSA with 512 bits as a server's key: %v", err)
	}
}

func TestTitles(t *testing.T) {
	ca := tlstest.NewCA()
	nobody := tlstest.Subject(pkix.Name{})
	for name, c := range map[string]struct {
		cert *tlstest.Cert
		want string
	}{
		"common name":  {ca.Leaf(tlstest.CN("alice")), "alice"},
		"unit":         {ca.Leaf(tlstest.Subject(pkix.Name{OrganizationalUnit: []string{"Billing"}})), "Billing"},
		"organisation": {ca.Leaf(tlstest.Subject(pkix.Name{Organization: []string{"Acme"}})), "Acme"},
		"DNS name":     {ca.Leaf(nobody, tlstest.DNS("a.example.com")), "a.example.com"},
		"e-mail":       {ca.Leaf(nobody, tlstest.Email("a@example.com")), "a@example.com"},
		"URI":          {ca.Leaf(nobody, tlstest.URI("spiffe://a/b")), "spiffe://a/b"},
		"address":      {ca.Leaf(nobody, tlstest.IP("192.0.2.1")), "192.0.2.1"},
		"nothing":      {ca.Leaf(nobody, tlstest.Serial(255)), "serial ff"},
		"only spaces":  {ca.Leaf(tlstest.CN("  "), tlstest.Org("Acme")), "Acme"},
		"long":         {ca.Leaf(tlstest.CN(strings.Repeat("é", 100))), strings.Repeat("é", 64) + "…"},
	} {
		if got := read(t, c.cert.PEM()).Items[0].Title; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	unnamed := tlstest.NewCA(nobody)
	if m := read(t, unnamed.Intermediate().PEM()).Items[0].Message; !strings.Contains(m, "a CA without a name") {
		t.Errorf("an issuer without a name: %s", m)
	}
	if m := read(t, tlstest.NewCA(tlstest.Subject(pkix.Name{Organization: []string{"Acme"}})).Intermediate().PEM()).Items[0].Message; !strings.Contains(m, "signed by Acme") {
		t.Errorf("an issuer with an organisation alone: %s", m)
	}
}

func TestLeavesInWords(t *testing.T) {
	ca := tlstest.NewCA()
	for want, leaf := range map[string]*tlstest.Cert{
		"A certificate for servers and clients": ca.Leaf(),
		"A server certificate":                  ca.Server("a.example.com"),
		"A client certificate":                  ca.Client("a"),
		"A certificate for e-mail":              ca.Leaf(tlstest.EKU(x509.ExtKeyUsageEmailProtection)),
		"A certificate for signing code":        ca.Leaf(tlstest.EKU(x509.ExtKeyUsageCodeSigning)),
		"A certificate that signed itself":      tlstest.SelfSigned(tlstest.NoEKU()),
		"A server or client certificate":        ca.Leaf(tlstest.NoEKU()),
	} {
		if m := read(t, leaf.PEM()).Items[0].Message; !strings.HasPrefix(m, want+", not a CA") {
			t.Errorf("want %q: %s", want, m)
		}
	}
}

func TestCertificateKinds(t *testing.T) {
	root := tlstest.NewCA()
	rollover := tlstest.NewCA(tlstest.RawSubject(root.X509.RawSubject), tlstest.FreshKey())
	for name, c := range map[string]struct {
		cert *tlstest.Cert
		want termination.UploadKind
	}{
		"a root":                                {root, termination.UploadRoot},
		"a root signed with SHA-1":              {tlstest.NewCA(tlstest.RSA(2048), tlstest.SHA1RSA()), termination.UploadRoot},
		"own name, another's signature":         {rollover.Reissue(root), termination.UploadIntermediate},
		"an intermediate":                       {root.Intermediate(), termination.UploadIntermediate},
		"a leaf without basicConstraints":       {root.Leaf(tlstest.NoBasicConstraints()), termination.UploadLeaf},
		"the same, without usages":              {root.Leaf(tlstest.NoBasicConstraints(), tlstest.NoEKU()), termination.UploadLeaf},
		"self-signed with a name":               {tlstest.SelfSigned(tlstest.NoBasicConstraints(), tlstest.NoEKU(), tlstest.DNS("a.example.com")), termination.UploadLeaf},
		"self-signed with nothing":              {tlstest.SelfSigned(tlstest.NoBasicConstraints(), tlstest.NoEKU()), termination.UploadUnproven},
		"keyCertSign without basicConstraints":  {root.Intermediate(tlstest.NoBasicConstraints()), termination.UploadUnproven},
		"version 1, signed by another":          {root.Client("a", tlstest.V1()), termination.UploadUnproven},
		"version 1, self-signed":                {tlstest.SelfSigned(tlstest.V1()), termination.UploadUnproven},
		"CA:FALSE with keyCertSign":             {tlstest.NewCA(tlstest.CAFalse()), termination.UploadLeaf},
		"self-signed leaf that says it is none": {tlstest.SelfSigned(), termination.UploadLeaf},
	} {
		if got := read(t, c.cert.PEM()).Items[0].Kind; got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestKeyAndUsageNames(t *testing.T) {
	for want, opt := range map[string]tlstest.Option{
		"ECDSA P-256": tlstest.P256(), "ECDSA P-521": tlstest.P521(), "RSA 2048": tlstest.RSA(2048), "Ed25519": tlstest.Ed25519(),
	} {
		if got := termination.KeyName(tlstest.SelfSigned(opt).X509.PublicKey); got != want {
			t.Errorf("key %q, want %q", got, want)
		}
	}
	if got := termination.KeyName(nil); got != "unknown" {
		t.Errorf("no key: %q", got)
	}
	c := tlstest.SelfSigned(tlstest.KeyUsage(x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign), tlstest.EKU(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageIPSECUser),
		tlstest.Template(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}}
		}))
	got := fmt.Sprint(termination.UsageNames(c.X509))
	if !strings.HasPrefix(got, "[digitalSignature keyCertSign clientAuth ") || !strings.HasSuffix(got, " 1.2.3]") {
		t.Errorf("usages %s", got)
	}
}

// Between a CA and a leaf with one key, and between two issues, the right one is served.
func TestServerCertificateChoice(t *testing.T) {
	ca := tlstest.NewCA()
	leaf := ca.Server("a.example.com")
	longer := ca.Server("a.example.com", tlstest.WithKey(leaf.Key), tlstest.Valid(time.Now().Add(-time.Hour), time.Now().Add(99*time.Hour)))
	asCA := tlstest.NewCA(tlstest.WithKey(leaf.Key))
	for name, c := range map[string]struct{ data, key []byte }{
		"short, long, CA": {join(leaf.PEM(), longer.PEM(), asCA.PEM()), leaf.KeyPEM()},
		"CA, long, short": {join(asCA.PEM(), longer.PEM(), leaf.PEM()), leaf.KeyPEM()},
		"long, CA, short": {join(longer.PEM(), asCA.PEM(), leaf.PEM()), leaf.KeyPEM()},
	} {
		s, err := termination.ReadServerCertificate(c.data, c.key, time.Now())
		if err != nil || !s.Chain[0].Equal(longer.X509) {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
	}
}

func TestServerCertificateTooMany(t *testing.T) {
	ca := tlstest.NewCA()
	many := bytes.Repeat(ca.PEM(), termination.MaxUploadCertificates+1)
	if _, err := termination.ReadServerCertificate(many, ca.KeyPEM(), time.Now()); !errors.Is(err, termination.ErrUploadTooManyCertificates) {
		t.Errorf("too many certificates: %v", err)
	}
	if _, err := termination.ReadServerCertificate(join(many, ca.KeyPEM()), nil, time.Now()); !errors.Is(err, termination.ErrUploadTooManyCertificates) {
		t.Errorf("too many certificates and a key: %v", err)
	}
}

func TestHeadlineCounts(t *testing.T) {
	var data []byte
	for range 13 {
		data = append(data, tlstest.NewCA().PEM()...)
	}
	if got := termination.PlanAuthority(read(t, data), termination.PlanOptions{Now: time.Now()}).Headline(); got != "13 things in it. 13 can be trusted." {
		t.Errorf("headline %q", got)
	}
}
