package termination

// clientSituations are those of the client's certificate and of the policy: beats 4 and 5.
func clientSituations() []Situation {
	return []Situation{
		{
			ID: "curl-no-certificate", Reason: ReasonCertMissing, Turn: TurnClient,
			Title: "curl was given no certificate",
			Sees:  "certificate required",
			Says:  "without a certificate, and nobody enters there without one",
			Fix:   "curl --cert client.crt --key client.key",
		},
		{
			ID: "curl-no-intermediate", Reason: ReasonChainGap, Turn: TurnClient,
			Title: "curl sends its certificate without the intermediate that another authority here keeps",
			Sees:  "unknown ca",
			Says:  "without sending the intermediate certificate",
			Fix:   "cat client.crt",
		},
	}
}
