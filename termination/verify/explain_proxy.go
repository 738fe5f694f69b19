package verify

import (
	"fmt"
	"strings"

	"countersign/termination"
)

// proxyHeaderWords tell of a PROXY header that did not come, cannot be read, or came from a stranger. The record's peer
// is whoever connected: the client behind it is not believed.
func (a *account) proxyHeaderWords() termination.Explanation {
	peer := a.handshake.Peer.Addr().Unmap().WithZone("")
	expected, listed := false, false
	for i := range a.search.cfg.Endpoints {
		e := &a.search.cfg.Endpoints[i]
		if len(e.ProxyProtocol) == 0 || !e.ListensAt(a.handshake.Local) {
			continue
		}
		expected = true
		for _, p := range e.ProxyProtocol {
			listed = listed || p.Contains(peer)
		}
	}
	switch {
	case listed:
		why := "none came"
		if e := a.libraryWords(); e != "" {
			why = strings.TrimSuffix(e, ".")
		}
		return termination.Explanation{
			Sentence: fmt.Sprintf("%s has to begin with a PROXY header at %s: %s.", peer, a.port(), why),
			Fixes: []termination.Fix{
				{Text: "Turn the PROXY protocol on in the load balancer there, for this port."},
				{Text: "Or, if no load balancer is there, take its address out of proxy_protocol."},
			},
		}
	case expected:
		return termination.Explanation{
			Sentence: fmt.Sprintf("%s sent a PROXY header to %s, and is not listed under proxy_protocol.", peer, a.port()),
			Fixes: []termination.Fix{
				{Text: "If it is your load balancer, add its address to proxy_protocol at all endpoints of this port. If you do not know it, leave it: whoever sends such a header can pretend to come from anywhere."},
			},
		}
	default:
		return termination.Explanation{
			Sentence: fmt.Sprintf("A PROXY protocol header came to %s, which does not expect one.", a.port()),
			Fixes: []termination.Fix{
				{Text: "Turn the PROXY protocol off in the load balancer in front, for this port."},
				{Text: fmt.Sprintf("Or list %s under proxy_protocol at all endpoints of this port.", peer)},
			},
		}
	}
}

// leftOutWords tell of headers that would have named the client to the service.
func (a *account) leftOutWords() termination.Explanation {
	return termination.Explanation{
		Sentence: fmt.Sprintf("%s came in at %s, and the service behind was not told all of who it is.", a.who(), a.at()),
		Right:    "Nothing was cut off: what is too large for a header, or could be read in two ways, is left out whole, and Countersign-Left-Out names it.",
		Fixes: []termination.Fix{
			{Text: "Let the service read a header that is always small: X-Client-Fingerprint, or Hash in X-Forwarded-Client-Cert.", Action: a.endpointPage()},
			{Text: "Or issue the client a certificate with a smaller key and fewer names."},
		},
	}
}
