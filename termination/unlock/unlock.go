// Package unlock reads server certificates whose key is under a passphrase: PKCS#12, encrypted PKCS#8 (PBES2) and OpenSSL's
// encrypted PEM of old. It turns them into plain PEM in memory, which package termination reads; what is not locked passes
// as it is. A passphrase is used and forgotten: it is in no error.
package unlock

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"countersign/termination"
)

// FieldPassphrase is the field of the errors about the passphrase.
const FieldPassphrase = "key_password"

const (
	// maxBlocks bounds the PEM blocks that are looked at.
	maxBlocks = 128
	// maxLocked bounds those among them that are under a passphrase, each of which may cost seconds: a key, or a PKCS#12 file.
	maxLocked = 2
	// maxPassphrase bounds a passphrase, in bytes.
	maxPassphrase = 1024
)

// ReadServerCertificate is [termination.ReadServerCertificate] for files that may be locked. A passphrase that is not needed is
// no error. The caller's buffers are left as they are.
func ReadServerCertificate(cert, key []byte, passphrase string, now time.Time) (*termination.ServerCertificate, error) {
	if err := checkPassphrase(passphrase); err != nil {
		return nil, err
	}
	openedCert, err := open(cert, passphrase, "cert_file")
	if err != nil {
		return nil, err
	}
	defer clear(openedCert)
	openedKey, err := open(key, passphrase, "key_file")
	if err != nil {
		return nil, err
	}
	defer clear(openedKey)
	return termination.ReadServerCertificate(openedCert, openedKey, now)
}

func problem(field, what, advice string) error {
	return termination.FieldError{Kind: "certificate", Field: field, Problem: what, Advice: advice}
}

// wrong says what to do about a passphrase that does not fit, or is missing.
func wrong(passphrase, what, check string) error {
	if passphrase == "" {
		return problem(FieldPassphrase, what+" is locked with a passphrase", "give the passphrase too")
	}
	return problem(FieldPassphrase, "the passphrase does not open "+what, "give the one that it was made with; to try one: "+check)
}

// checkPassphrase bounds a passphrase.
func checkPassphrase(passphrase string) error {
	if len(passphrase) > maxPassphrase {
		return problem(FieldPassphrase, "the passphrase is too long", fmt.Sprintf("give one of at most %d bytes", maxPassphrase))
	}
	return nil
}

// open returns a copy of data with everything in it unlocked.
func open(data []byte, passphrase, field string) ([]byte, error) {
	if len(data) > termination.MaxUpload {
		return bytes.Clone(data), nil // refused by its reader, with words
	}
	switch {
	case IsPKCS12(data):
		return openPKCS12(data, passphrase, field)
	case isEncryptedKey(data):
		return openPKCS8(data, passphrase, field)
	default:
		return openPEM(data, passphrase, field)
	}
}

// openPEM unlocks the locked blocks of PEM, and keeps all others. Where none is locked, the text stays as it is: its reader is
// more tolerant than this one.
func openPEM(data []byte, passphrase, field string) ([]byte, error) {
	var out []byte
	locked := 0
	rest := data
	for range maxBlocks {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		plain, err := openBlock(block, passphrase, field)
		if err != nil {
			clear(out)
			return nil, err
		}
		if plain == nil {
			plain = pem.EncodeToMemory(block)
		} else if locked++; locked > maxLocked {
			clear(out)
			clear(plain)
			return nil, problem(field, fmt.Sprintf("it holds more than %d parts that are locked with a passphrase", maxLocked), "give the key of this certificate alone")
		}
		grown := append(bytes.Clone(out), plain...)
		clear(out)
		clear(plain)
		out = grown
	}
	if locked == 0 {
		clear(out)
		return bytes.Clone(data), nil
	}
	return out, nil
}

// openBlock unlocks one block; nil where it is not locked.
func openBlock(block *pem.Block, passphrase, field string) ([]byte, error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return openPKCS8(block.Bytes, passphrase, field)
	case block.Type == "PKCS12" || block.Type == "PFX":
		return openPKCS12(block.Bytes, passphrase, field)
	case x509.IsEncryptedPEMBlock(block): //nolint:staticcheck // old files are what it is for
		if passphrase == "" {
			return nil, wrong("", "the key", "")
		}
		der, err := x509.DecryptPEMBlock(block, []byte(passphrase)) //nolint:staticcheck // likewise; there is no integrity to rely on
		if err == nil {
			defer clear(der)
			_, err = asn1.Unmarshal(der, &asn1.RawValue{})
		}
		if errors.Is(err, x509.IncorrectPasswordError) || errors.As(err, &asn1.StructuralError{}) || errors.As(err, &asn1.SyntaxError{}) {
			return nil, wrong(passphrase, "the key", "openssl pkey -in KEY -noout")
		}
		if err != nil {
			return nil, problem(field, "the key is encrypted in a way that is not known here", "convert it: openssl pkcs8 -topk8 -in KEY -out server.key")
		}
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
	}
	return nil, nil //nolint:nilnil // said above
}

// openPKCS8 unlocks an encrypted PKCS#8 key (RFC 5958, section 3).
func openPKCS8(der []byte, passphrase, field string) ([]byte, error) {
	var k encryptedKey
	var s *scheme
	err := errDamaged
	if exactly(der, &k) {
		s, err = readScheme(k.Algorithm)
	}
	if err == nil && passphrase == "" {
		return nil, wrong("", "the key", "")
	}
	var plain []byte
	if err == nil {
		plain, err = decrypt(k, s, passphrase)
	}
	switch {
	case errors.Is(err, errPassphrase):
		return nil, wrong(passphrase, "the key", "openssl pkey -in KEY -noout")
	case err != nil:
		return nil, problem(field, err.Error(), "copy it again, whole, or convert it: openssl pkcs8 -topk8 -v2 aes256 -in KEY -out server.key")
	}
	defer clear(plain)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}), nil
}
