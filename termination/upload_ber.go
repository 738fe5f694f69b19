package termination

import (
	"bytes"
	"errors"
)

// This file reads just enough of BER (X.690) to tell by its shape what a binary thing is, and to take certificates out
// of PKCS#7 bundles, which some CAs write with indefinite lengths. Certificates themselves are parsed by crypto/x509.

const (
	tagInteger     = 0x02
	tagBitString   = 0x03
	tagOctetString = 0x04
	tagOID         = 0x06
	tagUTCTime     = 0x17
	tagGeneralTime = 0x18
	tagSequence    = 0x30
	tagSet         = 0x31
	tagContext0    = 0xa0 // [0], constructed
	tagContext1    = 0xa1

	maxBERDepth = 32
)

var (
	errBER    = errors.New("not BER")
	errBERCut = errors.New("cut off")
)

// berElement is one element of BER: tag, value, and the bytes of the whole.
type berElement struct {
	tag  byte
	body []byte
	raw  []byte
	size int // of the whole as its header tells; more than len(raw) when it is cut off, 0 when unknown
}

// readBER reads the first element of data and returns what comes after it. Of an element that is cut off it returns
// what the header says, and errBERCut.
func readBER(data []byte) (berElement, []byte, error) { return readBERAt(data, 0) }

func readBERAt(data []byte, depth int) (berElement, []byte, error) {
	var e berElement
	if depth > maxBERDepth {
		return e, nil, errBER
	}
	if len(data) < 2 {
		return e, nil, errBERCut
	}
	e.tag = data[0]
	if e.tag&0x1f == 0x1f {
		return e, nil, errBER // no format read here has tags above 30
	}
	length, header := int(data[1]), 2
	switch {
	case length == 0x80:
		return readIndefinite(data, e, depth)
	case length > 0x80:
		n := length & 0x7f
		if n > 4 {
			return e, nil, errBER
		}
		if len(data) < 2+n {
			return e, nil, errBERCut
		}
		length = 0
		for _, b := range data[2 : 2+n] {
			length = length<<8 | int(b)
		}
		header += n
	}
	if length < 0 || length > 1<<30 {
		return e, nil, errBER
	}
	e.size = header + length
	if e.size > len(data) {
		return e, nil, errBERCut
	}
	e.body, e.raw = data[header:e.size], data[:e.size]
	return e, data[e.size:], nil
}

// readIndefinite reads an element that ends with two zero bytes in place of a length (X.690, section 8.1.3.6).
func readIndefinite(data []byte, e berElement, depth int) (berElement, []byte, error) {
	if e.tag&0x20 == 0 {
		return e, nil, errBER // primitive elements have definite lengths
	}
	rest := data[2:]
	for {
		if len(rest) < 2 {
			return e, nil, errBERCut
		}
		if rest[0] == 0 && rest[1] == 0 {
			end := len(data) - len(rest)
			e.body, e.raw, e.size = data[2:end], data[:end+2], end+2
			return e, rest[2:], nil
		}
		var err error
		if _, rest, err = readBERAt(rest, depth+1); err != nil {
			return e, nil, err
		}
	}
}

// children returns the elements inside e, at most limit of them, and whether all of e was read.
func (e berElement) children(limit int) ([]berElement, bool) {
	var out []berElement
	rest := e.body
	for len(rest) > 0 && len(out) < limit {
		var c berElement
		var err error
		if c, rest, err = readBER(rest); err != nil {
			return out, false
		}
		out = append(out, c)
	}
	return out, len(rest) == 0
}

// derShape says what a DER or BER element looks like, without trusting it.
type derShape string

const (
	shapeUnknown      derShape = "unknown"
	shapeCertificate  derShape = "certificate"
	shapeRequest      derShape = "request"
	shapeCRL          derShape = "crl"
	shapePKCS1        derShape = "pkcs1" // RSA private key
	shapePKCS8        derShape = "pkcs8"
	shapeSEC1         derShape = "sec1" // EC private key
	shapeDSA          derShape = "dsa"  // DSA private key
	shapeEncryptedKey derShape = "encrypted_pkcs8"
	shapePKCS7        derShape = "pkcs7"
	shapePKCS12       derShape = "pkcs12"
	shapePublicKey    derShape = "public_key"
)

func (s derShape) privateKey() bool {
	switch s {
	case shapePKCS1, shapePKCS8, shapeSEC1, shapeDSA, shapeEncryptedKey:
		return true
	default:
		return false
	}
}

// oidPKCS7 is the prefix 1.2.840.113549.1.7 of PKCS#7 content types.
var oidPKCS7 = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07}

func isPKCS7Type(e berElement) bool {
	return e.tag == tagOID && len(e.body) == len(oidPKCS7)+1 && bytes.HasPrefix(e.body, oidPKCS7)
}

// shapeOf looks at tags only: what a thing is must be known before deciding whether to parse it, since private keys
// are not to be parsed.
func shapeOf(e berElement) derShape {
	if e.tag != tagSequence {
		return shapeUnknown
	}
	top, _ := e.children(10)
	tag := func(i int) byte {
		if i < len(top) {
			return top[i].tag
		}
		return 0
	}
	switch {
	case isPKCS7Type(first(top)) && (len(top) == 1 || tag(1) == tagContext0):
		return shapePKCS7
	case tag(0) == tagInteger && tag(1) == tagSequence && isPKCS7Type(first(childrenOf(top[1]))):
		return shapePKCS12
	case tag(0) == tagInteger && tag(1) == tagSequence && tag(2) == tagOctetString:
		return shapePKCS8
	case tag(0) == tagInteger && tag(1) == tagOctetString:
		return shapeSEC1
	case tag(0) == tagInteger && tag(1) == tagInteger:
		switch {
		case len(top) == 2:
			return shapePublicKey // RSA, PKCS#1
		case len(top) == 6:
			return shapeDSA
		case len(top) > 6:
			return shapePKCS1
		}
	case tag(0) == tagSequence && tag(1) == tagOctetString && len(top) == 2:
		return shapeEncryptedKey
	case tag(0) == tagSequence && tag(1) == tagBitString && len(top) == 2:
		return shapePublicKey
	case tag(0) == tagSequence && tag(1) == tagSequence && tag(2) == tagBitString && len(top) == 3:
		return shapeOfSigned(childrenOf(top[0]))
	}
	return shapeUnknown
}

// shapeOfSigned tells certificates, requests and revocation lists apart by what is signed.
func shapeOfSigned(tbs []berElement) derShape {
	tag := func(i int) byte {
		if i < len(tbs) {
			return tbs[i].tag
		}
		return 0
	}
	isTime := func(i int) bool { return tag(i) == tagUTCTime || tag(i) == tagGeneralTime }
	switch {
	case tag(0) == tagContext0 && tag(1) == tagInteger:
		return shapeCertificate
	case isTime(2) || isTime(3):
		return shapeCRL
	case tag(0) == tagInteger && tag(1) == tagSequence && tag(2) == tagSequence && tag(3) != tagSequence:
		return shapeRequest
	case tag(0) == tagInteger && tag(1) == tagSequence && tag(4) == tagSequence:
		return shapeCertificate // version 1
	}
	return shapeUnknown
}

func childrenOf(e berElement) []berElement {
	c, _ := e.children(10)
	return c
}

func first(e []berElement) berElement {
	if len(e) == 0 {
		return berElement{}
	}
	return e[0]
}
