package declared

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/store"
	"countersign/termination"
)

func (r *reader) endpoints(n ast.Node, d *store.Declared) {
	r.list(n, "endpoints", func(_ int, e ast.Node) {
		if endpoint, ok := r.endpoint(e); ok {
			d.Endpoints = append(d.Endpoints, endpoint)
		}
	})
	d.Certificates = append(d.Certificates, r.own...)
}

// nodes are the values of an object's keys, by the names that the validation gives to fields.
type nodes map[string]ast.Node

// noting remembers where the value of a key stands, and reads it.
func (at nodes) noting(key string, f field) field {
	return func(n ast.Node) { at[key] = n; f(n) }
}

// endpoint reads one endpoint. It is not ok when something in it is wrong; r.errors then says what.
func (r *reader) endpoint(n ast.Node) (termination.Endpoint, bool) {
	before := r.failed
	e := termination.Endpoint{
		Origin: termination.OriginFile, Enabled: true, TerminateAt: termination.AtEdge,
		Listen:     netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		ClientAuth: noClientAuth(),
	}
	at := nodes{}
	var routes ast.Node
	meant := r.mapping(n, "the endpoint", map[string]field{
		"name":             at.noting("name", func(n ast.Node) { r.text(n, &e.Name) }),
		"enabled":          at.noting("enabled", func(n ast.Node) { r.boolean(n, &e.Enabled) }),
		"url":              at.noting("url", func(n ast.Node) { r.url(n, &e) }),
		"aliases":          at.noting("aliases", func(n ast.Node) { r.serverNames(n, &e.Aliases) }),
		"listen":           at.noting("listen", func(n ast.Node) { r.listen(n, &e.Listen) }),
		"terminate_at":     at.noting("terminate_at", func(n ast.Node) { r.terminateAt(n, &e.TerminateAt) }),
		"certificates":     at.noting("certificates", func(n ast.Node) { r.texts(n, "certificates", &e.Certificates) }),
		"tls":              at.noting("tls", func(n ast.Node) { r.tlsPolicy(n, &e) }),
		"starttls":         at.noting("starttls", func(n ast.Node) { r.startTLS(n, &e.StartTLS) }),
		"proxy_protocol":   at.noting("proxy_protocol", func(n ast.Node) { r.proxyProtocol(n, &e.ProxyProtocol) }),
		"upstream":         at.noting("upstream", func(n ast.Node) { r.upstream(n, &e.Upstream) }),
		"upstream_tls":     at.noting("upstream_tls", func(ast.Node) {}),
		"upstream_policy":  at.noting("upstream_policy", func(ast.Node) {}),
		"client_auth":      at.noting("client_auth", func(n ast.Node) { e.ClientAuth = r.clientAuth(n, at, "client_auth") }),
		"forward_identity": at.noting("forward_identity", func(n ast.Node) { r.forwardIdentity(n, &e) }),
		"also":             at.noting("also", func(n ast.Node) { e.Also = r.also(n, false) }),
		"verbose_refusals": at.noting("verbose_refusals", func(n ast.Node) { r.boolean(n, &e.VerboseRefusals) }),
		"routes":           at.noting("routes", func(n ast.Node) { routes = n }),
	}, later{"traffic_policy"})
	if meant == nil {
		return e, false
	}
	if !meant["url"] {
		r.fail(n, "the endpoint has no url", "give it one, as in url: https://api.example.com:8443")
	}
	if !meant["upstream"] && e.TerminateAt != termination.AtAgent { // the agent alone knows what is beside it
		r.fail(n, "the endpoint has no upstream", "name the service behind it, as in upstream: http://127.0.0.1:8080")
	}
	r.upstreamTLS(at["upstream_tls"], &e.Upstream, e.Name)
	r.upstreamPolicy(at["upstream_policy"], &e.Upstream.Policy)
	if routes != nil {
		e.Routes = r.routes(routes, at, e.Name)
	}
	r.named("endpoint", n, at, e.Name, meant)
	return e, r.failed == before
}

// noClientAuth is the policy of an endpoint that does not say anything about clients.
func noClientAuth() termination.ClientAuth {
	return termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}
}

func (r *reader) url(n ast.Node, e *termination.Endpoint) {
	var s string
	if !r.text(n, &s) {
		return
	}
	var err error
	if e.Scheme, e.Host, e.Port, err = termination.ParseEndpointURL(s); err != nil {
		r.fail(n, err.Error(), "write it as in https://api.example.com:8443")
	}
}

func (r *reader) serverNames(n ast.Node, into *[]string) {
	r.list(n, "aliases", func(_ int, e ast.Node) {
		var s string
		if !r.text(e, &s) {
			return
		}
		name, err := termination.NormalizeName(s)
		if err != nil {
			r.fail(e, err.Error(), `write a server name, or "*." and one`)
			return
		}
		*into = append(*into, name)
	})
}

