package proxy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// traefik is what Traefik's middleware passTLSClientCert (v3; v2 escaped the
// certificate once more) sets with pem and every field of info. Both headers hold
// a list over the chain. What could be read otherwise, since Traefik escapes nothing within the quotes, is left out.
func (c *telling) traefik() []candidate {
	var certs, infos []string
	clear := true
	for _, cert := range c.chain {
		certs = append(certs, base64.StdEncoding.EncodeToString(cert.Raw))
		info, ok := traefikInfo(cert)
		infos, clear = append(infos, info), clear && ok
	}
	out := []candidate{plain("X-Forwarded-Tls-Client-Cert", strings.Join(certs, ","))}
	const name = "X-Forwarded-Tls-Client-Cert-Info"
	if !clear {
		return append(out, candidate{name: name})
	}
	return append(out, plain(name, url.QueryEscape(strings.Join(infos, ","))))
}

// traefikInfo describes one certificate, and says whether the description can be read in one way only.
func traefikInfo(cert *x509.Certificate) (string, bool) {
	var fields []string
	clear := true
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, key+`="`+value+`"`)
		}
	}
	name := func(key string, n *pkix.Name, units []string) {
		text, ok := traefikName(n, units)
		clear = clear && ok
		add(key, text)
	}
	name("Subject", &cert.Subject, cert.Subject.OrganizationalUnit)
	name("Issuer", &cert.Issuer, nil) // without units, which Traefik does not tell of issuers
	if cert.SerialNumber != nil {
		add("SerialNumber", cert.SerialNumber.String())
	}
	add("NB", fmt.Sprint(unixSeconds(cert.NotBefore)))
	add("NA", fmt.Sprint(unixSeconds(cert.NotAfter)))
	names := append(append([]string(nil), cert.DNSNames...), cert.EmailAddresses...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	for _, n := range names {
		clear = clear && !strings.ContainsAny(n, `",`)
	}
	add("SAN", strings.Join(names, ","))
	return strings.Join(fields, ";"), clear
}

// traefikName prints a distinguished name in Traefik's order and with its keys: SN is the serial number.
func traefikName(n *pkix.Name, units []string) (string, bool) {
	var parts []string
	clear := true
	add := func(key string, values ...string) {
		for _, v := range values {
			if v == "" {
				continue
			}
			parts = append(parts, key+"="+v)
			clear = clear && !readsAsTwo(v)
		}
	}
	for _, a := range n.Names {
		if a.Type.String() == "0.9.2342.19200300.100.1.25" { // domainComponent (RFC 4519, section 2.4)
			add("DC", fmt.Sprint(a.Value))
		}
	}
	add("C", n.Country...)
	add("ST", n.Province...)
	add("L", n.Locality...)
	add("O", n.Organization...)
	add("OU", units...)
	add("SN", n.SerialNumber)
	add("CN", n.CommonName)
	return strings.Join(parts, ","), clear
}

// readsAsTwo reports whether a value in a list of names could be taken for the end of it, or for two: a comma is in many
// honest names, but not before something with an equals sign.
func readsAsTwo(v string) bool {
	_, after, comma := strings.Cut(v, ",")
	return strings.Contains(v, `"`) || comma && strings.Contains(after, "=")
}
