package verify

import (
	"crypto/x509"
	"net/url"
	"strings"

	"countersign/termination"
)

const maxFullText = 512

// BestName names a client by its leaf: the last parts of a URI subject alternative name (SPIFFE before others), else a
// DNS name, an e-mail address, the common name, or nothing. All of it is a peer's claim, made visible and bounded for
// display; nothing may be decided by it.
func BestName(leaf *x509.Certificate) termination.ClientName {
	if leaf == nil {
		return termination.ClientName{}
	}
	name, full := bestName(leaf)
	return termination.ClientName{
		Name:        visible(name, maxNameText),
		Full:        visible(full, maxFullText),
		Fingerprint: termination.FingerprintOf(leaf),
		Issuer:      issuerName(leaf),
	}
}

func bestName(leaf *x509.Certificate) (name, full string) {
	if u := bestURI(leaf.URIs); u != nil {
		if last := lastParts(u); last != "" {
			return last, u.String()
		}
	}
	for _, names := range [][]string{leaf.DNSNames, leaf.EmailAddresses} {
		for _, n := range names {
			if n != "" {
				return n, n
			}
		}
	}
	return leaf.Subject.CommonName, leaf.Subject.CommonName
}

func bestURI(uris []*url.URL) *url.URL {
	var first *url.URL
	for _, u := range uris {
		if u == nil {
			continue
		}
		if strings.EqualFold(u.Scheme, "spiffe") {
			return u
		}
		if first == nil {
			first = u
		}
	}
	return first
}

// lastParts keeps the end of a URI, which is what tells one client from the next: the last two segments of the path.
// In the form that Kubernetes uses, spiffe://domain/ns/NAMESPACE/sa/ACCOUNT, those are the namespace and the account.
func lastParts(u *url.URL) string {
	path := u.Path
	if u.Opaque != "" { // urn:uuid:…
		path = u.Opaque[strings.LastIndexByte(u.Opaque, ':')+1:]
	}
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	switch n := len(parts); {
	case n == 0:
		return u.Host
	case n >= 4 && parts[n-4] == "ns" && parts[n-2] == "sa":
		return parts[n-3] + "/" + parts[n-1]
	case n > 2:
		parts = parts[n-2:]
	}
	return strings.Join(parts, "/")
}
