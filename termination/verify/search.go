package verify

import (
	"crypto/x509"
	"slices"
	"time"

	"countersign/termination"
)

// Search is everything that the gateway knows, laid out to explain refusals: all authorities, all intermediates, all
// endpoints. It is immutable and safe for concurrent use. Nothing that it finds changes a decision.
type Search struct {
	cfg    *termination.Config
	known  []knownCA
	users  map[string][]string  // authority to the endpoints that trust it
	rules  map[string][]*Policy // endpoint to its policy and those of its routes, where they ask for a certificate
	all    issuers              // a chain may end at any anchor
	others []*x509.Certificate  // everything that could stand between a leaf and an anchor

	identities *Identities
	seen       *Seen // nil: nothing is remembered
}

// WithSeen returns a search that also goes by what clients have sent lately.
func (s *Search) WithSeen(seen *Seen) *Search {
	with := *s
	with.seen = seen
	return &with
}

// knownCA is a CA certificate and the place where it is kept.
type knownCA struct {
	certificate *x509.Certificate
	authority   string // empty: it only stands in the chain of a server certificate
	anchor      bool
}

// NewSearch prepares the explanations for what happens under cfg.
func NewSearch(cfg *termination.Config) *Search {
	s := &Search{cfg: cfg, users: map[string][]string{}, rules: map[string][]*Policy{}}
	var anchors []*x509.Certificate
	for i := range cfg.Authorities {
		a := &cfg.Authorities[i]
		for _, c := range a.Certificates {
			if c.Certificate == nil || len(c.Certificate.Raw) == 0 {
				continue
			}
			anchor := c.Role == termination.RoleAnchor
			s.known = append(s.known, knownCA{c.Certificate, a.Name, anchor})
			if anchor {
				anchors = append(anchors, c.Certificate)
			}
		}
	}
	for i := range cfg.Certificates {
		for j, c := range cfg.Certificates[i].Chain {
			if j > 0 && c != nil {
				s.known = append(s.known, knownCA{certificate: c})
			}
		}
	}
	for _, k := range s.known {
		s.others = append(s.others, k.certificate)
	}
	s.all = newIssuers(anchors, s.others)
	s.identities = NewIdentities(cfg)
	for i := range cfg.Endpoints {
		e := &cfg.Endpoints[i]
		s.trust(e, Scope{Endpoint: e.Name, Identities: s.identities})
	}
	return s
}

// trust notes what an endpoint and its routes trust.
func (s *Search) trust(e *termination.Endpoint, scope Scope) {
	for _, auth := range clientAuths(e) {
		if !auth.Mode.Asks() {
			continue
		}
		for _, name := range s.cfg.Effective(auth).Authorities {
			if !slices.Contains(s.users[name], e.Name) {
				s.users[name] = append(s.users[name], e.Name)
			}
		}
		// One that cannot be compiled stops its endpoint, and that needs no policy to be explained.
		if p, err := Compile(s.cfg, auth, scope); err == nil {
			s.rules[e.Name] = append(s.rules[e.Name], p)
		}
	}
}

func clientAuths(e *termination.Endpoint) []termination.ClientAuth {
	auths := []termination.ClientAuth{e.ClientAuth}
	for _, r := range e.Routes {
		if r.ClientAuth != nil {
			auths = append(auths, *r.ClientAuth)
		}
	}
	return auths
}

// everything is what is known anywhere, and what was seen besides.
func (s *Search) everything(seen []*x509.Certificate) issuers {
	var anchors []*x509.Certificate
	for _, k := range s.known {
		if k.anchor {
			anchors = append(anchors, k.certificate)
		}
	}
	return newIssuers(anchors, append(slices.Clone(s.others), seen...))
}

// kept returns the authorities in which a certificate is kept.
func (s *Search) kept(c *x509.Certificate) []string {
	var names []string
	for _, k := range s.known {
		if k.authority != "" && k.certificate.Equal(c) && !slices.Contains(names, k.authority) {
			names = append(names, k.authority)
		}
	}
	return names
}

// anchorOf returns the authorities in which a certificate may end a chain.
func (s *Search) anchorOf(c *x509.Certificate) []string {
	var names []string
	for _, k := range s.known {
		if k.anchor && k.certificate.Equal(c) && !slices.Contains(names, k.authority) {
			names = append(names, k.authority)
		}
	}
	return names
}

// named returns a known CA certificate with this subject, anchors before others.
func (s *Search) named(subject []byte) (knownCA, bool) {
	var other knownCA
	key := nameKey(subject)
	for _, k := range s.known {
		if nameKey(k.certificate.RawSubject) != key || len(subject) <= 2 { // an empty name names nobody
			continue
		}
		if k.anchor {
			return k, true
		}
		if other.certificate == nil {
			other = k
		}
	}
	return other, other.certificate != nil
}

// renewal returns a known certificate of the same CA, name and key, that is valid at the time now.
func (s *Search) renewal(old *x509.Certificate, now time.Time) (knownCA, bool) {
	for _, k := range s.known {
		c := k.certificate
		if string(c.RawSubject) == string(old.RawSubject) && string(c.RawSubjectPublicKeyInfo) == string(old.RawSubjectPublicKeyInfo) &&
			!now.Before(c.NotBefore) && !now.After(c.NotAfter) {
			return k, true
		}
	}
	return knownCA{}, false
}

// endpoint finds the endpoint of a handshake, by its ID and else by its name.
func (s *Search) endpoint(h *termination.Handshake) *termination.Endpoint {
	for i := range s.cfg.Endpoints {
		if h.EndpointID != "" && s.cfg.Endpoints[i].ID == h.EndpointID {
			return &s.cfg.Endpoints[i]
		}
	}
	if h.Endpoint == "" {
		return nil
	}
	return s.cfg.Endpoint(h.Endpoint)
}

// policy finds the policy that a handshake was judged under: the one with its hash, else the endpoint's own. It is nil
// where there is none.
func (s *Search) policy(e *termination.Endpoint, hash string) *Policy {
	if e == nil || len(s.rules[e.Name]) == 0 {
		return nil
	}
	for _, p := range s.rules[e.Name] {
		if p.hash == hash {
			return p
		}
	}
	return s.rules[e.Name][0]
}

// neighbours returns the enabled endpoints on the port that a handshake came to.
func (s *Search) neighbours(h *termination.Handshake) []*termination.Endpoint {
	var out []*termination.Endpoint
	for i := range s.cfg.Endpoints {
		e := &s.cfg.Endpoints[i]
		if e.Enabled && e.Port == h.Local.Port() {
			out = append(out, e)
		}
	}
	return out
}

// localCA returns the local CA that the policy of an endpoint trusts, or nil.
func (s *Search) localCA(e *termination.Endpoint) *termination.LocalCA {
	if e == nil {
		return nil
	}
	trusted := map[string]bool{}
	for _, auth := range clientAuths(e) {
		for _, name := range s.cfg.Effective(auth).Authorities {
			trusted[name] = true
		}
	}
	for i := range s.cfg.LocalCAs {
		if trusted[s.cfg.LocalCAs[i].Name] {
			return &s.cfg.LocalCAs[i]
		}
	}
	return nil
}
