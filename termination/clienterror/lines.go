package clienterror

import (
	"crypto/tls"
	"fmt"
	"strings"

	"countersign/termination"
)

// Printed is what one tool probably printed about a handshake.
type Printed struct {
	Tool string `json:"tool"`
	Text string `json:"text"`
}

// Lines returns what the client's tool has probably printed about a handshake, one line for each tool that may have made it;
// none where nothing went wrong, or where it is not known. Nothing in the lines comes from the client.
func Lines(h *termination.Handshake) []Printed {
	v := h.Verdict
	switch {
	case v.Outcome == termination.OutcomeRefused && h.Alert != nil && h.Alert.Sent:
		if a, known := alertOf(h.Alert.Number); known {
			return alertLines(a, h)
		}
	case v.Outcome == termination.OutcomeClientRefused:
		return refusalLines(v.Reason, h)
	case v.Reason == termination.ReasonNotTLS:
		return []Printed{
			{"curl", "HTTP 400 Bad Request, or: curl: (52) Empty reply from server"},
			{"Go", "HTTP 400 Bad Request, or: EOF"},
			{"Chrome", "ERR_EMPTY_RESPONSE"},
		}
	case v.Outcome == termination.OutcomeBrokenOff:
		return brokenLines(v)
	default:
	}
	return nil
}

// late reports whether the alert came when the client had taken the handshake for finished: in TLS 1.3 it learns of a
// refusal of its certificate when it first reads (RFC 8446, section 4.4.2.4 and appendix E.1.2).
func late(h *termination.Handshake) bool {
	return h.Chosen != nil && h.Chosen.Version == tls.VersionTLS13 && h.Verdict.Beat >= termination.BeatClientCert
}

func alertLines(a alert, h *termination.Handshake) []Printed {
	code := fmt.Sprintf("error:0A%06X:SSL routines", 1000+int(a.number))
	var lines []Printed
	add := func(tool, text string) {
		if text != "" && (len(lines) == 0 || lines[len(lines)-1].Text != text) {
			lines = append(lines, Printed{tool, text})
		}
	}
	http := h.Scheme != termination.SchemeTLS
	if http {
		switch {
		case late(h):
			add("curl", fmt.Sprintf("curl: (56) OpenSSL SSL_read: %s::%s, errno 0", code, a.openssl))
			add("curl, OpenSSL 3.2 and newer", fmt.Sprintf("curl: (56) OpenSSL SSL_read: %s::%s, errno 0", code, a.newer()))
		case a.number == 45:
			// curl takes the reason for its own verification of the server, although the server's certificate is fine.
			add("curl", "curl: (60) SSL certificate verification failed")
		case a.number == 116:
			add("curl", fmt.Sprintf("curl: (98) %s::%s", code, a.openssl))
		default:
			add("curl", fmt.Sprintf("curl: (35) %s::%s", code, a.openssl))
			add("curl, OpenSSL 3.2 and newer", fmt.Sprintf("curl: (35) TLS connect error: %s::%s", code, a.newer()))
		}
		add("curl or git, GnuTLS", gnutlsLine(a, late(h)))
		add("curl.exe, Schannel", schannelLine(a))
		add("curl, macOS", appleLine(a, code))
	}
	add("openssl s_client", fmt.Sprintf("%s:ssl3_read_bytes:%s:…:SSL alert number %d", code, a.openssl, a.number))
	add("Go", "remote error: "+a.goText())
	add("Java", javaException(a.number)+": Received fatal alert: "+a.name)
	add("Node.js", nodeLine(a, code, late(h)))
	add("Python", pythonLine(a))
	add(".NET, Linux", fmt.Sprintf("AuthenticationException: Authentication failed, see inner exception. ---> SslException: SSL Handshake failed with OpenSSL error - SSL_ERROR_SSL. ---> %s::%s", code, a.openssl))
	if a.schannel != "" {
		add(".NET, Windows", "AuthenticationException: Authentication failed because the remote party sent a TLS alert: '"+camel(a.name)+"'.")
	}
	add("Rust, rustls", "received fatal alert: "+a.rustls)
	if http {
		add("gRPC, Go", `rpc error: code = Unavailable desc = connection error: desc = "error reading server preface: remote error: `+a.goText()+`"`)
		add("Chrome, Edge", a.chromeLine(h))
		add("Firefox", a.firefox)
		if a.apple != "" {
			add("Safari", "“Safari can’t establish a secure connection to the server”; in its log "+a.apple)
		}
		return lines
	}
	add("psql, libpq", "connection to server at … failed: SSL error: "+a.openssl)
	add("mosquitto", fmt.Sprintf("OpenSSL Error[0]: %s::%s", code, a.openssl))
	return lines
}

