package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
)

// Endpoint is a public URL, where its TLS ends, who may come in, and the upstream behind it, in the words of the
// configuration file.
type Endpoint struct {
	ID     string         `json:"id" readOnly:"true"`
	Origin string         `json:"origin" readOnly:"true" enum:"dashboard,file,demo"`
	Status EndpointStatus `json:"status" readOnly:"true"`
	EndpointBody
}

// EndpointStatus is an endpoint as it is right now.
type EndpointStatus struct {
	State       string `json:"state" enum:"listening,stopped,failed"`
	Problem     string `json:"problem,omitempty" doc:"What is wrong, and what to do."`
	Connections int    `json:"connections"`
	PolicyHash  string `json:"policy_hash,omitempty"`
	ExactAlerts bool   `json:"exact_alerts" doc:"Refusals carry the exact TLS alert; else all are bad_certificate."`
	Presents    []X509 `json:"presents" doc:"Server certificates, in order of preference."`
}

// EndpointBody is what creating and replacing an endpoint takes.
type EndpointBody struct {
	Name            string       `json:"name" maxLength:"64"`
	Enabled         *bool        `json:"enabled,omitempty" doc:"Absent: true."`
	URL             string       `json:"url" example:"https://api.example.com:8443" doc:"https: HTTP inside TLS. tls: any bytes inside TLS. Without a host: the fallback of its address."`
	Aliases         []string     `json:"aliases,omitempty" doc:"More server names; *. stands for one label."`
	Listen          string       `json:"listen,omitempty" doc:"Address of an interface; absent: 127.0.0.1."`
	TerminateAt     string       `json:"terminate_at,omitempty" enum:"edge,upstream" default:"edge"`
	Certificates    []string     `json:"certificates,omitempty" doc:"Names of server certificates, or local."`
	TLS             *TLSVersions `json:"tls,omitempty"`
	Upstream        string       `json:"upstream" example:"http://127.0.0.1:8080" doc:"http, https, h2c, tcp, tls, or whoami."`
	UpstreamTLS     *UpstreamTLS `json:"upstream_tls,omitempty"`
	ClientAuth      *ClientAuth  `json:"client_auth,omitempty" doc:"Absent: off."`
	ForwardIdentity []string     `json:"forward_identity,omitempty" enum:"nginx"`
	Routes          []Route      `json:"routes,omitempty"`
}

// TLSVersions bound the versions of an endpoint.
type TLSVersions struct {
	MinVersion string `json:"min_version,omitempty" enum:"1.2,1.3"`
	MaxVersion string `json:"max_version,omitempty" enum:"1.2,1.3"`
}

// UpstreamTLS says how an https or tls upstream is verified.
type UpstreamTLS struct {
	CA         string `json:"ca,omitempty" doc:"PEM; absent: the system's roots."`
	ServerName string `json:"server_name,omitempty"`
}

// ClientAuth is the client policy.
type ClientAuth struct {
	Mode        string   `json:"mode,omitempty" enum:"off,request,require_any,optional,require" doc:"Absent: require with an authority or pin, else off."`
	Authorities []string `json:"authorities,omitempty"`
	Pins        []string `json:"pins,omitempty" doc:"SHA-256 of certificates, or spki: and SHA-256 of keys, in hex."`
	Inherit     *bool    `json:"inherit,omitempty" doc:"Trust the defaults too; absent: true."`
	MaxDepth    int      `json:"max_depth,omitempty" minimum:"0" maximum:"10" doc:"CA certificates above the leaf, the anchor counted; 0: 4."`
	Announce    *bool    `json:"announce,omitempty" doc:"Name the authorities in the CertificateRequest; absent: true."`
	OnLoss      string   `json:"on_loss,omitempty" enum:"close,drain,leave" default:"close"`
}

// Route is a path with its own policy or upstream.
type Route struct {
	Path        string       `json:"path"`
	ClientAuth  *ClientAuth  `json:"client_auth,omitempty"`
	Upstream    string       `json:"upstream,omitempty"`
	UpstreamTLS *UpstreamTLS `json:"upstream_tls,omitempty"`
}

