package proxy

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"

	"countersign/termination"
	"countersign/termination/verify"
)

// identity is a client certificate in the forms of the header set "nginx". Every value is printable ASCII.
type identity struct {
	commonName  string // as it stands in subject
	subject     string // RFC 2253, as $ssl_client_s_dn
	issuer      string // RFC 2253, as $ssl_client_i_dn
	serial      string // upper-case hex, as $ssl_client_serial
	fingerprint string // SHA-256 of the DER, lower-case hex
	certificate string // PEM, percent-encoded, as $ssl_client_escaped_cert
}

func identityOf(leaf *x509.Certificate) identity {
	subject := termination.ParseDistinguishedName(leaf.RawSubject)
	return identity{
		commonName:  subject.CommonName(),
		subject:     subject.String(),
		issuer:      termination.ParseDistinguishedName(leaf.RawIssuer).String(),
		serial:      serialText(leaf.SerialNumber),
		fingerprint: termination.FingerprintOf(leaf).String(),
		certificate: percentEncode(pemOf(leaf), ""),
	}
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// leafIdentity returns the identity of the presented leaf, made once for a connection. There must be one.
func (c *Conn) leafIdentity() identity {
	c.identityOnce.Do(func() { c.identity = identityOf(c.Handshake.Presented[0]) })
	return c.identity
}

// serialText prints a serial number as OpenSSL does: whole bytes, upper case, "00" for zero.
func serialText(n *big.Int) string {
	if n == nil {
		return ""
	}
	s := strings.ToUpper(n.Text(16))
	digits, negative := strings.CutPrefix(s, "-")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	if negative {
		return "-" + digits
	}
	return digits
}

// percentEncode escapes everything but the unreserved characters of RFC 3986, section 2.3, and those named as safe.
func percentEncode(b []byte, safe string) string {
	const hexDigits = "0123456789ABCDEF"
	var out strings.Builder
	out.Grow(len(b) + len(b)/8)
	for _, c := range b {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~',
			strings.IndexByte(safe, c) >= 0:
			out.WriteByte(c)
		default:
			out.WriteByte('%')
			out.WriteByte(hexDigits[c>>4])
			out.WriteByte(hexDigits[c&15])
		}
	}
	return out.String()
}

// asserted reports whether the upstream may be told who the client is: the policy in force for the request has verified
// it, and does not merely report what it would do.
func (x *exchange) asserted() bool {
	return x.client.Verified && !x.client.ReportOnly && len(x.conn.Handshake.Presented) > 0
}

// verifyText is the value of X-Client-Verify: SUCCESS, FAILED: and the reason, or NONE, as of $ssl_client_verify.
// Where the policy does not ask, or only reports, nothing was presented to it, although another route may have asked.
func verifyText(p *verify.Policy, c *Conn, j verify.Judgement) string {
	switch {
	case j.ReportOnly:
		return "NONE"
	case j.Verified:
		return "SUCCESS"
	case len(c.Handshake.Presented) == 0 || !p.Mode().Asks():
		return "NONE"
	default:
		return "FAILED:" + string(j.Reason)
	}
}
