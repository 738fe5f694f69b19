package unlock

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"countersign/termination"
)

// maxKey bounds a private key in a PKCS#12 file, in bytes: RSA with 8192 bits takes some 4700.
const maxKey = 16 << 10

var errPKCS12 = errors.New("the PKCS#12 file cannot be read")

// contentInfo is a part of a PKCS#12 file (RFC 5652, section 3).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

func (c *contentInfo) is(last int) bool {
	return c.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, last})
}

// IsPKCS12 reports whether data is a PKCS#12 file (RFC 7292, section 4): PFX, version 3.
func IsPKCS12(data []byte) bool {
	var pfx struct {
		Version int
		Safe    contentInfo
		MAC     asn1.RawValue `asn1:"optional"`
	}
	_, err := asn1.Unmarshal(data, &pfx)
	return err == nil && pfx.Version == 3 && pfx.Safe.is(1)
}

// bag is SafeBag (RFC 7292, section 4.2).
type bag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue `asn1:"tag:0,explicit"`
	Attributes asn1.RawValue `asn1:"optional"`
}

// container is what is in a PKCS#12 file.
type container struct {
	certificates []*x509.Certificate // in the order of the file
	key          []byte              // PKCS#8; nil where it was not asked for
}

// readPKCS12 opens a PKCS#12 file. Only if its key is wanted, that is opened too, and then there must be one. A key may stand in
// an encrypted part, where nobody sees what it demands before that part is opened; so all is paid for as it comes to light.
func readPKCS12(der []byte, passphrase string, wanted bool) (*container, error) {
	var pfx struct {
		Version int
		Safe    contentInfo
		MAC     macData `asn1:"optional"`
	}
	var safe []byte
	var parts []contentInfo
	if !exactly(der, &pfx) || pfx.Version != 3 || !pfx.Safe.is(1) || !exactly(pfx.Safe.Content.Bytes, &safe) || !exactly(safe, &parts) {
		return nil, errPKCS12
	}
	defer clear(safe)
	o, out := newOpener(passphrase), &container{}
	switch {
	case len(pfx.MAC.Digest.Algorithm.Algorithm) > 0:
		if err := o.verify(&pfx.MAC, safe); err != nil {
			return nil, err
		}
	case passphrase != "": // then nothing shows that it is whole
		return nil, errPKCS12
	}
	for i := range parts {
		if err := out.part(o, &parts[i], wanted); err != nil {
			clear(out.key)
			return nil, err
		}
	}
	if len(out.certificates) == 0 || wanted && out.key == nil {
		clear(out.key)
		return nil, errPKCS12
	}
	return out, nil
}

// part reads one part of the file, plain or encrypted.
func (c *container) part(o *opener, part *contentInfo, wanted bool) error {
	var plain []byte
	switch {
	case part.is(1):
		if !exactly(part.Content.Bytes, &plain) {
			return errPKCS12
		}
	case part.is(6):
		var e struct {
			Version int
			Info    struct {
				Type      asn1.ObjectIdentifier
				Algorithm pkix.AlgorithmIdentifier
				Data      []byte `asn1:"tag:0,optional"`
			}
		}
		if !exactly(part.Content.Bytes, &e) {
			return errPKCS12
		}
		var err error
		if plain, err = o.decrypt(encryptedKey{e.Info.Algorithm, e.Info.Data}); err != nil {
			return err
		}
	default:
		return errPKCS12
	}
	defer clear(plain)
	var bags []bag
	if !exactly(plain, &bags) {
		return errPKCS12
	}
	for i := range bags {
		if err := c.bag(o, &bags[i], wanted); err != nil {
			return err
		}
	}
	return nil
}

