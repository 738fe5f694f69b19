package declared

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"

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
}

// endpoint reads one endpoint. It is not ok when something in it is wrong; r.errors then says what.
func (r *reader) endpoint(n ast.Node) (termination.Endpoint, bool) {
	before := len(r.errors)
	e := termination.Endpoint{
		Origin: termination.OriginFile, Enabled: true, TerminateAt: termination.AtEdge,
		Listen:     netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		ClientAuth: noClientAuth(),
	}
	at := map[string]place{}
	noting := func(key string, f field) field {
		return func(n ast.Node) { at[key] = placeOf(n); f(n) }
	}
	hasURL := false
	var upstream, upstreamTLS ast.Node
	r.mapping(n, "the endpoint", map[string]field{
		"name":             noting("name", func(n ast.Node) { r.text(n, &e.Name) }),
		"enabled":          noting("enabled", func(n ast.Node) { r.boolean(n, &e.Enabled) }),
		"url":              noting("url", func(n ast.Node) { hasURL = true; r.url(n, &e) }),
		"aliases":          noting("aliases", func(n ast.Node) { r.aliases(n, &e.Aliases) }),
		"listen":           noting("listen", func(n ast.Node) { r.listen(n, &e.Listen) }),
		"terminate_at":     noting("terminate_at", func(n ast.Node) { r.terminateAt(n, &e.TerminateAt) }),
		"certificates":     noting("certificates", func(n ast.Node) { r.texts(n, "certificates", &e.Certificates) }),
		"tls":              noting("tls", func(n ast.Node) { r.versions(n, &e) }),
		"upstream":         noting("upstream", func(n ast.Node) { upstream = n }),
		"upstream_tls":     noting("upstream_tls", func(n ast.Node) { upstreamTLS = n }),
		"client_auth":      noting("client_auth", func(n ast.Node) { e.ClientAuth = r.clientAuth(n, at, "client_auth") }),
		"forward_identity": noting("forward_identity", func(n ast.Node) { r.forwardIdentity(n, &e.ForwardIdentity) }),
		"routes":           noting("routes", func(n ast.Node) { e.Routes = r.routes(n, at) }),
	}, later{"proxy_protocol", "starttls", "upstream_policy", "also", "traffic_policy"})
	if e.Name == "" {
		r.fail(n, "the endpoint has no name", "give it one, as in name: api")
	}
	if !hasURL {
		r.fail(n, "the endpoint has no url", "give it one, as in url: https://api.example.com:8443")
	}
	e.Upstream = r.upstream(n, upstream, upstreamTLS)
	r.places[placeKey("endpoint", e.Name, "")] = placeOf(n)
	for key, p := range at {
		r.places[placeKey("endpoint", e.Name, key)] = p
	}
	return e, len(r.errors) == before
}

// noClientAuth is the policy of an endpoint that does not say anything about clients.
func noClientAuth() termination.ClientAuth {
	return termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}
}

func (r *reader) url(n ast.Node, e *termination.Endpoint) {
	var s string
	before := len(r.errors)
	r.text(n, &s)
	if len(r.errors) > before {
		return
	}
	var err error
	if e.Scheme, e.Host, e.Port, err = termination.ParseEndpointURL(s); err != nil {
		r.fail(n, err.Error(), "write it as in https://api.example.com:8443")
	}
}

