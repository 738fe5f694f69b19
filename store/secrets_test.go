package store

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/termination/tlstest"
)

// traces returns the forms in which a private key could lie about.
func traces(t testing.TB, key crypto.Signer) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{"PKCS #8": der}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if out["scalar"], err = k.Bytes(); err != nil {
			t.Fatal(err)
		}
	case ed25519.PrivateKey:
		out["seed"] = k.Seed()
	case *rsa.PrivateKey:
		out["exponent"], out["prime"] = k.D.Bytes(), k.Primes[0].Bytes()
	}
	for name, b := range out {
		out[name+" in hex"] = []byte(hex.EncodeToString(b))
		out[name+" in base64"] = []byte(base64.StdEncoding.EncodeToString(b)[:40])
	}
	return out
}

// TestPrivateKeysAreNowhereInTheFiles looks into every file of an open store, write-ahead logs and shared memory
// included, before and after a key is deleted.
func TestPrivateKeysAreNowhereInTheFiles(t *testing.T) {
	s, _ := newStore(t)
	ca := tlstest.NewCA()
	leaves := []*tlstest.Cert{ca.Server("a.example"), ca.Server("b.example", tlstest.Ed25519()), ca.Server("c.example", tlstest.RSA(2048))}
	change(t, s, func(tx *Tx) error {
		if _, err := tx.CreateAuthority(authority("local", ca)); err != nil {
			return err
		}
		if err := tx.CreateLocalCA("local", ca.Key, false); err != nil {
			return err
		}
		for i, c := range leaves {
			if _, err := tx.CreateCertificate(certificate(string(rune('a'+i)), c), SourceUpload); err != nil {
				return err
			}
		}
		return nil
	})
	token, secret, err := s.CreateToken(context.Background(), rhea, "ci", ScopeAdmin)
	if err != nil {
		t.Fatal(err)
	}
	_, cookie, err := s.CreateSession(context.Background(), "rhea", "dashboard", time.Hour, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	link, err := s.CreateLink(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	hidden := map[string][]byte{"identity": []byte("AGE-SECRET-KEY-"), "token": []byte(secret), "cookie": []byte(cookie), "link": []byte(link)}
	for _, c := range append(leaves, ca) {
		for name, b := range traces(t, c.Key) {
			hidden[c.X509.Subject.CommonName+" "+name] = b
		}
	}
	search := func(when string) {
		entries, err := os.ReadDir(s.Dir())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() == keyFile {
				continue
			}
			content, err := os.ReadFile(filepath.Join(s.Dir(), e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if e.Name() == configurationFile+"-wal" && when == "saved" && !bytes.Contains(content, leaves[0].DER) && !bytes.Contains(content, []byte(token.Name)) {
				t.Error("the search does not even find what is public")
			}
			for name, b := range hidden {
				if bytes.Contains(content, b) {
					t.Errorf("%s: %s of %s", when, name, e.Name())
				}
			}
		}
	}
	search("saved")
	config := load(t, s)
	if len(config.Certificates) != 3 || len(config.LocalCAs) != 1 {
		t.Fatalf("%d certificates and %d local CAs came back", len(config.Certificates), len(config.LocalCAs))
	}
	change(t, s, func(tx *Tx) error { return errors.Join(tx.DeleteCertificate("a"), tx.DeleteLocalCA("local")) })
	search("deleted")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	search("closed")
}

// copyFile copies a file of one data directory to another.
func copyFile(t testing.TB, from, to, name string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCopyWithoutItsKeyFileIsUseless(t *testing.T) {
	dir := closedStore(t)
	stolen := t.TempDir()
	copyFile(t, dir, stolen, configurationFile)
	_, err := Open(context.Background(), stolen, testOptions(newClock()))
	if e, ok := errors.AsType[KeyFileError](err); !ok || !strings.Contains(e.Problem, "missing") {
		t.Fatalf("without a key file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(stolen, keyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("a new key file was made beside an old store")
	}
	copyFile(t, closedStore(t), stolen, keyFile)
	_, err = Open(context.Background(), stolen, testOptions(newClock()))
	if e, ok := errors.AsType[KeyFileError](err); !ok || !strings.Contains(e.Problem, "another store") {
		t.Fatalf("with another store's key file: %v", err)
	}
	copyFile(t, dir, stolen, keyFile)
	openIn(t, stolen, testOptions(newClock()))
}

func TestKeyFileThatCannotBeRead(t *testing.T) {
	for name, content := range map[string]string{
		"empty":        "",
		"text":         "Dear diary,\n",
		"broken key":   "AGE-SECRET-KEY-1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
		"large":        strings.Repeat("#\n", maxKeyFile),
		"broken armor": "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedStore(t)
			overwrite(t, filepath.Join(dir, keyFile), []byte(content))
			o := testOptions(newClock())
			if strings.HasPrefix(content, "-----") {
				o.Passphrase = "x"
			}
			_, err := Open(context.Background(), dir, o)
			if _, ok := errors.AsType[KeyFileError](err); !ok {
				t.Fatalf("got %v", err)
			}
			if content != "" && strings.Contains(err.Error(), "AAAA") {
				t.Errorf("the error quotes the key file: %v", err)
			}
		})
	}
}

func TestPassphraseProtectsTheKeyFile(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	open := func(passphrase string) (*Store, error) {
		o := testOptions(c)
		o.Passphrase = passphrase
		return Open(context.Background(), dir, o)
	}
	s, err := open("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	populate(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil || !bytes.HasPrefix(content, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
		t.Fatalf("the key file is not encrypted: %.40s, %v", content, err)
	}
	for passphrase, says := range map[string]string{"": "set COUNTERSIGN_PASSPHRASE", "battery staple": "does not open it"} {
		_, err := open(passphrase)
		if e, ok := errors.AsType[KeyFileError](err); !ok || !strings.Contains(e.Error(), says) {
			t.Errorf("passphrase %q: %v", passphrase, err)
		}
	}
	s, err = open("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if load(t, s).Certificate("site").Key == nil {
		t.Error("the key did not come back")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPassphraseIsPutOnAnOpenKeyFile(t *testing.T) {
	dir := closedStore(t)
	o := testOptions(newClock())
	o.Passphrase = "correct horse"
	s := openIn(t, dir, o)
	content, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil || bytes.Contains(content, []byte("AGE-SECRET-KEY-")) {
		t.Errorf("the key file still lies open (%v)", err)
	}
	if len(s.Warnings()) == 0 {
		t.Error("nobody is told that the passphrase is needed from now on")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openIn(t, dir, o)
}

func TestSwappedKeysAreNoticed(t *testing.T) {
	s, _ := newStore(t)
	populate(t, s)
	change(t, s, func(tx *Tx) error {
		_, err := tx.CreateCertificate(certificate("other", tlstest.NewCA().Server("other.example")), SourceUpload)
		return err
	})
	raw(t, s.config.path, "UPDATE certificates SET sealed_key = (SELECT sealed_key FROM certificates WHERE name = 'other')")
	config, problems, err := s.Load(context.Background())
	if err != nil || config.Certificate("site") != nil || config.Certificate("other") == nil {
		t.Errorf("certificates %v, %v", config.Certificates, err)
	}
	if len(problems) != 2 || problems[0].Kind != KindCertificate || problems[1].Kind != KindEndpoint || !strings.Contains(problems[0].Text, "does not belong") {
		t.Errorf("problems: %v", problems)
	}
	if e := config.Endpoint("api"); len(e.ClientAuth.Authorities) > 0 {
		t.Error("the endpoint lets clients in without its certificate")
	}
}

func TestUnknownKindOfKeyIsRefused(t *testing.T) {
	s, _ := newStore(t)
	leaf := tlstest.NewCA().Server("x.example")
	c := certificate("x", leaf)
	c.Key = opaque{leaf.Key}
	err := refuse(t, s, func(tx *Tx) error { _, err := tx.CreateCertificate(c, SourceUpload); return err })
	if !strings.Contains(err.Error(), "encode private key") {
		t.Errorf("got %v", err)
	}
}

// opaque is a key that lies elsewhere, as in a token of hardware.
type opaque struct{ crypto.Signer }
