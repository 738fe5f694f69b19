package localca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"countersign/termination"
)

func roots(ca *termination.LocalCA) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return pool
}

func TestIssueServer(t *testing.T) {
	ca := create(t, Options{Constrained: true})
	issued, err := IssueServer(ca, []string{"Demo.localhost", "*.demo.localhost", "127.0.0.1", "::1", "demo.localhost"}, now, 30)
	if err != nil {
		t.Fatal(err)
	}
	leaf := issued.Leaf()
	if got := strings.Join(leaf.DNSNames, " "); got != "demo.localhost *.demo.localhost" {
		t.Errorf("DNS names: %s", got)
	}
	if len(leaf.IPAddresses) != 2 {
		t.Errorf("IP addresses: %v", leaf.IPAddresses)
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, key usage %b", leaf.IsCA, leaf.KeyUsage)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("usages: %v", leaf.ExtKeyUsage)
	}
	if !bytes.Equal(leaf.AuthorityKeyId, ca.Certificate.SubjectKeyId) {
		t.Error("the leaf does not name its issuer's key")
	}
	if leaf.SerialNumber.BitLen() < 100 {
		t.Errorf("serial number %v can be guessed", leaf.SerialNumber)
	}
	for _, name := range []string{"demo.localhost", "a.demo.localhost", "127.0.0.1", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots(ca), CurrentTime: now}); err != nil {
			t.Errorf("verify for %s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "demo.localhost", Roots: roots(ca), CurrentTime: now.Add(-30 * time.Minute)}); err != nil {
		t.Errorf("a client whose clock is half an hour behind: %v", err)
	}
}

func TestIssueServerLongName(t *testing.T) {
	ca := create(t, Options{})
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example.com"
	issued, err := IssueServer(ca, []string{long}, now, 30)
	if err != nil {
		t.Fatal(err)
	}
	if cn := issued.Leaf().Subject.CommonName; cn != "" {
		t.Errorf("common name %q is longer than 64 characters", cn)
	}
}

func TestNeverOutlivesTheCA(t *testing.T) {
	ca := create(t, Options{Days: 10})
	at := now.Add(8 * 24 * time.Hour)
	server, err := IssueServer(ca, []string{"localhost"}, at, 90)
	if err != nil {
		t.Fatal(err)
	}
	client, err := IssueClient(ca, ClientRequest{Name: "rhea", Days: 90, Now: at})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []*Issued{server, client} {
		if i.Leaf().NotAfter.After(ca.Certificate.NotAfter) {
			t.Errorf("%q ends at %v, its CA at %v", i.Leaf().Subject, i.Leaf().NotAfter, ca.Certificate.NotAfter)
		}
	}
	first, err := IssueServer(ca, []string{"localhost"}, now, 1)
	if err != nil {
		t.Fatal(err)
	}
	if first.Leaf().NotBefore.Before(ca.Certificate.NotBefore) {
		t.Errorf("begins at %v, its CA at %v", first.Leaf().NotBefore, ca.Certificate.NotBefore)
	}
	if _, err := IssueServer(ca, []string{"localhost"}, ca.Certificate.NotAfter, 1); !errors.Is(err, ErrEnded) {
		t.Errorf("from a CA that has ended: %v", err)
	}
	if _, err := IssueServer(ca, []string{"localhost"}, now.Add(-48*time.Hour), 1); err == nil {
		t.Error("issued before the CA began")
	}
}

