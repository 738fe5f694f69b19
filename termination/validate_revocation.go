package termination

import (
	"fmt"
	"net/url"
	"slices"
)

// maxRevocationURL bounds the addresses of lists and responders, in bytes.
const maxRevocationURL = 2048

// revocation checks what authorities say about revocation. What is in the lists was looked at when they were taken in:
// with a million entries that takes a second, and this is asked at every change.
func (v *validation) revocation() {
	given := 0
	for i := range v.config.Authorities {
		a := &v.config.Authorities[i]
		r := &a.Revocation
		switch r.Mode {
		case "", RevocationOff, RevocationSoft:
		case RevocationHard:
			if len(r.CRLs)+len(r.CRLURLs) == 0 && r.OCSPURL == "" {
				v.add("authority", a.Name, "revocation", "hard, but nothing tells which certificates are revoked, so nobody could enter", "give crl_files, crl_urls or ocsp_url, or use soft")
			}
		default:
			v.add("authority", a.Name, "revocation", fmt.Sprintf("the mode %q is unknown", r.Mode), "use off, soft or hard")
		}
		if n := len(r.CRLs) + len(r.CRLURLs); n > MaxCRLSources {
			v.add("authority", a.Name, "crl_files", fmt.Sprintf("there are %d revocation lists and addresses of some", n), fmt.Sprintf("keep to %d", MaxCRLSources))
		}
		for _, l := range r.CRLs {
			given += len(l.DER)
			if len(l.DER) == 0 {
				v.add("authority", a.Name, "crl_files", "a revocation list in it is empty", "give it again")
			}
		}
		for j, u := range r.CRLURLs {
			if problem := checkRevocationURL(u); problem != "" {
				v.add("authority", a.Name, "crl_urls", fmt.Sprintf("%q %s", printable(u, 100), problem), "write it as in http://ca.example.com/devices.crl")
			} else if slices.Contains(r.CRLURLs[:j], u) {
				v.add("authority", a.Name, "crl_urls", fmt.Sprintf("%q stands there twice", u), "remove one")
			}
		}
		if problem := checkRevocationURL(r.OCSPURL); r.OCSPURL != "" && problem != "" {
			v.add("authority", a.Name, "ocsp_url", fmt.Sprintf("%q %s", printable(r.OCSPURL, 100), problem), "write it as in http://ocsp.example.com")
		}
	}
	if given > MaxGivenCRLs {
		v.add("authority", "", "crl_files", fmt.Sprintf("the revocation lists that are given have %d MiB together, where %d are allowed", given>>20, MaxGivenCRLs>>20), "let long ones be fetched: crl_urls")
	}
}

// checkRevocationURL says what is wrong with an address of a list or a responder, or nothing.
func checkRevocationURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case len(s) > maxRevocationURL:
		return fmt.Sprintf("has more than %d bytes", maxRevocationURL)
	case err != nil || u.Opaque != "" || u.Fragment != "":
		return "is no address"
	case u.Scheme != "http" && u.Scheme != "https":
		return "is neither http nor https, and nothing else is fetched"
	case u.Hostname() == "":
		return "names no host"
	case u.User != nil:
		return "holds a user name or password, which would stand in logs and exports"
	}
	return ""
}
