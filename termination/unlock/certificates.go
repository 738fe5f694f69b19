package unlock

import (
	"crypto/x509"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

// Certificates returns the certificates of a PKCS#12 file, its own before those above it, or those of a trust store. The key in it
// is not looked at further. Errors are of type [termination.FieldError].
func Certificates(der []byte, passphrase string) ([]*x509.Certificate, error) {
	const field = "cert_file"
	if len(passphrase) > maxPassphrase {
		return nil, problem(FieldPassphrase, "the passphrase is too long", fmt.Sprintf("give one of at most %d bytes", maxPassphrase))
	}
	if err := checkIterations(der); err != nil {
		return nil, problem(field, "the PKCS#12 file cannot be opened: "+err.Error(), "make it anew: openssl pkcs12 -export -in client.pem -inkey client.key -out client.p12")
	}
	_, leaf, others, err := pkcs12.DecodeChain(der, passphrase)
	if err == nil {
		return append([]*x509.Certificate{leaf}, others...), nil
	}
	if errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption) {
		return nil, wrong(passphrase, "the PKCS#12 file", "openssl pkcs12 -in FILE -noout")
	}
	if store, storeErr := pkcs12.DecodeTrustStore(der, passphrase); storeErr == nil && len(store) > 0 {
		return store, nil
	}
	return nil, problem(field, "the PKCS#12 file cannot be read", "turn it into PEM: openssl pkcs12 -in FILE -legacy -nokeys -out client.pem")
}
