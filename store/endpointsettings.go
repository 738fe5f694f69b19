package store

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"countersign/termination"
)

// settingsVersion is the version of [endpointSettings] that is written. A document of another version, or with a key
// that is not known, is unreadable: whoever wrote it may have meant something stricter.
const settingsVersion = 1

// endpointSettings is the JSON document of an endpoint's row. It has types of its own, so that renaming a word of the
// domain does not change what is on the disk.
type endpointSettings struct {
	MinVersion      uint16           `json:"minVersion,omitempty"`
	MaxVersion      uint16           `json:"maxVersion,omitempty"`
	Preset          string           `json:"preset,omitempty"`
	Suites          []uint16         `json:"suites,omitempty"`
	ALPN            []string         `json:"alpn,omitempty"`
	StartTLS        string           `json:"startTLS,omitempty"`
	ProxyProtocol   []string         `json:"proxyProtocol,omitempty"` // prefixes
	Upstream        upstreamSettings `json:"upstream"`
	ClientAuth      policySettings   `json:"clientAuth"`
	ForwardIdentity []string         `json:"forwardIdentity,omitempty"`
	ForwardHeaders  []headerSettings `json:"forwardHeaders,omitempty"`
	Also            *alsoSettings    `json:"also,omitempty"`
	VerboseRefusals bool             `json:"verboseRefusals,omitempty"`
	Routes          []routeSettings  `json:"routes,omitempty"`
}

// headerSettings is a header with its expression.
type headerSettings struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// alsoSettings is what is demanded besides the client policy.
type alsoSettings struct {
	AllOf []string `json:"allOf,omitempty"`
	AnyOf []string `json:"anyOf,omitempty"`
	Strip bool     `json:"strip,omitempty"`
}

type upstreamSettings struct {
	Scheme     string                  `json:"scheme"`
	Address    string                  `json:"address"`
	More       []string                `json:"more,omitempty"`
	Roots      [][]byte                `json:"roots,omitempty"` // DER
	ServerName string                  `json:"serverName,omitempty"`
	Policy     *upstreamPolicySettings `json:"policy,omitempty"`
}

// upstreamPolicySettings has durations as text such as "10s". The client certificate has a row of its own.
type upstreamPolicySettings struct {
	Balance         string `json:"balance,omitempty"`
	Health          string `json:"health,omitempty"`
	HealthInterval  string `json:"healthInterval,omitempty"`
	ConnectTimeout  string `json:"connectTimeout,omitempty"`
	ResponseTimeout string `json:"responseTimeout,omitempty"`
	Host            string `json:"host,omitempty"`
	ProxyProtocol   string `json:"proxyProtocol,omitempty"`
}

// policySettings is a client policy without its authorities, which have rows of their own.
type policySettings struct {
	Mode     string   `json:"mode"`
	Pins     []string `json:"pins,omitempty"`
	Inherit  bool     `json:"inherit"`
	MaxDepth int      `json:"maxDepth,omitempty"`
	Announce bool     `json:"announce"`
	OnLoss   string   `json:"onLoss"`

	Rules      []ruleSettings    `json:"rules,omitempty"`
	When       string            `json:"when,omitempty"`
	Hygiene    map[string]string `json:"hygiene,omitempty"`
	ReportOnly bool              `json:"reportOnly,omitempty"`
	Soft       bool              `json:"soft,omitempty"`
}

// ruleSettings is a rule; its subject is what stands in the file, and nothing stands for every client.
type ruleSettings struct {
	Effect  string            `json:"effect"`
	Subject map[string]string `json:"subject"`
}

type routeSettings struct {
	Path        string            `json:"path"`
	ClientAuth  *policySettings   `json:"clientAuth,omitempty"`
	Also        *alsoSettings     `json:"also,omitempty"`
	Upstream    *upstreamSettings `json:"upstream,omitempty"`
	StripPrefix bool              `json:"stripPrefix,omitempty"`
}

