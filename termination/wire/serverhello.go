package wire

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
)

// ServerHello is what a server chose (RFC 8446 section 4.1.3, RFC 5246 section
// 7.4.1.3). Like everything from a peer it is hostile text.
type ServerHello struct {
	Version           uint16 // the version chosen, wherever it was said
	Random            [32]byte
	SessionID         []byte
	CipherSuite       uint16
	Compression       uint8
	Extensions        []uint16 // ids, in the order sent
	Group             uint16   // of the key agreement, or 0 where it is not known (yet)
	ALPN              string   // in TLS 1.2 and before; encrypted in TLS 1.3
	PSK               bool     // a pre-shared key was chosen: TLS 1.3 resumption
	HelloRetryRequest bool     // a HelloRetryRequest came before this hello
}

// Resumes says whether the server took up an earlier session: by a pre-shared key
// in TLS 1.3, by echoing the client's session id before (RFC 5246 section 7.4.1.3,
// RFC 5077 section 3.4).
func (h *ServerHello) Resumes(c *ClientHello) bool {
	if h.Version >= VersionTLS13 {
		return h.PSK
	}
	return len(h.SessionID) > 0 && bytes.Equal(h.SessionID, c.SessionID)
}

// isRetry says whether a ServerHello is a HelloRetryRequest, by its random (RFC
// 8446 section 4.1.3: the SHA-256 of "HelloRetryRequest").
func (h *ServerHello) isRetry() bool {
	return h.Random == [32]byte{
		0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
		0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
	}
}

// parseServerHello parses the body of a handshake message.
func parseServerHello(body []byte) (*ServerHello, bool) {
	s := cryptobyte.String(body)
	h := new(ServerHello)
	var random []byte
	var sessionID, extensions cryptobyte.String
	if !s.ReadUint16(&h.Version) || !s.ReadBytes(&random, len(h.Random)) ||
		!s.ReadUint8LengthPrefixed(&sessionID) || len(sessionID) > 32 ||
		!s.ReadUint16(&h.CipherSuite) || !s.ReadUint8(&h.Compression) {
		return nil, false
	}
	copy(h.Random[:], random)
	h.SessionID = clone(sessionID)
	if s.Empty() {
		return h, true
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return nil, false
	}
	for !extensions.Empty() {
		var id uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&data) || !h.parseExtension(id, data) {
			return nil, false
		}
		h.Extensions = append(h.Extensions, id)
	}
	return h, true
}

func (h *ServerHello) parseExtension(id uint16, s cryptobyte.String) bool {
	switch id {
	case extSupportedVersions:
		return s.ReadUint16(&h.Version) && s.Empty()
	case extKeyShare: // a HelloRetryRequest names the group alone
		var key cryptobyte.String
		return s.ReadUint16(&h.Group) && (s.Empty() || s.ReadUint16LengthPrefixed(&key) && s.Empty())
	case extPreSharedKey:
		h.PSK = true
	case extALPN:
		var list, name cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() || !list.ReadUint8LengthPrefixed(&name) || !list.Empty() {
			return false
		}
		h.ALPN = string(name)
	}
	return true
}
