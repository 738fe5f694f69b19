package termination_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func noteCodes(s *termination.ServerCertificate) string { return codes(s.Notes) }

func TestReadServerCertificate(t *testing.T) {
	root := tlstest.NewCA(tlstest.CN("Acme Root"))
	inter := root.Intermediate(tlstest.CN("Acme Issuing"))
	deep := inter.Intermediate(tlstest.CN("Acme Issuing 2"))
	leaf := deep.Server("api.example.com", tlstest.IP("192.0.2.1"))
	other := tlstest.NewCA(tlstest.CN("Nobody's"))
	rsa := root.Server("api.example.com", tlstest.RSA(2048))
	ed := root.Server("api.example.com", tlstest.Ed25519())
	direct := root.Server("api.example.com")
	chain := tlstest.ChainPEM(leaf.X509, deep.X509, inter.X509)
	reversed := tlstest.ChainPEM(root.X509, inter.X509, deep.X509, leaf.X509)
	now := time.Now()
	old := root.Server("api.example.com", tlstest.WithKey(direct.Key), tlstest.Expired())
	self := tlstest.SelfSigned(tlstest.DNS("api.example.com"))
	p7 := openssl(t, nil, "crl2pkcs7", "-nocrl", "-certfile", file(t, reversed), "-outform", "DER")
	encode := func(args ...string) []byte { return openssl(t, rsa.KeyPEM(), args...) }

	for _, c := range []struct {
		name      string
		cert, key []byte
		leaf      *tlstest.Cert
		length    int // of the chain
		notes     string
	}{
		{"leaf first", chain, leaf.KeyPEM(), leaf, 3, ""},
		{"reversed, with the root", reversed, leaf.KeyPEM(), leaf, 3, "left_out reordered"},
		{"PKCS#7", p7, leaf.KeyPEM(), leaf, 3, "left_out reordered"},
		{"PKCS#7 and DER key", p7, mustDecode(t, leaf.KeyPEM()), leaf, 3, "left_out reordered"},
		{"with what does not belong", join(chain, other.PEM()), leaf.KeyPEM(), leaf, 3, "left_out"},
		{"listed twice", join(chain, chain), leaf.KeyPEM(), leaf, 3, ""},
		{"one file, key last", join(chain, leaf.KeyPEM()), nil, leaf, 3, ""},
		{"one file, key first", join(leaf.KeyPEM(), chain), []byte(" \n"), leaf, 3, ""},
		{"one file, given twice", join(leaf.KeyPEM(), chain), join(leaf.KeyPEM(), chain), leaf, 3, ""},
		{"without its intermediates", leaf.PEM(), leaf.KeyPEM(), leaf, 1, "issuer_missing"},
		{"from the root, with the root", join(direct.PEM(), root.PEM()), direct.KeyPEM(), direct, 1, "left_out"},
		{"a broken block beside it", join(chain, []byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")), leaf.KeyPEM(), leaf, 3, "left_out"},
		{"DER and SEC1", direct.DER, sec1(t, direct), direct, 1, "issuer_missing"},
		{"SEC1 in PEM, after its parameters", direct.PEM(), join([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), block("EC PRIVATE KEY", sec1(t, direct))), direct, 1, "issuer_missing"},
		{"RSA, PKCS#8", rsa.PEM(), rsa.KeyPEM(), rsa, 1, "issuer_missing"},
		{"RSA, PKCS#1", rsa.PEM(), encode("rsa", "-traditional"), rsa, 1, "issuer_missing"},
		{"RSA, PKCS#1 in DER", rsa.PEM(), encode("rsa", "-traditional", "-outform", "DER"), rsa, 1, "issuer_missing"},
		{"key with CRLF", rsa.PEM(), swap(rsa.KeyPEM(), "\n", "\r\n"), rsa, 1, "issuer_missing"},
		{"key in UTF-16", rsa.PEM(), encodeUTF16(rsa.KeyPEM(), false), rsa, 1, "issuer_missing"},
		{"Ed25519", ed.PEM(), ed.KeyPEM(), ed, 1, "uncommon_key issuer_missing"},
		{"signed itself", self.PEM(), self.KeyPEM(), self, 1, ""},
		{"old and renewed with one key", join(old.PEM(), direct.PEM()), direct.KeyPEM(), direct, 1, "several_suitable issuer_missing"},
		{"renewed and old with one key", join(direct.PEM(), old.PEM()), direct.KeyPEM(), direct, 1, "several_suitable issuer_missing"},
		{"expired", old.PEM(), old.KeyPEM(), old, 1, "expired issuer_missing"},
	} {
		certBefore, keyBefore := string(c.cert), string(c.key)
		s, err := termination.ReadServerCertificate(c.cert, c.key, now)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !s.Chain[0].Equal(c.leaf.X509) || len(s.Chain) != c.length {
			t.Errorf("%s: a chain of %d that begins with %q", c.name, len(s.Chain), s.Chain[0].Subject)
		}
		for n := 1; n < len(s.Chain); n++ {
			if err := s.Chain[n-1].CheckSignatureFrom(s.Chain[n]); err != nil {
				t.Errorf("%s: link %d: %v", c.name, n, err)
			}
		}
		if got := noteCodes(s); got != c.notes {
			t.Errorf("%s: notes %q, want %q: %+v", c.name, got, c.notes, s.Notes)
		}
		if string(c.cert) != certBefore || string(c.key) != keyBefore {
			t.Errorf("%s: the caller's buffer was changed", c.name)
		}
		config := &termination.Config{Certificates: []termination.Certificate{s.Certificate("crt_1", "api", termination.OriginDashboard)}}
		if err := config.Validate(); err != nil {
			t.Errorf("%s: the configuration refuses it: %v", c.name, err)
		}
	}
	s, err := termination.ReadServerCertificate(chain, leaf.KeyPEM(), now)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Names, " "); got != "api.example.com 192.0.2.1" {
		t.Errorf("names %q", got)
	}
	if !s.Key.(*ecdsa.PrivateKey).Equal(leaf.Key) {
		t.Error("another key came out: it was wiped, or mixed up")
	}
}

func TestReadServerCertificateWarns(t *testing.T) {
	ca := tlstest.NewCA()
	now := time.Now()
	for _, c := range []struct {
		name string
		leaf *tlstest.Cert
		code termination.WarningCode
		says string
	}{
		{"common name only", ca.Leaf(tlstest.CN("api.example.com")), termination.WarnNoServerNames, "common name api.example.com is not looked at"},
		{"no names at all", ca.Leaf(tlstest.CN("")), termination.WarnNoServerNames, "no names"},
		{"for clients", ca.Client("alice", tlstest.DNS("a.example.com")), termination.WarnNotForServers, "serverAuth"},
		{"no digitalSignature", ca.Server("a.example.com", tlstest.NoDigitalSignature()), termination.WarnNotForServers, "digitalSignature"},
		{"a CA", ca.Server("a.example.com", tlstest.CATrue()), termination.WarnNotForServers, "CA:TRUE"},
		{"short key", ca.Server("a.example.com", tlstest.RSA(1024)), termination.WarnWeakKey, "1024 bits"},
		{"SHA-1", ca.Server("a.example.com", tlstest.SHA1ECDSA()), termination.WarnWeakSignature, "SHA1"},
		{"expired", ca.Server("a.example.com", tlstest.Expired()), termination.WarnExpired, "ended on"},
		{"not yet valid", ca.Server("a.example.com", tlstest.NotYetValid()), termination.WarnEarly, "not valid before"},
		{"ends soon", ca.Server("a.example.com", tlstest.Valid(now.AddDate(-1, 0, 0), now.AddDate(0, 0, 9).Add(time.Hour))), termination.WarnEndsSoon, "in 9 days"},
	} {
		s, err := termination.ReadServerCertificate(c.leaf.PEM(), c.leaf.KeyPEM(), now)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		found := false
		for _, n := range s.Notes {
			found = found || n.Code == c.code && strings.Contains(n.Text, c.says)
		}
		if !found {
			t.Errorf("%s: want %s that says %q, got %+v", c.name, c.code, c.says, s.Notes)
		}
	}
}

func TestReadServerCertificateRefuses(t *testing.T) {
	ca := tlstest.NewCA()
	leaf := ca.Server("api.example.com")
	other := ca.Server("other.example.com")
	rsa := ca.Server("api.example.com", tlstest.RSA(2048))
	p224 := ca.Server("api.example.com", tlstest.P224())
	p12 := openssl(t, nil, "pkcs12", "-export", "-in", file(t, join(leaf.PEM(), leaf.KeyPEM())), "-passout", "pass:x")
	encrypted := openssl(t, leaf.KeyPEM(), "pkcs8", "-topk8", "-passout", "pass:x")
	oldEncrypted := openssl(t, rsa.KeyPEM(), "rsa", "-traditional", "-aes128", "-passout", "pass:x")
	spki, err := x509.MarshalPKIXPublicKey(leaf.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := x509.MarshalPKCS8PrivateKey(exchange)
	if err != nil {
		t.Fatal(err)
	}
	v1 := ca.Server("api.example.com", tlstest.V1())
	dsa := append([]byte{0x30, 18}, bytes.Repeat([]byte{2, 1, 1}, 6)...)

	for _, c := range []struct {
		name      string
		cert, key []byte
		field     string
		says      string
	}{
		{"nothing", nil, nil, "cert_file", "empty"},
		{"no key", leaf.PEM(), nil, "key_file", "private key is missing"},
		{"no certificate", nil, leaf.KeyPEM(), "cert_file", "empty"},
		{"a key for the certificate", leaf.KeyPEM(), leaf.KeyPEM(), "cert_file", "private key and no certificate"},
		{"a certificate for the key", leaf.PEM(), leaf.PEM(), "key_file", "certificate and no private key"},
		{"another key", leaf.PEM(), other.KeyPEM(), "key_file", "does not belong"},
		{"a key of another kind", leaf.PEM(), rsa.KeyPEM(), "key_file", "the key (RSA 2048) does not belong"},
		{"two keys", leaf.PEM(), join(leaf.KeyPEM(), other.KeyPEM()), "key_file", "several private keys"},
		{"PKCS#12", p12, nil, "cert_file", "openssl pkcs12"},
		{"PKCS#12 as the key", leaf.PEM(), p12, "key_file", "openssl pkcs12"},
		{"encrypted key", leaf.PEM(), encrypted, "key_file", "openssl pkey"},
		{"encrypted key, DER", leaf.PEM(), mustDecode(t, encrypted), "key_file", "openssl pkey"},
		{"encrypted key, old", rsa.PEM(), oldEncrypted, "key_file", "openssl pkey"},
		{"encrypted key in one file", join(leaf.PEM(), encrypted), nil, "key_file", "decrypt it"},
		{"SSH key", leaf.PEM(), []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"), "key_file", "ssh-keygen"},
		{"public key", leaf.PEM(), block("PUBLIC KEY", spki), "key_file", "public key"},
		{"JWK", leaf.PEM(), []byte(`{"kty":"EC","d":"x"}`), "key_file", "cannot be read"},
		{"text as the key", leaf.PEM(), []byte("hello"), "key_file", "no private key"},
		{"damaged key", leaf.PEM(), swap(leaf.KeyPEM(), "MI", "M!"), "key_file", "line 2"},
		{"cut key", leaf.PEM(), leaf.KeyPEM()[:120], "key_file", "cut off"},
		{"nonsense as a key", leaf.PEM(), block("PRIVATE KEY", []byte{0x30, 3, 2, 1, 1}), "key_file", "no private key that is known"},
		{"a huge key", leaf.PEM(), block("PRIVATE KEY", make([]byte, 20<<10)), "key_file", "bytes"},
		{"DSA key", leaf.PEM(), dsa, "key_file", "DSA key"},
		{"a key that cannot sign", leaf.PEM(), block("PRIVATE KEY", x25519), "key_file", "cannot sign"},
		{"P-224", p224.PEM(), p224.KeyPEM(), "key_file", "P-224"},
		{"a request", block("CERTIFICATE REQUEST", csr(t)), leaf.KeyPEM(), "cert_file", "no CA has signed yet"},
		{"text", []byte("hello"), leaf.KeyPEM(), "cert_file", "BEGIN CERTIFICATE"},
		{"damaged certificate", swap(leaf.PEM(), "MI", "M!"), leaf.KeyPEM(), "cert_file", "line 2"},
		{"only an intermediate", ca.PEM(), leaf.KeyPEM(), "key_file", "does not belong"},
		{"version 1", v1.PEM(), v1.KeyPEM(), "cert_file", "version 1"},
	} {
		s, err := termination.ReadServerCertificate(c.cert, c.key, time.Now())
		var field termination.FieldError
		if !errors.As(err, &field) || field.Field != c.field || field.Advice == "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v (%v), want an error at %s that says %q", c.name, err, s, c.field, c.says)
		}
	}
	for name, c := range map[string]struct{ cert, key []byte }{
		"certificate": {make([]byte, 10<<20), leaf.KeyPEM()},
		"key":         {leaf.PEM(), make([]byte, 10<<20)},
	} {
		if _, err := termination.ReadServerCertificate(c.cert, c.key, time.Now()); !errors.Is(err, termination.ErrUploadTooLarge) {
			t.Errorf("10 MB as the %s: %v", name, err)
		}
	}
}

func FuzzReadServerCertificate(f *testing.F) {
	ca := tlstest.NewCA()
	leaf := ca.Server("api.example.com")
	rsa := ca.Server("api.example.com", tlstest.RSA(2048))
	f.Add(leaf.PEM(), leaf.KeyPEM())
	f.Add(leaf.DER, mustDecode(f, leaf.KeyPEM()))
	f.Add(rsa.ChainPEM(), rsa.KeyPEM())
	f.Add(rsa.PEM(), openssl(f, rsa.KeyPEM(), "rsa", "-traditional", "-outform", "DER"))
	f.Add(join(leaf.PEM(), ca.PEM(), leaf.KeyPEM()), []byte(nil))
	f.Add(leaf.PEM(), sec1(f, leaf))
	f.Add([]byte("-----BEGIN CERTIFICATE-----"), []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA"))
	now := time.Now()
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		s, err := termination.ReadServerCertificate(cert, key, now)
		if err != nil {
			if s != nil {
				t.Fatal("a value beside an error")
			}
			return
		}
		if len(s.Chain) == 0 || s.Key == nil {
			t.Fatal("no chain, or no key")
		}
		public, ok := s.Key.Public().(interface{ Equal(x crypto.PublicKey) bool })
		if !ok || !public.Equal(s.Chain[0].PublicKey) {
			t.Fatal("the key does not belong to the leaf")
		}
		for n := 1; n < len(s.Chain); n++ {
			if err := s.Chain[n].CheckSignature(s.Chain[n-1].SignatureAlgorithm, s.Chain[n-1].RawTBSCertificate, s.Chain[n-1].Signature); err != nil {
				t.Fatalf("link %d of the chain: %v", n, err)
			}
		}
	})
}
