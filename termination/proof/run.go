package proof

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"
	"time"

	"countersign/termination"
	"countersign/termination/localca"
)

const (
	lineTime = 15 * time.Second // of one attempt
	// defaultPatience stands for an Options.Patience of 0.
	defaultPatience = 5 * time.Second
	maxRoutes       = 8 // routes that are tried
)

// Connection is a connection to the endpoint's own address.
type Connection struct {
	net.Conn
	Record <-chan *termination.Handshake // gets the gateway's record of it; nil: there is none
}

// Options say what to prove, and how to get there.
type Options struct {
	Config   *termination.Config
	Endpoint *termination.Endpoint // of Config
	// Dial connects to the endpoint as a client does.
	Dial func(context.Context) (Connection, error)
	// Direct connects to a service behind, for endpoints whose TLS ends there.
	Direct func(ctx context.Context, network, address string) (net.Conn, error)
	// Held are the server certificates that the gateway holds keys for, beside those of Config.
	Held []*x509.Certificate
	Now  func() time.Time // nil: time.Now
	// Patience is how long a TLS 1.3 server may stay silent before that counts as consent; 0: five seconds. One that
	// hands out tickets is waited for no longer than they take.
	Patience time.Duration
}

// Run makes the handshakes, one after the other. The error is that of what keeps all of them from being made; ctx ends
// them early.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	e := o.Endpoint
	if !e.Enabled {
		return nil, fmt.Errorf("the endpoint %q is stopped; start it to prove what it does", e.Name)
	}
	r := &run{Options: o, report: &Report{
		EndpointID: e.ID, Endpoint: e.Name, URL: e.URL(), TerminateAt: e.TerminateAt, Revision: o.Config.Revision, Time: o.Now(), Lines: []Line{},
	}}
	began := time.Now()
	if e.TerminateAt == termination.AtUpstream {
		r.passthrough(ctx)
	} else {
		r.report.Mode = e.ClientAuth.Mode
		r.policy(ctx)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("prove the endpoint %q: %w", e.Name, context.Cause(ctx))
	}
	r.report.Duration = time.Since(began)
	r.report.settle()
	return r.report, nil
}

// run is one proof.
type run struct {
	Options
	report *Report
	issuer *termination.LocalCA // a CA that the endpoint trusts and whose key is here; nil: there is none
	leaf   *x509.Certificate    // that the endpoint presented last
}

func (r *run) add(l Line) { r.report.Lines = append(r.report.Lines, l) }

// notShown adds a line that cannot be tried from here.
func (r *run) notShown(t Try, tried, why string) {
	r.add(Line{Try: t, Tried: tried, Result: NotShown, Detail: why})
}

// what the lines are called.
func words(t Try) string {
	return map[Try]string{
		TryTrusted: "Client of a trusted CA", TryNone: "No certificate", TryStranger: "Certificate from an unknown CA",
		TryExpired: "Trusted CA, ended a minute ago", TryWrongUse: "Trusted CA, made for servers only",
		TryUnlisted: "Trusted elsewhere, not pinned here", TryTLS12: "TLS 1.2 and no more", TryTLS11: "TLS 1.1 and no more",
	}[t]
}

// policy proves an endpoint whose TLS ends here or in an agent.
func (r *run) policy(ctx context.Context) {
	auth := r.Config.Effective(r.main())
	r.issuer = r.findIssuer(auth)
	r.try(ctx, TryNone, auth, nil)
	for _, t := range []Try{TryTrusted, TryStranger, TryExpired, TryWrongUse, TryUnlisted} {
		r.withCertificate(ctx, t, auth)
	}
	r.versions(ctx, auth)
	r.routes(ctx)
	if r.Endpoint.TerminateAt == termination.AtAgent {
		r.noKey()
	}
}

// main is the policy that holds at the path /, where there are paths.
func (r *run) main() termination.ClientAuth {
	for _, route := range r.Endpoint.Routes {
		if route.Path == "/" && route.ClientAuth != nil {
			return *route.ClientAuth
		}
	}
	return r.Endpoint.ClientAuth
}

