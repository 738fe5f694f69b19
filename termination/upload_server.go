package termination

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ServerCertificate is what [ReadServerCertificate] understood.
type ServerCertificate struct {
	Chain []*x509.Certificate // leaf first, each signed by the next; without the root
	Key   crypto.Signer       // of the leaf
	Names []string            // DNS names and IP addresses of the leaf; safe to show
	Notes []UploadWarning     // what was repaired, and what clients may not like

	rooted bool // the file held the root of the chain, so nothing in between is missing
}

// Certificate returns it under a name, as the configuration holds it.
func (s *ServerCertificate) Certificate(id, name string, origin Origin) Certificate {
	return Certificate{ID: id, Name: name, Origin: origin, Chain: s.Chain, Key: s.Key}
}

func (s *ServerCertificate) note(code WarningCode, strong bool, format string, args ...any) {
	s.Notes = append(s.Notes, UploadWarning{Code: code, Strong: strong, Text: fmt.Sprintf(format, args...)})
}

const (
	// maxKeyBytes bounds the DER of a private key; an RSA key of 16384 bits has 9 kB.
	maxKeyBytes = 16 << 10
	// Clients and crypto/tls accept RSA keys of up to 8192 bits, and crypto/rsa signs with at least 1024.
	maxServerRSABits = 8192
	minServerRSABits = 1024
)

func certificateProblem(problem, advice string) error {
	return FieldError{Kind: "certificate", Field: "cert_file", Problem: problem, Advice: advice}
}

func keyProblem(problem, advice string) error {
	return FieldError{Kind: "certificate", Field: "key_file", Problem: problem, Advice: advice}
}

// ReadServerCertificate reads a server certificate, its intermediates and its private key: certificates as PEM, DER or
// PKCS#7 in any order, the key as PKCS#1, PKCS#8 or SEC1 in PEM or DER. One file may hold both, given as certData with
// keyData empty or as both. The chain is put into order, leaf first, and what does not belong to it is left out; Notes
// say so. Errors about the content are of type [FieldError], with Field cert_file or key_file; those about its size
// are those of [ReadUpload]. The caller's buffers are left as they are.
func ReadServerCertificate(certData, keyData []byte, now time.Time) (*ServerCertificate, error) {
	certs, certKeys, err := readParts(certData)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	defer wipeKeys(certKeys)
	found := certs.Certificates()
	if len(found) == 0 {
		return nil, noServerCertificate(certs)
	}
	keys := certKeys
	if len(bytes.TrimSpace(keyData)) > 0 {
		parts, keyFileKeys, err := readParts(keyData)
		if err != nil {
			return nil, fmt.Errorf("read the key: %w", err)
		}
		defer wipeKeys(keyFileKeys)
		if len(keyFileKeys) == 0 {
			return nil, noKey(parts)
		}
		keys = keyFileKeys
	}
	key, err := oneKey(keys)
	if err != nil {
		return nil, err
	}
	s := &ServerCertificate{Key: key}
	leaf, err := s.leafOf(found, now)
	if err != nil {
		return nil, err
	}
	s.order(leaf, found)
	for _, i := range certs.Items {
		if i.Kind == UploadUnreadable {
			s.note(WarnLeftOut, true, "%s", i.Message)
		}
	}
	if err := s.checkLeaf(); err != nil {
		return nil, err
	}
	s.checkChain(now)
	return s, nil
}

// readParts reads a file that may hold certificates and keys.
func readParts(data []byte) (Upload, []uploadedKey, error) {
	if len(data) > MaxUpload {
		return Upload{}, nil, fmt.Errorf("%w: %s, where %s are allowed; this is probably another file", ErrUploadTooLarge, bytesInWords(len(data)), bytesInWords(MaxUpload))
	}
	r := &uploadReader{wantKeys: true}
	r.read(data)
	r.wipeCopies() // may hold keys that were wrapped in something; what is returned are copies of them
	if r.err != nil {
		wipeKeys(r.keys)
		return Upload{}, nil, r.err
	}
	return Upload{Items: r.items}, r.keys, nil
}

