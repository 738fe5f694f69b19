package termination

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// FieldError is one thing that is wrong with a configuration, and what to do about it.
type FieldError struct {
	Kind    string // "endpoint", "authority", "certificate", "defaults", "limits"
	Name    string // of the object
	Field   string // as in the configuration file, such as "client_auth.mode"
	Problem string // what is wrong
	Advice  string // what to do
}

// Error names the object, the field, the problem and the advice in one line.
func (e FieldError) Error() string {
	s := e.Kind
	if e.Name != "" {
		s += fmt.Sprintf(" %q", e.Name)
	}
	if e.Field != "" {
		s += ", " + e.Field
	}
	s += ": " + e.Problem
	if e.Advice != "" {
		s += "; " + e.Advice
	}
	return s
}

// ValidationError holds everything that is wrong with a configuration.
type ValidationError []FieldError

// Error lists all problems, a line each.
func (e ValidationError) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Validate refuses a configuration that could not be served exactly as it is written. The error is a [ValidationError].
func (c *Config) Validate() error {
	v := &validation{config: c}
	v.authorities()
	v.revocation()
	v.certificates()
	v.references("defaults", "", "client_auth", c.Defaults.Authorities)
	v.identities()
	v.sharedRules()
	v.blocks()
	v.endpoints()
	v.credentials()
	v.acme()
	v.commands()
	if len(v.errors) == 0 {
		return nil
	}
	return v.errors
}

type validation struct {
	config *Config
	errors ValidationError
}

func (v *validation) add(kind, name, field, problem, advice string) {
	v.errors = append(v.errors, FieldError{Kind: kind, Name: name, Field: field, Problem: problem, Advice: advice})
}

// CheckName refuses names of objects that could be confused with IDs, paths or options.
func CheckName(s string) error {
	if s == "" || len(s) > 64 {
		return fmt.Errorf("a name has 1 to 64 characters")
	}
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("-_. ", r)) {
			return fmt.Errorf("a name begins with a letter or digit and holds letters, digits, '-', '_', '.' and spaces; %q does not", s)
		}
	}
	if strings.HasSuffix(s, " ") {
		return fmt.Errorf("a name must not end with a space")
	}
	return nil
}

func (v *validation) name(kind, name string, seen map[string]bool) {
	if err := CheckName(name); err != nil {
		v.add(kind, name, "name", err.Error(), "choose another name")
	}
	if seen[name] {
		v.add(kind, name, "name", "is used twice", "give each "+kind+" a name of its own")
	}
	seen[name] = true
}

func (v *validation) authorities() {
	seen := map[string]bool{}
	for i := range v.config.Authorities {
		a := &v.config.Authorities[i]
		v.name("authority", a.Name, seen)
		if len(a.Anchors()) == 0 {
			v.add("authority", a.Name, "anchors", "no certificate in it is an anchor, so no chain could end here", "add a root, or set anchors: all")
		}
		v.takenBack(a)
		for _, cert := range a.Certificates {
			if !cert.Certificate.BasicConstraintsValid || !cert.Certificate.IsCA {
				v.add("authority", a.Name, "pem", fmt.Sprintf("%q is no CA certificate (basic constraints do not say CA:TRUE, RFC 5280, section 4.2.1.9)", cert.Certificate.Subject), "upload the certificate of the CA that signed it, or use it as a pin")
			}
		}
	}
}

func (v *validation) certificates() {
	seen := map[string]bool{}
	for i := range v.config.Certificates {
		c := &v.config.Certificates[i]
		v.name("certificate", c.Name, seen)
		if c.Name == CertificateLocal || c.Name == CertificateACME {
			v.add("certificate", c.Name, "name", "is reserved", "choose another name")
		}
		if len(c.Chain) == 0 || c.Key == nil {
			v.add("certificate", c.Name, "cert_file", "certificate or key is missing", "give both cert_file and key_file")
			continue
		}
		if !samePublicKey(c.Key.Public(), c.Leaf().PublicKey) {
			v.add("certificate", c.Name, "key_file", "the key does not belong to the certificate", "give the key that the certificate was made for")
		}
	}
}

func (v *validation) endpoints() {
	seen := map[string]bool{}
	owners := map[string]string{} // address and server name to endpoint
	for i := range v.config.Endpoints {
		e := &v.config.Endpoints[i]
		v.name("endpoint", e.Name, seen)
		v.address(e, owners)
		v.also(e)
		switch e.TerminateAt {
		case AtEdge:
			v.edge(e)
		case AtUpstream:
			v.passthrough(e)
		case AtAgent:
			v.agent(e)
		default:
			v.add("endpoint", e.Name, "terminate_at", fmt.Sprintf("%q is unknown", e.TerminateAt), "use edge, agent or upstream")
		}
	}
	v.agentListener()
	v.proxySources()
}

