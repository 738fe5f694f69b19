package termination

import "slices"

// clientSituations are those of the client's certificate and of the policy: beats 4 and 5.
func clientSituations() []Situation {
	return slices.Concat(missingSituations(), issuerSituations(), mistakenSituations(), certificateSituations(), policySituations())
}

// missingSituations are those of clients that send no certificate.
func missingSituations() []Situation {
	return []Situation{
		{
			ID: "curl-no-certificate", Reason: ReasonCertMissing, Turn: TurnClient,
			Title: "curl was given no certificate",
			Sees:  "certificate required",
			Says:  "without a certificate, and nobody enters there without one",
			Fix:   "curl --cert client.crt --key client.key",
		},
		{
			ID: "curl-long-dash", Reason: ReasonCertMissing, Turn: TurnClient,
			Title: "The command was pasted from a document, which made one long dash of the two of --cert",
			Sees:  "certificate required",
			Says:  "without a certificate, and nobody enters there without one",
			Fix:   "look at the dashes",
		},
		{
			ID: "curl-key-alone", Reason: ReasonCertMissing, Turn: TurnClient,
			Title: "curl was given the key and not the certificate",
			Sees:  "certificate required",
			Says:  "without a certificate, and nobody enters there without one",
			Fix:   "A key alone (--key without --cert) sends nothing either",
		},
		{
			ID: "client-of-another-ca-stays-silent", Reason: ReasonCertMissing, Turn: TurnClient,
			Title: "The client has a certificate, but from no CA that it was asked for, and so sends none, as browsers do",
			Sees:  "certificate required",
			Says:  "It was asked for one from Devices CA",
			Fix:   "If it has none, issue one",
		},
		{
			ID: "openssl-no-certificate", Reason: ReasonCertMissing, Turn: TurnClient,
			Title: "openssl s_client was given no certificate in TLS 1.2, which has no alert of its own for that",
			Sees:  "handshake failure",
			Says:  "without a certificate, and nobody enters there without one",
			Fix:   "curl --cert client.crt --key client.key",
		},
	}
}

// issuerSituations are those in which nobody vouches for the client's certificate.
func issuerSituations() []Situation {
	return []Situation{
		{
			ID: "stranger", Reason: ReasonCAUnknown, Turn: TurnClient,
			Title: "The client's CA is unknown, and its owner can have a certificate from one that is trusted",
			Sees:  "unknown ca",
			Says:  "leads to Elsewhere CA, which is not known here",
			Fix:   "openssl x509 -x509toreq",
		},
		{
			ID: "ca-not-uploaded", Reason: ReasonCAUnknown, Turn: TurnClient,
			Title: "The client's CA is ours, but was never uploaded",
			Sees:  "unknown ca",
			Says:  "leads to Warehouse CA, which is not known here",
			Fix:   "compare the fingerprint with them, and upload it under Trust",
		},
		{
			ID: "ca-unknown-in-request-mode", Reason: ReasonCAUnknown, Turn: TurnClient,
			Title: "An endpoint in the mode request lets a client in whose CA is unknown, and does not verify it",
			Sees:  "200",
			Says:  "was let in, but not verified",
			Fix:   "openssl x509 -x509toreq",
		},
		{
			ID: "ca-unknown-in-optional-mode", Reason: ReasonCAUnknown, Turn: TurnClient,
			Title: "An endpoint in the mode optional refuses a certificate that is worse than none",
			Sees:  "unknown ca",
			Says:  "which is not known here",
			Fix:   "openssl x509 -x509toreq",
		},
		{
			ID: "report-only", Reason: ReasonCAUnknown, Turn: TurnClient,
			Title: "A policy that only reports would have refused the client",
			Sees:  "200",
			Says:  "It was let in all the same: the policy of api only reports so far",
			Fix:   "openssl x509 -x509toreq",
		},
		{
			ID: "other-endpoint", Reason: ReasonCAOtherEndpoint, Turn: TurnClient,
			Title: "The client calls the wrong endpoint",
			Sees:  "unknown ca",
			Says:  "that authority is trusted by partners",
			Fix:   "Or let the client call partners",
		},
		{
			ID: "other-endpoint-same-name", Reason: ReasonCAOtherEndpoint, Turn: TurnClient,
			Title: "The CA was made anew and uploaded, but this endpoint still trusts only the old one",
			Sees:  "unknown ca",
			Says:  "A CA of the same name is trusted at api, but with the key",
			Fix:   "if the CA was made anew and both are yours, trust the authority",
		},
		{
			ID: "same-name-made-anew", Reason: ReasonCASameName, Turn: TurnClient,
			Title: "The CA was made anew, with the same name and another key, and not uploaded",
			Sees:  "unknown ca",
			Says:  "a CA that calls itself Devices CA, but it is not the one",
			Fix:   "compare the fingerprint of its key with them, and upload it",
		},
		{
			ID: "same-name-old-client", Reason: ReasonCASameName, Turn: TurnClient,
			Title: "The CA was made anew, and the client still has a certificate of the old one",
			Sees:  "unknown ca",
			Says:  "a CA that calls itself Devices CA, but it is not the one",
			Fix:   "signed by an older key of that CA, issue it a new one",
		},
		{
			ID: "curl-no-intermediate", Reason: ReasonChainGap, Turn: TurnClient,
			Title: "curl sends its certificate without the intermediate that another authority here keeps",
			Sees:  "unknown ca",
			Says:  "without sending the intermediate certificate",
			Fix:   "cat client.crt",
		},
		{
			ID: "intermediate-seen-lately", Reason: ReasonChainGap, Turn: TurnClient,
			Title: "The client forgets an intermediate that another client has sent",
			Sees:  "unknown ca",
			Says:  "another client has sent it lately",
			Fix:   "cat client.crt > client-chain.crt",
		},
		{
			ID: "two-intermediates-missing", Reason: ReasonChainGap, Turn: TurnClient,
			Title: "The client forgets two intermediates, both of which are known from others",
			Sees:  "unknown ca",
			Says:  "another client has sent it lately",
			Fix:   "cat client.crt > client-chain.crt",
		},
		{
			ID: "intermediate-unknown", Reason: ReasonChainGap, Turn: TurnClient,
			Title: "The client forgets an intermediate that nobody here has seen",
			Sees:  "unknown ca",
			Says:  "by its name it seems to stand below Devices CA",
			Fix:   "cat client.crt intermediate.crt > client-chain.crt",
		},
		{
			ID: "intermediate-uploaded", Reason: ReasonChainGap, Turn: TurnClient,
			Title: "The client cannot be made to send its intermediate, so that it is kept here",
			Sees:  "unknown ca",
			Says:  "by its name it seems to stand below Devices CA",
			Fix:   "as a helper: it completes the chains of clients that forget it",
		},
		{
			ID: "p12-without-chain", Reason: ReasonChainGap, Turn: TurnClient,
			Title: "The client's .p12 file was made without the intermediate",
			Sees:  "unknown ca",
			Says:  "without sending the certificate of Devices Issuing CA",
			Fix:   "openssl pkcs12 -export -in client-chain.crt",
		},
		{
			ID: "self-signed", Reason: ReasonCertSelf, Turn: TurnClient,
			Title: "The client's certificate signed itself, as openssl req -x509 makes it, and its owner confirms it",
			Sees:  "unknown ca",
			Says:  "with a certificate that it signed itself, so nobody vouches for it",
			Fix:   "add it to the list of pins",
		},
		{
			ID: "self-signed-elsewhere", Reason: ReasonCertSelf, Turn: TurnClient,
			Title: "The client's certificate is pinned at another endpoint",
			Sees:  "unknown ca",
			Says:  "It is on the list of kiosks",
			Fix:   "Let the client call kiosks",
		},
	}
}

