package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"countersign/termination"
)

// origin is what the search for the leaf's issuer came to.
type origin struct {
	reason      termination.Reason
	passesNow   bool                // the policy of now has a chain: it was changed since
	top         *x509.Certificate   // the last certificate that could be linked to the leaf
	missing     *x509.Certificate   // chain_gap: the certificate that was not sent, where it is known
	gap         []*x509.Certificate // chain_gap: all that were not sent, in the order of the chain
	lately      bool                // chain_gap: it is known because another client has sent it
	keptIn      []string            // chain_gap: the authorities that hold it
	guessed     bool                // chain_gap: concluded from names alone
	anchor      *x509.Certificate   // ca_other_endpoint: where the chain ends
	authorities []string            // ca_other_endpoint: the authorities of that anchor
	users       []string            // ca_other_endpoint: the endpoints that trust it
	namesake    knownCA             // ca_same_name: the CA that has the name
	impostor    *x509.Certificate   // ca_same_name: the one that was sent under that name, if it was
}

// refineIssuer looks for the issuer among everything that is known, from the most certain cause to the least.
func (a *account) refineIssuer() {
	if a.leaf == nil {
		return
	}
	a.origin = a.findOrigin()
	v := &a.handshake.Verdict
	if a.origin.reason == "" || a.origin.reason == v.Reason {
		return
	}
	for i := range v.Checks {
		if v.Checks[i].Reason == v.Reason && !v.Checks[i].Note {
			v.Checks[i].Reason = a.origin.reason
			v.Checks[i].Detail = a.origin.detail(a)
			break
		}
	}
	v.Reason = a.origin.reason
}

func (a *account) findOrigin() origin {
	presented := a.readable()
	o := origin{top: a.leaf}
	if a.policy != nil {
		own := a.policy.issuers.find(presented, coldSignatures)
		if len(own.chains) > 0 {
			o.passesNow = true
			return o
		}
	}
	if selfSigned(a.leaf) {
		o.reason = termination.ReasonCertSelf
		return o
	}
	seen := a.search.seen.certificates()
	if a.throughOthers(&o, presented, a.search.others, coldSignatures) {
		return o
	}
	if len(seen) > 0 && a.throughOthers(&o, presented, seen, seenSignatures) {
		o.lately = true
		return o
	}
	everywhere := a.search.all.find(presented, coldSignatures)
	if a.elsewhere(&o, everywhere) {
		return o
	}
	if len(seen) > 0 && a.elsewhere(&o, a.search.everything(seen).find(presented, seenSignatures)) {
		return o
	}
	o.top = everywhere.top()
	if a.sameName(&o) {
		return o
	}
	o.reason = termination.ReasonCAUnknown
	if a.looksLikeGap(o.top) {
		o.reason, o.guessed = termination.ReasonChainGap, true
	}
	return o
}

// readable is the presented list without what could not be parsed, bounded as the judgement is.
func (a *account) readable() []*x509.Certificate {
	d := termination.DefaultLimits()
	out := []*x509.Certificate{a.leaf}
	for _, c := range a.handshake.Presented[1:] {
		if c != nil && len(c.Raw) > 0 && len(out) < d.Certificates {
			out = append(out, c)
		}
	}
	return out
}

// throughOthers tries the endpoint's own anchors with other certificates in between: those that are known anywhere, or
// that were seen.
func (a *account) throughOthers(o *origin, presented, others []*x509.Certificate, signatures int) bool {
	if a.policy == nil {
		return false
	}
	is := newIssuers(a.policy.anchors, append(slices.Clone(a.policy.helpers), others...))
	for _, c := range is.find(presented, signatures).chains {
		if !c.proven || len(c.certificates) < 2 {
			continue
		}
		o.gap = nil
		for _, cert := range c.certificates[1 : len(c.certificates)-1] {
			if contains(presented, cert) {
				continue
			}
			o.gap = append(o.gap, cert)
			if o.missing == nil && !contains(a.policy.helpers, cert) {
				o.missing = cert
			}
		}
		if o.missing != nil {
			o.reason, o.keptIn = termination.ReasonChainGap, a.search.kept(o.missing)
			return true
		}
	}
	return false
}

