package terminate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"countersign/termination"
	"countersign/termination/rate"
	"countersign/termination/revocation"
	"countersign/termination/verify"
)

// Options say how one endpoint ends TLS.
type Options struct {
	Endpoint *termination.Endpoint
	Policy   *verify.Policy   // the endpoint's own
	Routes   []*verify.Policy // those of routes that have their own; TLS asks for what the laxest needs
	Certificates
	// Rate bounds the connections of identities; nil: nothing does. Requests are bounded where HTTP is spoken.
	Rate *rate.Limiter
	Now  func() time.Time // nil: time.Now
}

// Certificates are those that a server can present.
type Certificates struct {
	// GetCertificate chooses one, as in tls.Config.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Leaves         func() []*x509.Certificate // what GetCertificate chooses from; nil: unknown
}

// Terminator ends TLS for one endpoint under one policy. It is safe for concurrent use.
type Terminator struct {
	policies atomic.Pointer[[]*verify.Policy] // the endpoint's own first
	config   *tls.Config

	newConfig func(peer netip.AddrPort) *tls.Config
	tickets   *tickets // nil unless a policy asks for the client's address; then see configFor
	exact     bool
	own       Certificates
	rate      *rate.Limiter
	now       func() time.Time
}

// New builds a Terminator with a tls.Config of its own.
func New(o Options) (*Terminator, error) {
	if o.Policy == nil || o.GetCertificate == nil {
		return nil, fmt.Errorf("build TLS for endpoint %q: policy or certificate is missing", o.Endpoint.Name)
	}
	if o.Endpoint.Scheme != termination.SchemeHTTPS && o.Policy.NeedsRequest() {
		return nil, fmt.Errorf("build TLS for endpoint %q: its expression asks for the request, and there is none", o.Endpoint.Name)
	}
	t := &Terminator{own: o.Certificates, rate: o.Rate, now: o.Now}
	policies := distinct(o.Policy, o.Routes)
	t.policies.Store(&policies)
	if t.now == nil {
		t.now = time.Now
	}
	if slices.ContainsFunc(policies, (*verify.Policy).NeedsPeer) {
		t.tickets = &tickets{}
	}
	clientAuth, pool := t.demand(policies)
	policy := o.Endpoint.TLSPolicy()
	t.newConfig = func(peer netip.AddrPort) *tls.Config {
		return &tls.Config{
			Time:             t.now,
			GetCertificate:   t.getCertificate,
			MinVersion:       policy.MinVersion,
			MaxVersion:       policy.MaxVersion,
			CipherSuites:     policy.Suites, // nil only where TLS 1.2 is not spoken
			NextProtos:       policy.ALPN,
			ClientAuth:       clientAuth,
			ClientCAs:        pool,
			VerifyConnection: func(cs tls.ConnectionState) error { return t.verifyConnection(cs, peer) },
		}
	}
	t.config = t.newConfig(netip.AddrPort{})
	return t, nil
}

// configFor returns the configuration for the connection of one client. crypto/tls does not tell VerifyConnection whose
// connection it is, so where a policy asks for the client's address each connection has a configuration of its own. It
// would have ticket keys of its own as well; it is given those of this terminator, which go with it, as they do where one
// configuration serves all.
func (t *Terminator) configFor(peer netip.AddrPort) *tls.Config {
	if t.tickets == nil {
		return t.config
	}
	config := t.newConfig(peer)
	config.SetSessionTicketKeys(t.tickets.keys(t.now()))
	return config
}

// certificates are those that a connection may be shown.
func (t *Terminator) certificates(conn *Conn) Certificates {
	if conn.Certificates != nil {
		return *conn.Certificates
	}
	return t.own
}

func (t *Terminator) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	conn, ok := hello.Conn.(*Conn)
	if !ok {
		return nil, errors.New("no connection of a handshake") // there is no other: see Handshake
	}
	cert, err := t.certificates(conn).GetCertificate(hello)
	if cert != nil {
		conn.presented = cert.Leaf
	}
	return cert, err
}

// Rename takes policies that decide exactly as those before, and differ in the names that they give alone, as after an
// authority was renamed. Tickets stay valid. Policies that decide otherwise need another Terminator; they change nothing
// here.
func (t *Terminator) Rename(own *verify.Policy, routes []*verify.Policy) {
	next, now := distinct(own, routes), *t.policies.Load()
	same := func(a, b *verify.Policy) bool { return a.Hash() == b.Hash() }
	if slices.EqualFunc(next, now, same) {
		t.policies.Store(&next)
	}
}

// distinct returns the endpoint's policy and those routes' policies that differ from it.
func distinct(own *verify.Policy, routes []*verify.Policy) []*verify.Policy {
	out := []*verify.Policy{own}
	seen := map[string]bool{own.Hash(): true}
	for _, p := range routes {
		if !seen[p.Hash()] {
			seen[p.Hash()] = true
			out = append(out, p)
		}
	}
	return out
}