func (r *reader) listen(n ast.Node, into *netip.Addr) {
	var s string
	if !r.text(n, &s) {
		return
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil || a.Zone() != "" {
		r.fail(n, fmt.Sprintf("%q is no address of an interface", s), "use 127.0.0.1, 0.0.0.0 for all, or an address of this machine; the port stands in the url")
		return
	}
	*into = a.Unmap()
}

func (r *reader) terminateAt(n ast.Node, into *termination.TerminateAt) {
	var s string
	if !r.text(n, &s) {
		return
	}
	switch termination.TerminateAt(s) {
	case termination.AtEdge, termination.AtAgent, termination.AtUpstream:
		*into = termination.TerminateAt(s)
	default:
		r.fail(n, fmt.Sprintf("terminate_at: %q is unknown", s), "use edge, agent or upstream")
	}
}

func (r *reader) tlsPolicy(n ast.Node, e *termination.Endpoint) {
	version := func(into *uint16) field {
		return func(n ast.Node) {
			var s string
			if !r.text(n, &s) {
				return
			}
			switch s {
			case "1.2":
				*into = tls.VersionTLS12
			case "1.3":
				*into = tls.VersionTLS13
			default:
				r.fail(n, fmt.Sprintf("TLS version %q is not offered", s), `use "1.2" or "1.3"`)
			}
		}
	}
	r.mapping(n, "tls", map[string]field{
		"min_version": version(&e.MinVersion),
		"max_version": version(&e.MaxVersion),
		"preset": func(n ast.Node) {
			r.word(n, "preset", (*string)(&e.Preset), string(termination.PresetIntermediate), string(termination.PresetModern))
		},
		"suites": func(n ast.Node) { r.suites(n, &e.Suites) },
		"alpn":   func(n ast.Node) { r.texts(n, "alpn", &e.ALPN) },
	}, nil)
}

func (r *reader) suites(n ast.Node, into *[]uint16) {
	r.list(n, "suites", func(_ int, e ast.Node) {
		var s string
		if !r.text(e, &s) {
			return
		}
		id, err := termination.ParseSuite(s)
		if err != nil {
			r.fail(e, err.Error(), "name it as in ECDHE-ECDSA-AES128-GCM-SHA256")
			return
		}
		*into = append(*into, id)
	})
}

func (r *reader) startTLS(n ast.Node, into *termination.StartTLS) {
	var s string
	if !r.word(n, "starttls", &s, "none", string(termination.StartTLSPostgres)) {
		return
	}
	if s != "none" {
		*into = termination.StartTLS(s)
	}
}

// proxyProtocol reads the sources that send PROXY headers: addresses, or networks in CIDR notation.
func (r *reader) proxyProtocol(n ast.Node, into *[]netip.Prefix) {
	r.mapping(n, "proxy_protocol", map[string]field{"from": func(n ast.Node) {
		r.list(n, "from", func(_ int, e ast.Node) {
			var s string
			if !r.text(e, &s) {
				return
			}
			p, err := termination.ParsePrefix(s)
			if err != nil {
				r.fail(e, err.Error(), "write it as in 10.0.0.0/8 or 10.1.2.3")
				return
			}
			*into = append(*into, p)
		})
		if len(*into) == 0 {
			r.fail(n, "proxy_protocol names no source", "list the load balancers' addresses, or remove it")
		}
	}}, nil)
}

func (r *reader) upstream(n ast.Node, into *termination.Upstream) {
	var texts []string
	if v := r.resolve(n); v == nil {
		return
	} else if _, list := v.(*ast.SequenceNode); list {
		before := r.failed
		r.texts(n, "upstream", &texts)
		if r.failed > before {
			return
		}
	} else {
		var s string
		if !r.text(n, &s) {
			return
		}
		texts = []string{s}
	}
	u, err := termination.ParseUpstreams(texts)
	if err != nil {
		r.fail(n, err.Error(), "write it as in http://127.0.0.1:8080")
		return
	}
	*into = u
}

// upstreamPolicy reads how targets are chosen, watched and spoken to. n may be nil.
func (r *reader) upstreamPolicy(n ast.Node, p *termination.UpstreamPolicy) {
	if n == nil {
		return
	}
	r.mapping(n, "upstream_policy", map[string]field{
		"balance": func(n ast.Node) {
			r.word(n, "balance", (*string)(&p.Balance), string(termination.BalanceRoundRobin), string(termination.BalanceLeastConnections))
		},
		"health":           func(n ast.Node) { r.text(n, &p.Health) },
		"health_interval":  func(n ast.Node) { r.duration(n, time.Second, time.Hour, &p.HealthInterval) },
		"connect_timeout":  func(n ast.Node) { r.duration(n, 100*time.Millisecond, time.Minute, &p.ConnectTimeout) },
		"response_timeout": func(n ast.Node) { r.duration(n, 100*time.Millisecond, day, &p.ResponseTimeout) },
		"host": func(n ast.Node) {
			r.word(n, "host", (*string)(&p.Host), string(termination.HostClient), string(termination.HostUpstream))
		},
		"proxy_protocol": func(n ast.Node) {
			var s string
			if r.word(n, "proxy_protocol", &s, "none", string(termination.ProxyProtocolV1), string(termination.ProxyProtocolV2)) && s != "none" {
				p.ProxyProtocol = termination.ProxyProtocol(s)
			}
		},
	}, nil)
}

// upstreamTLS reads how an upstream, which was read before, is verified, and who we are to it. n may be nil. A certificate
// that is given by its files is kept under a name made of owner, which names the endpoint, or the endpoint and the route.
func (r *reader) upstreamTLS(n ast.Node, u *termination.Upstream, owner string) {
	if n == nil {
		return
	}
	if u.Scheme != "" && u.Scheme != termination.UpstreamHTTPS && u.Scheme != termination.UpstreamTLS {
		r.fail(n, fmt.Sprintf("upstream_tls does nothing for %s", u), "use an https:// or tls:// upstream, or remove it")
	}
	before := r.failed
	var cert, key, password *namedFile
	meant := r.mapping(n, "upstream_tls", map[string]field{
		"ca_file":     func(n ast.Node) { u.TLS.Roots = r.roots(n) },
		"server_name": func(n ast.Node) { r.serverName(n, &u.TLS.ServerName) },
		"certificate": func(n ast.Node) { r.text(n, &u.TLS.Certificate) },
		"cert_file":   func(n ast.Node) { cert = r.readNamed(n) },
		"key_file":    func(n ast.Node) { key = r.readNamed(n) },
		"key_password_file": func(n ast.Node) {
			password = r.readNamed(n)
		},
	}, nil)
	switch {
	case r.failed > before:
	case meant["certificate"] && (meant["cert_file"] || meant["key_file"]):
		r.fail(n, "certificate and cert_file both say who we are to the upstream", "keep one of them")
	case meant["key_file"] && !meant["cert_file"]:
		r.fail(n, "there is a key_file without a cert_file", "give the certificate too")
	case cert != nil:
		name := "upstream of " + owner
		if err := termination.CheckName(name); err != nil {
			r.fail(n, fmt.Sprintf("there is no name to keep the certificate under: %v", err), "declare it under certificates, and name it here: certificate: NAME")
			return
		}
		if c, ok := r.keyPair(name, cert, key, password); ok {
			r.own = append(r.own, c)
			u.TLS.Certificate = name
		}
	}
}

// serverName reads a name or an address that a certificate may be made for.
func (r *reader) serverName(n ast.Node, into *string) {
	var s string
	if !r.text(n, &s) {
		return
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		*into = a.String()
		return
	}
	name, err := termination.NormalizeName(s)
	if err != nil || strings.ContainsAny(s, "*:") {
		r.fail(n, fmt.Sprintf("%q is no name of a server", s), "write the name that stands in the upstream's certificate, without a port")
		return
	}
	*into = name
}

func (r *reader) routes(n ast.Node, at nodes, endpoint string) []termination.Route {
	var out []termination.Route
	lines := map[string]int{}
	r.list(n, "routes", func(i int, e ast.Node) {
		var route termination.Route
		var upstreamTLS, upstreamPolicy ast.Node
		noting := func(key string, f field) field { return at.noting(routeField(i, key), f) }
		meant := r.mapping(e, "the route", map[string]field{
			"path": noting("path", func(n ast.Node) {
				r.path(n, &route.Path)
				if line := lines[route.Path]; line > 0 {
					r.fail(n, fmt.Sprintf("%q stands in line %d already", route.Path, line), "remove one of the two")
				} else if route.Path != "" {
					lines[route.Path] = placeOf(n).line
				}
			}),
			"upstream": noting("upstream", func(n ast.Node) {
				route.Upstream = &termination.Upstream{}
				r.upstream(n, route.Upstream)
			}),
			"upstream_tls":    func(n ast.Node) { upstreamTLS = n },
			"upstream_policy": func(n ast.Node) { upstreamPolicy = n },
			"strip_prefix":    noting("strip_prefix", func(n ast.Node) { r.boolean(n, &route.StripPrefix) }),
			"client_auth": noting("client_auth", func(n ast.Node) {
				a := r.clientAuth(n, at, routeField(i, "client_auth"))
				route.ClientAuth = &a
			}),
			"also": noting("also", func(n ast.Node) {
				a := r.also(n, true)
				route.Also = &a
			}),
		}, nil)
		if meant != nil && !meant["path"] {
			r.fail(e, "the route has no path", "give it one, as in path: /api")
		}
		switch {
		case route.Upstream != nil:
			r.upstreamTLS(upstreamTLS, route.Upstream, fmt.Sprintf("%s %d", endpoint, i+1))
			r.upstreamPolicy(upstreamPolicy, &route.Upstream.Policy)
		case upstreamTLS != nil:
			r.fail(upstreamTLS, "upstream_tls does nothing for a route without an upstream of its own", "move it beside the endpoint's upstream")
		case upstreamPolicy != nil:
			r.fail(upstreamPolicy, "upstream_policy does nothing for a route without an upstream of its own", "move it beside the endpoint's upstream")
		}
		out = append(out, route)
	})
	return out
}

func (r *reader) path(n ast.Node, into *string) {
	var s string
	if !r.text(n, &s) {
		return
	}
	if err := termination.CheckRoutePath(s); err != nil {
		r.fail(n, err.Error(), "write it as in /api")
		return
	}
	*into = s
}
