package gateway

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"

	"countersign/termination"
	"countersign/termination/terminate"
	"countersign/termination/verify"
	"countersign/termination/wire"
)

// observed completes the record of a handshake that passed through sealed by what was seen from outside. First is who
// ended it, if it has ended, and err how.
func (c *client) observed(seen wire.Seen, first *termination.ClosedBy, err error) {
	rec := c.record
	rec.Passed = &termination.Passed{
		AsksForCertificate: seen.AsksForCertificate, ClientWentOn: seen.ClientWentOn, ProbablyRefused: seen.ClientShort,
	}
	if h := seen.Hello; h != nil {
		rec.Passed.SealedFrom = termination.SealedFromFinished
		if seen.Sealed() {
			rec.Passed.SealedFrom = termination.SealedFromServerHello
		}
		rec.Chosen = &termination.Negotiated{
			Version: h.Version, CipherSuite: h.CipherSuite, Group: h.Group, ALPN: h.ALPN,
			PostQuantum: wire.IsPostQuantum(h.Group), HelloRetry: h.HelloRetryRequest, Resumed: c.resumes(h),
		}
	}
	service := parsed(seen.ServerCertificates)
	for _, cert := range service {
		rec.Passed.Service = append(rec.Passed.Service, termination.SeenCertificateOf(cert))
	}
	if rec.Presented = parsed(seen.ClientCertificates); len(rec.Presented) > 0 {
		rec.Client = verify.BestName(rec.Presented[0]) // a claim: only the service knows whether it was proven
	}
	switch {
	case seen.ClientAlert != nil && (seen.ClientGaveUp() || seen.ServerAlert == nil):
		rec.Alert = passing(*seen.ClientAlert)
	case seen.ServerAlert != nil:
		rec.Alert = passing(*seen.ServerAlert)
		rec.Alert.Service = true
	}
	rec.Verdict = c.verdictInPassing(seen, service, first, err)
	if err != nil && !rec.Verdict.Outcome.In() {
		rec.Error = err.Error()
	}
	if rec.Verdict.Reason != "" || rec.Alert != nil || seen.ClientShort {
		c.explain()
	}
}

func passing(a wire.Alert) *termination.Alert {
	return &termination.Alert{Number: a.Description, Name: wire.AlertName(a.Description), Plaintext: true}
}

// resumes reports whether the service took up an earlier session.
func (c *client) resumes(h *wire.ServerHello) bool {
	hello, _, err := wire.ReadClientHello(bytes.NewReader(c.hello), c.table.config.Limits.ClientHello)
	return err == nil && h.Resumes(hello)
}

// parsed returns the certificates up to the first that cannot be read.
func parsed(chain [][]byte) []*x509.Certificate {
	var out []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			break
		}
		out = append(out, cert)
	}
	return out
}

// verdictInPassing says how the handshake ended, as far as that can be known from outside. Whatever is sealed has passed.
func (c *client) verdictInPassing(seen wire.Seen, service []*x509.Certificate, first *termination.ClosedBy, err error) termination.Verdict {
	broken := func(beat termination.Beat, reason termination.Reason) termination.Verdict {
		return termination.Verdict{Outcome: termination.OutcomeBrokenOff, Reason: reason, Beat: beat}
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	client := first != nil && *first == termination.ClosedByClient
	down := &c.record.Upstream.Error
	switch {
	case seen.ClientGaveUp() && seen.Hello != nil && !seen.ClientWentOn:
		return c.refusedInPassing(seen, service)
	case c.gateway.stopped.Err() != nil:
		return broken(termination.BeatAgreement, termination.ReasonShutdown)
	case seen.ServerGaveUp():
		return termination.Verdict{Outcome: termination.OutcomePassed, Beat: termination.BeatHello}
	case late && seen.Hello == nil:
		*down = "the upstream did not answer within the handshake timeout: " + err.Error()
	case late && seen.ClientWentOn:
		*down = "the upstream did not finish the handshake in time: " + err.Error()
	case late: // so the client has stopped
		return broken(termination.BeatServerCert, termination.ReasonTimeout)
	case seen.ClientWentOn, err == nil && !client:
		return termination.Verdict{Outcome: termination.OutcomePassed, Beat: termination.BeatHello}
	case client && seen.Hello != nil:
		return broken(termination.BeatServerCert, termination.ReasonClientLeft)
	case client:
		return broken(termination.BeatAgreement, termination.ReasonClientLeft)
	case seen.Hello != nil:
		*down = "the upstream closed in the middle of the handshake: " + err.Error()
	default:
		*down = "the upstream closed before it answered: " + err.Error()
	}
	return broken(termination.BeatAgreement, termination.ReasonUpstreamDown)
}

// refusedInPassing is the verdict where the client was seen to end the handshake after the service's certificate.
func (c *client) refusedInPassing(seen wire.Seen, service []*x509.Certificate) termination.Verdict {
	named, now := true, c.gateway.now()
	if name := c.record.Hello.ServerName; len(service) > 0 && name != "" {
		named = service[0].VerifyHostname(name) == nil
	}
	v := termination.Verdict{Beat: termination.BeatServerCert}
	v.Outcome, v.Reason = terminate.MeaningOfAlert(seen.ClientAlert.Description, named)
	outdated := len(service) > 0 && (now.Before(service[0].NotBefore) || now.After(service[0].NotAfter))
	if v.Reason == termination.ReasonClientRefusedUs && outdated { // Go's clients send one alert for every cause
		v.Reason = termination.ReasonClientRefusedUsDate
	}
	return v
}
