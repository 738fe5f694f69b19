package localca

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// Flavour says how a .p12 file is encrypted.
type Flavour string

// The two flavours of a .p12 file.
const (
	// FlavourModern is AES-256 under PBES2 with a SHA-256 MAC: OpenSSL 1.1.1 and later, curl, Firefox, Chromium,
	// Windows 10 and later, Java 12 and later.
	FlavourModern Flavour = "modern"
	// FlavourApple is 3DES with a SHA-1 MAC, the only one that the keychains of macOS and iOS read in all their
	// versions: to the modern one they say "wrong password". OpenSSL 3 reads it with -legacy alone. Its encryption is
	// weak; the password of [NewPassword] is what protects the file.
	FlavourApple Flavour = "apple"
)

// minPassword is the shortest password of a .p12 file: what the file is encrypted with can be tried offline.
const minPassword = 12

// p12Iterations of the key derivation and of the MAC, as OpenSSL writes and every reader accepts. The password of
// NewPassword has 123 bits and needs no stretching.
const p12Iterations = 2048

// CertificatePEM returns the chain, leaf first.
func (i *Issued) CertificatePEM() []byte { return EncodePEM(i.Chain...) }

// KeyPEM returns the private key, PKCS#8, not encrypted.
func (i *Issued) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		return nil, fmt.Errorf("marshal the private key: %w", err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// BundlePEM returns the chain and the private key in one file, as curl --cert takes it.
func (i *Issued) BundlePEM() ([]byte, error) {
	key, err := i.KeyPEM()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return append(i.CertificatePEM(), key...), nil
}

// P12 returns certificate and key as a .p12 file. The CA is not in it: importing it would make some systems ask whether
// to trust it.
func (i *Issued) P12(f Flavour, password string) ([]byte, error) {
	if len(password) < minPassword {
		return nil, fmt.Errorf("the password of a .p12 file needs at least %d characters: whoever has the file can try them all", minPassword)
	}
	var encoder *pkcs12.Encoder
	switch f {
	case FlavourModern:
		encoder = pkcs12.Modern2023.WithIterations(p12Iterations)
	case FlavourApple:
		encoder = pkcs12.LegacyDES.WithIterations(p12Iterations)
	default:
		return nil, fmt.Errorf("%q is no flavour of .p12 files: use %s or %s", f, FlavourModern, FlavourApple)
	}
	if len(i.Chain) == 0 || i.Key == nil {
		return nil, errors.New("write a .p12 file: certificate or key is missing")
	}
	data, err := encoder.Encode(i.Key, i.Leaf(), i.Chain[1:], password)
	if err != nil {
		return nil, fmt.Errorf("write a .p12 file: %w", err)
	}
	return data, nil
}

// EncodePEM returns the certificates one after another.
func EncodePEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// passwordLetters leave out what is easily confused: 0 and o, 1, l and i. All of them are safe in a shell and in the
// FILE:PASSWORD that curl takes.
const passwordLetters = "abcdefghjkmnpqrstuvwxyz23456789"

// NewPassword returns a password of five groups of five letters and digits, 123 random bits, to be read aloud or typed.
func NewPassword() string {
	var b strings.Builder
	var buf [1]byte
	// Values from limit on would favour the first letters.
	const limit = 256 - 256%len(passwordLetters)
	for n := 0; n < 25; {
		rand.Read(buf[:]) // crypto/rand.Read never fails since Go 1.24
		if int(buf[0]) >= limit {
			continue
		}
		if n > 0 && n%5 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(passwordLetters[int(buf[0])%len(passwordLetters)])
		n++
	}
	return b.String()
}
