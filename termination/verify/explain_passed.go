package verify

import (
	"fmt"

	"countersign/termination"
)

// service is the service's own certificate as it passed by; nil where it was sealed.
func (a *account) service() *termination.SeenCertificate {
	if p := a.handshake.Passed; p != nil && len(p.Service) > 0 {
		return &p.Service[0]
	}
	return nil
}

// passedWords says what became of a client whose handshake went through sealed.
func (a *account) passedWords() termination.Explanation {
	ex := termination.Explanation{Sentence: fmt.Sprintf("A client was passed on to the service behind %s, sealed.", a.at())}
	alert, seen := a.handshake.Alert, a.handshake.Passed
	switch {
	case alert != nil && alert.Service:
		ex.Sentence = fmt.Sprintf("A client was passed on to the service behind %s, which ended the handshake with alert %d, %s.", a.at(), alert.Number, visible(alert.Name, maxNameText))
		ex.Right = "The service decides who comes in here; its own log says why."
		if seen != nil && seen.AsksForCertificate && a.leaf == nil {
			ex.Right = "The service asked for a client certificate, and the client sent none."
		}
	case seen != nil && seen.ProbablyRefused:
		ex.Sentence = fmt.Sprintf("A client was passed on to the service behind %s, and probably did not accept the service's certificate.", a.at())
		ex.Right = "What it said first in secret is as short as an alert. In TLS 1.3 nobody but the service can know more; its own log says which alert it was."
	}
	return ex
}

// serviceWords explains why a client did not accept a service's certificate, or left: it is not ours, and no key for it
// is here.
func (a *account) serviceWords(r termination.Reason) termination.Explanation {
	leaf := a.service()
	issuer := ""
	if leaf != nil {
		issuer = fmt.Sprintf(" (issued by %s)", visible(leaf.Issuer, maxNameText))
	}
	ex := termination.Explanation{Right: a.said(), Turn: termination.TurnClient}
	switch r {
	case termination.ReasonClientRefusedUsCA:
		ex.Sentence = fmt.Sprintf("The client ended the handshake with the service behind %s, because it does not trust the CA of the service's certificate%s.", a.at(), issuer)
		ex.Fixes = []termination.Fix{a.giveCA(), {Text: "If the client does trust that CA: make the service send its intermediate certificates, too."}}
		ex.ClientTo = a.toRefuser("Your client does not trust the CA of the service's certificate" + issuer + ". Please add that CA's certificate to the ones it trusts.")
	case termination.ReasonClientRefusedUsName:
		asked := visible(a.askedName(), maxNameText)
		ex.Turn = termination.TurnOperator
		ex.Sentence = fmt.Sprintf("The client asked %s for “%s” and expected a certificate for that name.", a.at(), asked)
		if leaf != nil && len(leaf.Names) > 0 {
			ex.Sentence += fmt.Sprintf(" The service's is for %s.", list(visibleNames(leaf.Names), 6))
		}
		ex.Fixes = []termination.Fix{
			{Text: "Give the service a certificate that has this name among its subject alternative names."},
			{Text: "Or make the client call it by a name that the certificate has."},
		}
		ex.ClientTo = a.toRefuser(fmt.Sprintf("Your client expects a certificate for “%s”, and the service's does not have that name.", asked))
	case termination.ReasonClientRefusedUsDate:
		return a.serviceDateWords(ex, leaf)
	case termination.ReasonClientLeft:
		ex.Right = browserAsks
		ex.Sentence = fmt.Sprintf("A client closed the connection without a word after the service behind %s had answered.", a.at())
		ex.Fixes = []termination.Fix{{Text: "Try again with a client that says why.", Command: a.loud()}}
		ex.ClientTo = a.toRefuser("Your client closed the connection without saying why. Its own log should tell.")
	default:
		ex.Sentence = fmt.Sprintf("The client ended the handshake with the service behind %s after it saw the service's certificate%s, and its alert does not say why.", a.at(), issuer)
		trust := a.giveCA()
		trust.Text = "Most often it does not trust the CA of the service's certificate" + issuer + ". " + trust.Text
		ex.Fixes = []termination.Fix{trust, a.clock("Or its clock is wrong")}
		ex.ClientTo = a.toRefuser("Your client does not accept the service's certificate" + issuer + ". Please check the CAs it trusts, the name it calls, and its clock.")
	}
	return ex
}

func (a *account) serviceDateWords(ex termination.Explanation, leaf *termination.SeenCertificate) termination.Explanation {
	ex.Sentence = fmt.Sprintf("The client says that the certificate of the service behind %s is out of date.", a.at())
	now := a.moment()
	switch {
	case leaf != nil && now.After(leaf.NotAfter):
		ex.Turn = termination.TurnOperator
		ex.Sentence += fmt.Sprintf(" It is right: that ended %s ago, on %s.", span(now.Sub(leaf.NotAfter)), stamp(leaf.NotAfter))
		ex.Fixes = []termination.Fix{{Text: "Renew the service's certificate. It is kept by the service, not here."}}
	case leaf != nil && now.Before(leaf.NotBefore):
		ex.Turn = termination.TurnOperator
		ex.Sentence += fmt.Sprintf(" It is right: that becomes valid in %s, on %s.", span(leaf.NotBefore.Sub(now)), stamp(leaf.NotBefore))
		ex.Fixes = []termination.Fix{{Text: "Give the service a certificate that is valid now."}}
	case leaf != nil:
		ex.Sentence += " By the clock here it is not."
		ex.Fixes = []termination.Fix{a.clock("Compare the client's clock with this one")}
		ex.ClientTo = a.toRefuser("Your client says that the service's certificate is out of date. Please check its clock.")
	default:
		ex.Right += " The certificate itself was sealed."
		ex.Fixes = []termination.Fix{{Text: "Look at the dates of the service's certificate, and renew it if it has ended.", Command: a.loud()}, a.clock("Or the client's clock is wrong")}
	}
	return ex
}

func visibleNames(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = visible(n, maxNameText)
	}
	return out
}
