package tunnel

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign/termination"
)

// policyForm is the version of what stands in a policy. An agent refuses one that it does not know, and one with keys
// that it does not know: who may come in must not be half understood.
const policyForm = 1

// maxAuthorityCertificates bounds the certificates of one policy.
const maxAuthorityCertificates = 10000

// Policy is everything that an agent must know to serve its endpoint as the gateway would. No key is in it.
type Policy struct {
	Revision    uint64
	Node        string // the gateway
	Stale       time.Duration
	Endpoint    termination.Endpoint // as the gateway has it, without what is the gateway's or the agent's own business
	Authorities []termination.Authority
	Defaults    termination.Defaults
	Identities  []termination.Identity // without their certificates, which decide nothing
	Blocked     []termination.Block
	Credentials []termination.Credential
	Limits      termination.Limits
}

// PolicyOf takes out of a configuration what the agents of an endpoint must know.
func PolicyOf(config *termination.Config, e *termination.Endpoint) *Policy {
	p := &Policy{
		Revision: config.Revision, Node: config.Node, Stale: config.Agents.Stale(),
		Endpoint: *e, Defaults: config.Defaults, Limits: config.Limits,
	}
	own := &p.Endpoint
	own.TerminateAt = termination.AtEdge // for the agent, TLS ends here
	own.Certificates = nil               // it has its own
	own.Upstream = termination.Upstream{}
	own.ALPN = e.TLSPolicy().ALPN // which may follow from what is taken away next
	// The gateway has dealt with these before it read the ClientHello.
	own.ProxyProtocol, own.StartTLS = nil, termination.StartTLSNone
	needed := policyAuthorities(config, e)
	p.Identities = policyIdentities(config, e, needed)
	p.Blocked, p.Credentials = config.Blocked, policyCredentials(config, e)
	for i := range config.Authorities {
		if slices.Contains(needed, config.Authorities[i].Name) {
			p.Authorities = append(p.Authorities, config.Authorities[i])
		}
	}
	return p
}

// policyIdentities are all identities, since who may come in elsewhere may not come in here, with no more of each than
// decides at the endpoint.
func policyIdentities(config *termination.Config, e *termination.Endpoint, authorities []string) []termination.Identity {
	var out []termination.Identity
	for _, identity := range config.Identities {
		identity.Certificates, identity.Issuers = nil, nil
		var matches []termination.Subject
		for _, m := range identity.Matches {
			if slices.Contains(authorities, m.Authority) {
				matches = append(matches, m)
			}
		}
		identity.Matches = matches
		switch {
		case identity.Knows(e.Name):
			identity.Endpoints = []string{e.Name}
		case len(identity.Endpoints) > 0:
			identity.Endpoints = []string{termination.EndpointElsewhere}
		}
		out = append(out, identity)
	}
	return out
}

// policyCredentials are the credentials that can count at an endpoint: their hashes are nobody else's business.
func policyCredentials(config *termination.Config, e *termination.Endpoint) (out []termination.Credential) {
	demanded := func(k termination.ProofKind) bool {
		return e.Also.Names(k) || slices.ContainsFunc(e.Routes, func(r termination.Route) bool { return r.Also != nil && r.Also.Names(k) })
	}
	for _, c := range config.Credentials {
		if !demanded(c.Kind) || !c.CountsAt(e.Name) {
			continue
		}
		if len(c.Endpoints) > 0 {
			c.Endpoints = []string{e.Name}
		}
		out = append(out, c)
	}
	return out
}

// policyAuthorities are the names of the authorities that a policy of the endpoint or the defaults name.
func policyAuthorities(config *termination.Config, e *termination.Endpoint) []string {
	names := slices.Clone(config.Defaults.Authorities)
	names = append(names, e.ClientAuth.Authorities...)
	for _, r := range e.Routes {
		if r.ClientAuth != nil {
			names = append(names, r.ClientAuth.Authorities...)
		}
	}
	return names
}

// Config is the agent's configuration under this policy: one endpoint, with the agent's own upstream and certificate.
func (p *Policy) Config(upstream termination.Upstream, certificate termination.Certificate) *termination.Config {
	e := p.Endpoint
	e.Upstream = upstream
	e.Certificates = []string{certificate.Name}
	return &termination.Config{
		Revision: p.Revision, Node: p.Node, Authorities: p.Authorities, Defaults: p.Defaults, Limits: p.Limits,
		Identities: p.Identities, Blocked: p.Blocked, Credentials: p.Credentials,
		Certificates: []termination.Certificate{certificate}, Endpoints: []termination.Endpoint{e},
	}
}