func marshalSettings(e termination.Endpoint) (string, error) {
	s := endpointSettings{
		MinVersion: e.MinVersion, MaxVersion: e.MaxVersion,
		Preset: string(e.Preset), Suites: e.Suites, ALPN: e.ALPN, StartTLS: string(e.StartTLS),
		Upstream: toUpstream(e.Upstream), ClientAuth: toPolicy(e.ClientAuth),
		VerboseRefusals: e.VerboseRefusals,
	}
	if !e.Also.Empty() || e.Also.Strip {
		s.Also = toAlso(e.Also)
	}
	for _, h := range e.ForwardHeaders {
		s.ForwardHeaders = append(s.ForwardHeaders, headerSettings(h))
	}
	for _, p := range e.ProxyProtocol {
		s.ProxyProtocol = append(s.ProxyProtocol, p.String())
	}
	for _, f := range e.ForwardIdentity {
		s.ForwardIdentity = append(s.ForwardIdentity, string(f))
	}
	for _, r := range e.Routes {
		route := routeSettings{Path: r.Path, StripPrefix: r.StripPrefix}
		if r.ClientAuth != nil {
			p := toPolicy(*r.ClientAuth)
			route.ClientAuth = &p
		}
		if r.Upstream != nil {
			u := toUpstream(*r.Upstream)
			route.Upstream = &u
		}
		if r.Also != nil {
			route.Also = toAlso(*r.Also)
		}
		s.Routes = append(s.Routes, route)
	}
	if err := s.checkText(e.Name); err != nil {
		return "", err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode settings of endpoint %q: %w", e.Name, err)
	}
	return string(b), nil
}

// checkText refuses text that JSON would store as another: it must be UTF-8.
func (s *endpointSettings) checkText(endpoint string) error {
	type text struct{ field, value string }
	texts := []text{
		{"tls.preset", s.Preset},
		{"starttls", s.StartTLS},
		{"client_auth.mode", s.ClientAuth.Mode},
		{"client_auth.on_loss", s.ClientAuth.OnLoss},
	}
	upstream := func(field string, u upstreamSettings) {
		texts = append(texts, text{field, u.Scheme}, text{field, u.Address}, text{field + "_tls.server_name", u.ServerName})
		for _, m := range u.More {
			texts = append(texts, text{field, m})
		}
		if p := u.Policy; p != nil {
			for _, v := range []string{p.Balance, p.Health, p.Host, p.ProxyProtocol} {
				texts = append(texts, text{field + "_policy", v})
			}
		}
	}
	upstream("upstream", s.Upstream)
	for _, p := range s.ALPN {
		texts = append(texts, text{"tls.alpn", p})
	}
	for _, f := range s.ForwardIdentity {
		texts = append(texts, text{"forward_identity", f})
	}
	for _, h := range s.ForwardHeaders {
		texts = append(texts, text{"forward_identity", h.Name}, text{"forward_identity", h.Value})
	}
	policy := func(field string, p policySettings) {
		texts = append(texts, text{field + ".when", p.When})
		for _, r := range p.Rules {
			texts = append(texts, text{field + ".rules", r.Effect})
			for _, v := range r.Subject {
				texts = append(texts, text{field + ".rules", v})
			}
		}
	}
	policy("client_auth", s.ClientAuth)
	for _, r := range s.Routes {
		texts = append(texts, text{"routes.path", r.Path})
		if r.ClientAuth != nil {
			policy("routes.client_auth", *r.ClientAuth)
		}
		if r.ClientAuth != nil {
			texts = append(texts, text{"routes.client_auth.mode", r.ClientAuth.Mode}, text{"routes.client_auth.on_loss", r.ClientAuth.OnLoss})
		}
		if r.Upstream != nil {
			upstream("routes.upstream", *r.Upstream)
		}
	}
	for _, t := range texts {
		if !utf8.ValidString(t.value) || strings.ContainsRune(t.value, 0) {
			return fieldError(KindEndpoint, endpoint, t.field, fmt.Sprintf("%q is no text", t.value), "write it in UTF-8, without NUL")
		}
	}
	return nil
}

