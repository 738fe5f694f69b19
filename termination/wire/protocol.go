package wire

import (
	"bytes"
	"strings"
)

// Protocol is what the first bytes of a connection look like when they are not
// TLS. It is a guess for an explanation, never grounds to let anybody in.
type Protocol string

// The protocols that are told apart. Services in which the server speaks first
// (MySQL, SMTP, IMAP) cannot be: their clients are silent.
const (
	ProtocolUnknown   Protocol = ""
	ProtocolHTTP      Protocol = "plain HTTP"
	ProtocolHTTP2     Protocol = "HTTP/2 without TLS"
	ProtocolPostgres  Protocol = "PostgreSQL asking for TLS (SSLRequest)"
	ProtocolPostgres3 Protocol = "PostgreSQL without TLS"
	ProtocolSSH       Protocol = "SSH"
	ProtocolProxyV1   Protocol = "a PROXY protocol v1 header"
	ProtocolProxyV2   Protocol = "a PROXY protocol v2 header"
	ProtocolSSLv2     Protocol = "SSL 2.0"
	ProtocolSOCKS     Protocol = "SOCKS"
	ProtocolMQTT      Protocol = "MQTT without TLS"
	ProtocolRedis     Protocol = "Redis without TLS"
	ProtocolRDP       Protocol = "RDP"
)

// maxFirstBytes is how many bytes classify may ask for.
const maxFirstBytes = 16

// opening is a byte string by which a protocol is known. In it, the bytes at
// which mask is 0 may be anything.
type opening struct {
	text     string
	mask     string // empty: every byte counts
	protocol Protocol
}

// httpMethods are the methods of RFC 9110, PATCH, and what WebDAV clients send.
const httpMethods = "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH"

// openings lists what classify looks for, most telling first.
func openings() []opening {
	return []opening{
		{text: "PRI * HTTP/2.0\r\n", protocol: ProtocolHTTP2}, // RFC 9113 section 3.4
		{text: "SSH-", protocol: ProtocolSSH},                 // RFC 4253 section 4.2
		{text: "PROXY ", protocol: ProtocolProxyV1},
		{text: "\r\n\r\n\x00\r\nQUIT\n", protocol: ProtocolProxyV2},
		{text: "\x00\x00\x00\x08\x04\xd2\x16\x2f", protocol: ProtocolPostgres},  // SSLRequest
		{text: "\x00\x00\x00\x08\x04\xd2\x16\x30", protocol: ProtocolPostgres3}, // GSSENCRequest
		{text: "\x00\x00\x00\x00\x00\x03\x00\x00", mask: "\xff\xff\x00\x00\xff\xff\xff\xff", protocol: ProtocolPostgres3},
		{text: "\x80\x00\x01", mask: "\x80\x00\xff", protocol: ProtocolSSLv2}, // a two-byte header and CLIENT-HELLO
		{text: "\x05\x00", mask: "\xff\xf0", protocol: ProtocolSOCKS},         // RFC 1928: at most fifteen methods in practice
		{text: "\x04\x01", protocol: ProtocolSOCKS},
		{text: "\x10\x00\x00\x04MQTT", mask: "\xff\x00\xff\xff\xff\xff\xff\xff", protocol: ProtocolMQTT},
		{text: "*0\r\n$", mask: "\xff\xf0\xff\xff\xff", protocol: ProtocolRedis},
		{text: "\x03\x00\x00", protocol: ProtocolRDP}, // TPKT, RFC 2126 section 4.3
	}
}

// classify guesses the protocol by the first bytes. It returns more when further
// bytes could still change the answer.
func classify(first []byte) (protocol Protocol, method string, more bool) {
	for _, o := range openings() {
		matches, complete := o.match(first)
		if matches && complete {
			return o.protocol, "", false
		}
		more = more || matches
	}
	for name := range strings.SplitSeq(httpMethods, " ") {
		line := []byte(name + " ")
		if bytes.HasPrefix(first, line) {
			return ProtocolHTTP, name, false
		}
		more = more || bytes.HasPrefix(line, first)
	}
	return ProtocolUnknown, "", more
}

// match says whether the bytes agree as far as both go, and whether that is the
// whole opening.
func (o opening) match(first []byte) (matches, complete bool) {
	n := min(len(first), len(o.text))
	for i := range n {
		mask := byte(0xff)
		if o.mask != "" {
			mask = o.mask[i]
		}
		if first[i]&mask != o.text[i] {
			return false, false
		}
	}
	return true, n == len(o.text)
}