// address refuses two endpoints that claim one server name on one address; the laxer would win by chance.
func (v *validation) address(e *Endpoint, owners map[string]string) {
	if !e.Listen.IsValid() || e.Port == 0 {
		v.add("endpoint", e.Name, "listen", "an interface address and a port are needed", "use listen: 127.0.0.1 and a port in the url")
		return
	}
	names := e.ServerNames()
	if e.Fallback() {
		if len(e.Aliases) > 0 {
			v.add("endpoint", e.Name, "aliases", "a fallback endpoint answers every name already", "remove the aliases, or give the url a name")
		}
		names = []string{""}
	}
	own := map[string]bool{}
	for _, n := range names {
		if n != "" {
			norm, err := NormalizeName(n)
			if err != nil || norm != n {
				v.add("endpoint", e.Name, "aliases", fmt.Sprintf("%q is no normalised server name", n), "write it in lower case, without port")
				continue
			}
		}
		if own[n] {
			v.add("endpoint", e.Name, "aliases", fmt.Sprintf("%q is named twice", n), "remove one")
		}
		own[n] = true
		for _, key := range addressKeys(e.Address(), n) {
			if other, taken := owners[key]; taken && other != e.Name {
				what := fmt.Sprintf("the server name %q on port %d belongs to endpoint %q already", n, e.Port, other)
				if n == "" {
					what = fmt.Sprintf("port %d has the fallback endpoint %q already", e.Port, other)
				}
				v.add("endpoint", e.Name, "url", what, "use another name or port")
				break
			}
		}
		owners[ownerKey(e.Address(), n)] = e.Name
		if e.Listen.IsUnspecified() {
			owners[anyKey(e.Port, n)] = e.Name
		}
		if _, taken := owners[somewhereKey(e.Port, n)]; !taken {
			owners[somewhereKey(e.Port, n)] = e.Name
		}
	}
}

// addressKeys returns the keys under which a conflicting owner would be found: the same address, a listener on all
// interfaces, or, for one on all interfaces, any other listener on that port.
func addressKeys(a netip.AddrPort, name string) []string {
	if a.Addr().IsUnspecified() {
		return []string{somewhereKey(a.Port(), name)}
	}
	return []string{ownerKey(a, name), anyKey(a.Port(), name)}
}

func ownerKey(a netip.AddrPort, name string) string { return "at " + a.String() + " " + name }
func anyKey(port uint16, name string) string        { return fmt.Sprintf("all %d %s", port, name) }
func somewhereKey(port uint16, name string) string  { return fmt.Sprintf("port %d %s", port, name) }

func (v *validation) edge(e *Endpoint) {
	for _, name := range e.Certificates {
		switch {
		case name == CertificateLocal:
			if len(v.config.LocalCAs) == 0 {
				v.add("endpoint", e.Name, "certificates", "there is no local CA", "make one, or name an uploaded certificate")
			}
		case name == CertificateACME:
			v.byACME(e)
		case v.config.Certificate(name) == nil:
			v.add("endpoint", e.Name, "certificates", fmt.Sprintf("there is no certificate %q", name), "declare it under certificates, or use local")
		}
	}
	if len(e.Certificates) == 0 && len(v.config.LocalCAs) == 0 {
		v.add("endpoint", e.Name, "certificates", "it has no server certificate, and there is no local CA to issue one", "name a certificate")
	}
	v.opened(e)
}

// agent checks an endpoint whose TLS ends in an agent.
func (v *validation) agent(e *Endpoint) {
	if len(e.Certificates) > 0 {
		v.add("endpoint", e.Name, "certificates", "the agent holds the certificate and key; they have no business here", "remove them; give them to the agent with --crt and --key, or leave it to make its own")
	}
	if e.Fallback() {
		v.add("endpoint", e.Name, "url", "an agent answers for names", "give the url a name")
	}
	if !v.config.Agents.Listen.IsValid() {
		v.add("endpoint", e.Name, "terminate_at", "there is no address for agents to connect to", "set agents: {listen: 127.0.0.1:7444}")
	}
	// The agent has its own upstream; one that stands here is for people, and for the command that invites an agent.
	if e.Upstream.Scheme == UpstreamBuiltin {
		v.add("endpoint", e.Name, "upstream", fmt.Sprintf("the built-in %s runs in the gateway, not beside the agent", e.Upstream), "name the service as the agent reaches it, as in http://127.0.0.1:8080, or leave it to the agent's --upstream")
	}
	if e.Upstream.TLS.Client != nil {
		v.add("endpoint", e.Name, "upstream.client_certificate", "its key has no business here: the agent connects to the service", "remove it")
	}
	for _, r := range e.Routes {
		if r.Upstream != nil {
			v.add("endpoint", e.Name, "routes.upstream", "an agent connects to the one service that it was started with, and nowhere else", "remove the route's upstream, or terminate at the edge")
		}
	}
	v.opened(e)
}

// agentListener refuses endpoints on the address that agents connect to, which is open while an endpoint needs it.
func (v *validation) agentListener() {
	a := v.config.Agents.Listen
	needed := slices.ContainsFunc(v.config.Endpoints, func(e Endpoint) bool { return e.TerminateAt == AtAgent })
	if !needed || !a.IsValid() {
		return
	}
	for i := range v.config.Endpoints {
		e := &v.config.Endpoints[i]
		if e.Port == a.Port() && (e.Listen == a.Addr() || e.Listen.IsUnspecified() || a.Addr().IsUnspecified()) {
			v.add("endpoint", e.Name, "url", fmt.Sprintf("port %d is where agents connect", e.Port), "use another port here, or for agents: {listen: …}")
		}
	}
}