func toUpstream(u termination.Upstream) upstreamSettings {
	s := upstreamSettings{Scheme: string(u.Scheme), Address: u.Address, More: u.More, ServerName: u.TLS.ServerName}
	for _, c := range u.TLS.Roots {
		s.Roots = append(s.Roots, c.Raw)
	}
	if p := u.Policy; p != (termination.UpstreamPolicy{}) {
		s.Policy = &upstreamPolicySettings{
			Balance: string(p.Balance), Health: p.Health, HealthInterval: durationText(p.HealthInterval),
			ConnectTimeout: durationText(p.ConnectTimeout), ResponseTimeout: durationText(p.ResponseTimeout),
			Host: string(p.Host), ProxyProtocol: string(p.ProxyProtocol),
		}
	}
	return s
}

// durationText is a duration as text; none for the default.
func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func toPolicy(a termination.ClientAuth) policySettings {
	s := policySettings{Mode: string(a.Mode), Inherit: a.Inherit, MaxDepth: a.MaxDepth, Announce: a.Announce, OnLoss: string(a.OnLoss)}
	for _, p := range a.Pins {
		s.Pins = append(s.Pins, p.String())
	}
	s.When, s.Hygiene, s.ReportOnly, s.Soft = a.When, a.Hygiene.Words(), a.ReportOnly, a.Soft
	s.Rules = toRules(a.Rules)
	return s
}

func toRules(rules []termination.Rule) []ruleSettings {
	var out []ruleSettings
	for _, r := range rules {
		out = append(out, ruleSettings{Effect: string(r.Effect), Subject: r.Subject.Words()})
	}
	return out
}

func fromRules(rules []ruleSettings) ([]termination.Rule, error) {
	var out []termination.Rule
	for _, r := range rules {
		subject, err := termination.SubjectOf(r.Subject)
		if err != nil {
			return nil, fmt.Errorf("a rule cannot be read: %w", err)
		}
		out = append(out, termination.Rule{Effect: termination.Effect(r.Effect), Subject: subject})
	}
	return out, nil
}

func toAlso(a termination.Also) *alsoSettings {
	s := &alsoSettings{Strip: a.Strip}
	for _, k := range a.AllOf {
		s.AllOf = append(s.AllOf, string(k))
	}
	for _, k := range a.AnyOf {
		s.AnyOf = append(s.AnyOf, string(k))
	}
	return s
}

func fromAlso(s *alsoSettings) termination.Also {
	a := termination.Also{Strip: s.Strip}
	for _, k := range s.AllOf {
		a.AllOf = append(a.AllOf, termination.ProofKind(k))
	}
	for _, k := range s.AnyOf {
		a.AnyOf = append(a.AnyOf, termination.ProofKind(k))
	}
	return a
}

// readSettings holds the settings of an endpoint, understood.
type readSettings struct {
	endpoint termination.Endpoint
}

func unmarshalSettings(version int, text string) (readSettings, error) {
	var r readSettings
	if version != settingsVersion {
		return r, fmt.Errorf("its settings have version %d, this program knows version %d", version, settingsVersion)
	}
	var s endpointSettings
	if err := strictJSON([]byte(text), &s); err != nil {
		return r, fmt.Errorf("its settings cannot be read: %w", err)
	}
	e := &r.endpoint
	e.MinVersion, e.MaxVersion = s.MinVersion, s.MaxVersion
	e.Preset, e.Suites, e.ALPN, e.StartTLS = termination.TLSPreset(s.Preset), s.Suites, s.ALPN, termination.StartTLS(s.StartTLS)
	for _, text := range s.ProxyProtocol {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return r, fmt.Errorf("a source of PROXY headers cannot be read: %w", err)
		}
		e.ProxyProtocol = append(e.ProxyProtocol, p)
	}
	var err error
	if e.Upstream, err = fromUpstream(s.Upstream); err != nil {
		return r, err
	}
	if e.ClientAuth, err = fromPolicy(s.ClientAuth); err != nil {
		return r, err
	}
	for _, f := range s.ForwardIdentity {
		e.ForwardIdentity = append(e.ForwardIdentity, termination.IdentityFormat(f))
	}
	for _, h := range s.ForwardHeaders {
		e.ForwardHeaders = append(e.ForwardHeaders, termination.ForwardHeader(h))
	}
	if s.Also != nil {
		e.Also = fromAlso(s.Also)
	}
	e.VerboseRefusals = s.VerboseRefusals
	for _, route := range s.Routes {
		read, err := fromRoute(route)
		if err != nil {
			return r, fmt.Errorf("route %q: %w", route.Path, err)
		}
		e.Routes = append(e.Routes, read)
	}
	return r, nil
}