// mistakenSituations are those of clients that show something else than their own certificate.
func mistakenSituations() []Situation {
	return []Situation{
		{
			ID: "wrong-order", Reason: ReasonCertUse, Turn: TurnClient,
			Title: "The client sends its chain in the wrong order",
			Sees:  "bad certificate",
			Says:  "The chain came in the wrong order",
			Fix:   "cat client.crt intermediate.crt > client-chain.crt",
		},
		{
			ID: "root-in-place-of-leaf", Reason: ReasonCertUse, Turn: TurnClient,
			Title: "The client shows the root CA's certificate in place of its own",
			Sees:  "bad certificate",
			Says:  "What it showed is the certificate of the root CA Devices CA itself",
			Fix:   "openssl crl2pkcs7",
		},
		{
			ID: "helper-in-place-of-leaf", Reason: ReasonCertUse, Turn: TurnClient,
			Title: "The client's file holds only the intermediate",
			Sees:  "bad certificate",
			Says:  "What it showed is the certificate of the intermediate CA Devices Issuing CA itself",
			Fix:   "openssl crl2pkcs7",
		},
		{
			ID: "strange-root-in-place-of-leaf", Reason: ReasonCertSelf, Turn: TurnClient,
			Title: "The client shows the certificate of its own root CA, which is not known here",
			Sees:  "unknown ca",
			Says:  "What it showed is the certificate of the root CA Elsewhere CA itself",
			Fix:   "If it has none of its own, issue one",
		},
		{
			ID: "our-server-certificate", Reason: ReasonCAUnknown, Turn: TurnClient,
			Title: "The client shows the certificate of our own server",
			Sees:  "unknown certificate authority",
			Says:  "What it showed is the server certificate api, which is the server's own at api",
			Fix:   "Give the client a certificate of its own",
		},
		{
			ID: "server-certificate-of-our-name", Reason: ReasonCertUse, Turn: TurnClient,
			Title: "The client shows the certificate that its host has as a server behind that name",
			Sees:  "bad certificate",
			Says:  "What it showed is a server certificate for api.localhost, a name of the endpoint api",
			Fix:   "Give the client a certificate of its own",
		},
		{
			ID: "wrong-key", Reason: ReasonKeyProof, Turn: TurnClient,
			Title: "The client signs with a key that does not belong to its certificate",
			Sees:  "decrypt",
			Says:  "did not prove that it holds the key to it",
			Fix:   "These two lines print the same digits if they belong together",
		},
	}
}
