package verify

import (
	"fmt"
	"net/url"

	"countersign/termination"
)

// identity is the one by which the client is known; nil: none that is still there.
func (a *account) identity() *termination.Identity {
	if a.leaf != nil {
		if identity, _ := a.search.identities.byLeaf(a.leaf); identity != nil {
			return identity
		}
	}
	return a.search.identities.ByID(a.handshake.Client.IdentityID)
}

// identityPage is where an identity is changed.
func identityPage(i *termination.Identity) string {
	if i.ID != "" {
		return "/identities/" + url.PathEscape(i.ID)
	}
	return "/identities/" + url.PathEscape(i.Name)
}

// elsewhereWords explains that a known client came to an endpoint that is not its own.
func (a *account) elsewhereWords() termination.Explanation {
	identity := a.identity()
	if identity == nil {
		return a.generalWords(termination.ReasonIdentityElsewhere)
	}
	where := alternatives(identity.Endpoints, 6)
	ex := termination.Explanation{
		Sentence: fmt.Sprintf("%s %s to %s. It is known as the identity %s, which may come in at %s and nowhere else.", a.who(), a.verbOfComing(), a.at(), identity.Name, where),
		Fixes: []termination.Fix{
			{Text: fmt.Sprintf("Let the client use %s.", where)},
			{Text: fmt.Sprintf("If %s is meant to come in here too, add %s to its endpoints.", identity.Name, a.at()), Action: identityPage(identity), Lowers: true},
			{Text: fmt.Sprintf("If this client should not be %s at all, look at what the identity is known by.", identity.Name), Action: identityPage(identity)},
		},
		ClientTo: a.toClient("its certificate is registered for another service", "Please check the address that it connects to."),
	}
	if f, failed := a.firstFailingBut(termination.ReasonIdentityElsewhere); failed {
		ex.Sentence += " There its certificate would have to hold as well: " + f
	}
	return ex
}

func (a *account) verbOfComing() string {
	if a.handshake.Verdict.Outcome.In() {
		return "was let in, but not verified, and came"
	}
	return "came"
}

// firstFailingBut returns what else is wrong with the certificate, where that would count at other endpoints too: that
// nobody vouches for it here does not.
func (a *account) firstFailingBut(r termination.Reason) (string, bool) {
	for _, c := range a.handshake.Verdict.Checks {
		switch c.Reason {
		case r, termination.ReasonNotListed, termination.ReasonCertSelf, termination.ReasonCAUnknown, termination.ReasonCAOtherEndpoint,
			termination.ReasonCASameName, termination.ReasonChainGap:
			continue
		default:
		}
		if !c.Note && c.Detail != "" {
			return c.Detail, true
		}
	}
	return "", false
}

// rateWords explains that a client came more often than its identity may.
func (a *account) rateWords() termination.Explanation {
	identity := a.identity()
	if identity == nil || !identity.Rate.Limited() {
		return a.generalWords(termination.ReasonRateLimited)
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s opened connections to %s faster than the rate of the identity %s allows, which is %s with up to %s at once.",
			a.who(), a.at(), identity.Name, identity.Rate, count(identity.Rate.AtOnce(), "connection")),
		Fixes: []termination.Fix{
			{Text: "Slow the client: keep connections open instead of opening new ones, and wait longer before each further try."},
			{Text: fmt.Sprintf("If it needs more, raise the rate of %s, or its burst.", identity.Name), Action: identityPage(identity), Lowers: true},
		},
		ClientTo: a.toClient("it opened connections faster than it may", "Please keep connections open, and wait before trying again."),
	}
}
