package server

import (
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/localca"
)

// policyInput is a client policy as it stands in a form.
type policyInput struct {
	mode, pins, depth, onLoss string
	authorities               []string
	inherit, announce         bool
	checks                    checksInput
}

// routeInput is a route as it stands in a form.
type routeInput struct {
	path, mode, authorities, upstream, upstreamCA, upstreamName string
	inherit, strip                                              bool
}

// empty reports whether nothing was typed into the row.
func (r routeInput) empty() bool { return r == routeInput{inherit: r.inherit} }

// endpointInput is an endpoint as it stands in a form: what was typed, understood or not.
type endpointInput struct {
	name, scheme, host, port, at, upstream string
	aliases, listen                        string
	tls                                    tlsInput
	upstreamCA, upstreamName               string
	behind                                 behindInput
	certificates                           []string
	makeCA                                 bool
	also                                   alsoInput
	policy                                 policyInput
	routes                                 []routeInput
}

// maxRouteRows bounds the rows of routes of a form.
const maxRouteRows = 64

// newInput is the form of a new endpoint. No authority is chosen: nobody is trusted unless somebody says so.
func newInput() endpointInput {
	return endpointInput{
		scheme: string(termination.SchemeHTTPS), host: "app.localhost", port: defaultPort, at: string(termination.AtEdge), upstream: "http://127.0.0.1:3000",
		listen: "127.0.0.1",
		policy: policyInput{mode: string(termination.ModeRequire), onLoss: string(termination.OnLossClose), inherit: true, announce: true},
	}
}

// inputOf is the form of an endpoint that is there.
func inputOf(e *termination.Endpoint) endpointInput {
	in := endpointInput{
		name: e.Name, scheme: string(e.Scheme), host: e.Host, port: strconv.Itoa(int(e.Port)), at: string(e.TerminateAt), upstream: strings.Join(e.Upstream.Texts(), ", "),
		aliases: strings.Join(e.Aliases, "\n"), listen: e.Listen.String(), tls: tlsInputOf(e), behind: behindInputOf(e.Upstream),
		upstreamCA: string(localca.EncodePEM(e.Upstream.TLS.Roots...)), upstreamName: e.Upstream.TLS.ServerName, certificates: e.Certificates,
		also: alsoInputOf(e), policy: policyInputOf(e.ClientAuth),
	}
	for _, r := range e.Routes {
		row := routeInput{path: r.Path, inherit: true, strip: r.StripPrefix}
		if r.ClientAuth != nil {
			row.mode, row.authorities, row.inherit = string(r.ClientAuth.Mode), strings.Join(r.ClientAuth.Authorities, ", "), r.ClientAuth.Inherit
		}
		if r.Upstream != nil {
			row.upstream, row.upstreamName = strings.Join(r.Upstream.Texts(), ", "), r.Upstream.TLS.ServerName
			row.upstreamCA = string(localca.EncodePEM(r.Upstream.TLS.Roots...))
		}
		in.routes = append(in.routes, row)
	}
	return in
}

func policyInputOf(a termination.ClientAuth) policyInput {
	in := policyInput{mode: string(a.Mode), onLoss: string(a.OnLoss), authorities: a.Authorities, inherit: a.Inherit, announce: a.Announce, checks: checksInputOf(a)}
	if a.MaxDepth != 0 {
		in.depth = strconv.Itoa(a.MaxDepth)
	}
	pins := make([]string, len(a.Pins))
	for i, p := range a.Pins {
		pins[i] = p.String()
	}
	in.pins = strings.Join(pins, "\n")
	return in
}

// readInput reads the form of an endpoint.
func readInput(form url.Values) endpointInput {
	text := func(key string) string { return strings.TrimSpace(form.Get(key)) }
	in := endpointInput{
		name: text("name"), scheme: text("scheme"), host: text("host"), port: text("port"), at: text("at"), upstream: text("upstream"),
		aliases: text("aliases"), listen: text("listen"), tls: readTLSInput(form), behind: readBehindInput(form),
		upstreamCA: text("upstream_ca"), upstreamName: text("upstream_name"), certificates: form["certificates"],
		also: readAlsoInput(form), makeCA: form.Has("make_ca"), policy: readPolicyInput(form),
	}
	for i := range maxRouteRows {
		key := "route" + strconv.Itoa(i) + "_"
		if !form.Has(key + "path") {
			break
		}
		in.routes = append(in.routes, routeInput{
			path: text(key + "path"), mode: text(key + "mode"), authorities: text(key + "authorities"), upstream: text(key + "upstream"),
			upstreamCA: text(key + "upstream_ca"), upstreamName: text(key + "upstream_name"), inherit: form.Has(key + "inherit"),
			strip: form.Has(key + "strip"),
		})
	}
	return in
}

