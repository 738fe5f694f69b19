package termination

// openingSituations are those of the ClientHello, of what was agreed upon, of our certificate, and of what comes after
// TLS: beats 1 to 3 and afterwards.
func openingSituations() []Situation {
	return []Situation{
		{
			ID: "curl-http", Reason: ReasonNotTLS, Turn: TurnClient,
			Title: "curl was given http:// in the place of https://",
			Sees:  "This port speaks TLS",
			Says:  "spoke plain HTTP",
			Fix:   "curl -v https://",
		},
		{
			ID: "curl-name-typo", Reason: ReasonNameUnknown, Turn: TurnClient,
			Title: "The name in the URL is misspelled",
			Sees:  "unrecognized name",
			Says:  "no endpoint there has that name",
			Fix:   "Correct the name in the client, if it means",
		},
		{
			ID: "curl-no-cacert", Reason: ReasonClientRefusedUsCA, Turn: TurnClient,
			Title: "curl does not know the CA of our certificate",
			Sees:  "unable to get local issuer certificate",
			Says:  "it does not trust the CA of our certificate",
			Fix:   "curl --cacert ca.crt",
		},
		{
			ID: "upstream-away", Reason: ReasonUpstreamDown, Turn: TurnOperator,
			Title: "The service behind is not running",
			Sees:  "502",
			Says:  "does not answer",
			Fix:   "Or correct the upstream's address",
		},
	}
}
