package unlock_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"countersign/termination/tlstest"
	"countersign/termination/unlock"
)

// hand makes PKCS#12 files by hand, as no program would.
type hand struct{ testing.TB }

// der encodes a value.
func (h hand) der(v any) []byte {
	h.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		h.Fatal(err)
	}
	return der
}

func (h hand) raw(v any) asn1.RawValue { return asn1.RawValue{FullBytes: h.der(v)} }

func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der}
}

func rsaLabs(last ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113549, 1}, last...)
}

type locked struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// salt is what the salt of a derivation begins with: 4 is an OCTET STRING, 0x84 only looks like one to a careless reader.
func (h hand) derivation(salt byte, iterations int) pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: rsaLabs(5, 12), Parameters: h.raw(struct {
		Salt                  asn1.RawValue
		Iterations, KeyLength int
		PRF                   pkix.AlgorithmIdentifier
	}{asn1.RawValue{FullBytes: append([]byte{salt, 8}, "saltsalt"...)}, iterations, 32, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}}})}
}

// derived is a key, made with fewer iterations where nobody will count that far.
func (h hand) derived(iterations int) []byte {
	h.Helper()
	if iterations < 1 || iterations > 2_000_000 {
		iterations = 1
	}
	key, err := pbkdf2.Key(sha256.New, secret, []byte("saltsalt"), iterations, 32)
	if err != nil {
		h.Fatal(err)
	}
	return key
}

func (h hand) lock(plain []byte, salt byte, iterations int) locked {
	h.Helper()
	block, err := aes.NewCipher(h.derived(iterations))
	if err != nil {
		h.Fatal(err)
	}
	n := aes.BlockSize - len(plain)%aes.BlockSize
	out := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
	iv := make([]byte, aes.BlockSize)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	return locked{pkix.AlgorithmIdentifier{Algorithm: rsaLabs(5, 13), Parameters: h.raw(struct{ KDF, Cipher pkix.AlgorithmIdentifier }{
		h.derivation(salt, iterations), pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, Parameters: h.raw(iv)},
	})}, out}
}

type bag struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

func (h hand) certificate(c *tlstest.Cert) bag {
	return bag{rsaLabs(12, 10, 1, 3), explicit(h.der(struct {
		Type asn1.ObjectIdentifier
		Data asn1.RawValue
	}{rsaLabs(9, 22, 1), explicit(h.der(c.X509.Raw))}))}
}

func (h hand) key(c *tlstest.Cert, iterations int) bag {
	block, _ := pem.Decode(c.KeyPEM())
	return bag{rsaLabs(12, 10, 1, 2), explicit(h.der(h.lock(block.Bytes, 4, iterations)))}
}

type part struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue
}

func (h hand) plain(bags ...bag) part { return part{rsaLabs(7, 1), explicit(h.der(h.der(bags)))} }

func (h hand) encrypted(salt byte, iterations int, bags ...bag) part {
	l := h.lock(h.der(bags), salt, iterations)
	type info struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte `asn1:"tag:0"`
	}
	return part{rsaLabs(7, 6), explicit(h.der(struct {
		Version int
		Info    info
	}{0, info{rsaLabs(7, 1), l.Algorithm, l.Data}}))}
}

// file puts a file together under a MAC of RFC 9579 that holds.
func (h hand) file(iterations int, parts ...part) []byte {
	h.Helper()
	safe := h.der(parts)
	mac := hmac.New(sha256.New, h.derived(iterations))
	mac.Write(safe)
	type digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Value     []byte
	}
	type macData struct {
		Digest digest
		Salt   []byte
	}
	algorithm := pkix.AlgorithmIdentifier{Algorithm: rsaLabs(5, 14), Parameters: h.raw(struct{ KDF, MAC pkix.AlgorithmIdentifier }{
		h.derivation(4, iterations), pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}},
	})}
	return h.der(struct {
		Version int
		Safe    part
		MAC     macData
	}{3, part{rsaLabs(7, 1), explicit(h.der(safe))}, macData{digest{algorithm, mac.Sum(nil)}, []byte("saltsalt")}})
}

