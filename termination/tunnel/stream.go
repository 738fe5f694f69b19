package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

// Header goes ahead of a client's bytes.
type Header struct {
	Handshake string         `json:"handshake"` // ID of its record
	Listener  netip.AddrPort `json:"listener"`  // the configured address that the client came by
	Peer      netip.AddrPort `json:"peer"`      // the client
	Local     netip.AddrPort `json:"local"`     // that it connected to
}

// maxID bounds the ID of a handshake, in bytes.
const maxID = 64

func (h Header) check() error {
	if h.Handshake == "" || len(h.Handshake) > maxID || !h.Listener.IsValid() || !h.Peer.IsValid() || !h.Local.IsValid() {
		return errors.New("the header of a connection is incomplete")
	}
	return nil
}

// ReadHeader reads what goes ahead of a client's bytes, and not one byte more.
func ReadHeader(r io.Reader) (Header, error) {
	var h Header
	if err := readFrame(r, maxHeader, &h); err != nil {
		return h, fmt.Errorf("read the header of a connection: %w", err)
	}
	return h, h.check()
}

// Stream is a client's connection inside a tunnel. It behaves as a TCP connection does, with the client's addresses.
type Stream struct {
	inner *yamux.Stream
	peer  *net.TCPAddr
	local *net.TCPAddr
}

func newStream(inner *yamux.Stream, h Header) *Stream {
	return &Stream{inner: inner, peer: net.TCPAddrFromAddrPort(h.Peer), local: net.TCPAddrFromAddrPort(h.Local)}
}

// Read implements net.Conn. What came before the tunnel ended can still be read: that the peer cannot be told how much
// was, which is the error of a read that has bytes, does not make them less.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.inner.Read(p)
	if n > 0 {
		return n, nil // what is wrong, the next one meets too
	}
	return n, asNet(err)
}

// Write implements net.Conn.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.inner.Write(p)
	return n, asNet(err)
}

// CloseWrite ends what we send; the peer can still be read from.
func (s *Stream) CloseWrite() error { return asNet(s.inner.CloseWrite()) }

// Close implements net.Conn. The peer gets what was written before, then the end of the stream; what it still sends
// goes nowhere, and it is told so.
func (s *Stream) Close() error {
	_ = s.inner.CloseWrite() // the peer may be gone
	return s.inner.Reset()
}

// Reset ends the stream at once, so that the peer cannot take what it got for the whole.
func (s *Stream) Reset() error { return s.inner.Reset() }

// LocalAddr implements net.Conn.
func (s *Stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn: it is the client's address.
func (s *Stream) RemoteAddr() net.Addr { return s.peer }

// SetDeadline implements net.Conn.
func (s *Stream) SetDeadline(t time.Time) error { return s.inner.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.inner.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.inner.SetWriteDeadline(t) }

// asNet turns the multiplexer's errors into those that a TCP connection returns, by which callers decide.
func asNet(err error) error {
	var ended *yamux.StreamError
	switch {
	case err == nil, err == io.EOF: //nolint:errorlint // readers return it as it is
		return err
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrStreamClosed), errors.As(err, &ended) && !ended.Remote:
		return net.ErrClosed
	default:
		return err
	}
}
