package tlstest

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
)

func verifyClient(c *Cert, root *Cert) error {
	helpers := x509.NewCertPool()
	for _, i := range c.Chain()[1:] {
		helpers.AddCert(i)
	}
	_, err := c.X509.Verify(x509.VerifyOptions{
		Roots: root.Pool(), Intermediates: helpers, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

func TestChainsVerify(t *testing.T) {
	ca := NewCA()
	for name, leaf := range map[string]*Cert{
		"leaf":         ca.Leaf(),
		"client":       ca.Client("alice"),
		"two levels":   ca.Intermediate().Client("alice"),
		"five levels":  ca.Intermediates(4).Client("alice"),
		"RSA":          ca.Client("alice", RSA(2048)),
		"RSA 1024":     ca.Client("alice", RSA(1024)),
		"P-384":        ca.Client("alice", P384()),
		"Ed25519":      ca.Client("alice", Ed25519()),
		"any EKU":      ca.Client("alice", AnyEKU()),
		"no EKU":       ca.Client("alice", NoEKU()),
		"CA:TRUE":      ca.Client("alice", CATrue()),
		"version 1":    ca.Client("alice", V1()),
		"no signature": ca.Client("alice", NoDigitalSignature()),
		"many names":   ca.Client("alice", ManyNames(1000)),
	} {
		if err := verifyClient(leaf, ca); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOdditiesAreRefusedByGo(t *testing.T) {
	ca := NewCA()
	rsaCA := NewCA(RSA(2048))
	limited := ca.Intermediate(MaxPathLen(0))
	for name, c := range map[string]struct {
		leaf *Cert
		root *Cert
		want string
	}{
		"expired":              {ca.Client("a", Expired()), ca, "has expired"},
		"not yet valid":        {ca.Client("a", NotYetValid()), ca, "not yet valid"},
		"server EKU":           {ca.Server("a.example.com"), ca, "incompatible key usage"},
		"server EKU on CA":     {ca.Intermediate(EKU(x509.ExtKeyUsageServerAuth)).Client("a"), ca, "incompatible key usage"},
		"unknown critical":     {ca.Client("a", UnknownCritical()), ca, "unhandled critical extension"},
		"impostor":             {ca.Impostor().Client("a"), ca, "unknown authority"},
		"other CA":             {NewCA().Client("a"), ca, "unknown authority"},
		"self-signed":          {SelfSigned(), ca, "unknown authority"},
		"issuer no CA":         {ca.Intermediate(NoBasicConstraints()).Client("a"), ca, "cannot sign this kind"},
		"issuer CA:FALSE":      {ca.Leaf().Client("a"), ca, "cannot sign this kind"},
		"path length":          {limited.Intermediate().Client("a"), ca, "too many intermediates"},
		"name constraints":     {ca.Intermediate(PermitDNS("example.org")).Client("a", DNS("example.com")), ca, "not permitted"},
		"excluded name":        {ca.Intermediate(ExcludeDNS("example.com")).Client("a", DNS("example.com")), ca, "excluded"},
		"SHA-1 by RSA":         {rsaCA.Client("a", SHA1RSA()), rsaCA, "insecure algorithm"},
		"SHA-1 by ECDSA":       {ca.Client("a", SHA1ECDSA()), ca, "insecure algorithm"},
		"version 1 as issuer":  {ca.Intermediate(V1()).Client("a"), ca, "not authorized to sign"},
		"expired intermediate": {ca.Intermediate(Expired()).Client("a"), ca, "has expired"},
	} {
		if err := verifyClient(c.leaf, c.root); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestCertificateIsAsAsked(t *testing.T) {
	ca := NewCA()
	if v := ca.Client("a", V1()); v.X509.Version != 1 || len(v.X509.Extensions) != 0 {
		t.Errorf("V1: version %d with %d extensions", v.X509.Version, len(v.X509.Extensions))
	}
	if c := ca.Client("a", EKU(x509.ExtKeyUsageServerAuth)); len(c.X509.ExtKeyUsage) != 1 || c.X509.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("EKU: %v", c.X509.ExtKeyUsage)
	}
	for _, hostile := range HostileTexts() {
		c := ca.Client(hostile, OrgUnit(hostile))
		if c.X509.Subject.CommonName != hostile || c.X509.Subject.OrganizationalUnit[0] != hostile {
			t.Errorf("altered: %q", c.X509.Subject)
		}
		if !isASCII(hostile) {
			continue // dNSName is an IA5String
		}
		if c := ca.Client("a", DNS(hostile)); c.X509.DNSNames[0] != hostile {
			t.Errorf("altered: %q", c.X509.DNSNames)
		}
	}
	if imp := ca.Impostor(); !bytes.Equal(imp.X509.RawSubject, ca.X509.RawSubject) || imp.SPKI() == ca.SPKI() {
		t.Error("an impostor has the same subject and another key")
	}
	if imp := NewCA(RSA(1024), CN("x")).Impostor(RSA(1024)); imp.SPKI() == NewCA(RSA(1024), CN("x")).SPKI() {
		t.Error("an RSA impostor has another key")
	}
	if again := ca.Reissue(ca.Intermediate()); !again.X509.IsCA {
		t.Error("a reissued CA is a CA")
	}
	leaf := ca.Client("a")
	if again := ca.Reissue(leaf, EKU(x509.ExtKeyUsageClientAuth)); again.SPKI() != leaf.SPKI() || again.Fingerprint() == leaf.Fingerprint() {
		t.Error("a renewed certificate has the same key and another fingerprint")
	}
}

func TestRSAKeysAreSharedOnlyByName(t *testing.T) {
	a, b := SelfSigned(RSA(1024), CN("same")), SelfSigned(RSA(1024), CN("same"))
	if !a.Key.(*rsa.PrivateKey).Equal(b.Key) {
		t.Error("same name, other key: the cache does not work")
	}
	for name, other := range map[string]*Cert{
		"default names": SelfSigned(RSA(1024)),
		"other name":    SelfSigned(RSA(1024), CN("other")),
		"fresh":         SelfSigned(RSA(1024), CN("same"), FreshKey()),
	} {
		if a.Key.(*rsa.PrivateKey).Equal(other.Key) {
			t.Errorf("%s: the key is shared", name)
		}
	}
}

func TestTLSForms(t *testing.T) {
	ca := NewCA()
	leaf := ca.Intermediates(2).Client("a")
	stranger := NewCA().Client("b")
	for name, c := range map[string]struct {
		pair tls.Certificate
		want int
	}{
		"whole":  {leaf.TLS(), 3},
		"alone":  {leaf.TLSAlone(), 1},
		"others": {leaf.TLSWith(stranger), 4},
		"root":   {ca.TLS(), 1},
	} {
		if len(c.pair.Certificate) != c.want {
			t.Errorf("%s: %d certificates, want %d", name, len(c.pair.Certificate), c.want)
		}
	}
	if leaf.Root() != ca {
		t.Error("the root is not the CA")
	}
}

func TestWriteFiles(t *testing.T) {
	dir := t.TempDir()
	ca := NewCA(CN("../../etc/x"))
	files := ca.Intermediate().Client("..\x00/alice", RSA(1024)).WriteFiles(t, dir)
	if _, err := tls.LoadX509KeyPair(files.Chain, files.Key); err != nil {
		t.Error(err)
	}
	if _, err := tls.LoadX509KeyPair(files.Cert, files.Key); err != nil {
		t.Error(err)
	}
	root, err := os.ReadFile(files.Root)
	if err != nil || !bytes.Equal(root, ca.PEM()) {
		t.Errorf("root file: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files in the folder, want 4 (%v)", len(entries), err)
	}
}

func TestOpenSSLAgrees(t *testing.T) {
	ca := NewCA(RSA(2048))
	files := ca.Client("alice", RSA(2048), SHA1RSA()).WriteFiles(t, t.TempDir())
	out := OpenSSL(t, "x509", "-in", files.Cert, "-noout", "-text")
	if out.Exit != 0 || !out.Has("sha1WithRSAEncryption") || !out.Has("CN = alice") {
		t.Errorf("openssl reads it otherwise: %+v", out)
	}
	v1 := ca.Client("old", V1()).WriteFiles(t, t.TempDir())
	if out := OpenSSL(t, "verify", "-CAfile", v1.Root, v1.Cert); out.Exit != 0 {
		t.Errorf("openssl refuses the version 1 leaf: %s", out.Output())
	}
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 127 }) }
