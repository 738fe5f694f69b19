package verify

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"countersign/termination"
)

// dateWords explains what is wrong with the time: the certificate's, its CA's, or a clock's.
func (a *account) dateWords(r termination.Reason) termination.Explanation {
	check, ok := a.failing(r)
	subject := a.certificateOf(check)
	if !ok || subject == nil {
		return a.otherWords(r)
	}
	switch {
	case r == termination.ReasonCertExpired:
		return a.expiredWords(subject)
	case r == termination.ReasonCAExpired:
		return a.caExpiredWords(subject)
	}
	return a.earlyWords(subject)
}

func (a *account) expiredWords(c *x509.Certificate) termination.Explanation {
	ended := span(a.moment().Sub(c.NotAfter))
	clock := "If the clock here is wrong, correct it instead"
	if a.moment().Sub(c.NotAfter) < 24*time.Hour {
		clock = fmt.Sprintf("If it should still hold, one of two clocks is wrong: this one, which would be at least %s ahead, or that of the machine that issued it. Correct the wrong one", ended)
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s with a certificate that ended %s ago, on %s.", a.came(), ended, stamp(c.NotAfter)),
		Right:    a.chainRight(termination.ReasonCertExpired, "the date") + a.shifted(),
		Fixes: []termination.Fix{
			a.issue("Issue a replacement"),
			a.clock(clock),
		},
		ClientTo: a.toClient(fmt.Sprintf("the certificate ended on %s", stamp(c.NotAfter)), "Please install a new one; if you have it already, the client still uses the old file."),
	}
}

func (a *account) caExpiredWords(c *x509.Certificate) termination.Explanation {
	ended := span(a.moment().Sub(c.NotAfter))
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s under the CA certificate %s, which ended %s ago, on %s.", a.came(), certName(c), ended, stamp(c.NotAfter)),
		Right:    a.chainRight(termination.ReasonCAExpired, "the date of that CA certificate") + a.shifted(),
		ClientTo: a.toClient(fmt.Sprintf("the CA certificate %s ended on %s", certName(c), stamp(c.NotAfter)), "Please install the renewed CA certificate in the client's chain, or a certificate from its successor."),
	}
	kept := a.search.kept(c)
	switch renewed, ok := a.search.renewal(c, a.moment()); {
	case ok && renewed.authority != "":
		ex.Turn = termination.TurnOperator
		ex.Fixes = append(ex.Fixes, termination.Fix{
			Text:   fmt.Sprintf("A renewal of it, with the same key, is kept in the authority %s: use that one at %s.", renewed.authority, a.at()),
			Action: a.endpointPage(),
		})
	case len(kept) > 0:
		ex.Turn = termination.TurnOperator
		ex.Fixes = append(ex.Fixes, termination.Fix{
			Text:   fmt.Sprintf("Upload the renewal of %s, same name and key, to the authority %s; clients need no change then.", certName(c), kept[0]),
			Action: authorityPage(kept[0]),
		})
	default:
		ex.Fixes = append(ex.Fixes, termination.Fix{
			Text:    fmt.Sprintf("Put the renewal of %s into the client's chain in the place of the old one.", certName(c)),
			Command: "cat client.crt renewed-intermediate.crt > client-chain.crt",
		})
	}
	if len(kept) > 0 { // it is ours to renew, and what it signs anew would fail as well
		ex.ClientTo = a.toClient(fmt.Sprintf("the CA certificate %s ended on %s", certName(c), stamp(c.NotAfter)), "The renewal is up to us; your certificate is not the cause.")
	} else {
		ex.Fixes = append(ex.Fixes, a.issue("Or issue the client a new certificate"))
	}
	ex.Fixes = append(ex.Fixes, a.clock("If the clock here is wrong, correct it instead"))
	return ex
}

