package verify

import (
	"fmt"

	"countersign/termination"
)

// revokedWords explains a certificate that was taken back, and one of which that is not known.
func (a *account) revokedWords(r termination.Reason) termination.Explanation {
	detail, whose := a.detailOf(r)
	page := authorityPage(a.handshake.Client.Authority) + "#revocation"
	if r == termination.ReasonRevocationUnknown {
		return termination.Explanation{
			Sentence: fmt.Sprintf("%s was turned away at %s because its authority admits nobody of whom it is not known whether %s was revoked.%s", a.who(), a.at(), whose, detail),
			Right:    "Its chain leads to an authority that is trusted there.",
			Turn:     termination.TurnOperator,
			Fixes: []termination.Fix{
				{Text: "Look at the revocation lists of the authority: fetch them now, or upload the newest.", Action: page},
				{Text: "If a list has ended, the CA has to issue the next one: openssl ca -gencrl, where openssl is the CA."},
				{Text: "Or set the authority's revocation to soft: then a client comes in unless it is known to be revoked.", Action: page, Lowers: true},
			},
		}
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s came to %s with a certificate that does not count any more: %s was revoked.%s", a.who(), a.at(), whose, detail),
		Right:    "The chain itself holds.",
		Fixes: []termination.Fix{
			{Text: "If the client may come in again, have its CA issue it a new certificate, for a new key."},
			{Text: "If it was on hold, have its CA take it off the list and fetch or upload the next list.", Action: page},
			{Text: "If nobody expected this client, look where it came from: somebody still has the key of a certificate that was taken back."},
		},
		ClientTo: a.toClient("its certificate was revoked", "Please get a new one from your CA, for a new key."),
	}
}

// detailOf returns what the failed check says, and whose certificate it speaks of.
func (a *account) detailOf(r termination.Reason) (detail, whose string) {
	whose = "its certificate"
	for _, c := range a.handshake.Verdict.Checks {
		if c.Reason != r || c.Note {
			continue
		}
		if c.Detail != "" {
			detail = " " + c.Detail
		}
		if c.Certificate != 0 {
			whose = "a CA certificate in its chain"
		}
		break
	}
	return detail, whose
}
