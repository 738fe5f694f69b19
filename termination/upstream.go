package termination

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// UpstreamScheme says how the gateway speaks to the service behind an endpoint.
type UpstreamScheme string

// The upstream schemes of this version.
const (
	UpstreamHTTP    UpstreamScheme = "http"
	UpstreamHTTPS   UpstreamScheme = "https"
	UpstreamH2C     UpstreamScheme = "h2c" // HTTP/2 without TLS (RFC 9113, section 3.3)
	UpstreamTCP     UpstreamScheme = "tcp"
	UpstreamTLS     UpstreamScheme = "tls"
	UpstreamBuiltin UpstreamScheme = "builtin" // Address names it
)

// BuiltinWhoami answers with what the gateway knows about the caller.
const BuiltinWhoami = "whoami"

// Upstream is the service behind an endpoint.
type Upstream struct {
	Scheme  UpstreamScheme
	Address string // host:port, or the name of a built-in
	TLS     UpstreamTLSConfig
}

// UpstreamTLSConfig says how an https or tls upstream is verified. It is never left unverified.
type UpstreamTLSConfig struct {
	Roots      []*x509.Certificate // empty: the system's
	ServerName string              // empty: the address's host
}

// ParseUpstream reads http://host:port, https://, h2c://, tcp://, tls:// or the name of a built-in.
func ParseUpstream(s string) (Upstream, error) {
	s = strings.TrimSpace(s)
	switch s {
	case BuiltinWhoami:
		return Upstream{Scheme: UpstreamBuiltin, Address: s}, nil
	case "portal", "pki":
		return Upstream{}, fmt.Errorf("the built-in upstream %q is not in this version", s)
	case "":
		return Upstream{}, fmt.Errorf("an upstream is needed, as in http://127.0.0.1:8080")
	}
	if strings.HasPrefix(s, "unix:") {
		return Upstream{}, fmt.Errorf("unix socket upstreams are not in this version")
	}
	if !strings.Contains(s, "://") {
		return Upstream{}, fmt.Errorf("upstream %q needs a scheme, as in http://127.0.0.1:8080", s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return Upstream{}, fmt.Errorf("read upstream: %w", err)
	}
	scheme := UpstreamScheme(strings.ToLower(u.Scheme))
	port := u.Port()
	switch scheme {
	case UpstreamHTTP, UpstreamH2C:
		port = orDefault(port, "80")
	case UpstreamHTTPS:
		port = orDefault(port, "443")
	case UpstreamTCP, UpstreamTLS:
		if port == "" {
			return Upstream{}, fmt.Errorf("upstream %q needs a port", s)
		}
	default:
		return Upstream{}, fmt.Errorf("upstream %q: the scheme must be http, https, h2c, tcp or tls", s)
	}
	if u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return Upstream{}, fmt.Errorf("upstream %q must hold only scheme, host and port", s)
	}
	if u.Hostname() == "" {
		return Upstream{}, fmt.Errorf("upstream %q needs a host", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Upstream{}, fmt.Errorf("upstream %q: port must be between 1 and 65535", s)
	}
	return Upstream{Scheme: scheme, Address: net.JoinHostPort(u.Hostname(), port)}, nil
}

// HTTP reports whether HTTP is spoken to the upstream.
func (u Upstream) HTTP() bool {
	switch u.Scheme {
	case UpstreamHTTP, UpstreamHTTPS, UpstreamH2C, UpstreamBuiltin:
		return true
	default:
		return false
	}
}

// String is the form that [ParseUpstream] reads.
func (u Upstream) String() string {
	if u.Scheme == UpstreamBuiltin {
		return u.Address
	}
	return string(u.Scheme) + "://" + u.Address
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