func wipeKeys(keys []uploadedKey) {
	for _, k := range keys {
		clear(k.der)
	}
}

const pkcs12Advice = "give it as it is, as DER, with its passphrase; or turn it into PEM: openssl pkcs12 -in FILE.p12 -nodes -out server.pem"

// noServerCertificate says what is there instead of a certificate.
func noServerCertificate(u Upload) error {
	switch {
	case u.Has(UploadEmpty):
		return certificateProblem("it is empty", "give the certificate as PEM or DER, leaf first, then its intermediates")
	case u.Has(UploadPKCS12):
		return certificateProblem("it is a PKCS#12 file (.p12, .pfx)", pkcs12Advice)
	case u.Has(UploadRequest):
		return certificateProblem("it is a certificate request (CSR), which no CA has signed yet", "give the certificate that the CA returned for it")
	case len(u.Items) == 0:
		return certificateProblem("it holds a private key and no certificate", "give the certificate, leaf first, then its intermediates")
	}
	for _, i := range u.Items {
		if i.Kind == UploadUnreadable {
			return certificateProblem("no certificate can be read from it", i.Message)
		}
	}
	if len(u.Items) == 1 {
		return certificateProblem("it holds no certificate", u.Items[0].Message)
	}
	return certificateProblem("it holds no certificate", "give the certificate as PEM or DER, leaf first, then its intermediates")
}

func noKey(u Upload) error {
	switch {
	case u.Has(UploadPKCS12):
		return keyProblem("it is a PKCS#12 file (.p12, .pfx)", pkcs12Advice)
	case u.Has(UploadPublicKey):
		return keyProblem("it is a public key", "give the private key that the certificate was made for")
	case u.Has(UploadPrivateKey):
		return keyProblem("its private key is in a form that cannot be read", "give it as PKCS#1, PKCS#8 or SEC1, in PEM or DER")
	case len(u.Certificates()) > 0:
		return keyProblem("it holds a certificate and no private key", "give the private key that the certificate was made for")
	}
	return keyProblem("it holds no private key", "give the key as PKCS#1, PKCS#8 or SEC1, in PEM or DER")
}

// oneKey parses the private key; several are accepted only if they are the same one.
func oneKey(keys []uploadedKey) (crypto.Signer, error) {
	if len(keys) == 0 {
		return nil, keyProblem("the private key is missing", "give the key that the certificate was made for, in a file of its own or in that of the certificate")
	}
	var key crypto.Signer
	for _, k := range keys {
		next, err := k.parse()
		if err != nil {
			return nil, err
		}
		if key != nil && !samePublicKey(key.Public(), next.Public()) {
			return nil, keyProblem("it holds several private keys", "give only the one that the certificate was made for")
		}
		key = next
	}
	return key, nil
}

// samePublicKey reports whether two public keys are equal; keys of unknown types are not.
func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func (k uploadedKey) parse() (crypto.Signer, error) {
	if k.encrypted || strings.HasPrefix(k.label, "ENCRYPTED") {
		return nil, encryptedKey()
	}
	if strings.HasPrefix(k.label, "OPENSSH") {
		return nil, keyProblem("it is a private key for SSH", "give the key that the certificate was made for, or convert it: ssh-keygen -p -m PKCS8 -f KEY")
	}
	if k.err != nil {
		return nil, keyProblem(fmt.Sprintf("the private key at line %d cannot be read: %s", k.line, k.err), "copy it again, whole")
	}
	if len(k.der) > maxKeyBytes {
		return nil, keyProblem(fmt.Sprintf("the private key has %d bytes, where %d are allowed", len(k.der), maxKeyBytes), "use an ECDSA P-256 key, or RSA with 2048 to 4096 bits")
	}
	e, rest, err := readBER(k.der)
	if err != nil || len(rest) > 0 {
		return nil, keyProblem("the private key is damaged or cut off", "copy it again, whole")
	}
	var parsed any
	switch shapeOf(e) {
	case shapePKCS1:
		parsed, err = x509.ParsePKCS1PrivateKey(k.der)
	case shapeSEC1:
		parsed, err = x509.ParseECPrivateKey(k.der)
	case shapePKCS8:
		parsed, err = x509.ParsePKCS8PrivateKey(k.der)
	case shapeEncryptedKey:
		return nil, encryptedKey()
	case shapeDSA:
		return nil, keyProblem("it is a DSA key, which TLS does not use any more", "issue the certificate again with an ECDSA P-256 key")
	default:
		return nil, keyProblem("it is no private key that is known here", "give it as PKCS#1, PKCS#8 or SEC1, in PEM or DER")
	}
	if err != nil {
		return nil, keyProblem("the private key cannot be read: "+printable(err.Error(), 200), "check it with: openssl pkey -in KEY -noout -check")
	}
	return usableKey(parsed)
}

