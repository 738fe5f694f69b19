package unlock

import (
	"bytes"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/binary"
	"hash"
	"unicode/utf16"
)

// opener opens the encrypted parts of one file. The work that they demand is counted together, and each is refused before
// anything is spent on it.
type opener struct {
	passphrase string
	old        []byte // the passphrase as derive12 takes it
	left       int    // iterations
}

func newOpener(passphrase string) *opener {
	return &opener{passphrase: passphrase, old: bmpString(passphrase), left: maxIterations}
}

// bmpString encodes a passphrase as RFC 7292, appendix B.1, says.
func bmpString(s string) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		out = binary.BigEndian.AppendUint16(out, unit)
	}
	return append(out, 0, 0)
}

// pay takes iterations off what is left. None, as scrypt has them, are too many as well: no program writes that into PKCS#12.
func (o *opener) pay(iterations int) error {
	if iterations < 1 || iterations > o.left {
		return errTooCostly
	}
	o.left -= iterations
	return nil
}

// decrypt opens what is encrypted by PBES2, or by one of the ways that are PKCS#12's own.
func (o *opener) decrypt(e encryptedKey) ([]byte, error) {
	s, err := o.scheme(e.Algorithm)
	if err != nil {
		return nil, err
	}
	return decrypt(e, s, o.passphrase)
}

func (o *opener) scheme(a pkix.AlgorithmIdentifier) (*scheme, error) {
	s := &scheme{block: newRC2}
	switch a.Algorithm.String() { // RFC 7292, appendix C
	case "1.2.840.113549.1.12.1.3":
		s.size, s.block = 24, des.NewTripleDESCipher
	case "1.2.840.113549.1.12.1.5":
		s.size = 16
	case "1.2.840.113549.1.12.1.6":
		s.size = 5
	default:
		s, err := readScheme(a)
		if err == nil {
			err = o.pay(s.iterations)
		}
		return s, err
	}
	var p struct {
		Salt       []byte
		Iterations int
	}
	if !exactly(a.Parameters.FullBytes, &p) {
		return nil, errDamaged
	}
	if err := o.pay(p.Iterations); err != nil {
		return nil, err
	}
	s.derive = func(_ []byte, size int) ([]byte, error) {
		return derive12(sha1.New, o.old, p.Salt, 1, p.Iterations, size), nil
	}
	s.iv = derive12(sha1.New, o.old, p.Salt, 2, p.Iterations, 8)
	return s, nil
}

// macData is what shows that a PKCS#12 file is whole, and that a passphrase is its own (RFC 7292, section 4).
type macData struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Value     []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

// verify compares a MAC. A passphrase that is not the file's is [errPassphrase].
func (o *opener) verify(m *macData, content []byte) error {
	algorithm := m.Digest.Algorithm
	var newHash func() hash.Hash
	switch algorithm.Algorithm.String() {
	case "1.2.840.113549.1.5.14":
		return o.verifyPBMAC1(m, content)
	case "1.3.14.3.2.26":
		newHash = sha1.New
	case "2.16.840.1.101.3.4.2.4":
		newHash = sha256.New224
	case "2.16.840.1.101.3.4.2.1":
		newHash = sha256.New
	case "2.16.840.1.101.3.4.2.2":
		newHash = sha512.New384
	case "2.16.840.1.101.3.4.2.3":
		newHash = sha512.New
	default:
		return errDamaged
	}
	if err := o.pay(m.Iterations); err != nil {
		return err
	}
	fits := func() bool {
		key := derive12(newHash, o.old, m.Salt, 3, m.Iterations, newHash().Size())
		return hmac.Equal(m.Digest.Value, sum(newHash, key, content))
	}
	if fits() {
		return nil
	}
	if o.passphrase == "" { // for an empty one some programs leave its end out too
		if o.old = nil; fits() {
			return nil
		}
	}
	return errPassphrase
}

// verifyPBMAC1 is verify as RFC 9579 says.
func (o *opener) verifyPBMAC1(m *macData, content []byte) error {
	var p struct{ KDF, MAC pkix.AlgorithmIdentifier }
	if !exactly(m.Digest.Algorithm.Parameters.FullBytes, &p) || p.KDF.Algorithm.String() != oidPBKDF2 {
		return errDamaged
	}
	d, err := readPBKDF2(p.KDF.Parameters.FullBytes)
	if err != nil {
		return err
	}
	newHash, known := hmacHash(p.MAC.Algorithm)
	if !known || d.KeyLength < 20 || d.KeyLength > sha512.Size { // a short key lets others make MACs (RFC 9579, section 9)
		return errDamaged
	}
	if err := o.pay(d.Iterations); err != nil {
		return err
	}
	key, err := d.key([]byte(o.passphrase), d.KeyLength)
	if err != nil {
		return errDamaged
	}
	if !hmac.Equal(m.Digest.Value, sum(newHash, key, content)) {
		return errPassphrase
	}
	return nil
}

func sum(newHash func() hash.Hash, key, content []byte) []byte {
	mac := hmac.New(newHash, key)
	mac.Write(content)
	return mac.Sum(nil)
}

// derive12 makes a key (purpose 1), an initialisation vector (2) or the key of a MAC (3) as RFC 7292, appendix B.2, says.
func derive12(newHash func() hash.Hash, passphrase, salt []byte, purpose byte, iterations, size int) []byte {
	h := newHash()
	width := h.BlockSize()
	diversifier := bytes.Repeat([]byte{purpose}, width)
	blocks := append(repeated(salt, width), repeated(passphrase, width)...)
	var out []byte
	for len(out) < size {
		h.Reset()
		h.Write(diversifier)
		h.Write(blocks)
		a := h.Sum(nil)
		for range iterations - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		out = append(out, a...)
		b := repeated(a, width)
		for at := 0; at < len(blocks); at += width { // each block becomes itself and b and 1
			carry := 1
			for i := width - 1; i >= 0; i-- {
				carry += int(blocks[at+i]) + int(b[i])
				blocks[at+i] = byte(carry & 0xff)
				carry >>= 8
			}
		}
	}
	return out[:size]
}

// repeated repeats what is not empty until whole blocks are full.
func repeated(p []byte, width int) []byte {
	if len(p) == 0 {
		return nil
	}
	size := (len(p) + width - 1) / width * width
	return bytes.Repeat(p, size/len(p)+1)[:size]
}
