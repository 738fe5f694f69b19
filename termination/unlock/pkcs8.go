package unlock

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/scrypt"
)

const (
	// maxIterations bounds the work that a key or a PKCS#12 file can demand: two seconds or so. OpenSSL makes 2048, careful people
	// 600000, thrice in a PKCS#12 file: for its key, its certificates and its MAC.
	maxIterations = 2_000_000
	// maxScrypt bounds N·r, and with it the memory, 128 bytes each: 64 MiB. OpenSSL makes 2^17.
	maxScrypt = 1 << 19
	// maxScryptRounds bounds p.
	maxScryptRounds = 4
)

var (
	errTooCostly  = errors.New("it demands more work to open than any honest file")
	errDamaged    = errors.New("the encrypted key is damaged or cut off")
	errPassphrase = errors.New("the passphrase does not fit")
)

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5958, section 3).
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// scheme is PBES2 with what a key has of it (RFC 8018, appendix A.4).
type scheme struct {
	derive func(passphrase []byte, size int) ([]byte, error)
	size   int // of the key, in bytes
	block  func(key []byte) (cipher.Block, error)
	iv     []byte

	iterations int // of PBKDF2; 0: it is scrypt that derives
}

// isEncryptedKey reports whether der is an encrypted PKCS#8 key.
func isEncryptedKey(der []byte) bool {
	var k encryptedKey
	rest, err := asn1.Unmarshal(der, &k)
	return err == nil && len(rest) == 0
}

// readScheme reads how a key is encrypted, and refuses what is not known or would cost too much before anything is spent
// on it.
func readScheme(a pkix.AlgorithmIdentifier) (*scheme, error) {
	if !a.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}) {
		return nil, fmt.Errorf("the key is encrypted in an old way (%s) that is not known here", a.Algorithm)
	}
	var params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	if !exactly(a.Parameters.FullBytes, &params) {
		return nil, errDamaged
	}
	s, err := readCipher(params.Cipher)
	if err != nil {
		return nil, err
	}
	switch params.KDF.Algorithm.String() {
	case oidPBKDF2:
		var d *pbkdf2Params
		if d, err = readPBKDF2(params.KDF.Parameters.FullBytes); err == nil {
			s.derive, s.iterations = d.key, d.Iterations
		}
	case "1.3.6.1.4.1.11591.4.11":
		s.derive, err = readScrypt(params.KDF.Parameters.FullBytes)
	default:
		err = fmt.Errorf("its key is derived in a way (%s) that is not known here", params.KDF.Algorithm)
	}
	return s, err
}

func exactly(der []byte, into any) bool {
	rest, err := asn1.Unmarshal(der, into)
	return err == nil && len(rest) == 0
}

// readCipher reads the encryption scheme: AES or triple DES in CBC mode.
func readCipher(a pkix.AlgorithmIdentifier) (*scheme, error) {
	s := &scheme{block: aes.NewCipher}
	switch a.Algorithm.String() {
	case "2.16.840.1.101.3.4.1.2":
		s.size = 16
	case "2.16.840.1.101.3.4.1.22":
		s.size = 24
	case "2.16.840.1.101.3.4.1.42":
		s.size = 32
	case "1.2.840.113549.3.7":
		s.size, s.block = 24, des.NewTripleDESCipher
	default:
		return nil, fmt.Errorf("it is encrypted with an algorithm (%s) that is not known here", a.Algorithm)
	}
	if !exactly(a.Parameters.FullBytes, &s.iv) {
		return nil, errDamaged
	}
	return s, nil
}

// oidPBKDF2 names PBKDF2 as a way to derive keys (RFC 8018, appendix C).
const oidPBKDF2 = "1.2.840.113549.1.5.12"

// pbkdf2Params is PBKDF2-params (RFC 8018, appendix A.2).
type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

func readPBKDF2(der []byte) (*pbkdf2Params, error) {
	var p pbkdf2Params
	if !exactly(der, &p) {
		return nil, errDamaged
	}
	if p.Iterations < 1 || p.Iterations > maxIterations {
		return nil, errTooCostly
	}
	if _, known := hmacHash(p.PRF.Algorithm); !known {
		return nil, fmt.Errorf("its key is derived with an algorithm (%s) that is not known here", p.PRF.Algorithm)
	}
	return &p, nil
}

func (p *pbkdf2Params) key(passphrase []byte, size int) ([]byte, error) {
	h, _ := hmacHash(p.PRF.Algorithm)
	return pbkdf2.Key(h, string(passphrase), p.Salt, p.Iterations, size)
}

// hmacHash returns the hash of an HMAC (RFC 8018, appendix B.1.2).
func hmacHash(id asn1.ObjectIdentifier) (newHash func() hash.Hash, known bool) {
	switch id.String() {
	case "", "1.2.840.113549.2.7": // the default
		return sha1.New, true
	case "1.2.840.113549.2.8":
		return sha256.New224, true
	case "1.2.840.113549.2.9":
		return sha256.New, true
	case "1.2.840.113549.2.10":
		return sha512.New384, true
	case "1.2.840.113549.2.11":
		return sha512.New, true
	}
	return nil, false
}

// readScrypt reads the parameters of RFC 7914, section 7.
func readScrypt(der []byte) (func([]byte, int) ([]byte, error), error) {
	var p struct {
		Salt      []byte
		N, R, P   int
		KeyLength int `asn1:"optional"`
	}
	if !exactly(der, &p) {
		return nil, errDamaged
	}
	if p.N < 2 || p.R < 1 || p.P < 1 || p.N > maxScrypt || p.R > maxScrypt || p.N*p.R > maxScrypt || p.P > maxScryptRounds {
		return nil, errTooCostly
	}
	return func(passphrase []byte, size int) ([]byte, error) {
		return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
	}, nil
}

// decrypt returns the PKCS#8 key in an encrypted one. A passphrase that is wrong is [errPassphrase]: it shows in the padding, or
// in what comes out being no DER.
func decrypt(k encryptedKey, s *scheme, passphrase string) ([]byte, error) {
	key, err := s.derive([]byte(passphrase), s.size)
	if err != nil {
		return nil, errDamaged
	}
	defer clear(key)
	block, err := s.block(key)
	if err != nil || len(s.iv) != block.BlockSize() || len(k.Data) == 0 || len(k.Data)%block.BlockSize() != 0 {
		return nil, errDamaged
	}
	plain := make([]byte, len(k.Data))
	cipher.NewCBCDecrypter(block, s.iv).CryptBlocks(plain, k.Data)
	padding := int(plain[len(plain)-1])
	var e asn1.RawValue
	if padding < 1 || padding > block.BlockSize() || !bytes.Equal(plain[len(plain)-padding:], bytes.Repeat(plain[len(plain)-1:], padding)) ||
		!exactly(plain[:len(plain)-padding], &e) {
		clear(plain)
		return nil, errPassphrase
	}
	return plain[:len(plain)-padding], nil
}
