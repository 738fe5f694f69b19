package verify

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"countersign/termination"
)

// serverLeaves returns the leaves that the endpoint may have presented, as far as the configuration holds them; those
// that the local CA issues on demand are not among them.
func (a *account) serverLeaves() []*x509.Certificate {
	var leaves []*x509.Certificate
	if a.endpoint == nil {
		return nil
	}
	for _, name := range a.endpoint.Certificates {
		if c := a.search.cfg.Certificate(name); c != nil && len(c.Chain) > 0 && c.Chain[0] != nil {
			leaves = append(leaves, c.Chain[0])
		}
	}
	return leaves
}

// refineServerCertificate looks for the reason why a client refused us that did not say: Go's clients send alert 42
// whatever the cause.
func (a *account) refineServerCertificate() {
	h := a.handshake
	leaves := a.serverLeaves()
	if h.Alert == nil || (h.Alert.Number != 42 && h.Alert.Number != 46) || len(leaves) == 0 || a.local() {
		return
	}
	valid := func(c *x509.Certificate) bool {
		return !a.moment().Before(c.NotBefore) && !a.moment().After(c.NotAfter)
	}
	switch {
	case !slices.ContainsFunc(leaves, valid):
		h.Verdict.Reason = termination.ReasonClientRefusedUsDate
	case !a.named(leaves):
		h.Verdict.Reason = termination.ReasonClientRefusedUsName
	}
}

// named reports whether one of these certificates has the name that was asked for; also when none was.
func (a *account) named(leaves []*x509.Certificate) bool {
	name := a.askedName()
	return name == "" || slices.ContainsFunc(leaves, func(c *x509.Certificate) bool { return c.VerifyHostname(name) == nil })
}

func (a *account) askedName() string {
	if a.handshake.Hello == nil {
		return ""
	}
	return a.handshake.Hello.ServerName
}

// serverWords explains why a client did not accept us.
func (a *account) serverWords(r termination.Reason) termination.Explanation {
	if a.handshake.Passed != nil {
		return a.serviceWords(r)
	}
	switch r {
	case termination.ReasonClientRefusedUsCA:
		return a.distrustWords()
	case termination.ReasonClientRefusedUsName:
		return a.otherNameWords()
	case termination.ReasonClientRefusedUsDate:
		return a.serverDateWords()
	case termination.ReasonClientLeft:
		return a.leftWords()
	default:
		return a.refusedUsWords()
	}
}

// said tells what the client's alert was, and how it came.
func (a *account) said() string {
	alert := a.handshake.Alert
	if alert == nil || alert.Sent {
		return ""
	}
	s := fmt.Sprintf("It sent the TLS alert %d, %s", alert.Number, visible(alert.Name, maxNameText))
	switch p := a.handshake.Passed; {
	case p != nil && p.SealedFrom == termination.SealedFromFinished:
		s += ", unencrypted, as all alerts are at this point before TLS 1.3"
	case alert.Plaintext:
		s += ", unencrypted, as OpenSSL and curl do at this point"
	}
	return s + "."
}

func (a *account) distrustWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("The client ended the handshake with %s, because it does not trust the CA of our certificate%s.", a.at(), a.ourIssuer()),
		Right:    a.said(),
		Fixes:    []termination.Fix{a.giveCA()},
		ClientTo: a.toRefuser("Your client does not trust the CA of our server certificate" + a.ourIssuer() + ". Please add that CA's certificate to the ones it trusts; with curl, that is --cacert."),
	}
	if leaves := a.serverLeaves(); len(leaves) > 0 && !a.local() {
		for _, name := range a.endpoint.Certificates {
			if c := a.search.cfg.Certificate(name); c != nil && len(c.Chain) == 1 && !selfSigned(c.Chain[0]) {
				ex.Fixes = append(ex.Fixes, termination.Fix{
					Text:   fmt.Sprintf("If the client does trust that CA: the certificate %s is kept here without intermediates, so the client may miss one. Upload it with its whole chain.", c.Name),
					Action: "/certificates",
				})
				break
			}
		}
	}
	return ex
}

// ourIssuer names the issuer of our certificate in brackets.
func (a *account) ourIssuer() string {
	if a.local() && len(a.search.cfg.LocalCAs) > 0 {
		if c := a.search.cfg.LocalCAs[0].Certificate; c != nil && len(a.search.cfg.LocalCAs) == 1 {
			return fmt.Sprintf(" (%s)", certName(c))
		}
		return " (a local CA of this gateway)"
	}
	if leaves := a.serverLeaves(); len(leaves) == 1 {
		return fmt.Sprintf(" (%s)", issuerName(leaves[0]))
	}
	return ""
}

func (a *account) giveCA() termination.Fix {
	fix := termination.Fix{Text: "Give the client the certificate of that CA."}
	if a.local() && len(a.search.cfg.LocalCAs) > 0 {
		fix.Text = "Give the client the certificate of the local CA, local-ca.pem."
		fix.Action = authorityPage(a.search.cfg.LocalCAs[0].Name)
		fix.Command = a.call(false, false)
		return fix
	}
	target := a.target()
	if target == "" || a.endpoint == nil {
		return fix
	}
	if a.endpoint.Scheme == termination.SchemeHTTPS {
		fix.Command = "curl --cacert ca.crt " + target
	} else {
		fix.Command = "openssl s_client -connect " + target + " -servername " + a.serverName() + " -CAfile ca.crt"
	}
	return fix
}

