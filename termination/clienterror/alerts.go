package clienterror

import (
	"crypto/tls"
	"slices"
	"strings"

	"countersign/termination"
)

// alert is what tools make of one TLS alert that they receive. An empty text: the tool has none of its own for it.
type alert struct {
	number   uint8
	name     string // of the registry, as Java prints it
	openssl  string // up to OpenSSL 3.1; see newer
	gnutls   string
	schannel string
	apple    string // SecureTransport
	firefox  string
	chrome   string // BoringSSL's reason, as Chrome sums it up
	rustls   string
}

// alerts is the one table of alerts that matter here. "sslv3 alert …" are names of constants that OpenSSL kept from the time
// when SSL 3 defined those alerts; they say nothing about the version in use.
func alerts() []alert {
	const (
		badClient = "ERR_BAD_SSL_CLIENT_AUTH_CERT"
		mismatch  = "ERR_SSL_VERSION_OR_CIPHER_MISMATCH"
		protocol  = "ERR_SSL_PROTOCOL_ERROR"
		illegal   = "SEC_E_ILLEGAL_MESSAGE (0x80090326)"
		unknown   = "SEC_E_CERT_UNKNOWN (0x80090327)"
	)
	return []alert{
		{10, "unexpected_message", "sslv3 alert unexpected message", "Unexpected message", illegal, "errSSLPeerUnexpectedMsg (-9819)", "SSL_ERROR_HANDSHAKE_UNEXPECTED_ALERT", protocol, "UnexpectedMessage"},
		{20, "bad_record_mac", "sslv3 alert bad record mac", "Bad record MAC", "SEC_E_MESSAGE_ALTERED (0x8009030F)", "errSSLPeerBadRecordMac (-9820)", "SSL_ERROR_BAD_MAC_ALERT", "ERR_SSL_BAD_RECORD_MAC_ALERT", "BadRecordMac"},
		{22, "record_overflow", "tlsv1 alert record overflow", "Record overflow", illegal, "errSSLPeerRecordOverflow (-9822)", "SSL_ERROR_RECORD_OVERFLOW_ALERT", protocol, "RecordOverflow"},
		{40, "handshake_failure", "sslv3 alert handshake failure", "Handshake failed", illegal, "errSSLPeerHandshakeFail (-9824)", "SSL_ERROR_HANDSHAKE_FAILURE_ALERT", protocol, "HandshakeFailure"},
		{42, "bad_certificate", "sslv3 alert bad certificate", "Certificate is bad", unknown, "errSSLPeerBadCert (-9825)", "SSL_ERROR_BAD_CERT_ALERT", badClient, "BadCertificate"},
		{43, "unsupported_certificate", "sslv3 alert unsupported certificate", "Certificate is not supported", unknown, "errSSLPeerUnsupportedCert (-9826)", "SSL_ERROR_UNSUPPORTED_CERT_ALERT", badClient, "UnsupportedCertificate"},
		{44, "certificate_revoked", "sslv3 alert certificate revoked", "Certificate was revoked", "CRYPT_E_REVOKED (0x80092010)", "errSSLPeerCertRevoked (-9827)", "SSL_ERROR_REVOKED_CERT_ALERT", badClient, "CertificateRevoked"},
		{45, "certificate_expired", "sslv3 alert certificate expired", "Certificate is expired", "SEC_E_CERT_EXPIRED (0x80090328)", "errSSLPeerCertExpired (-9828)", "SSL_ERROR_EXPIRED_CERT_ALERT", badClient, "CertificateExpired"},
		{46, "certificate_unknown", "sslv3 alert certificate unknown", "Unknown certificate", unknown, "errSSLPeerCertUnknown (-9829)", "SSL_ERROR_CERTIFICATE_UNKNOWN_ALERT", badClient, "CertificateUnknown"},
		{47, "illegal_parameter", "sslv3 alert illegal parameter", "Illegal parameter", illegal, "errSSLIllegalParam (-9830)", "SSL_ERROR_ILLEGAL_PARAMETER_ALERT", protocol, "IllegalParameter"},
		{48, "unknown_ca", "tlsv1 alert unknown ca", "CA is unknown", "SEC_E_UNTRUSTED_ROOT (0x80090325)", "errSSLPeerUnknownCA (-9831)", "SSL_ERROR_UNKNOWN_CA_ALERT", badClient, "UnknownCA"},
		{49, "access_denied", "tlsv1 alert access denied", "Access was denied", "SEC_E_LOGON_DENIED (0x8009030C)", "errSSLPeerAccessDenied (-9832)", "SSL_ERROR_ACCESS_DENIED_ALERT", badClient, "AccessDenied"},
		{50, "decode_error", "tlsv1 alert decode error", "Decode error", illegal, "errSSLPeerDecodeError (-9833)", "SSL_ERROR_DECODE_ERROR_ALERT", protocol, "DecodeError"},
		{51, "decrypt_error", "tlsv1 alert decrypt error", "Decrypt error", "SEC_E_DECRYPT_FAILURE (0x80090330)", "errSSLPeerDecryptError (-9834)", "SSL_ERROR_DECRYPT_ERROR_ALERT", "ERR_SSL_DECRYPT_ERROR_ALERT", "DecryptError"},
		{70, "protocol_version", "tlsv1 alert protocol version", "Error in protocol version", "SEC_E_UNSUPPORTED_FUNCTION (0x80090302)", "errSSLPeerProtocolVersion (-9836)", "SSL_ERROR_PROTOCOL_VERSION_ALERT", mismatch, "ProtocolVersion"},
		{71, "insufficient_security", "tlsv1 alert insufficient security", "Insufficient security", "SEC_E_ALGORITHM_MISMATCH (0x80090331)", "errSSLPeerInsufficientSecurity (-9837)", "SSL_ERROR_INSUFFICIENT_SECURITY_ALERT", mismatch, "InsufficientSecurity"},
		{80, "internal_error", "tlsv1 alert internal error", "Internal error", "SEC_E_INTERNAL_ERROR (0x80090304)", "errSSLPeerInternalError (-9838)", "SSL_ERROR_INTERNAL_ERROR_ALERT", protocol, "InternalError"},
		{86, "inappropriate_fallback", "tlsv1 alert inappropriate fallback", "Inappropriate fallback", "", "", "SSL_ERROR_INAPPROPRIATE_FALLBACK_ALERT", protocol, "InappropriateFallback"},
		{109, "missing_extension", "tlsv13 alert missing extension", "An extension was expected but was not seen", "", "", "SSL_ERROR_MISSING_EXTENSION_ALERT", protocol, "MissingExtension"},
		{110, "unsupported_extension", "tlsv1 unsupported extension", "An unsupported extension was sent", illegal, "", "SSL_ERROR_UNSUPPORTED_EXTENSION_ALERT", protocol, "UnsupportedExtension"},
		{112, "unrecognized_name", "tlsv1 unrecognized name", "The server name sent was not recognized", "", "", "SSL_ERROR_UNRECOGNIZED_NAME_ALERT", "ERR_SSL_UNRECOGNIZED_NAME_ALERT", "UnrecognizedName"},
		{116, "certificate_required", "tlsv13 alert certificate required", "Certificate is required", "", "", "SSL_ERROR_RX_CERTIFICATE_REQUIRED_ALERT", badClient, "CertificateRequired"},
		{120, "no_application_protocol", "tlsv1 alert no application protocol", "No supported application protocol could be negotiated", "", "", "SSL_ERROR_NEXT_PROTOCOL_NO_PROTOCOL", protocol, "NoApplicationProtocol"},
	}
}