// bag takes a certificate or the key; others, such as secrets and lists, are passed over.
func (c *container) bag(o *opener, b *bag, wanted bool) error {
	switch kind := b.ID.String(); {
	case kind == "1.2.840.113549.1.12.10.1.3":
		var held struct {
			Type asn1.ObjectIdentifier
			Data []byte `asn1:"tag:0,explicit"`
		}
		if !exactly(b.Value.Bytes, &held) || held.Type.String() != "1.2.840.113549.1.9.22.1" || len(c.certificates) == termination.MaxUploadCertificates {
			return errPKCS12
		}
		certificate, err := x509.ParseCertificate(held.Data)
		if err != nil {
			return errPKCS12
		}
		c.certificates = append(c.certificates, certificate)
	case !wanted: // it may be a key: not looked at
	case c.key != nil && (kind == "1.2.840.113549.1.12.10.1.1" || kind == "1.2.840.113549.1.12.10.1.2"):
		return errPKCS12 // of several nobody can say which is meant
	case kind == "1.2.840.113549.1.12.10.1.1":
		c.key = bytes.Clone(b.Value.Bytes)
	case kind == "1.2.840.113549.1.12.10.1.2":
		var k encryptedKey
		if !exactly(b.Value.Bytes, &k) {
			return errPKCS12
		}
		var err error
		if c.key, err = o.decrypt(k); err != nil {
			return err
		}
	}
	return nil
}

// ownFirst puts the key's own certificate before the others: some programs write it last.
func (c *container) ownFirst() error {
	if len(c.key) > maxKey {
		return errPKCS12
	}
	key, err := x509.ParsePKCS8PrivateKey(c.key)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return errPKCS12
	}
	own := slices.IndexFunc(c.certificates, func(x *x509.Certificate) bool {
		public, ok := x.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		return ok && public.Equal(signer.Public())
	})
	if own > 0 {
		first := c.certificates[own]
		c.certificates = slices.Insert(slices.Delete(c.certificates, own, own+1), 0, first)
	}
	return nil
}

// pkcs12Problem says why a PKCS#12 file was not opened, with the commands that help.
func pkcs12Problem(err error, passphrase, field, anew, convert string) error {
	const check = "openssl pkcs12 -in FILE -noout"
	switch {
	case errors.Is(err, errPassphrase):
		return wrong(passphrase, "the PKCS#12 file", check)
	case errors.Is(err, errTooCostly):
		return problem(field, "the PKCS#12 file cannot be opened: "+err.Error(), "make it anew: "+anew)
	default:
		return problem(field, errPKCS12.Error(), convert)
	}
}

// PKCS12 unlocks a PKCS#12 file and returns its key and its certificates as PEM, the key's own certificate first among them.
func PKCS12(data []byte, passphrase string) ([]byte, error) {
	if len(data) > termination.MaxUpload {
		return nil, problem("p12", "the file is too large", fmt.Sprintf("give one of at most %d bytes", termination.MaxUpload))
	}
	if err := checkPassphrase(passphrase); err != nil {
		return nil, err
	}
	return openPKCS12(data, passphrase, "p12")
}

// openPKCS12 is [PKCS12] for a passphrase and a size that are checked.
func openPKCS12(der []byte, passphrase, field string) ([]byte, error) {
	held, err := readPKCS12(der, passphrase, true)
	if err == nil {
		defer clear(held.key)
		err = held.ownFirst()
	}
	if err != nil {
		return nil, pkcs12Problem(err, passphrase, field,
			"openssl pkcs12 -export -in server.pem -inkey server.key -out server.p12",
			"give one with one key and its certificate; turn it into PEM: openssl pkcs12 -in FILE -legacy -nodes -out server.pem")
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: held.key})
	for _, c := range held.certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out, nil
}

// Certificates returns the certificates of a PKCS#12 file in its order, those of a trust store likewise. A key in it is not
// opened. Errors are of type [termination.FieldError].
func Certificates(der []byte, passphrase string) ([]*x509.Certificate, error) {
	if err := checkPassphrase(passphrase); err != nil {
		return nil, err
	}
	held, err := readPKCS12(der, passphrase, false)
	if err != nil {
		return nil, pkcs12Problem(err, passphrase, "cert_file",
			"openssl pkcs12 -export -in client.pem -inkey client.key -out client.p12",
			"turn it into PEM: openssl pkcs12 -in FILE -legacy -nokeys -out client.pem")
	}
	return held.certificates, nil
}
