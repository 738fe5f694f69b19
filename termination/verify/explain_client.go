package verify

import (
	"fmt"

	"countersign/termination"
)

// clientWords explains what the client did not bring.
func (a *account) clientWords(r termination.Reason) termination.Explanation {
	switch r {
	case termination.ReasonCertMissing:
		return a.missingWords()
	case termination.ReasonKeyProof:
		return a.keyProofWords()
	default:
		return a.notListedWords()
	}
}

func (a *account) missingWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("A client came to %s without a certificate, and nobody enters there without one.", a.at()),
		Right:    a.handshakeRight(),
		ClientTo: a.toClient("it sent no client certificate", "Please configure its certificate and private key; the certificate has to "+a.demand()+"."),
	}
	policy := a.policy
	if policy != nil && policy.Announced() == policy.pool {
		var names []string
		for _, c := range append(policy.anchors, policy.helpers...) {
			names = append(names, certName(c))
		}
		ex.Sentence += fmt.Sprintf(" It was asked for one from %s.", alternatives(names, 6))
		ex.Fixes = append(ex.Fixes, termination.Fix{
			Text:    "Give the client its certificate and key. If it has one from another CA than those named, or one that is not made for clients, that is why it stays silent: browsers, .NET, Go and others do.",
			Command: a.call(true, false),
		})
	} else {
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: "Give the client its certificate and key.", Command: a.call(true, false)})
	}
	ex.Fixes = append(ex.Fixes, termination.Fix{
		Text: "If its command names them already, look at the dashes: a text that was pasted from a document may have one long dash (–) in place of the two of --cert, and then it is no option. A key alone (--key without --cert) sends nothing either.",
	}, a.issue("If it has none, issue one"), termination.Fix{
		Text: "In a browser, import the certificate and its key as a .p12 file, and choose it when asked.",
	})
	if policy != nil && policy.mode == termination.ModeRequire {
		ex.Fixes = append(ex.Fixes, termination.Fix{
			Text:   fmt.Sprintf("Or set the mode of %s to optional: then everyone comes in who sends no certificate.", a.at()),
			Action: a.endpointPage(), Lowers: true,
		})
	}
	return ex
}

// demand says what would pass, for the client's owner.
func (a *account) demand() string {
	if a.policy != nil && len(a.policy.anchors) == 0 && len(a.policy.pins) > 0 {
		return "be registered there"
	}
	return "come from " + a.acceptable()
}

// handshakeRight says that everything before the client's certificate was in order.
func (a *account) handshakeRight() string {
	if a.handshake.Chosen == nil {
		return ""
	}
	return "The name, the TLS version and our own certificate were fine with it."
}

func (a *account) keyProofWords() termination.Explanation {
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s presented a certificate to %s, but did not prove that it holds the key to it.", a.who(), a.at()),
		Right:    "The certificate itself passed.",
		Fixes: []termination.Fix{
			{
				Text:    "Give the client the key that belongs to its certificate. These two lines print the same digits if they belong together.",
				Command: "openssl x509 -in client.crt -noout -pubkey | openssl sha256\nopenssl pkey -in client.key -pubout | openssl sha256",
			},
			a.issue("If the key is lost, issue a new certificate"),
			{Text: "If nobody can say where this comes from, treat it as an attempt with somebody else's certificate: certificates are public, keys are not."},
		},
		ClientTo: a.toClient("it did not prove that it holds the private key of its certificate", "Please check that certificate and key belong together."),
	}
}

func (a *account) notListedWords() termination.Explanation {
	if a.leaf == nil {
		return a.otherWords(termination.ReasonNotListed)
	}
	fingerprint := termination.FingerprintOf(a.leaf)
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s with a certificate that is not on the list of %s.", a.came(), a.at()),
		Right:    a.leafRight(),
		Fixes: []termination.Fix{
			{
				Text:    fmt.Sprintf("Ask its owner for the certificate's SHA-256 fingerprint. If it is %s, add it to the list.", fingerprint),
				Command: "openssl x509 -in client.crt -noout -fingerprint -sha256",
				Action:  a.endpointPage(),
			},
			{Text: "Or make the client use the certificate that is on the list. After a renewal, a pin of the key still fits if the key is the same; a pin of the certificate does not."},
		},
		ClientTo: a.toClient("the certificate is not registered there", "Please tell us over another way whether this fingerprint is yours."),
	}
	if a.policy == nil {
		return ex
	}
	for _, c := range a.readable()[1:] {
		if _, listed := a.policy.pinOf(c); listed {
			ex.Right = fmt.Sprintf("It sent the certificate of %s as well, which is on the list; but only the first one counts, since a client proves the key of no other.", certName(c))
			return ex
		}
	}
	for _, c := range a.search.all.find(a.readable(), coldSignatures).chains {
		if c.proven && len(c.certificates) > 1 {
			anchor := c.certificates[len(c.certificates)-1]
			ex.Right += fmt.Sprintf(" Its chain leads to the authority %s, which %s does not trust.", list(a.search.anchorOf(anchor), 3), a.at())
			break
		}
	}
	return ex
}
