package termination_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"countersign/termination"
	"countersign/termination/tlstest"
)

// TestValidateUpstream: each of these is refused at that field, with advice.
func TestValidateUpstream(t *testing.T) {
	tcp := func(e *termination.Endpoint) {
		e.Scheme, e.Upstream = termination.SchemeTLS, termination.Upstream{Scheme: termination.UpstreamTCP, Address: "127.0.0.1:1"}
	}
	prefix := netip.MustParsePrefix
	own, other := tlstest.NewCA().Client("gateway"), tlstest.NewCA().Client("other")
	for _, c := range []struct {
		field, problem string
		change         func(*termination.Endpoint)
	}{
		{"upstream", "twice", func(e *termination.Endpoint) { e.Upstream.More = []string{"127.0.0.1:2", "127.0.0.1:2"} }},
		{"upstream", "no host and port", func(e *termination.Endpoint) { e.Upstream.More = []string{"nonsense"} }},
		{"upstream", "port must", func(e *termination.Endpoint) { e.Upstream.Address = "a:0" }},
		{"upstream", "too many", func(e *termination.Endpoint) { e.Upstream.More = make([]string, 100) }},
		{"upstream", "stands alone", func(e *termination.Endpoint) {
			e.Upstream = termination.Upstream{Scheme: termination.UpstreamBuiltin, Address: termination.BuiltinWhoami, More: []string{"a:1"}}
		}},
		{"upstream", "absolute path", func(e *termination.Endpoint) {
			e.Upstream = termination.Upstream{Scheme: termination.UpstreamUnix, Address: "run/app.sock"}
		}},
		{"upstream", "107 bytes", func(e *termination.Endpoint) {
			e.Upstream = termination.Upstream{Scheme: termination.UpstreamUnix, Address: "/" + strings.Repeat("x", 107)}
		}},
		{"upstream_policy.balance", "unknown", func(e *termination.Endpoint) { e.Upstream.Policy.Balance = "random" }},
		{"upstream_policy.host", "unknown", func(e *termination.Endpoint) { e.Upstream.Policy.Host = "mine" }},
		{"upstream_policy.host", "only HTTP", func(e *termination.Endpoint) { tcp(e); e.Upstream.Policy.Host = termination.HostUpstream }},
		{"upstream_policy.response_timeout", "only HTTP", func(e *termination.Endpoint) { tcp(e); e.Upstream.Policy.ResponseTimeout = time.Second }},
		{"upstream_policy.proxy_protocol", "unknown", func(e *termination.Endpoint) { e.Upstream.Policy.ProxyProtocol = "v3" }},
		{"upstream_policy.health", "neither a path nor tcp", func(e *termination.Endpoint) { e.Upstream.Policy.Health = "healthz" }},
		{"upstream_policy.health", "neither a path nor tcp", func(e *termination.Endpoint) { e.Upstream.Policy.Health = "/a b" }},
		{"upstream_policy.health", "asked for over HTTP", func(e *termination.Endpoint) { tcp(e); e.Upstream.Policy.Health = "/healthz" }},
		{"upstream_policy.health_interval", "out of range", func(e *termination.Endpoint) { e.Upstream.Policy.HealthInterval = time.Millisecond }},
		{"upstream_policy.connect_timeout", "out of range", func(e *termination.Endpoint) { e.Upstream.Policy.ConnectTimeout = time.Hour }},
		{"upstream_policy.connect_timeout", "out of range", func(e *termination.Endpoint) { e.Upstream.Policy.ConnectTimeout = -1 }},
		{"upstream_tls.client_certificate", "in TLS only", func(e *termination.Endpoint) { e.Upstream.TLS.Client = keyPair(own, own) }},
		{"upstream_tls.client_certificate", "does not belong", func(e *termination.Endpoint) {
			e.Upstream.Scheme, e.Upstream.TLS.Client = termination.UpstreamHTTPS, keyPair(own, other)
		}},
		{"routes.upstream_policy.balance", "unknown", func(e *termination.Endpoint) {
			u := termination.Upstream{Scheme: termination.UpstreamHTTP, Address: "a:1", Policy: termination.UpstreamPolicy{Balance: "x"}}
			e.Routes = []termination.Route{{Path: "/a", Upstream: &u}}
		}},
		{"proxy_protocol", "no network", func(e *termination.Endpoint) {
			e.ProxyProtocol = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.1.0.0"), 8)}
		}},
		{"upstream", "TLS into TLS", func(e *termination.Endpoint) {
			tcp(e)
			e.TerminateAt, e.Certificates, e.ClientAuth, e.Upstream.Scheme = termination.AtUpstream, nil, termination.ClientAuth{}, termination.UpstreamTLS
		}},
	} {
		config := validConfig()
		config.Endpoints = config.Endpoints[:1]
		c.change(&config.Endpoints[0])
		wantProblem(t, config, c.field, c.problem)
	}

	// Endpoints on one address must agree on who sends PROXY headers, those on all interfaces with everyone.
	config := validConfig()
	config.Endpoints = config.Endpoints[:1]
	config.Endpoints[0].ProxyProtocol = []netip.Prefix{prefix("10.0.0.0/8"), prefix("192.0.2.0/24")}
	second := config.Endpoints[0]
	second.ID, second.Name, second.Host = "ep_second", "second", "second.localhost"
	second.ProxyProtocol = []netip.Prefix{prefix("192.0.2.0/24"), prefix("10.0.0.0/8")}
	config.Endpoints = append(config.Endpoints, second)
	if err := config.Validate(); err != nil {
		t.Errorf("the same networks in another order: %v", err)
	}
	config.Endpoints[1].ProxyProtocol = nil
	wantProblem(t, config, "proxy_protocol", "differs from that of endpoint")
	config.Endpoints[1].Listen = netip.IPv4Unspecified()
	wantProblem(t, config, "proxy_protocol", "differs from that of endpoint")
	config.Endpoints[1].Port++
	if err := config.Validate(); err != nil {
		t.Errorf("another port: %v", err)
	}
}

func keyPair(certificate, key *tlstest.Cert) *termination.KeyPair {
	out := &termination.KeyPair{Key: key.Key}
	out.Chain = append(out.Chain, certificate.X509)
	return out
}

func wantProblem(t *testing.T, config *termination.Config, field, problem string) {
	t.Helper()
	err := config.Validate()
	if err == nil || !strings.Contains(err.Error(), ", "+field+": ") || !strings.Contains(err.Error(), problem) {
		t.Errorf("%s, %s: %v", field, problem, err)
	}
}
