package wire

import "golang.org/x/crypto/cryptobyte"

// messageFollower finds its way through the handshake messages of one direction,
// which go across records as they like (RFC 5246 section 6.2.1). It keeps one
// message at a time, as much of it as is of interest.
type messageFollower struct {
	head   [handshakeHeaderLen]byte
	filled int    // bytes of head
	size   int    // bytes of the message's body
	left   int    // of them, still to come
	body   []byte // as much of it as is of interest
}

// next takes a piece of the stream. It reports whether a message is complete, and
// returns what belongs to the next one. Its kind and body hold until then.
func (f *messageFollower) next(p []byte, interest func(kind uint8, size int) int) (complete bool, rest []byte) {
	if f.filled == handshakeHeaderLen && f.left == 0 {
		f.filled = 0 // the message before is over
	}
	if f.filled < handshakeHeaderLen {
		n := copy(f.head[f.filled:], p)
		f.filled += n
		p = p[n:]
		if f.filled < handshakeHeaderLen {
			return false, nil
		}
		f.size = int(f.head[1])<<16 | int(f.head[2])<<8 | int(f.head[3])
		f.left = f.size
		f.body = f.body[:0]
	}
	n := min(f.left, len(p))
	f.left -= n
	if keep := min(n, interest(f.kind(), f.size)-len(f.body)); keep > 0 {
		f.body = append(f.body, p[:keep]...)
	}
	return f.left == 0, p[n:]
}

// kind is that of the message at hand; 0xff where its header is not complete.
func (f *messageFollower) kind() uint8 {
	if f.filled < handshakeHeaderLen {
		return 0xff
	}
	return f.head[0]
}

// drop lets go of what was kept.
func (f *messageFollower) drop() { f.body = nil }

// parseCertificates reads a Certificate message up to TLS 1.2 (RFC 5246 section
// 7.4.2) as far as it is sound, and copies what it returns.
func parseCertificates(body []byte) [][]byte {
	s := cryptobyte.String(body)
	var list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil
	}
	var chain [][]byte
	for !list.Empty() && len(chain) < maxChain {
		var der cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) || der.Empty() {
			break
		}
		chain = append(chain, clone(der))
	}
	return chain
}
