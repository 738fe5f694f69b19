package verify

import (
	"crypto/x509"
	"fmt"
	"slices"

	"countersign/termination"
)

// mistaken is a client that shows something else than the certificate that it was given for this endpoint.
type mistaken struct {
	sentence string
	fixes    []termination.Fix
	cause    string // for the client's owner; empty: the reason's own stands
	ask      string
}

// confusable are the reasons behind which such a mistake may stand.
func confusable(r termination.Reason) bool {
	return slices.Contains([]termination.Reason{
		termination.ReasonCAUnknown, termination.ReasonCAOtherEndpoint, termination.ReasonCASameName, termination.ReasonChainGap,
		termination.ReasonCertSelf, termination.ReasonCertUse, termination.ReasonIssuerNotCA, termination.ReasonChainTooDeep,
		termination.ReasonNotListed, termination.ReasonKeyProof,
	}, r)
}

// tellMistake adds what the client has mixed up, where that can be seen. What else would be advised then is beside the
// point, unless the certificate is only meant for another endpoint.
func (a *account) tellMistake(ex *termination.Explanation) {
	if a.leaf == nil || !confusable(a.handshake.Verdict.Reason) {
		return
	}
	m, ok := a.mistake()
	if !ok {
		return
	}
	ex.Sentence += " " + m.sentence
	ex.Turn = termination.TurnClient
	if m.cause == "" {
		ex.Fixes = append(m.fixes, ex.Fixes...)
		ex.ClientTo += " " + m.ask
		return
	}
	ex.Right = "" // of what it should not have sent
	ex.Fixes = m.fixes
	ex.ClientTo = a.toClient(m.cause, m.ask)
}

func (a *account) mistake() (mistaken, bool) {
	if own := a.ownBelow(); own != nil {
		return a.wrongOrder(own), true
	}
	if what := a.search.serverCertificate(a.leaf); what != "" {
		return a.ourServerCertificate(what), true
	}
	if a.signsOthers() {
		return a.caInstead(), true
	}
	if users := a.search.pinnedAt(a.leaf, a.at()); len(users) > 0 {
		return mistaken{
			sentence: fmt.Sprintf("It is on the list of %s.", list(users, 4)),
			fixes:    []termination.Fix{{Text: fmt.Sprintf("Let the client call %s, if that is where it belongs.", alternatives(users, 4))}},
			ask:      "It is registered for another service: please check the address that your client connects to.",
		}, true
	}
	return mistaken{}, false
}

// issueNew is the fix that gives the client a certificate where what it showed is not its own: nothing of it is taken over.
func (a *account) issueNew(text string) termination.Fix {
	h := *a.handshake
	h.Client = termination.ClientName{}
	fresh := *a
	fresh.handshake, fresh.leaf = &h, nil
	return fresh.issue(text)
}

// ownBelow returns the client's own certificate where it does not come first: a certificate of no CA, further down in the
// list, that another of the list has signed.
func (a *account) ownBelow() *x509.Certificate {
	if !a.leaf.BasicConstraintsValid || !a.leaf.IsCA {
		return nil
	}
	presented := a.readable()
	for _, c := range presented[1:] {
		if c.IsCA {
			continue
		}
		for _, issuer := range presented {
			if nameKey(issuer.RawSubject) == nameKey(c.RawIssuer) && signedBy(c, issuer) == signatureRight {
				return c
			}
		}
	}
	return nil
}

func (a *account) wrongOrder(own *x509.Certificate) mistaken {
	fix := termination.Fix{
		Text:    fmt.Sprintf("Put the certificates into their order: %s first, then who issued it, and so on; the root may be left out.", certName(own)),
		Command: "cat client.crt intermediate.crt > client-chain.crt",
	}
	if call := a.call(true, true); call != "" {
		fix.Command += "\n" + call
	}
	return mistaken{
		sentence: fmt.Sprintf("The chain came in the wrong order: the first certificate counts as the client's, and that is the CA certificate %s; %s came after it. %s", certName(a.leaf), certName(own), a.inOrder(own)),
		fixes:    []termination.Fix{fix},
		cause:    "the certificates came in the wrong order",
		ask:      fmt.Sprintf("Please put the client's own, %s, first, and then those of the CAs above it.", certName(own)),
	}
}