// findIssuer finds a CA that the policy trusts and whose key is held here, that is, a local CA.
func (r *run) findIssuer(auth termination.ClientAuth) *termination.LocalCA {
	for _, name := range auth.Authorities {
		a := r.Config.Authority(name)
		if a == nil {
			continue
		}
		for _, anchor := range a.Anchors() {
			for i := range r.Config.LocalCAs {
				if ca := &r.Config.LocalCAs[i]; ca.Key != nil && bytes.Equal(ca.Certificate.Raw, anchor.Raw) {
					return ca
				}
			}
		}
	}
	return nil
}

// withCertificate tries one kind of certificate, or says why it cannot.
func (r *run) withCertificate(ctx context.Context, t Try, auth termination.ClientAuth) {
	if auth.Mode == termination.ModeOff && t != TryStranger {
		return // no certificate is asked for, so none makes a difference
	}
	if t == TryUnlisted && (len(auth.Pins) == 0 || len(auth.Authorities) > 0) {
		return // without pins there is no list; beside an authority the list is not what decides
	}
	cert, why := r.certificate(t, auth)
	if why != "" {
		r.notShown(t, words(t), why)
		return
	}
	r.try(ctx, t, auth, cert)
}

// certificate makes the certificate of a try; why says what is missing for it.
func (r *run) certificate(t Try, auth termination.ClientAuth) (cert *tls.Certificate, why string) {
	var issued *localca.Issued
	var err error
	switch {
	case t == TryStranger:
		issued, err = localca.Stranger(r.Now())
	case t == TryUnlisted && len(r.Config.LocalCAs) == 0:
		return nil, "cannot be shown: there is no local CA to issue the certificate"
	case t == TryUnlisted:
		issued, err = localca.IssueForProof(&r.Config.LocalCAs[0], localca.FlawNone, r.Now())
	case r.issuer == nil && len(auth.Authorities) == 0 && len(auth.Pins) > 0:
		return nil, "cannot be shown: only pins count, and the keys that belong to them are their owners'"
	case r.issuer == nil:
		return nil, "cannot be shown: no key of a trusted CA is here"
	default:
		issued, err = localca.IssueForProof(r.issuer, map[Try]localca.Flaw{TryExpired: localca.FlawExpired, TryWrongUse: localca.FlawUse}[t], r.Now())
	}
	if err != nil {
		return nil, "cannot be shown: " + err.Error()
	}
	return &tls.Certificate{Certificate: [][]byte{issued.Leaf().Raw}, PrivateKey: issued.Key, Leaf: issued.Leaf()}, ""
}

// try makes one handshake and compares.
func (r *run) try(ctx context.Context, t Try, auth termination.ClientAuth, cert *tls.Certificate) {
	a := attempt{endpoint: r.Endpoint, cert: cert}
	want := expected(auth, t)
	if want == refused && r.httpDecides() {
		if a.path = r.ownPath(); a.path == "" {
			r.notShown(t, words(t), "cannot be shown: HTTP decides here, and the endpoint does not speak http/1.1")
			return
		}
	}
	line := Line{Try: t, Tried: words(t), Expected: string(want)}
	s := r.meet(ctx, &a, &line)
	r.compare(&line, s, want)
	reported(&line, s, auth, t)
	if t == TryNone && s.verdict != "" && !r.httpDecides() && s.asked != auth.Mode.Asks() {
		line.Result = Contradicts
		line.Detail += map[bool]string{true: "; it was asked for a certificate, which the policy does not do", false: "; it was not asked for a certificate"}[s.asked]
	}
	r.add(line)
}

// meet dials, makes the attempt, and notes what both sides saw of it.
func (r *run) meet(ctx context.Context, a *attempt, line *Line) sight {
	ctx, cancel := context.WithTimeout(ctx, lineTime)
	defer cancel()
	began := time.Now()
	conn, err := r.Dial(ctx)
	if err != nil {
		return sight{detail: err.Error()}
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo()) })
	defer stop()
	s := a.meet(ctx, conn, r.Patience)
	line.Duration = time.Since(began)
	line.Version = s.version
	if s.leaf != nil {
		r.leaf = s.leaf
	}
	if conn.Record != nil {
		select {
		case record := <-conn.Record:
			line.Handshake, s.record = record.ID, record
		case <-ctx.Done():
			if s.verdict != "" {
				return sight{detail: "the gateway has no record of this connection: another program may have its address"}
			}
		}
	}
	return s
}

// compare fills in what happened, and whether that is what the policy says.
func (r *run) compare(line *Line, s sight, want verdict) {
	line.Happened, line.Detail, line.Alert = string(s.verdict), s.detail, s.alert
	switch s.verdict {
	case "":
		line.Result = Failed
	case want:
		line.Result = Holds
	default:
		line.Result = Contradicts
	}
}

