package wire

import (
	"errors"
	"fmt"
	"io"
)

// MaxClientHello is the default limit for the size of a ClientHello, in bytes of
// handshake message. Hellos of browsers with post-quantum key shares have some
// 2,000; crypto/tls refuses more than 64 KiB too.
const MaxClientHello = 64 << 10

const (
	recordHeaderLen    = 5
	handshakeHeaderLen = 4
	maxPlaintext       = 1 << 14 // RFC 8446 section 5.1

	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplicationData  = 23

	typeClientHello       = 1
	typeServerHello       = 2
	typeCertificate       = 11
	typeServerKeyExchange = 12
	typeCertificateReq    = 13
	typeCertificateVerify = 15
	typeClientKeyExchange = 16
)

// ReadClientHello reads a ClientHello from the start of a connection. The hello may
// come in any number of segments and TLS records, and may be no larger than limit
// bytes (MaxClientHello if limit is not positive).
//
// It returns everything that it has read from r, with an error too, so that the
// connection can be replayed. It never reads beyond the record that completes the
// hello. Since a record brings at least one byte of the hello in a header of
// five, and none may bring more than the hello, raw is never longer than six times
// the limit; memory grows only with what has arrived.
//
// The error is always a *HelloError.
func ReadClientHello(r io.Reader, limit int) (hello *ClientHello, raw []byte, err error) {
	if limit <= 0 {
		limit = MaxClientHello
	}
	h := helloReader{r: r, limit: limit, raw: make([]byte, 0, firstBuffer)}
	message, flaw := h.read()
	if flaw != nil {
		return nil, h.raw, flaw
	}
	hello, reason := parseClientHello(message)
	if reason != "" {
		return nil, h.raw, broken(AlertDecodeError, reason)
	}
	hello.Records = h.records
	return hello, h.raw, nil
}

// firstBuffer holds most hellos without growing.
const firstBuffer = 2048

// maxEmptyReads bounds reads in a row that return neither bytes nor an error.
const maxEmptyReads = 100

type helloReader struct {
	r       io.Reader
	limit   int
	raw     []byte // everything read
	records int    // complete records of the hello
	err     error  // of the last read, held back until its bytes are used
}

// read returns the whole handshake message, header included.
func (h *helloReader) read() ([]byte, *HelloError) {
	if flaw := h.expectTLS(); flaw != nil {
		return nil, flaw
	}
	var (
		head = make([]byte, 0, handshakeHeaderLen) // of the handshake message
		size = handshakeHeaderLen                  // of the message, as far as it is known
		got  = 0                                   // bytes of the message in the records before this one
		at   = 0                                   // where this record starts
	)
	for got < size {
		if flaw := h.fill(at+recordHeaderLen, at+recordHeaderLen+size-got); flaw != nil {
			return nil, flaw
		}
		length, flaw := h.recordHeader(at)
		if flaw != nil {
			return nil, flaw
		}
		body := at + recordHeaderLen

		// The message's own header comes first, so that a hello that is too
		// large is refused before it is read.
		if n := min(length, handshakeHeaderLen-len(head)); n > 0 {
			if flaw := h.fill(body+n, body+n); flaw != nil {
				return nil, flaw
			}
			head = append(head, h.raw[body:body+n]...)
			if len(head) == handshakeHeaderLen {
				if size, flaw = h.messageSize([4]byte(head)); flaw != nil {
					return nil, flaw
				}
			}
		}
		rest := size - got - length // of the message, after this record
		if rest < 0 {
			return nil, broken(AlertUnexpectedMessage, "other bytes follow it in its record")
		}
		ahead := body + length
		if rest > 0 {
			ahead += recordHeaderLen + rest
		}
		if flaw := h.fill(body+length, ahead); flaw != nil {
			return nil, flaw
		}
		h.records++
		got += length
		at = body + length
	}
	if h.records == 1 {
		return h.raw[recordHeaderLen:], nil
	}
	return h.join(size), nil
}

// join puts the fragments of the message together.
func (h *helloReader) join(size int) []byte {
	message := make([]byte, 0, size)
	for rest := h.raw; len(rest) > 0; {
		end := recordHeaderLen + int(rest[3])<<8 + int(rest[4])
		message = append(message, rest[recordHeaderLen:end]...)
		rest = rest[end:]
	}
	return message
}

