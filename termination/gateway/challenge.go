package gateway

import (
	"crypto/tls"
	"slices"

	"countersign/termination"
	"countersign/termination/terminate"
)

// challengeProtocol is the ALPN name by which a CA says that it validates (RFC 8737, section 4).
const challengeProtocol = "acme-tls/1"

// answerChallenge answers a CA that validates a name by TLS-ALPN-01, and reports whether this connection is one. It is
// asked before any endpoint's policy, so it is narrow: the protocol alone is offered, a challenge is in flight for
// exactly that name, and nothing but the handshake happens, under the deadline that every handshake has. Whoever else offers
// the protocol meets the endpoint like any client.
func (c *client) answerChallenge(seen []byte) bool {
	g, rec := c.gateway, c.record
	if g.obtained == nil || !slices.Equal(rec.Hello.ALPN, []string{challengeProtocol}) {
		return false
	}
	name, err := termination.NormalizeName(rec.Hello.ServerName)
	if err != nil {
		return false
	}
	cert := g.obtained.Challenge(name)
	if cert == nil {
		return false
	}
	began := g.now()
	conn := tls.Server(terminate.NewConn(c.raw, seen, g.now), &tls.Config{
		Certificates: []tls.Certificate{*cert}, NextProtos: []string{challengeProtocol},
		MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, Time: g.now,
	})
	err = conn.Handshake()
	rec.Stages.Reply = g.now().Sub(began)
	rec.TerminateAt = termination.AtEdge
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomeOpen, Reason: termination.ReasonACMEChallenge, Beat: termination.BeatEstablished}
	if err != nil {
		rec.Error = err.Error()
		rec.Verdict.Outcome, rec.Verdict.Beat = termination.OutcomeBrokenOff, termination.BeatServerCert
	}
	_ = conn.Close() // it has seen what it came for
	c.publish()
	if err == nil {
		g.hub.Complete(termination.ConnectionEnd{ID: rec.ID, Time: g.now(), ClosedBy: termination.ClosedByGateway})
	}
	return true
}