// elsewhere finds an authority that other endpoints trust.
func (a *account) elsewhere(o *origin, f found) bool {
	for _, c := range f.chains {
		if !c.proven {
			continue
		}
		o.reason = termination.ReasonCAOtherEndpoint
		o.anchor = c.certificates[len(c.certificates)-1]
		o.authorities = a.search.anchorOf(o.anchor)
		for _, name := range o.authorities {
			for _, user := range a.search.users[name] {
				if !slices.Contains(o.users, user) {
					o.users = append(o.users, user)
				}
			}
		}
		return true
	}
	return false
}

// sameName finds a known CA that has the name of the missing issuer, or of the unknown root that was sent. Names alone
// never vouch: whoever makes a CA chooses its name.
func (a *account) sameName(o *origin) bool {
	k, ok := a.search.named(o.top.RawIssuer)
	if !ok || signedBy(o.top, k.certificate) != signatureWrong {
		return false
	}
	o.reason, o.namesake = termination.ReasonCASameName, k
	if o.top != a.leaf && bytes.Equal(o.top.RawSubject, o.top.RawIssuer) {
		o.impostor = o.top
	}
	return true
}

// looksLikeGap guesses whether the issuer is an intermediate of a CA that the endpoint trusts, or a stranger. Both look
// alike from here, since clients rarely send roots; what is left is the names, and the sentence says so.
func (a *account) looksLikeGap(top *x509.Certificate) bool {
	if a.policy == nil || bytes.Equal(top.RawSubject, top.RawIssuer) {
		return false
	}
	name := strings.ToLower(top.Issuer.CommonName)
	if !hasWord(name, "intermediate", "issuing", "subordinate", "sub", "signing") {
		return false // a guess needs the issuer's own word for it
	}
	return slices.ContainsFunc(a.policy.anchors, func(anchor *x509.Certificate) bool {
		return sharesOrganization(top, anchor) || sharesWord(name, strings.ToLower(anchor.Subject.CommonName))
	})
}

func sharesOrganization(child, anchor *x509.Certificate) bool {
	for _, o := range child.Issuer.Organization {
		if o != "" && slices.ContainsFunc(anchor.Subject.Organization, func(other string) bool { return strings.EqualFold(o, other) }) {
			return true
		}
	}
	return false
}

func words(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r < 0x80 })
}

func hasWord(name string, any ...string) bool {
	return slices.ContainsFunc(words(name), func(w string) bool { return slices.Contains(any, w) })
}

// sharesWord ignores the words that every CA has in its name.
func sharesWord(one, other string) bool {
	common := []string{
		"ca", "root", "intermediate", "issuing", "subordinate", "sub", "signing", "certificate", "certification",
		"authority", "client", "clients", "server", "tls", "ssl", "x1", "r1", "g1", "g2", "the", "of", "and", "for",
	}
	theirs := words(other)
	return slices.ContainsFunc(words(one), func(w string) bool {
		return len(w) > 1 && !slices.Contains(common, w) && slices.Contains(theirs, w)
	})
}

// detail is the failed check in one sentence.
func (o origin) detail(a *account) string {
	switch o.reason {
	case termination.ReasonCertSelf:
		return "It verifies under its own key: it signed itself."
	case termination.ReasonChainGap:
		if o.missing != nil {
			return fmt.Sprintf("The intermediate %s was not sent, and %s does not hold it.", certName(o.missing), a.at())
		}
		return fmt.Sprintf("%s, which issued %s, was neither sent nor stored.", issuerName(o.top), certName(o.top))
	case termination.ReasonCAOtherEndpoint:
		return fmt.Sprintf("Its chain ends at %s of the authority %s, which %s does not trust.", certName(o.anchor), list(o.authorities, 3), a.at())
	case termination.ReasonCASameName:
		if o.impostor != nil {
			return fmt.Sprintf("The CA certificate %s that it sent has another key than the one of that name that is known.", certName(o.impostor))
		}
		return fmt.Sprintf("%s did not sign %s; a CA of the same name with another key did.", certName(o.namesake.certificate), certName(o.top))
	default:
		return fmt.Sprintf("It names %s as its issuer, and no chain leads from it to an authority of this policy.", issuerName(a.leaf))
	}
}