func readPolicyInput(form url.Values) policyInput {
	return policyInput{
		mode: form.Get("mode"), pins: strings.TrimSpace(form.Get("pins")), depth: strings.TrimSpace(form.Get("max_depth")), onLoss: form.Get("on_loss"),
		authorities: form["authorities"], inherit: form.Has("inherit"), announce: form.Has("announce"),
		checks: readChecksInput(form),
	}
}

// fieldProblems is what is wrong with a form, by field. Under "" stands what belongs to none.
type fieldProblems map[string][]string

func (p fieldProblems) add(field, problem string) { p[field] = append(p[field], problem) }

// of is what is wrong with one field, in one line.
func (p fieldProblems) of(field string) string { return strings.Join(p[field], "; ") }

// all is what is wrong with the whole form, in one line.
func (p fieldProblems) all() string {
	var lines []string
	for _, field := range slices.Sorted(maps.Keys(p)) {
		lines = append(lines, p.of(field))
	}
	return strings.Join(lines, "; ")
}

// formFields says at which field of the form an error of the validation stands.
var formFields = map[string]string{ //nolint:gochecknoglobals // a constant table
	"name": "name", "url": "host", "aliases": "aliases", "listen": "listen", "terminate_at": "at", "certificates": "certificates", "tls": "min_version", "tls.suites": "suites", "tls.alpn": "alpn", "tls.preset": "preset", "starttls": "starttls", "proxy_protocol": "proxy_from",
	"upstream_policy": "upstream_policy", "upstream_policy.health": "health", "upstream_policy.proxy_protocol": "upstream_proxy", "upstream_tls": "upstream_cert",
	"upstream": "upstream", "client_auth": "mode", "client_auth.mode": "mode", "client_auth.authorities": "authorities", "client_auth.pins": "pins",
	"client_auth.max_depth": "max_depth", "client_auth.on_loss": "on_loss", "forward_identity": "forward", "also": "also",
	"client_auth.rules": "rules", "client_auth.when": "when", "client_auth.hygiene": "hygiene", "client_auth.soft": "soft", "client_auth.report_only": "report_only",
}

// ruleNumber takes the number of a rule out of a field such as client_auth.rules[2], as people count.
func ruleNumber(field string) (bare, number string) {
	bare, rest, found := strings.Cut(field, ".rules[")
	i, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
	if !found || err != nil {
		return field, ""
	}
	return bare + ".rules", "rule " + strconv.Itoa(i+1)
}

// understood takes from an error what is wrong with single fields. It is false for errors of another kind, which the
// caller returns.
func (p fieldProblems) understood(err error, name string) bool {
	var invalid termination.ValidationError
	var taken store.NameTakenError
	switch {
	case errors.As(err, &taken) && taken.Kind == store.KindEndpoint:
		p.add("name", taken.Error())
	case errors.As(err, &invalid):
		for _, f := range invalid {
			text := f.Problem
			if f.Advice != "" {
				text += "; " + f.Advice
			}
			rule, number := ruleNumber(f.Field)
			if number != "" {
				text = number + ": " + text
			}
			field, known := formFields[rule]
			switch {
			case f.Kind != store.KindEndpoint || f.Name != name:
				p.add("", f.Error())
			case known:
				p.add(field, text)
			case strings.HasPrefix(f.Field, "routes"):
				p.add("routes", text)
			case strings.HasPrefix(f.Field, "forward_identity."):
				p.add("forward_headers", text)
			default:
				p.add("", f.Error())
			}
		}
	default:
		return false
	}
	return true
}

// endpoint puts what was typed into the words of the domain, over before, which is empty for a new endpoint. What is
// wrong with the whole, the validation of the change says later.
func (in *endpointInput) endpoint(before termination.Endpoint, wrong fieldProblems) termination.Endpoint {
	e := before
	e.Scheme, e.TerminateAt = termination.Scheme(in.scheme), termination.TerminateAt(in.at)
	if e.TerminateAt == termination.AtUpstream {
		e.Scheme = termination.SchemeTLS // what is not opened is any bytes to us
	}
	in.address(&e, wrong)
	e.Name = in.name
	if e.Name == "" {
		e.Name = nameOf(e.Host)
		in.name = e.Name
	}
	if e.Name == "new" {
		wrong.add("name", "this is the address of a page here; choose another name")
	}
	in.tls.into(&e, wrong)
	e.Certificates = kept(before.Certificates, in.certificates)
	in.also.into(&e, wrong)
	in.upstream = withScheme(in.upstream, &e)
	e.Upstream = termination.Upstream{}
	if in.upstream != "" || e.TerminateAt != termination.AtAgent { // an agent alone knows what is beside it
		e.Upstream = readUpstream(in.upstream, &in.upstreamCA, in.upstreamName, "upstream", wrong)
		in.behind.into(&e.Upstream, wrong)
	}
	e.ClientAuth = in.policy.clientAuth(before.ClientAuth, wrong)
	e.Routes = in.readRoutes(before.Routes, wrong)
	return e
}