// inOrder judges the presented list again with the client's own certificate first.
func (a *account) inOrder(own *x509.Certificate) string {
	ordered := []*x509.Certificate{own}
	for _, c := range a.readable() {
		if !c.Equal(own) {
			ordered = append(ordered, c)
		}
	}
	if a.policy == nil {
		return ""
	}
	if a.policy.holdsAt(ordered, a.moment()) {
		return "In the right order its chain holds."
	}
	return "In the right order its chain would not hold either: see what is said of it then."
}

func (a *account) ourServerCertificate(what string) mistaken {
	return mistaken{
		sentence: fmt.Sprintf("What it showed is %s.", what),
		fixes: []termination.Fix{
			a.issueNew("Give the client a certificate of its own"),
			{Text: "Find out whether the client has the key of that certificate as well: it belongs nowhere but here. If it does, replace certificate and key.", Action: "/certificates"},
		},
		cause: "it showed the certificate of our own server",
		ask:   "Please make it use its own.",
	}
}

// signsOthers reports whether what was shown is in use as a CA. CA:TRUE alone does not say so: openssl writes that into
// whatever signs itself.
func (a *account) signsOthers() bool {
	if !a.leaf.BasicConstraintsValid || !a.leaf.IsCA {
		return false
	}
	return a.leaf.KeyUsage&x509.KeyUsageCertSign != 0 || len(a.search.kept(a.leaf)) > 0
}

// caInstead is a client that shows the certificate of a CA: the wrong file, or a file that holds nothing else.
func (a *account) caInstead() mistaken {
	known := ""
	if kept := a.search.kept(a.leaf); len(kept) > 0 {
		known = fmt.Sprintf(", which is kept here in the authority %s", list(kept, 3))
	}
	kind := "intermediate CA"
	if string(a.leaf.RawSubject) == string(a.leaf.RawIssuer) {
		kind = "root CA"
	}
	return mistaken{
		sentence: fmt.Sprintf("What it showed is the certificate of the %s %s itself%s; a client's own did not come with it.", kind, certName(a.leaf), known),
		fixes: []termination.Fix{
			{
				Text:    fmt.Sprintf("Give the client the file that begins with its own certificate. This shows what is in the one that it uses: the first must not be %s.", certName(a.leaf)),
				Command: "openssl crl2pkcs7 -nocrl -certfile client.crt | openssl pkcs7 -print_certs -noout",
			},
			a.issueNew("If it has none of its own, issue one"),
		},
		cause: fmt.Sprintf("it showed the certificate of the CA %s in place of its own", certName(a.leaf)),
		ask:   "Please look into its certificate file: it holds only that, or the client's own is not the first.",
	}
}

// serverCertificate says which server certificate of this gateway c is; empty: none. One that the local CA or an ACME CA
// has issued in the meantime is told by its names.
func (s *Search) serverCertificate(c *x509.Certificate) string {
	for i := range s.cfg.Certificates {
		k := &s.cfg.Certificates[i]
		if len(k.Chain) == 0 || k.Chain[0] == nil || !k.Chain[0].Equal(c) {
			continue
		}
		var users []string
		for j := range s.cfg.Endpoints {
			if e := &s.cfg.Endpoints[j]; slices.Contains(e.Certificates, k.Name) {
				users = append(users, e.Name)
			}
		}
		if len(users) == 0 {
			return fmt.Sprintf("the server certificate %s, which is kept here for servers", visible(k.Name, maxNameText))
		}
		return fmt.Sprintf("the server certificate %s, which is the server's own at %s", visible(k.Name, maxNameText), list(users, 4))
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return ""
	}
	for i := range s.cfg.Endpoints {
		e := &s.cfg.Endpoints[i]
		for _, name := range c.DNSNames {
			if slices.Contains(e.ServerNames(), name) {
				return fmt.Sprintf("a server certificate for %s, a name of the endpoint %s", visible(name, maxNameText), e.Name)
			}
		}
	}
	return ""
}

// pinnedAt returns the other endpoints at which c is pinned.
func (s *Search) pinnedAt(c *x509.Certificate, but string) []string {
	var users []string
	for i := range s.cfg.Endpoints {
		name := s.cfg.Endpoints[i].Name
		for _, p := range s.rules[name] {
			if _, pinned := p.pinOf(c); pinned && name != but && !slices.Contains(users, name) {
				users = append(users, name)
			}
		}
	}
	return users
}