func (r *reader) aliases(n ast.Node, into *[]string) {
	r.list(n, "aliases", func(_ int, e ast.Node) {
		var s string
		before := len(r.errors)
		r.text(e, &s)
		if len(r.errors) > before {
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
	before := len(r.errors)
	r.text(n, &s)
	if len(r.errors) > before {
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
	r.text(n, &s)
	switch termination.TerminateAt(s) {
	case termination.AtEdge, termination.AtUpstream:
		*into = termination.TerminateAt(s)
	case "agent":
		r.fail(n, "terminate_at: agent is not in this version", "use edge or upstream")
	default:
		r.fail(n, fmt.Sprintf("terminate_at: %q is unknown", s), "use edge or upstream")
	}
}

func (r *reader) versions(n ast.Node, e *termination.Endpoint) {
	version := func(into *uint16) field {
		return func(n ast.Node) {
			var s string
			r.text(n, &s)
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
	r.mapping(n, "tls", map[string]field{"min_version": version(&e.MinVersion), "max_version": version(&e.MaxVersion)}, later{"preset", "suites"})
}

func (r *reader) upstream(endpoint, n, tlsNode ast.Node) termination.Upstream {
	if n == nil {
		r.fail(endpoint, "no upstream is given", "name the service behind, as in upstream: http://127.0.0.1:8080")
		return termination.Upstream{}
	}
	if _, list := r.resolve(n).(*ast.SequenceNode); list {
		r.fail(n, "several upstreams are not in this version", "name one")
		return termination.Upstream{}
	}
	var s string
	before := len(r.errors)
	r.text(n, &s)
	if len(r.errors) > before {
		return termination.Upstream{}
	}
	u, err := termination.ParseUpstream(s)
	if err != nil {
		r.fail(n, err.Error(), "write it as in http://127.0.0.1:8080")
		return u
	}
	if tlsNode != nil {
		r.upstreamTLS(tlsNode, &u)
	}
	return u
}

func (r *reader) upstreamTLS(n ast.Node, u *termination.Upstream) {
	if u.Scheme != termination.UpstreamHTTPS && u.Scheme != termination.UpstreamTLS {
		r.fail(n, fmt.Sprintf("upstream_tls does nothing for %s", u), "use an https:// or tls:// upstream, or remove it")
	}
	r.mapping(n, "upstream_tls", map[string]field{
		"ca_file":     func(n ast.Node) { u.TLS.Roots = r.roots(n) },
		"server_name": func(n ast.Node) { r.text(n, &u.TLS.ServerName) },
	}, later{"cert_file", "key_file"})
}

func (r *reader) clientAuth(n ast.Node, at map[string]place, prefix string) termination.ClientAuth {
	a := noClientAuth()
	a.Mode = ""
	noting := func(key string, f field) field {
		return func(n ast.Node) { at[prefix+"."+key] = placeOf(n); f(n) }
	}
	r.mapping(n, "client_auth", map[string]field{
		"mode": noting("mode", func(n ast.Node) {
			var s string
			if b, ok := r.resolve(n).(*ast.BoolNode); ok && !b.Value {
				s = "off" // YAML 1.1 reads the word off as false
			} else {
				r.text(n, &s)
			}
			if a.Mode = termination.Mode(s); !a.Mode.Valid() {
				r.fail(n, fmt.Sprintf("mode %q is unknown", s), "use off, request, require_any, optional or require")
			}
		}),
		"authorities": noting("authorities", func(n ast.Node) { r.texts(n, "authorities", &a.Authorities) }),
		"pins":        noting("pins", func(n ast.Node) { r.pins(n, &a.Pins) }),
		"inherit":     noting("inherit", func(n ast.Node) { r.boolean(n, &a.Inherit) }),
		"max_depth":   noting("max_depth", func(n ast.Node) { r.integer(n, 1, 10, &a.MaxDepth) }),
		"announce":    noting("announce", func(n ast.Node) { r.boolean(n, &a.Announce) }),
		"on_loss": noting("on_loss", func(n ast.Node) {
			var s string
			r.text(n, &s)
			a.OnLoss = termination.OnLoss(s)
		}),
	}, later{"rules", "when", "hygiene", "report_only", "soft"})
	if a.Mode == "" {
		a.Mode = termination.ModeOff
		if len(a.Authorities) > 0 || len(a.Pins) > 0 {
			a.Mode = termination.ModeRequire // whoever chooses a CA means that it counts
		}
	}
	return a
}

func (r *reader) forwardIdentity(n ast.Node, into *[]termination.IdentityFormat) {
	if _, isMap := pairsOf(r.resolve(n)); isMap {
		r.fail(n, "a map of headers is not in this version", "use [nginx]")
		return
	}
	r.list(n, "forward_identity", func(_ int, e ast.Node) {
		var s string
		r.text(e, &s)
		switch s {
		case string(termination.IdentityNginx):
			*into = append(*into, termination.IdentityNginx)
		case "xfcc", "rfc9440", "traefik", "alb":
			r.fail(e, fmt.Sprintf("%q is not in this version", s), "use nginx")
		default:
			r.fail(e, fmt.Sprintf("%q is unknown", s), "use nginx")
		}
	})
}

func (r *reader) routes(n ast.Node, at map[string]place) []termination.Route {
	var out []termination.Route
	r.list(n, "routes", func(_ int, e ast.Node) {
		var route termination.Route
		var upstream, upstreamTLS ast.Node
		r.mapping(e, "the route", map[string]field{
			"path":         func(n ast.Node) { r.text(n, &route.Path) },
			"upstream":     func(n ast.Node) { upstream = n },
			"upstream_tls": func(n ast.Node) { upstreamTLS = n },
			"client_auth": func(n ast.Node) {
				a := r.clientAuth(n, at, "routes.client_auth")
				route.ClientAuth = &a
			},
		}, later{"strip_prefix", "host"})
		if route.Path == "" {
			r.fail(e, "the route has no path", "give it one, as in path: /api")
		} else if err := termination.CheckRoutePath(route.Path); err != nil {
			r.fail(e, err.Error(), "write it as in /api")
		}
		if upstream != nil {
			u := r.upstream(e, upstream, upstreamTLS)
			route.Upstream = &u
		}
		out = append(out, route)
	})
	return out
}
