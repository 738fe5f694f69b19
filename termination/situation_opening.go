package termination

// openingSituations are those of the ClientHello, of what was agreed upon, of our certificate, and of what comes after
// TLS: beats 1 to 3 and afterwards.
func openingSituations() []Situation {
	return append(append(helloSituations(), agreementSituations()...), append(serverSituations(), afterSituations()...)...)
}

func helloSituations() []Situation {
	return []Situation{
		{
			ID: "curl-http", Reason: ReasonNotTLS, Turn: TurnClient,
			Title: "curl was given http:// in the place of https://",
			Sees:  "This port speaks TLS",
			Says:  "spoke plain HTTP",
			Fix:   "curl -v https://",
		},
		{
			ID: "curl-h2c", Reason: ReasonNotTLS, Turn: TurnClient,
			Title: "A client speaks HTTP/2 without TLS",
			Sees:  "curl: (",
			Says:  "spoke HTTP/2 without TLS",
			Fix:   "curl -v https://",
		},
		{
			ID: "ssh", Reason: ReasonNotTLS, Turn: TurnClient,
			Title: "ssh calls the port directly",
			Says:  "spoke SSH",
			Fix:   "ssh -o ProxyCommand=",
		},
		{
			ID: "mqtt", Reason: ReasonNotTLS, Turn: TurnClient,
			Title: "A device speaks MQTT without TLS",
			Says:  "spoke MQTT",
			Fix:   "mqtts:// in its URL",
		},
		{
			ID: "redis", Reason: ReasonNotTLS, Turn: TurnClient,
			Title: "A Redis client was given redis:// in the place of rediss://",
			Says:  "spoke Redis",
			Fix:   "rediss:// in its URL",
		},
		{
			ID: "postgres-off", Reason: ReasonStartTLS, Turn: TurnOperator,
			Title: "A PostgreSQL client asks for TLS, and the endpoint does not answer that",
			Sees:  "no peer certificate available",
			Says:  "spoke PostgreSQL",
			Fix:   "set starttls: postgres there",
		},
		{
			ID: "postgres-plain", Reason: ReasonStartTLS, Turn: TurnClient,
			Title: "A PostgreSQL client does not ask for TLS",
			Sees:  "sslmode",
			Says:  "without asking for TLS",
			Fix:   "Use sslmode=verify-full in the client",
		},
		{
			ID: "ldap-starttls", Reason: ReasonStartTLS, Turn: TurnClient,
			Title: "An LDAP client uses StartTLS",
			Says:  "spoke LDAP",
			Fix:   "Use ldaps:// in the client's URL",
		},
		{
			ID: "smtp-greets", Reason: ReasonStartTLS, Turn: TurnClient,
			Title: "A mail client sends EHLO and means to use STARTTLS",
			Says:  "spoke SMTP",
			Fix:   "Make the client use TLS from the first byte (submissions",
		},
		{
			ID: "smtp-waits", Reason: ReasonSilent, Turn: TurnClient,
			Title: "A mail client waits for the server's greeting",
			Sees:  "CONNECTED",
			Says:  "said nothing",
			Fix:   "it waits for the server's greeting",
		},
		{
			ID: "port-check", Reason: ReasonSilent, Turn: TurnClient,
			Title: "A load balancer looks whether the port is open",
			Says:  "said nothing",
			Fix:   "Nothing, if it is a port check",
		},
		{
			ID: "hello-changed", Reason: ReasonHelloBroken, Turn: TurnClient,
			Title: "A middlebox changed the ClientHello",
			Says:  "its ClientHello cannot be read",
			Fix:   "curl -v https://",
		},
		{
			ID: "hello-half", Reason: ReasonHelloBroken, Turn: TurnClient,
			Title: "A client stops in the middle of its ClientHello",
			Says:  "its ClientHello cannot be read",
			Fix:   "curl -v https://",
		},
		{
			ID: "hello-stalls", Reason: ReasonTimeout, Turn: TurnClient,
			Title: "The second half of the ClientHello gets lost, as with a wrong MTU",
			Says:  "stopped answering in the middle of its ClientHello",
			Fix:   "Look at the network between",
		},
		{
			ID: "proxy-unexpected", Reason: ReasonProxyHeader, Turn: TurnOperator,
			Title: "The load balancer sends a PROXY header, and the port expects none",
			Sees:  "curl: (35)",
			Says:  "which does not expect one",
			Fix:   "Turn the PROXY protocol off in the load balancer",
		},
		{
			ID: "proxy-missing", Reason: ReasonProxyHeader, Turn: TurnOperator,
			Title: "The port expects a PROXY header, and the load balancer sends none",
			Sees:  "curl: (35)",
			Says:  "has to begin with a PROXY header",
			Fix:   "Turn the PROXY protocol on in the load balancer",
		},
		{
			ID: "proxy-stranger", Reason: ReasonProxyHeader, Turn: TurnOperator,
			Title: "A new load balancer sends a PROXY header and is not listed",
			Sees:  "curl: (35)",
			Says:  "is not listed under proxy_protocol",
			Fix:   "add its address to proxy_protocol",
		},
		{
			ID: "half-open", Reason: ReasonOverloaded, Turn: TurnOperator,
			Title: "Another program holds all connections that one address may open",
			Sees:  "curl: (35)",
			Says:  "the limit half_open_per_address is reached",
			Fix:   "Find who uses most of it",
		},
	}
}

