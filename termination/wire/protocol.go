package wire

import (
	"bytes"
	"strings"
)

// Protocol is what the first bytes of a connection look like when they are not
// TLS. It is a guess for an explanation, never grounds to let anybody in.
type Protocol string

// The protocols that are told apart. Where the server speaks first (MySQL, SMTP,
// IMAP, POP3, FTP), most clients wait in silence; these are the impatient ones.
const (
	ProtocolUnknown        Protocol = ""
	ProtocolHTTP           Protocol = "plain HTTP"
	ProtocolHTTP2          Protocol = "HTTP/2 without TLS"
	ProtocolPostgres       Protocol = "PostgreSQL asking for TLS (SSLRequest)"
	ProtocolPostgresGSS    Protocol = "PostgreSQL asking for GSSAPI encryption (GSSENCRequest)"
	ProtocolPostgresCancel Protocol = "PostgreSQL cancelling a query (CancelRequest)"
	ProtocolPostgres3      Protocol = "PostgreSQL without TLS"
	ProtocolSMTP           Protocol = "SMTP"
	ProtocolIMAP           Protocol = "IMAP"
	ProtocolPOP3           Protocol = "POP3"
	ProtocolFTP            Protocol = "FTP"
	ProtocolLDAP           Protocol = "LDAP"
	ProtocolXMPP           Protocol = "XMPP"
	ProtocolSSH            Protocol = "SSH"
	ProtocolProxyV1        Protocol = "a PROXY protocol v1 header"
	ProtocolProxyV2        Protocol = "a PROXY protocol v2 header"
	ProtocolSSLv2          Protocol = "SSL 2.0"
	ProtocolSOCKS          Protocol = "SOCKS"
	ProtocolMQTT           Protocol = "MQTT without TLS"
	ProtocolAMQP           Protocol = "AMQP without TLS"
	ProtocolRedis          Protocol = "Redis without TLS"
	ProtocolRDP            Protocol = "RDP"
)

// GoesOverToTLS says whether clients of the protocol begin without TLS and ask for
// it later, by STARTTLS or the like.
func (p Protocol) GoesOverToTLS() bool {
	switch p {
	case ProtocolPostgres, ProtocolPostgresGSS, ProtocolPostgresCancel, ProtocolPostgres3,
		ProtocolSMTP, ProtocolIMAP, ProtocolPOP3, ProtocolFTP, ProtocolLDAP, ProtocolXMPP:
		return true
	default:
		return false
	}
}

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
		{text: "\x00\x00\x00\x08\x04\xd2\x16\x2f", protocol: ProtocolPostgres}, // SSLRequest
		{text: "\x00\x00\x00\x08\x04\xd2\x16\x30", protocol: ProtocolPostgresGSS},
		{text: "\x00\x00\x00\x00\x04\xd2\x16\x2e", mask: "\xff\xff\x00\x00\xff\xff\xff\xff", protocol: ProtocolPostgresCancel},
		{text: "\x00\x00\x00\x00\x00\x03\x00\x00", mask: "\xff\xff\x00\x00\xff\xff\xff\x00", protocol: ProtocolPostgres3}, // any minor version
		{text: "EHLO ", protocol: ProtocolSMTP},                                                                           // RFC 5321 section 4.1.1.1
		{text: "HELO ", protocol: ProtocolSMTP},
		{text: "CAPA\r\n", protocol: ProtocolPOP3}, // RFC 2449 section 5
		{text: "STLS\r\n", protocol: ProtocolPOP3}, // RFC 2595 section 4
		{text: "APOP ", protocol: ProtocolPOP3},
		{text: "AUTH TLS", protocol: ProtocolFTP}, // RFC 4217 section 4
		{text: "AUTH SSL", protocol: ProtocolFTP},
		{text: "FEAT\r\n", protocol: ProtocolFTP},
		{text: "<?xml ", protocol: ProtocolXMPP}, // RFC 6120 section 4.2
		{text: "<stream:stream", protocol: ProtocolXMPP},
		// A bind, search or extended request (RFC 4511 section 4.1.1), its length short or long.
		{text: "\x30\x00\x02\x01\x00\x60", mask: "\xff\x80\xff\xff\x00\xe8", protocol: ProtocolLDAP},
		{text: "\x30\x84\x00\x00\x00\x00\x02\x01\x00\x60", mask: "\xff\xff\xff\x00\x00\x00\xff\xff\x00\xe8", protocol: ProtocolLDAP},
		{text: "AMQP\x00", protocol: ProtocolAMQP},
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
	if imap, enough := commandOfIMAP(first); imap {
		return ProtocolIMAP, "", false
	} else if !enough {
		more = true
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

// commandOfIMAP says whether the bytes are a tag and a command with which IMAP
// clients begin (RFC 9051 section 2.2.1), and whether there were enough to say so.
// Tags are a full stop, or at most one letter and some digits, as clients make
// them: almost any word may be one.
func commandOfIMAP(first []byte) (imap, enough bool) {
	const longestTag = 7
	tag, rest, found := bytes.Cut(first, []byte(" "))
	for i, c := range tag {
		digit, letter := c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z'
		if !digit && !(letter && i == 0) && string(tag) != "." {
			return false, true
		}
	}
	if len(tag) == 0 || len(tag) > longestTag {
		return false, true
	}
	if !found {
		return false, false
	}
	rest = bytes.ToUpper(rest)
	for _, command := range []string{"CAPABIL", "STARTTL", "LOGIN ", "AUTHENT", "ID ", "NOOP"} { // as much as fits
		if bytes.HasPrefix(rest, []byte(command)) {
			return true, true
		}
		if strings.HasPrefix(command, string(rest)) {
			return false, false
		}
	}
	return false, true
}
