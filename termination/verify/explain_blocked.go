package verify

import (
	"crypto/x509"
	"fmt"

	"countersign/termination"
	"countersign/termination/revocation"
)

// blockPage is where what is blocked is listed, and unblocked.
const blockPage = "/blocked"

// blockedWords explains that an operator keeps a client out: when, by whom and why. The client is told none of it.
func (a *account) blockedWords() termination.Explanation {
	fixes := []termination.Fix{{Text: "Leave it, as long as whoever has blocked it still means that.", Action: blockPage}}
	toClient := a.toClient("it is blocked", "Please ask whoever runs the service.")
	if block, cert := a.block(); block != nil {
		what := "its certificate"
		switch {
		case !cert.Equal(a.leaf):
			what = "the CA certificate " + certName(cert) + " in its chain"
		case block.Pin == nil:
			what = fmt.Sprintf("the serial number %s of the authority %s", block.Serial, block.Authority)
		case block.Pin.Key:
			what = "its key, whatever certificate comes with it,"
		}
		return termination.Explanation{
			Sentence: fmt.Sprintf("%s was kept out of %s: %s is blocked here by hand%s.", a.who(), a.at(), what, told(block)),
			Fixes:    append(fixes, termination.Fix{Text: "If it is to come in again, unblock it.", Action: blockPage + "/" + block.ID, Lowers: true}),
			ClientTo: toClient,
		}
	}
	if identity := a.identity(); identity != nil && identity.Blocked {
		return termination.Explanation{
			Sentence: fmt.Sprintf("%s was kept out of %s: the identity %s is blocked.", a.who(), a.at(), identity.Name),
			Fixes:    []termination.Fix{{Text: "Leave it, as long as whoever has blocked it still means that.", Action: identityPage(identity)}, {Text: "If it is to come in again, unblock the identity.", Action: identityPage(identity), Lowers: true}},
			ClientTo: toClient,
		}
	}
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s was kept out of %s: it was blocked by hand, and is not any more.", a.who(), a.at()),
		Fixes:    []termination.Fix{{Text: "Nothing: it comes in at its next try, if nothing else is in its way."}},
		ClientTo: toClient,
	}
}

// told is what is known of a block, to be added to a sentence.
func told(b *termination.Block) string {
	s := ""
	if !b.Since.IsZero() {
		s += " since " + b.Since.UTC().Format("2 January 2006, 15:04 UTC")
	}
	if b.Origin == termination.OriginFile {
		s += ", in the configuration file"
	} else if b.By != "" {
		s += ", by " + visible(b.By, maxDetailText)
	}
	if b.Why != "" {
		s += ": " + visible(b.Why, maxDetailText)
	}
	return s
}

// block finds the block that keeps the client out, if it is still there.
func (a *account) block() (*termination.Block, *x509.Certificate) {
	if a.leaf == nil {
		return nil, nil
	}
	certificates := a.handshake.Path
	if len(certificates) == 0 {
		certificates = []*x509.Certificate{a.leaf}
	}
	return revocation.BlockOf(a.search.cfg, certificates)
}
