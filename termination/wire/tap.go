package wire

// Tap is fed with the bytes that come from a peer after (or from) its first ones
// and remembers the last alert that came in plaintext. The zero value is ready.
//
// OpenSSL sends an alert about the server's certificate in plaintext even in TLS
// 1.3, where crypto/tls expects it encrypted and reports a bad record MAC: the tap
// is how to learn what the client meant to say. Whoever sends in plaintext may be
// anybody, so an alert of a tap explains and decides nothing.
//
// A Tap allocates nothing and may be fed in pieces of any size. It is not safe for
// concurrent use.
type Tap struct {
	records recordFollower
	body    [2]byte
	filled  int
	alert   Alert
	seen    bool
	ended   bool
}

// Feed takes the bytes that came next. It returns false when there is nothing
// left to see, since application data has begun or the bytes are not TLS; further
// calls then cost nothing.
func (t *Tap) Feed(p []byte) (more bool) {
	for len(p) > 0 && !t.ended {
		var piece []byte
		piece, p = t.records.next(p)
		t.take(piece)
	}
	return !t.ended
}

func (t *Tap) take(piece []byte) {
	switch {
	case !t.records.inRecord():
	case t.records.lost || t.records.kind() == recordApplicationData:
		t.ended = true
	case t.records.kind() == recordAlert && t.records.length() == len(t.body):
		// An encrypted alert is longer in every version.
		t.filled += copy(t.body[t.filled:], piece)
		if t.filled == len(t.body) {
			t.alert, t.seen, t.filled = Alert{Level: t.body[0], Description: t.body[1]}, true, 0
		}
	}
}

// Alert returns the last alert that came in plaintext, if one has.
func (t *Tap) Alert() (alert Alert, seen bool) { return t.alert, t.seen }