// expectTLS looks at the very first bytes.
func (h *helloReader) expectTLS() *HelloError {
	if flaw := h.fill(1, recordHeaderLen+handshakeHeaderLen); flaw != nil {
		return flaw
	}
	if kind := h.raw[0]; kind == recordHandshake || kind == recordAlert {
		if flaw := h.fill(2, recordHeaderLen+handshakeHeaderLen); flaw != nil {
			return flaw
		}
		if h.raw[1] != 3 {
			return &HelloError{Kind: ErrNotTLS}
		}
		if kind == recordAlert {
			return h.alertInstead()
		}
		return nil
	}
	for {
		protocol, method, more := classify(h.raw)
		if !more || len(h.raw) >= maxFirstBytes {
			flaw := &HelloError{Kind: ErrNotTLS, Protocol: protocol, Method: method}
			if protocol == ProtocolSSLv2 {
				flaw.Alert = AlertProtocolVersion
			}
			return flaw
		}
		if flaw := h.fill(len(h.raw)+1, maxFirstBytes); flaw != nil {
			return &HelloError{Kind: ErrNotTLS, Err: flaw.Err}
		}
	}
}

// alertInstead reads an alert that came where a hello should be.
func (h *helloReader) alertInstead() *HelloError {
	if flaw := h.fill(recordHeaderLen+2, recordHeaderLen+2); flaw != nil {
		return flaw
	}
	if h.raw[3] != 0 || h.raw[4] != 2 {
		return &HelloError{Kind: ErrNotTLS}
	}
	return broken(0, "an alert came in its place: "+AlertName(h.raw[6]))
}

// recordHeader checks the header of the record at this place and returns the
// length of what follows.
func (h *helloReader) recordHeader(at int) (length int, flaw *HelloError) {
	header := h.raw[at : at+recordHeaderLen]
	length = int(header[3])<<8 | int(header[4])
	switch {
	case header[0] != recordHandshake:
		return 0, broken(AlertUnexpectedMessage, fmt.Sprintf("a record of type %d is mixed into it", header[0]))
	case header[1] != 3:
		return 0, broken(AlertProtocolVersion, fmt.Sprintf("a record has version %#04x", uint16(header[1])<<8|uint16(header[2])))
	case length == 0:
		return 0, broken(AlertUnexpectedMessage, "a record of it is empty") // forbidden by RFC 8446 section 5.1
	case length > maxPlaintext:
		return 0, broken(AlertRecordOverflow, fmt.Sprintf("a record of it has %d bytes", length))
	}
	return length, nil
}

func (h *helloReader) messageSize(head [4]byte) (int, *HelloError) {
	if head[0] != typeClientHello {
		return 0, broken(AlertUnexpectedMessage, fmt.Sprintf("a handshake message of type %d came in its place", head[0]))
	}
	size := handshakeHeaderLen + int(head[1])<<16 + int(head[2])<<8 + int(head[3])
	if size > h.limit {
		return 0, &HelloError{
			Kind: ErrHelloTooLarge, Alert: AlertIllegalParameter,
			Reason: fmt.Sprintf("%d bytes, and the limit is %d", size, h.limit),
		}
	}
	return size, nil
}

// fill reads until raw holds upTo bytes. Where that saves reads, it takes up to
// ahead bytes: that many the client is sure to have sent, unless its hello is
// broken.
func (h *helloReader) fill(upTo, ahead int) *HelloError {
	ahead = max(ahead, upTo)
	for empty := 0; len(h.raw) < upTo; {
		if h.err != nil || empty == maxEmptyReads {
			return h.ended()
		}
		if len(h.raw) == cap(h.raw) {
			h.raw = append(h.raw, 0)[:len(h.raw)]
		}
		n, err := h.r.Read(h.raw[len(h.raw):min(cap(h.raw), ahead)])
		h.raw, h.err = h.raw[:len(h.raw)+n], err
		empty++
		if n > 0 {
			empty = 0
		}
	}
	return nil
}

func (h *helloReader) ended() *HelloError {
	flaw := &HelloError{Kind: ErrCutShort, Err: h.err}
	if len(h.raw) == 0 {
		flaw.Kind = ErrNoBytes
	}
	if flaw.Err == nil {
		flaw.Err = errors.New("reads return nothing")
	}
	return flaw
}

func broken(alert uint8, reason string) *HelloError {
	return &HelloError{Kind: ErrHelloBroken, Alert: alert, Reason: reason}
}
