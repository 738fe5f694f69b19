package store

import (
	"encoding/json"

	"countersign/termination"
)

// describedEndpoint is an endpoint for the audit log.
type describedEndpoint struct {
	Name         string              `json:"name"`
	Enabled      bool                `json:"enabled"`
	Scheme       string              `json:"scheme"`
	Host         string              `json:"host"`
	Listen       string              `json:"listen"`
	Port         uint16              `json:"port"`
	TerminateAt  string              `json:"terminateAt"`
	Aliases      []string            `json:"aliases,omitempty"`
	Certificates []string            `json:"certificates,omitempty"`
	Authorities  map[string][]string `json:"authorities,omitempty"`          // by route, "" for the endpoint's own
	Upstream     map[string]string   `json:"upstreamCertificates,omitempty"` // likewise
	Settings     json.RawMessage     `json:"settings,omitempty"`
	Agents       int                 `json:"agents,omitempty"` // that go with it
	Unreadable   string              `json:"unreadable,omitempty"`
}

func describeEndpoint(e termination.Endpoint) describedEndpoint {
	d := describedEndpoint{
		Name: e.Name, Enabled: e.Enabled, Scheme: string(e.Scheme), Host: e.Host, Listen: e.Listen.String(), Port: e.Port,
		TerminateAt: string(e.TerminateAt), Aliases: e.Aliases, Certificates: e.Certificates, Authorities: map[string][]string{},
	}
	if len(e.ClientAuth.Authorities) > 0 {
		d.Authorities[""] = e.ClientAuth.Authorities
	}
	for _, r := range e.Routes {
		if r.ClientAuth != nil && len(r.ClientAuth.Authorities) > 0 {
			d.Authorities[r.Path] = r.ClientAuth.Authorities
		}
	}
	own := map[string]string{}
	if name := e.Upstream.TLS.Certificate; name != "" {
		own[""] = name
	}
	for _, r := range e.Routes {
		if r.Upstream != nil && r.Upstream.TLS.Certificate != "" {
			own[r.Path] = r.Upstream.TLS.Certificate
		}
	}
	if len(own) > 0 {
		d.Upstream = own
	}
	settings, err := marshalSettings(e)
	if err != nil {
		d.Unreadable = err.Error()
		return d
	}
	d.Settings = json.RawMessage(settings)
	return d
}

// describeRow describes an endpoint that perhaps cannot be read.
func (tx *Tx) describeRow(r endpointRow) (describedEndpoint, error) {
	n, err := readNames(tx.ctx, tx.sql)
	if err != nil {
		return describedEndpoint{}, err
	}
	e, err := r.build(n)
	if err != nil {
		return describedEndpoint{Name: r.name, Host: r.host, Port: r.port, Unreadable: err.Error()}, nil //nolint:nilerr // it is described
	}
	return describeEndpoint(e), nil
}