func (a *account) issuerWords(r termination.Reason) termination.Explanation {
	if a.leaf == nil {
		return a.otherWords(r)
	}
	switch r {
	case termination.ReasonCertSelf:
		return a.selfWords()
	case termination.ReasonChainGap:
		return a.gapWords()
	case termination.ReasonCAOtherEndpoint:
		return a.otherEndpointWords()
	case termination.ReasonCASameName:
		return a.sameNameWords()
	default:
		return a.unknownWords()
	}
}

func (a *account) selfWords() termination.Explanation {
	fingerprint := termination.FingerprintOf(a.leaf)
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s with a certificate that it signed itself, so nobody vouches for it; %s.", a.came(), a.trusts()),
		Right:    a.leafRight(),
		Fixes: []termination.Fix{
			a.issue("Issue a client certificate for it"),
			{
				Text:   fmt.Sprintf("Or, if its owner confirms the SHA-256 fingerprint %s over another way, add it to the list of pins: then this one certificate comes in.", fingerprint),
				Action: a.endpointPage(),
			},
		},
		ClientTo: a.toClient("the certificate is self-signed, and is not registered there", "Please use one that was issued by "+a.acceptable()+"."),
	}
	return ex
}

func (a *account) gapWords() termination.Explanation {
	o := a.origin
	missing := issuerName(o.top)
	if o.missing != nil {
		missing = certName(o.missing)
	}
	send := termination.Fix{
		Text:    fmt.Sprintf("Make the client send its whole chain: its own certificate first, then that of %s.", missing),
		Command: "cat client.crt intermediate.crt > client-chain.crt",
	}
	if command := chainFile(o.gap); command != "" {
		send.Command = command
		send.Text += " This makes the file: what is missing stands in it."
	}
	if call := a.call(true, true); call != "" {
		send.Command += "\n" + call
	}
	bundle := termination.Fix{
		Text:    "If the client uses a .p12 file, that was made without the chain: make it again from the whole file.",
		Command: "openssl pkcs12 -export -in client-chain.crt -inkey client.key -out client.p12",
	}
	ex := termination.Explanation{
		Turn: termination.TurnClient,
		ClientTo: a.toClient(
			fmt.Sprintf("the certificate of the intermediate CA %s is missing", missing),
			"Please configure the client to send its whole chain: its own certificate first, then the intermediate's, in one file.",
		),
		Right: a.leafRight(),
	}
	switch {
	case o.lately:
		ex.Sentence = fmt.Sprintf("%s without sending the intermediate certificate %s, and %s does not hold it; another client has sent it lately, and it stands below %s, which %s trusts.", a.came(), missing, a.at(), alternatives(a.anchors(), 4), a.at())
		ex.Fixes = []termination.Fix{send, bundle, {
			Text:   fmt.Sprintf("Or get the certificate of %s from its owner and upload it as a helper: it completes the chains of clients that forget it, and decides nothing.", missing),
			Action: authorityPage(a.firstAuthority()),
		}}
	case o.missing != nil && len(o.keptIn) > 0:
		ex.Sentence = fmt.Sprintf("%s without sending the intermediate certificate %s, and the authorities of %s do not hold it; we have it under the authority %s.", a.came(), missing, a.at(), list(o.keptIn, 3))
		ex.Fixes = []termination.Fix{send, bundle, {
			Text:   fmt.Sprintf("Or keep %s as a helper with the authority of %s too: it completes the chains of clients that forget it.", missing, a.at()),
			Action: authorityPage(a.firstAuthority()),
		}}
	case o.missing != nil:
		ex.Sentence = fmt.Sprintf("%s without sending the intermediate certificate %s, and the authorities of %s do not hold it; we know it only from a server certificate's chain.", a.came(), missing, a.at())
		ex.Fixes = []termination.Fix{send, bundle, {
			Text:   fmt.Sprintf("Or upload %s as a helper to the authority of %s: it completes the chains of clients that forget it.", missing, a.at()),
			Action: authorityPage(a.firstAuthority()),
		}}
	default:
		ex.Sentence = fmt.Sprintf("%s without sending the certificate of %s, which issued its own, and it is not stored here; by its name it seems to stand below %s, which %s trusts.", a.came(), missing, alternatives(a.anchors(), 4), a.at())
		ex.Fixes = []termination.Fix{
			send,
			bundle,
			{
				Text:   fmt.Sprintf("Or upload the certificate of %s as a helper: it completes the chains of clients that forget it, and decides nothing.", missing),
				Action: authorityPage(a.firstAuthority()),
			},
			a.uploadFix(missing),
		}
	}
	return ex
}