func agreementSituations() []Situation {
	return []Situation{
		{
			ID: "curl-ip", Reason: ReasonNameMissing, Turn: TurnClient,
			Title: "The URL has an IP address in the place of a name",
			Sees:  "unrecognized name",
			Says:  "gave no server name",
			Fix:   "Connect by name, not by IP address",
		},
		{
			ID: "openssl-noservername", Reason: ReasonNameMissing, Turn: TurnClient,
			Title: "An old TLS library sends no server name (SNI)",
			Sees:  "unrecognized name",
			Says:  "gave no server name",
			Fix:   "Connect by name",
		},
		{
			ID: "curl-name-typo", Reason: ReasonNameUnknown, Turn: TurnClient,
			Title: "The name in the URL is misspelled",
			Sees:  "unrecognized name",
			Says:  "no endpoint there has that name",
			Fix:   "Correct the name in the client, if it means",
		},
		{
			ID: "name-new", Reason: ReasonNameUnknown, Turn: TurnClient,
			Title: "No endpoint was made for the name yet",
			Sees:  "unrecognized name",
			Says:  "no endpoint there has that name",
			Fix:   "add the name to the aliases of one",
		},
		{
			ID: "name-other-port", Reason: ReasonNameUnknown, Turn: TurnClient,
			Title: "The name is served on another port",
			Sees:  "unrecognized name",
			Says:  "no endpoint there has that name",
			Fix:   "That name is served on port",
		},
		{
			ID: "name-stopped", Reason: ReasonNameUnknown, Turn: TurnOperator,
			Title: "The endpoint is stopped",
			Sees:  "unrecognized name",
			Says:  "which is stopped",
			Fix:   "Start the endpoint",
		},
		{
			ID: "tls-1.1", Reason: ReasonVersionLow, Turn: TurnClient,
			Title: "The client speaks TLS 1.1 at most",
			Sees:  "alert protocol version",
			Says:  "TLS 1.2 is the lowest that is offered here",
			Fix:   "Upgrade the client's TLS library",
		},
		{
			ID: "tls-1.2-modern", Reason: ReasonVersionLow, Turn: TurnClient,
			Title: "The client speaks TLS 1.2 at most, and the endpoint has the preset modern",
			Sees:  "alert protocol version",
			Says:  "A client offers TLS 1.2",
			Fix:   "or allow that version in it",
		},
		{
			ID: "tls-1.3-only", Reason: ReasonVersionLow, Turn: TurnOperator,
			Title: "The client wants TLS 1.3, and the endpoint's maximum is TLS 1.2",
			Sees:  "alert protocol version",
			Says:  "A client offers TLS 1.3",
			Fix:   "Raise the maximum of api to TLS 1.3",
		},
		{
			ID: "suite-old", Reason: ReasonNoCommonSuite, Turn: TurnClient,
			Title: "The client offers suites without forward secrecy only",
			Sees:  "handshake failure",
			Says:  "have no cipher suite in common",
			Fix:   "allow one of these suites in it",
		},
		{
			ID: "suite-key", Reason: ReasonNoCommonSuite, Turn: TurnOperator,
			Title: "An old client has suites for RSA only, and our certificate has an ECDSA key",
			Sees:  "handshake failure",
			Says:  "they need a server certificate with an RSA key",
			Fix:   "a server certificate with an RSA key",
		},
		{
			ID: "group", Reason: ReasonNoCommonGroup, Turn: TurnClient,
			Title: "The client offers the group X448 only",
			Sees:  "handshake failure",
			Says:  "have no key exchange group in common",
			Fix:   "Enable X25519 or P-256 in the client",
		},
		{
			ID: "alpn", Reason: ReasonALPN, Turn: TurnClient,
			Title: "The client offers a protocol that is not HTTP",
			Sees:  "no application protocol",
			Says:  "wants to speak",
			Fix:   "Make the client offer h2 or http/1.1 by ALPN",
		},
		{
			ID: "alpn-tls", Reason: ReasonALPN, Turn: TurnClient,
			Title: "The protocol of the service behind is not listed at its endpoint",
			Sees:  "no application protocol",
			Says:  "wants to speak",
			Fix:   "add the name to tls.alpn",
		},
		{
			ID: "early-data", Reason: ReasonEarlyData, Turn: TurnClient,
			Title: "The client sends data before the handshake is done (0-RTT)",
			Says:  "It is never accepted here",
			Fix:   "turn 0-RTT off in the client",
		},
		{
			ID: "agent-away", Reason: ReasonAgentOffline, Turn: TurnOperator,
			Title: "The agent beside the service is not running",
			Sees:  "alert internal error",
			Says:  "whose TLS ends in an agent",
			Fix:   "countersign agent --endpoint api",
		},
		{
			ID: "endpoint-closed", Reason: ReasonPolicyUnreadable, Turn: TurnOperator,
			Title: "The local CA has ended, so there is no certificate for the endpoint",
			Sees:  "alert internal error",
			Says:  "so nobody enters there",
			Fix:   "repair it there",
		},
	}
}