// What a PKCS#12 file demands is counted together, wherever it comes to light: in the clear, in a part that is encrypted, and in
// a key within such a part.
func TestCostlyPKCS12(t *testing.T) {
	h, root := hand{t}, tlstest.NewCA()
	c := root.Client("billing-batch")
	const most = 2_000_000
	for _, test := range []struct {
		what         string
		file         []byte
		whole, chain string // what the errors say; empty: none
	}{
		{"honest", h.file(1000, h.encrypted(4, 1000, h.certificate(c)), h.plain(h.key(c, 1000))), "", ""},
		{"a key in the encrypted part", h.file(1000, h.encrypted(4, 1000, h.certificate(c), h.key(c, 1000))), "", ""},
		{"a costly key in the encrypted part", h.file(1000, h.encrypted(4, 1000, h.certificate(c), h.key(c, 1<<40))), "more work", ""},
		{"a costly key", h.file(1000, h.encrypted(4, 1000, h.certificate(c)), h.plain(h.key(c, most+1))), "more work", ""},
		{"together", h.file(1000, h.encrypted(4, 1000, h.certificate(c)), h.plain(h.key(c, most-1999))), "more work", ""},
		{"a costly part", h.file(1000, h.encrypted(4, most, h.certificate(c)), h.plain(h.key(c, 1))), "more work", "more work"},
		{"a costly MAC", h.file(1<<40, h.plain(h.certificate(c), h.key(c, 1))), "more work", "more work"},
		{"no iterations", h.file(0, h.plain(h.certificate(c), h.key(c, 1))), "more work", "more work"},
		{"fewer than none", h.file(-1, h.plain(h.certificate(c), h.key(c, 1))), "more work", "more work"},
		{"a salt that is none", h.file(1, h.encrypted(0x84, 1<<40, h.certificate(c)), h.plain(h.key(c, 1))), "cannot be read", "cannot be read"},
		{"two keys", h.file(1, h.plain(h.certificate(c), h.key(c, 1), h.key(c, 1))), "cannot be read", ""},
		{"no key", h.file(1, h.plain(h.certificate(c))), "cannot be read", ""},
		{"no certificate", h.file(1, h.plain(h.key(c, 1))), "cannot be read", "cannot be read"},
		{"65 certificates", h.file(1, h.plain(append(slices.Repeat([]bag{h.certificate(c)}, 65), h.key(c, 1))...)), "cannot be read", "cannot be read"},
	} {
		start := time.Now()
		_, err := unlock.PKCS12(test.file, secret)
		if says(err) != test.whole && (test.whole == "" || !strings.Contains(says(err), test.whole)) {
			t.Errorf("%s: %v", test.what, err)
		}
		_, err = unlock.Certificates(test.file, secret)
		if says(err) != test.chain && (test.chain == "" || !strings.Contains(says(err), test.chain)) {
			t.Errorf("%s, its certificates: %v", test.what, err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: %s", test.what, took)
		}
	}
}

func says(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A file that was changed after it was made is not opened, whatever its passphrase.
func TestPKCS12IsWhole(t *testing.T) {
	h, root := hand{t}, tlstest.NewCA()
	c := root.Client("billing-batch")
	file := h.file(1000, h.plain(h.certificate(c), h.key(c, 1000)))
	at := bytes.Index(file, c.X509.Raw)
	file[at+len(c.X509.Raw)-1] ^= 1
	if _, err := unlock.Certificates(file, secret); err == nil || !strings.Contains(err.Error(), "does not open") {
		t.Errorf("a changed file: %v", err)
	}
}

// What go-pkcs12 writes is read, in every way that it knows, and the key's own certificate is the first.
func TestPKCS12OfOthers(t *testing.T) {
	root := tlstest.NewCA()
	inter := root.Intermediate()
	c := inter.Client("billing-batch")
	for name, encoder := range map[string]*pkcs12.Encoder{
		"RC2": pkcs12.LegacyRC2, "triple DES": pkcs12.LegacyDES, "2023": pkcs12.Modern2023, "2026": pkcs12.Modern2026,
	} {
		for _, passphrase := range []string{secret, ""} {
			file, err := encoder.Encode(c.Key, inter.X509, []*x509.Certificate{c.X509}, passphrase)
			if err != nil {
				t.Fatal(name, err)
			}
			opened, err := unlock.PKCS12(file, passphrase)
			if err != nil {
				t.Errorf("%s under %q: %v", name, passphrase, err)
				continue
			}
			var found [][]byte
			for rest := opened; ; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				found = append(found, block.Bytes)
			}
			if len(found) != 3 || !bytes.Equal(found[1], c.X509.Raw) || !bytes.Equal(found[2], inter.X509.Raw) {
				t.Errorf("%s under %q: %d blocks", name, passphrase, len(found))
			}
			if store, err := encoder.EncodeTrustStore([]*x509.Certificate{root.X509, inter.X509}, passphrase); err != nil {
				t.Fatal(name, err)
			} else if held, err := unlock.Certificates(store, passphrase); err != nil || len(held) != 2 {
				t.Errorf("a trust store, %s under %q: %d, %v", name, passphrase, len(held), err)
			}
		}
	}
	bare, err := pkcs12.Passwordless.Encode(c.Key, c.X509, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if held, err := unlock.Certificates(bare, ""); err != nil || len(held) != 1 {
		t.Errorf("without a MAC: %v", err)
	}
	if _, err := unlock.Certificates(bare, secret); err == nil {
		t.Error("without a MAC, any passphrase fits")
	}
}