// chainFile is a command that makes the file which a client lacks, of its own certificate and of those missing. It is
// empty where they are unknown, or too many or too large to be copied by hand.
func chainFile(missing []*x509.Certificate) string {
	if len(missing) == 0 || len(missing) > 3 {
		return ""
	}
	command := "cat client.crt > client-chain.crt"
	for _, c := range missing {
		if len(c.Raw) > 4<<10 {
			return ""
		}
		command += "\necho " + base64.StdEncoding.EncodeToString(c.Raw) + " | openssl base64 -d -A | openssl x509 -inform DER >> client-chain.crt"
	}
	return command
}

// firstAuthority is the authority whose page serves to add a helper.
func (a *account) firstAuthority() string {
	if a.policy != nil && len(a.policy.anchors) > 0 {
		return a.policy.authority[termination.FingerprintOf(a.policy.anchors[0])]
	}
	return ""
}

func (a *account) otherEndpointWords() termination.Explanation {
	o := a.origin
	use := "no endpoint trusts that authority"
	if len(o.users) > 0 {
		use = fmt.Sprintf("that authority is trusted by %s", list(o.users, 4))
	}
	authorities := list(o.authorities, 3)
	fixes := []termination.Fix{a.issue("Issue it a certificate for " + a.at())}
	trust := termination.Fix{
		Text:   fmt.Sprintf("Or trust the authority %s at %s too: then everyone comes in whom it signs.", authorities, a.at()),
		Action: a.endpointPage(), Lowers: true,
	}
	cause, ask := fmt.Sprintf("its CA %s is not accepted at this endpoint", certName(o.anchor)), "Please use a certificate that was issued by "+a.acceptable()+"."
	if other := a.policy.trustedAs(o.anchor.RawSubject); other != nil {
		use += fmt.Sprintf(". A CA of the same name is trusted at %s, but with the key %s; this one's is %s", a.at(), termination.KeyFingerprintOf(other).Short(), termination.KeyFingerprintOf(o.anchor).Short())
		trust.Text = fmt.Sprintf("Or, if the CA was made anew and both are yours, trust the authority %s at %s too, until all clients have changed over: then everyone comes in whom it signs.", authorities, a.at())
		cause = fmt.Sprintf("its CA has the name %s, but not the key that is trusted there (SHA-256 of the public key %s)", certName(other), termination.KeyFingerprintOf(other))
		ask = "Please use a certificate of the CA that is trusted."
	}
	if len(o.users) > 0 {
		fixes = append(fixes, termination.Fix{Text: fmt.Sprintf("Or let the client call %s, if that is where it belongs.", alternatives(o.users, 4))})
	}
	fixes = append(fixes, trust)
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s with a certificate of %s, which is known here under the authority %s, but %s does not trust it; %s.", a.came(), certName(o.anchor), authorities, a.at(), use),
		Right:    a.leafRight(),
		Fixes:    fixes,
		ClientTo: a.toClient(cause, ask),
	}
}

func (a *account) sameNameWords() termination.Explanation {
	o := a.origin
	ours := termination.KeyFingerprintOf(o.namesake.certificate)
	theirs := "this one's key is another"
	switch {
	case o.impostor != nil:
		theirs = "this one's key is " + termination.KeyFingerprintOf(o.impostor).String()
	case len(o.top.AuthorityKeyId) > 0 && len(o.top.AuthorityKeyId) <= 32 && !bytes.Equal(o.top.AuthorityKeyId, o.namesake.certificate.SubjectKeyId):
		theirs = "this one's key is another, with the key identifier " + hex.EncodeToString(o.top.AuthorityKeyId)
	}
	name := certName(o.namesake.certificate)
	where := "is known here"
	if o.namesake.authority != "" {
		where = fmt.Sprintf("is kept here in the authority %s", o.namesake.authority)
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s with a certificate of a CA that calls itself %s, but it is not the one that %s: that one's key is %s, and %s.", a.came(), name, where, ours, theirs),
		Right:    a.leafRight(),
		Fixes: []termination.Fix{
			a.issue("If the client's certificate was signed by an older key of that CA, issue it a new one"),
			{
				Text:   fmt.Sprintf("Or, if the CA was made anew, get its certificate from its owner, compare the fingerprint of its key with them, and upload it: then everyone comes in whom it signs. If nobody made it anew, somebody uses the name of %s.", name),
				Action: authorityPage(o.namesake.authority), Lowers: true,
			},
		},
		ClientTo: a.toClient(fmt.Sprintf("its CA has the name %s, but not the key that is trusted there (SHA-256 of the public key %s)", name, ours), "If the CA was made anew, please tell us the fingerprint of its new certificate; otherwise please use a certificate of the CA that is trusted."),
	}
}