// address reads where the endpoint listens, and for which names.
func (in *endpointInput) address(e *termination.Endpoint, wrong fieldProblems) {
	var err error
	e.Host = ""
	if in.host != "" {
		if e.Host, err = termination.NormalizeName(in.host); err != nil {
			wrong.add("host", err.Error()+"; write a name as in app.example.com, or leave it empty for the fallback of the port")
		} else if strings.HasPrefix(e.Host, "*.") {
			wrong.add("host", "a wildcard belongs under more names")
		}
	}
	port, err := strconv.ParseUint(in.port, 10, 16)
	if err != nil || port == 0 {
		wrong.add("port", "must be a number from 1 to 65535")
	}
	e.Port = uint16(port)
	listen, err := netip.ParseAddr(strings.Trim(in.listen, "[]"))
	if err != nil || listen.Zone() != "" {
		wrong.add("listen", "is no address of an interface; use 127.0.0.1, 0.0.0.0 for all, or an address of this machine")
	}
	e.Listen = listen.Unmap()
	e.Aliases = nil
	for _, alias := range words(in.aliases) {
		name, err := termination.NormalizeName(alias)
		if err != nil {
			wrong.add("aliases", err.Error())
			continue
		}
		e.Aliases = append(e.Aliases, name)
	}
}

// nameOf makes a name for an endpoint of its server name.
func nameOf(host string) string {
	first, _, _ := strings.Cut(host, ".")
	if first == "" || termination.CheckName(first) != nil {
		return "fallback"
	}
	return first
}

// words are the words of a text, between white space and commas.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n' })
}

// kept returns the wanted names in the order in which they stood before, new ones last: for certificates and
// authorities the order has a meaning that boxes to tick do not show.
func kept(before, wanted []string) []string {
	var out []string
	for _, name := range append(slices.Clone(before), wanted...) {
		if name != "" && slices.Contains(wanted, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// clientAuth reads a policy over the one before it.
func (in *policyInput) clientAuth(before termination.ClientAuth, wrong fieldProblems) termination.ClientAuth {
	out := termination.ClientAuth{
		Mode: termination.Mode(in.mode), Authorities: kept(before.Authorities, in.authorities),
		Inherit: in.inherit, Announce: in.announce, OnLoss: termination.OnLoss(in.onLoss),
	}
	if out.OnLoss == "" {
		out.OnLoss = termination.OnLossClose
	}
	if in.depth != "" {
		n, err := strconv.Atoi(in.depth)
		if err != nil || n < 1 || n > 10 {
			wrong.add("max_depth", "must be a number from 1 to 10")
		}
		out.MaxDepth = n
	}
	for _, s := range words(in.pins) {
		pin, err := termination.ParsePin(s)
		if err != nil {
			wrong.add("pins", err.Error()+"; one pin a line")
			continue
		}
		out.Pins = append(out.Pins, pin)
	}
	in.checks.into(&out, wrong)
	return out
}

// readRoutes reads the rows of routes; an empty one is none. What a row does not show stays as it was at its path.
func (in *endpointInput) readRoutes(before []termination.Route, wrong fieldProblems) []termination.Route {
	var out []termination.Route
	for i := range in.routes {
		row := &in.routes[i]
		if row.empty() {
			continue
		}
		route := termination.Route{Path: row.path, StripPrefix: row.strip}
		policy := termination.ClientAuth{Announce: true, OnLoss: termination.OnLossClose}
		for _, b := range before {
			if b.Path != row.path {
				continue
			}
			route.Also = b.Also
			if b.ClientAuth != nil {
				policy = *b.ClientAuth
			}
		}
		switch {
		case row.mode != "":
			policy.Mode, policy.Inherit, policy.Authorities = termination.Mode(row.mode), row.inherit, nil
			for name := range strings.SplitSeq(row.authorities, ",") {
				if name = strings.TrimSpace(name); name != "" {
					policy.Authorities = append(policy.Authorities, name)
				}
			}
			route.ClientAuth = &policy
		case row.authorities != "":
			wrong.add("routes", row.path+": authorities need a policy of the route's own beside them")
		}
		if row.upstream != "" {
			u := readUpstream(withScheme(row.upstream, &termination.Endpoint{}), &row.upstreamCA, row.upstreamName, "routes", wrong)
			for _, b := range before {
				if b.Path == row.path && b.Upstream != nil {
					u.Policy, u.TLS.Certificate = b.Upstream.Policy, b.Upstream.TLS.Certificate
				}
			}
			route.Upstream = &u
		} else if row.upstreamCA != "" || row.upstreamName != "" {
			wrong.add("routes", row.path+": a CA or a server name needs an upstream of the route's own")
		}
		out = append(out, route)
	}
	return out
}