// demand returns what crypto/tls has to ask for. The pool is never nil: to crypto/x509 a nil pool means the
// system's roots, that is, everyone with a certificate from a public CA.
func (t *Terminator) demand(policies []*verify.Policy) (tls.ClientAuthType, *x509.CertPool) {
	own := policies[0]
	if len(policies) == 1 && own.Exact() {
		t.exact = true
		if own.Mode() == termination.ModeRequire {
			return tls.RequireAndVerifyClientCert, own.Pool()
		}
		return tls.VerifyClientCertIfGiven, own.Pool()
	}
	asks, demands := false, true
	for _, p := range policies {
		asks = asks || p.Mode().Asks()
		// One that only reports, or leaves the refusal to HTTP, asks, but must not turn away whoever has no certificate.
		demands = demands && p.Mode().DemandsCertificate() && !p.ReportOnly() && !p.Soft()
	}
	pool := x509.NewCertPool()
	if len(policies) == 1 {
		pool = own.Announced()
	}
	switch {
	case !asks:
		return tls.NoClientCert, x509.NewCertPool()
	case demands:
		return tls.RequireAnyClientCert, pool
	default:
		return tls.RequestClientCert, pool
	}
}

// Now is the time by which the Terminator judges.
func (t *Terminator) Now() time.Time { return t.now() }

// Exact reports whether crypto/tls verifies first, so that refusals carry the exact alert of RFC 8446, section 6.2.
func (t *Terminator) Exact() bool { return t.exact }

// Asks reports whether clients are asked for a certificate.
func (t *Terminator) Asks() bool { return t.config.ClientAuth != tls.NoClientCert }

// Refusal is the error with which the policy ends a handshake.
type Refusal struct {
	Judgement verify.Judgement
	Presented []*x509.Certificate
}

// Error implements error.
func (r *Refusal) Error() string { return "refused by policy: " + string(r.Judgement.Reason) }

// verifyConnection is called for every handshake, resumed ones included (VerifyPeerCertificate is not).
func (t *Terminator) verifyConnection(cs tls.ConnectionState, peer netip.AddrPort) error {
	client := verify.Client{Presented: cs.PeerCertificates, ServerName: cs.ServerName, Version: cs.Version, Peer: peer, Staple: cs.OCSPResponse}
	j := t.judge(client)
	if len(j.Ask) > 0 && t.ask(j) {
		j = t.judge(client)
	}
	if !j.In {
		return &Refusal{Judgement: j, Presented: cs.PeerCertificates}
	}
	// The key is not proven yet (RFC 8446, section 4.4.3, comes after this), so nothing is counted.
	if !j.ReportOnly && t.rate.Peek(j.Identity) > 0 {
		return &Refusal{Judgement: tooOften(j), Presented: cs.PeerCertificates}
	}
	return nil
}

// tooOften turns the judgement about a client that was to be let in into the refusal of one that comes too often.
func tooOften(j verify.Judgement) verify.Judgement {
	rate := j.Identity.Rate
	j.Checks = append(slices.Clone(j.Checks), termination.Check{
		Reason: termination.ReasonRateLimited,
		Detail: fmt.Sprintf("The identity %s opens more connections than its rate of %s allows.", j.Identity.Name, rate),
	})
	j.In, j.Verified, j.Reason, j.Identity = false, false, termination.ReasonRateLimited, nil
	return j
}

// ask asks OCSP responders while the client waits, which it does not for long. It reports whether to judge again.
func (t *Terminator) ask(j verify.Judgement) bool {
	ctx, cancel := context.WithTimeout(context.Background(), revocation.AskTime)
	defer cancel()
	return (*t.policies.Load())[0].Ask(ctx, j.Ask)
}

// Judge judges a client by the endpoint's policy, and lets in what only a route's policy would, or what a soft one
// refuses: there HTTP decides, request by request. It waits for nobody: what an OCSP responder would have to be asked is asked in the background.
func (t *Terminator) Judge(c verify.Client) verify.Judgement {
	j := t.judge(c)
	(*t.policies.Load())[0].AskLater(j.Ask)
	return j
}

func (t *Terminator) judge(c verify.Client) verify.Judgement {
	now := t.now()
	policies := *t.policies.Load()
	own := policies[0].Judge(c, now)
	if own.In {
		return own
	}
	own.In = policies[0].Soft()
	for _, p := range policies[1:] {
		own.In = own.In || p.Soft()
		j := p.Judge(c, now)
		j.Ask = append(slices.Clip(own.Ask), j.Ask...)
		own.Ask = j.Ask
		if j.In {
			if j.Verified {
				return j
			}
			own.In = true
		}
	}
	return own
}
