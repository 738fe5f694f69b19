package gateway

import (
	"crypto/x509"

	"countersign/termination"
	"countersign/termination/upstream"
)

// raw reports whether bytes are carried here from the endpoint to its upstream; HTTP has services of its own.
func (e *endpoint) raw() bool {
	switch e.TerminateAt {
	case termination.AtEdge:
		return e.Scheme == termination.SchemeTLS
	case termination.AtUpstream:
		return true
	default: // an agent connects to the service
		return false
	}
}

// useServices gives the endpoints of a table that is not in force yet their services. What did not change keeps its
// state.
func (g *Gateway) useServices(next *table) {
	var wanted []termination.Upstream
	for _, e := range next.byID {
		if e.raw() {
			wanted = append(wanted, e.Upstream)
		}
	}
	services := g.services.Use(wanted)
	for _, e := range next.byID {
		if e.raw() {
			e.service = services[upstream.KeyOf(e.Upstream)]
		}
	}
}

// dialUpstream opens a connection for this client's bytes, to the best target of its endpoint that takes one. The
// target counts it until release.
func (c *client) dialUpstream() (to end, release func(), result termination.UpstreamResult, err error) {
	rec := c.record
	verified := rec.Verdict.Outcome == termination.OutcomeVerified && !rec.Verdict.ReportOnly
	header := upstream.PROXYHeader(c.endpoint.Upstream.Policy.ProxyProtocol, rec, verified, c.presented())
	d, err := c.endpoint.service.Dial(c.gateway.stopped, header)
	if err != nil {
		return nil, nil, upstream.Result(c.endpoint.Upstream, err), err
	}
	return d.Conn.(end), d.Target.End, termination.UpstreamResult{Address: d.Target.Name(), Connect: d.Took}, nil
}

// presented is the certificate of ours that the client was shown; nil: none, or it is not known.
func (c *client) presented() *x509.Certificate {
	if c.session == nil || c.session.conn == nil {
		return nil
	}
	return c.session.conn.Presented()
}

// upstreams tells how the targets of an endpoint are doing, those of its routes included.
func (g *Gateway) upstreams(e *endpoint) (out []upstream.TargetStatus) {
	if e.raw() {
		return e.service.Status()
	}
	if e.TerminateAt != termination.AtEdge {
		return nil
	}
	seen := map[string]bool{}
	add := func(u termination.Upstream) {
		for _, s := range g.proxy.Upstreams(u) {
			if !seen[s.Target] {
				seen[s.Target] = true
				out = append(out, s)
			}
		}
	}
	add(e.Upstream)
	for _, r := range e.Routes {
		if r.Upstream != nil {
			add(*r.Upstream)
		}
	}
	return out
}
