package tunnel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Bounds of what one side reads of the other, in bytes.
const (
	maxHeader  = 1 << 10  // of a client connection
	maxJoin    = 32 << 10 // of either message of joining
	maxControl = 48 << 20 // to the agent: a policy with its authorities, and the revocation lists that they were given
	maxState   = 64 << 10 // to the gateway: beats, and requests for certificates
	maxReport  = 1 << 20  // a handshake's record, with the certificates that the client presented
)

// frameHead is the length of what follows, big-endian.
const frameHead = 4

// errTooLarge says that the peer announced more than it may send.
var errTooLarge = errors.New("the message is larger than allowed")

// writeFrame sends v as JSON with its length in front, in one write.
func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	return writeBody(w, body)
}

func writeBody(w io.Writer, body []byte) error {
	frame := make([]byte, frameHead, frameHead+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body))) //nolint:gosec // no message of ours is near that size
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// readFrame reads one message of at most limit bytes into v. A key that v does not know is an error: what a newer peer
// says must not be half understood.
func readFrame(r io.Reader, limit int, v any) error {
	body, err := readBody(r, limit)
	if err != nil {
		return err
	}
	return decode(body, v)
}

// readBody returns io.EOF, as it is, where the stream ended before a message.
func readBody(r io.Reader, limit int) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) { //nolint:gosec // limits are small and positive
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errTooLarge, n, limit)
	}
	// Grown as it comes: an announcement alone costs nothing.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read a message: %w", err)
	}
	return body.Bytes(), nil
}

func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read a message: %w; run the same version of countersign on both sides", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read a message: something follows it")
	}
	return nil
}