func (a *API) endpoints() {
	const tag = "Endpoints"
	register(a, operation{method: http.MethodGet, path: "/endpoints", summary: "List endpoints", scope: store.ScopeRead, tag: tag},
		func(context.Context, *struct{}) (*list[Endpoint], error) {
			config, statuses := a.options.Current(), a.statuses()
			var items []Endpoint
			for i := range config.Endpoints {
				items = append(items, endpointOf(&config.Endpoints[i], statuses))
			}
			return listOf(config.Revision, items), nil
		})
	register(a, operation{method: http.MethodGet, path: "/endpoints/{ref}", summary: "Show an endpoint", scope: store.ScopeRead, tag: tag},
		func(_ context.Context, in *Named) (*one[Endpoint], error) {
			config := a.options.Current()
			for i := range config.Endpoints {
				if e := &config.Endpoints[i]; e.ID == in.Ref || e.Name == in.Ref {
					return &one[Endpoint]{endpointOf(e, a.statuses())}, nil
				}
			}
			return nil, store.NotFoundError{Kind: store.KindEndpoint, Name: in.Ref}
		})
	register(a, operation{method: http.MethodPost, path: "/endpoints", summary: "Create an endpoint", scope: store.ScopeAdmin, body: smallBody, status: http.StatusCreated, tag: tag},
		func(ctx context.Context, in *struct{ Body EndpointBody }) (*one[Endpoint], error) {
			return a.saveEndpoint(ctx, in.Body, "")
		})
	register(a, operation{method: http.MethodPut, path: "/endpoints/{ref}", summary: "Replace an endpoint", scope: store.ScopeAdmin, body: smallBody, tag: tag},
		func(ctx context.Context, in *struct {
			Named
			Body EndpointBody
		},
		) (*one[Endpoint], error) {
			return a.saveEndpoint(ctx, in.Body, in.Ref)
		})
	for verb, enabled := range map[string]bool{"start": true, "stop": false} {
		register(a, operation{method: http.MethodPost, path: "/endpoints/{ref}/" + verb, summary: verb + " an endpoint", scope: store.ScopeOperate, tag: tag},
			func(ctx context.Context, in *Named) (*one[Endpoint], error) {
				return a.changeEndpoint(ctx, in.Ref, func(e *termination.Endpoint) { e.Enabled = enabled })
			})
	}
	register(a, operation{method: http.MethodDelete, path: "/endpoints/{ref}", summary: "Delete an endpoint", scope: store.ScopeAdmin, status: http.StatusNoContent, tag: tag},
		func(ctx context.Context, in *Named) (*struct{}, error) {
			_, err := a.options.Change(ctx, func(tx *store.Tx) error { return tx.DeleteEndpoint(in.Ref) })
			return nil, err
		})
}

func (a *API) statuses() map[string]gateway.EndpointStatus {
	out := map[string]gateway.EndpointStatus{}
	if a.options.Status != nil {
		for _, s := range a.options.Status().Endpoints {
			out[s.ID] = s
		}
	}
	return out
}

func (a *API) changeEndpoint(ctx context.Context, ref string, change func(*termination.Endpoint)) (*one[Endpoint], error) {
	var e termination.Endpoint
	_, err := a.options.Change(ctx, func(tx *store.Tx) (err error) {
		if e, err = tx.Endpoint(ref); err != nil {
			return err
		}
		change(&e)
		return tx.UpdateEndpoint(e)
	})
	if err != nil {
		return nil, err
	}
	return &one[Endpoint]{endpointOf(&e, a.statuses())}, nil
}

