package terminate

import (
	"crypto/x509"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"countersign/termination/wire"
)

const (
	recordTypeAlert   = 21 // RFC 8446, section 5.1
	plainAlertRecord  = 7  // header of five bytes, level, description
	plainAlertPayload = 2
)

// Conn is the client's connection below TLS. It replays the bytes in which the ClientHello was found, counts what
// passes, and during the handshake watches for what crypto/tls does not tell: plaintext alerts and the times at which
// the two sides spoke. It must not be copied.
type Conn struct {
	net.Conn
	Value any // the caller's own, found again through tls.Conn.NetConn
	// Certificates are those of the configuration under which the connection began, so that its handshake does not meet
	// others half way. Nil: those of the Terminator.
	Certificates *Certificates

	replay     []byte
	in         atomic.Int64
	out        atomic.Int64
	peerClosed atomic.Bool
	onClose    func()
	closing    sync.Once

	// The rest is touched only by the goroutine that runs the handshake, and only until watching is false.
	presented *x509.Certificate
	watching  bool
	now       func() time.Time
	tap       wire.Tap
	replied   time.Time // end of our first flight
	answered  time.Time // first bytes of the client after it
	alertSent int       // description of a plaintext alert that we sent; -1: none
}

// NewConn wraps raw, of which hello has already been read.
func NewConn(raw net.Conn, hello []byte, now func() time.Time) *Conn {
	c := &Conn{Conn: raw, replay: hello, watching: true, now: now, alertSent: -1}
	c.in.Store(int64(len(hello)))
	return c
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.replay) > 0 {
		n := copy(p, c.replay)
		c.replay = c.replay[n:]
		if len(c.replay) == 0 {
			c.replay = nil // let the ClientHello's buffer go
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	if c.watching {
		c.watchRead(p[:n])
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		c.peerClosed.Store(true)
	}
	return n, err
}

// OnClose sets what is called, once, when the connection is closed. It must be set before the connection is shared.
func (c *Conn) OnClose(f func()) { c.onClose = f }

// Close implements net.Conn.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	if c.onClose != nil {
		c.closing.Do(c.onClose)
	}
	return err
}

// PeerClosed reports whether the client ended the connection: by the end of its stream, or by a reset.
func (c *Conn) PeerClosed() bool { return c.peerClosed.Load() }

func (c *Conn) watchRead(p []byte) {
	if len(p) > 0 {
		if !c.replied.IsZero() && c.answered.IsZero() {
			c.answered = c.now()
		}
		c.tap.Feed(p)
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	if c.watching {
		if c.answered.IsZero() {
			c.replied = c.now()
		}
		if len(p) == plainAlertRecord && p[0] == recordTypeAlert && p[3] == 0 && p[4] == plainAlertPayload {
			c.alertSent = int(p[6])
		}
	}
	return n, err
}

// CloseWrite half-closes the connection, so that the peer reads the end of the stream and can still be read from.
func (c *Conn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// Presented is the leaf that the client was shown, once the handshake is over; nil: none, since a session was resumed.
func (c *Conn) Presented() *x509.Certificate { return c.presented }

// BytesIn is the number of bytes read from the client so far, TLS included.
func (c *Conn) BytesIn() int64 { return c.in.Load() }

// BytesOut is the number of bytes written to the client so far, TLS included.
func (c *Conn) BytesOut() int64 { return c.out.Load() }
