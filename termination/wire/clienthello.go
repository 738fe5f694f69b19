package wire

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// ClientHello is what a client says first (RFC 8446 section 4.1.2). Lists are in
// the client's order and include GREASE values (RFC 8701) and duplicates. All of
// it is hostile text; strings may hold any byte.
type ClientHello struct {
	Version      uint16 // legacy_version; see Versions for what is offered
	Random       [32]byte
	SessionID    []byte
	CipherSuites []uint16
	Compression  []byte
	Extensions   []uint16 // ids

	ServerName           string // host_name of server_name, as sent; empty without one
	ALPN                 []string
	SupportedVersions    []uint16
	Groups               []uint16 // supported_groups
	KeyShares            []uint16 // groups for which a key share was sent
	SignatureSchemes     []uint16 // signature_algorithms
	SignatureSchemesCert []uint16 // signature_algorithms_cert
	PointFormats         []byte   // ec_point_formats
	PSKModes             []byte   // psk_key_exchange_modes
	PSKs                 int      // identities in pre_shared_key: sessions offered for resumption in TLS 1.3
	TicketSupported      bool     // session_ticket is there
	TicketSize           int      // bytes of the session offered for resumption in TLS 1.2; 0: none
	EarlyData            bool
	Cookie               bool
	OCSP                 bool // status_request
	ECH                  bool // encrypted_client_hello: in earnest or as GREASE, which nobody can tell from outside

	Size    int // bytes of the handshake message, header included
	Records int // TLS records that it came in
}

// ParseClientHello parses a handshake message, header included, as
// ReadClientHello does. The error is a *HelloError.
func ParseClientHello(message []byte) (*ClientHello, error) {
	hello, reason := parseClientHello(message)
	if reason != "" {
		return nil, broken(AlertDecodeError, reason)
	}
	return hello, nil
}

// parseClientHello returns a hello or, in words, why it is none.
func parseClientHello(message []byte) (*ClientHello, string) {
	s := cryptobyte.String(message)
	var (
		kind                                          uint8
		body, sessionID, suites, compression, extents cryptobyte.String
		random                                        []byte
	)
	h := &ClientHello{Size: len(message)}
	if !s.ReadUint8(&kind) || kind != typeClientHello || !s.ReadUint24LengthPrefixed(&body) || !s.Empty() {
		return nil, "its header does not fit its size"
	}
	if !body.ReadUint16(&h.Version) || !body.ReadBytes(&random, len(h.Random)) {
		return nil, "it ends in the version or the random"
	}
	copy(h.Random[:], random)
	if !body.ReadUint8LengthPrefixed(&sessionID) || len(sessionID) > 32 {
		return nil, "the session id is longer than 32 bytes or than the hello"
	}
	h.SessionID = clone(sessionID)
	if !body.ReadUint16LengthPrefixed(&suites) || !readUint16s(suites, &h.CipherSuites) {
		return nil, "the list of cipher suites is empty or ends half way"
	}
	if !body.ReadUint8LengthPrefixed(&compression) || compression.Empty() {
		return nil, "the list of compression methods is empty or ends half way"
	}
	h.Compression = clone(compression)
	if body.Empty() {
		return h, "" // TLS 1.2 and before may do without extensions
	}
	if !body.ReadUint16LengthPrefixed(&extents) || !body.Empty() {
		return nil, "the list of extensions does not fit its size"
	}
	return h, h.parseExtensions(extents)
}

func (h *ClientHello) parseExtensions(s cryptobyte.String) (reason string) {
	h.Extensions = make([]uint16, 0, 24)
	seen := make(map[uint16]struct{}, 24)
	for !s.Empty() {
		var id uint16
		var data cryptobyte.String
		if !s.ReadUint16(&id) || !s.ReadUint16LengthPrefixed(&data) {
			return "the list of extensions ends half way"
		}
		if _, twice := seen[id]; twice {
			return "extension " + ExtensionName(id) + " comes twice"
		}
		seen[id] = struct{}{}
		h.Extensions = append(h.Extensions, id)
		if id == extServerName {
			if reason := h.parseServerName(data); reason != "" {
				return reason
			}
			continue
		}
		if id == extPreSharedKey && !s.Empty() {
			return "pre_shared_key is not the last extension" // RFC 8446 section 4.2.11
		}
		if !h.parseExtension(id, data) {
			return "extension " + ExtensionName(id) + " is malformed"
		}
	}
	return ""
}

// parseServerName reads server_name (RFC 6066 section 3). What is refused here is
// what crypto/tls refuses.
func (h *ClientHello) parseServerName(s cryptobyte.String) (reason string) {
	var names cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&names) || !s.Empty() {
		return "server_name is malformed"
	}
	if names.Empty() {
		return "server_name is an empty list"
	}
	for !names.Empty() {
		var kind uint8
		var name cryptobyte.String
		if !names.ReadUint8(&kind) || !names.ReadUint16LengthPrefixed(&name) {
			return "server_name is malformed"
		}
		switch {
		case name.Empty():
			return "server_name has an empty name"
		case kind != 0:
			continue // not a host_name: RFC 6066 defines no other
		case h.ServerName != "":
			return "server_name has two host names"
		case strings.HasSuffix(string(name), "."):
			return fmt.Sprintf("the server name %.80q has a trailing dot", name)
		}
		h.ServerName = string(name)
	}
	return ""
}

