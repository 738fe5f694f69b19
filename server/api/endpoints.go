package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"countersign/store"
	"countersign/termination"
	"countersign/termination/gateway"
)

// Endpoint is a public URL, where its TLS ends, who may come in, and the upstream behind it, in the words of the
// configuration file.
type Endpoint struct {
	ID     string         `json:"id" readOnly:"true"`
	Origin string         `json:"origin" readOnly:"true" enum:"dashboard,file,demo,command"`
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
	Agents      int    `json:"agents" doc:"Agents that are online and get its clients, where its TLS ends at agents."`
	// Upstreams are as [gateway.EndpointStatus] has them.
	Upstreams []TargetStatus `json:"upstreams,omitempty" doc:"The targets behind, those of routes included."`
}

// EndpointBody is what creating and replacing an endpoint takes.
type EndpointBody struct {
	Name          string     `json:"name" maxLength:"64"`
	Enabled       *bool      `json:"enabled,omitempty" doc:"Absent: true."`
	URL           string     `json:"url" example:"https://api.example.com:8443" doc:"https: HTTP inside TLS. tls: any bytes inside TLS. Without a host: the fallback of its address."`
	Aliases       []string   `json:"aliases,omitempty" doc:"More server names; *. stands for one label."`
	Listen        string     `json:"listen,omitempty" doc:"Address of an interface; absent: 127.0.0.1."`
	TerminateAt   string     `json:"terminate_at,omitempty" enum:"edge,agent,upstream" default:"edge"`
	Certificates  []string   `json:"certificates,omitempty" doc:"Names of server certificates, local, or acme."`
	TLS           *TLSPolicy `json:"tls,omitempty"`
	StartTLS      string     `json:"starttls,omitempty" enum:"none,postgres" doc:"A protocol in which the client asks for TLS first."`
	ProxyProtocol []string   `json:"proxy_protocol,omitempty" doc:"Networks that must send a PROXY header, and the only ones that may."`
	UpstreamBody
	ClientAuth      *ClientAuth       `json:"client_auth,omitempty" doc:"Absent: off."`
	Also            *Also             `json:"also,omitempty" doc:"Proofs besides the client policy."`
	VerboseRefusals bool              `json:"verbose_refusals,omitempty" doc:"Tell clients that are refused in HTTP the reason and what to do."`
	ForwardIdentity []string          `json:"forward_identity,omitempty" enum:"nginx,xfcc,rfc9440,traefik,alb"`
	ForwardHeaders  map[string]string `json:"forward_headers,omitempty" doc:"Headers for the upstream, each with an expression in CEL."`
	Routes          []Route           `json:"routes,omitempty"`
}

// TLSPolicy says what an endpoint offers and accepts in TLS.
type TLSPolicy struct {
	MinVersion string   `json:"min_version,omitempty" enum:"1.2,1.3"`
	MaxVersion string   `json:"max_version,omitempty" enum:"1.2,1.3"`
	Preset     string   `json:"preset,omitempty" enum:"intermediate,modern"`
	Suites     []string `json:"suites,omitempty" example:"ECDHE-ECDSA-AES128-GCM-SHA256" doc:"Suites of TLS 1.2, as IANA or OpenSSL spells them; absent: those of the preset."`
	ALPN       []string `json:"alpn,omitempty" doc:"Absent: h2 and http/1.1 for https, none for tls."`
}

// UpstreamBody is the service behind an endpoint or a route.
type UpstreamBody struct {
	Upstream       string          `json:"upstream,omitempty" example:"http://127.0.0.1:8080" doc:"http, https, h2c, tcp, tls, unix, or whoami."`
	MoreUpstreams  []string        `json:"more_upstreams,omitempty" doc:"Further targets, of the same scheme."`
	UpstreamTLS    *UpstreamTLS    `json:"upstream_tls,omitempty"`
	UpstreamPolicy *UpstreamPolicy `json:"upstream_policy,omitempty"`
}

// UpstreamTLS says how an https or tls upstream is verified, and who we are to it.
type UpstreamTLS struct {
	CA          string `json:"ca,omitempty" doc:"PEM; absent: the system's roots."`
	ServerName  string `json:"server_name,omitempty" doc:"Sent as SNI and verified; absent: the upstream's host."`
	Certificate string `json:"certificate,omitempty" doc:"Name of the certificate that we show to it."`
}

