package termination

import (
	"errors"
	"fmt"
)

// pkcs7Bundle is what a PKCS#7 bundle (RFC 5652, section 5.1) holds besides signatures.
type pkcs7Bundle struct {
	certificates [][]byte // DER, as they stand
	others       int      // certificates of forms other than X.509
	crls         int
}

// oidSignedData is the last arc of 1.2.840.113549.1.7.2; the other content types hold no certificates.
const oidSignedData = 2

// readPKCS7 takes the certificates out of a bundle of certificates. Signatures in it are not looked at: a bundle is only
// a way to carry certificates, and it is the person who uploads it who vouches for them. It stops after limit
// certificates.
func readPKCS7(e berElement, limit int) (pkcs7Bundle, error) {
	var b pkcs7Bundle
	info := childrenOf(e)
	if len(info) == 0 || !isPKCS7Type(info[0]) {
		return b, errors.New("it is no PKCS#7 content")
	}
	if kind := info[0].body[len(oidPKCS7)]; kind != oidSignedData {
		return b, errors.New("it is a PKCS#7 message of another kind, plain or encrypted data, and holds no bundle of certificates")
	}
	if len(info) < 2 || info[1].tag != tagContext0 {
		return b, errors.New("the bundle is empty")
	}
	signed := first(childrenOf(info[1]))
	if signed.tag != tagSequence {
		return b, errors.New("the bundle's content is not where it must be")
	}
	// version, digestAlgorithms, encapContentInfo, then optionally [0] certificates and [1] crls, then signerInfos.
	fields, whole := signed.children(16)
	if !whole || len(fields) < 3 || fields[0].tag != tagInteger || fields[1].tag != tagSet || fields[2].tag != tagSequence {
		return b, errors.New("the bundle's content is damaged")
	}
	seen := map[byte]bool{}
	for _, f := range fields[3:] {
		if seen[f.tag] {
			return b, errors.New("the bundle has the same field twice") // several lists would pass the limit
		}
		seen[f.tag] = true
		switch f.tag {
		case tagContext0:
			certs, whole := f.children(limit + 1)
			if !whole && len(certs) <= limit {
				return b, fmt.Errorf("the bundle is damaged after %d certificates", len(certs))
			}
			for _, c := range certs {
				if c.tag == tagSequence {
					b.certificates = append(b.certificates, c.raw)
				} else {
					b.others++
				}
			}
		case tagContext1:
			crls, _ := f.children(limit)
			b.crls += len(crls)
		}
	}
	return b, nil
}