func (a *account) otherNameWords() termination.Explanation {
	asked := visible(a.askedName(), maxNameText)
	var names []string
	for _, c := range a.serverLeaves() {
		for _, n := range c.DNSNames {
			names = append(names, visible(n, maxNameText))
		}
	}
	ours := ""
	if len(names) > 0 {
		ours = fmt.Sprintf(" Ours is for %s.", list(names, 6))
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("The client asked %s for “%s” and expected a certificate for that name.%s", a.at(), asked, ours),
		Right:    a.said(),
		Fixes: []termination.Fix{
			{Text: "Give the endpoint a server certificate that has this name among its subject alternative names.", Action: a.endpointPage()},
			{Text: "Or make the client call it by a name that the certificate has."},
		},
		ClientTo: a.toRefuser(fmt.Sprintf("Your client expects a certificate for “%s”, and ours does not have that name.", asked)),
	}
}

func (a *account) serverDateWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("The client says that the certificate of %s is out of date.", a.at()),
		Right:    a.said(),
		ClientTo: a.toRefuser("Your client says that our server certificate is out of date. Please check its clock."),
	}
	for _, c := range a.serverLeaves() {
		switch now := a.moment(); {
		case now.After(c.NotAfter):
			ex.Sentence += fmt.Sprintf(" It is right: %s ended %s ago, on %s.", certName(c), span(now.Sub(c.NotAfter)), stamp(c.NotAfter))
			ex.ClientTo = ""
			ex.Fixes = append(ex.Fixes, termination.Fix{Text: "Renew the server certificate.", Action: "/certificates"})
			return ex
		case now.Before(c.NotBefore):
			ex.Sentence += fmt.Sprintf(" It is right: %s becomes valid in %s, on %s.", certName(c), span(c.NotBefore.Sub(now)), stamp(c.NotBefore))
			ex.ClientTo = ""
			ex.Fixes = append(ex.Fixes, termination.Fix{Text: "Use a server certificate that is valid now.", Action: "/certificates"})
			return ex
		}
	}
	ex.Turn = termination.TurnClient
	ex.Sentence += " By the clock here it is not."
	ex.Fixes = append(ex.Fixes, a.clock("Compare the client's clock with this one"))
	return ex
}

func (a *account) refusedUsWords() termination.Explanation {
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("The client ended the handshake with %s after it saw our certificate, and its alert does not say why.", a.at()),
		Right:    a.said(),
		Fixes:    []termination.Fix{a.giveCA()},
		ClientTo: a.toRefuser("Your client does not accept our server certificate" + a.ourIssuer() + ". Please check the CAs it trusts, the name it calls, and its clock."),
	}
	ex.Fixes[0].Text = "Most often it does not trust the CA of our certificate" + a.ourIssuer() + ". " + ex.Fixes[0].Text
	if leaves := a.serverLeaves(); len(leaves) > 0 && a.named(leaves) || a.local() {
		ex.Right = strings.TrimSpace(ex.Right + " The name is not the cause: our certificate has the one that was asked for.")
	} else {
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: "Or it expected another name: compare the one it asked for with those of our certificate.", Action: a.endpointPage()})
	}
	ex.Fixes = append(ex.Fixes, a.clock("Or its clock is wrong"))
	return ex
}

func (a *account) leftWords() termination.Explanation {
	ex := termination.Explanation{
		Fixes:    []termination.Fix{{Text: "Try again with a client that says why.", Command: a.loud()}},
		ClientTo: a.toRefuser("Your client closed the connection without saying why. Its own log should tell."),
	}
	switch beat := a.handshake.Verdict.Beat; {
	case beat >= termination.BeatEstablished:
		ex.Sentence = fmt.Sprintf("%s finished the handshake with %s and closed at once, without a request.", a.who(), a.at())
		if leaves := a.serverLeaves(); len(leaves) > 0 && !a.local() && !a.named(leaves) {
			ex.Turn = termination.TurnOperator
			ex.Sentence += fmt.Sprintf(" It asked for “%s”, and our certificate does not have that name: some clients, curl among them, look at it only after the handshake.", visible(a.askedName(), maxNameText))
			ex.Fixes = append([]termination.Fix{{Text: "Give the endpoint a server certificate that has this name among its subject alternative names.", Action: a.endpointPage()}}, ex.Fixes...)
			return ex
		}
		ex.Fixes = append(ex.Fixes, termination.Fix{Text: "Compare the name that it calls with those in our certificate: some clients look at the name only after the handshake."})
	case beat == termination.BeatClientCert:
		ex.Sentence = fmt.Sprintf("A client closed the connection to %s without a word, when its certificate was due.", a.at())
		ex.Right = browserAsks
	case beat == termination.BeatServerCert:
		ex.Sentence = fmt.Sprintf("A client closed the connection to %s without a word after our certificate.", a.at())
		ex.Right = browserAsks
		trust := a.giveCA()
		trust.Text = "If it does not trust our certificate" + a.ourIssuer() + " and does not say so: " + lowerFirst(trust.Text)
		ex.Fixes = append(ex.Fixes, trust)
	default:
		ex.Sentence = fmt.Sprintf("A client closed the connection to %s in the middle of the handshake.", a.at())
	}
	return ex
}

const browserAsks = "A browser does so while it asks its user which certificate to use; then it comes back."

// loud is a command that shows the client's side.
func (a *account) loud() string {
	command := a.call(a.leaf != nil || a.asks(), false)
	return strings.Replace(command, "curl ", "curl -v ", 1)
}

func (a *account) asks() bool { return a.handshake.Mode.DemandsCertificate() }

// toRefuser writes to the owner of a client that refused us.
func (a *account) toRefuser(text string) string {
	where := a.at()
	if name := a.serverName(); name != "" {
		where += " (" + name + ")"
	}
	return fmt.Sprintf("About %s, %s: %s", where, stamp(a.handshake.Time), text)
}
