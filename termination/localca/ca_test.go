package localca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

func create(t *testing.T, o Options) *termination.LocalCA {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = now
	}
	if o.Name == "" {
		o.Name = "Test CA"
	}
	ca, err := Create(o)
	if err != nil {
		t.Fatalf("create a CA: %v", err)
	}
	return ca
}

func TestCreate(t *testing.T) {
	ca := create(t, Options{Name: "Local CA", Constrained: true})
	c := ca.Certificate
	if c.Subject.CommonName != "Local CA" || ca.Name != "Local CA" {
		t.Errorf("named %q and %q", c.Subject, ca.Name)
	}
	if !c.IsCA || !c.BasicConstraintsValid || c.MaxPathLen != 0 || !c.MaxPathLenZero {
		t.Errorf("basic constraints: CA %v, path length %d", c.IsCA, c.MaxPathLen)
	}
	if c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("key usage %b", c.KeyUsage)
	}
	if len(c.SubjectKeyId) != 20 {
		t.Errorf("subject key identifier has %d bytes", len(c.SubjectKeyId))
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve.Params().Name != "P-256" {
		t.Errorf("key is a %T", c.PublicKey)
	}
	if got := c.NotAfter.Sub(now); got != 365*24*time.Hour {
		t.Errorf("lives for %v", got)
	}
	if !c.NotBefore.Before(now) {
		t.Errorf("begins at %v, which a client with a slow clock refuses", c.NotBefore)
	}
	if !c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains) != 1 || len(c.PermittedIPRanges) != 2 {
		t.Errorf("constraints: critical %v, DNS %v, IP %v", c.PermittedDNSDomainsCritical, c.PermittedDNSDomains, c.PermittedIPRanges)
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		t.Errorf("self-signature: %v", err)
	}
	free := create(t, Options{})
	if len(free.Certificate.PermittedDNSDomains) != 0 || len(free.Certificate.PermittedIPRanges) != 0 {
		t.Error("an unconstrained CA has constraints")
	}
	if free.Certificate.SerialNumber.Cmp(c.SerialNumber) == 0 {
		t.Error("two certificates with one serial number")
	}
}

func TestCreateRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"empty name":      {Now: now},
		"long name":       {Name: strings.Repeat("x", 65), Now: now},
		"newline":         {Name: "a\nb", Now: now},
		"right to left":   {Name: "a\u202eb", Now: now},
		"invalid UTF-8":   {Name: "a\xff", Now: now},
		"space at end":    {Name: "a ", Now: now},
		"negative days":   {Name: "a", Days: -1, Now: now},
		"too many days":   {Name: "a", Days: MaxCADays + 1, Now: now},
		"without a clock": {Name: "a"},
	} {
		if ca, err := Create(o); err == nil {
			t.Errorf("%s: made %q", name, ca.Certificate.Subject)
		}
	}
}

func TestSerials(t *testing.T) {
	for range 1000 {
		n := newSerial()
		if n.Sign() <= 0 || n.BitLen() > 159 {
			t.Fatalf("serial %v has %d bits", n, n.BitLen())
		}
	}
}

