package termination

// Reason is a stable code that says why a handshake ended as it did. Codes are added, never changed.
type Reason string

// The reason codes. Their meaning stands in [Reasons].
const (
	ReasonNotTLS              Reason = "not_tls"
	ReasonSilent              Reason = "silent"
	ReasonHelloBroken         Reason = "hello_broken"
	ReasonNameMissing         Reason = "name_missing"
	ReasonNameUnknown         Reason = "name_unknown"
	ReasonVersionLow          Reason = "version_low"
	ReasonNoCommonSuite       Reason = "no_common_suite"
	ReasonNoCommonGroup       Reason = "no_common_group"
	ReasonALPN                Reason = "alpn"
	ReasonClientRefusedUsCA   Reason = "client_refused_us_ca"
	ReasonClientRefusedUsName Reason = "client_refused_us_name"
	ReasonClientRefusedUsDate Reason = "client_refused_us_date"
	ReasonClientRefusedUs     Reason = "client_refused_us"
	ReasonClientLeft          Reason = "client_left"
	ReasonCertMissing         Reason = "cert_missing"
	ReasonCAUnknown           Reason = "ca_unknown"
	ReasonCAOtherEndpoint     Reason = "ca_other_endpoint"
	ReasonCASameName          Reason = "ca_same_name"
	ReasonChainGap            Reason = "chain_gap"
	ReasonCertSelf            Reason = "cert_self"
	ReasonCertExpired         Reason = "cert_expired"
	ReasonCertEarly           Reason = "cert_early"
	ReasonCertUse             Reason = "cert_use"
	ReasonCertWeak            Reason = "cert_weak"
	ReasonCertNameLimits      Reason = "cert_name_limits"
	ReasonRevoked             Reason = "revoked"
	ReasonNotListed           Reason = "not_listed"
	ReasonKeyProof            Reason = "key_proof"
	ReasonTimeout             Reason = "timeout"
	ReasonChainTooDeep        Reason = "chain_too_deep"
	ReasonIssuerNotCA         Reason = "issuer_not_ca"
	ReasonCAExpired           Reason = "ca_expired"
	ReasonCertExtension       Reason = "cert_extension"
	ReasonCertMalformed       Reason = "cert_malformed"
	ReasonRevocationUnknown   Reason = "revocation_unknown"
	ReasonBlocked             Reason = "blocked"
	ReasonRateLimited         Reason = "rate_limited"
	ReasonAgentOffline        Reason = "agent_offline"
	ReasonOverloaded          Reason = "overloaded"
	ReasonHostMismatch        Reason = "host_mismatch"
	ReasonPolicyDenied        Reason = "policy_denied"
	ReasonExpressionError     Reason = "expression_error"
	ReasonProofMissing        Reason = "proof_missing"
	ReasonIdentityElsewhere   Reason = "identity_elsewhere"
	ReasonPolicyUnreadable    Reason = "policy_unreadable"
	ReasonProxyHeader         Reason = "proxy_header"
	ReasonStartTLS            Reason = "starttls"
	ReasonEarlyData           Reason = "early_data"
	ReasonShutdown            Reason = "shutdown"
	ReasonUpstreamDown        Reason = "upstream_down"
	ReasonIdentityLeftOut     Reason = "identity_left_out"
	ReasonHTTPBroken          Reason = "http_broken"
	ReasonACMEChallenge       Reason = "acme_challenge"
	ReasonRequestTooLarge     Reason = "request_too_large"
)

// ReasonInfo is the row of one reason in the table that feeds the pages, the API and the documentation.
type ReasonInfo struct {
	Code    Reason  `json:"code"`
	Beat    Beat    `json:"beat"` // at which beat it breaks; 0: at any, or after the handshake
	Outcome Outcome `json:"outcome"`
	Title   string  `json:"title"`
	How     string  `json:"how"`           // how it is known
	Fix     string  `json:"fix,omitempty"` // the general remedy; explanations give the exact one
	Alert   uint8   `json:"alert,omitempty"`
	Turn    Turn    `json:"turn,omitempty"`
	Later   bool    `json:"later,omitempty"` // kept free for a capability that this version does not have
}

//go:generate go test -run ^TestReasonDocument$ . -update

