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
		Name            string           `yaml:"name"`
		Enabled         *bool            `yaml:"enabled,omitempty"`
		URL             string           `yaml:"url"`
		Aliases         []string         `yaml:"aliases,omitempty"`
		Listen          string           `yaml:"listen,omitempty"`
		TerminateAt     string           `yaml:"terminate_at,omitempty"`
		Certificates    []string         `yaml:"certificates,omitempty"`
		TLS             *yamlVersions    `yaml:"tls,omitempty"`
		Upstream        string           `yaml:"upstream"`
		UpstreamTLS     *yamlUpstreamTLS `yaml:"upstream_tls,omitempty"`
		ClientAuth      *yamlClientAuth  `yaml:"client_auth,omitempty"`
		ForwardIdentity []string         `yaml:"forward_identity,omitempty"`
		Routes          []yamlRoute      `yaml:"routes,omitempty"`
	}
	yamlVersions struct {
		Min string `yaml:"min_version,omitempty"`
		Max string `yaml:"max_version,omitempty"`
	}
	yamlUpstreamTLS struct {
		CAFile     string `yaml:"ca_file,omitempty"`
		ServerName string `yaml:"server_name,omitempty"`
	}
	yamlClientAuth struct {
		Mode        string   `yaml:"mode"`
		Authorities []string `yaml:"authorities,omitempty"`
		Pins        []string `yaml:"pins,omitempty"`
		Inherit     *bool    `yaml:"inherit,omitempty"`
		MaxDepth    int      `yaml:"max_depth,omitempty"`
		Announce    *bool    `yaml:"announce,omitempty"`
		OnLoss      string   `yaml:"on_loss,omitempty"`
	}
	yamlRoute struct {
		Path        string           `yaml:"path"`
		ClientAuth  *yamlClientAuth  `yaml:"client_auth,omitempty"`
		Upstream    string           `yaml:"upstream,omitempty"`
		UpstreamTLS *yamlUpstreamTLS `yaml:"upstream_tls,omitempty"`
	}
)

// endpointYAML writes an endpoint as a configuration file has it. files are the CA files that it names, one under the
// other, which the store keeps inside; empty when it names none.
func endpointYAML(e *termination.Endpoint) (text, files string, err error) {
	out := yamlEndpoint{
		Name: e.Name, URL: e.URL(), Aliases: e.Aliases, Certificates: e.Certificates, Upstream: e.Upstream.String(),
		UpstreamTLS: yamlUpstreamTLSOf(e.Upstream, &files),
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
	if e.MinVersion != 0 || e.MaxVersion != 0 {
		out.TLS = &yamlVersions{Min: versionWord(e.MinVersion), Max: versionWord(e.MaxVersion)}
	}
	if e.TerminateAt == termination.AtEdge {
		out.ClientAuth = yamlClientAuthOf(e.ClientAuth)
	}
	for _, f := range e.ForwardIdentity {
		out.ForwardIdentity = append(out.ForwardIdentity, string(f))
	}
	for _, r := range e.Routes {
		route := yamlRoute{Path: r.Path}
		if r.ClientAuth != nil {
			route.ClientAuth = yamlClientAuthOf(*r.ClientAuth)
		}
		if r.Upstream != nil {
			route.Upstream, route.UpstreamTLS = r.Upstream.String(), yamlUpstreamTLSOf(*r.Upstream, &files)
		}
		out.Routes = append(out.Routes, route)
	}
	document := struct {
		Endpoints []yamlEndpoint `yaml:"endpoints"`
	}{[]yamlEndpoint{out}}
	b, err := yaml.MarshalWithOptions(document, yaml.Indent(2), yaml.IndentSequence(true))
	return string(b), files, err
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
	return out
}

func yamlUpstreamTLSOf(u termination.Upstream, files *string) *yamlUpstreamTLS {
	if len(u.TLS.Roots) == 0 && u.TLS.ServerName == "" {
		return nil
	}
	out := &yamlUpstreamTLS{ServerName: u.TLS.ServerName}
	if len(u.TLS.Roots) > 0 {
		out.CAFile = "upstream-ca.pem"
		if *files != "" {
			out.CAFile = "route-ca.pem"
		}
		*files += "# " + out.CAFile + "\n" + string(localca.EncodePEM(u.TLS.Roots...))
	}
	return out
}
