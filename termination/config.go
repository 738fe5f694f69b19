package termination

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is the complete wanted configuration. The gateway takes it as a whole or not at all; it is never changed
// after it was handed over.
type Config struct {
	Revision     uint64
	Node         string // identifies the gateway that records a handshake
	Authorities  []Authority
	Certificates []Certificate
	LocalCAs     []LocalCA // able to issue server certificates; the first that may sign a name does
	Defaults     Defaults
	Identities   []Identity
	Blocked      []Block
	Credentials  []Credential
	Endpoints    []Endpoint
	Limits       Limits
	Agents       Agents
	ACME         ACME
}

// Agents says how agents reach the gateway, and how long one may serve without hearing from it.
type Agents struct {
	Listen      netip.AddrPort // opened only while an endpoint terminates at an agent; zero: no agent can connect
	StalePolicy time.Duration  // an agent whose policy is older closes; 0: DefaultStalePolicy
	// Hosts are more names and addresses of the listener that an invitation may carry.
	Hosts []string
	// CA signs the certificates of agents, and of the listener; where there is none, no agent can connect. Its pin is
	// in every invitation, so it is made once and kept: see localca.CreateAgentCA.
	CA *AgentCA
}

// DefaultAgents returns the settings of a gateway without an agents section.
func DefaultAgents() Agents {
	return Agents{Listen: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 7444), StalePolicy: DefaultStalePolicy}
}

// Stale returns StalePolicy or its default.
func (a Agents) Stale() time.Duration {
	if a.StalePolicy == 0 {
		return DefaultStalePolicy
	}
	return a.StalePolicy
}

// DefaultStalePolicy is how long an agent trusts the policy that it heard last.
const DefaultStalePolicy = time.Minute

// ACME says where certificates named "acme" come from (RFC 8555).
type ACME struct {
	Directory string              // URL of the CA's directory; empty: ACME is off
	Email     string              // contact of the account; may be empty
	Roots     []*x509.Certificate // that the directory's own certificate is checked against; empty: the system's
	HTTP      netip.AddrPort      // listener that answers HTTP-01 challenges (section 8.3); zero: TLS-ALPN-01 alone
	DNS       ACMEDNS
}

// ACMEDNS names the DNS provider for DNS-01 challenges (RFC 8555, section 8.4), which wildcards need.
type ACMEDNS struct {
	Provider string            // empty: none
	Settings map[string]string // as the provider calls them; secrets among them are sealed in the store
}

// Defaults are trusted by every endpoint that verifies, unless it says Inherit: false.
type Defaults struct {
	Authorities []string
	Pins        []Pin
	Rules       []Rule // looked at before those of an endpoint; a client that none of them matches goes on to those
}

// Authority returns the authority of that name, or nil.
func (c *Config) Authority(name string) *Authority {
	for i := range c.Authorities {
		if c.Authorities[i].Name == name {
			return &c.Authorities[i]
		}
	}
	return nil
}

// Certificate returns the server certificate of that name, or nil.
func (c *Config) Certificate(name string) *Certificate {
	for i := range c.Certificates {
		if c.Certificates[i].Name == name {
			return &c.Certificates[i]
		}
	}
	return nil
}

// CertificatesFor returns the names of the certificates, kept with their keys, that cover one of an endpoint's server
// names, whether the endpoint uses them or not.
func (c *Config) CertificatesFor(e *Endpoint) []string {
	var out []string
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		if cert.Key == nil || len(cert.Chain) == 0 {
			continue
		}
		for _, name := range e.ServerNames() {
			wildcard := strings.HasPrefix(name, "*.") && slices.Contains(cert.Leaf().DNSNames, name)
			if wildcard || cert.Leaf().VerifyHostname(name) == nil {
				out = append(out, cert.Name)
				break
			}
		}
	}
	return out
}

// Identity returns the identity of that name, or nil.
func (c *Config) Identity(name string) *Identity {
	for i := range c.Identities {
		if c.Identities[i].Name == name {
			return &c.Identities[i]
		}
	}
	return nil
}

// Endpoint returns the endpoint of that name, or nil.
func (c *Config) Endpoint(name string) *Endpoint {
	for i := range c.Endpoints {
		if c.Endpoints[i].Name == name {
			return &c.Endpoints[i]
		}
	}
	return nil
}

// Effective returns a with the defaults' authorities and pins added where it inherits them. A policy that does not
// verify anything inherits nothing.
func (c *Config) Effective(a ClientAuth) ClientAuth {
	if !a.Inherit || a.Mode == ModeOff {
		return a
	}
	out := a
	out.Authorities = union(a.Authorities, c.Defaults.Authorities)
	out.Pins = union(a.Pins, c.Defaults.Pins)
	return out
}

func union[T comparable](a, b []T) []T {
	out := make([]T, 0, len(a)+len(b))
	seen := make(map[T]bool, len(a)+len(b))
	for _, list := range [][]T{a, b} {
		for _, v := range list {
			if !seen[v] {
				seen[v] = true
				out = append(out, v)
			}
		}
	}
	return out
}
