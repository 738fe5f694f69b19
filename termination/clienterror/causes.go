package clienterror

import (
	"strings"

	"countersign/termination"
)

// cause is something that tools print without telling of an alert.
type cause struct {
	patterns []string // as [normal] writes them; any of them
	tool     string
	meaning  string
	fault    Fault
	do       []string
	notes    []string
	reasons  []termination.Reason
}

func (c *cause) reading(plain string) Reading {
	r := Reading{Tool: c.tool, Meaning: c.meaning, Fault: c.fault, Do: c.do, Notes: c.notes, Reasons: c.reasons}
	if r.Tool == "" && strings.HasPrefix(plain, "curl: ") {
		r.Tool = "curl"
	}
	return r
}

// causes are looked through from the top; the first that fits counts, so what is more exact stands first.
func causes() []cause {
	return append(append(ownCauses(), serverCauses()...), otherCauses()...)
}

// ownCauses are faults in what the client was given, found before or beside the handshake.
func ownCauses() []cause {
	return []cause{
		{
			patterns: []string{"curl: (60) ssl certificate verification failed"}, tool: "curl",
			meaning: "curl prints this when alert 45, certificate_expired, came in TLS 1.2: it is the client's certificate that is out of date, not the server's.",
			fault:   FaultClient, do: []string{"Look at the dates of the client's certificate: openssl x509 -in client.crt -noout -dates", "If no client certificate was given, the server's was not accepted: name its CA with --cacert."},
			notes:   []string{"The text speaks of the server's certificate all the same; “SSL certificate problem: …” would."},
			reasons: []termination.Reason{termination.ReasonCertExpired, termination.ReasonCertEarly, termination.ReasonCAExpired},
		},
		{
			patterns: []string{"key values mismatch", "private key does not match public key", "private key does not match the certificate", "x509 check private key", "private key doesn't match", "unable to set private key file", "key was not matching", "keymismatch"},
			meaning:  "The client was given a key that does not belong to its certificate, or a key file that it cannot read. It never got as far as the server.",
			fault:    FaultClient, do: []string{"Compare: openssl x509 -in client.crt -noout -pubkey and openssl pkey -in client.key -pubout must print the same."},
		},
		{
			patterns: []string{"could not load pem client certificate", "could not open pem client certificate", "unable to load client cert", "unable to set client certificate", "failed to find any pem data", "no start line", "could not load client certificate", "could not read client certificate", "unable to use client certificate", "curl: (58)"},
			meaning:  "The client could not read its certificate file: it is not there, holds no PEM certificate, or needs a password. It never got as far as the server.",
			fault:    FaultClient, do: []string{"Look at the file: openssl x509 -in client.crt -noout -subject", "A .p12 needs --cert-type P12 in curl; curl.exe of Windows takes nothing else."},
		},
		{
			patterns: []string{"bad decrypt", "mac verify failure", "mac verify error", "wrong password", "bad password read", "keystore password was incorrect", "the specified network password is not correct"},
			meaning:  "The password does not open the client's key or PKCS#12 file.",
			fault:    FaultClient, do: []string{"Try it: openssl pkcs12 -in FILE -noout, or openssl pkey -in KEY -noout"},
		},
		{
			patterns: []string{"error setting certificate verify locations", "error setting certificate file", "error adding trust anchors from file"},
			meaning:  "The client could not read the file with the CAs that it should trust.",
			fault:    FaultClient, do: []string{"Look whether the file that --cacert names is there and holds a PEM certificate."},
		},
		{
			patterns: []string{"ee key too small", "ca key too small", "ca md too weak", "ee certificate key too weak"},
			meaning:  "OpenSSL refuses a certificate on its own side: its key or signature is too weak for the security level that is set there.",
			fault:    FaultServer, do: []string{"Issue that certificate again with RSA 2048 or ECDSA P-256, and SHA-256."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUs, termination.ReasonCertWeak},
		},
		{
			patterns: []string{"err bad ssl client auth cert"}, tool: "Chrome, Edge",
			meaning: "The server refused the client certificate that was chosen, or demands one and none was chosen. Chrome has one code for all of these alerts.",
			fault:   FaultClient, do: []string{"Choose the right certificate: a restart of the browser lets you choose again.", "Open the handshake on this gateway: its page has the reason."},
			reasons: anyOf(116, 48, 45, 42),
		},
		{
			patterns: []string{"err ssl client auth cert no private key", "err ssl client auth signature failed", "err ssl client auth cert bad format", "err ssl client auth no common algorithms"}, tool: "Chrome, Edge",
			meaning: "The browser could not sign with the key of the chosen client certificate.",
			fault:   FaultClient, do: []string{"Import the .p12 again, with its key; look at the smart card or its driver."},
		},
		{
			patterns: []string{"err ssl client auth cert needed"}, tool: "Chrome, Edge",
			meaning: "The server asked for a client certificate, and the browser has not been told which one.",
			fault:   FaultClient, do: []string{"Import the .p12 and choose it when asked."},
			reasons: []termination.Reason{termination.ReasonCertMissing, termination.ReasonClientLeft},
		},
		{
			patterns: []string{"no required ssl certificate was sent", "client sent no required ssl certificate", "tls: client didn't provide a certificate", "connection requires a valid client certificate", "peer did not return a certificate", "client certificate required", "certificate is required", "nsurlerrordomain code=-1206", "nsurlerrordomain error -1206", "the server requires a client certificate", "the server most likely requires a client certificate"},
			meaning:  "The server demands a client certificate, and none came.",
			fault:    FaultClient, do: []string{"Give the client its certificate and key, as curl --cert and --key do.", "If it has one: it may keep it back because its issuer is not among the CAs that the server names."},
			reasons: []termination.Reason{termination.ReasonCertMissing},
		},
		{
			patterns: []string{"nsurlerrordomain code=-1205", "nsurlerrordomain error -1205"}, tool: "Safari, macOS",
			meaning: "The server refused the client's certificate.",
			fault:   FaultClient, do: []string{"Open the handshake on this gateway: its page has the reason."},
			reasons: anyOf(48, 42),
		},
		{
			patterns: []string{"client ssl certificate verify error", "the ssl certificate error"}, tool: "nginx",
			meaning: "nginx did not accept the client's certificate, and answered with 400.",
			fault:   FaultClient, do: []string{"The words in brackets name the cause; the certificate shown to countersign explain tells more."},
			reasons: Reasons(48),
		},
	}
}