func (a *account) unknownWords() termination.Explanation {
	o := a.origin
	if o.top == nil {
		o.top = a.leaf
	}
	signer, root := issuerName(o.top), ""
	if bytes.Equal(o.top.RawSubject, o.top.RawIssuer) && o.top != a.leaf {
		signer = certName(o.top)
		root = fmt.Sprintf(" (key %s)", termination.KeyFingerprintOf(o.top).Short())
	}
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s with a certificate that leads to %s%s, which is not known here; %s.", a.came(), signer, root, a.trusts()),
		Right:    a.leafRight(),
		Fixes:    []termination.Fix{a.issue("Issue it a certificate")},
		ClientTo: a.toClient(fmt.Sprintf("its CA %s is not trusted there", signer), "Please use a certificate that was issued by "+a.acceptable()+"."),
	}
	if o.passesNow {
		ex.Right = "The policy has changed since: by now a chain leads to what is trusted."
		if p := a.policy; p != nil && p.hash == a.handshake.PolicyHash && p.Exact() {
			ex.Right = "A chain does lead to what is trusted: the name of an issuer is only spelled differently from the CA's own. The TLS library, which looks first here, compares names byte by byte."
			ex.Fixes = append([]termination.Fix{{Text: "Let our own check alone decide, which compares names as RFC 5280 asks: do not announce the trusted CAs (announce: false)."}}, ex.Fixes...)
		}
	}
	if root == "" && len(a.anchors()) > 0 {
		ex.Fixes = append(ex.Fixes, termination.Fix{
			Text:    fmt.Sprintf("If %s is an intermediate below a CA that is trusted, make the client send its certificate as well.", signer),
			Command: "cat client.crt intermediate.crt > client-chain.crt",
		})
	}
	ex.Fixes = append(ex.Fixes, a.uploadFix(signer))
	return ex
}

// uploadFix leads to the only way to trust a CA: a file from its owner, and a comparison. What a stranger presents in a
// handshake is unproven, so nothing can be taken from there.
func (a *account) uploadFix(signer string) termination.Fix {
	return termination.Fix{
		Text:   fmt.Sprintf("If you know %s, get its certificate from its owner, compare the fingerprint with them, and upload it under Trust: then everyone comes in whom it signs.", signer),
		Action: authorityPage(""), Lowers: true,
	}
}

// acceptable says which issuers would do, for the client's owner.
func (a *account) acceptable() string {
	if names := a.anchors(); len(names) > 0 {
		return alternatives(names, 4)
	}
	return "a CA that is trusted there"
}

// leafRight says what was in order about a leaf whose issuer is the problem.
func (a *account) leafRight() string {
	if len(a.handshake.Verdict.Checks) == 0 {
		return "" // nothing was looked at
	}
	var wrong []string
	for _, c := range a.handshake.Verdict.Checks {
		if !c.Note && c.Certificate == 0 {
			wrong = append(wrong, string(c.Reason))
		}
	}
	var right []string
	if !slices.Contains(wrong, string(termination.ReasonCertExpired)) && !slices.Contains(wrong, string(termination.ReasonCertEarly)) {
		right = append(right, "its dates hold")
	}
	if !slices.Contains(wrong, string(termination.ReasonCertUse)) {
		right = append(right, "it may act as a client")
	}
	if len(right) == 0 {
		return ""
	}
	return upperFirst(strings.Join(right, ", and ")) + "."
}
