package clienterror

import "countersign/termination"

// serverCauses are about the server's certificate, as the client sees it.
func serverCauses() []cause {
	return []cause{
		{
			patterns: []string{"no alternative certificate subject name matches", "hostname mismatch", "ip address mismatch", "certificate is valid for", "certificate is not valid for any names", "err cert common name invalid", "ssl error bad cert domain", "err tls cert altname invalid", "does not match certificate's altnames", "no subject alternative dns name matching", "no subject alternative names", "no name matching", "notvalidforname", "remotecertificatenamemismatch", "sec e wrong principal", "0x80090322", "does not match host name", "doesn't contain any ip sans", "relies on legacy common name", "does not match target host name", "subjectaltname does not match"},
			meaning:  "The name that the client called is not among the names in the server's certificate.",
			fault:    FaultServer, do: []string{"Call the server by one of the names in its certificate; with an IP address, curl --resolve NAME:PORT:ADDRESS helps.", "Or issue a server certificate that has that name as a subject alternative name; the common name alone does not count."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUsName, termination.ReasonClientRefusedUs, termination.ReasonClientLeft},
		},
		{
			patterns: []string{"certificate is not yet valid", "certnotyetvalid", "notvalidyet"},
			meaning:  "A certificate is not valid yet by the client's clock.",
			fault:    FaultClient, do: []string{"Look at the client's clock first, then at the certificate's dates."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUsDate, termination.ReasonClientRefusedUs},
		},
		{
			patterns: []string{"certificate has expired", "cert has expired", "err cert date invalid", "sec error expired certificate", "sec error expired issuer certificate", "validity check failed", "nottimevalid", "invalid peer certificate: expired", "certificateexpiredexception", "certificate expired"},
			meaning:  "The server's certificate, or one of the CAs above it, is out of date by the client's clock.",
			fault:    FaultServer, do: []string{"Renew the server's certificate.", "If its dates hold, look at the client's clock, and whether the client trusts an old CA."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUsDate, termination.ReasonClientRefusedUs},
		},
		{
			patterns: []string{"sec e cert expired", "0x80090328"}, tool: "Windows, Schannel",
			meaning: "A certificate is out of date: the client's, if the server said so by alert 45, else the server's.",
			fault:   FaultClient, do: []string{"Look at the dates of the client's certificate first, then at the server's."},
			reasons: []termination.Reason{termination.ReasonCertExpired, termination.ReasonCertEarly, termination.ReasonClientRefusedUsDate},
		},
		{
			patterns: []string{"sec e untrusted root", "0x80090325"}, tool: "Windows, Schannel",
			meaning: "A CA is not trusted: the server's by the client, or the client's by the server if it said so by alert 48.",
			fault:   FaultClient, do: []string{"Import the CA of the server's certificate on Windows, or name it with --cacert.", "If the server refuses: use a client certificate from a CA that the endpoint trusts."},
			reasons: append([]termination.Reason{termination.ReasonClientRefusedUsCA}, Reasons(48)...),
		},
		{
			patterns: []string{"unsuitable certificate purpose", "unsupported certificate purpose", "incompatible key usage", "invalid purpose", "sec error inadequate cert type", "sec error inadequate key usage", "extended key usage does not permit", "certificate specifies an incompatible key usage"},
			meaning:  "A certificate is used for what it was not made for. In the client's output it is the server's: it lacks serverAuth; in a server's log the client's: it lacks clientAuth.",
			fault:    FaultServer, do: []string{"Issue that certificate again with the right extendedKeyUsage: serverAuth for servers, clientAuth for clients."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUs, termination.ReasonCertUse},
		},
		{
			patterns: []string{"self-signed certificate in certificate chain", "self signed certificate in certificate chain", "self-signed certificate", "self signed certificate", "depth zero self signed", "self signed cert in chain", "mozilla pkix error self signed"},
			meaning:  "The server's certificate, or the root above it, signed itself, and the client does not trust it.",
			fault:    FaultClient, do: []string{"Give the client the CA of the server's certificate, as curl --cacert does; for the local CA here, its local-ca.pem.", "Do not turn verification off: then anybody may answer in the server's place."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUsCA, termination.ReasonClientRefusedUs},
		},
		{
			patterns: []string{"unable to get local issuer certificate", "unable to get issuer cert", "unable to verify the first certificate", "unable to verify leaf signature", "signed by unknown authority", "pkix path building failed", "unable to find valid certification path", "sec error unknown issuer", "sec error untrusted issuer", "err cert authority invalid", "unknownissuer", "server certificate verification failed", "remotecertificatechainerrors", "partialchain", "untrustedroot", "certificate verify failed", "cert trust is untrusted root", "signer not found", "issuer is not trusted", "kseccrustresult", "certificate is not trusted", "caused by: sun.security.validator"},
			meaning:  "The client does not trust the CA of the server's certificate, or the server did not send a certificate in between.",
			fault:    FaultClient, do: []string{"Give the client the CA of the server's certificate, as curl --cacert does.", "If it has that CA: the server must send its whole chain; upload the certificate with its intermediates."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUsCA, termination.ReasonClientRefusedUs},
		},
		{
			patterns: []string{"tls: failed to verify certificate"}, tool: "Go",
			meaning: "The client did not accept the server's certificate; what follows x509: says why.",
			fault:   FaultClient, do: []string{"Paste the whole line.", "Check in the client: the CAs that it trusts, the name that it calls, its clock."},
			reasons: []termination.Reason{termination.ReasonClientRefusedUs, termination.ReasonClientRefusedUsCA, termination.ReasonClientRefusedUsName, termination.ReasonClientRefusedUsDate},
		},
	}
}
