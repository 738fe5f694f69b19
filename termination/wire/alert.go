package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// Alerts that this package, or its caller before any handshake, answers with
// (RFC 8446 section 6).
const (
	AlertUnexpectedMessage = 10
	AlertRecordOverflow    = 22
	AlertHandshakeFailure  = 40
	AlertIllegalParameter  = 47
	AlertDecodeError       = 50
	AlertProtocolVersion   = 70
	AlertInternalError     = 80
	AlertUnrecognizedName  = 112
)

// Alert levels. In TLS 1.3 they mean nothing: every alert but close_notify and
// user_canceled is fatal.
const (
	LevelWarning = 1
	LevelFatal   = 2
)

// Alert is an alert that went by in plaintext.
type Alert struct {
	Level       uint8
	Description uint8
}

func (a Alert) String() string { return AlertName(a.Description) }

// AlertRecord returns a record with a fatal alert in plaintext, to be written
// before any ServerHello. Its version is that of TLS 1.2, which every client
// takes at this point (RFC 8446 section 5.1).
func AlertRecord(description uint8) [7]byte {
	return [7]byte{recordAlert, 3, 3, 0, 2, LevelFatal, description}
}

// RemoteAlert returns the number of the alert that ended a crypto/tls connection, if the other side sent one. The error's
// inner type is private; its text is that of tls.AlertError.
func RemoteAlert(err error) (number uint8, ok bool) {
	op, is := errors.AsType[*net.OpError](err)
	if !is || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	for n := range 256 {
		if tls.AlertError(n).Error() == op.Err.Error() {
			return uint8(n), true
		}
	}
	return 0, false
}

// AlertName returns the name of an alert description (RFC 8446 section 6, and the
// IANA registry for what other versions and extensions add).
func AlertName(description uint8) string {
	switch description {
	case 0:
		return "close_notify"
	case 10:
		return "unexpected_message"
	case 20:
		return "bad_record_mac"
	case 21:
		return "decryption_failed"
	case 22:
		return "record_overflow"
	case 30:
		return "decompression_failure"
	case 40:
		return "handshake_failure"
	case 41:
		return "no_certificate"
	case 42:
		return "bad_certificate"
	case 43:
		return "unsupported_certificate"
	case 44:
		return "certificate_revoked"
	case 45:
		return "certificate_expired"
	case 46:
		return "certificate_unknown"
	case 47:
		return "illegal_parameter"
	case 48:
		return "unknown_ca"
	case 49:
		return "access_denied"
	case 50:
		return "decode_error"
	case 51:
		return "decrypt_error"
	case 52:
		return "too_many_cids_requested"
	case 60:
		return "export_restriction"
	case 70:
		return "protocol_version"
	case 71:
		return "insufficient_security"
	case 80:
		return "internal_error"
	case 86:
		return "inappropriate_fallback"
	case 90:
		return "user_canceled"
	case 100:
		return "no_renegotiation"
	case 109:
		return "missing_extension"
	case 110:
		return "unsupported_extension"
	case 111:
		return "certificate_unobtainable"
	case 112:
		return "unrecognized_name"
	case 113:
		return "bad_certificate_status_response"
	case 114:
		return "bad_certificate_hash_value"
	case 115:
		return "unknown_psk_identity"
	case 116:
		return "certificate_required"
	case 117:
		return "general_error"
	case 120:
		return "no_application_protocol"
	case 121:
		return "ech_required"
	}
	return fmt.Sprintf("alert %d", description)
}
