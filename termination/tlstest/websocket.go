package tlstest

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxFrame bounds the frames that the WebSocket echo takes, in bytes.
const maxFrame = 16 << 20

func isWebSocket(r *http.Request) bool {
	return r.ProtoMajor == 1 && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && r.Header.Get("Sec-WebSocket-Key") != ""
}

// serveWebSocketEcho accepts an upgrade (RFC 6455 section 4.2.2) by hand, so that
// no library tidies up what the proxy in front sends, and returns each frame
// unmasked. A ping comes back as a pong; a close frame comes back and ends it.
func serveWebSocketEcho(w http.ResponseWriter, r *http.Request) {
	ended := r.Context() // taking the connection over does not end it: the server's end does
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ended, func() { conn.Close() })()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if protocol, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ","); protocol != "" {
		fmt.Fprintf(rw, "Sec-WebSocket-Protocol: %s\r\n", protocol)
	}
	fmt.Fprint(rw, "\r\n")
	for rw.Flush() == nil {
		first, payload, err := readFrame(rw.Reader)
		if err != nil {
			return
		}
		const opcode, closing, ping, pong = 0x0f, 0x8, 0x9, 0xa
		if first&opcode == ping {
			first = first&^opcode | pong
		}
		writeFrame(rw.Writer, first, payload)
		if first&opcode == closing {
			rw.Flush()
			return
		}
	}
}

// readFrame reads a client's frame, which is always masked (RFC 6455 section 5.2).
func readFrame(r *bufio.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[1]&0x80 == 0 {
		return 0, nil, errors.New("client frame without a mask")
	}
	size := uint64(head[1] & 0x7f)
	switch size {
	case 126:
		var n uint16
		err = binary.Read(r, binary.BigEndian, &n)
		size = uint64(n)
	case 127:
		err = binary.Read(r, binary.BigEndian, &size)
	}
	if err != nil {
		return 0, nil, err
	}
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", size)
	}
	var mask [4]byte
	if _, err := io.ReadFull(r, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload, nil
}

func writeFrame(w *bufio.Writer, first byte, payload []byte) {
	w.WriteByte(first)
	switch n := len(payload); {
	case n < 126:
		w.WriteByte(byte(n))
	case n < 1<<16:
		w.WriteByte(126)
		w.Write(binary.BigEndian.AppendUint16(nil, uint16(n)))
	default:
		w.WriteByte(127)
		w.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	w.Write(payload)
}
