package server

import (
	"github.com/goccy/go-yaml"

	"countersign/termination"
	"countersign/termination/localca"
)

// The types below are an endpoint in the words and the order of the configuration file. What has its default there is
// left out.
type (
	yamlEndpoint struct {
		Name            string       `yaml:"name"`
		Enabled         *bool        `yaml:"enabled,omitempty"`
		URL             string       `yaml:"url"`
		Aliases         []string     `yaml:"aliases,omitempty"`
		Listen          string       `yaml:"listen,omitempty"`
		TerminateAt     string       `yaml:"terminate_at,omitempty"`
		Certificates    []string     `yaml:"certificates,omitempty"`
		TLS             *yamlTLS     `yaml:"tls,omitempty"`
		StartTLS        string       `yaml:"starttls,omitempty"`
		ProxyProtocol   *yamlSources `yaml:"proxy_protocol,omitempty"`
		yamlUpstream    `yaml:",inline"`
		ClientAuth      *yamlClientAuth `yaml:"client_auth,omitempty"`
		Also            *yamlAlso       `yaml:"also,omitempty"`
		VerboseRefusals bool            `yaml:"verbose_refusals,omitempty"`
		ForwardIdentity []any           `yaml:"forward_identity,omitempty"` // texts, and a map of headers
		Routes          []yamlRoute     `yaml:"routes,omitempty"`
	}
	yamlTLS struct {
		Min    string   `yaml:"min_version,omitempty"`
		Max    string   `yaml:"max_version,omitempty"`
		Preset string   `yaml:"preset,omitempty"`
		Suites []string `yaml:"suites,omitempty"`
		ALPN   []string `yaml:"alpn,omitempty"`
	}
	yamlSources struct {
		From []string `yaml:"from"`
	}
	yamlUpstream struct {
		Upstream any                 `yaml:"upstream,omitempty"` // a text, or a list of several
		TLS      *yamlUpstreamTLS    `yaml:"upstream_tls,omitempty"`
		Policy   *yamlUpstreamPolicy `yaml:"upstream_policy,omitempty"`
	}
	yamlUpstreamTLS struct {
		CAFile      string `yaml:"ca_file,omitempty"`
		ServerName  string `yaml:"server_name,omitempty"`
		Certificate string `yaml:"certificate,omitempty"`
	}
	yamlUpstreamPolicy struct {
		Balance         string `yaml:"balance,omitempty"`
		Health          string `yaml:"health,omitempty"`
		HealthInterval  string `yaml:"health_interval,omitempty"`
		ConnectTimeout  string `yaml:"connect_timeout,omitempty"`
		ResponseTimeout string `yaml:"response_timeout,omitempty"`
		Host            string `yaml:"host,omitempty"`
		ProxyProtocol   string `yaml:"proxy_protocol,omitempty"`
	}
	yamlClientAuth struct {
		Mode        string            `yaml:"mode"`
		Authorities []string          `yaml:"authorities,omitempty"`
		Pins        []string          `yaml:"pins,omitempty"`
		Inherit     *bool             `yaml:"inherit,omitempty"`
		MaxDepth    int               `yaml:"max_depth,omitempty"`
		Announce    *bool             `yaml:"announce,omitempty"`
		OnLoss      string            `yaml:"on_loss,omitempty"`
		Rules       []map[string]any  `yaml:"rules,omitempty"`
		When        string            `yaml:"when,omitempty"`
		Hygiene     map[string]string `yaml:"hygiene,omitempty"`
		ReportOnly  bool              `yaml:"report_only,omitempty"`
		Soft        bool              `yaml:"soft,omitempty"`
	}
	yamlAlso struct {
		AllOf []string `yaml:"all_of,omitempty"`
		AnyOf []string `yaml:"any_of,omitempty"`
		Strip bool     `yaml:"strip,omitempty"`
	}
	yamlRoute struct {
		Path         string          `yaml:"path"`
		ClientAuth   *yamlClientAuth `yaml:"client_auth,omitempty"`
		Also         *yamlAlso       `yaml:"also,omitempty"`
		StripPrefix  bool            `yaml:"strip_prefix,omitempty"`
		yamlUpstream `yaml:",inline"`
	}
)