// UpstreamPolicy says how targets are chosen, watched and spoken to.
type UpstreamPolicy struct {
	Balance         string `json:"balance,omitempty" enum:"round_robin,least_connections"`
	Health          string `json:"health,omitempty" doc:"Path of a health check, or tcp; absent: none."`
	HealthInterval  string `json:"health_interval,omitempty" example:"10s"`
	ConnectTimeout  string `json:"connect_timeout,omitempty" example:"5s"`
	ResponseTimeout string `json:"response_timeout,omitempty" example:"30s" doc:"Until an HTTP response begins; absent: none."`
	Host            string `json:"host,omitempty" enum:"client,upstream" doc:"Whose Host an HTTP upstream sees; absent: the client's."`
	ProxyProtocol   string `json:"proxy_protocol,omitempty" enum:"none,v1,v2"`
}

// Route is a path with its own policy or upstream.
type Route struct {
	Path        string      `json:"path"`
	ClientAuth  *ClientAuth `json:"client_auth,omitempty"`
	Also        *Also       `json:"also,omitempty"`
	StripPrefix bool        `json:"strip_prefix,omitempty" doc:"The upstream sees the target without the path."`
	UpstreamBody
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
		r.tls(b.TLS, &e)
	}
	if b.StartTLS != "none" {
		e.StartTLS = termination.StartTLS(b.StartTLS)
	}
	for _, s := range b.ProxyProtocol {
		p, err := termination.ParsePrefix(s)
		if err != nil {
			r.fail("proxy_protocol", err)
		}
		e.ProxyProtocol = append(e.ProxyProtocol, p)
	}
	if b.Upstream != "" || e.TerminateAt != termination.AtAgent { // an agent alone knows what is beside it
		e.Upstream = r.upstream("upstream", b.UpstreamBody)
	}
	e.ClientAuth = r.clientAuth("client_auth", b.ClientAuth)
	for _, f := range b.ForwardIdentity {
		e.ForwardIdentity = append(e.ForwardIdentity, termination.IdentityFormat(f))
	}
	for name, value := range b.ForwardHeaders {
		e.ForwardHeaders = append(e.ForwardHeaders, termination.ForwardHeader{Name: name, Value: value})
	}
	slices.SortFunc(e.ForwardHeaders, func(a, b termination.ForwardHeader) int { return strings.Compare(a.Name, b.Name) })
	e.Also, e.VerboseRefusals = alsoFrom(b.Also), b.VerboseRefusals
	for _, route := range b.Routes {
		out := termination.Route{Path: route.Path, StripPrefix: route.StripPrefix}
		if route.Also != nil {
			also := alsoFrom(route.Also)
			out.Also = &also
		}
		if route.ClientAuth != nil {
			policy := r.clientAuth("routes.client_auth", route.ClientAuth)
			out.ClientAuth = &policy
		}
		if route.Upstream != "" {
			u := r.upstream("routes.upstream", route.UpstreamBody)
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

func (r *bodyReader) tls(b *TLSPolicy, e *termination.Endpoint) {
	e.MinVersion, e.MaxVersion = versionOf(b.MinVersion), versionOf(b.MaxVersion)
	e.Preset, e.ALPN = termination.TLSPreset(b.Preset), b.ALPN
	for _, s := range b.Suites {
		id, err := termination.ParseSuite(s)
		if err != nil {
			r.fail("tls.suites", err)
		}
		e.Suites = append(e.Suites, id)
	}
}

func (r *bodyReader) upstream(field string, b UpstreamBody) termination.Upstream {
	u, err := termination.ParseUpstreams(append([]string{b.Upstream}, b.MoreUpstreams...))
	if err != nil {
		r.fail(field, err)
		return u
	}
	if b.UpstreamPolicy != nil {
		u.Policy = r.upstreamPolicy(field+"_policy", b.UpstreamPolicy)
	}
	t := b.UpstreamTLS
	if t == nil {
		return u
	}
	u.TLS.ServerName, u.TLS.Certificate = t.ServerName, t.Certificate
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

func (r *bodyReader) upstreamPolicy(field string, b *UpstreamPolicy) termination.UpstreamPolicy {
	p := termination.UpstreamPolicy{Balance: termination.Balance(b.Balance), Health: b.Health, Host: termination.HostHeader(b.Host)}
	if b.ProxyProtocol != "none" {
		p.ProxyProtocol = termination.ProxyProtocol(b.ProxyProtocol)
	}
	for _, d := range []struct {
		key, text string
		into      *time.Duration
	}{{"health_interval", b.HealthInterval, &p.HealthInterval}, {"connect_timeout", b.ConnectTimeout, &p.ConnectTimeout}, {"response_timeout", b.ResponseTimeout, &p.ResponseTimeout}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err == nil && v <= 0 {
			err = fmt.Errorf("%s is not above zero", d.text)
		}
		if err != nil {
			r.fail(field+"."+d.key, fmt.Errorf("%w; write it as in 10s", err))
			continue
		}
		*d.into = v
	}
	return p
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
			TLS: tlsPolicyOf(e), StartTLS: string(e.StartTLS), UpstreamBody: upstreamOf(e.Upstream), ClientAuth: &policy,
		},
	}
	for _, p := range e.ProxyProtocol {
		out.ProxyProtocol = append(out.ProxyProtocol, p.String())
	}
	for _, f := range e.ForwardIdentity {
		out.ForwardIdentity = append(out.ForwardIdentity, string(f))
	}
	for _, h := range e.ForwardHeaders {
		if out.ForwardHeaders == nil {
			out.ForwardHeaders = map[string]string{}
		}
		out.ForwardHeaders[h.Name] = h.Value
	}
	out.VerboseRefusals = e.VerboseRefusals
	if !e.Also.Empty() || e.Also.Strip {
		out.Also = alsoOf(e.Also)
	}
	for _, r := range e.Routes {
		route := Route{Path: r.Path, StripPrefix: r.StripPrefix}
		if r.Also != nil {
			route.Also = alsoOf(*r.Also)
		}
		if r.ClientAuth != nil {
			p := clientAuthOf(*r.ClientAuth)
			route.ClientAuth = &p
		}
		if r.Upstream != nil {
			route.UpstreamBody = upstreamOf(*r.Upstream)
		}
		out.Routes = append(out.Routes, route)
	}
	return out
}

func statusOf(s gateway.EndpointStatus) EndpointStatus {
	out := EndpointStatus{State: string(s.State), Problem: s.Problem, Connections: s.Connections, PolicyHash: s.PolicyHash, ExactAlerts: s.Exact, Agents: s.Agents, Presents: []X509{}}
	if out.State == "" {
		out.State = string(gateway.StateStopped)
	}
	for _, leaf := range s.Leaves {
		out.Presents = append(out.Presents, describe(leaf))
	}
	for _, t := range s.Upstreams {
		out.Upstreams = append(out.Upstreams, targetOf(t))
	}
	return out
}

func tlsPolicyOf(e *termination.Endpoint) *TLSPolicy {
	p := TLSPolicy{MinVersion: versionText(e.MinVersion), MaxVersion: versionText(e.MaxVersion), Preset: string(e.Preset), ALPN: e.ALPN}
	for _, id := range e.Suites {
		p.Suites = append(p.Suites, termination.SuiteName(id))
	}
	if p.MinVersion == "" && p.MaxVersion == "" && p.Preset == "" && len(p.ALPN) == 0 && len(p.Suites) == 0 {
		return nil
	}
	return &p
}

func upstreamOf(u termination.Upstream) UpstreamBody {
	texts := u.Texts()
	out := UpstreamBody{Upstream: texts[0], MoreUpstreams: texts[1:]}
	if len(u.TLS.Roots) > 0 || u.TLS.ServerName != "" || u.TLS.Certificate != "" {
		out.UpstreamTLS = &UpstreamTLS{ServerName: u.TLS.ServerName, CA: chainPEM(u.TLS.Roots), Certificate: u.TLS.Certificate}
	}
	if p := u.Policy; p != (termination.UpstreamPolicy{}) {
		out.UpstreamPolicy = &UpstreamPolicy{
			Balance: string(p.Balance), Health: p.Health, HealthInterval: durationText(p.HealthInterval),
			ConnectTimeout: durationText(p.ConnectTimeout), ResponseTimeout: durationText(p.ResponseTimeout),
			Host: string(p.Host), ProxyProtocol: string(p.ProxyProtocol),
		}
	}
	return out
}

// durationText is a duration as text; none for the default.
func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func chainPEM(certs []*x509.Certificate) string {
	var out string
	for _, c := range certs {
		out += describe(c).PEM
	}
	return out
}
