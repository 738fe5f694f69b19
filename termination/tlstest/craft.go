package tlstest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// tbs is a TBSCertificate (RFC 5280 section 4.1) open for changes that
// x509.CreateCertificate would not make.
type tbs struct {
	Raw                asn1.RawContent
	Version            int `asn1:"optional,explicit,default:0,tag:0"`
	Serial             asn1.RawValue
	SignatureAlgorithm asn1.RawValue
	Issuer             asn1.RawValue
	Validity           asn1.RawValue
	Subject            asn1.RawValue
	PublicKey          asn1.RawValue
	Extensions         []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

type signed struct {
	TBS                tbs
	SignatureAlgorithm asn1.RawValue
	Signature          asn1.BitString
}

// recraft opens a certificate, lets change alter what is signed, and signs it
// again by the same algorithm.
func recraft(der []byte, signer crypto.Signer, change func(*tbs)) ([]byte, error) {
	before, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	var cert signed
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	cert.TBS.Raw = nil
	change(&cert.TBS)
	body, err := asn1.Marshal(cert.TBS)
	if err != nil {
		return nil, fmt.Errorf("marshal what is signed: %w", err)
	}
	cert.TBS.Raw = body

	hash, pss, err := hashOf(before.SignatureAlgorithm)
	if err != nil {
		return nil, err
	}
	var opts crypto.SignerOpts = hash
	if pss {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	signature, err := crypto.SignMessage(signer, rand.Reader, body, opts)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	cert.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(cert)
}

func hashOf(a x509.SignatureAlgorithm) (hash crypto.Hash, pss bool, err error) {
	switch a {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return crypto.SHA1, false, nil
	case x509.SHA256WithRSA, x509.ECDSAWithSHA256:
		return crypto.SHA256, false, nil
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384:
		return crypto.SHA384, false, nil
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512:
		return crypto.SHA512, false, nil
	case x509.SHA256WithRSAPSS:
		return crypto.SHA256, true, nil
	case x509.SHA384WithRSAPSS:
		return crypto.SHA384, true, nil
	case x509.SHA512WithRSAPSS:
		return crypto.SHA512, true, nil
	case x509.PureEd25519:
		return 0, false, nil
	}
	return 0, false, fmt.Errorf("no way to sign by %v", a)
}