// endpointYAML writes an endpoint as a configuration file has it. files are the CA files that it names, one under the
// other, which the store keeps inside; empty when it names none.
func endpointYAML(e *termination.Endpoint) (text, files string, err error) {
	out := yamlEndpoint{
		Name: e.Name, URL: e.URL(), Aliases: e.Aliases, Certificates: e.Certificates, yamlUpstream: yamlUpstreamOf(e.Upstream, &files),
		TLS: yamlTLSOf(e), StartTLS: string(e.StartTLS),
	}
	off := false
	if !e.Enabled {
		out.Enabled = &off
	}
	if e.Listen.String() != "127.0.0.1" {
		out.Listen = e.Listen.String()
	}
	if e.TerminateAt != termination.AtEdge {
		out.TerminateAt = string(e.TerminateAt)
	}
	if len(e.ProxyProtocol) > 0 {
		out.ProxyProtocol = &yamlSources{}
		for _, p := range e.ProxyProtocol {
			out.ProxyProtocol.From = append(out.ProxyProtocol.From, p.String())
		}
	}
	if e.TerminateAt != termination.AtUpstream {
		out.ClientAuth = yamlClientAuthOf(e.ClientAuth)
	}
	for _, f := range e.ForwardIdentity {
		out.ForwardIdentity = append(out.ForwardIdentity, string(f))
	}
	if headers := yamlHeadersOf(e); headers != nil {
		out.ForwardIdentity = append(out.ForwardIdentity, headers)
	}
	if !e.Also.Empty() {
		out.Also = yamlAlsoOf(e.Also)
	}
	out.VerboseRefusals = e.VerboseRefusals
	for _, r := range e.Routes {
		route := yamlRoute{Path: r.Path, StripPrefix: r.StripPrefix}
		if r.ClientAuth != nil {
			route.ClientAuth = yamlClientAuthOf(*r.ClientAuth)
		}
		if r.Also != nil {
			route.Also = yamlAlsoOf(*r.Also)
		}
		if r.Upstream != nil {
			route.yamlUpstream = yamlUpstreamOf(*r.Upstream, &files)
		}
		out.Routes = append(out.Routes, route)
	}
	document := struct {
		Endpoints []yamlEndpoint `yaml:"endpoints"`
	}{[]yamlEndpoint{out}}
	b, err := yaml.MarshalWithOptions(document, yaml.Indent(2), yaml.IndentSequence(true))
	return string(b), files, err
}

func yamlTLSOf(e *termination.Endpoint) *yamlTLS {
	in := tlsInputOf(e)
	if in == (tlsInput{startTLS: in.startTLS, proxyFrom: in.proxyFrom}) {
		return nil
	}
	return &yamlTLS{Min: in.minVersion, Max: in.maxVersion, Preset: in.preset, Suites: words(in.suites), ALPN: e.ALPN}
}

func yamlUpstreamOf(u termination.Upstream, files *string) yamlUpstream {
	if u.Scheme == "" {
		return yamlUpstream{}
	}
	out := yamlUpstream{Upstream: u.String(), TLS: yamlUpstreamTLSOf(u, files)}
	if len(u.More) > 0 {
		out.Upstream = u.Texts()
	}
	if in := behindInputOf(u); u.Policy != (termination.UpstreamPolicy{}) {
		out.Policy = &yamlUpstreamPolicy{
			Balance: in.balance, Health: in.health, HealthInterval: in.healthInterval, ConnectTimeout: in.connectTimeout,
			ResponseTimeout: in.responseTimeout, Host: in.host, ProxyProtocol: in.proxy,
		}
	}
	return out
}

func yamlClientAuthOf(a termination.ClientAuth) *yamlClientAuth {
	out := &yamlClientAuth{Mode: string(a.Mode), Authorities: a.Authorities, MaxDepth: a.MaxDepth}
	for _, p := range a.Pins {
		out.Pins = append(out.Pins, p.String())
	}
	off := false
	if !a.Inherit {
		out.Inherit = &off
	}
	if !a.Announce {
		out.Announce = &off
	}
	if a.OnLoss != termination.OnLossClose {
		out.OnLoss = string(a.OnLoss)
	}
	for _, r := range a.Rules {
		var subject any = termination.SubjectAny
		if !r.Subject.Any() {
			subject = r.Subject.Words()
		}
		out.Rules = append(out.Rules, map[string]any{string(r.Effect): subject})
	}
	out.When, out.Hygiene, out.ReportOnly, out.Soft = a.When, a.Hygiene.Words(), a.ReportOnly, a.Soft
	return out
}

func yamlHeadersOf(e *termination.Endpoint) map[string]string {
	if len(e.ForwardHeaders) == 0 {
		return nil
	}
	headers := map[string]string{}
	for _, h := range e.ForwardHeaders {
		headers[h.Name] = h.Value
	}
	return headers
}

func yamlAlsoOf(a termination.Also) *yamlAlso {
	out := &yamlAlso{Strip: a.Strip}
	for _, k := range a.AllOf {
		out.AllOf = append(out.AllOf, string(k))
	}
	for _, k := range a.AnyOf {
		out.AnyOf = append(out.AnyOf, string(k))
	}
	return out
}

func yamlUpstreamTLSOf(u termination.Upstream, files *string) *yamlUpstreamTLS {
	if len(u.TLS.Roots) == 0 && u.TLS.ServerName == "" && u.TLS.Certificate == "" {
		return nil
	}
	out := &yamlUpstreamTLS{ServerName: u.TLS.ServerName, Certificate: u.TLS.Certificate}
	if len(u.TLS.Roots) > 0 {
		out.CAFile = "upstream-ca.pem"
		if *files != "" {
			out.CAFile = "route-ca.pem"
		}
		*files += "# " + out.CAFile + "\n" + string(localca.EncodePEM(u.TLS.Roots...))
	}
	return out
}
