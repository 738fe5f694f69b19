package unlock

import (
	"encoding/asn1"
	"errors"
)

// maxDepth bounds the nesting that is looked into.
const maxDepth = 32

// IsPKCS12 reports whether data is a PKCS#12 file.
func IsPKCS12(data []byte) bool { return isPKCS12(data) }

// isPKCS12 reports whether der is a PKCS#12 file (RFC 7292, section 4): PFX, version 3.
func isPKCS12(der []byte) bool {
	var pfx struct {
		Version int
		Content struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
		}
		Mac asn1.RawValue `asn1:"optional"`
	}
	_, err := asn1.Unmarshal(der, &pfx)
	return err == nil && pfx.Version == 3 && pfx.Content.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1})
}

// checkIterations refuses DER in which salts are followed by numbers of iterations that are together too high, wherever they stand
// in the clear: PBKDF2-params and the MAC and PBE parameters of PKCS#12 all look like that. They count together, since each of them
// is paid for. What is encrypted in the file is seen only by who has its passphrase.
func checkIterations(der []byte) error {
	left := int64(maxIterations)
	return walk(der, 0, &left)
}

// walk takes the iterations that der demands off what is left.
func walk(der []byte, depth int, left *int64) error {
	if depth > maxDepth {
		return errors.New("it is nested too deep")
	}
	salted := false
	for len(der) > 0 {
		var e asn1.RawValue
		rest, err := asn1.Unmarshal(der, &e)
		if err != nil {
			return nil //nolint:nilerr // no DER: content of another kind, or encrypted
		}
		der = rest
		universal := e.Class == asn1.ClassUniversal
		if universal && e.Tag == asn1.TagInteger && salted {
			var n int64
			if _, err := asn1.Unmarshal(e.FullBytes, &n); err != nil || n < 1 || n > *left {
				return errTooCostly
			}
			*left -= n
		}
		salted = universal && e.Tag == asn1.TagOctetString
		if e.IsCompound || salted {
			if err := walk(e.Bytes, depth+1, left); err != nil {
				return err
			}
		}
	}
	return nil
}
