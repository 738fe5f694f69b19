package proxy

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"strings"
	"time"
)

// telling is what the header sets are made of. The leaf is nil where no identity may be asserted.
type telling struct {
	leaf  *x509.Certificate
	chain []*x509.Certificate // as of vouched
	id    identity
}

// nginx is the set that users of nginx write most often, with the values of its $ssl_client_… variables.
func (c *telling) nginx(verified string) []candidate {
	out := []candidate{plain("X-Client-Verify", verified)}
	if c.leaf == nil {
		return out
	}
	for _, h := range [...]struct{ name, value string }{
		{"X-Client-CN", c.id.commonName},
		{"X-Client-DN", c.id.subject},
		{"X-Client-Issuer-DN", c.id.issuer},
		{"X-Client-Serial", c.id.serial},
		{"X-Client-Fingerprint", c.id.fingerprint},
		{"X-Client-Cert", c.id.certificate},
	} {
		if h.value != "" {
			out = append(out, plain(h.name, h.value))
		}
	}
	return out
}

// rfc9440 is Client-Cert and, where there is one, Client-Cert-Chain: byte sequences of RFC 8941, the chain without the
// leaf and without the anchor, which the service has to know anyway (RFC 9440, sections 2.2 and 2.3).
func (c *telling) rfc9440() []candidate {
	sequence := func(cert *x509.Certificate) string { return ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":" }
	out := []candidate{plain("Client-Cert", sequence(c.leaf))}
	if len(c.chain) < 2 {
		return out
	}
	list := make([]string, 0, len(c.chain)-1)
	for _, cert := range c.chain[1:] {
		list = append(list, sequence(cert))
	}
	chain := plain("Client-Cert-Chain", strings.Join(list, ", "))
	chain.beside = "Client-Cert"
	return append(out, chain)
}

// alb is the set of AWS's Application Load Balancer in its mode "verify". The leaf is PEM in which +, = and / stay as
// they are, so it is not to be decoded as a form, where a + is a space.
func (c *telling) alb() []candidate {
	out := []candidate{plain("X-Amzn-Mtls-Clientcert-Serial-Number", c.id.serial)}
	for _, h := range [...]struct{ name, value string }{
		{"X-Amzn-Mtls-Clientcert-Issuer", c.id.issuer},
		{"X-Amzn-Mtls-Clientcert-Subject", c.id.subject},
	} {
		if h.value != "" {
			out = append(out, plain(h.name, h.value))
		}
	}
	const second = "2006-01-02T15:04:05Z"
	validity := "NotBefore=" + c.leaf.NotBefore.UTC().Format(second) + ";NotAfter=" + c.leaf.NotAfter.UTC().Format(second)
	return append(out,
		plain("X-Amzn-Mtls-Clientcert-Validity", validity),
		plain("X-Amzn-Mtls-Clientcert-Leaf", percentEncode(pemOf(c.leaf), "+=/")))
}

// xfcc is X-Forwarded-Client-Cert with every detail that Envoy can set, in its order: Hash, Cert, Chain, Subject,
// URI, DNS. By, which names the URI of the proxy's own certificate, is left out, as Envoy does when there is none. URI
// and Subject stand there even when they are empty. What is too large goes without Chain, without Cert, and at last
// without names: Hash still tells which certificate it is.
func (c *telling) xfcc() []candidate {
	cert := `Cert="` + c.id.certificate + `"`
	var all strings.Builder
	for _, link := range c.chain {
		all.WriteString(percentEncode(pemOf(link), ""))
	}
	chain := `Chain="` + all.String() + `"`
	names := []string{`Subject="` + c.id.subject + `"`}
	uris, dns := sans(c.leaf)
	var left []string
	list := func(key string, values []string) {
		for _, v := range values {
			switch text, ok := xfccValue(v); {
			case ok:
				names = append(names, key+"="+text)
			case len(left) == 0 || left[len(left)-1] != key:
				left = append(left, key)
			}
		}
	}
	if len(uris) == 0 {
		uris = []string{""}
	}
	list("URI", uris)
	list("DNS", dns)
	with := func(parts ...string) string {
		return strings.Join(append(append([]string{"Hash=" + c.id.fingerprint}, parts...), names...), ";")
	}
	without := func(parts ...string) []string { return append(parts, left...) }
	return []candidate{{name: "X-Forwarded-Client-Cert", forms: []form{
		{with(cert, chain), without()},
		{with(cert), without("Chain")},
		{with(), without("Cert", "Chain")},
		{"Hash=" + c.id.fingerprint, []string{"Cert", "Chain", "Subject", "URI", "DNS"}},
	}}}
}

// xfccValue writes the value of a key. Envoy writes URI and DNS as they are, so that a certificate could say more than it
// should; here those that could be read otherwise are quoted, as its documentation has it. What no URI and no DNS name
// may hold (RFC 3986, section 2; RFC 5890, section 2.3.1), and nobody could unquote for certain, is not written.
func xfccValue(s string) (string, bool) {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return "", false
		}
	}
	if strings.ContainsAny(s, ",;=") {
		return `"` + s + `"`, true
	}
	return s, true
}

// sans reads the subject alternative names as they stand in the certificate: crypto/x509 has parsed the URIs, and prints
// some of them otherwise.
func sans(cert *x509.Certificate) (uris, dns []string) {
	const tagDNS, tagURI = 2, 6 // RFC 5280, section 4.2.1.6
	for _, e := range cert.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &names); err != nil {
			return nil, nil
		}
		for _, n := range names {
			switch {
			case n.Class != asn1.ClassContextSpecific:
			case n.Tag == tagURI:
				uris = append(uris, string(n.Bytes))
			case n.Tag == tagDNS:
				dns = append(dns, string(n.Bytes))
			}
		}
	}
	return uris, dns
}

// unixSeconds is a time as Traefik prints it: one before 1970 becomes very large.
func unixSeconds(t time.Time) uint64 { return uint64(t.Unix()) } //nolint:gosec // as there