// wirePolicy is a Policy on the wire: the words whole, so that what is added to them travels too.
type wirePolicy struct {
	Form        int                      `json:"form"`
	Revision    uint64                   `json:"revision"`
	Node        string                   `json:"node"`
	Stale       time.Duration            `json:"stale_ns"`
	Endpoint    termination.Endpoint     `json:"endpoint"`
	Authorities []wireAuthority          `json:"authorities"`
	Defaults    termination.Defaults     `json:"defaults"`
	Identities  []termination.Identity   `json:"identities,omitempty"`
	Blocked     []termination.Block      `json:"blocked,omitempty"`
	Credentials []termination.Credential `json:"credentials,omitempty"`
	Limits      termination.Limits       `json:"limits"`
}

// wireAuthority is an Authority whose certificates travel as DER; its own field hides the embedded one.
type wireAuthority struct {
	termination.Authority

	Certificates []wireCertificate
}

type wireCertificate struct {
	DER  []byte           `json:"der"`
	Role termination.Role `json:"role"`
}

// MarshalJSON implements json.Marshaler.
func (p *Policy) MarshalJSON() ([]byte, error) {
	w := wirePolicy{
		Form: policyForm, Revision: p.Revision, Node: p.Node, Stale: p.Stale,
		Endpoint: p.Endpoint, Defaults: p.Defaults, Limits: p.Limits,
		Identities: p.Identities, Blocked: p.Blocked, Credentials: p.Credentials,
	}
	for _, r := range p.Endpoint.Routes {
		if r.Upstream != nil {
			return nil, errors.New("a route of an agent's endpoint has an upstream of its own")
		}
	}
	for _, a := range p.Authorities {
		out := wireAuthority{Authority: a}
		out.Authority.Certificates = nil
		for _, c := range a.Certificates {
			out.Certificates = append(out.Certificates, wireCertificate{DER: c.Certificate.Raw, Role: c.Role})
		}
		w.Authorities = append(w.Authorities, out)
	}
	return json.Marshal(w)
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Policy) UnmarshalJSON(b []byte) error {
	var form struct {
		Form int `json:"form"`
	}
	if err := json.Unmarshal(b, &form); err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	if form.Form != policyForm {
		return fmt.Errorf("the gateway's policy has the form %d and this agent knows %d; run the same version of countersign on both sides", form.Form, policyForm)
	}
	var w wirePolicy
	if err := decode(b, &w); err != nil {
		return fmt.Errorf("the gateway's policy says what this agent does not understand; run the same version of countersign on both sides: %w", err)
	}
	*p = Policy{
		Revision: w.Revision, Node: w.Node, Stale: w.Stale, Endpoint: w.Endpoint, Defaults: w.Defaults, Limits: w.Limits,
		Identities: w.Identities, Blocked: w.Blocked, Credentials: w.Credentials,
	}
	n := 0
	for _, a := range w.Authorities {
		out := a.Authority
		out.Certificates = nil
		for _, c := range a.Certificates {
			if n++; n > maxAuthorityCertificates {
				return fmt.Errorf("the gateway's policy holds more than %d certificates", maxAuthorityCertificates)
			}
			cert, err := x509.ParseCertificate(c.DER)
			if err != nil {
				return fmt.Errorf("read a certificate of authority %q: %w", a.Name, err)
			}
			out.Certificates = append(out.Certificates, termination.CACertificate{Certificate: cert, Role: c.Role})
		}
		p.Authorities = append(p.Authorities, out)
	}
	return p.check()
}

// check refuses what no gateway of ours sends.
func (p *Policy) check() error {
	e := &p.Endpoint
	switch {
	case p.Revision == 0, p.Stale <= 0, e.ID == "", e.TerminateAt != termination.AtEdge, !e.Enabled:
		return errors.New("the gateway's policy is incomplete")
	case len(e.Certificates) > 0, e.Upstream.Scheme != "", e.Upstream.TLS.Client != nil, e.StartTLS != termination.StartTLSNone, len(e.ProxyProtocol) > 0:
		return errors.New("the gateway's policy says what is the agent's own business")
	}
	for _, r := range e.Routes {
		if r.Upstream != nil {
			return errors.New("the gateway's policy names an upstream, which is the agent's own business")
		}
	}
	if !e.Address().IsValid() {
		return errors.New("the gateway's policy names no address")
	}
	return nil
}