// alertOf returns the row of an alert, and false for one that is in no table.
func alertOf(number uint8) (alert, bool) {
	for _, a := range alerts() {
		if a.number == number {
			return a, true
		}
	}
	return alert{}, false
}

// newer is OpenSSL's text since 3.2, which no longer speaks of SSL 3.
func (a alert) newer() string {
	return strings.Replace(a.openssl, "sslv3 alert", "ssl/tls alert", 1)
}

// symbol is OpenSSL's name of the reason, as Node.js and Python print it.
func (a alert) symbol() string {
	return strings.ToUpper(strings.ReplaceAll(a.openssl, " ", "_"))
}

// goText is what crypto/tls prints.
func (a alert) goText() string { return tls.AlertError(a.number).Error() }

// Reasons returns the reasons for which this gateway sends an alert, in the order of the table of reasons; none: it never
// sends that one.
func Reasons(number uint8) []termination.Reason {
	var out []termination.Reason
	for _, r := range termination.Reasons() {
		if r.Alert == number {
			out = append(out, r.Code)
		}
	}
	// What crypto/tls sends for some of them, depending on the version and on where it notices.
	switch number {
	case 40:
		out = append(out, termination.ReasonCertMissing) // TLS 1.2 has no certificate_required
	case 42:
		// Where our policy decides alone (pins, soft routes, report-only and the like) it refuses with this one for every cause.
		for _, r := range termination.Reasons() {
			if r.Beat == termination.BeatClientCert && (r.Alert == 45 || r.Alert == 48) {
				out = append(out, r.Code)
			}
		}
	case 43:
		out = append(out, termination.ReasonCertWeak)
	case 50:
		out = append(out, termination.ReasonHelloBroken, termination.ReasonCertMalformed)
	case 86:
		out = append(out, termination.ReasonVersionLow)
	}
	return out
}

// anyOf joins the reasons of several alerts, each once.
func anyOf(numbers ...uint8) []termination.Reason {
	var out []termination.Reason
	for _, n := range numbers {
		for _, r := range Reasons(n) {
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}
