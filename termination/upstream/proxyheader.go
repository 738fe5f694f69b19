package upstream

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"countersign/termination"
	"countersign/termination/proxyproto"
)

const (
	// maxHeader bounds a PROXY header of ours, in bytes: what nginx and others take. A certificate that would exceed it
	// is left out.
	maxHeader = 4096
	// maxName bounds the names in it, in bytes.
	maxName = 255
)

// PROXYHeader is the header by which an upstream learns of a client: its address, and in version 2 what TLS agreed on,
// where it ended here. A name and a certificate are told only of a client that was verified. shown is the certificate of
// ours that the client saw; nil: not known. The header is nil where the policy asks for none.
func PROXYHeader(version termination.ProxyProtocol, rec *termination.Handshake, verified bool, shown *x509.Certificate) []byte {
	switch version {
	case termination.ProxyProtocolV1:
		return proxyproto.V1(rec.Peer, rec.Local)
	case termination.ProxyProtocolV2:
		return headerV2(rec, verified && len(rec.Presented) > 0, shown)
	default:
		return nil
	}
}

// Unclaimed is the PROXY header of a connection that is our own, as that of a health check; nil where the target gets none.
func (t *Target) Unclaimed() []byte {
	switch t.policy.ProxyProtocol {
	case termination.ProxyProtocolV1:
		return proxyproto.V1(netip.AddrPort{}, netip.AddrPort{})
	case termination.ProxyProtocolV2:
		return proxyproto.V2(netip.AddrPort{}, netip.AddrPort{})
	default:
		return nil
	}
}

func headerV2(rec *termination.Handshake, verified bool, shown *x509.Certificate) []byte {
	var fields []proxyproto.Field
	add := func(kind byte, value string) {
		if value != "" && len(value) <= maxName {
			fields = append(fields, proxyproto.Field{Type: kind, Value: []byte(value)})
		}
	}
	if rec.Chosen != nil {
		add(proxyproto.TypeALPN, rec.Chosen.ALPN)
	}
	if rec.Hello != nil {
		add(proxyproto.TypeAuthority, strings.ToValidUTF8(rec.Hello.ServerName, ""))
	}
	if rec.Chosen == nil || rec.TerminateAt == termination.AtUpstream {
		return proxyproto.V2(rec.Peer, rec.Local, fields...)
	}
	if verified && len(rec.Presented[0].Raw) < maxHeader {
		if full := proxyproto.V2(rec.Peer, rec.Local, append(fields[:len(fields):len(fields)], sslField(rec, true, true, shown))...); len(full) <= maxHeader {
			return full
		}
	}
	return proxyproto.V2(rec.Peer, rec.Local, append(fields, sslField(rec, verified, false, shown))...)
}

func sslField(rec *termination.Handshake, verified, whole bool, shown *x509.Certificate) proxyproto.Field {
	var within []proxyproto.Field
	add := func(kind byte, value string) {
		if value != "" {
			within = append(within, proxyproto.Field{Type: kind, Value: []byte(value)})
		}
	}
	add(proxyproto.SubtypeVersion, versionName(rec.Chosen.Version))
	add(proxyproto.SubtypeCipher, termination.OpenSSLSuiteName(rec.Chosen.CipherSuite))
	if shown != nil {
		add(proxyproto.SubtypeSigAlg, signatureName(shown.SignatureAlgorithm))
		add(proxyproto.SubtypeKeyAlg, keyName(shown.PublicKey))
	}
	add(proxyproto.SubtypeGroup, groupName(rec.Chosen.Group))
	client := byte(proxyproto.ClientSSL)
	if verified {
		client |= proxyproto.ClientCertSess
		if !rec.Chosen.Resumed {
			client |= proxyproto.ClientCertConn
		}
		leaf := rec.Presented[0]
		if cn := leaf.Subject.CommonName; cn != "" && len(cn) <= maxName && utf8.ValidString(cn) {
			add(proxyproto.SubtypeCN, cn)
		}
		if whole {
			within = append(within, proxyproto.Field{Type: proxyproto.SubtypeCert, Value: leaf.Raw})
		}
	}
	return proxyproto.SSL(client, verified, within...)
}

// versionName is a TLS version as OpenSSL spells it, which is what receivers of the header know.
func versionName(version uint16) string {
	switch version {
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	default:
		return tls.VersionName(version)
	}
}

// signatureName is an algorithm of a certificate's signature as OpenSSL, and so HAProxy, spells it; empty: another one.
func signatureName(a x509.SignatureAlgorithm) string {
	switch a {
	case x509.SHA256WithRSA:
		return "RSA-SHA256"
	case x509.SHA384WithRSA:
		return "RSA-SHA384"
	case x509.SHA512WithRSA:
		return "RSA-SHA512"
	case x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return "RSASSA-PSS"
	case x509.ECDSAWithSHA256:
		return "ecdsa-with-SHA256"
	case x509.ECDSAWithSHA384:
		return "ecdsa-with-SHA384"
	case x509.ECDSAWithSHA512:
		return "ecdsa-with-SHA512"
	case x509.PureEd25519:
		return "ED25519"
	default:
		return ""
	}
}

// keyName is the kind and size of a key as HAProxy writes it; empty: another kind.
func keyName(key any) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return fmt.Sprintf("EC%d", key.Params().BitSize)
	default:
		return ""
	}
}

// groupName is a group of the key exchange as OpenSSL spells it; empty: not known.
func groupName(group uint16) string {
	switch tls.CurveID(group) {
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	case tls.X25519:
		return "x25519"
	case tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024:
		return tls.CurveID(group).String()
	default:
		return ""
	}
}