// parseExtension reads an extension and reports whether it is well formed. The
// ones that it does not know, it does not judge.
func (h *ClientHello) parseExtension(id uint16, s cryptobyte.String) bool {
	var list cryptobyte.String
	switch id {
	case extStatusRequest: // RFC 6066 section 8
		var kind uint8
		var ignored cryptobyte.String
		if !s.ReadUint8(&kind) || !s.ReadUint16LengthPrefixed(&ignored) || !s.ReadUint16LengthPrefixed(&ignored) {
			return false
		}
		h.OCSP = kind == 1
	case extSupportedGroups: // RFC 8446 section 4.2.7
		if !s.ReadUint16LengthPrefixed(&list) || !readUint16s(list, &h.Groups) {
			return false
		}
	case extECPointFormats: // RFC 8422 section 5.1.2
		if !s.ReadUint8LengthPrefixed(&list) || list.Empty() {
			return false
		}
		h.PointFormats = clone(list)
	case extSessionTicket: // RFC 5077 section 3.2
		h.TicketSupported, h.TicketSize = true, len(s)
		return true
	case extSignatureAlgorithms: // RFC 8446 section 4.2.3
		if !s.ReadUint16LengthPrefixed(&list) || !readUint16s(list, &h.SignatureSchemes) {
			return false
		}
	case extSignatureAlgorithmsCert:
		if !s.ReadUint16LengthPrefixed(&list) || !readUint16s(list, &h.SignatureSchemesCert) {
			return false
		}
	case extALPN: // RFC 7301 section 3.1
		if !s.ReadUint16LengthPrefixed(&list) || list.Empty() {
			return false
		}
		for !list.Empty() {
			var name cryptobyte.String
			if !list.ReadUint8LengthPrefixed(&name) || name.Empty() {
				return false
			}
			h.ALPN = append(h.ALPN, string(name))
		}
	case extSupportedVersions: // RFC 8446 section 4.2.1
		if !s.ReadUint8LengthPrefixed(&list) || !readUint16s(list, &h.SupportedVersions) {
			return false
		}
	case extCookie: // RFC 8446 section 4.2.2
		if !s.ReadUint16LengthPrefixed(&list) || list.Empty() {
			return false
		}
		h.Cookie = true
	case extKeyShare: // RFC 8446 section 4.2.8; empty asks for a HelloRetryRequest
		if !s.ReadUint16LengthPrefixed(&list) {
			return false
		}
		for !list.Empty() {
			var group uint16
			var key cryptobyte.String
			if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&key) || key.Empty() {
				return false
			}
			h.KeyShares = append(h.KeyShares, group)
		}
	case extPSKModes: // RFC 8446 section 4.2.9
		if !s.ReadUint8LengthPrefixed(&list) {
			return false
		}
		h.PSKModes = clone(list)
	case extPreSharedKey:
		if !h.parsePreSharedKey(&s) {
			return false
		}
	case extEarlyData:
		h.EarlyData = true
	case extRenegotiationInfo: // RFC 5746 section 3.2
		if !s.ReadUint8LengthPrefixed(&list) {
			return false
		}
	case extExtendedMasterSecret, extSCT: // empty in a hello: RFC 7627 section 5.1, RFC 6962 section 3.3.1
	case extECH:
		h.ECH = true
		return wellFormedECH(s)
	default:
		return true
	}
	return s.Empty()
}

// parsePreSharedKey reads pre_shared_key (RFC 8446 section 4.2.11).
func (h *ClientHello) parsePreSharedKey(s *cryptobyte.String) bool {
	var identities, binders cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&identities) || identities.Empty() ||
		!s.ReadUint16LengthPrefixed(&binders) || binders.Empty() {
		return false
	}
	for !identities.Empty() {
		var label cryptobyte.String
		var age uint32
		if !identities.ReadUint16LengthPrefixed(&label) || label.Empty() || !identities.ReadUint32(&age) {
			return false
		}
		h.PSKs++
	}
	for !binders.Empty() {
		var binder cryptobyte.String
		if !binders.ReadUint8LengthPrefixed(&binder) || binder.Empty() {
			return false
		}
	}
	return true
}

// wellFormedECH checks an ECHClientHello (RFC 9849 section 5).
func wellFormedECH(s cryptobyte.String) bool {
	const outer, inner = 0, 1
	var kind, configID uint8
	var kdf, aead uint16
	var enc, payload cryptobyte.String
	switch {
	case !s.ReadUint8(&kind):
		return false
	case kind == inner:
		return s.Empty()
	case kind != outer:
		return false
	}
	return s.ReadUint16(&kdf) && s.ReadUint16(&aead) && s.ReadUint8(&configID) &&
		s.ReadUint16LengthPrefixed(&enc) && s.ReadUint16LengthPrefixed(&payload) && !payload.Empty() && s.Empty()
}

// readUint16s reads a list that must not be empty nor end in half a number.
func readUint16s(s cryptobyte.String, to *[]uint16) bool {
	if s.Empty() || len(s)%2 != 0 {
		return false
	}
	values := make([]uint16, len(s)/2)
	for i := range values {
		values[i] = uint16(s[2*i])<<8 | uint16(s[2*i+1])
	}
	*to = values
	return true
}

func clone(s cryptobyte.String) []byte {
	if len(s) == 0 {
		return nil
	}
	return append([]byte(nil), s...)
}
