package wire

import "strings"

// maxServerHello bounds a ServerHello, in bytes. The largest that mean anything
// have a post-quantum key share or a cookie, and less than 3,000.
const maxServerHello = 16 << 10

// maxCertificates bounds a Certificate message that is kept, in bytes, and
// maxChain how many certificates of it.
const (
	maxCertificates = 64 << 10
	maxChain        = 10
)

// maxRetries is how many HelloRetryRequests there may be (RFC 8446 section 4.1.4).
const maxRetries = 1

// ServerObserver is fed with the bytes that pass by from a server to its client
// and notes what the server chose, as far as it can be seen from outside: all of
// it up to TLS 1.2, the ServerHello alone in TLS 1.3. The zero value is ready.
//
// It keeps at most one handshake message of bounded size, may be fed in pieces
// of any size, and is not safe for concurrent use.
type ServerObserver struct {
	tap   Tap
	ended bool

	messages messageFollower

	hello   *ServerHello
	retries int
	asks    bool
	chain   [][]byte
}

// Feed takes the bytes that came next. It returns false when there is nothing
// left to see: what follows is encrypted, or is not TLS, or is broken. Further
// calls then cost nothing.
func (o *ServerObserver) Feed(p []byte) (more bool) {
	for len(p) > 0 && !o.ended {
		var piece []byte
		piece, p = o.tap.records.next(p)
		o.tap.take(piece)
		switch {
		case o.tap.ended:
			o.ended = true
		case !o.tap.records.inRecord():
		case o.tap.records.kind() == recordHandshake:
			o.handshake(piece)
		case o.tap.records.kind() == recordChangeCipherSpec && o.hello != nil:
			o.ended = true // all that follows is encrypted
		}
	}
	if o.ended {
		o.messages.drop()
	}
	return !o.ended
}

// Hello returns the ServerHello, or nil if none has come. Up to TLS 1.2 its Group
// is set later, when the server's key exchange has come.
func (o *ServerObserver) Hello() *ServerHello { return o.hello }

// Retried says whether the server has asked the client for another hello.
func (o *ServerObserver) Retried() bool { return o.retries > 0 }

// Alert returns the last alert that the server sent in plaintext, if it has.
func (o *ServerObserver) Alert() (alert Alert, seen bool) { return o.tap.Alert() }

// AsksForCertificate says whether the server was seen to ask the client for a
// certificate. In TLS 1.3 that cannot be seen.
func (o *ServerObserver) AsksForCertificate() bool { return o.asks }

// Certificates returns the certificates that the server was seen to present, DER,
// its own first. In TLS 1.3 they cannot be seen.
func (o *ServerObserver) Certificates() [][]byte { return o.chain }

// handshake takes a piece of the stream of handshake messages.
func (o *ServerObserver) handshake(p []byte) {
	for !o.ended {
		complete, rest := o.messages.next(p, interestInServer)
		if o.messages.kind() == typeServerHello && o.messages.size > maxServerHello {
			o.ended = true
			return
		}
		if !complete {
			return
		}
		p = rest
		o.message(o.messages.kind(), o.messages.body)
	}
}

// interestInServer is how many bytes of a message are worth keeping.
func interestInServer(kind uint8, size int) int {
	switch {
	case kind == typeServerHello:
		return maxServerHello
	case kind == typeServerKeyExchange:
		return 3
	case kind == typeCertificate && size <= maxCertificates:
		return size
	}
	return 0
}

// message looks at a message that is complete.
func (o *ServerObserver) message(kind uint8, body []byte) {
	switch {
	case kind == typeServerHello && o.hello == nil:
		hello, ok := parseServerHello(body)
		switch {
		case !ok, hello.isRetry() && o.retries == maxRetries:
			o.ended = true
		case hello.isRetry():
			o.retries++
		default:
			hello.HelloRetryRequest = o.retries > 0
			o.hello = hello
			o.ended = hello.Version >= VersionTLS13
		}
	case o.hello == nil && kind != 0: // only a HelloRequest may come before it
		o.ended = true
	case kind == typeCertificate && o.chain == nil:
		o.chain = parseCertificates(body)
	case kind == typeServerKeyExchange:
		// ECParameters with a named curve (RFC 8422 section 5.4). Other key
		// exchanges begin with lengths.
		const namedCurve = 3
		if len(body) == 3 && body[0] == namedCurve && signsECDHE(o.hello.CipherSuite) {
			o.hello.Group = uint16(body[1])<<8 | uint16(body[2])
		}
	case kind == typeCertificateReq:
		o.asks = true
	}
}

// signsECDHE says whether the ServerKeyExchange of a cipher suite begins with the
// parameters of a curve.
func signsECDHE(suite uint16) bool {
	name := CipherSuiteName(suite)
	return strings.HasPrefix(name, "TLS_ECDHE_RSA_") || strings.HasPrefix(name, "TLS_ECDHE_ECDSA_") || strings.HasPrefix(name, "TLS_ECDH_anon_")
}
