package upstream

import (
	"crypto/tls"
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
// where it ended here. A name and a certificate are told only of a client that was verified. It is nil where the policy
// asks for none.
func PROXYHeader(version termination.ProxyProtocol, rec *termination.Handshake, verified bool) []byte {
	switch version {
	case termination.ProxyProtocolV1:
		return proxyproto.V1(rec.Peer, rec.Local)
	case termination.ProxyProtocolV2:
		return headerV2(rec, verified && len(rec.Presented) > 0)
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

func headerV2(rec *termination.Handshake, verified bool) []byte {
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
		if full := proxyproto.V2(rec.Peer, rec.Local, append(fields[:len(fields):len(fields)], sslField(rec, true, true))...); len(full) <= maxHeader {
			return full
		}
	}
	return proxyproto.V2(rec.Peer, rec.Local, append(fields, sslField(rec, verified, false))...)
}

func sslField(rec *termination.Handshake, verified, whole bool) proxyproto.Field {
	within := []proxyproto.Field{
		{Type: proxyproto.SubtypeVersion, Value: []byte(versionName(rec.Chosen.Version))},
		{Type: proxyproto.SubtypeCipher, Value: []byte(termination.OpenSSLSuiteName(rec.Chosen.CipherSuite))},
	}
	client := byte(proxyproto.ClientSSL)
	if verified {
		client |= proxyproto.ClientCertSess
		if !rec.Chosen.Resumed {
			client |= proxyproto.ClientCertConn
		}
		leaf := rec.Presented[0]
		if cn := leaf.Subject.CommonName; cn != "" && len(cn) <= maxName && utf8.ValidString(cn) {
			within = append(within, proxyproto.Field{Type: proxyproto.SubtypeCN, Value: []byte(cn)})
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