// opened checks what decides once TLS is opened by a Countersign, here or in an agent.
func (v *validation) opened(e *Endpoint) {
	v.tlsPolicy(e)
	v.upstream(e, "upstream", e.Upstream)
	v.clientAuth(e, "client_auth", e.ClientAuth)
	v.forwardIdentity(e)
	v.routes(e)
}

func (v *validation) clientAuth(e *Endpoint, field string, a ClientAuth) {
	if !a.Mode.Valid() {
		v.add("endpoint", e.Name, field+".mode", fmt.Sprintf("%q is unknown", a.Mode), "use off, request, require_any, optional or require")
	}
	switch a.OnLoss {
	case OnLossClose, OnLossDrain, OnLossLeave:
	default:
		v.add("endpoint", e.Name, field+".on_loss", fmt.Sprintf("%q is unknown", a.OnLoss), "use close, drain or leave")
	}
	if a.MaxDepth < 0 || a.MaxDepth > 10 {
		v.add("endpoint", e.Name, field+".max_depth", fmt.Sprintf("%d is out of range", a.MaxDepth), "use 1 to 10")
	}
	v.references("endpoint", e.Name, field+".authorities", a.Authorities)
	v.rules(e, field, a)
	v.hygiene(e, field, a.Hygiene)
	eff := v.config.Effective(a)
	if a.Mode.Verifies() && len(eff.Authorities) == 0 && len(eff.Pins) == 0 && !v.awaits(e.Name) {
		v.add("endpoint", e.Name, field+".mode", fmt.Sprintf("%s needs an authority or a pin, else nobody could enter", a.Mode), "choose an authority, or mode off")
	}
	if a.Mode == ModeOff && (len(a.Authorities) > 0 || len(a.Pins) > 0) {
		v.add("endpoint", e.Name, field+".mode", "off ignores the authorities and pins beside it", "choose require, or remove them")
	}
}

func (v *validation) references(kind, name, field string, authorities []string) {
	for _, a := range authorities {
		if v.config.Authority(a) == nil {
			v.add(kind, name, field, fmt.Sprintf("there is no authority %q", a), "upload it under Trust, or declare it under authorities")
		}
	}
}

func (v *validation) routes(e *Endpoint) {
	if len(e.Routes) > 0 && e.Scheme != SchemeHTTPS {
		v.add("endpoint", e.Name, "routes", "paths exist only in HTTP", "use an https:// url")
		return
	}
	seen := map[string]bool{}
	for _, r := range e.Routes {
		if err := CheckRoutePath(r.Path); err != nil {
			v.add("endpoint", e.Name, "routes.path", err.Error(), "write it as in /api")
		}
		if seen[r.Path] {
			v.add("endpoint", e.Name, "routes.path", fmt.Sprintf("%q stands there twice", r.Path), "remove one")
		}
		seen[r.Path] = true
		if r.ClientAuth != nil {
			v.clientAuth(e, "routes.client_auth", *r.ClientAuth)
		}
		if r.Upstream != nil {
			v.upstream(e, "routes.upstream", *r.Upstream)
		}
	}
}

// CheckRoutePath refuses a route's path that is not in its only, cleaned spelling.
func CheckRoutePath(p string) error {
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("path %q must begin with a slash", p)
	}
	if path.Clean(p) != p {
		return fmt.Errorf("path %q is not clean: no \"..\", no \"//\", no slash at the end", p)
	}
	if strings.ContainsAny(p, "%\\;?#") || !isPrintableASCII(p) {
		return fmt.Errorf("path %q must hold plain printable characters, without %% \\ ; ? #", p)
	}
	return nil
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func (v *validation) passthrough(e *Endpoint) {
	if e.Scheme != SchemeTLS {
		v.add("endpoint", e.Name, "url", "TLS that ends in the service is not HTTP for us", "use a tls:// url")
	}
	if e.ClientAuth.Mode != ModeOff || len(e.ClientAuth.Authorities) > 0 || len(e.ClientAuth.Pins) > 0 {
		v.add("endpoint", e.Name, "client_auth", "client policy needs TLS that ends at the edge or an agent: we cannot check what we do not open", "set terminate_at: edge or agent, or let the service check its clients")
	}
	if len(e.Certificates) > 0 {
		v.add("endpoint", e.Name, "certificates", "the service holds the certificate and key; they have no business here", "remove them, or set terminate_at: edge")
	}
	if len(e.Routes)+len(e.ForwardIdentity)+len(e.ForwardHeaders) > 0 {
		v.add("endpoint", e.Name, "routes", "paths and headers cannot be seen in sealed traffic", "remove routes and forward_identity")
	}
	v.passthroughTLS(e)
	v.sealedUpstream(e)
}
