package revocation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
	"unicode"

	"countersign/termination"
)

// skew is by how much the clock of a CA may be ahead of ours.
const skew = 5 * time.Minute

// digest identifies what was read, by its bytes.
type digest [sha256.Size]byte

// list is a CRL made ready to be looked into. It is immutable but for what is known of its signature, which the
// registry's lock guards.
type list struct {
	*termination.RevocationList // without its entries

	digest  digest
	size    int
	entries *entries
	signed  map[termination.Fingerprint]error // by CA certificate
}

// readLists reads a file, an upload or what a server has sent.
func readLists(data []byte) ([]*list, error) {
	read, err := termination.ReadCRLs(data)
	if err != nil {
		return nil, err
	}
	out := make([]*list, 0, len(read))
	for _, l := range read {
		made := &list{
			RevocationList: l, size: len(l.Raw), digest: sha256.Sum256(l.Raw),
			entries: newEntries(l.RevokedCertificateEntries), signed: map[termination.Fingerprint]error{},
		}
		l.RevokedCertificateEntries = nil
		out = append(out, made)
	}
	return out, nil
}

// issuer finds the certificate of the authority whose key has signed the list: by its name and key identifier, and by the
// signature (RFC 5280, section 6.3.3 (f) and (g)). The error tells people what to do.
func (l *list) issuer(a *termination.Authority) (*x509.Certificate, error) {
	var problem error
	for i := range a.Certificates {
		c := a.Certificates[i].Certificate
		if !bytes.Equal(c.RawSubject, l.RawIssuer) {
			continue
		}
		if len(l.AuthorityKeyId) > 0 && len(c.SubjectKeyId) > 0 && !bytes.Equal(l.AuthorityKeyId, c.SubjectKeyId) {
			if problem == nil {
				problem = fmt.Errorf("it is signed by another key of %s than the authority has; add that CA certificate to the authority", display(c.Subject))
			}
			continue
		}
		err := l.signedBy(c)
		if err == nil {
			return c, nil
		}
		problem = err
	}
	if problem == nil {
		problem = fmt.Errorf("it is signed by %s, which is no CA of this authority; add the certificate of that CA to the authority, or give the list to the one it belongs to", display(l.Issuer))
	}
	return nil, problem
}

func (l *list) signedBy(c *x509.Certificate) error {
	f := termination.FingerprintOf(c)
	err, known := l.signed[f]
	if known {
		return err
	}
	switch {
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCRLSign == 0:
		err = fmt.Errorf("the certificate of %s does not allow it to sign revocation lists (keyUsage without cRLSign, RFC 5280, section 4.2.1.3)", display(c.Subject))
	default:
		if failed := l.CheckSignatureFrom(c); failed != nil {
			err = fmt.Errorf("its signature does not verify under the key of %s: it was changed, cut short, or is another CA's of the same name", display(c.Subject))
		}
	}
	l.signed[f] = err
	return err
}

// early says why the list cannot be used yet; nil: it can.
func (l *list) early(now time.Time) error {
	if l.ThisUpdate.After(now.Add(skew)) {
		return fmt.Errorf("it holds from %s only, which is in the future; compare the clocks", l.ThisUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// fresh reports whether the next list is not due yet.
func (l *list) fresh(now time.Time) bool { return !now.After(l.FreshUntil()) }

// named is the list in words.
func (l *list) named() string {
	s := "CRL of " + display(l.Issuer)
	if n := l.NumberText(); n != "" {
		s = "CRL number " + n + " of " + display(l.Issuer)
	}
	return s
}

// maxDisplay bounds the names of CAs in sentences, in characters.
const maxDisplay = 80

// display is a name for a sentence. It came from outside, so what cannot be seen is replaced.
func display(n pkix.Name) string {
	s := n.CommonName
	if s == "" {
		s = termination.NameText(n)
	}
	return visible(s, maxDisplay)
}

func visible(s string, most int) string {
	out := make([]rune, 0, min(len(s), most))
	for _, r := range s {
		if len(out) == most {
			return string(out) + "…"
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		out = append(out, r)
	}
	return string(out)
}
