package terminate

import (
	"crypto/tls"
	"errors"
	"slices"
	"time"

	"countersign/termination"
	"countersign/termination/verify"
)

// Result is what a handshake led to.
type Result struct {
	Conn      *tls.Conn // nil when the handshake failed
	Judgement verify.Judgement
	Client    verify.Client // who was judged
}

// Handshake runs TLS over conn as its server and completes rec, whose Hello, Time and Stages.Hello the caller has
// filled in: stages, negotiated parameters, presented chain, verdict and alert. The caller sets the deadline on the
// connection. A Result without Conn means that the handshake failed and rec.Verdict says why; the explanation is left
// to the caller, off the path of the client.
func (t *Terminator) Handshake(conn *Conn, rec *termination.Handshake) Result {
	began := t.now()
	tlsConn := tls.Server(conn, t.configFor(rec.Peer))
	err := tlsConn.Handshake()
	ended := t.now()
	conn.watching = false

	rec.Stages = stages(conn, rec.Stages.Hello, began, ended)
	state := tlsConn.ConnectionState()
	if state.Version != 0 {
		rec.Chosen = negotiated(state)
	}
	if err != nil {
		t.fail(conn, rec, state, err)
		return Result{Judgement: verify.Judgement{Reason: rec.Verdict.Reason}}
	}
	rec.Presented = state.PeerCertificates
	client := clientOf(rec, state)
	judgement := t.judge(client)
	if !judgement.In {
		// VerifyConnection said yes a moment ago; since then a certificate has ended. The client has its Finished, so
		// that there is no alert any more.
		t.fail(conn, rec, state, &Refusal{Judgement: judgement, Presented: state.PeerCertificates})
		rec.Alert = nil
		return Result{Judgement: judgement}
	}
	if !judgement.ReportOnly && t.rate.Take(judgement.Identity) > 0 {
		// There was a token when VerifyConnection looked, and another connection took it.
		judgement = tooOften(judgement)
		t.fail(conn, rec, state, &Refusal{Judgement: judgement, Presented: state.PeerCertificates})
		rec.Alert = nil
		return Result{Judgement: judgement}
	}
	succeed(rec, judgement)
	return Result{Conn: tlsConn, Judgement: judgement, Client: client}
}

// clientOf is what a finished handshake has told of a client.
func clientOf(rec *termination.Handshake, state tls.ConnectionState) verify.Client {
	return verify.Client{
		Presented: state.PeerCertificates, ServerName: state.ServerName, Version: state.Version, Peer: rec.Peer, Staple: state.OCSPResponse,
	}
}

// succeed records a client that was let in.
func succeed(rec *termination.Handshake, j verify.Judgement) {
	rec.Verdict = termination.Verdict{Outcome: termination.OutcomeOpen, Reason: j.Reason, Beat: termination.BeatEstablished, Checks: j.Checks}
	if j.Verified {
		rec.Verdict.Outcome = termination.OutcomeVerified
	}
	rec.Verdict.WouldRefuse, rec.Verdict.ReportOnly = j.WouldRefuse, j.ReportOnly
	rec.Path = j.Path
	nameClient(rec, j)
}

func nameClient(rec *termination.Handshake, j verify.Judgement) {
	rec.Revocation = j.Generation
	rec.Verdict.Rule = j.Rule
	if len(rec.Presented) == 0 {
		return
	}
	rec.Client = verify.BestName(rec.Presented[0])
	rec.Client.Authority = j.Authority
	rec.Client.Pin = j.Pin
	if j.Known != nil {
		rec.Client.Identity, rec.Client.IdentityID = j.Known.Name, j.Known.ID
	}
}

func negotiated(s tls.ConnectionState) *termination.Negotiated {
	return &termination.Negotiated{
		Version:     s.Version,
		CipherSuite: s.CipherSuite,
		Group:       uint16(s.CurveID),
		ALPN:        s.NegotiatedProtocol,
		PostQuantum: s.CurveID == tls.X25519MLKEM768 || s.CurveID == tls.SecP256r1MLKEM768 || s.CurveID == tls.SecP384r1MLKEM1024,
		HelloRetry:  s.HelloRetryRequest,
		Resumed:     s.DidResume,
	}
}

const notRun = time.Duration(-1)

// stages splits the time since the ClientHello at the two moments that can be seen from outside crypto/tls.
func stages(c *Conn, hello time.Duration, began, ended time.Time) termination.Stages {
	s := termination.Stages{Hello: hello, Reply: notRun, Wait: notRun, Check: notRun}
	if c.replied.IsZero() {
		s.Reply = ended.Sub(began) // it failed before our first flight
		return s
	}
	s.Reply = c.replied.Sub(began)
	if c.answered.IsZero() {
		s.Wait = ended.Sub(c.replied)
		return s
	}
	s.Wait = c.answered.Sub(c.replied)
	s.Check = ended.Sub(c.answered)
	return s
}

// fail records why a handshake failed.
func (t *Terminator) fail(conn *Conn, rec *termination.Handshake, state tls.ConnectionState, err error) {
	rec.Error = err.Error()
	f := t.failureOf(conn, rec, state, err)
	rec.Verdict = termination.Verdict{Outcome: f.outcome, Reason: f.reason, Beat: f.beat}
	rec.Alert = f.alert

	var refusal *Refusal
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refusal):
		rec.Presented = refusal.Presented
		t.refused(rec, refusal.Judgement)
	case errors.As(err, &unverified):
		// crypto/tls stopped at its own verification; ours lists everything that is wrong.
		rec.Presented = unverified.UnverifiedCertificates
		t.refused(rec, (*t.policies.Load())[0].Judge(verify.Client{Presented: rec.Presented, ServerName: state.ServerName, Version: state.Version, Peer: rec.Peer}, t.now()))
	case len(state.PeerCertificates) > 0:
		// It broke after the certificate had passed: the key was not proven, or the client went away. What it showed is a
		// claim, and yet says whose file is mixed up.
		rec.Presented = state.PeerCertificates
		rec.Client = verify.BestName(rec.Presented[0])
	}
}

// refused completes a verdict with the judgement that led to it.
func (t *Terminator) refused(rec *termination.Handshake, j verify.Judgement) {
	nameClient(rec, j)
	rec.Verdict.Checks = j.Checks
	rec.Path = slices.Clone(j.Path)
	if j.In || j.Reason == "" {
		return // only crypto/tls objects: what it said stands
	}
	rec.Verdict.Reason = j.Reason
	if info, ok := j.Reason.Info(); ok && info.Beat != 0 {
		rec.Verdict.Beat = info.Beat
	}
}
