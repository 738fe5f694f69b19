package termination

// serverSituations are those in which the client is not content with us.
func serverSituations() []Situation {
	return []Situation{
		{
			ID: "curl-no-cacert", Reason: ReasonClientRefusedUsCA, Turn: TurnClient,
			Title: "curl does not know the CA of our certificate",
			Sees:  "unable to get local issuer certificate",
			Says:  "it does not trust the CA of our certificate",
			Fix:   "curl --cacert ca.crt",
		},
		{
			ID: "curl-local-ca", Reason: ReasonClientRefusedUsCA, Turn: TurnClient,
			Title: "curl does not know the local CA, which made our certificate",
			Sees:  "certificate",
			Says:  "it does not trust the CA of our certificate",
			Fix:   "curl --cacert local-ca.pem",
		},
		{
			ID: "openssl-no-cafile", Reason: ReasonClientRefusedUsCA, Turn: TurnClient,
			Title: "A client on OpenSSL refuses us, in an alert that comes unencrypted",
			Sees:  "verify error",
			Says:  "unencrypted, as OpenSSL and curl do",
			Fix:   "-CAfile ca.crt",
		},
		{
			ID: "openssl-no-cafile-tls-1.2", Reason: ReasonClientRefusedUsCA, Turn: TurnClient,
			Title: "A client on OpenSSL refuses us in TLS 1.2",
			Sees:  "verify error",
			Says:  "it does not trust the CA of our certificate",
			Fix:   "-CAfile ca.crt",
		},
		{
			ID: "go-no-roots", Reason: ReasonClientRefusedUs, Turn: TurnClient,
			Title: "A Go program does not know the CA of our certificate",
			Sees:  "certificate signed by unknown authority",
			Says:  "its alert does not say why",
			Fix:   "Most often it does not trust the CA of our certificate",
		},
		{
			ID: "go-clock", Reason: ReasonClientRefusedUs, Turn: TurnClient,
			Title: "The clock of a Go program's machine is years ahead",
			Sees:  "certificate has expired or is not yet valid",
			Says:  "The name is not the cause",
			Fix:   "Or its clock is wrong",
		},
		{
			ID: "go-name", Reason: ReasonClientRefusedUsName, Turn: TurnOperator,
			Title: "An alias of the endpoint is missing in its certificate, for a Go program",
			Sees:  "not shop.localhost",
			Says:  "expected a certificate for that name",
			Fix:   "a server certificate that has this name",
		},
		{
			ID: "openssl-name", Reason: ReasonClientRefusedUsName, Turn: TurnOperator,
			Title: "An alias of the endpoint is missing in its certificate, for a client on OpenSSL",
			Sees:  "hostname mismatch",
			Says:  "expected a certificate for that name",
			Fix:   "a server certificate that has this name",
		},
		{
			ID: "curl-name", Reason: ReasonClientLeft, Turn: TurnOperator,
			Title: "An alias of the endpoint is missing in its certificate, for curl, which looks after the handshake",
			Sees:  "no alternative certificate subject name",
			Says:  "closed at once, without a request",
			Fix:   "a server certificate that has this name",
		},
		{
			ID: "server-expired", Reason: ReasonClientRefusedUsDate, Turn: TurnOperator,
			Title: "Our certificate has ended",
			Sees:  "certificate has expired",
			Says:  "It is right",
			Fix:   "Renew the server certificate",
		},
		{
			ID: "server-early", Reason: ReasonClientRefusedUsDate, Turn: TurnOperator,
			Title: "Our certificate is not valid yet, for a Go program",
			Sees:  "certificate has expired or is not yet valid",
			Says:  "becomes valid in",
			Fix:   "Use a server certificate that is valid now",
		},
		{
			ID: "openssl-clock", Reason: ReasonClientRefusedUsDate, Turn: TurnClient,
			Title: "The clock of the client's machine is years ahead",
			Sees:  "certificate has expired",
			Says:  "By the clock here it is not",
			Fix:   "Compare the client's clock with this one",
		},
		{
			ID: "left-after-certificate", Reason: ReasonClientLeft, Turn: TurnClient,
			Title: "A client closes after our certificate, as a browser does while it asks its user",
			Says:  "without a word after our certificate",
			Fix:   "Try again with a client that says why",
		},
		{
			ID: "stalls-after-certificate", Reason: ReasonTimeout, Turn: TurnClient,
			Title: "A client waits for a person, and its handshake for too long",
			Says:  "stopped answering after our certificate",
			Fix:   "a person who is asked which certificate to use",
		},
		{
			ID: "sealed-no-cafile", Reason: ReasonClientRefusedUsCA, Turn: TurnClient,
			Title: "A client does not know the CA of a service whose TLS passes through us sealed",
			Sees:  "verify error",
			Says:  "it does not trust the CA of the service's certificate",
			Fix:   "-CAfile ca.crt",
		},
	}
}

