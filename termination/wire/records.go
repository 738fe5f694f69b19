package wire

// recordFollower finds its way through the records of one direction of a
// connection, however the bytes are split, in a few bytes of memory.
type recordFollower struct {
	header [recordHeaderLen]byte
	have   int  // bytes of the header in hand
	left   int  // bytes of the record's body still to come
	lost   bool // what came is no TLS record; there is no way back
}

// next takes from p what completes a header or continues a record's body. It
// returns that piece of the body, which may be empty, and the rest of p. The
// record's kind and length hold while inRecord does.
func (f *recordFollower) next(p []byte) (piece, rest []byte) {
	if f.have == recordHeaderLen && f.left == 0 {
		f.have = 0 // the record before is over
	}
	if f.have < recordHeaderLen {
		n := copy(f.header[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have < recordHeaderLen {
			return nil, nil
		}
		f.left = f.length()
		f.lost = !plausible(f.kind(), f.header[1], f.left)
	}
	n := min(f.left, len(p))
	f.left -= n
	return p[:n], p[n:]
}

// inRecord says whether a header is complete.
func (f *recordFollower) inRecord() bool { return f.have == recordHeaderLen }

func (f *recordFollower) kind() uint8 { return f.header[0] }

func (f *recordFollower) length() int { return int(f.header[3])<<8 | int(f.header[4]) }

// plausible refuses what cannot be a record header: an unknown content type, a
// major version other than 3, or more than an encrypted record of any version may
// hold (RFC 5246 section 6.2.3).
func plausible(kind, major uint8, length int) bool {
	const heartbeat = 24
	return kind >= recordChangeCipherSpec && kind <= heartbeat && major == 3 && length <= maxPlaintext+2048
}
