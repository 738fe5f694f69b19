package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"countersign/termination"
	"countersign/termination/proxyproto"
)

// sendsPROXY reports whether whoever connects from peer has to send a PROXY header first. All endpoints of an address
// agree on that, since it comes before the server name.
func (t *table) sendsPROXY(listener, local, peer netip.AddrPort) bool {
	if len(t.balancers) == 0 {
		return false
	}
	from := peer.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(reached(listener, local), func(a netip.AddrPort) bool {
		return slices.ContainsFunc(t.balancers[a], func(p netip.Prefix) bool { return p.Contains(from) })
	})
}

// readPROXY reads the header that a listed source sends before TLS, within the handshake's deadline, and takes the
// client's address from it. From here on the record, the limits and the upstream know the client, not the balancer;
// where a balancer speaks for itself, it is the client. It reports whether the connection goes on.
//
// The address that the client connected to stays ours: endpoints are found by it.
func (c *client) readPROXY() bool {
	h, err := proxyproto.Read(c.raw)
	if err != nil {
		c.refusePROXY(err)
		return false
	}
	if h.Source.Addr().IsValid() {
		c.record.Peer = h.Source
	}
	if limit := c.slot.claim(c.record.Peer.Addr()); limit != "" {
		abandon(c.raw)
		c.record.Verdict = turnedAway(c.record, limit)
		c.publish()
		return false
	}
	return true
}

func (c *client) refusePROXY(err error) {
	rec := c.record
	rec.Error = err.Error()
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomeBrokenOff, Reason: termination.ReasonProxyHeader, Beat: termination.BeatHello}
	switch {
	case errors.Is(err, proxyproto.ErrMissing), errors.Is(err, proxyproto.ErrBroken):
		rec.Verdict.Outcome = termination.OutcomeRefused
	case errors.Is(err, net.ErrClosed): // by Close
		rec.Verdict.Reason = termination.ReasonShutdown
	case errors.Is(err, proxyproto.ErrNothing):
		rec.Verdict.Reason, rec.Noise = termination.ReasonSilent, termination.NoisePortCheck
	case errors.Is(err, os.ErrDeadlineExceeded):
		rec.Verdict.Reason = termination.ReasonTimeout
	}
	c.refuse(nil)
}

// turnedAway is the verdict on a connection above a limit.
func turnedAway(rec *termination.Handshake, limit Limit) termination.Verdict {
	return termination.Verdict{
		Outcome: termination.OutcomeRefused, Reason: termination.ReasonOverloaded, Beat: termination.BeatHello,
		Explanation: termination.Explanation{
			Sentence: fmt.Sprintf("%s was turned away: the limit %s is reached.", rec.Peer.Addr(), limit),
			Turn:     termination.TurnOperator,
			Fixes: []termination.Fix{
				{Text: "Find who uses most of it: see the addresses of the latest handshakes.", Action: "/live"},
				{Text: fmt.Sprintf("Or raise limits.%s, if the machine can take it.", limit), Action: "/settings", Lowers: true},
			},
		},
	}
}