// saveEndpoint creates an endpoint, or replaces the one that ref names.
func (a *API) saveEndpoint(ctx context.Context, body EndpointBody, ref string) (*one[Endpoint], error) {
	wanted, err := body.endpoint()
	if err != nil {
		return nil, err
	}
	_, err = a.options.Change(ctx, func(tx *store.Tx) error {
		if ref == "" {
			created, err := tx.CreateEndpoint(wanted)
			wanted = created
			return err
		}
		before, err := tx.Endpoint(ref)
		if err != nil {
			return err
		}
		wanted.ID, wanted.Origin = before.ID, before.Origin
		return tx.UpdateEndpoint(wanted)
	})
	if err != nil {
		return nil, err
	}
	return &one[Endpoint]{endpointOf(&wanted, a.statuses())}, nil
}

// endpoint reads the body into the words of the domain. What is wrong with them together, Validate says later.
func (b EndpointBody) endpoint() (termination.Endpoint, error) {
	r := &bodyReader{name: b.Name}
	e := termination.Endpoint{
		Name: b.Name, Origin: termination.OriginDashboard, Enabled: orTrue(b.Enabled),
		TerminateAt: termination.TerminateAt(b.TerminateAt), Certificates: b.Certificates,
		Listen: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	}
	if e.TerminateAt == "" {
		e.TerminateAt = termination.AtEdge
	}
	var err error
	if e.Scheme, e.Host, e.Port, err = termination.ParseEndpointURL(b.URL); err != nil {
		r.fail("url", err)
	}
	if b.Listen != "" {
		if e.Listen, err = netip.ParseAddr(b.Listen); err != nil {
			r.fail("listen", err)
		}
	}
	for _, alias := range b.Aliases {
		name, err := termination.NormalizeName(alias)
		if err != nil {
			r.fail("aliases", err)
		}
		e.Aliases = append(e.Aliases, name)
	}
	if b.TLS != nil {
		e.MinVersion, e.MaxVersion = versionOf(b.TLS.MinVersion), versionOf(b.TLS.MaxVersion)
	}
	e.Upstream = r.upstream("upstream", b.Upstream, b.UpstreamTLS)
	e.ClientAuth = r.clientAuth("client_auth", b.ClientAuth)
	for _, f := range b.ForwardIdentity {
		e.ForwardIdentity = append(e.ForwardIdentity, termination.IdentityFormat(f))
	}
	for _, route := range b.Routes {
		out := termination.Route{Path: route.Path}
		if route.ClientAuth != nil {
			policy := r.clientAuth("routes.client_auth", route.ClientAuth)
			out.ClientAuth = &policy
		}
		if route.Upstream != "" {
			u := r.upstream("routes.upstream", route.Upstream, route.UpstreamTLS)
			out.Upstream = &u
		}
		e.Routes = append(e.Routes, out)
	}
	if len(r.wrong) > 0 {
		return e, r.wrong
	}
	return e, nil
}

// bodyReader collects everything that is wrong with a body.
type bodyReader struct {
	name  string
	wrong termination.ValidationError
}

func (r *bodyReader) fail(field string, err error) {
	r.wrong = append(r.wrong, termination.FieldError{Kind: "endpoint", Name: r.name, Field: field, Problem: err.Error()})
}

func (r *bodyReader) upstream(field, s string, t *UpstreamTLS) termination.Upstream {
	u, err := termination.ParseUpstream(s)
	if err != nil {
		r.fail(field, err)
		return u
	}
	if t == nil {
		return u
	}
	u.TLS.ServerName = t.ServerName
	if t.CA != "" {
		upload, err := termination.ReadUpload([]byte(t.CA))
		if err != nil {
			r.fail(field+"_tls.ca", err)
			return u
		}
		if u.TLS.Roots = upload.Certificates(); len(u.TLS.Roots) == 0 {
			// An empty pool would mean the system's roots, which nobody asked for.
			r.fail(field+"_tls.ca", fmt.Errorf("there is no certificate in it; send the CA that signed the upstream's certificate"))
		}
	}
	return u
}