// otherCauses are about versions, protocols and connections.
func otherCauses() []cause {
	return []cause{
		{
			patterns: []string{"wrong version number", "first record does not look like a tls handshake", "server gave http response to https client", "unsupported or unrecognized ssl message", "ssl error rx record too long", "packet length too long", "received corrupt message", "an unexpected tls packet was received", "invalid http version parsed", "http/0.9 when not allowed"},
			meaning:  "What answered does not speak TLS: it is another port, a service that speaks plain HTTP, or one that wants STARTTLS first.",
			fault:    FaultClient, do: []string{"Look at the port: it must be the endpoint's, not the service's behind it.", "For PostgreSQL set starttls: postgres on the endpoint, or sslnegotiation=direct in the client."},
			notes: []string{"“wrong version number” is not about TLS versions: the first bytes were no TLS record."},
		},
		{
			patterns: []string{"http request to an https server", "plain http request was sent to https port", "400 bad request", "curl: (52)", "empty reply from server", "err empty response"},
			meaning:  "The client speaks plain HTTP to a port that expects TLS.",
			fault:    FaultClient, do: []string{"Write https:// in the client's URL."},
			reasons: []termination.Reason{termination.ReasonNotTLS, termination.ReasonStartTLS},
		},
		{
			patterns: []string{"unsupported protocol", "no protocols available", "protocol version not supported", "err ssl version or cipher mismatch", "ssl error unsupported version", "no appropriate protocol", "tls version too low", "unsupported versions"},
			meaning:  "Client and server have no TLS version, or no cipher suite, in common.",
			fault:    FaultClient, do: []string{"Update the client's TLS library; TLS 1.2 is the least here, unless the endpoint asks for 1.3."},
			reasons: []termination.Reason{termination.ReasonVersionLow, termination.ReasonNoCommonSuite, termination.ReasonNoCommonGroup},
		},
		{
			patterns: []string{"no shared cipher", "no cipher match", "no ciphers available", "no cipher suites in common", "ssl error no cypher overlap", "no cipher suite supported by both"},
			meaning:  "Client and server have no cipher suite in common.",
			fault:    FaultClient, do: []string{"Compare the suites that the handshake's page lists with those that the endpoint allows."},
			reasons: []termination.Reason{termination.ReasonNoCommonSuite},
		},
		{
			patterns: []string{"unsafe legacy renegotiation disabled"}, tool: "OpenSSL 3",
			meaning: "The server does not know secure renegotiation (RFC 5746), so it is an old one and not this gateway, or a device between that inspects TLS.",
			fault:   FaultNetwork, do: []string{"Look who answers: openssl s_client -connect HOST:PORT, first lines."},
		},
		{
			patterns: []string{"tls: bad record mac", "bad record mac", "decryption failed or bad record mac"},
			meaning:  "A record could not be decrypted. In a server's log, during the handshake, that is nearly always an OpenSSL client that does not trust the server's certificate: it sends its alert unencrypted where encryption is due.",
			fault:    FaultClient, do: []string{"Give the client the CA of the server's certificate, as curl --cacert does."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUsCA, termination.ReasonClientRefusedUs},
		},
		{
			patterns: []string{"connection refused", "couldn't connect to server", "econnrefused", "err connection refused", "curl: (7)"},
			meaning:  "Nothing listens there, so no handshake began and none is recorded.",
			fault:    FaultNetwork, do: []string{"Look at address and port, and whether the endpoint is on."},
		},
		{
			patterns: []string{"could not resolve host", "no such host", "enotfound", "name or service not known", "err name not resolved", "unknownhostexception", "getaddrinfo failed"},
			meaning:  "The name has no address for the client, so no handshake began and none is recorded.",
			fault:    FaultNetwork, do: []string{"Add it to the DNS or the hosts file, or tell curl with --resolve NAME:PORT:ADDRESS."},
		},
		{
			patterns: []string{"handshake timed out", "tls handshake timeout", "connection timed out", "operation timed out", "etimedout", "err timed out", "err connection timed out", "i/o timeout", "curl: (28)", "ssl connection timeout"},
			meaning:  "The other side did not answer in time.",
			fault:    FaultNetwork, do: []string{"If nothing is recorded here, a firewall between drops the packets.", "If a handshake is recorded, its page tells at which beat it stopped."},
			reasons: []termination.Reason{termination.ReasonTimeout, termination.ReasonSilent},
		},
		{
			patterns: []string{"421 misdirected", "error: 421"},
			meaning:  "The request asked, over this connection, for a name that needs a connection of its own.",
			fault:    FaultClient, do: []string{"Connect by that name; do not reuse connections across names."},
			reasons: []termination.Reason{termination.ReasonHostMismatch},
		},
		{
			patterns: []string{"error: 401", "401 unauthorized"},
			meaning:  "TLS and certificate were fine; a token or password besides is missing or wrong.",
			fault:    FaultClient, do: []string{"Send one that counts here in the Authorization header."},
			reasons: []termination.Reason{termination.ReasonProofMissing},
		},
		{
			patterns: []string{"error: 403", "403 forbidden"},
			meaning:  "TLS was fine; a policy, here or in the service behind, says no to the request.",
			fault:    FaultClient, do: []string{"Open the handshake on this gateway: its page has the rule, if it was ours."},
			reasons: []termination.Reason{termination.ReasonPolicyDenied, termination.ReasonExpressionError, termination.ReasonCertMissing},
		},
		{
			patterns: []string{"error: 429", "429 too many requests"},
			meaning:  "More requests came than the rate of the client's identity allows.",
			fault:    FaultClient, do: []string{"Slow the client, or raise the rate."},
			reasons: []termination.Reason{termination.ReasonRateLimited, termination.ReasonProofMissing},
		},
		{
			patterns: []string{"error: 502", "502 bad gateway", "error: 504", "504 gateway timeout"},
			meaning:  "The client was let in; the service behind does not answer.",
			fault:    FaultServer, do: []string{"Start the service, or correct the upstream's address."},
			reasons: []termination.Reason{termination.ReasonUpstreamDown},
		},
		{
			patterns: []string{"unexpected eof while reading", "eof occurred in violation", "connection reset by peer", "econnreset", "err connection reset", "err connection closed", "socket hang up", "remote host terminated the handshake", "remote host closed connection", "ssl error syscall", "pr end of file error", "pr connect reset error", "connection was lost", "secure tls connection was established", "unexpected eof", "schannel: failed to receive handshake", "curl: (56) recv failure"},
			meaning:  "The connection ended without a word. Either the server or something between closed it, or an alert was lost because the client was still sending.",
			fault:    FaultNetwork, do: []string{"Look at the handshake on this gateway: its page says who ended it and why.", "If none is recorded, a firewall or a balancer between ended it."},
			reasons: []termination.Reason{termination.ReasonOverloaded, termination.ReasonTimeout, termination.ReasonShutdown, termination.ReasonProxyHeader, termination.ReasonCertMissing},
		},
		{
			patterns: []string{"err ssl protocol error"}, tool: "Chrome, Edge",
			meaning: "The handshake failed, and Chrome has no better word: no TLS there, no suite or group in common, or in TLS 1.2 no client certificate.",
			fault:   FaultClient, do: []string{"Open the handshake on this gateway: its page has the reason.", "Try curl -v, which says more."},
			reasons: []termination.Reason{termination.ReasonCertMissing, termination.ReasonNoCommonSuite, termination.ReasonNoCommonGroup, termination.ReasonALPN, termination.ReasonPolicyUnreadable, termination.ReasonAgentOffline},
		},
		{
			patterns: []string{"a tls fatal alert has been received"}, tool: "GnuTLS",
			meaning: "The server ended the connection with an alert that this line does not name. In TLS 1.3 that is usually a refusal of the client's certificate, or of its absence.",
			fault:   FaultClient, do: []string{"Try curl or openssl s_client with the same files: they name the alert.", "Open the handshake on this gateway: its page has the reason."},
			reasons: anyOf(116, 48, 45, 42),
		},
		{
			patterns: []string{"sec e illegal message", "0x80090326"}, tool: "Windows, Schannel",
			meaning: "The server sent an alert; Schannel has this one code for several: handshake_failure above all, which in TLS 1.2 is what a missing client certificate gets.",
			fault:   FaultClient, do: []string{"Give the client its certificate: curl.exe --cert FILE.p12:PASSWORD --cert-type P12", "Open the handshake on this gateway: its page has the reason."},
			reasons: Reasons(40),
		},
		{
			patterns: []string{"sec e cert unknown", "0x80090327"}, tool: "Windows, Schannel",
			meaning: "The server refused the client's certificate (alert 42, 43 or 46).",
			fault:   FaultClient, do: []string{"Open the handshake on this gateway: its page has the reason."},
			reasons: Reasons(42),
		},
		{
			patterns: []string{"authentication failed because the remote party", "authentication failed, see inner exception"}, tool: ".NET",
			meaning: "The handshake failed; the inner exception of .NET has the alert.",
			fault:   FaultClient, do: []string{"Paste the inner exception too.", "Open the handshake on this gateway: its page has the reason."},
		},
	}
}