// fill puts the settings into e.
func (r readSettings) fill(e *termination.Endpoint) {
	e.MinVersion, e.MaxVersion = r.endpoint.MinVersion, r.endpoint.MaxVersion
	e.Preset, e.Suites, e.ALPN = r.endpoint.Preset, r.endpoint.Suites, r.endpoint.ALPN
	e.StartTLS, e.ProxyProtocol = r.endpoint.StartTLS, r.endpoint.ProxyProtocol
	e.Upstream, e.ClientAuth = r.endpoint.Upstream, r.endpoint.ClientAuth
	e.ForwardIdentity, e.Routes = r.endpoint.ForwardIdentity, r.endpoint.Routes
	e.ForwardHeaders, e.Also, e.VerboseRefusals = r.endpoint.ForwardHeaders, r.endpoint.Also, r.endpoint.VerboseRefusals
}

func fromUpstream(s upstreamSettings) (termination.Upstream, error) {
	u := termination.Upstream{Scheme: termination.UpstreamScheme(s.Scheme), Address: s.Address, More: s.More}
	u.TLS.ServerName = s.ServerName
	if p := s.Policy; p != nil {
		u.Policy = termination.UpstreamPolicy{
			Balance: termination.Balance(p.Balance), Health: p.Health, Host: termination.HostHeader(p.Host),
			ProxyProtocol: termination.ProxyProtocol(p.ProxyProtocol),
		}
		for _, d := range []struct {
			text string
			into *time.Duration
		}{{p.HealthInterval, &u.Policy.HealthInterval}, {p.ConnectTimeout, &u.Policy.ConnectTimeout}, {p.ResponseTimeout, &u.Policy.ResponseTimeout}} {
			if d.text == "" {
				continue
			}
			v, err := time.ParseDuration(d.text)
			if err != nil {
				return u, fmt.Errorf("a duration of its upstream cannot be read: %w", err)
			}
			*d.into = v
		}
	}
	for _, der := range s.Roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return u, fmt.Errorf("a root of its upstream cannot be read: %w", err)
		}
		u.TLS.Roots = append(u.TLS.Roots, c)
	}
	return u, nil
}

func fromPolicy(s policySettings) (termination.ClientAuth, error) {
	a := termination.ClientAuth{
		Mode: termination.Mode(s.Mode), Inherit: s.Inherit, MaxDepth: s.MaxDepth,
		Announce: s.Announce, OnLoss: termination.OnLoss(s.OnLoss),
	}
	for _, text := range s.Pins {
		p, err := termination.ParsePin(text)
		if err != nil {
			return a, fmt.Errorf("a pin cannot be read: %w", err)
		}
		a.Pins = append(a.Pins, p)
	}
	a.When, a.ReportOnly, a.Soft = s.When, s.ReportOnly, s.Soft
	var err error
	if a.Hygiene, err = termination.HygieneOf(s.Hygiene); err != nil {
		return a, err
	}
	a.Rules, err = fromRules(s.Rules)
	return a, err
}

func fromRoute(s routeSettings) (termination.Route, error) {
	r := termination.Route{Path: s.Path, StripPrefix: s.StripPrefix}
	if s.ClientAuth != nil {
		a, err := fromPolicy(*s.ClientAuth)
		if err != nil {
			return r, err
		}
		r.ClientAuth = &a
	}
	if s.Also != nil {
		a := fromAlso(s.Also)
		r.Also = &a
	}
	if s.Upstream != nil {
		u, err := fromUpstream(*s.Upstream)
		if err != nil {
			return r, err
		}
		r.Upstream = &u
	}
	return r, nil
}

// strictJSON reads one document and refuses keys that it does not know and anything after it.
func strictJSON(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands after the document")
	}
	return nil
}