func (r *bodyReader) clientAuth(field string, b *ClientAuth) termination.ClientAuth {
	out := termination.ClientAuth{Mode: termination.ModeOff, Inherit: true, Announce: true, OnLoss: termination.OnLossClose}
	if b == nil {
		return out
	}
	out.Authorities, out.MaxDepth = b.Authorities, b.MaxDepth
	out.Inherit, out.Announce = orTrue(b.Inherit), orTrue(b.Announce)
	for _, s := range b.Pins {
		pin, err := termination.ParsePin(s)
		if err != nil {
			r.fail(field+".pins", err)
			continue
		}
		out.Pins = append(out.Pins, pin)
	}
	switch {
	case b.Mode != "":
		out.Mode = termination.Mode(b.Mode)
	case len(out.Authorities) > 0 || len(out.Pins) > 0:
		out.Mode = termination.ModeRequire // whoever chooses a CA means that it counts
	}
	if b.OnLoss != "" {
		out.OnLoss = termination.OnLoss(b.OnLoss)
	}
	return out
}

func orTrue(b *bool) bool { return b == nil || *b }

func versionOf(s string) uint16 {
	switch s {
	case "1.2":
		return tls.VersionTLS12
	case "1.3":
		return tls.VersionTLS13
	}
	return 0
}

func versionText(v uint16) string {
	switch v {
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return ""
}

// endpointOf writes an endpoint as the API shows it.
func endpointOf(e *termination.Endpoint, statuses map[string]gateway.EndpointStatus) Endpoint {
	enabled := e.Enabled
	policy := clientAuthOf(e.ClientAuth)
	out := Endpoint{
		ID: e.ID, Origin: string(e.Origin), Status: statusOf(statuses[e.ID]),
		EndpointBody: EndpointBody{
			Name: e.Name, Enabled: &enabled, URL: e.URL(), Aliases: e.Aliases, Listen: e.Listen.String(),
			TerminateAt: string(e.TerminateAt), Certificates: e.Certificates,
			Upstream: e.Upstream.String(), UpstreamTLS: upstreamTLSOf(e.Upstream), ClientAuth: &policy,
		},
	}
	if e.MinVersion != 0 || e.MaxVersion != 0 {
		out.TLS = &TLSVersions{MinVersion: versionText(e.MinVersion), MaxVersion: versionText(e.MaxVersion)}
	}
	for _, f := range e.ForwardIdentity {
		out.ForwardIdentity = append(out.ForwardIdentity, string(f))
	}
	for _, r := range e.Routes {
		route := Route{Path: r.Path}
		if r.ClientAuth != nil {
			p := clientAuthOf(*r.ClientAuth)
			route.ClientAuth = &p
		}
		if r.Upstream != nil {
			route.Upstream, route.UpstreamTLS = r.Upstream.String(), upstreamTLSOf(*r.Upstream)
		}
		out.Routes = append(out.Routes, route)
	}
	return out
}

func statusOf(s gateway.EndpointStatus) EndpointStatus {
	out := EndpointStatus{State: string(s.State), Problem: s.Problem, Connections: s.Connections, PolicyHash: s.PolicyHash, ExactAlerts: s.Exact, Presents: []X509{}}
	if out.State == "" {
		out.State = string(gateway.StateStopped)
	}
	for _, leaf := range s.Leaves {
		out.Presents = append(out.Presents, describe(leaf))
	}
	return out
}

func clientAuthOf(a termination.ClientAuth) ClientAuth {
	inherit, announce := a.Inherit, a.Announce
	out := ClientAuth{Mode: string(a.Mode), Authorities: a.Authorities, Inherit: &inherit, MaxDepth: a.MaxDepth, Announce: &announce, OnLoss: string(a.OnLoss)}
	for _, p := range a.Pins {
		out.Pins = append(out.Pins, p.String())
	}
	return out
}

func upstreamTLSOf(u termination.Upstream) *UpstreamTLS {
	if len(u.TLS.Roots) == 0 && u.TLS.ServerName == "" {
		return nil
	}
	return &UpstreamTLS{ServerName: u.TLS.ServerName, CA: chainPEM(u.TLS.Roots)}
}

func chainPEM(certs []*x509.Certificate) string {
	var out string
	for _, c := range certs {
		out += describe(c).PEM
	}
	return out
}
