package proxy

import (
	"crypto/x509"
	"time"

	"countersign/termination"
)

// advice is what a refused client is told besides by an endpoint with verbose_refusals. It is made of the reason and of
// what the client has sent itself: nothing in it tells whom else the endpoint trusts, or by which rule it decides.
type advice struct {
	Reason      termination.Reason `json:"reason,omitempty"`
	ReasonTitle string             `json:"reason_title,omitempty"`
	Explanation string             `json:"explanation,omitempty"`
	Fix         string             `json:"fix,omitempty"`
}

// verbose reports whether refusals say more: where both the endpoint of the connection and that of the host want it.
func (x *exchange) verbose() bool {
	own := x.own()
	return own != nil && own.Endpoint.VerboseRefusals && (x.site == nil || x.site.Endpoint.VerboseRefusals)
}

// adviceFor is what a client may be told about a reason.
func adviceFor(reason termination.Reason, presented []*x509.Certificate, now time.Time) *advice {
	switch reason {
	case termination.ReasonCAOtherEndpoint, termination.ReasonCASameName, termination.ReasonChainGap:
		reason = termination.ReasonCAUnknown // what else is trusted is the operator's business
	default:
	}
	info, ok := reason.Info()
	if !ok {
		return nil
	}
	out := &advice{Reason: reason, ReasonTitle: info.Title}
	out.Explanation, out.Fix = clientWords(reason, presented, now)
	return out
}

// clientWords are the sentences for a client, as whoever runs it needs them. Names are left out: they are hostile text,
// and known to the reader.
func clientWords(reason termination.Reason, presented []*x509.Certificate, now time.Time) (happened, fix string) {
	const reissue = "Ask whoever issued the certificate for a new one."
	date := func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }
	switch reason {
	case termination.ReasonCertMissing:
		return "The connection came without a client certificate.", "Give the client its certificate and key, as curl --cert and --key do, and connect anew. A browser has to be restarted when it was told once to go on without one."
	case termination.ReasonCAUnknown:
		return "No chain leads from the client certificate to an authority that is trusted here.", "Use the certificate that was issued for this service, and send the certificates in between along with it."
	case termination.ReasonCertSelf:
		return "The client certificate signed itself, and nobody here knows it.", "Use a certificate that was issued for this service, or ask its operator to register this one."
	case termination.ReasonNotListed:
		return "The client certificate is none of those that are registered here.", "Ask the operator to register it; tell them its SHA-256 fingerprint."
	case termination.ReasonCertExpired:
		if len(presented) > 0 {
			return "The client certificate ended on " + date(presented[0].NotAfter) + "; here it is " + date(now) + ".", "Renew it. If the date is wrong here, tell the operator."
		}
	case termination.ReasonCertEarly:
		if len(presented) > 0 && now.Before(presented[0].NotBefore) {
			return "The client certificate begins on " + date(presented[0].NotBefore) + "; here it is " + date(now) + ".", "Wait, or check the clock of whoever issued it."
		}
		return "A certificate of the chain is not valid yet.", "Wait, or check the clock of whoever issued it."
	case termination.ReasonCAExpired:
		return "A CA above the client certificate has ended.", reissue
	case termination.ReasonCertUse:
		return "The client certificate, or a CA above it, is not made for clients.", "Ask for one with the extended key usage clientAuth."
	case termination.ReasonCertWeak:
		return "The client certificate, or a CA above it, has a key or a signature that is too weak.", reissue
	case termination.ReasonCertNameLimits, termination.ReasonIssuerNotCA, termination.ReasonChainTooDeep, termination.ReasonCertExtension:
		return "The chain of the client certificate breaks a rule for chains.", reissue
	case termination.ReasonCertMalformed:
		return "What was sent as a client certificate cannot be read as one.", "Look at the file that the client sends."
	case termination.ReasonRevoked:
		return "The client certificate was taken back by whoever issued it.", reissue
	case termination.ReasonProofMissing:
		return "The request did not prove what is demanded here besides the connection.", "Send it in the Authorization header; WWW-Authenticate says in which form."
	case termination.ReasonVersionLow:
		return "The connection uses a version of TLS that is too old for what was asked for.", "Connect with a newer version of TLS."
	case termination.ReasonHostMismatch:
		return "This connection was made for another host.", "Open a new connection with the host's name in the TLS handshake (SNI)."
	case termination.ReasonUpstreamDown:
		return "The request was let in, and the service behind does not answer.", "Try again later."
	case termination.ReasonRateLimited:
		return "There were more requests than are allowed in this time.", "Slow down, and try again later."
	default:
	}
	return "", "Ask whoever runs this service, and tell them the handshake's ID."
}
