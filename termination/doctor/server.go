package doctor

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/termination"
)

// soon is when a certificate's end is worth a word.
const soon = 14 * 24 * time.Hour

func presented(c *x509.Certificate) Presented {
	return Presented{Subject: subjectOf(c), Issuer: issuerOf(c), Fingerprint: termination.FingerprintOf(c)}
}

func subjectOf(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	if s := termination.NameText(c.Subject); s != "" {
		return s
	}
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return "(no name)"
}

func issuerOf(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return termination.NameText(c.Issuer)
}

// nameOf reads a CA's name from a certificate request.
func nameOf(der []byte) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "(unreadable name)"
	}
	var name pkix.Name
	name.FillFromRDNSequence(&sequence)
	if name.CommonName != "" {
		return name.CommonName
	}
	return termination.NameText(name)
}

// distrust is why this client does not accept a chain for the name that it asked for; nil: it does.
func (x *examination) distrust(chain []*x509.Certificate) error {
	if err := x.trust(chain, x.o.Now()); err != nil {
		return err
	}
	return chain[0].VerifyHostname(x.target.name)
}

// trust verifies a chain at a time.
func (x *examination) trust(chain []*x509.Certificate, at time.Time) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	var roots *x509.CertPool // nil: the system's
	if x.o.Roots != nil {
		roots = x509.NewCertPool()
		for _, c := range x.o.Roots {
			roots.AddCert(c)
		}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// lookAtServer says all that is right and wrong with the server's certificate, not only the first.
func (x *examination) lookAtServer(chain []*x509.Certificate) {
	r, leaf, now := x.report, chain[0], x.o.Now()
	r.add("server certificate", Note, fmt.Sprintf("%q, issued by %q, sent %s; SHA-256 %s", subjectOf(leaf), issuerOf(leaf), company(len(chain)), termination.FingerprintOf(leaf)), "")
	x.dates("server certificate", "the server's certificate", "renew it on the server", leaf)
	if err := leaf.VerifyHostname(x.target.name); err != nil {
		r.add("server name", Bad, fmt.Sprintf("the certificate is not for %s, but for %s", x.target.name, namesOf(leaf)), "connect by a name that it is for, or issue one with this name; a wrong certificate may also mean the wrong server")
	} else {
		r.add("server name", OK, "the certificate is for "+x.target.name, "")
	}
	at := now // whether it is trusted is one thing, and its dates another
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		at = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	}
	err := x.trust(chain, at)
	if err == nil {
		by := "this system's CAs"
		if x.o.Roots != nil {
			by = "--cacert"
		}
		r.add("server trust", OK, "its chain leads to one of "+by, "")
		return
	}
	text, fix := x.distrustWords(chain, err)
	r.add("server trust", Bad, text, fix)
}

func (x *examination) dates(step, what, fix string, c *x509.Certificate) {
	now := x.o.Now()
	switch {
	case now.After(c.NotAfter):
		x.report.add(step, Bad, fmt.Sprintf("%s ended %s ago, on %s", what, span(now.Sub(c.NotAfter)), day(c.NotAfter)), fix+"; or correct this machine's clock, if "+day(now)+" is not today")
	case now.Before(c.NotBefore):
		x.report.add(step, Bad, fmt.Sprintf("%s begins in %s, on %s", what, span(c.NotBefore.Sub(now)), day(c.NotBefore)), "correct this machine's clock, if "+day(now)+" is not today; else wait, or issue it anew")
	case c.NotAfter.Sub(now) < soon && c.NotAfter.Sub(c.NotBefore) > 2*soon:
		x.report.add(step, Warn, fmt.Sprintf("%s ends in %s, on %s", what, span(c.NotAfter.Sub(now)), day(c.NotAfter)), fix)
	}
}

// company says whether a certificate came with others.
func company(n int) string {
	if n == 1 {
		return "alone"
	}
	return fmt.Sprintf("with %d more", n-1)
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 UTC") }

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	}
	return fmt.Sprintf("%d minutes", int(d/time.Minute))
}

// mostNames is how many names of a certificate are listed.
const mostNames = 5

func namesOf(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch n := len(names); {
	case n == 0:
		return "nothing: it has no subject alternative name"
	case n > mostNames:
		return strings.Join(names[:mostNames], ", ") + fmt.Sprintf(" and %d more", n-mostNames)
	}
	return strings.Join(names, ", ")
}

// distrustWords says why a chain is not trusted.
func (x *examination) distrustWords(chain []*x509.Certificate, err error) (text, fix string) {
	leaf, top := chain[0], chain[len(chain)-1]
	given := x.o.Roots != nil
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case isInvalid && invalid.Reason == x509.IncompatibleUsage:
		return "the certificate is not made for servers", "issue one with the extended key usage serverAuth"
	case isInvalid && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Sprintf("%q, a CA of its chain, is out of date: it is good from %s to %s", subjectOf(invalid.Cert), day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter)), "renew that CA, or send its successor"
	case len(chain) == 1 && leaf.CheckSignatureFrom(leaf) == nil, len(chain) == 1 && string(leaf.RawIssuer) == string(leaf.RawSubject):
		return "the server's certificate signed itself, and this client does not know it", "get it over a safe way, compare its SHA-256, and give it with --cacert"
	case !given:
		return fmt.Sprintf("%q, which issued it, is none of this system's CAs", issuerOf(top)), "give the client the CA of the server: --cacert FILE, as with curl"
	}
	for _, root := range x.o.Roots {
		switch {
		case string(root.RawSubject) == string(top.RawIssuer) && top.CheckSignatureFrom(root) != nil:
			return fmt.Sprintf("--cacert holds a CA called %q too, but its key did not sign this: the CA was made anew, or somebody else answers", subjectOf(root)), "get the CA's present certificate over a safe way"
		case len(chain) == 1 && string(root.RawSubject) == string(leaf.RawIssuer):
			return fmt.Sprintf("%q of --cacert issued it, but may not: %v", subjectOf(root), err), "issue the server's certificate from a CA that may"
		}
	}
	holds := make([]string, 0, len(x.o.Roots))
	for _, root := range x.o.Roots[:min(len(x.o.Roots), mostNames)] {
		holds = append(holds, fmt.Sprintf("%q", subjectOf(root)))
	}
	return fmt.Sprintf("%q, which issued it, was not sent and is not in --cacert, which holds %s", issuerOf(top), strings.Join(holds, ", ")),
		"give the CA that issued the server's certificate with --cacert; or, if one of these signed that issuer, have the server send its intermediate certificate too"
}