func encryptedKey() error {
	return keyProblem("the private key is encrypted", "decrypt it: openssl pkey -in server.key -out server.plain.key, and give server.plain.key")
}

// usableKey refuses keys with which crypto/tls cannot serve.
func usableKey(parsed any) (crypto.Signer, error) {
	switch k := parsed.(type) {
	case *rsa.PrivateKey:
		if bits := k.N.BitLen(); bits < minServerRSABits || bits > maxServerRSABits {
			return nil, keyProblem(fmt.Sprintf("its RSA key has %d bits, where %d to %d can be used", bits, minServerRSABits, maxServerRSABits), "issue the certificate again with an ECDSA P-256 key, or RSA with 2048 to 4096 bits")
		}
		return k, nil
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P224() {
			return nil, keyProblem("its key is on the curve P-224, which TLS clients do not accept", "issue the certificate again with an ECDSA P-256 key")
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	default:
		return nil, keyProblem("its key cannot sign a handshake", "issue the certificate again with an ECDSA P-256 key")
	}
}

// leafOf finds the certificate that the key belongs to. Among several, such as a certificate and its renewal with the
// same key, the one that is valid now and ends last is meant.
func (s *ServerCertificate) leafOf(found []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	n := 0
	for _, c := range found {
		if !samePublicKey(s.Key.Public(), c.PublicKey) {
			continue
		}
		n++
		if leaf == nil || better(c, leaf, now) {
			leaf = c
		}
	}
	if leaf == nil {
		return nil, keyProblem(fmt.Sprintf("the key (%s) does not belong to the certificate %q (%s)", KeyName(s.Key.Public()), certificateTitle(found[0]), KeyName(found[0].PublicKey)), "give the key that the certificate was made for")
	}
	if n > 1 {
		s.note(WarnSeveralSuitable, false, "%d certificates in the file have this key. The one that ends on %s is used.", n, inDays(leaf.NotAfter))
	}
	return leaf, nil
}

// better reports whether a is to be served rather than b.
func better(a, b *x509.Certificate, now time.Time) bool {
	validA := !now.Before(a.NotBefore) && !now.After(a.NotAfter)
	validB := !now.Before(b.NotBefore) && !now.After(b.NotAfter)
	if validA != validB {
		return validA
	}
	if a.IsCA != b.IsCA {
		return b.IsCA
	}
	return a.NotAfter.After(b.NotAfter)
}

// order builds the chain from the leaf upwards and says what was changed.
func (s *ServerCertificate) order(leaf *x509.Certificate, found []*x509.Certificate) {
	s.Chain = []*x509.Certificate{leaf}
	used := map[*x509.Certificate]bool{leaf: true}
	p := &planner{checks: maxIssuerChecks}
	for last := leaf; ; {
		var next *x509.Certificate
		for _, c := range found {
			if !used[c] && c.IsCA && p.signed(c, last) && (next == nil || c.NotAfter.After(next.NotAfter)) {
				next = c
			}
		}
		if next == nil {
			break
		}
		used[next] = true
		if certificateKind(next) == UploadRoot {
			s.rooted = true
			s.note(WarnLeftOut, false, "The root %s is not sent: clients have it, or do not trust it.", certificateTitle(next))
			break
		}
		s.Chain = append(s.Chain, next)
		last = next
	}
	if !slices.IsSortedFunc(s.Chain, func(a, b *x509.Certificate) int { return slices.Index(found, a) - slices.Index(found, b) }) {
		s.note(WarnReordered, false, "The certificates were not in order. They are sent leaf first, each followed by the one that signed it.")
	}
	for _, c := range found {
		if !used[c] && !samePublicKey(s.Key.Public(), c.PublicKey) {
			s.note(WarnLeftOut, false, "%s is left out: it is not part of this certificate's chain.", certificateTitle(c))
		}
	}
}

// checkLeaf lists the names, and warns about what clients will not like.
func (s *ServerCertificate) checkLeaf() error {
	leaf := s.Chain[0]
	for _, n := range leaf.DNSNames {
		s.Names = append(s.Names, printable(n, 253))
	}
	for _, ip := range leaf.IPAddresses {
		s.Names = append(s.Names, ip.String())
	}
	switch {
	case len(s.Names) == 0 && leaf.Subject.CommonName != "":
		s.note(WarnNoServerNames, true, "It has no subject alternative names; its common name %s is not looked at by clients any more, so all will refuse it. Issue it again with the name as a SAN.", printable(leaf.Subject.CommonName, 64))
	case len(s.Names) == 0:
		s.note(WarnNoServerNames, true, "It has no names (subject alternative names), so all clients will refuse it. Issue it again with them.")
	}
	if !allowsServers(leaf) {
		s.note(WarnNotForServers, true, "Its extended key usage leaves no room for servers (serverAuth): clients will refuse it. Issue it again with serverAuth.")
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		s.note(WarnNotForServers, true, "Its key usage does not allow signatures (digitalSignature), which TLS 1.3 needs: clients may refuse it. Issue it again.")
	}
	if leaf.IsCA && leaf.BasicConstraintsValid {
		s.note(WarnNotForServers, false, "It says CA:TRUE: some clients refuse a server that is a CA. Better issue a leaf from it.")
	}
	if _, ok := s.Key.(ed25519.PrivateKey); ok {
		s.note(WarnUncommonKey, false, "Its key is Ed25519, which browsers do not accept for servers. curl and Go do.")
	}
	if key, ok := s.Key.Public().(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
		s.note(WarnWeakKey, true, "Its RSA key has %d bits; clients expect at least %d.", key.N.BitLen(), minRSABits)
	}
	if leaf.Version < 3 {
		return certificateProblem("its format is X.509 version 1, which no client accepts from a server", "issue it again as version 3, with subject alternative names")
	}
	return nil
}

// checkChain warns about dates and signatures along the chain, and about an end that may be missing.
func (s *ServerCertificate) checkChain(now time.Time) {
	for n, c := range s.Chain {
		name := "It"
		if n > 0 {
			name = "Its intermediate " + certificateTitle(c)
		}
		life := c.NotAfter.Sub(c.NotBefore)
		switch {
		case now.After(c.NotAfter):
			s.note(WarnExpired, true, "%s ended on %s: clients refuse it. Renew it.", name, inDays(c.NotAfter))
		case now.Before(c.NotBefore):
			s.note(WarnEarly, true, "%s is not valid before %s UTC: clients refuse it until then.", name, c.NotBefore.UTC().Format("2 Jan 2006 15:04"))
		case c.NotAfter.Sub(now) < soon && life > 2*soon:
			s.note(WarnEndsSoon, false, "%s ends on %s, in %d days.", name, inDays(c.NotAfter), int(c.NotAfter.Sub(now)/(24*time.Hour)))
		}
		if weakSignature(c.SignatureAlgorithm) && !bytes.Equal(c.RawSubject, c.RawIssuer) {
			s.note(WarnWeakSignature, true, "%s is signed with %s: clients refuse it. Have it signed again.", name, c.SignatureAlgorithm)
		}
	}
	last := s.Chain[len(s.Chain)-1]
	if !bytes.Equal(last.RawSubject, last.RawIssuer) && len(s.Chain) == 1 && !s.rooted {
		s.note(WarnIssuerMissing, false, "It comes without intermediates. If its issuer, %s, is not itself a root that clients trust, add that certificate to the file; else clients cannot build the chain.", issuerTitle(last))
	}
}

func allowsServers(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}
