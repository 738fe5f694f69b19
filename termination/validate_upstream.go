package termination

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of what an upstream's policy may say.
const (
	minInterval     = time.Second
	maxInterval     = time.Hour
	minTimeout      = 100 * time.Millisecond
	maxConnect      = time.Minute
	maxResponse     = 24 * time.Hour
	maxHealthPath   = 1000 // bytes
	maxProxySources = 100
)

// upstreamCheck collects what is wrong with one upstream.
type upstreamCheck struct {
	v     *validation
	e     *Endpoint
	field string // "upstream" or "routes.upstream"
	u     Upstream
}

func (c *upstreamCheck) say(field, problem, advice string) {
	c.v.add("endpoint", c.e.Name, field, problem, advice)
}

// upstream checks a service to which a Countersign speaks after it has opened TLS.
func (v *validation) upstream(e *Endpoint, field string, u Upstream) {
	c := &upstreamCheck{v: v, e: e, field: field, u: u}
	switch {
	case u.Scheme == "" && e.TerminateAt == AtAgent:
		return
	case u.Scheme == "" || u.Address == "":
		c.say(field, "is missing", "name the service behind, as in http://127.0.0.1:8080")
		return
	case e.Scheme == SchemeHTTPS && !u.HTTP():
		c.say(field, fmt.Sprintf("%s cannot carry HTTP requests", u), "use http://, https:// or h2c://, or a tls:// url in front")
	case u.Scheme == UpstreamBuiltin && e.Scheme != SchemeHTTPS:
		c.say(field, fmt.Sprintf("the built-in %s speaks HTTP", u), "use an https:// url")
	case u.Scheme == UpstreamH2C && e.Scheme == SchemeTLS:
		c.say(field, "h2c needs an https endpoint", "use tcp://")
	}
	c.targets()
	c.policy()
	c.secrets()
}

// sealedUpstream checks the service to which sealed bytes go.
func (v *validation) sealedUpstream(e *Endpoint) {
	c := &upstreamCheck{v: v, e: e, field: "upstream", u: e.Upstream}
	switch e.Upstream.Scheme {
	case UpstreamTCP, UpstreamUnix:
	case UpstreamTLS:
		c.say("upstream", "tls:// would put TLS into TLS", "use tcp://host:port")
		return
	default:
		c.say("upstream", "sealed bytes go to an address as they are", "use tcp://host:port or unix:/path")
		return
	}
	c.targets()
	c.policy()
	c.secrets()
}

// targets checks the addresses.
func (c *upstreamCheck) targets() {
	if c.u.Scheme == UpstreamBuiltin {
		if len(c.u.More) > 0 {
			c.say(c.field, "a built-in upstream stands alone", "name either "+c.u.Address+" or addresses")
		}
		return
	}
	all := c.u.Targets()
	if len(all) > maxTargets {
		c.say(c.field, fmt.Sprintf("%d targets are too many", len(all)), fmt.Sprintf("name %d at most", maxTargets))
		return
	}
	seen := map[string]bool{}
	for _, a := range all {
		if seen[a] {
			c.say(c.field, fmt.Sprintf("the target %s stands there twice", c.u.target(a)), "remove one")
		}
		seen[a] = true
		if err := checkTarget(c.u.Scheme, a); err != nil {
			c.say(c.field, err.Error(), "write it as in http://127.0.0.1:8080 or unix:/run/app.sock")
		}
	}
}

