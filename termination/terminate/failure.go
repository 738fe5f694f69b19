package terminate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"countersign/termination"
	"countersign/termination/wire"
)

// Alert descriptions of RFC 8446, section 6, and RFC 5246, section 7.2, that are decided on here.
const (
	alertCloseNotify        = 0
	alertHandshakeFailure   = 40
	alertBadCertificate     = 42
	alertUnsupportedCert    = 43
	alertCertificateExpired = 45
	alertCertificateUnknown = 46
	alertUnknownCA          = 48
	alertDecodeError        = 50
	alertDecryptError       = 51
	alertProtocolVersion    = 70
	alertInternalError      = 80
	alertUserCanceled       = 90
	alertCertRequired       = 116
	alertNoApplicationProto = 120
)

// failure is a failed handshake in our words.
type failure struct {
	outcome termination.Outcome
	reason  termination.Reason
	beat    termination.Beat
	alert   *termination.Alert
}

// failureOf turns what crypto/tls says into our words. Some of its errors have no type, so their text decides;
// a test makes each of them happen, so that a new Go release that changes one is noticed.
func (t *Terminator) failureOf(conn *Conn, rec *termination.Handshake, state tls.ConnectionState, err error) failure {
	if f, ok := t.alertReceived(conn, rec, err); ok {
		return f
	}
	if f, ok := certificateFailure(state, err); ok {
		return withSniffed(f, conn)
	}
	if f, ok := agreementFailure(conn, err); ok {
		return withSniffed(f, conn)
	}
	return transportFailure(conn, err)
}

// withSniffed prefers the plaintext alert that was seen to go out over the one that follows from the error.
func withSniffed(f failure, conn *Conn) failure {
	if conn.alertSent >= 0 {
		f.alert = sent(uint8(conn.alertSent)) //nolint:gosec // it was read from one byte
	}
	return f
}

func sent(n uint8) *termination.Alert {
	return &termination.Alert{Number: n, Name: wire.AlertName(n), Sent: true}
}

func refusedWith(reason termination.Reason, beat termination.Beat, alert uint8) failure {
	return failure{outcome: termination.OutcomeRefused, reason: reason, beat: beat, alert: sent(alert)}
}

// alertReceived finds an alert of the client, in the error or, where the client sent it unencrypted although
// encryption was due, in what passed by: OpenSSL does that when it does not trust our certificate in TLS 1.3, and
// crypto/tls then reports nothing but a bad record MAC.
func (t *Terminator) alertReceived(conn *Conn, rec *termination.Handshake, err error) (failure, bool) {
	number, ok := wire.RemoteAlert(err)
	plaintext := false
	if !ok {
		var seen wire.Alert
		seen, ok = conn.tap.Alert()
		number, plaintext = seen.Description, ok
	}
	if !ok {
		return failure{}, false
	}
	f := failure{
		beat:  termination.BeatServerCert,
		alert: &termination.Alert{Number: number, Name: wire.AlertName(number), Plaintext: plaintext},
	}
	f.outcome, f.reason = MeaningOfAlert(number, t.covers(conn, rec.Hello))
	return f, true
}

// MeaningOfAlert says what a client means by an alert with which it answers a server's certificate. Named says that the
// certificate bears the name that the client asked for, or that this is not known.
func MeaningOfAlert(number uint8, named bool) (termination.Outcome, termination.Reason) {
	refused := termination.OutcomeClientRefused
	switch {
	case number == alertCloseNotify, number == alertUserCanceled:
		return termination.OutcomeBrokenOff, termination.ReasonClientLeft
	case !named && (number == alertBadCertificate || number == alertCertificateUnknown):
		return refused, termination.ReasonClientRefusedUsName
	case number == alertUnknownCA, number == alertCertificateUnknown:
		return refused, termination.ReasonClientRefusedUsCA
	case number == alertCertificateExpired:
		return refused, termination.ReasonClientRefusedUsDate
	default:
		return refused, termination.ReasonClientRefusedUs
	}
}

// covers reports whether one of our certificates bears the name that the client asked for.
func (t *Terminator) covers(conn *Conn, hello *termination.ClientHello) bool {
	leaves := t.certificates(conn).Leaves
	if hello == nil || hello.ServerName == "" || leaves == nil {
		return true // nothing to compare
	}
	for _, leaf := range leaves() {
		if leaf.VerifyHostname(hello.ServerName) == nil {
			return true
		}
	}
	return false
}