func (a *account) earlyWords(c *x509.Certificate) termination.Explanation {
	ahead := c.NotBefore.Sub(a.moment())
	what := "with a certificate"
	if !c.Equal(a.leaf) {
		what = fmt.Sprintf("under the CA certificate %s, one", certName(c))
	}
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s %s that becomes valid in %s, on %s.", a.came(), what, span(ahead), stamp(c.NotBefore)),
		Right:    a.chainRight(termination.ReasonCertEarly, "the date") + a.shifted(),
		ClientTo: a.toClient(fmt.Sprintf("the certificate becomes valid on %s", stamp(c.NotBefore)), "Please wait until then, or have it issued again by a machine whose clock is right."),
	}
	clock := a.clock("If the clock here is wrong, correct it")
	if ahead < 24*time.Hour {
		clock = a.clock(fmt.Sprintf("One of two clocks is probably wrong: this one, or that of the machine that issued the certificate, which would be %s ahead. Correct the wrong one", span(ahead)))
	}
	ex.Fixes = append(ex.Fixes, clock)
	waiting := a.onlyProblem(termination.ReasonCertEarly)
	if waiting {
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: fmt.Sprintf("Wait until %s.", stamp(c.NotBefore))})
	}
	if ahead >= 24*time.Hour || !waiting {
		ex.Fixes = append(ex.Fixes, a.issue("Or issue one that is valid now"))
	}
	return ex
}

// moment is the moment of the handshake; durations are counted from there, so that they are the same whenever it is
// explained again.
func (a *account) moment() time.Time {
	if a.handshake.Time.IsZero() {
		return a.now
	}
	return a.handshake.Time
}

// certificateOf finds the certificate that a check speaks of: presented, on the path, or known here.
func (a *account) certificateOf(check termination.Check) *x509.Certificate {
	for _, list := range [][]*x509.Certificate{a.handshake.Presented, a.handshake.Path} {
		for _, c := range list {
			if c != nil && termination.FingerprintOf(c) == check.Fingerprint {
				return c
			}
		}
	}
	for _, k := range a.search.known {
		if termination.FingerprintOf(k.certificate) == check.Fingerprint {
			return k.certificate
		}
	}
	return nil
}

// chainRight says what was in order where a chain was found, and that only one thing is wrong, if that is so.
func (a *account) chainRight(r termination.Reason, wrong string) string {
	var right []string
	if n := len(a.handshake.Path); n > 1 {
		right = append(right, fmt.Sprintf("its chain leads to %s, which %s trusts", certName(a.handshake.Path[n-1]), a.at()))
	} else if a.pinned() {
		right = append(right, "it is on the list of "+a.at())
	}
	if _, bad := a.failing(termination.ReasonCertUse); !bad && r != termination.ReasonCertUse {
		right = append(right, "it may act as a client")
	}
	_, expired := a.failing(termination.ReasonCertExpired)
	_, early := a.failing(termination.ReasonCertEarly)
	_, ca := a.failing(termination.ReasonCAExpired)
	if !expired && !early && !ca {
		right = append(right, "all dates hold")
	}
	if len(right) == 0 {
		return ""
	}
	s := upperFirst(strings.Join(right, ", and ")) + "."
	if a.onlyProblem(r) {
		return s + fmt.Sprintf(" Only %s is wrong.", wrong)
	}
	return s + " More is wrong than this: see the checks."
}

func (a *account) pinned() bool {
	if a.policy == nil || a.leaf == nil {
		return false
	}
	_, ok := a.policy.pinOf(a.leaf)
	return ok
}

// traitWords explains what a certificate says about itself or about others that it should not.
func (a *account) traitWords(r termination.Reason) termination.Explanation {
	check, ok := a.failing(r)
	if !ok {
		return a.otherWords(r)
	}
	cause := clause(check.Detail)
	trait, wrong := map[termination.Reason]string{
		termination.ReasonCertUse:        "a certificate that is not made for clients",
		termination.ReasonCertWeak:       "a certificate that proves too little",
		termination.ReasonCertNameLimits: "a certificate that its CA may not sign",
		termination.ReasonChainTooDeep:   "a chain that is too long",
		termination.ReasonIssuerNotCA:    "a certificate that was signed by something that has no right to",
		termination.ReasonCertExtension:  "a certificate that demands more than is understood here",
		termination.ReasonCertMalformed:  "something that cannot be accepted as a certificate",
	}[r], map[termination.Reason]string{
		termination.ReasonCertUse:        "the purpose",
		termination.ReasonCertWeak:       "the strength",
		termination.ReasonCertNameLimits: "the limit of its CA",
		termination.ReasonChainTooDeep:   "the length of the chain",
		termination.ReasonIssuerNotCA:    "the issuer's right to sign",
		termination.ReasonCertExtension:  "the extension",
		termination.ReasonCertMalformed:  "its form",
	}[r]
	cause = strings.TrimPrefix(cause, lowerFirst(nameLimitDetail))
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s with %s: %s.", a.came(), trait, cause),
		Fixes:    append(a.traitFixes(r, check), a.grace(r)...),
		ClientTo: a.toClient(cause, a.traitAsk(r, check)),
	}
	if r != termination.ReasonCertMalformed {
		ex.Right = a.chainRight(r, wrong)
	}
	return ex
}