func checkTarget(scheme UpstreamScheme, address string) error {
	if scheme == UpstreamUnix {
		_, err := parseUnix(address)
		return err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("the target %q is no host and port", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("the target %q: port must be between 1 and 65535", address)
	}
	return nil
}

// policy checks how targets are chosen, watched and spoken to.
func (c *upstreamCheck) policy() {
	p, field := c.u.Policy, c.field+"_policy"
	http := c.e.Scheme == SchemeHTTPS && c.u.HTTP()
	if c.u.Scheme == UpstreamBuiltin && (p.Health != "" || p.ProxyProtocol != ProxyProtocolNone) {
		c.say(field, fmt.Sprintf("the built-in %s needs no check and no PROXY header", c.u.Address), "remove health and proxy_protocol")
		return
	}
	switch p.Balance {
	case "", BalanceRoundRobin, BalanceLeastConnections:
	default:
		c.say(field+".balance", fmt.Sprintf("%q is unknown", p.Balance), "use round_robin or least_connections")
	}
	switch p.ProxyProtocol {
	case ProxyProtocolNone, ProxyProtocolV1, ProxyProtocolV2:
	default:
		c.say(field+".proxy_protocol", fmt.Sprintf("%q is unknown", p.ProxyProtocol), "use v1, v2 or none")
	}
	switch p.Host {
	case "", HostClient, HostUpstream:
	default:
		c.say(field+".host", fmt.Sprintf("%q is unknown", p.Host), "use client or upstream")
	}
	if !http && p.Host == HostUpstream {
		c.say(field+".host", "only HTTP has a Host", "remove it, or use an https:// url")
	}
	if !http && p.ResponseTimeout != 0 {
		c.say(field+".response_timeout", "only HTTP has responses", "remove it, or use an https:// url")
	}
	c.health(field+".health", http)
	c.span(field+".health_interval", p.HealthInterval, minInterval, maxInterval)
	c.span(field+".connect_timeout", p.ConnectTimeout, minTimeout, maxConnect)
	c.span(field+".response_timeout", p.ResponseTimeout, minTimeout, maxResponse)
}

func (c *upstreamCheck) health(field string, http bool) {
	h := c.u.Policy.Health
	switch {
	case h == "" || h == "tcp":
	case !strings.HasPrefix(h, "/") || strings.Contains(h, "#") || !isPrintableASCII(h) || len(h) > maxHealthPath:
		c.say(field, fmt.Sprintf("%.100q is neither a path nor tcp", h), "write it as in /healthz, or tcp")
	case !http:
		c.say(field, "a path is asked for over HTTP, which this upstream is not known to speak", "use health: tcp")
	}
}

// span checks a duration, 0 of which means the default.
func (c *upstreamCheck) span(field string, d, least, most time.Duration) {
	if d != 0 && (d < least || d > most) {
		c.say(field, fmt.Sprintf("%s is out of range", d), fmt.Sprintf("use %s to %s", least, most))
	}
}

// secrets checks what is shown to the upstream.
func (c *upstreamCheck) secrets() {
	own := c.u.TLS.Client
	if own == nil {
		return
	}
	field := c.field + "_tls.client_certificate"
	switch {
	case c.u.Scheme != UpstreamHTTPS && c.u.Scheme != UpstreamTLS:
		c.say(field, fmt.Sprintf("is shown in TLS only, and %s has none", c.u), "use https:// or tls://, or remove it")
	case len(own.Chain) == 0 || own.Key == nil:
		c.say(field, "certificate or key is missing", "give both")
	case !samePublicKey(own.Key.Public(), own.Chain[0].PublicKey):
		c.say(field, "the key does not belong to the certificate", "give the key that the certificate was made for")
	}
}

// proxySources checks who sends PROXY headers. Such a header comes before the name of the endpoint that it is for, so
// endpoints that share an address must agree.
func (v *validation) proxySources() {
	firsts := map[uint16][]*Endpoint{} // of each port, one endpoint for each interface
	for i := range v.config.Endpoints {
		e := &v.config.Endpoints[i]
		if len(e.ProxyProtocol) > maxProxySources {
			v.add("endpoint", e.Name, "proxy_protocol", fmt.Sprintf("%d networks are too many", len(e.ProxyProtocol)), fmt.Sprintf("name %d at most", maxProxySources))
		}
		for _, p := range e.ProxyProtocol {
			if !p.IsValid() || p != p.Masked() {
				v.add("endpoint", e.Name, "proxy_protocol", fmt.Sprintf("%q is no network", p), "write it as in 10.0.0.0/8")
			}
		}
		known := false
		for _, other := range firsts[e.Port] {
			known = known || other.Listen == e.Listen
			if sharesListener(e, other) && !sameNetworks(e.ProxyProtocol, other.ProxyProtocol) {
				v.add("endpoint", e.Name, "proxy_protocol", fmt.Sprintf("differs from that of endpoint %q on the same address; a PROXY header comes before the server name, so they cannot differ", other.Name),
					"write the same networks at both, or use another port")
				break
			}
		}
		if !known {
			firsts[e.Port] = append(firsts[e.Port], e)
		}
	}
}

func sharesListener(a, b *Endpoint) bool {
	return a.Listen == b.Listen || a.Listen.IsUnspecified() || b.Listen.IsUnspecified()
}

func sameNetworks(a, b []netip.Prefix) bool { return subset(a, b) && subset(b, a) }

func subset(a, b []netip.Prefix) bool {
	for _, p := range a {
		if !slices.Contains(b, p) {
			return false
		}
	}
	return true
}
