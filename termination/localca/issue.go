package localca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"countersign/termination"
)

const (
	// MaxServerDays is the longest life of a server certificate that browsers accept from a private CA.
	MaxServerDays = 397
	// MaxClientDays is the longest life of a client certificate.
	MaxClientDays = 825
)

// Issued is a fresh certificate with its private key.
type Issued struct {
	Chain []*x509.Certificate // leaf first; the CA itself is not in it, since peers have it or do not trust it
	Key   crypto.Signer
	CA    *x509.Certificate // that signed the last one of Chain
}

// Leaf returns the certificate that was issued.
func (i *Issued) Leaf() *x509.Certificate { return i.Chain[0] }

// IssueServer issues a server certificate for these DNS names, wildcards of one label and IP addresses, with a fresh
// key. It never outlives the CA: a longer life is cut to the CA's. The error is a [ConstraintError] where the CA may
// not sign a name, and wraps [ErrEnded] where the CA has ended.
func IssueServer(ca *termination.LocalCA, names []string, now time.Time, days int) (*Issued, error) {
	template, err := serverTemplate(ca, names)
	if err != nil {
		return nil, fmt.Errorf("issue a server certificate: %w", err)
	}
	issued, err := issue(ca, template, now, days, MaxServerDays)
	if err != nil {
		return nil, fmt.Errorf("issue a server certificate: %w", err)
	}
	return issued, nil
}

func serverTemplate(ca *termination.LocalCA, names []string) (*x509.Certificate, error) {
	read, err := readNames(ca, names)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		DNSNames:    read.dns,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, ip := range read.ips {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	// The common name is for people; clients look at the subject alternative names alone (RFC 9525, section 2).
	template.Subject = pkix.Name{CommonName: serverCommonName(read.dns, read.ips)}
	return template, nil
}

// serverCommonName returns the first name that fits a common name, or none.
func serverCommonName(dns []string, ips []netip.Addr) string {
	for _, n := range dns {
		if len(n) <= maxCommonName {
			return n
		}
	}
	if len(dns) == 0 && len(ips) > 0 {
		return ips[0].String()
	}
	return ""
}

// ClientRequest describes a client certificate.
type ClientRequest struct {
	Name  string   // common name, 1 to 64 printable characters
	URI   string   // subject alternative name such as spiffe://example.org/billing; may be empty
	DNS   []string // subject alternative names; may be empty
	Email string   // subject alternative name; may be empty
	Days  int      // 1 to MaxClientDays
	Now   time.Time
}

// IssueClient issues a client certificate with a fresh key. It never outlives the CA. A name that OpenSSL would take
// for a DNS name counts as one against the limits of a constrained CA, else services that verify with OpenSSL would
// refuse the certificate; the error is then a [ConstraintError].
func IssueClient(ca *termination.LocalCA, r ClientRequest) (*Issued, error) {
	template, err := r.template(ca)
	if err != nil {
		return nil, fmt.Errorf("issue a client certificate: %w", err)
	}
	issued, err := issue(ca, template, r.Now, r.Days, MaxClientDays)
	if err != nil {
		return nil, fmt.Errorf("issue a client certificate: %w", err)
	}
	return issued, nil
}

func (r ClientRequest) template(ca *termination.LocalCA) (*x509.Certificate, error) {
	if err := checkCommonName(r.Name); err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: r.Name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(r.DNS) > 0 {
		names, err := readNames(ca, r.DNS)
		if err != nil {
			return nil, err
		}
		if len(names.ips) > 0 {
			return nil, fmt.Errorf("%s is an IP address, not a DNS name", names.ips[0])
		}
		template.DNSNames = names.dns
	} else if looksLikeDNS(r.Name) {
		if err := MayIssue(ca, []string{r.Name}); err != nil {
			return nil, err
		}
	}
	if r.URI != "" {
		u, err := checkURI(r.URI)
		if err != nil {
			return nil, err
		}
		template.URIs = []*url.URL{u}
	}
	if r.Email != "" {
		if err := checkEmail(r.Email); err != nil {
			return nil, err
		}
		template.EmailAddresses = []string{r.Email}
	}
	return template, nil
}

// issue fills in what all leaves share, and signs, for a fresh key.
func issue(ca *termination.LocalCA, template *x509.Certificate, now time.Time, days, maxDays int) (*Issued, error) {
	if days < 1 || days > maxDays {
		return nil, fmt.Errorf("%d days is out of range: use 1 to %d", days, maxDays)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	cert, err := signLeaf(ca, template, key.Public(), now, time.Duration(days)*day)
	if err != nil {
		return nil, err
	}
	return &Issued{Chain: []*x509.Certificate{cert}, Key: key, CA: ca.Certificate}, nil
}

// signLeaf fills in what all leaves share, and signs a key that may be somebody else's.
func signLeaf(ca *termination.LocalCA, template *x509.Certificate, public crypto.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if now.IsZero() {
		return nil, errors.New("the time is missing")
	}
	parent := ca.Certificate
	if !now.Before(parent.NotAfter) {
		return nil, fmt.Errorf("%w: %s was good until %s; create a new one", ErrEnded, ca.Name, parent.NotAfter.UTC().Format("2 Jan 2006"))
	}
	if now.Before(parent.NotBefore) {
		return nil, fmt.Errorf("%s is not valid before %s: correct the clock of this machine", ca.Name, parent.NotBefore.UTC().Format("2 Jan 2006 15:04"))
	}
	template.SerialNumber = newSerial()
	template.NotBefore = later(now.Add(-skew), parent.NotBefore)
	template.NotAfter = earlier(now.Add(life), parent.NotAfter)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true // and IsCA is false
	var err error
	if template.SubjectKeyId, err = keyID(public); err != nil {
		return nil, err
	}
	cert, err := sign(template, parent, public, ca.Key)
	if err != nil {
		return nil, err
	}
	if err := checkUsable(cert, parent, now); err != nil {
		return nil, err
	}
	return cert, nil
}

// checkUsable verifies a fresh leaf as its peers will. A CA that was brought from elsewhere may have limits that this
// package does not know in words, on e-mail addresses or URIs for example.
func checkUsable(leaf, ca *x509.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: leaf.ExtKeyUsage}); err != nil {
		return fmt.Errorf("a certificate like this from %q would be refused by its peers: %w", ca.Subject, err)
	}
	return nil
}

// Stranger issues a client certificate from a CA that is thrown away, key and all: nobody trusts it, which is what it
// is for.
func Stranger(now time.Time) (*Issued, error) {
	ca, err := Create(Options{Name: "Stranger CA", Days: 30, Now: now})
	if err != nil {
		return nil, fmt.Errorf("make a stranger: %w", err)
	}
	issued, err := IssueClient(ca, ClientRequest{Name: "stranger", Days: 30, Now: now})
	if err != nil {
		return nil, fmt.Errorf("make a stranger: %w", err)
	}
	return issued, nil
}

// DueAt returns when a certificate should be renewed: at two thirds of its life, so that a third is left to find out
// that renewing fails.
func DueAt(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(life / 3 * 2)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
