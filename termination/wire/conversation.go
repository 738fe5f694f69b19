package wire

import "sync"

// maxWatched bounds what is looked at in one direction, in bytes. The handshakes of
// real clients and servers have less than a tenth of it.
const maxWatched = 256 << 10

// Conversation watches both directions of a TLS connection that passes by, from
// what follows the ClientHello until everything was seen that can be seen from
// outside. It holds no key, and decides nothing. Its two directions may be fed by
// two goroutines; what was forwarded must have been fed before. The zero value is
// ready.
type Conversation struct {
	mu         sync.Mutex
	server     ServerObserver
	client     clientObserver
	fromServer int
	fromClient int
}

// Seen is what a Conversation has seen so far. Certificates are DER, hostile and
// unproven, and only there up to TLS 1.2.
type Seen struct {
	Hello              *ServerHello // what the server chose; nil: nothing yet
	ServerAlert        *Alert       // the last in plaintext
	ClientAlert        *Alert
	ServerCertificates [][]byte
	ClientCertificates [][]byte
	AsksForCertificate bool // the server asked the client for one: up to TLS 1.2
	ClientWentOn       bool // the client encrypts: it goes on with the handshake, or says in secret why not
	ClientShort        bool // in TLS 1.3: what it encrypted first is as short as an alert, and as nothing else
}

// Sealed says whether all that follows the server's hello is encrypted, so that
// certificates cannot be seen.
func (s Seen) Sealed() bool { return s.Hello != nil && s.Hello.Version >= VersionTLS13 }

// ClientGaveUp says whether the client ended the handshake by the alert that was
// seen of it.
func (s Seen) ClientGaveUp() bool { return s.ClientAlert != nil && givesUp(*s.ClientAlert) }

// ServerGaveUp says the same of the server.
func (s Seen) ServerGaveUp() bool { return s.ServerAlert != nil && s.ServerAlert.Level == LevelFatal }

// FromServer takes the bytes that came next from the server. It returns false when
// there is nothing left to see in this direction.
func (c *Conversation) FromServer(p []byte) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fromServer += len(p)
	more = c.server.Feed(p)
	return more && c.fromServer < maxWatched && !c.over()
}

// FromClient is FromServer for the other direction.
func (c *Conversation) FromClient(p []byte) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fromClient += len(p)
	more = c.client.feed(p, c.server.hello)
	return more && c.fromClient < maxWatched && !c.over()
}

// Over says whether what was seen settles it, so that neither direction has
// anything more to tell: one of the two has given up, or does not speak TLS.
func (c *Conversation) Over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over()
}

func (c *Conversation) over() bool {
	said, clientSpoke := c.client.tap.Alert()
	alert, serverSpoke := c.server.Alert()
	return clientSpoke && givesUp(said) || serverSpoke && alert.Level == LevelFatal || c.client.lost || c.server.ended && c.server.hello == nil
}

// Seen returns what was seen so far.
func (c *Conversation) Seen() Seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Seen{
		ServerCertificates: c.server.Certificates(), ClientCertificates: c.client.chain,
		AsksForCertificate: c.server.AsksForCertificate(), ClientWentOn: c.client.encrypts, ClientShort: c.client.short,
	}
	if h := c.server.Hello(); h != nil {
		hello := *h // its Group may still change
		s.Hello = &hello
	}
	if a, ok := c.server.Alert(); ok {
		s.ServerAlert = &a
	}
	if a, ok := c.client.tap.Alert(); ok {
		s.ClientAlert = &a
	}
	return s
}

// clientObserver notes what can be seen of a client after its ClientHello.
type clientObserver struct {
	tap      Tap
	messages messageFollower
	chain    [][]byte
	encrypts bool
	short    bool
	lost     bool // what came is no TLS
}

// alertRecord is the length of an encrypted alert in TLS 1.3: level, description,
// the inner content type, and 16 bytes of authentication (RFC 8446 section 5.2).
// Nothing else that a client encrypts first is as short: an empty Certificate has
// 25 bytes, a Finished 53.
const alertRecord = 2 + 1 + 16

func (o *clientObserver) feed(p []byte, server *ServerHello) (more bool) {
	for len(p) > 0 && !o.encrypts && !o.lost {
		var piece []byte
		piece, p = o.tap.records.next(p)
		kind := o.tap.records.kind()
		switch {
		case !o.tap.records.inRecord():
		case o.tap.records.lost:
			o.lost = true
		case kind == recordApplicationData:
			if server == nil {
				continue // 0-RTT, ahead of the server's hello
			}
			o.encrypts = true
			o.short = server.Version >= VersionTLS13 && o.tap.records.length() == alertRecord
		case kind == recordChangeCipherSpec:
			// In TLS 1.3 it stands there for the sake of middleboxes (RFC 8446 appendix D.4).
			o.encrypts = server != nil && server.Version < VersionTLS13
		case kind == recordHandshake:
			o.handshake(piece)
		default:
			o.tap.take(piece)
		}
	}
	if o.encrypts || o.lost {
		o.messages.drop()
	}
	return !o.encrypts && !o.lost
}

// handshake takes a piece of the stream of handshake messages.
func (o *clientObserver) handshake(p []byte) {
	for {
		complete, rest := o.messages.next(p, interestInClient)
		switch o.messages.kind() {
		case 0xff, typeClientHello, typeCertificate, typeClientKeyExchange, typeCertificateVerify:
		default:
			o.lost = true // no client says this in plaintext
			return
		}
		if !complete {
			return
		}
		if o.messages.kind() == typeCertificate && o.chain == nil {
			o.chain = parseCertificates(o.messages.body)
		}
		p = rest
	}
}

// interestInClient is how many bytes of a message are worth keeping.
func interestInClient(kind uint8, size int) int {
	if kind == typeCertificate && size <= maxCertificates {
		return size
	}
	return 0
}

// givesUp says whether a client ends the handshake by this alert.
func givesUp(a Alert) bool {
	const closeNotify, userCanceled = 0, 90
	return a.Level == LevelFatal || a.Description == closeNotify || a.Description == userCanceled
}
