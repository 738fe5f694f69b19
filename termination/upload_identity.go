package termination

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// RegistrationOptions are what decides whether an upload may be registered for an identity.
type RegistrationOptions struct {
	Now time.Time
	// Owner returns the name of the identity that has a pin; empty: none. Nil: nobody asks.
	Owner func(Pin) string
	// Self: a client registers its own certificate. It sends that alone, and what would not come in anyway is refused
	// instead of warned about.
	Self bool
	// Requests: a certificate signing request is welcome.
	Requests bool
}

// Registration is a client's certificate, read and ready to be registered, or its request for one.
type Registration struct {
	Certificate *x509.Certificate // nil: Request
	Issuers     []*x509.Certificate
	Request     []byte // DER of a certificate signing request (RFC 2986), not read further
	Warnings    []UploadWarning
}

// Pin is that of the certificate.
func (r *Registration) Pin() Pin { return Pin{Fingerprint: FingerprintOf(r.Certificate)} }

func (r *Registration) warn(code WarningCode, strong bool, format string, args ...any) {
	r.Warnings = append(r.Warnings, UploadWarning{Code: code, Strong: strong, Text: fmt.Sprintf(format, args...)})
}

func registrationProblem(problem, advice string) error {
	return FieldError{Kind: kindIdentity, Field: "certificate", Problem: problem, Advice: advice}
}

// ReadRegistration reads the certificate of a client as PEM, DER or PKCS#7, with its CA certificates if an operator sends
// them. A private key anywhere in it refuses the whole, and is not read. Errors about the content are of type
// [FieldError]; those about its size are those of [ReadUpload].
func ReadRegistration(data []byte, o RegistrationOptions) (*Registration, error) {
	upload, err := ReadUpload(data)
	if err != nil {
		return nil, err
	}
	switch {
	case upload.Has(UploadPrivateKey):
		return nil, registrationProblem("there is a private key in it; it was not read and is not kept", "make a new key and a certificate for it, since this key has travelled, and send the certificate alone: what begins -----BEGIN CERTIFICATE-----")
	case upload.Has(UploadPKCS12):
		return nil, registrationProblem("it is a PKCS#12 file, which holds a private key; it was not read and is not kept", "make a new key, since this one has travelled, and send its certificate alone, as from: openssl pkcs12 -in FILE -clcerts -nokeys")
	}
	certificates := upload.Certificates()
	if len(certificates) == 0 {
		return readRegistrationRequest(data, upload, o)
	}
	for _, i := range upload.Items {
		if i.Kind == UploadUnreadable {
			return nil, registrationProblem(strings.TrimSuffix(lowerFirst(i.Message), "."), "send it again as it was made")
		}
	}
	if o.Self && len(certificates) > 1 {
		return nil, registrationProblem(fmt.Sprintf("there are %d certificates in it", len(certificates)), "send your own certificate alone; those of the CAs above it are not needed")
	}
	leaf, err := clientOf(certificates)
	if err != nil {
		return nil, err
	}
	r := &Registration{Certificate: leaf}
	for _, c := range certificates {
		if c != leaf {
			r.Issuers = append(r.Issuers, c)
		}
	}
	return r, r.check(o)
}

// readRegistrationRequest reads an upload without certificates.
func readRegistrationRequest(data []byte, upload Upload, o RegistrationOptions) (*Registration, error) {
	if upload.Has(UploadRequest) {
		if !o.Requests {
			return nil, registrationProblem("it is a request for a certificate, and there is no CA here that signs it", "send the certificate that your CA made from it, or one that the client signed itself")
		}
		if der := requestOf(data); der != nil {
			return &Registration{Request: der}, nil
		}
		return nil, registrationProblem("its request for a certificate cannot be taken out of what stands around it", "send the request alone, as openssl req -new wrote it")
	}
	for _, i := range upload.Items {
		if i.Kind != UploadEmpty {
			return nil, registrationProblem("there is no certificate in it. "+strings.TrimSuffix(i.Message, "."), "send the client's certificate: what begins -----BEGIN CERTIFICATE-----")
		}
	}
	return nil, registrationProblem("there is nothing in it", "choose a file, or paste the certificate: what begins -----BEGIN CERTIFICATE-----")
}

// requestOf returns the DER of the first request, in PEM or bare; nil: there is none.
func requestOf(data []byte) []byte {
	for rest := data; ; {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type == "CERTIFICATE REQUEST" || block.Type == "NEW CERTIFICATE REQUEST" {
			return block.Bytes
		}
		rest = more
	}
	if _, err := x509.ParseCertificateRequest(data); err == nil {
		return data
	}
	return nil
}