func TestIssueServerRefuses(t *testing.T) {
	ca := create(t, Options{})
	for name, c := range map[string]struct {
		names []string
		at    time.Time
		days  int
	}{
		"no names":       {nil, now, 1},
		"an empty name":  {[]string{""}, now, 1},
		"no days":        {[]string{"localhost"}, now, 0},
		"negative days":  {[]string{"localhost"}, now, -1},
		"too many days":  {[]string{"localhost"}, now, MaxServerDays + 1},
		"overflow":       {[]string{"localhost"}, now, 1 << 62},
		"without a time": {[]string{"localhost"}, time.Time{}, 1},
	} {
		if _, err := IssueServer(ca, c.names, c.at, c.days); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

func TestIssueClient(t *testing.T) {
	ca := create(t, Options{Constrained: true})
	issued, err := IssueClient(ca, ClientRequest{Name: "Rhea Müller", URI: "spiffe://prod/billing", Email: "rhea@example.org", DNS: []string{"rhea.localhost"}, Days: 30, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	leaf := issued.Leaf()
	if leaf.Subject.CommonName != "Rhea Müller" || leaf.URIs[0].String() != "spiffe://prod/billing" || leaf.EmailAddresses[0] != "rhea@example.org" || leaf.DNSNames[0] != "rhea.localhost" {
		t.Errorf("names: %q %v %v %v", leaf.Subject, leaf.URIs, leaf.EmailAddresses, leaf.DNSNames)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("usages: %v, %b", leaf.ExtKeyUsage, leaf.KeyUsage)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots(ca), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("verify as a client: %v", err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots(ca), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a client certificate passes as a server's")
	}
}

func TestIssueClientRefuses(t *testing.T) {
	constrained := create(t, Options{Constrained: true})
	free := create(t, Options{})
	for name, r := range map[string]ClientRequest{
		"no name":           {Days: 1},
		"long name":         {Name: strings.Repeat("x", 65), Days: 1},
		"control character": {Name: "a\x1b[31m", Days: 1},
		"hidden character":  {Name: "a\u200bb", Days: 1},
		"relative URI":      {Name: "a", URI: "billing", Days: 1},
		"long URI":          {Name: "a", URI: "spiffe://a/" + strings.Repeat("x", maxURI), Days: 1},
		"URI with spaces":   {Name: "a", URI: "spiffe://a/b c", Days: 1},
		"broken URI":        {Name: "a", URI: "spiffe://[", Days: 1},
		"no e-mail address": {Name: "a", Email: "rhea", Days: 1},
		"e-mail with name":  {Name: "a", Email: "R <r@example.org>", Days: 1},
		"long e-mail":       {Name: "a", Email: strings.Repeat("x", 250) + "@example.org", Days: 1},
		"IP as a DNS name":  {Name: "a", DNS: []string{"127.0.0.1"}, Days: 1},
		"broken DNS name":   {Name: "a", DNS: []string{"a..b"}, Days: 1},
		"no days":           {Name: "a"},
		"too many days":     {Name: "a", Days: MaxClientDays + 1},
	} {
		r.Now = now
		if _, err := IssueClient(free, r); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	var limit *ConstraintError
	_, err := IssueClient(constrained, ClientRequest{Name: "a", DNS: []string{"a.example.com"}, Days: 1, Now: now})
	if !errors.As(err, &limit) || limit.Name != "a.example.com" {
		t.Errorf("constrained, a DNS name elsewhere: %v", err)
	}
	_, err = IssueClient(constrained, ClientRequest{Name: "billing.batch", Days: 1, Now: now})
	if !errors.As(err, &limit) {
		t.Errorf("constrained, a common name that OpenSSL takes for a DNS name: %v", err)
	}
	if _, err := IssueClient(free, ClientRequest{Name: "billing.batch", Days: 1, Now: now}); err != nil {
		t.Errorf("unconstrained, the same: %v", err)
	}
}

func TestStranger(t *testing.T) {
	a, err := Stranger(now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Stranger(now)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.CA.RawSubjectPublicKeyInfo, b.CA.RawSubjectPublicKeyInfo) {
		t.Error("two strangers share a CA")
	}
	ours := create(t, Options{})
	if _, err := a.Leaf().Verify(x509.VerifyOptions{Roots: roots(ours), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the stranger is trusted")
	}
}

func TestDueAt(t *testing.T) {
	c := &x509.Certificate{NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour)}
	if got, want := DueAt(c), now.Add(60*24*time.Hour); !got.Equal(want) {
		t.Errorf("due at %v, want %v", got, want)
	}
}

func TestPEM(t *testing.T) {
	ca := create(t, Options{})
	issued, err := IssueClient(ca, ClientRequest{Name: "rhea", Days: 1, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := issued.BundlePEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(bundle, bundle); err != nil {
		t.Errorf("one file with certificate and key: %v", err)
	}
	key, err := issued.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(issued.CertificatePEM(), key); err != nil {
		t.Errorf("two files: %v", err)
	}
	if bytes.Contains(issued.CertificatePEM(), []byte("PRIVATE")) {
		t.Error("the certificate's file holds the key")
	}
	first, rest := pem.Decode(EncodePEM(issued.Leaf(), ca.Certificate))
	second, _ := pem.Decode(rest)
	if !bytes.Equal(first.Bytes, issued.Leaf().Raw) || !bytes.Equal(second.Bytes, ca.Certificate.Raw) {
		t.Error("EncodePEM lost a certificate, or their order")
	}
}

func TestP12(t *testing.T) {
	ca := create(t, Options{})
	issued, err := IssueClient(ca, ClientRequest{Name: "rhea", Days: 1, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	password := NewPassword()
	for _, f := range []Flavour{FlavourModern, FlavourApple} {
		data, err := issued.P12(f, password)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		key, cert, chain, err := pkcs12.DecodeChain(data, password)
		if err != nil {
			t.Fatalf("%s: read it back: %v", f, err)
		}
		if !cert.Equal(issued.Leaf()) || len(chain) != 0 {
			t.Errorf("%s: holds %q and %d more", f, cert.Subject, len(chain))
		}
		if !issued.Key.(*ecdsa.PrivateKey).Equal(key) {
			t.Errorf("%s: holds another key", f)
		}
		if _, _, err := pkcs12.Decode(data, password+"x"); err == nil {
			t.Errorf("%s: opens with a wrong password", f)
		}
	}
	for name, f := range map[string]func() ([]byte, error){
		"short password":  func() ([]byte, error) { return issued.P12(FlavourModern, "short") },
		"no password":     func() ([]byte, error) { return issued.P12(FlavourApple, "") },
		"unknown flavour": func() ([]byte, error) { return issued.P12("rc2", password) },
		"nothing issued":  func() ([]byte, error) { return (&Issued{}).P12(FlavourModern, password) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNewPassword(t *testing.T) {
	seen := map[string]bool{}
	letters := map[rune]int{}
	for range 2000 {
		p := NewPassword()
		if len(p) != 29 || strings.Count(p, "-") != 4 || strings.HasPrefix(p, "-") {
			t.Fatalf("password %q", p)
		}
		if strings.ContainsAny(p, "0oO1lIi :'\"\\$`!") {
			t.Fatalf("password %q holds a character that is confused, or that a shell changes", p)
		}
		if seen[p] {
			t.Fatalf("password %q came twice", p)
		}
		seen[p] = true
		for _, r := range p {
			letters[r]++
		}
	}
	delete(letters, '-')
	if len(letters) != len(passwordLetters) {
		t.Errorf("%d of %d letters are used", len(letters), len(passwordLetters))
	}
}

func TestClientName(t *testing.T) {
	for in, want := range map[string]string{
		"rhea":                  "rhea",
		"john.doe":              "john-doe",
		"DOMAIN\\rhea":          "DOMAIN\\rhea",
		"":                      "client",
		"..":                    "client",
		"a\nb":                  "a-b",
		"\xff\xfe":              "client",
		"Müller":                "Müller",
		strings.Repeat("é", 70): strings.Repeat("é", 64),
	} {
		if got := ClientName(in); got != want {
			t.Errorf("ClientName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFileName(t *testing.T) {
	for in, want := range map[string]string{
		"rhea":                  "rhea",
		"../../etc/passwd":      "etc-passwd",
		"a b":                   "a-b",
		"DOMAIN\\rhea":          "DOMAIN-rhea",
		".hidden":               "hidden",
		"...":                   "client",
		"":                      "client",
		"Müller":                "M-ller",
		"a\x00b":                "a-b",
		strings.Repeat("x", 99): strings.Repeat("x", 64),
	} {
		if got := FileName(in); got != want {
			t.Errorf("FileName(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzNames(f *testing.F) {
	ca, err := Create(Options{Name: "Fuzz CA", Constrained: true, Now: now})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"localhost", "a.localhost", "::1", "10.0.0.1", "example.com", "a\u202eb", "*.localhost", "..", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name := ClientName(s); checkCommonName(name) != nil || looksLikeDNS(name) {
			t.Errorf("ClientName(%q) = %q, which is refused", s, name)
		}
		if name := FileName(s); name == "" || strings.ContainsAny(name, "/\\\x00") || strings.Contains(name, "..") || strings.HasPrefix(name, ".") {
			t.Errorf("FileName(%q) = %q", s, name)
		}
		// What MayIssue allows is issued, and verifies: IssueServer checks that itself.
		_, err := IssueServer(ca, []string{s}, now, 1)
		if may := MayIssue(ca, []string{s}); (may == nil) != (err == nil) {
			t.Errorf("%q: MayIssue says %v, issuing says %v", s, may, err)
		}
	})
}
