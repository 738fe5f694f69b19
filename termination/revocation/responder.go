package revocation

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// maxResponderBits is the longest RSA key under which an answer is checked; as for certificates of clients.
const maxResponderBits = 8192

// checkResponder refuses an answer that brings a certificate along whose key is too long to check a signature under: that
// comes first, before anybody knows who made the certificate, and who sends an answer along chooses it.
func checkResponder(der []byte) error {
	var response struct { // RFC 6960, section 4.2.1
		Status   asn1.Enumerated
		Response struct {
			Type  asn1.ObjectIdentifier
			Basic []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	if _, err := asn1.Unmarshal(der, &response); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(response.Response.Basic) == 0 {
		return nil // an error instead of an answer
	}
	var basic struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	if _, err := asn1.Unmarshal(response.Response.Basic, &basic); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(basic.Certificates) == 0 {
		return nil
	}
	c, err := x509.ParseCertificate(basic.Certificates[0].FullBytes) // others are not looked at
	if err != nil {
		return fmt.Errorf("read the responder's certificate: %w", err)
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxResponderBits {
		return errors.New("the key of the responder's certificate is too long to be looked at")
	}
	return nil
}