// reported compares what the record of a policy that only reports says with what the policy would do were it enforced.
func reported(line *Line, s sight, auth termination.ClientAuth, t Try) {
	if !auth.ReportOnly || line.Result != Holds || s.record == nil {
		return
	}
	would := enforced(auth.Mode, t) == refused
	switch {
	case s.record.Verdict.WouldRefuse != would:
		line.Result = Contradicts
		line.Detail += map[bool]string{true: "; but its record does not say that it would be refused", false: "; but its record says that it would be refused"}[would]
	case would:
		line.Weak, line.Detail = true, line.Detail+"; only reported: it would be refused, and its record says so"
	}
}

// httpDecides reports whether TLS may let a client in that the endpoint's own policy refuses, since a route may not.
func (r *run) httpDecides() bool {
	for _, route := range r.Endpoint.Routes {
		if route.ClientAuth != nil {
			return true
		}
	}
	return false
}

// ownPath is a path under no route, or / where a route has that; empty where no request can be made.
func (r *run) ownPath() string {
	if !speaksHTTP1(r.Endpoint) {
		return ""
	}
	return "/"
}

func speaksHTTP1(e *termination.Endpoint) bool {
	for _, p := range e.ALPN {
		if p == "http/1.1" {
			return true
		}
	}
	return len(e.ALPN) == 0
}

// versions tries clients that know old versions of TLS alone. They come with the best that is here.
func (r *run) versions(ctx context.Context, auth termination.ClientAuth) {
	best, cert := TryNone, (*tls.Certificate)(nil)
	if auth.Mode != termination.ModeOff && expected(auth, TryNone) == refused {
		switch {
		case expected(auth, TryStranger) == letIn:
			best = TryStranger
		case r.issuer != nil:
			best = TryTrusted
		}
		if best != TryNone {
			cert, _ = r.certificate(best, auth)
		}
	}
	for _, old := range []struct {
		try     Try
		version uint16
	}{{TryTLS12, tls.VersionTLS12}, {TryTLS11, tls.VersionTLS11}} {
		a := attempt{endpoint: r.Endpoint, cert: cert, min: tls.VersionTLS10, max: old.version}
		taken := r.Endpoint.TLSPolicy().MinVersion <= old.version
		want := refused
		if taken {
			want = expected(auth, best)
		}
		line := Line{Try: old.try, Tried: words(old.try), Expected: string(want)}
		if want == refused && taken && r.httpDecides() {
			if a.path = r.ownPath(); a.path == "" {
				continue
			}
		}
		s := r.meet(ctx, &a, &line)
		r.compare(&line, s, want)
		byVersion := s.alert != nil && s.alert.Number == alertProtocolVersion
		switch {
		case s.verdict != refused || line.Result != Holds:
		case !taken && !byVersion:
			line.Result, line.Detail = Contradicts, line.Detail+"; its TLS version is not allowed, but that is not why it was refused"
		case taken && byVersion:
			line.Result, line.Detail = Contradicts, line.Detail+"; its TLS version is allowed, but was refused"
		case taken:
			line.Detail += ", for want of a certificate; its TLS version is taken"
		}
		line.Weak = line.Result == Holds && taken
		r.add(line)
	}
}

// routes tries those that refuse whoever has no certificate. What a route lets in is not tried: that would be a request
// to the service behind.
func (r *run) routes(ctx context.Context) {
	tried := 0
	for _, route := range r.Endpoint.Routes {
		if route.ClientAuth == nil || route.Path == "/" || tried == maxRoutes {
			continue
		}
		auth := r.Config.Effective(*route.ClientAuth)
		if expected(auth, TryRoute) != refused || !speaksHTTP1(r.Endpoint) {
			continue
		}
		tried++
		line := Line{Try: TryRoute, Tried: "No certificate, at " + path.Clean(route.Path), Expected: string(refused)}
		a := attempt{endpoint: r.Endpoint, path: strings.TrimSuffix(route.Path, "/")}
		r.compare(&line, r.meet(ctx, &a, &line), refused)
		r.add(line)
	}
}

// ErrBusy says that enough proofs are under way.
var ErrBusy = errors.New("other proofs are under way; try again when they have ended")