func gnutlsLine(a alert, late bool) string {
	if late {
		return "GnuTLS recv error (-12): A TLS fatal alert has been received."
	}
	return "gnutls_handshake() failed: " + a.gnutls
}

func schannelLine(a alert) string {
	if a.schannel == "" {
		return ""
	}
	return "curl: (35) schannel: next InitializeSecurityContext failed: " + a.schannel
}

// appleLine is what curl with LibreSSL prints, which has no text for newer alerts.
func appleLine(a alert, code string) string {
	if a.number >= 109 {
		return fmt.Sprintf("curl: (56) LibreSSL SSL_read: %s:ST_OK:reason(%d), errno 0", strings.Replace(code, "0A000", "1404C", 1), 1000+int(a.number))
	}
	return fmt.Sprintf("curl: (35) LibreSSL/3.3.6: %s:CONNECT_CR_FINISHED:%s", strings.Replace(code, "0A000", "1401E", 1), a.openssl)
}

// javaException is the type by which JSSE tells an alert.
func javaException(number uint8) string {
	switch number {
	case 10:
		return "javax.net.ssl.SSLProtocolException"
	case 20, 80:
		return "javax.net.ssl.SSLException"
	default:
		return "javax.net.ssl.SSLHandshakeException"
	}
}

func nodeLine(a alert, code string, late bool) string {
	if late {
		return fmt.Sprintf("code: 'ERR_SSL_%s', %s:ssl3_read_bytes:%s:…:SSL alert number %d", a.symbol(), code, a.openssl, a.number)
	}
	return fmt.Sprintf("write EPROTO %s:ssl3_read_bytes:%s:…:SSL alert number %d", code, a.openssl, a.number)
}

func pythonLine(a alert) string {
	if a.number == 120 { // Python has no symbol for it
		return "ssl.SSLError: [SSL] " + a.openssl
	}
	return fmt.Sprintf("ssl.SSLError: [SSL: %s] %s", a.symbol(), a.openssl)
}

func (a alert) chromeLine(h *termination.Handshake) string {
	if a.number == 40 && h.Verdict.Beat <= termination.BeatAgreement {
		return "ERR_SSL_VERSION_OR_CIPHER_MISMATCH"
	}
	return a.chrome
}