// traitAsk says what the client's owner should do.
func (a *account) traitAsk(r termination.Reason, check termination.Check) string {
	switch r {
	case termination.ReasonCertUse:
		if check.Certificate != 0 {
			return "Please use a certificate from a CA without this limit."
		}
		if termination.SaysPublicCA(a.leaf) {
			return "It comes from a public CA, which does not issue for clients any more; please use one that was issued by " + a.acceptable() + "."
		}
		return "Please have it issued again for clients, with the extended key usage clientAuth."
	case termination.ReasonCertWeak:
		return "Please have a new one issued, for a new key of ECDSA P-256 or RSA with 2048 bits or more, signed with SHA-256 or better."
	case termination.ReasonCertNameLimits:
		return "Please have it issued by a CA that may sign it."
	case termination.ReasonCertExtension:
		return "Please have it issued again without that extension."
	case termination.ReasonCertMalformed:
		return "Please make the client send its own certificate and the intermediates above it, no more."
	default:
		return "Please use a certificate that was issued by " + a.acceptable() + " directly."
	}
}

func (a *account) traitFixes(r termination.Reason, check termination.Check) []termination.Fix {
	subject := a.certificateOf(check)
	onCA := subject != nil && a.leaf != nil && !subject.Equal(a.leaf)
	switch r {
	case termination.ReasonCertUse:
		look := termination.Fix{Text: "See what it is made for.", Command: "openssl x509 -in client.crt -noout -ext keyUsage,extendedKeyUsage,basicConstraints"}
		if onCA {
			return []termination.Fix{
				a.issue(fmt.Sprintf("Issue the client's certificate under another CA than %s", certName(subject))),
				{Text: fmt.Sprintf("Or have %s issued again with clientAuth among its extended key usages, or with none.", certName(subject))},
			}
		}
		if termination.SaysPublicCA(a.leaf) {
			return []termination.Fix{a.issue("Issue the client a certificate of your own CA; renewing this one does not help. " + publicRenewal), look}
		}
		return []termination.Fix{a.issue("Issue it again with the extended key usage clientAuth"), look}
	case termination.ReasonCertWeak:
		fresh := a.issue("Issue a new one for a new key")
		if fresh.Command != "" {
			fresh.Command = a.request()
		}
		return []termination.Fix{
			fresh,
			{Text: "See the key and the signature.", Command: "openssl x509 -in client.crt -noout -text"},
		}
	case termination.ReasonCertNameLimits:
		return []termination.Fix{
			a.issue("Issue it under a CA that may sign this name"),
			{Text: "Or issue it again without the name that is not allowed."},
			{Text: "See which names the CA may sign.", Command: "openssl x509 -in ca.crt -noout -ext nameConstraints"},
		}
	case termination.ReasonChainTooDeep:
		fixes := []termination.Fix{a.issue("Issue it nearer to the root")}
		if n := len(a.handshake.Path) - 1; a.policy != nil && n > a.policy.depth && n <= 10 {
			fixes = append(fixes, termination.Fix{
				Text:   fmt.Sprintf("Or raise max_depth of %s to %d: then every CA that far below the root may sign clients.", a.at(), n),
				Action: a.endpointPage(), Lowers: true,
			})
		}
		return fixes
	case termination.ReasonIssuerNotCA:
		return []termination.Fix{
			a.issue("Issue it from a CA"),
			{Text: "Or have the issuer's certificate issued again as a CA: basicConstraints CA:TRUE and keyUsage keyCertSign."},
		}
	case termination.ReasonCertMalformed:
		return []termination.Fix{
			{Text: "Look at what the client sends, and make it send its own certificate and the intermediates above it, no more.", Command: "openssl x509 -in client.crt -noout -text"},
			a.issue("Or issue a new one"),
		}
	default:
		return []termination.Fix{a.issue("Issue it again without that extension")}
	}
}
