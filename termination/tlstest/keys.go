package tlstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
)

type keyKind int

const (
	keyECDSA keyKind = iota
	keyRSA
	keyEd25519
)

type keyChoice struct {
	kind  keyKind
	bits  int
	curve elliptic.Curve
	given crypto.Signer
	fresh bool
}

type rsaSlot struct {
	bits       int
	commonName string
}

// rsaKeys keeps the RSA keys of this process; see RSA.
var rsaKeys sync.Map // rsaSlot to func() *rsa.PrivateKey

func (s *spec) makeKey() crypto.Signer {
	if s.key.given != nil {
		return s.key.given
	}
	switch s.key.kind {
	case keyRSA:
		if s.key.fresh {
			return newRSA(s.key.bits)
		}
		slot := rsaSlot{s.key.bits, s.template.Subject.CommonName}
		once, _ := rsaKeys.LoadOrStore(slot, sync.OnceValue(func() *rsa.PrivateKey { return newRSA(slot.bits) }))
		return once.(func() *rsa.PrivateKey)()
	case keyEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(fmt.Sprintf("tlstest: make an Ed25519 key: %v", err))
		}
		return key
	default:
		c := s.key.curve
		if c == nil {
			c = elliptic.P256()
		}
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			panic(fmt.Sprintf("tlstest: make an ECDSA key: %v", err))
		}
		return key
	}
}

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(fmt.Sprintf("tlstest: make an RSA key of %d bits: %v", bits, err))
	}
	return key
}
