package gateway

import (
	"errors"
	"net"
	"os"
	"strings"

	"countersign/termination"
	"countersign/termination/wire"
)

const (
	alertInternalError    = 80  // RFC 8446, section 6
	alertUnrecognizedName = 112 // RFC 6066, section 3
)

// offered turns what was read from the wire into the record's words.
func offered(h *wire.ClientHello) *termination.ClientHello {
	_, ja3 := wire.JA3(h)
	return &termination.ClientHello{
		ServerName:       h.ServerName,
		ALPN:             h.ALPN,
		Versions:         h.Versions(),
		CipherSuites:     h.CipherSuites,
		Groups:           h.Groups,
		KeyShares:        h.KeyShares,
		SignatureSchemes: h.SignatureSchemes,
		Extensions:       h.Extensions,
		PostQuantum:      h.PostQuantum(),
		ECH:              h.ECH,
		EarlyData:        h.EarlyData,
		OffersResumption: h.OffersResumption(),
		JA3:              ja3,
		JA4:              wire.JA4(h),
		Size:             h.Size,
		Records:          h.Records,
	}
}

// plainHTTPAnswer is for people who forgot the s in https. The body is plain text without anything from the request.
const plainHTTPAnswer = "HTTP/1.1 400 Bad Request\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"Connection: close\r\n" +
	"Content-Length: 96\r\n" +
	"\r\n" +
	plainHTTPBody

const plainHTTPBody = "This port speaks TLS, and the request came as plain HTTP.\nUse https:// instead of http:// here.\n"

// refuseHello ends a connection on which no ClientHello could be read.
func (c *client) refuseHello(err error) {
	rec := c.record
	rec.Error = err.Error()
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomeBrokenOff, Reason: termination.ReasonHelloBroken, Beat: termination.BeatHello}
	if rec.StartTLS == termination.StartTLSNone { // who asked for TLS in the protocol's own words is no noise
		rec.Noise = noiseOf(err)
	}
	var last []byte
	var flaw *wire.HelloError
	if !errors.As(err, &flaw) {
		c.refuse(nil)
		return
	}
	switch {
	case errors.Is(err, net.ErrClosed): // by Close
		rec.Verdict.Reason = termination.ReasonShutdown
	case errors.Is(err, wire.ErrNoBytes):
		rec.Verdict.Reason = termination.ReasonSilent
		if rec.StartTLS != termination.StartTLSNone { // it was answered, and then said nothing more
			rec.Verdict.Reason = termination.ReasonClientLeft
			if errors.Is(err, os.ErrDeadlineExceeded) {
				rec.Verdict.Reason = termination.ReasonTimeout
			}
		}
	case errors.Is(err, wire.ErrNotTLS):
		rec.Verdict.Reason = termination.ReasonNotTLS
		switch {
		case flaw.Protocol == wire.ProtocolHTTP:
			last = []byte(plainHTTPAnswer)
		case flaw.Protocol.GoesOverToTLS():
			rec.Verdict.Reason = termination.ReasonStartTLS
			last = c.postgresAnswer(flaw.Protocol)
		case flaw.Protocol == wire.ProtocolProxyV1, flaw.Protocol == wire.ProtocolProxyV2:
			rec.Verdict.Reason = termination.ReasonProxyHeader
			rec.Verdict.Outcome = termination.OutcomeRefused
		}
	case errors.Is(err, wire.ErrEarly):
		rec.Verdict.Reason, rec.Verdict.Outcome = termination.ReasonStartTLS, termination.OutcomeRefused
	case errors.Is(err, wire.ErrCutShort) && errors.Is(err, os.ErrDeadlineExceeded):
		rec.Verdict.Reason = termination.ReasonTimeout
	case errors.Is(err, wire.ErrHelloTooLarge), errors.Is(err, wire.ErrHelloBroken):
		rec.Verdict.Outcome = termination.OutcomeRefused
	}
	if flaw.Alert != 0 && last == nil {
		alert := wire.AlertRecord(flaw.Alert)
		last = alert[:]
		rec.Alert = &termination.Alert{Number: flaw.Alert, Name: wire.AlertName(flaw.Alert), Sent: true}
	}
	c.refuse(last)
}

// noiseOf classes what ended before a ClientHello was read; empty: it may be a client that somebody wants to make work.
func noiseOf(err error) termination.Noise {
	var flaw *wire.HelloError
	switch {
	case !errors.As(err, &flaw), errors.Is(err, net.ErrClosed):
		return ""
	case errors.Is(err, wire.ErrNoBytes):
		return termination.NoisePortCheck
	case errors.Is(err, wire.ErrCutShort) && !errors.Is(err, os.ErrDeadlineExceeded):
		return termination.NoiseHalfHello
	case !errors.Is(err, wire.ErrNotTLS):
		return ""
	}
	switch flaw.Protocol {
	case wire.ProtocolHTTP, wire.ProtocolHTTP2:
		return termination.NoisePlainHTTP
	case wire.ProtocolUnknown, wire.ProtocolSSH, wire.ProtocolSSLv2, wire.ProtocolSOCKS, wire.ProtocolRDP:
		return termination.NoiseScan
	default:
		return ""
	}
}

// refuseName ends a connection whose server name leads nowhere. There is no fall through to another endpoint.
func (c *client) refuseName() {
	rec := c.record
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomeRefused, Reason: termination.ReasonNameUnknown, Beat: termination.BeatAgreement}
	if strings.TrimSpace(rec.Hello.ServerName) == "" {
		rec.Verdict.Reason = termination.ReasonNameMissing
	}
	c.refuseWithAlert(alertUnrecognizedName)
}

// refuseWithAlert refuses a client to which no ServerHello has been sent, so that the alert goes out as it is.
func (c *client) refuseWithAlert(number uint8) {
	c.record.Alert = &termination.Alert{Number: number, Name: wire.AlertName(number), Sent: true}
	alert := wire.AlertRecord(number)
	c.refuse(alert[:])
}