func TestFromKey(t *testing.T) {
	ca := create(t, Options{})
	got, err := FromKey("mine", ca.Certificate, ca.Key)
	if err != nil {
		t.Fatalf("use a CA again: %v", err)
	}
	if _, err := IssueServer(got, []string{"a.example.com"}, now, 1); err != nil {
		t.Errorf("issue from it: %v", err)
	}

	other := create(t, Options{})
	leaf := tlstest.SelfSigned()
	noSign := tlstest.NewCA(tlstest.KeyUsage(x509.KeyUsageDigitalSignature))
	for name, c := range map[string]struct {
		name string
		cert *x509.Certificate
		key  crypto.Signer
	}{
		"another key":    {"x", ca.Certificate, other.Key},
		"no key":         {"x", ca.Certificate, nil},
		"no certificate": {"x", nil, ca.Key},
		"a leaf":         {"x", leaf.X509, leaf.Key},
		"no keyCertSign": {"x", noSign.X509, noSign.Key},
		"no name":        {"", ca.Certificate, ca.Key},
	} {
		if _, err := FromKey(c.name, c.cert, c.key); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMayIssue(t *testing.T) {
	constrained := create(t, Options{Constrained: true})
	free := create(t, Options{})
	for _, c := range []struct {
		name string
		ok   bool // by the constrained CA
		any  bool // by the other one
	}{
		{"localhost", true, true},
		{"LOCALHOST.", true, true},
		{"demo.localhost", true, true},
		{"*.localhost", true, true},
		{"*.a.localhost", true, true},
		{"127.0.0.1", true, true},
		{"127.255.255.254", true, true},
		{"::1", true, true},
		{"[::1]", true, true},
		{"::ffff:127.0.0.1", true, true},
		{"example.com", false, true},
		{"localhost.example.com", false, true},
		{"notlocalhost", false, true},
		{"*.example.com", false, true},
		{"10.0.0.1", false, true},
		{"128.0.0.1", false, true},
		{"::2", false, true},
		{"bücher.example", false, true},
		{"", false, false},
		{"*", false, false},
		{"a.*.localhost", false, false},
		{"fe80::1%eth0", false, false},
		{"a b.localhost", false, false},
		{"localhost\x00.example.com", false, false},
		{strings.Repeat("a", 64) + ".localhost", false, false},
	} {
		err := MayIssue(constrained, []string{c.name})
		if (err == nil) != c.ok {
			t.Errorf("constrained, %q: %v", c.name, err)
		}
		var limit *ConstraintError
		if errors.As(err, &limit) != (!c.ok && c.any) {
			t.Errorf("constrained, %q: error is a %T: %v", c.name, err, err)
		}
		if err := MayIssue(free, []string{c.name}); (err == nil) != c.any {
			t.Errorf("unconstrained, %q: %v", c.name, err)
		}
		// What MayIssue allows must be issued, and what it refuses must not.
		issued, err := IssueServer(constrained, []string{c.name}, now, 1)
		if (err == nil) != c.ok {
			t.Errorf("issue for %q: %v", c.name, err)
		}
		if err == nil && len(issued.Leaf().DNSNames)+len(issued.Leaf().IPAddresses) != 1 {
			t.Errorf("issued for %q: %v %v", c.name, issued.Leaf().DNSNames, issued.Leaf().IPAddresses)
		}
	}
	if err := MayIssue(free, nil); err == nil {
		t.Error("no name at all: accepted")
	}
	if err := MayIssue(free, make([]string, maxNames+1)); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("too many names: %v", err)
	}
	if err := MayIssue(constrained, []string{"localhost", "example.com"}); err == nil {
		t.Error("one good and one forbidden name: accepted")
	}
}

// A CA from elsewhere may exclude what it otherwise permits, and limit kinds of names that are not its DNS names.
func TestForeignConstraints(t *testing.T) {
	made := tlstest.NewCA(tlstest.ExcludeDNS("secret.example.com", ".hidden.example"), tlstest.Template(func(c *x509.Certificate) {
		c.PermittedEmailAddresses = []string{"example.com"}
		c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(1000*time.Hour)
	}))
	ca, err := FromKey("foreign", made.X509, made.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"example.com": true, "secret.example.com": false, "a.secret.example.com": false, "hidden.example": true, "a.hidden.example": false,
	} {
		if err := MayIssue(ca, []string{name}); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := IssueClient(ca, ClientRequest{Name: "a", Email: "a@example.com", Days: 1, Now: now}); err != nil {
		t.Errorf("a permitted e-mail address: %v", err)
	}
	if _, err := IssueClient(ca, ClientRequest{Name: "a", Email: "a@example.org", Days: 1, Now: now}); err == nil {
		t.Error("an e-mail address that the CA may not sign was signed")
	}
}
