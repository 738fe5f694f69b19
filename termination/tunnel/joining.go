package tunnel

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"

	"countersign/termination"
	"countersign/termination/localca"
)

// secretSize is that of an invitation's secret, in bytes.
const secretSize = 16

// join serves one agent that has no certificate yet.
func (s *Server) join(conn *tls.Conn) {
	from := conn.RemoteAddr()
	answer := s.answerJoin(conn)
	switch {
	case answer.Refused != nil:
		if answer.Refused.Code != refusedBusy { // which is ours, or was counted before
			s.joins.refused(addressOf(from), s.options.Now())
		}
		s.strangers.log(s.options, slog.LevelWarn, "an agent was not let in", "from", from.String(), "reason", string(answer.Refused.Code))
	default:
		s.options.Log.Info("an agent has joined", "agent", answer.ID, "endpoint", answer.Endpoint, "from", from.String())
	}
	_ = writeFrame(conn, answer) // the agent asks again, with another invitation, if it did not hear
}

func (s *Server) answerJoin(conn *tls.Conn) joinAnswer {
	refuse := func(code refusalCode, text string) joinAnswer {
		return joinAnswer{Refused: &refusal{Code: code, Text: text}}
	}
	if !s.joins.allows(addressOf(conn.RemoteAddr()), s.options.Now()) {
		return refuse(refusedBusy, "too many agents from this address were refused; the gateway hears the next in a minute")
	}
	var request joinRequest
	if err := readFrame(conn, maxJoin, &request); err != nil {
		return refuse(refusedRequest, "the gateway did not understand this agent; run the same version of countersign on both sides")
	}
	s.mu.Lock()
	config := s.config
	s.mu.Unlock()
	if config.Agents.CA == nil {
		return refuse(refusedBusy, "the gateway has no CA for agents right now")
	}
	csr, err := localca.ReadRequest(request.CSR)
	if err != nil || len(request.Secret) != secretSize {
		return refuse(refusedRequest, "the gateway did not understand this agent's request for a certificate; run the same version of countersign on both sides")
	}
	a := termination.Agent{
		ID: termination.NewID(termination.PrefixAgent, s.options.Now()), Name: clip(request.Name, maxName), Version: clip(request.Version, maxName),
		Key: sha256.Sum256(csr.RawSubjectPublicKeyInfo), Created: s.options.Now(), Address: addressOf(conn.RemoteAddr()).String(),
	}
	if request.Endpoint != "" {
		// Whether there is an endpoint of that name is not for somebody to learn who may have no invitation: so a name
		// that leads nowhere is an endpoint like any other that the invitation is not for.
		a.EndpointID = noEndpoint
		if e := agentEndpoint(config, func(e *termination.Endpoint) bool { return e.Name == request.Endpoint }); e != nil {
			a.EndpointID = e.ID
		}
	}
	return s.redeem(config, a, sha256.Sum256(request.Secret), csr)
}

// noEndpoint is the ID of no endpoint.
const noEndpoint = "none"

// maxName bounds the name and version that an agent gives itself, in bytes.
const maxName = 100

func (s *Server) redeem(config *termination.Config, a termination.Agent, secret [sha256.Size]byte, csr *x509.CertificateRequest) joinAnswer {
	ctx, cancel := context.WithTimeout(s.stopped, registryTime)
	defer cancel()
	// Signed first: an invitation is not used up for nothing.
	cert, err := localca.SignAgent(config.Agents.CA, a.ID, csr, s.options.Now())
	if err != nil {
		s.options.Log.Error("cannot sign an agent's certificate", "error", err)
		return joinAnswer{Refused: &refusal{Code: refusedBusy, Text: "the gateway could not make a certificate; its log says why"}}
	}
	a, err = s.options.Registry.Redeem(ctx, secret, a)
	if err != nil {
		return joinAnswer{Refused: s.refusalOf(err)}
	}
	answer := joinAnswer{ID: a.ID, EndpointID: a.EndpointID, Certificate: cert.Raw}
	if e := agentEndpoint(config, func(e *termination.Endpoint) bool { return e.ID == a.EndpointID }); e != nil {
		answer.Endpoint = e.Name
	}
	return answer
}

// refusalOf turns an error of the registry into what an agent is told.
func (s *Server) refusalOf(err error) *refusal {
	for _, known := range []struct {
		err  error
		code refusalCode
	}{
		{ErrInvitationUnknown, refusedUnknown},
		{ErrInvitationUsed, refusedUsed},
		{ErrInvitationExpired, refusedExpired},
		{ErrInvitationElsewhere, refusedElsewhere},
		{ErrAgentUnknown, refusedAgent},
		{ErrAgentRemoved, refusedRemoved},
	} {
		if errors.Is(err, known.err) {
			return &refusal{Code: known.code, Text: known.err.Error()}
		}
	}
	s.options.Log.Error("cannot look up an agent", "error", err)
	return &refusal{Code: refusedBusy, Text: "the gateway cannot look up its agents right now; its log says why"}
}