// afterSituations are those after TLS, and those of the gateway's own end.
func afterSituations() []Situation {
	return []Situation{
		{
			ID: "upstream-moved", Reason: ReasonUpstreamDown, Turn: TurnOperator,
			Title: "The upstream's address is wrong",
			Sees:  "502",
			Says:  "does not answer",
			Fix:   "Or correct the upstream's address",
		},
		{
			ID: "upstream-stopped", Reason: ReasonUpstreamDown, Turn: TurnOperator,
			Title: "The service behind is not running",
			Sees:  "502",
			Says:  "does not answer",
			Fix:   "Start the service",
		},
		{
			ID: "upstream-stopped-sealed", Reason: ReasonUpstreamDown, Turn: TurnOperator,
			Title: "A service that ends TLS itself is not running",
			Sees:  "alert internal error",
			Says:  "does not answer",
			Fix:   "Or correct the upstream's address",
		},
		{
			ID: "other-host", Reason: ReasonHostMismatch, Turn: TurnClient,
			Title: "A request asks for another name than the connection was made for",
			Sees:  "421",
			Says:  "answered with HTTP status 421",
			Fix:   "make it send the name that it connected to",
		},
		{
			ID: "token-missing", Reason: ReasonProofMissing, Turn: TurnClient,
			Title: "The endpoint demands a bearer token, and none was sent",
			Sees:  "401",
			Says:  "it brought none",
			Fix:   "--oauth2-bearer TOKEN",
		},
		{
			ID: "password-wrong", Reason: ReasonProofMissing, Turn: TurnClient,
			Title: "The password is wrong",
			Sees:  "401",
			Says:  "demands a user name and password",
			Fix:   "--user NAME:PASSWORD",
		},
		{
			ID: "not-http", Reason: ReasonHTTPBroken, Turn: TurnClient,
			Title: "A client speaks something other than HTTP inside TLS",
			Sees:  "400 Bad Request",
			Says:  "is not an HTTP request",
			Fix:   "A well-formed request goes through",
		},
		{
			ID: "cookies-large", Reason: ReasonRequestTooLarge, Turn: TurnClient,
			Title: "The header is too large, by many cookies",
			Sees:  "431",
			Says:  "larger than limits allow",
			Fix:   "large cookies are the usual cause",
		},
		{
			ID: "certificate-large", Reason: ReasonIdentityLeftOut, Turn: TurnOperator,
			Title: "The client's certificate is too large for a header to the service",
			Says:  "was not told all of who it is",
			Fix:   "Let the service read a header that is always small",
		},
		{
			ID: "rate-connections", Reason: ReasonRateLimited, Turn: TurnClient,
			Title: "A meter opens connections too often",
			Sees:  "alert bad certificate",
			Says:  "faster than the rate of the identity meter allows",
			Fix:   "Slow the client",
		},
		{
			ID: "rate-requests", Reason: ReasonRateLimited, Turn: TurnClient,
			Title: "A meter sends requests too often",
			Sees:  "429",
			Says:  "than the rate of the identity meter allows",
			Fix:   "Slow the client",
		},
		{
			ID: "acme-check", Reason: ReasonACMEChallenge, Turn: TurnCA,
			Title: "A CA checks that a name is ours (TLS-ALPN-01)",
			Says:  "It got a handshake and nothing else",
			Fix:   "the certificate comes next",
		},
		{
			ID: "restart", Reason: ReasonShutdown, Turn: TurnOperator,
			Title: "The gateway was restarted while the client was on its way in",
			Says:  "because the gateway was stopping",
			Fix:   "Connect again when the gateway runs",
		},
	}
}