// clientOf finds the client's own certificate among those above it.
func clientOf(certificates []*x509.Certificate) (*x509.Certificate, error) {
	if len(certificates) == 1 {
		return certificates[0], nil
	}
	var leaves []*x509.Certificate
	for _, c := range certificates {
		if !c.BasicConstraintsValid || !c.IsCA {
			leaves = append(leaves, c)
		}
	}
	switch len(leaves) {
	case 0:
		return nil, registrationProblem("it holds CA certificates alone", "send the client's own certificate with them; to trust everybody whom a CA vouches for, upload it under Trust")
	case 1:
		return leaves[0], nil
	}
	return nil, registrationProblem(fmt.Sprintf("it holds %d certificates of clients", len(leaves)), "register one after the other")
}

// check refuses what cannot be a client's certificate, and says what is wrong with others.
func (r *Registration) check(o RegistrationOptions) error {
	c := r.Certificate
	if o.Owner != nil {
		for _, pin := range [...]Pin{r.Pin(), {Fingerprint: KeyFingerprintOf(c), Key: true}} {
			if owner := o.Owner(pin); owner != "" {
				what := "this certificate is"
				if pin.Key {
					what = "the key of this certificate is"
				}
				return registrationProblem(fmt.Sprintf("%s registered already, for the identity %s", what, owner), "nothing has to be done for that identity; for another one make another key and certificate")
			}
		}
	}
	if c.BasicConstraintsValid && c.IsCA {
		if !signsItself(c) {
			return registrationProblem(fmt.Sprintf("it is the certificate of a CA, issued by %s, and no client's", issuerTitle(c)), "send the client's own certificate; to trust everybody whom this CA vouches for, upload it under Trust")
		}
		r.warn(WarnMayBeClient, false, "It says CA:TRUE, as what openssl req -x509 makes by default. It is registered as this one client: nothing that it signs comes in.")
	}
	if o.Now.After(c.NotAfter) {
		return registrationProblem("the certificate ended on "+inDays(c.NotAfter), "make a new one and send that")
	}
	if o.Now.Before(c.NotBefore) {
		if o.Self && c.NotBefore.Sub(o.Now) > time.Hour {
			return registrationProblem("the certificate is not valid before "+c.NotBefore.UTC().Format("2 Jan 2006 15:04")+" UTC", "look at the clock of the machine that made it, or wait")
		}
		r.warn(WarnEarly, true, "It is not valid before %s UTC, and refused until then.", c.NotBefore.UTC().Format("2 Jan 2006 15:04"))
	} else if c.NotAfter.Sub(o.Now) < 30*24*time.Hour {
		r.warn(WarnEndsSoon, false, "It ends on %s.", inDays(c.NotAfter))
	}
	return r.checkUse(o)
}

// checkUse says what verification would object to. An endpoint can be told to be laxer, so it is the operator's choice.
func (r *Registration) checkUse(o RegistrationOptions) error {
	c := r.Certificate
	var problem, advice string
	code := WarnWeakKey
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			problem, advice = fmt.Sprintf("its RSA key has %d bits, and 2048 are the least", key.N.BitLen()), "make a key with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return registrationProblem("its key is of a kind that TLS clients do not use here: "+KeyName(c.PublicKey), "make an ECDSA, Ed25519 or RSA key")
	}
	// The signature on a certificate that signs itself protects nothing that the pin does not.
	if problem == "" && weakSignature(c.SignatureAlgorithm) && !signsItself(c) {
		code, problem, advice = WarnWeakSignature, "it is signed with "+c.SignatureAlgorithm.String()+", which is broken", "have it issued again with SHA-256"
	}
	if problem == "" && len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !forClients(c) {
		code, problem, advice = WarnNoClients, "its extended key usage leaves no room for clients: "+strings.Join(UsageNames(c), ", "), "have it issued again with extendedKeyUsage clientAuth"
	}
	if problem == "" {
		return nil
	}
	if o.Self {
		return registrationProblem(problem, advice)
	}
	r.warn(code, true, "%s, so endpoints refuse it unless their hygiene says otherwise. Better: %s.", strings.ToUpper(problem[:1])+problem[1:], advice)
	return nil
}

func forClients(c *x509.Certificate) bool {
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}
