package upstream

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

func recordOf(presented ...*x509.Certificate) *termination.Handshake {
	return &termination.Handshake{
		Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("198.51.100.1:443"), TerminateAt: termination.AtEdge,
		Hello:     &termination.ClientHello{ServerName: "a.example"},
		Chosen:    &termination.Negotiated{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519MLKEM768), ALPN: "h2"},
		Presented: presented,
	}
}

// TestPROXYHeaderToTheByte compares whole headers of version 2 (section 2.2 of the protocol's description).
func TestPROXYHeaderToTheByte(t *testing.T) {
	when := tlstest.Valid(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
	ca := tlstest.NewCA(tlstest.CN("Devices"), when, tlstest.WithKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))))
	alice := ca.Client("alice", when, tlstest.Serial(1)).X509
	server := tlstest.NewCA().Server("a.example").X509
	field := func(kind byte, value string) string {
		return string(kind) + string(binary.BigEndian.AppendUint16(nil, uint16(len(value)))) + value
	}
	tls13 := field(0x21, "TLSv1.3") + field(0x23, "TLS_AES_128_GCM_SHA256") + field(0x24, "ecdsa-with-SHA256") + field(0x25, "EC256") + field(0x26, "X25519MLKEM768")
	resumed := recordOf(alice)
	resumed.Chosen.Resumed = true
	sealed := recordOf()
	sealed.TerminateAt = termination.AtUpstream
	huge := recordOf(ca.Client("big", when, tlstest.ManyNames(400)).X509)
	odd := recordOf(ca.Client(strings.Repeat("x", 300), when).X509)
	for _, c := range []struct {
		name     string
		rec      *termination.Handshake
		verified bool
		shown    *x509.Certificate
		ssl      string // empty: no such field
	}{
		{"verified", recordOf(alice), true, server, "\x07\x00\x00\x00\x00" + tls13 + field(0x22, "alice") + field(0x28, string(alice.Raw))},
		{"verified, resumed", resumed, true, nil, "\x05\x00\x00\x00\x00" + strings.Replace(tls13, field(0x24, "ecdsa-with-SHA256")+field(0x25, "EC256"), "", 1) + field(0x22, "alice") + field(0x28, string(alice.Raw))},
		{"not verified", recordOf(alice), false, server, "\x01\x00\x00\x00\x01" + tls13},
		{"said to be verified, without a certificate", recordOf(), true, server, "\x01\x00\x00\x00\x01" + tls13},
		{"a certificate that does not fit", huge, true, server, "\x07\x00\x00\x00\x00" + tls13 + field(0x22, "big")},
		{"a name that does not fit", odd, true, server, "\x07\x00\x00\x00\x00" + tls13 + field(0x28, string(odd.Presented[0].Raw))},
		{"sealed", sealed, true, nil, ""},
	} {
		fields := field(0x01, "h2") + field(0x02, "a.example")
		if c.ssl != "" {
			fields += field(0x20, c.ssl)
		}
		addresses := "\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb"
		want := "\r\n\r\n\x00\r\nQUIT\n\x21\x11" + string(binary.BigEndian.AppendUint16(nil, uint16(len(addresses)+len(fields)))) + addresses + fields
		if got := string(PROXYHeader(termination.ProxyProtocolV2, c.rec, c.verified, c.shown)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, hex.Dump([]byte(got)), hex.Dump([]byte(want)))
		}
	}
}

// TestPROXYHeaderNames: algorithms are named as HAProxy names them, and those that it has no name for are left out.
func TestPROXYHeaderNames(t *testing.T) {
	ca := tlstest.NewCA(tlstest.RSA(2048), tlstest.CN("RSA CA"))
	for _, c := range []struct {
		cert           *tlstest.Cert
		signature, key string
	}{
		{ca.Server("a.example", tlstest.RSA(2048)), "RSA-SHA256", "RSA2048"},
		{ca.Server("a.example", tlstest.P384(), tlstest.SignatureAlgorithm(x509.SHA384WithRSAPSS)), "RSASSA-PSS", "EC384"},
		{tlstest.NewCA(tlstest.P521()).Server("a.example", tlstest.Ed25519()), "ecdsa-with-SHA512", ""},
		{tlstest.NewCA(tlstest.Ed25519()).Server("a.example"), "ED25519", "EC256"},
	} {
		if s, k := signatureName(c.cert.X509.SignatureAlgorithm), keyName(c.cert.X509.PublicKey); s != c.signature || k != c.key {
			t.Errorf("%v: %q, %q, want %q, %q", c.cert.X509.SignatureAlgorithm, s, k, c.signature, c.key)
		}
	}
	for group, want := range map[tls.CurveID]string{tls.CurveP256: "secp256r1", tls.CurveP384: "secp384r1", tls.CurveP521: "secp521r1", tls.X25519: "x25519", tls.X25519MLKEM768: "X25519MLKEM768", 0: "", 9999: ""} {
		if got := groupName(uint16(group)); got != want {
			t.Errorf("group %d: %q, want %q", group, got, want)
		}
	}
}