// certificateFailure recognises what is wrong with the client's certificate.
func certificateFailure(state tls.ConnectionState, err error) (failure, bool) {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusedWith(refusal.Judgement.Reason, termination.BeatEstablished, alertBadCertificate), true
	}
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) {
		return unverifiedFailure(unverified.Err), true
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "client didn't provide a certificate"):
		alert := uint8(alertCertRequired)
		if state.Version == tls.VersionTLS12 {
			alert = alertHandshakeFailure // TLS 1.2 has no certificate_required
		}
		return refusedWith(termination.ReasonCertMissing, termination.BeatClientCert, alert), true
	case strings.Contains(text, "failed to parse client certificate"):
		return refusedWith(termination.ReasonCertMalformed, termination.BeatClientCert, alertDecodeError), true
	case strings.Contains(text, "client certificate contains an unsupported public key"):
		return refusedWith(termination.ReasonCertWeak, termination.BeatClientCert, alertUnsupportedCert), true
	case strings.Contains(text, "client sent certificate containing RSA key larger than"):
		return refusedWith(termination.ReasonCertMalformed, termination.BeatClientCert, alertBadCertificate), true
	case strings.Contains(text, "invalid signature by the client certificate"),
		strings.Contains(text, "client certificate used with invalid signature algorithm"):
		return refusedWith(termination.ReasonKeyProof, termination.BeatEstablished, alertDecryptError), true
	}
	return failure{}, false
}

// unverifiedFailure gives the alert that crypto/tls chose, and the reason that follows from its error alone.
func unverifiedFailure(err error) failure {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return refusedWith(termination.ReasonCAUnknown, termination.BeatClientCert, alertUnknownCA)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return refusedWith(termination.ReasonCertExpired, termination.BeatClientCert, alertCertificateExpired)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return refusedWith(termination.ReasonCertUse, termination.BeatClientCert, alertBadCertificate)
	case errors.As(err, &invalid) && invalid.Reason == x509.TooManyIntermediates:
		return refusedWith(termination.ReasonChainTooDeep, termination.BeatClientCert, alertBadCertificate)
	default:
		return refusedWith(termination.ReasonCertMalformed, termination.BeatClientCert, alertBadCertificate)
	}
}

// agreementFailure recognises where the two sides have nothing in common.
func agreementFailure(conn *Conn, err error) (failure, bool) {
	text := err.Error()
	switch {
	case strings.Contains(text, "client offered only unsupported versions"),
		strings.Contains(text, "client using inappropriate protocol fallback"):
		return refusedWith(termination.ReasonVersionLow, termination.BeatAgreement, alertProtocolVersion), true
	case strings.Contains(text, "no cipher suite supported by both"),
		strings.Contains(text, "peer doesn't support any of the certificate's signature algorithms"),
		strings.Contains(text, "client doesn't support certificate's"):
		return refusedWith(termination.ReasonNoCommonSuite, termination.BeatAgreement, alertHandshakeFailure), true
	case strings.Contains(text, "no key exchanges supported by both"),
		strings.Contains(text, "client offered only incompatible point formats"):
		return refusedWith(termination.ReasonNoCommonGroup, termination.BeatAgreement, alertHandshakeFailure), true
	case strings.Contains(text, "unsupported application protocols"):
		return refusedWith(termination.ReasonALPN, termination.BeatAgreement, alertNoApplicationProto), true
	case strings.Contains(text, "no certificates configured"):
		return refusedWith(termination.ReasonPolicyUnreadable, termination.BeatAgreement, 112), true
	case strings.Contains(text, "early_data without pre_shared_key"),
		strings.Contains(text, "client sent unexpected early data"):
		return refusedWith(termination.ReasonEarlyData, termination.BeatAgreement, 110), true
	case conn.replied.IsZero() && strings.HasPrefix(text, "tls: "):
		// Before our reply only the ClientHello can be at fault.
		return failure{outcome: termination.OutcomeRefused, reason: termination.ReasonHelloBroken, beat: termination.BeatHello, alert: sent(alertDecodeError)}, true
	}
	return failure{}, false
}

// transportFailure is left when neither side said why.
func transportFailure(conn *Conn, err error) failure {
	f := failure{outcome: termination.OutcomeBrokenOff, reason: termination.ReasonClientLeft, beat: reached(conn)}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.reason = termination.ReasonTimeout
	case errors.Is(err, net.ErrClosed):
		f.reason = termination.ReasonShutdown
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
	default:
		if conn.alertSent >= 0 {
			f.alert = sent(uint8(conn.alertSent)) //nolint:gosec // it was read from one byte
		}
	}
	return f
}

// reached tells at which beat a handshake broke from how far the two sides had come.
func reached(conn *Conn) termination.Beat {
	switch {
	case conn.replied.IsZero():
		return termination.BeatAgreement
	case conn.answered.IsZero():
		return termination.BeatServerCert
	default:
		return termination.BeatClientCert
	}
}
