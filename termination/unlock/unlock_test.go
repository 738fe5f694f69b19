package unlock_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
	"countersign/termination/unlock"
)

const secret = "correct horse ✓"

// files are what a person makes with openssl, with a key under a passphrase.
type files struct {
	t   *testing.T
	dir string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) openssl(args ...string) {
	f.t.Helper()
	if out, err := exec.CommandContext(f.t.Context(), "openssl", args...).CombinedOutput(); err != nil {
		f.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (f files) read(name string) []byte {
	f.t.Helper()
	data, err := os.ReadFile(f.path(name))
	if err != nil {
		f.t.Fatal(err)
	}
	return data
}

func (f files) write(name string, data []byte) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), data, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func TestUnlock(t *testing.T) {
	f := files{t, t.TempDir()}
	root := tlstest.NewCA()
	inter := root.Intermediate()
	ecdsa, rsa, ed := inter.Server("a.test"), inter.Server("a.test", tlstest.RSA(2048)), inter.Server("a.test", tlstest.Ed25519())
	f.write("inter.pem", inter.PEM())
	pass := "pass:" + secret
	type made struct {
		cert *tlstest.Cert
		args []string
	}
	keys := map[string]made{}
	for kind, c := range map[string]*tlstest.Cert{"ec": ecdsa, "rsa": rsa, "ed": ed} {
		f.write(kind+".key", c.KeyPEM())
		f.write(kind+".pem", c.PEM())
		in := []string{"pkcs8", "-topk8", "-in", f.path(kind + ".key"), "-passout", pass}
		keys[kind+"-aes256.key"] = made{c, append(in, "-v2", "aes-256-cbc")}
		keys[kind+"-sha512.key"] = made{c, append(in, "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-iter", "10000")}
		keys[kind+"-3des.key"] = made{c, append(in, "-v2", "des3")}
		keys[kind+"-scrypt.key"] = made{c, append(in, "-scrypt")}
		keys[kind+"-der.key"] = made{c, append(in, "-v2", "aes-256-cbc", "-outform", "DER")}
	}
	keys["ec-old.key"] = made{ecdsa, []string{"ec", "-in", f.path("ec.key"), "-aes128", "-passout", pass}}
	keys["rsa-old.key"] = made{rsa, []string{"rsa", "-in", f.path("rsa.key"), "-traditional", "-aes256", "-passout", pass}}
	for name, m := range keys {
		f.openssl(append(m.args, "-out", f.path(name))...)
		chain := append(m.cert.PEM(), inter.PEM()...)
		f.check(name, chain, f.read(name), m.cert, "key_file")
		if !strings.Contains(name, "-der") {
			f.check(name+" in one file", append(f.read(name), chain...), nil, m.cert, "key_file")
		}
	}
	for name, args := range map[string][]string{
		"modern.p12":  nil,
		"legacy.p12":  {"-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"},
		"old-rc2.p12": {"-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"},
	} {
		for kind, c := range map[string]*tlstest.Cert{"ec": ecdsa, "rsa": rsa} {
			out := kind + name
			f.openssl(append([]string{"pkcs12", "-export", "-inkey", f.path(kind + ".key"), "-in", f.path(kind + ".pem"), "-certfile", f.path("inter.pem"), "-passout", pass, "-out", f.path(out)}, args...)...)
			f.check(out, f.read(out), nil, c, "cert_file")
			f.check(out+" as both", f.read(out), f.read(out), c, "cert_file")
			f.check(out+" as the key", append(inter.PEM(), c.PEM()...), f.read(out), c, "key_file")
		}
	}
}

// check opens with the passphrase, and reads why not without it and with another.
func (f files) check(what string, cert, key []byte, want *tlstest.Cert, _ string) {
	f.t.Helper()
	before := bytes.Clone(key)
	read, err := unlock.ReadServerCertificate(cert, key, secret, time.Now())
	if err != nil {
		f.t.Errorf("%s: %v", what, err)
		return
	}
	if len(read.Chain) != 2 || !read.Chain[0].Equal(want.X509) || !bytes.Equal(key, before) {
		f.t.Errorf("%s: %d certificates", what, len(read.Chain))
	}
	for passphrase, says := range map[string]string{"": "is locked with a passphrase; give the passphrase too", "battery staple": "the passphrase does not open"} {
		_, err := unlock.ReadServerCertificate(cert, key, passphrase, time.Now())
		field, ok := errors.AsType[termination.FieldError](err)
		if !ok || field.Field != unlock.FieldPassphrase || !strings.Contains(err.Error(), says) || passphrase != "" && strings.Contains(err.Error(), passphrase) {
			f.t.Errorf("%s with %q: %v", what, passphrase, err)
		}
	}
}

// What is not locked passes as it is, with or without a passphrase, whatever else the text holds.
func TestNothingToUnlock(t *testing.T) {
	leaf := tlstest.NewCA().Server("a.test")
	odd := append([]byte("\ufeffDear all,\r\nhere it is:\r\n"), bytes.ReplaceAll(append(leaf.PEM(), leaf.KeyPEM()...), []byte("\n"), []byte("\r\n"))...)
	for _, passphrase := range []string{"", secret} {
		for what, files := range map[string][2][]byte{"one file": {odd}, "two files": {leaf.PEM(), leaf.KeyPEM()}, "DER": {leaf.X509.Raw, leaf.KeyPEM()}} {
			if _, err := unlock.ReadServerCertificate(files[0], files[1], passphrase, time.Now()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if _, err := unlock.ReadServerCertificate(leaf.PEM(), leaf.KeyPEM(), strings.Repeat("x", 2000), time.Now()); err == nil {
		t.Error("a passphrase of any length")
	}
}

// A file cannot make its reader work for hours.
func TestCostlyFiles(t *testing.T) {
	f := files{t, t.TempDir()}
	leaf := tlstest.NewCA().Server("a.test")
	f.write("a.key", leaf.KeyPEM())
	f.write("a.pem", leaf.PEM())
	oid := func(n ...int) asn1.ObjectIdentifier { return n }
	locked := func(kdf asn1.ObjectIdentifier, kdfParams any) []byte {
		raw := func(v any) asn1.RawValue {
			der, err := asn1.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return asn1.RawValue{FullBytes: der}
		}
		params := struct{ KDF, Cipher pkix.AlgorithmIdentifier }{
			pkix.AlgorithmIdentifier{Algorithm: kdf, Parameters: raw(kdfParams)},
			pkix.AlgorithmIdentifier{Algorithm: oid(2, 16, 840, 1, 101, 3, 4, 1, 42), Parameters: raw(make([]byte, 16))},
		}
		der, err := asn1.Marshal(struct {
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte
		}{pkix.AlgorithmIdentifier{Algorithm: oid(1, 2, 840, 113549, 1, 5, 13), Parameters: raw(params)}, make([]byte, 48)})
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
	}
	type pbkdf2 struct {
		Salt       []byte
		Iterations int
	}
	type scrypt struct {
		Salt    []byte
		N, R, P int
	}
	salt := make([]byte, 8)
	kdf2, kdfS := oid(1, 2, 840, 113549, 1, 5, 12), oid(1, 3, 6, 1, 4, 1, 11591, 4, 11)
	f.openssl("pkcs12", "-export", "-inkey", f.path("a.key"), "-in", f.path("a.pem"), "-iter", "2100000", "-nomaciter", "-passout", "pass:"+secret, "-out", f.path("b.p12"))
	for what, file := range map[string][]byte{
		"PBKDF2":                 locked(kdf2, pbkdf2{salt, 2_000_001}),
		"PBKDF2 beyond numbers":  locked(kdf2, pbkdf2{salt, 1 << 60}),
		"PBKDF2 below zero":      locked(kdf2, pbkdf2{salt, -1}),
		"scrypt, memory":         locked(kdfS, scrypt{salt, 1 << 30, 8, 1}),
		"scrypt, block size":     locked(kdfS, scrypt{salt, 2, 1 << 30, 1}),
		"scrypt, overflow":       locked(kdfS, scrypt{salt, 1 << 40, 1 << 40, 1}),
		"scrypt, rounds":         locked(kdfS, scrypt{salt, 1 << 14, 8, 1 << 30}),
		"PKCS#12":                f.read("b.p12"),
		"an old way (PBES1 MD5)": append([]byte(nil), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: pbes1(t)})...),
	} {
		_, err := unlock.ReadServerCertificate(leaf.PEM(), file, secret, time.Now())
		if err == nil || !strings.Contains(err.Error(), "more work") && !strings.Contains(err.Error(), "old way") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Nor can it by many keys, each of which is cheap enough by itself.
func TestManyLockedKeys(t *testing.T) {
	f := files{t, t.TempDir()}
	leaf := tlstest.NewCA().Server("a.test")
	f.write("a.key", leaf.KeyPEM())
	f.openssl("pkcs8", "-topk8", "-in", f.path("a.key"), "-passout", "pass:"+secret, "-v2", "aes-256-cbc", "-out", f.path("locked.key"))
	_, err := unlock.ReadServerCertificate(leaf.PEM(), bytes.Repeat(f.read("locked.key"), 3), secret, time.Now())
	field, ok := errors.AsType[termination.FieldError](err)
	if !ok || field.Field != "key_file" || !strings.Contains(err.Error(), "locked with a passphrase; give the key of this certificate alone") {
		t.Errorf("three locked keys: %v", err)
	}
}

func pbes1(t *testing.T) []byte {
	t.Helper()
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 3}}, make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func FuzzUnlock(f *testing.F) {
	leaf := tlstest.NewCA().Server("a.test")
	f.Add(leaf.PEM(), leaf.KeyPEM())
	f.Add([]byte("\x30\x03\x02\x01\x03"), []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Add([]byte{}, []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	h := hand{f}
	f.Add(h.file(1, h.encrypted(4, 1, h.certificate(leaf), h.key(leaf, 1))), []byte{})
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		read, err := unlock.ReadServerCertificate(cert, key, "x", time.Now())
		if (read == nil) == (err == nil) {
			t.Error(fmt.Sprint(read, err))
		}
	})
}