// camel writes bad_certificate as BadCertificate.
func camel(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// refusalLines are of clients that did not accept our certificate: they print their own verification's words.
func refusalLines(r termination.Reason, h *termination.Handshake) []Printed {
	var lines []Printed
	switch r {
	case termination.ReasonClientRefusedUsCA:
		lines = []Printed{
			{"curl", "curl: (60) SSL certificate problem: unable to get local issuer certificate"},
			{"curl or git, GnuTLS", "server certificate verification failed. CAfile: … CRLfile: none"},
			{"curl.exe, Schannel", "curl: (60) schannel: SEC_E_UNTRUSTED_ROOT (0x80090325) - The certificate chain was issued by an authority that is not trusted."},
			{"openssl s_client", "verify error:num=20:unable to get local issuer certificate"},
			{"Go", "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
			{"Java", "javax.net.ssl.SSLHandshakeException: PKIX path building failed: …: unable to find valid certification path to requested target"},
			{"Node.js", "code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', unable to verify the first certificate"},
			{"Python", "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate"},
			{".NET", "The remote certificate is invalid because of errors in the certificate chain: PartialChain, or UntrustedRoot"},
			{"Rust, rustls", "invalid peer certificate: UnknownIssuer"},
			{"Chrome, Edge", "NET::ERR_CERT_AUTHORITY_INVALID"},
			{"Firefox", "SEC_ERROR_UNKNOWN_ISSUER"},
			{"psql, libpq", "SSL error: certificate verify failed"},
		}
	case termination.ReasonClientRefusedUsName:
		lines = []Printed{
			{"curl", "curl: (60) SSL: no alternative certificate subject name matches target host name '…'"},
			{"curl.exe, Schannel", "curl: (60) schannel: SNI or certificate check failed: SEC_E_WRONG_PRINCIPAL (0x80090322)"},
			{"Go", "tls: failed to verify certificate: x509: certificate is valid for …, not …"},
			{"Java", "java.security.cert.CertificateException: No subject alternative DNS name matching … found."},
			{"Node.js", "code: 'ERR_TLS_CERT_ALTNAME_INVALID', Hostname/IP does not match certificate's altnames"},
			{"Python", "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for '…'."},
			{".NET", "The remote certificate is invalid according to the validation procedure: RemoteCertificateNameMismatch"},
			{"Rust, rustls", "invalid peer certificate: NotValidForName"},
			{"Chrome, Edge", "NET::ERR_CERT_COMMON_NAME_INVALID"},
			{"Firefox", "SSL_ERROR_BAD_CERT_DOMAIN"},
			{"psql, libpq", `server certificate for "…" does not match host name "…"`},
		}
	case termination.ReasonClientRefusedUsDate:
		lines = []Printed{
			{"curl", "curl: (60) SSL certificate problem: certificate has expired"},
			{"openssl s_client", "verify error:num=10:certificate has expired"},
			{"Go", "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"},
			{"Java", "javax.net.ssl.SSLHandshakeException: PKIX path validation failed: java.security.cert.CertPathValidatorException: validity check failed"},
			{"Node.js", "code: 'CERT_HAS_EXPIRED', certificate has expired"},
			{"Python", "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired"},
			{".NET", "The remote certificate is invalid because of errors in the certificate chain: NotTimeValid"},
			{"Rust, rustls", "invalid peer certificate: Expired"},
			{"Chrome, Edge", "NET::ERR_CERT_DATE_INVALID"},
			{"Firefox", "SEC_ERROR_EXPIRED_CERTIFICATE"},
		}
	case termination.ReasonClientRefusedUs:
		lines = []Printed{
			{"Go", "tls: failed to verify certificate: x509: …"},
			{"Java", "javax.net.ssl.SSLHandshakeException: PKIX path …, or: No subject alternative DNS name matching …"},
		}
	default:
		return nil
	}
	if h.Scheme == termination.SchemeTLS {
		return lines
	}
	return dropTool(lines, "psql, libpq")
}

func dropTool(lines []Printed, tool string) []Printed {
	var out []Printed
	for _, l := range lines {
		if l.Tool != tool {
			out = append(out, l)
		}
	}
	return out
}

// brokenLines are of connections that we ended without an alert.
func brokenLines(v termination.Verdict) []Printed {
	switch v.Reason {
	case termination.ReasonTimeout, termination.ReasonShutdown:
		return []Printed{
			{"curl", "curl: (35) error:0A000126:SSL routines::unexpected eof while reading, or: (35) Recv failure: Connection reset by peer"},
			{"openssl s_client", "error:0A000126:SSL routines::unexpected eof while reading"},
			{"Go", "EOF, or: read: connection reset by peer"},
			{"Java", "javax.net.ssl.SSLHandshakeException: Remote host terminated the handshake"},
			{"Node.js", "code: 'ECONNRESET', Client network socket disconnected before secure TLS connection was established"},
			{"Python", "ssl.SSLEOFError: [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol"},
			{"Chrome, Edge", "ERR_CONNECTION_CLOSED, or: ERR_CONNECTION_RESET"},
			{"Firefox", "PR_END_OF_FILE_ERROR, or: PR_CONNECT_RESET_ERROR"},
		}
	default:
		return nil
	}
}