// Reasons returns the one table of reasons, in the order of the beats. The caller owns the slice.
func Reasons() []ReasonInfo {
	return []ReasonInfo{
		{Code: ReasonOverloaded, Beat: BeatHello, Outcome: OutcomeRefused, Turn: TurnOperator, Title: "Turned away, a limit was reached", How: "a limit on connections or half-open handshakes, overall or for one address", Fix: "Raise the limit, or find who uses most of it."},
		{Code: ReasonNotTLS, Beat: BeatHello, Outcome: OutcomeBrokenOff, Turn: TurnClient, Title: "Did not speak TLS on a TLS port", How: "the first bytes are no TLS record", Fix: "Use https:// in the client's URL."},
		{Code: ReasonStartTLS, Beat: BeatHello, Outcome: OutcomeBrokenOff, Turn: TurnClient, Title: "Speaks another protocol before TLS", How: "the first bytes are those of PostgreSQL, SMTP, IMAP, POP3, FTP, LDAP or XMPP", Fix: "Make the client begin with TLS; for PostgreSQL, set starttls: postgres on the endpoint."},
		{Code: ReasonProxyHeader, Beat: BeatHello, Outcome: OutcomeRefused, Turn: TurnOperator, Title: "PROXY header missing, or from a stranger", How: "the first bytes are a PROXY protocol header from a source that is not listed under proxy_protocol, or a listed source sent none or a broken one", Fix: "Turn the PROXY protocol on or off in the load balancer in front, or correct proxy_protocol."},
		{Code: ReasonSilent, Beat: BeatHello, Outcome: OutcomeBrokenOff, Turn: TurnClient, Title: "Connected and said nothing", How: "no ClientHello before the deadline or the client's close; often a port check or a load balancer", Fix: "Nothing, if it is a health check; point the check at a path over TLS otherwise."},
		{Code: ReasonHelloBroken, Beat: BeatHello, Outcome: OutcomeBrokenOff, Turn: TurnClient, Title: "ClientHello cannot be read", How: "the ClientHello does not decode, is too large, or stops half way", Fix: "Look at the client's TLS library, or at what stands between it and the gateway."},
		{Code: ReasonNameMissing, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 112, Turn: TurnClient, Title: "Gave no server name", How: "no SNI, and no fallback endpoint on this address", Fix: "Connect by name, not by IP address; or define a fallback endpoint."},
		{Code: ReasonNameUnknown, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 112, Turn: TurnClient, Title: "Asked for a name nobody serves", How: "the SNI matches no endpoint on this address", Fix: "Correct the name in the client, or create an endpoint for it."},
		{Code: ReasonVersionLow, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 70, Turn: TurnClient, Title: "Only offers TLS versions that are not allowed", How: "the versions offered against the endpoint's minimum and maximum", Fix: "Upgrade the client's TLS library."},
		{Code: ReasonNoCommonSuite, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 40, Turn: TurnClient, Title: "No cipher suite in common", How: "the suites offered against those allowed", Fix: "Upgrade the client, or allow a suite it has."},
		{Code: ReasonNoCommonGroup, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 40, Turn: TurnClient, Title: "No key exchange group in common", How: "the groups offered against those allowed", Fix: "Enable X25519 or P-256 in the client."},
		{Code: ReasonALPN, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 120, Turn: TurnClient, Title: "No application protocol in common", How: "the ALPN names offered against those served", Fix: "Make the client offer h2 or http/1.1, or none."},
		{Code: ReasonEarlyData, Beat: BeatAgreement, Outcome: OutcomeOpen, Turn: TurnClient, Title: "Sent 0-RTT data", How: "the early_data extension; it is never accepted", Fix: "Nothing: the client repeats it by itself."},
		{Code: ReasonAgentOffline, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 80, Turn: TurnOperator, Title: "No agent is online for this endpoint", How: "the tunnel", Fix: "Start the agent."},
		{Code: ReasonPolicyUnreadable, Beat: BeatAgreement, Outcome: OutcomeRefused, Alert: 80, Turn: TurnOperator, Title: "This endpoint's policy could not be loaded, so nobody enters", How: "the store or the file", Fix: "See the endpoint's page for the error."},
		{Code: ReasonClientRefusedUsCA, Beat: BeatServerCert, Outcome: OutcomeClientRefused, Turn: TurnClient, Title: "Client does not trust our certificate", How: "alert 48 or 46 received, also in plaintext", Fix: "Give the client the CA of our certificate, as curl --cacert does."},
		{Code: ReasonClientRefusedUsName, Beat: BeatServerCert, Outcome: OutcomeClientRefused, Turn: TurnOperator, Title: "Client expected another name", How: "alert 42 or 46 after our reply, and the SNI is not among our certificate's names", Fix: "Add the name to the server certificate."},
		{Code: ReasonClientRefusedUsDate, Beat: BeatServerCert, Outcome: OutcomeClientRefused, Turn: TurnOperator, Title: "Client says our certificate is out of date", How: "alert 45 received", Fix: "Renew the server certificate, or correct the client's clock."},
		{Code: ReasonClientRefusedUs, Beat: BeatServerCert, Outcome: OutcomeClientRefused, Turn: TurnClient, Title: "Client does not accept our certificate", How: "any other alert after our reply; Go clients send 42 for every cause", Fix: "Check in the client: its CA, the name it expects, its clock."},
		{Code: ReasonClientLeft, Beat: BeatServerCert, Outcome: OutcomeBrokenOff, Turn: TurnClient, Title: "Client closed without a word", How: "end of stream or reset after our reply; usual with browsers that ask which certificate to use", Fix: "Try again with a client that says why, such as curl -v."},
		{Code: ReasonCertMissing, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 116, Turn: TurnClient, Title: "No client certificate sent", How: "an empty Certificate message", Fix: "Give the client its certificate and key, as curl --cert and --key do."},
		{Code: ReasonCAUnknown, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 48, Turn: TurnClient, Title: "Signed by a CA that is not trusted here", How: "verification", Fix: "Use a client certificate from a CA that this endpoint trusts."},
		{Code: ReasonCAOtherEndpoint, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 48, Turn: TurnClient, Title: "CA is trusted, but not by this endpoint", How: "its chain ends in another authority", Fix: "Issue the certificate from a CA of this endpoint, or use that authority here too."},
		{Code: ReasonCASameName, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 48, Turn: TurnClient, Title: "CA has a known name but another key", How: "the issuer's name equals that of a known CA whose key did not sign it", Fix: "If the CA was made anew, upload the new one, or issue the client's certificate again."},
		{Code: ReasonChainGap, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 48, Turn: TurnClient, Title: "A certificate in between is missing", How: "the issuer was neither sent nor kept with the endpoint's authorities; it is kept elsewhere, another client has sent it lately, or its name points to a CA that is trusted", Fix: "Send the full chain, or upload the intermediate to the authority."},
		{Code: ReasonCertSelf, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 48, Turn: TurnClient, Title: "Signed itself", How: "the certificate verifies under its own key", Fix: "Issue one from a CA that this endpoint trusts, or pin it."},
		{Code: ReasonCertExpired, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 45, Turn: TurnClient, Title: "Client certificate has ended", How: "its dates", Fix: "Issue a replacement."},
		{Code: ReasonCertEarly, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 45, Turn: TurnCA, Title: "Not valid yet", How: "the dates of the client's certificate, or of a CA in its chain", Fix: "Correct the clock that is wrong, or wait."},
		{Code: ReasonCAExpired, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 45, Turn: TurnCA, Title: "A CA in the chain has ended", How: "its dates", Fix: "Renew the CA, or trust its successor."},
		{Code: ReasonCertUse, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnCA, Title: "Not made for clients", How: "extended key usage without clientAuth on the client's certificate or on a CA in its chain, key usage without digitalSignature, or a CA certificate that comes as a client", Fix: "Issue it again with extendedKeyUsage clientAuth."},
		{Code: ReasonCertWeak, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnCA, Title: "Old algorithm or short key", How: "RSA below 2048 bits, SHA-1, MD5, or a kind of key or signature that cannot be checked here; in the client's certificate and in every CA of its chain", Fix: "Issue it again with a current key and signature."},
		{Code: ReasonCertNameLimits, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnCA, Title: "CA may not sign this certificate", How: "name constraints, or certificate policies, of a CA in the chain", Fix: "Issue it from a CA that may."},
		{Code: ReasonChainTooDeep, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnCA, Title: "More CAs in between than allowed", How: "depth, or a CA's path length", Fix: "Issue it nearer to the root, or raise max_depth."},
		{Code: ReasonIssuerNotCA, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnCA, Title: "The issuer has no right to sign", How: "basicConstraints, keyUsage", Fix: "Issue it from a CA."},
		{Code: ReasonCertExtension, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnCA, Title: "Has a critical extension that nobody here understands", How: "the verifier", Fix: "Issue it again without that extension."},
		{Code: ReasonCertMalformed, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnCA, Title: "Cannot be read as a certificate", How: "the parser, the verifier, or a limit on size and number", Fix: "Issue it again; look at the bytes."},
		{Code: ReasonRevoked, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnClient, Title: "Revoked", How: "a CRL, OCSP or the local CA", Fix: "Issue a new one."},
		{Code: ReasonRevocationUnknown, Beat: BeatClientCert, Outcome: OutcomeRefused, Alert: 42, Turn: TurnOperator, Title: "No fresh answer on revocation, and the policy is hard", How: "CRL or OCSP past its time, or away", Fix: "Refresh the source."},
		{Code: ReasonNotListed, Beat: BeatEstablished, Outcome: OutcomeRefused, Alert: 42, Turn: TurnOperator, Title: "Not on the list", How: "no pin of this endpoint matches, and it trusts no authority", Fix: "Pin this certificate, if its owner confirms the fingerprint."},
		{Code: ReasonKeyProof, Beat: BeatEstablished, Outcome: OutcomeRefused, Alert: 51, Turn: TurnClient, Title: "Did not prove that it has the key", How: "CertificateVerify failed", Fix: "Use the key that belongs to the certificate."},
		{Code: ReasonBlocked, Beat: BeatEstablished, Outcome: OutcomeRefused, Alert: 42, Turn: TurnOperator, Title: "Blocked here by hand", How: "the block list, or the client's identity", Fix: "Unblock it."},
		{Code: ReasonRateLimited, Beat: BeatEstablished, Outcome: OutcomeRefused, Alert: 42, Turn: TurnClient, Title: "More attempts than its rate allows", How: "the identity's rate: connections to tls endpoints end in TLS, requests to https endpoints with 429", Fix: "Slow the client, or raise the rate."},
		{Code: ReasonPolicyDenied, Beat: BeatEstablished, Outcome: OutcomeRefused, Alert: 42, Turn: TurnOperator, Title: "A rule says no", How: "the rules or the expression of the endpoint's policy, or the policy of the route that was asked for", Fix: "Use a client that the policy allows, or change the policy."},
		{Code: ReasonExpressionError, Beat: BeatEstablished, Outcome: OutcomeRefused, Alert: 42, Turn: TurnOperator, Title: "The expression failed", How: "its evaluation, for the client's certificate, or for the request", Fix: "Correct the expression."},
		{Code: ReasonIdentityElsewhere, Beat: BeatEstablished, Outcome: OutcomeRefused, Alert: 42, Turn: TurnOperator, Title: "Known client, but not for this endpoint", How: "the identity", Fix: "Use its endpoint, or add this one."},
		{Code: ReasonHostMismatch, Outcome: OutcomeVerified, Turn: TurnClient, Title: "Asked over this connection for a name that needs another", How: "Host against endpoint: 421", Fix: "Connect by that name."},
		{Code: ReasonHTTPBroken, Outcome: OutcomeVerified, Turn: TurnClient, Title: "Let in, then sent no request that can be read", How: "what came over HTTP/1.1 is no request, or stopped half way: 400, 431, 501 or 505, and the end of the connection", Fix: "Look at the client's HTTP library, or at what stands between it and the gateway."},
		{Code: ReasonProofMissing, Outcome: OutcomeVerified, Turn: TurnClient, Title: "Token or password missing, or of no use", How: "the Authorization header against also: 401; 400 when it can be read in two ways; 429 and 503 when too many were wrong, or are being checked", Fix: "Send one that counts here in the Authorization header."},
		{Code: ReasonRequestTooLarge, Outcome: OutcomeVerified, Turn: TurnClient, Title: "Let in, then sent more than a request may have", How: "the limits on header and body: 431 and 413", Fix: "Send less, or raise the limit."},
		{Code: ReasonUpstreamDown, Outcome: OutcomeVerified, Turn: TurnOperator, Title: "Let in, but the service behind does not answer", How: "dialling it failed, or it broke off", Fix: "Start the service, or correct the upstream's address."},
		{Code: ReasonIdentityLeftOut, Outcome: OutcomeVerified, Turn: TurnOperator, Title: "Let in, but the service was not told all of who it is", How: "a header of forward_identity would be larger than 16 KiB, or all of them than 32 KiB; or a name in the certificate cannot be written in it without doubt; or an expression gave no text", Fix: "Let the service read a smaller header, such as X-Client-Fingerprint; or issue a smaller certificate."},
		{Code: ReasonACMEChallenge, Outcome: OutcomeOpen, Turn: TurnCA, Title: "A CA checked that a name is ours", How: "the protocol acme-tls/1, and a TLS-ALPN-01 challenge in flight for that name; it gets a handshake and nothing else", Fix: "Nothing: the certificate comes next."},
		{Code: ReasonTimeout, Outcome: OutcomeBrokenOff, Turn: TurnClient, Title: "Stopped answering", How: "the handshake's deadline; after it, an answer of which the client reads nothing for the idle time", Fix: "Look at the network between, or at the client."},
		{Code: ReasonShutdown, Outcome: OutcomeBrokenOff, Turn: TurnOperator, Title: "The gateway was stopping", How: "the drain", Fix: "Connect again."},
	}
}

// Info returns the row of r, and false for a code that is in no table.
func (r Reason) Info() (ReasonInfo, bool) {
	for _, i := range Reasons() {
		if i.Code == r {
			return i, true
		}
	}
	return ReasonInfo{}, false
}
